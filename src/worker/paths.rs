//! Where a cluster's files lie. Injectable, so that tests and `--user` have roots of their own.

use std::path::{Path, PathBuf};

use crate::names::{AppName, AppUnits, ClusterName};

/// The two roots below which everything of every cluster lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// What is kept, `/var/lib`.
    pub state: PathBuf,
    /// What lives until the next boot, `/run`.
    pub run: PathBuf,
}

impl Paths {
    /// Those of the system manager.
    pub fn system() -> Self {
        Self::under(Path::new("/"))
    }
    /// The same below another root directory.
    pub fn under(root: &Path) -> Self {
        Self { state: root.join("var/lib"), run: root.join("run") }
    }
    /// Directory of all pins of a cluster, root's alone.
    pub fn pins(&self, cluster: &ClusterName) -> PathBuf {
        self.state.join(cluster.as_str()).join("pins")
    }
    /// Directory of the books of own ports.
    pub fn ports(&self, cluster: &ClusterName) -> PathBuf {
        self.run.join(cluster.as_str()).join("ports")
    }
    /// Directory of the counts of an app's crashes, which root writes and all may read.
    pub fn crashes(&self, cluster: &ClusterName, app: &AppName) -> PathBuf {
        self.run.join(cluster.as_str()).join("crashes").join(app.as_str())
    }
    /// `NAME-APP`, which holds the runtime directories of an app's workers.
    pub fn workers(&self, cluster: &ClusterName, app: &AppName) -> PathBuf {
        self.run.join(AppUnits::new(cluster, app).prefix())
    }
}
