//! What is on disk, as far as it concerns one cluster.

use std::path::{Path, PathBuf};

use crate::names::{ClusterName, escape_unit};
use crate::place::Manager;
use crate::units::diff::{Disk, is_ours};
use crate::units::gecos;
use crate::units::model::{Host, Tree, file_name};
use crate::units::render::{APP_DROP_IN, LIMITS_DROP_IN};

use super::Error;
use super::account::{Account, account};
use super::disk::{Ledger, Root};

/// The same for system users.
const OTHER_SYSUSERS: [&str; 3] = ["/usr/lib/sysusers.d", "/usr/local/lib/sysusers.d", "/run/sysusers.d"];

/// Reads what lies at the tree's paths, and what an older install may have left.
pub(super) fn scan(root: &Root, host: &Host, tree: &Tree) -> Result<Disk, Error> {
    let cluster = &tree.cluster;
    let mut disk = Disk { owners: root.owners, ..Disk::default() };
    let mut paths: Vec<PathBuf> = tree.files.keys().chain(tree.directories.keys()).cloned().collect();
    if root.manager() == Manager::System {
        paths.extend([host.sysusers_file(cluster), host.polkit_file(cluster)]);
    }
    paths.extend(older(root, host, cluster)?);
    for path in paths {
        if let Some(found) = root.find(&path)? {
            disk.found.insert(path, found);
        }
    }
    for path in tree.files.keys() {
        if let Some(other) = shadowed(root, host, path, cluster)? {
            disk.shadows.insert(path.clone(), other);
        }
    }
    if !claimed(root, cluster)? {
        disk.strange = strange(root, cluster)?;
    }
    match read_account(root, cluster)? {
        Account::Own { gid } => disk.group = Some(gid),
        Account::Absent => {}
        Account::Ours { gid } => disk.group = Some(gid),
        Account::Foreign(why) => disk.account = Some(why),
    }
    Ok(disk)
}

/// The account of the cluster's master below this root.
pub(super) fn read_account(root: &Root, cluster: &ClusterName) -> Result<Account, Error> {
    if let Some(gid) = root.own_group() {
        return Ok(Account::Own { gid });
    }
    let read = |path: &str| Ok(root.read(Path::new(path))?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default());
    Ok(account(&read("/etc/passwd")?, &read("/etc/group")?, cluster))
}

/// Unit files whose names could be ours; whether they are, their mark says.
fn older(root: &Root, host: &Host, cluster: &ClusterName) -> Result<Vec<PathBuf>, Error> {
    let slice = format!("{}-{}\\x2d", root.manager().slice_prefix(), escape_unit(cluster.as_str()));
    let mut paths = Vec::new();
    for name in root.list(&host.units)? {
        let behind = name.strip_prefix(cluster.as_str()).is_some_and(|rest| rest.starts_with(['.', '@', '-']));
        if !behind && !name.starts_with(&slice) {
            continue;
        }
        let path = host.units.join(&name);
        match Path::new(&name).extension().and_then(|extension| extension.to_str()) {
            Some("d") => paths.extend([APP_DROP_IN, LIMITS_DROP_IN].map(|drop_in| path.join(drop_in))),
            Some("service" | "socket" | "target") => paths.push(path),
            _ => {}
        }
    }
    Ok(paths)
}

/// A file of others that ours would hide.
fn shadowed(root: &Root, host: &Host, path: &Path, cluster: &ClusterName) -> Result<Option<PathBuf>, Error> {
    let Some(name) = file_name(path) else { return Ok(None) };
    let others: &[&str] = if path.parent() == Some(&host.units) {
        root.manager().units_of_others()
    } else if path.parent() == Some(&host.sysusers) {
        &OTHER_SYSUSERS
    } else {
        &[]
    };
    for other in others.iter().map(|directory| Path::new(directory).join(name)) {
        if other == path || root.find(&other)?.is_none() {
            continue;
        }
        // A package of ours may declare the default cluster's user: the same user, no harm.
        let same_user = root.read(&other)?.is_some_and(|bytes| String::from_utf8_lossy(&bytes).contains(&gecos(cluster)));
        if !same_user {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

/// Whether `/var/lib/NAME` is the work of an install of ours.
pub(super) fn claimed(root: &Root, cluster: &ClusterName) -> Result<bool, Error> {
    if Ledger::read(root, cluster)?.is_some() {
        return Ok(true);
    }
    let path = root.paths().master_settings(cluster);
    Ok(root.read(&path)?.is_some_and(|contents| is_ours(&path, &contents, cluster)))
}

/// What lies in `/var/lib/NAME` beside the empty directory that an install cut off at its very start leaves.
fn strange(root: &Root, cluster: &ClusterName) -> Result<Vec<PathBuf>, Error> {
    let (var, pins) = (root.paths().var(cluster), root.paths().pins(cluster));
    let mut strange: Vec<PathBuf> = root.list(&var)?.into_iter().map(|name| var.join(name)).filter(|path| *path != pins).collect();
    strange.extend(root.list(&pins)?.into_iter().filter(|name| !name.starts_with('.')).map(|name| pins.join(name)));
    Ok(strange)
}
