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
/// 64 KiB is far beyond what a hundred apps need.
const LIMIT: u64 = 64 * 1024;

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
