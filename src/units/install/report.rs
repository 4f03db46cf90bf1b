//! What an install or uninstall did, and what is left to do, in words.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::settings::Settings;
use crate::names::{AppName, AppUnits, ClusterName};
use crate::units::diff::{Change, Disk, Found, Plan};
use crate::units::model::{Host, Tree};
use crate::units::text;

use super::disk::Root;
use super::kept::Kept;

/// What was done at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Made.
    Created,
    /// Replaced, or its owner or mode set.
    Updated,
    /// Removed.
    Removed,
}

impl Action {
    /// As people and programs read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Removed => "removed",
        }
    }
}

/// What was done, in the order in which it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The cluster.
    pub cluster: ClusterName,
    /// The directory that stood for `/`.
    pub root: String,
    /// Path by path, as seen inside the root directory.
    pub actions: Vec<(Action, PathBuf)>,
    /// What else a person should know: what was stopped or started, what takes effect when.
    pub notes: Vec<String>,
    /// What is installed and not in effect, with the command that brings it; `apply` does that itself.
    pub advice: Vec<String>,
    /// The master runs by its new unit already.
    pub(super) restarted: bool,
}

impl Report {
    pub(super) fn new(cluster: &ClusterName, root: &Root) -> Self {
        Self {
            cluster: cluster.clone(),
            root: root.shown().to_string(),
            actions: Vec::new(),
            notes: Vec::new(),
            advice: Vec::new(),
            restarted: false,
        }
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    pub(super) fn did(&mut self, action: Action, path: &Path) {
        self.actions.push((action, path.to_owned()));
    }

    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// What was rewritten and takes effect only later. `serves` tells whether an app's next start is of these settings anyway:
    /// they were changed back.
    pub(super) fn advise(
        &mut self,
        tree: &Tree,
        plan: &Plan,
        disk: &Disk,
        (settings, before): (&Settings, Option<&Settings>),
        host: &Host,
        serves: impl Fn(&AppName) -> bool,
    ) {
        let cluster = &tree.cluster;
        let updated = |path: &Path| matches!(plan.change(path), Change::Update { contents: true, .. });
        for (name, app) in &settings.apps {
            let units = AppUnits::new(cluster, name);
            let template = host.units.join(units.template());
            let differences = before.and_then(|before| before.apps.get(name)).map(|before| app.differences(before)).unwrap_or_default();
            if !differences.becomes.is_empty() && !serves(name) {
                let what = differences.becomes.join(", ");
                self.advice
                    .push(format!("running workers of {name} stay as they are ({what} changed): `systemctl reload {cluster}@{name}`"));
            } else if differences.is_empty() && updated(&template) && !same_but_sockets(&template, tree, disk) {
                // Another version of this program writes it otherwise.
                self.note(format!("the unit of {name}'s workers changed: `systemctl reload {cluster}@{name}`"));
            }
            if differences.around.contains(&"workers") {
                self.advice.push(format!("another number of workers is configured for {name}: `project-cluster apply` brings it"));
            }
            for socket in app.listen.iter().map(|listen| units.socket(&listen.address)) {
                if updated(&host.units.join(&socket)) {
                    let handle = format!("{cluster}@{name}");
                    self.note(format!(
                        "{socket} changed: a live socket stays as it is, so this takes effect after `systemctl stop {handle}` and `systemctl start {handle}`, which closes the port meanwhile"
                    ));
                }
            }
        }
        if updated(&host.units.join(cluster.api_socket())) {
            let (socket, target) = (cluster.api_socket(), cluster.target());
            self.note(format!("{socket} changed: `systemctl restart {socket}`, which restarts the master; {target} stays up"));
        } else if updated(&host.units.join(cluster.master())) && !self.restarted {
            self.note(format!("the master's unit changed: `systemctl restart {cluster}`, which touches no worker"));
        }
    }
}

impl Report {
    /// What stays for workers of an older generation.
    pub(super) fn tell_kept(&mut self, cluster: &ClusterName, kept: &Kept) {
        for (name, listens) in kept {
            let units = AppUnits::new(cluster, name);
            for (listen, generation) in listens {
                self.note(format!(
                    "{} stays as long as generation {generation} of {name} is in use. `systemctl reload {cluster}@{name}`; the next `project-cluster install` removes it",
                    units.socket(&listen.address)
                ));
            }
        }
    }
}

/// Whether a worker template differs in nothing but its sockets, which running workers have.
fn same_but_sockets(path: &Path, tree: &Tree, disk: &Disk) -> bool {
    let strip = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with("Sockets=") && !line.starts_with('#')).map(str::to_owned).collect()
    };
    match (disk.found.get(path), tree.files.get(path)) {
        (Some(Found::File { contents, .. }), Some(file)) => strip(&String::from_utf8_lossy(contents)) == strip(&file.contents),
        _ => false,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.root != "/" && !self.actions.is_empty() {
            writeln!(f, "in {}:", self.root)?;
        }
        for (action, path) in &self.actions {
            writeln!(f, "{} {}", action.word(), text::visible(&path.to_string_lossy()))?;
        }
        if self.actions.is_empty() {
            writeln!(f, "nothing to change for cluster {}", self.cluster)?;
        }
        for note in self.notes.iter().chain(&self.advice) {
            writeln!(f, "note: {note}")?;
        }
        if !self.actions.is_empty() {
            writeln!(f, "{} files and directories changed", self.actions.len())?;
        }
        Ok(())
    }
}
