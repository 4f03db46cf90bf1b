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
/// # Errors
/// As [`resolve`].
pub fn lookup(path: &Path, app: &App, owner: Owner) -> io::Result<PathBuf> {
    let ambient = app.systemd.keys().any(|key| key.eq_ignore_ascii_case("AmbientCapabilities"));
    // Without a symlink it is what root wrote. Workers with capabilities may more than their user.
    if owner.uid == 0 || ambient || process::effective_uid() != 0 || fs::canonicalize(path).is_ok_and(|found| found == path) {
        return directory(path);
    }
    process::as_user(owner.uid, owner.gid, &groups(app)?, || directory(path))?
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
