//! The shape of what `install` puts on disk: an ordered tree of files and directories with owners and modes.
//!
//! Pure data. It must not know what the files say, nor whether any of them exists.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::names::ClusterName;
use crate::place::Place;
use crate::units::text;
use crate::worker::paths::Paths;

/// The machine that the units are for. All paths are those inside the root directory that is installed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Whose systemd. Default: the machine's.
    pub place: Place,
    /// This program. Default `/usr/bin/project-cluster`.
    pub program: PathBuf,
    /// Default `/usr/bin/systemctl`.
    pub systemctl: PathBuf,
    /// Where units go. Default `/etc/systemd/system`.
    pub units: PathBuf,
    /// Where system users are declared (`sysusers.d(5)`). Default `/etc/sysusers.d`.
    pub sysusers: PathBuf,
    /// Where polkit looks for rules. Default `/etc/polkit-1/rules.d`.
    pub polkit: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self::of(Place::system())
    }
}

impl Host {
    /// The usual machine, for a cluster in this place.
    pub fn of(place: Place) -> Self {
        Self {
            program: "/usr/bin/project-cluster".into(),
            systemctl: "/usr/bin/systemctl".into(),
            units: place.units.clone(),
            sysusers: "/etc/sysusers.d".into(),
            polkit: "/etc/polkit-1/rules.d".into(),
            place,
        }
    }
    /// This program as a unit calls it, with what says the place.
    pub fn command(&self) -> String {
        [&[text::program(&self.program).as_str()], self.place.manager.flags()].concat().join(" ")
    }
    /// systemctl as a unit calls it.
    pub fn systemctl_command(&self) -> String {
        [&[text::program(&self.systemctl).as_str()], self.place.manager.flags()].concat().join(" ")
    }
    /// What stands before a step that root must take: nothing where there is no root.
    pub fn as_root(&self) -> &'static str {
        if self.is_user() { "" } else { "+" }
    }
    /// Whether the units are a user's own.
    pub fn is_user(&self) -> bool {
        self.place.is_user()
    }
    /// Where the cluster's files lie.
    pub fn paths(&self) -> &Paths {
        &self.place.paths
    }
    /// The file that declares the master's system user.
    pub fn sysusers_file(&self, cluster: &ClusterName) -> PathBuf {
        self.sysusers.join(format!("{cluster}.conf"))
    }
    /// The file that says what the master may ask of systemd.
    pub fn polkit_file(&self, cluster: &ClusterName) -> PathBuf {
        self.polkit.join(format!("50-{cluster}.rules"))
    }
}

/// Who owns a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// root:root.
    Root,
    /// root, and the group of the cluster's user.
    RootAndCluster,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// All of it.
    pub contents: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: Owner,
    /// Whether it may hold an app's `env`: its contents are never shown.
    pub secret: bool,
}

impl File {
    /// A file that anyone may read: units, rules.
    pub fn public(contents: String) -> Self {
        Self { contents, mode: 0o644, owner: Owner::Root, secret: false }
    }
}

/// All that belongs to one cluster, by absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The cluster.
    pub cluster: ClusterName,
    /// Files.
    pub files: BTreeMap<PathBuf, File>,
    /// Directories of our own, root's, with their modes; the parents of other files are made 0755 where missing.
    pub directories: BTreeMap<PathBuf, u32>,
}

impl Tree {
    /// An empty tree.
    pub fn new(cluster: &ClusterName) -> Self {
        Self { cluster: cluster.clone(), files: BTreeMap::new(), directories: BTreeMap::new() }
    }

    /// Names of the unit files in it (no drop-ins), in order.
    pub fn units<'a>(&'a self, host: &'a Host) -> impl Iterator<Item = &'a str> {
        self.files.keys().filter(|path| path.parent() == Some(host.units.as_path())).filter_map(|path| file_name(path))
    }
}

/// The last component, where it is UTF-8.
pub fn file_name(path: &Path) -> Option<&str> {
    path.file_name().and_then(|name| name.to_str())
}
