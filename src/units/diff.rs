//! What would change: a tree against what is on disk, as data and as text.
//!
//! Pure. It must not read a file; `install` hands it what it found.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use similar::TextDiff;

use crate::names::ClusterName;

use super::model::{Owner, Tree};
use super::{is_marked, marked_by, text};

/// What was found at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A regular file of at most 1 MiB.
    File {
        /// All of it.
        contents: Vec<u8>,
        /// Owner and mode.
        access: Access,
    },
    /// A directory.
    Directory(Access),
    /// Something that we never make; what it is, as a person would say it.
    Other(&'static str),
}

/// Owner and mode of a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What is on disk, as far as it concerns one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    /// What lies at the tree's paths, and every file whose name could be that of an older install.
    pub found: BTreeMap<PathBuf, Found>,
    /// Paths at which a file of ours would hide one of the distribution's, and that file.
    pub shadows: BTreeMap<PathBuf, PathBuf>,
    /// Something in `/var/lib/NAME` where no install of ours has been.
    pub strange: Vec<PathBuf>,
    /// Why the account NAME is not ours to use, where it is not.
    pub account: Option<String>,
    /// The group of the cluster's user, where there is one.
    pub group: Option<u32>,
    /// Whether owners are compared: false where we could not set them.
    pub owners: bool,
}

/// What happens at one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Made.
    Create,
    /// Written anew, or its owner and mode set, or both.
    Update {
        /// Whether its contents change.
        contents: bool,
        /// Whether its owner or mode change.
        access: bool,
    },
    /// Ours, of an older install, and no longer wanted.
    Remove,
    /// As it should be.
    Unchanged,
}

/// Why an install would harm what is not ours. Nothing is changed where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// Where.
    pub path: PathBuf,
    /// What is there and what to do, as a sentence's end.
    pub why: String,
}

/// All changes, and what stands against them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// By path.
    pub changes: BTreeMap<PathBuf, Change>,
    /// Empty where the changes may be made.
    pub conflicts: Vec<Conflict>,
}

impl Plan {
    /// Whether everything is as it should be.
    pub fn is_empty(&self) -> bool {
        self.changes.values().all(|change| *change == Change::Unchanged)
    }
    /// The paths with this change.
    pub fn removed(&self) -> impl Iterator<Item = &Path> {
        self.changes.iter().filter(|(_, change)| **change == Change::Remove).map(|(path, _)| path.as_path())
    }
    /// The change at a path; what is not in the plan is not touched.
    pub fn change(&self, path: &Path) -> Change {
        self.changes.get(path).copied().unwrap_or(Change::Unchanged)
    }
}

/// Compares.
pub fn plan(tree: &Tree, disk: &Disk) -> Plan {
    let mut plan = Plan::default();
    let mut conflict = |path: &Path, why: String| plan.conflicts.push(Conflict { path: path.to_owned(), why });
    let cluster = &tree.cluster;

    if let Some(why) = &disk.account {
        conflict(Path::new("/etc/passwd"), why.clone());
    }
    for path in &disk.strange {
        conflict(
            path,
            format!("lies where cluster {cluster} would keep its state, and is not ours: choose another `name`, or move it away"),
        );
    }
    for (path, other) in &disk.shadows {
        conflict(path, format!("would take the place of {}: choose another `name`", other.display()));
    }
    for (path, file) in &tree.files {
        let change = match disk.found.get(path) {
            None => Change::Create,
            Some(Found::File { contents, access }) if is_ours(path, contents, cluster) => {
                let access = !access_fits(*access, file.mode, file.owner, disk);
                let contents = contents != file.contents.as_bytes();
                if access || contents { Change::Update { contents, access } } else { Change::Unchanged }
            }
            Some(found) => {
                conflict(path, foreign(found));
                continue;
            }
        };
        plan.changes.insert(path.clone(), change);
    }
    for (path, mode) in &tree.directories {
        let change = match disk.found.get(path) {
            None => Change::Create,
            Some(Found::Directory(access)) if access_fits(*access, *mode, Owner::Root, disk) => Change::Unchanged,
            Some(Found::Directory(_)) => Change::Update { contents: false, access: true },
            Some(_) => {
                conflict(path, "is not a directory: move it away".into());
                continue;
            }
        };
        plan.changes.insert(path.clone(), change);
    }
    for (path, found) in &disk.found {
        let ours = matches!(found, Found::File { contents, .. } if is_marked(contents, cluster));
        if ours && !tree.files.contains_key(path) {
            plan.changes.insert(path.clone(), Change::Remove);
        }
    }
    plan
}

