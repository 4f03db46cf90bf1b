//! The release: an app's `cwd` with every symlink resolved, with the rights of the worker's user.
//!
//! Whoever deploys may make a symlink to anywhere. Root would follow it where the worker's user may not look (into `/root`, or
//! through `/proc/PID/cwd`), and the pin, which the worker reads, would tell what is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::sys::process;
use crate::config::accounts;
use crate::config::settings::{App, User};

/// Whose rights: the owner of a worker's runtime directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
}

/// The directory that `cwd` of an app leads to.
///
/// # Errors
/// When it is none, or the worker's user may not get there.
pub fn resolve(app: &App, owner: Owner) -> io::Result<PathBuf> {
    lookup(&app.cwd, app, owner)
}

/// Where a path leads with the rights of an app's worker.
///
/// Root looks by itself only where the worker may look anywhere, too. There is no quicker way for a path without a symlink:
/// between two looks its owner makes it one.
///
/// # Errors
/// As [`resolve`].
pub fn lookup(path: &Path, app: &App, owner: Owner) -> io::Result<PathBuf> {
    if owner.uid == 0 || process::effective_uid() != 0 || looks_anywhere(app) {
        return directory(path);
    }
    process::as_user(owner.uid, owner.gid, &groups(app)?, || directory(path))?
}

/// Whether the app's workers have a capability that passes by the permissions of directories: capabilities(7). Those of
/// `as_user` have none, so every other capability stays without effect here, which is less than the worker has and never more.
fn looks_anywhere(app: &App) -> bool {
    const PASS_BY: [&str; 2] = ["CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"];
    let values = app.systemd.iter().filter(|(key, _)| key.eq_ignore_ascii_case("AmbientCapabilities")).flat_map(|(_, values)| values);
    values.into_iter().any(|value| {
        let (names, all_but) = value.trim().strip_prefix('~').map_or((value.as_str(), false), |names| (names, true));
        let has = |wanted: &str| names.split_whitespace().any(|name| name.eq_ignore_ascii_case(wanted));
        PASS_BY.iter().any(|capability| has(capability) != all_but)
    })
}

fn directory(path: &Path) -> io::Result<PathBuf> {
    let path = fs::canonicalize(path)?;
    if path.is_dir() { Ok(path) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

/// The supplementary groups that systemd gives the worker.
fn groups(app: &App) -> io::Result<Vec<u32>> {
    let mut groups = match &app.user {
        User::Named { user, .. } => accounts::groups_of(user)?,
        User::Dynamic(_) | User::Own => Vec::new(),
    };
    let more = app.systemd.iter().filter(|(key, _)| key.eq_ignore_ascii_case("SupplementaryGroups"));
    for name in more.flat_map(|(_, values)| values).flat_map(|value| value.split_whitespace()) {
        match name.parse() {
            Ok(gid) => groups.push(gid),
            Err(_) => groups.extend(accounts::group_id(name)?),
        }
    }
    Ok(groups)
}
