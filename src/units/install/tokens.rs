//! The tokens of the API over TCP that root makes: `/var/lib/NAME/tokens.json`, which the master reads.

use std::io::ErrorKind;

use crate::api::tokens::{FILE, Tokens};
use crate::config::settings::Settings;
use crate::names::ClusterName;
use crate::units::diff::{self, Found};
use crate::units::model::Owner;

use super::account::Account;
use super::api::MODE;
use super::disk::Root;
use super::{Error, Options, before, scan};

/// Those of the file; none where there is none.
///
/// # Errors
/// A file that cannot be read, or is damaged.
pub fn tokens(cluster: &ClusterName, options: &Options) -> Result<Tokens, Error> {
    read(&Root::open(options)?, cluster)
}

/// Whether `install` has made the operators' token there.
///
/// # Errors
/// When that cannot be looked at.
pub fn has_operators(cluster: &ClusterName, options: &Options) -> Result<bool, Error> {
    let root = Root::open(options)?;
    Ok(root.find(&root.paths().token_hash(cluster))?.is_some())
}

/// Changes them, with the settings that are installed at hand; what the change refuses is not written.
///
/// # Errors
/// What the change says, when nothing is installed, and when a file cannot be read or written.
pub fn change_tokens(
    cluster: &ClusterName,
    options: &Options,
    change: impl FnOnce(&mut Tokens, &Settings) -> Result<(), String>,
) -> Result<(), Error> {
    let root = Root::open(options)?;
    let _lock = root.lock()?;
    let settings = before::settings(&root, cluster)?.ok_or_else(|| {
        Error::Token(format!("cluster {cluster} is not installed, so there is nothing to open: `sudo project-cluster install` comes first"))
    })?;
    let mut tokens = read(&root, cluster)?;
    change(&mut tokens, &settings).map_err(Error::Token)?;
    let group = match scan::read_account(&root, cluster)? {
        Account::Own { gid } | Account::Ours { gid } => Some(gid),
        Account::Absent | Account::Foreign(_) => None,
    };
    let text = tokens.text();
    if text.len() as u64 > FILE {
        return Err(Error::Token("the lists of apps are too long: the file may have 1 MiB".into()));
    }
    root.write(&root.paths().tokens(cluster), &text, root.manager().mode(MODE), diff::group(Owner::RootAndCluster, group))
}

fn read(root: &Root, cluster: &ClusterName) -> Result<Tokens, Error> {
    let path = root.paths().tokens(cluster);
    let bad = |why: String| Error::File { what: "read", path: path.clone(), source: std::io::Error::new(ErrorKind::InvalidData, why) };
    match root.find(&path)? {
        None => Ok(Tokens::default()),
        Some(Found::File { contents, .. }) => Tokens::read(&contents).map_err(bad),
        Some(_) => Err(bad("it is no file".into())),
    }
}
