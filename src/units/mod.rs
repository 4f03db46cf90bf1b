//! From settings to units on disk: `render` makes a tree of files, `diff` compares it with what is there,
//! `install` applies it to a root directory.
//!
//! `model`, `text`, `render` and `diff` are pure: functions of data. Only `install` touches a file system, and what
//! it needs of a running systemd stands behind [`install::Live`]. This room must not know how workers are rolled,
//! nor speak to D-Bus; `env`, `cwd` and the command reach a worker by its pin and never by a unit.

pub mod diff;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod install;
pub mod model;
pub mod render;
pub mod text;

use crate::names::ClusterName;

/// What the mark line of every file says behind its comment sign; a file without it at one of our paths is not
/// ours and stays as it is.
pub fn mark(cluster: &ClusterName) -> String {
    format!("Made by project-cluster for cluster {cluster}; changes are lost at the next install. See: project-cluster --help")
}

/// Whether a file's first line is the mark of this cluster (behind `#` or `//`).
pub fn is_marked(contents: &[u8], cluster: &ClusterName) -> bool {
    let line = contents.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mark = mark(cluster);
    [b"# ".as_slice(), b"// "].iter().any(|sign| line.strip_prefix(*sign).is_some_and(|rest| rest == mark.as_bytes()))
}

/// The cluster whose mark a file bears, whichever that is: to name the owner in a refusal.
pub fn marked_by(contents: &[u8]) -> Option<ClusterName> {
    let line = std::str::from_utf8(contents.split(|byte| *byte == b'\n').next()?).ok()?;
    let name = line.split_once("Made by project-cluster for cluster ")?.1.split_once(';')?.0;
    name.parse().ok().filter(|cluster| is_marked(contents, cluster))
}

/// GECOS of the master's system user: how `uninstall` knows that the account is the one `install` made. A colon
/// would end the field in passwd(5).
pub fn gecos(cluster: &ClusterName) -> String {
    format!("project-cluster master of cluster {cluster}")
}
