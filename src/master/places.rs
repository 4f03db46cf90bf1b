//! Where the master's files lie. Injectable, so that its tests have a place of their own.

use std::path::PathBuf;

use crate::names::{AppName, ClusterName};
use crate::worker::paths::Paths;

/// The two directories of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// What is kept, `/var/lib/NAME`; the master writes below `state/` alone.
    pub var: PathBuf,
    /// What lives until the next boot, `/run/NAME`; the master writes below `state/` alone.
    pub run: PathBuf,
}

impl Places {
    /// Those below these roots.
    pub fn of(cluster: &ClusterName, paths: &Paths) -> Self {
        Self { var: paths.var(cluster), run: paths.runtime(cluster) }
    }
    /// What `install` last validated.
    pub fn settings(&self) -> PathBuf {
        self.var.join("settings.json")
    }
    /// The hash of the token of the API over TCP, which `install` makes.
    pub fn token_hash(&self) -> PathBuf {
        self.var.join("token.sha256")
    }
    /// The tokens that root made.
    pub fn tokens(&self) -> PathBuf {
        self.var.join("tokens.json")
    }
    /// What was asked for ([`Intent`](crate::intent::Intent)).
    pub fn intent(&self) -> PathBuf {
        self.var.join("state/apps.json")
    }
    /// The database of what is kept and counted ([`Store`](crate::store::Store)).
    pub fn store(&self) -> PathBuf {
        self.var.join("state/store.sqlite")
    }
    /// The generations that `prepare` has pinned of an app ([`Published`](crate::worker::published::Published)).
    pub fn generation(&self, app: &AppName) -> PathBuf {
        self.var.join(format!("generations/{app}"))
    }
    /// Directory of the counts of an app's crashes, which root writes.
    pub fn crashes(&self, app: &AppName) -> PathBuf {
        self.run.join(format!("crashes/{app}"))
    }
    /// Who serves, for a master to come.
    pub fn serving(&self) -> PathBuf {
        self.run.join("state/serving.json")
    }
    /// The roll of an app.
    pub fn roll(&self, app: &AppName) -> PathBuf {
        self.run.join(format!("state/roll-{app}.json"))
    }
    /// Mark of a reload that waits behind it.
    pub fn next_roll(&self, app: &AppName) -> PathBuf {
        self.run.join(format!("state/roll-{app}.next"))
    }
    /// Mark of a roll that the handle's reload step is to follow, not to begin.
    pub fn shown(&self, app: &AppName) -> PathBuf {
        self.run.join(format!("state/shown-{app}"))
    }
    /// Root's mark that the next start makes a fresh generation.
    pub fn fresh(&self, app: &AppName) -> PathBuf {
        self.run.join(format!("fresh-{app}"))
    }
    /// Mark of `sleep`, which the handle's stop step consumes.
    pub fn sleep(&self, app: &AppName) -> PathBuf {
        self.run.join(format!("state/sleep-{app}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_where_roots_steps_look() {
        let (cluster, app) = (ClusterName::default(), "api".parse().unwrap());
        let paths = Paths::system();
        let places = Places::of(&cluster, &paths);
        assert_eq!(places.token_hash(), paths.token_hash(&cluster));
        assert_eq!(places.tokens(), paths.tokens(&cluster));
        assert_eq!(places.crashes(&app), paths.crashes(&cluster, &app));
        assert_eq!(places.intent(), paths.intent(&cluster));
        assert_eq!(places.sleep(&app), paths.sleep_mark(&cluster, &app));
        assert_eq!(places.shown(&app), paths.shown_mark(&cluster, &app));
        assert_eq!(places.fresh(&app), paths.fresh_mark(&cluster, &app));
    }
}
