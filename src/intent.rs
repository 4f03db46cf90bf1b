//! What the master remembers beside systemd's truth: the current generation of each app, its hold, and what a person
//! asked for at run time: how many workers, and which of them not to run.
//!
//! Lives in `/var/lib/NAME/state/apps.json`, written by the master. Root's own steps read it for its numbers alone:
//! whoever owns the master may choose among generations that root has pinned, and among slots, never what is in them.

mod change;
pub mod past;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use change::Change;
pub use past::{RolledBack, Served};

use crate::files;
use crate::formats::{self, Unread};
use crate::names::{AppName, Generation, Slot};

/// Format of the file; raised when an older program could misread it. 2: `slots` and `stopped`, without which it would
/// start workers that a person had stopped. What format 1 lacks is absent.
pub(crate) const FORMAT: u32 = 2;
/// A thousand apps with holds of ordinary texts; two hundred and fifty-six with the longest and a thousand slots each.
const LIMIT: u64 = 16 * 1024 * 1024;
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

formats::numbered!(Intent, FORMAT);

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
    /// The slots that a person gave the app (`add`, `remove`, `scale`); none: as many as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<BTreeSet<Slot>>,
    /// The generations that were current, the present one last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub served: Vec<Served>,
    /// That what serves is there by a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
    /// Those of its slots that a person stopped, by us or by systemctl, and those that did not start when a person asked
    /// for them: nothing starts them until a person does.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub stopped: BTreeSet<Slot>,
}

impl AppIntent {
    /// The app's slots, with those that are stopped, where so many workers are configured.
    pub fn slots(&self, configured: u16) -> BTreeSet<Slot> {
        self.slots.clone().unwrap_or_else(|| Slot::first(configured).collect())
    }

    /// The slots that shall be served.
    pub fn wanted(&self, configured: u16) -> BTreeSet<Slot> {
        self.slots(configured).difference(&self.stopped).copied().collect()
    }
}

/// A failed roll stands until a person acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// Reads it; a file that is not there is an empty intent.
    ///
    /// # Errors
    /// `InvalidData` when it is damaged or no regular file, `Unsupported` when it is of a newer format; else those of the file
    /// system.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = match files::read_bounded(path, LIMIT) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other?,
        };
        Self::parse(&bytes).map_err(|why| why.of(path))
    }

    /// From what lies in the file, whichever program wrote it.
    ///
    /// # Errors
    /// See [`Unread`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Unread> {
        let mut intent: Self = formats::parse(bytes)?;
        intent.format = FORMAT;
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
            let held = Some(Hold::new(1, &"\u{1}".repeat(100_000), Generation(2)));
            let (slots, stopped) = (Some(Slot::first(Slot::MAX).collect()), Slot::first(Slot::MAX).collect());
            let app = AppIntent { held, slots, stopped, ..AppIntent::default() };
            intent.apps.insert(format!("app{at}").parse().unwrap(), app);
        }
        intent.write(&path).unwrap();
        assert_eq!(Intent::read(&path).unwrap(), intent);
        assert_eq!(Hold::new(1, &"\u{e9}".repeat(2000), Generation(2)).reason.len(), REASON + 4);
        assert_eq!(Hold::new(1, "short", Generation(2)).reason, "short");
    }

    #[test]
    fn what_the_first_format_says_is_understood() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("apps.json");
        let text = r#"{"format":1,"apps":{"api":{"generation":7,"pin":4,"held":{"since_ms":5,"reason":"no","generation":8}}}}"#;
        std::fs::write(&path, text).unwrap();
        let intent = Intent::read(&path).unwrap();
        let api = &intent.apps[&"api".parse().unwrap()];
        assert_eq!((api.generation, api.pin), (Some(Generation(7)), Some(Generation(4))));
        assert_eq!(api.held, Some(Hold { since_ms: 5, reason: "no".into(), generation: Generation(8) }));
        assert_eq!(api.wanted(3), Slot::first(3).collect());
    }

    #[test]
    fn a_person_decides_about_slots_and_else_the_configuration() {
        let slots = |numbers: &[u16]| numbers.iter().map(|number| Slot::new(*number).unwrap()).collect::<BTreeSet<_>>();
        let mut app = AppIntent { stopped: slots(&[2, 9]), ..AppIntent::default() };
        assert_eq!((app.slots(3), app.wanted(3)), (slots(&[1, 2, 3]), slots(&[1, 3])));
        app.slots = Some(slots(&[2, 5]));
        assert_eq!((app.slots(3), app.wanted(3)), (slots(&[2, 5]), slots(&[5])));
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
        for damaged in ["", "{", r#"{"format":2,"apps":{"api":{"stopped":[0]}}}"#, r#"{"format":1,"apps":{"../x":{}}}"#] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(Intent::read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData, "{damaged}");
        }
        for newer in [r#"{"format":3,"apps":{}}"#, r#"{"format":3,"apps":[{"name":"api"}]}"#] {
            std::fs::write(&path, newer).unwrap();
            let why = Intent::read(&path).unwrap_err();
            assert_eq!(why.kind(), io::ErrorKind::Unsupported, "{newer}");
            assert!(why.to_string().contains("apps.json was written by a newer project-cluster (format 3, this one knows 2)"), "{why}");
        }
    }
}
