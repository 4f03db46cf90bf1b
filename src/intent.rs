//! What the master remembers beside systemd's truth: the current generation of each app, and its hold.
//!
//! Lives in `/var/lib/NAME/state/apps.json`, written by the master. Root's own steps read it for its numbers alone:
//! whoever owns the master may choose among generations that root has pinned, never what is in them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files;
use crate::names::{AppName, ClusterName, Generation};

/// Format of the file; raised when an older program could misread it.
const FORMAT: u32 = 1;
/// A thousand apps with holds of ordinary texts; two hundred and fifty-six with the longest.
const LIMIT: u64 = 4 * 1024 * 1024;
/// Bytes of a hold's reason that are kept.
const REASON: usize = 2 * 1024;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Format at the time of writing.
    pub format: u32,
    /// By app.
    pub apps: BTreeMap<AppName, AppIntent>,
}

impl Default for Intent {
    fn default() -> Self {
        Self { format: FORMAT, apps: BTreeMap::new() }
    }
}

/// What is remembered of one app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppIntent {
    /// The current generation.
    pub generation: Option<Generation>,
    /// The generation whose pin it uses, where that is another one.
    pub pin: Option<Generation>,
    /// Why nothing is tried by itself, after a failed roll.
    pub held: Option<Hold>,
}

/// A failed roll stands until a person acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Since when, milliseconds of Unix time.
    pub since_ms: u64,
    /// Why, for people.
    pub reason: String,
    /// The generation that failed.
    pub generation: Generation,
}

impl Hold {
    /// From now on; a long reason is cut.
    pub fn new(since_ms: u64, reason: &str, generation: Generation) -> Self {
        let mut kept = reason.to_owned();
        if kept.len() > REASON {
            kept.truncate((0..=REASON).rev().find(|at| kept.is_char_boundary(*at)).unwrap_or(0));
            kept.push_str(" ...");
        }
        Self { since_ms, reason: kept, generation }
    }
}

impl Intent {
    /// Where it lies.
    pub fn path(cluster: &ClusterName) -> PathBuf {
        cluster.var().join("state/apps.json")
    }

    /// Reads it; a file that is not there is an empty intent.
    ///
    /// # Errors
    /// `InvalidData` when it is damaged, of a newer format or no regular file; else those of the file system.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = match files::read_bounded(path, LIMIT) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other?,
        };
        let damaged = |why| io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged: {why}", path.display()));
        let intent: Self = serde_json::from_slice(&bytes).map_err(damaged)?;
        if intent.format > FORMAT {
            let why = format!("{} has format {}, this program knows {FORMAT}", path.display(), intent.format);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(intent)
    }

    /// Replaces it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        files::replace(path, &serde_json::to_vec_pretty(self)?, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_holds_as_there_may_be_apps_are_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("apps.json");
        let mut intent = Intent::default();
        for at in 0..256 {
            // Each of these takes six bytes as JSON.
            let held = Hold::new(1, &"\u{1}".repeat(100_000), Generation(2));
            intent.apps.insert(format!("app{at}").parse().unwrap(), AppIntent { held: Some(held), ..AppIntent::default() });
        }
        intent.write(&path).unwrap();
        assert_eq!(Intent::read(&path).unwrap(), intent);
        assert_eq!(Hold::new(1, &"\u{e9}".repeat(2000), Generation(2)).reason.len(), REASON + 4);
        assert_eq!(Hold::new(1, "short", Generation(2)).reason, "short");
    }

    #[test]
    fn absent_is_empty_damaged_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("apps.json");
        assert_eq!(Intent::read(&path).unwrap(), Intent::default());
        let mut intent = Intent::default();
        intent.apps.insert("api".parse().unwrap(), AppIntent { generation: Some(Generation(3)), ..AppIntent::default() });
        intent.write(&path).unwrap();
        assert_eq!(Intent::read(&path).unwrap(), intent);
        for damaged in ["", "{", r#"{"format":2,"apps":{}}"#, r#"{"format":1,"apps":{"../x":{}}}"#] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(Intent::read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData, "{damaged}");
        }
    }
}