/// Whether an existing file is one of this cluster's install: by its mark, or, in JSON, by the cluster it names.
pub fn is_ours(path: &Path, contents: &[u8], cluster: &ClusterName) -> bool {
    if path.extension().is_some_and(|extension| extension == "json") {
        return serde_json::from_slice::<serde_json::Value>(contents)
            .is_ok_and(|value| value.get("name").and_then(|name| name.as_str()) == Some(cluster.as_str()));
    }
    is_marked(contents, cluster)
}

fn access_fits(access: Access, mode: u32, owner: Owner, disk: &Disk) -> bool {
    access.mode == mode && (!disk.owners || (access.uid, access.gid) == (0, group(owner, disk.group)))
}

/// The number of an owner's group: root's until the cluster's user exists.
pub fn group(owner: Owner, cluster: Option<u32>) -> u32 {
    match owner {
        Owner::Root => 0,
        Owner::RootAndCluster => cluster.unwrap_or(0),
    }
}

fn foreign(found: &Found) -> String {
    match found {
        Found::File { contents, .. } => match marked_by(contents) {
            Some(other) => format!("belongs to cluster {other}: rename an app or a cluster so that the names differ"),
            None => "is not ours, it lacks our mark: move it away, or put your changes into a drop-in (NAME.d/*.conf beside it)".into(),
        },
        Found::Directory(_) => "is a directory: move it away".into(),
        Found::Other("a symbolic link") => {
            "is a symbolic link and not ours: `systemctl unmask` it if it was masked, or move it away".into()
        }
        Found::Other(what) => format!("is {what} and not ours: move it away"),
    }
}

/// The plan as a unified diff that a person can read: conflicts first, secrets never, control characters visible.
pub fn text(plan: &Plan, tree: &Tree, disk: &Disk) -> String {
    let mut out = String::new();
    for conflict in &plan.conflicts {
        let _ = writeln!(out, "conflict: {} {}", shown(&conflict.path), text::visible(&conflict.why));
    }
    for (path, change) in &plan.changes {
        if *change == Change::Unchanged {
            continue;
        }
        let name = shown(path);
        let Some(file) = tree.files.get(path) else {
            match change {
                Change::Remove => hunk(&mut out, (&name, &old(path, disk)), ("/dev/null", "")),
                _ => drop(writeln!(out, "directory {name}")),
            }
            continue;
        };
        if matches!(change, Change::Update { access: true, .. }) {
            let _ = writeln!(out, "owner or mode of {name}: becomes {:04o}", file.mode);
        }
        if file.secret {
            let _ = writeln!(out, "{name} changes; it may hold secrets, so its contents are not shown");
        } else if *change == Change::Create {
            hunk(&mut out, ("/dev/null", ""), (&name, &file.contents));
        } else {
            hunk(&mut out, (&name, &old(path, disk)), (&name, &file.contents));
        }
    }
    out
}

fn shown(path: &Path) -> String {
    text::visible(&path.to_string_lossy())
}

fn old(path: &Path, disk: &Disk) -> String {
    match disk.found.get(path) {
        Some(Found::File { contents, .. }) => String::from_utf8_lossy(contents).into_owned(),
        _ => String::new(),
    }
}

fn hunk(out: &mut String, (from, old): (&str, &str), (to, new): (&str, &str)) {
    let clean = |text: &str| -> String {
        let mut clean = String::with_capacity(text.len());
        for ch in text.chars() {
            if text::hidden(ch) && ch != '\n' && ch != '\t' { clean.extend(ch.escape_default()) } else { clean.push(ch) }
        }
        clean
    };
    let (old, new) = (clean(old), clean(new));
    let diff = TextDiff::from_lines(old.as_str(), new.as_str());
    let _ = write!(out, "{}", diff.unified_diff().header(from, to));
}
