//! Where a cluster's files lie. Injectable, so that tests and `--user` have roots of their own.

use std::path::{Path, PathBuf};

use crate::names::{AppName, AppUnits, ClusterName};

/// The two roots below which everything of every cluster lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// What is kept, `/var/lib`; `~/.local/state` of a user.
    pub state: PathBuf,
    /// What lives until the next boot, `/run`; `$XDG_RUNTIME_DIR` of a user.
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
    /// These below another root directory.
    pub fn below(&self, root: &Path) -> Self {
        let below = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        Self { state: below(&self.state), run: below(&self.run) }
    }
    /// The socket of systemd itself, which needs no bus: root's, or the user's own.
    pub fn manager_socket(&self) -> PathBuf {
        self.run.join("systemd/private")
    }
    /// Root of what a cluster keeps, `/var/lib/NAME`.
    pub fn var(&self, cluster: &ClusterName) -> PathBuf {
        self.state.join(cluster.as_str())
    }
    /// Root of what lives until the next boot, `/run/NAME`.
    pub fn runtime(&self, cluster: &ClusterName) -> PathBuf {
        self.run.join(cluster.as_str())
    }
    /// The file of the API's listener, `/run/NAME/api.sock`.
    pub fn api(&self, cluster: &ClusterName) -> PathBuf {
        self.runtime(cluster).join("api.sock")
    }
    /// `settings.json` of the master, without `env`.
    pub fn master_settings(&self, cluster: &ClusterName) -> PathBuf {
        self.var(cluster).join("settings.json")
    }
    /// Directory of all pins of a cluster, root's alone.
    pub fn pins(&self, cluster: &ClusterName) -> PathBuf {
        self.var(cluster).join("pins")
    }
    /// `settings.json` of `prepare`, with `env`.
    pub fn prepare_settings(&self, cluster: &ClusterName) -> PathBuf {
        self.pins(cluster).join("settings.json")
    }
    /// What `install` remembers for `uninstall`.
    pub fn installed(&self, cluster: &ClusterName) -> PathBuf {
        self.pins(cluster).join("installed.json")
    }
    /// The directory of what is the operators' and not the master's, whom its unit keeps out.
    pub fn operators(&self, cluster: &ClusterName) -> PathBuf {
        self.var(cluster).join("operators")
    }
    /// The bearer token of the API over TCP, root:NAME 0640.
    pub fn token(&self, cluster: &ClusterName) -> PathBuf {
        self.operators(cluster).join("token")
    }
    /// Its hash, by which the master knows it, root:NAME 0640.
    pub fn token_hash(&self, cluster: &ClusterName) -> PathBuf {
        self.var(cluster).join("token.sha256")
    }
    /// Names, roles and hashes of the tokens that root made, root:NAME 0640.
    pub fn tokens(&self, cluster: &ClusterName) -> PathBuf {
        self.var(cluster).join("tokens.json")
    }
    /// The master's own directory of what it remembers.
    pub fn master_state(&self, cluster: &ClusterName) -> PathBuf {
        self.var(cluster).join("state")
    }
    /// What was asked for ([`Intent`](crate::intent::Intent)).
    pub fn intent(&self, cluster: &ClusterName) -> PathBuf {
        self.master_state(cluster).join("apps.json")
    }
    /// Directory of the books of own ports.
    pub fn ports(&self, cluster: &ClusterName) -> PathBuf {
        self.runtime(cluster).join("ports")
    }
    /// Directory of the counts of an app's crashes, which root writes and all may read.
    pub fn crashes(&self, cluster: &ClusterName, app: &AppName) -> PathBuf {
        self.runtime(cluster).join("crashes").join(app.as_str())
    }
    /// Directory of the records of an app's drains, likewise.
    pub fn drained(&self, cluster: &ClusterName, app: &AppName) -> PathBuf {
        self.runtime(cluster).join("drained").join(app.as_str())
    }
    /// `NAME-APP`, which holds the runtime directories of an app's workers.
    pub fn workers(&self, cluster: &ClusterName, app: &AppName) -> PathBuf {
        self.run.join(AppUnits::new(cluster, app).prefix())
    }
    /// Mark of a `restart`, of a start that failed, and of an `apply` while the app does not run: the next start makes a fresh
    /// generation, since whoever asks for it wants what is on disk by then. Root's own, gone at the next boot, which starts
    /// what served before.
    pub fn fresh_mark(&self, cluster: &ClusterName, app: &AppName) -> PathBuf {
        self.runtime(cluster).join(format!("fresh-{app}"))
    }
    /// Mark of a roll that is under way, with its number: left by the master for the reload step, which follows that roll and
    /// begins no other.
    pub fn shown_mark(&self, cluster: &ClusterName, app: &AppName) -> PathBuf {
        self.runtime(cluster).join(format!("state/shown-{app}"))
    }
    /// Mark of `sleep`, left by the master in its own directory.
    pub fn sleep_mark(&self, cluster: &ClusterName, app: &AppName) -> PathBuf {
        self.runtime(cluster).join(format!("state/sleep-{app}"))
    }
}
