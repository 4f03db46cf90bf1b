//! What happened to workers while no master was there to see it: which of them somebody stopped with systemctl, or started.
//!
//! A master writes down whom it sees serve ([`Serving`]), when that changes; the next one holds what it finds against it.
//! The file lies in `/run/NAME/state`: a boot ends all that it says, and root's steps never read it.
//!
//! Nothing here reads or writes but [`read`] and [`write`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::life::Phase;
use super::strays::Stray;
use crate::files;
use crate::formats::{self, Unread};
use crate::names::{AppName, Instance, Slot};

/// Format of the file, raised when another program could misread it.
pub(crate) const FORMAT: u32 = 1;
/// Two workers in each of a thousand slots of 256 apps, with a stray in each.
const LIMIT: u64 = 64 * 1024 * 1024;

/// Who serves an app, in one life of its handle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// Since when the handle has been active, microseconds of `CLOCK_MONOTONIC`.
    pub since_us: u64,
    /// The workers that were ready and have not gone since: one that restarts stays.
    pub workers: BTreeSet<Instance>,
    /// Those known to be stopped from outside.
    #[serde(default)]
    pub strays: Vec<Stray>,
}

/// All apps that are up.
pub type All = BTreeMap<AppName, Serving>;

/// The file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct File {
    format: u32,
    apps: All,
}

formats::numbered!(File, FORMAT);

/// A worker now: where it stands in its life, and whether systemd has a job for it.
pub type Row = (Instance, Phase, bool);

/// An app as a new master finds it.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Since when its handle has been active; none when it is not, or about to end.
    pub since_us: Option<u64>,
    /// Its workers that systemd does not call inactive and at rest.
    pub workers: &'a [Row],
    /// The slots that shall be served.
    pub wanted: &'a BTreeSet<Slot>,
    /// Those of its slots that are to stay empty.
    pub stopped: &'a BTreeSet<Slot>,
    /// Whether the master before was carrying out a roll of it, or was to: then what is missing may be the roll's doing.
    pub rolled: bool,
}

/// What people did to an app's workers meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meanwhile {
    /// Those that somebody stopped.
    pub stopped: Vec<Instance>,
    /// Those that somebody started in slots that were to stay empty.
    pub started: Vec<Instance>,
}

impl Serving {
    /// From one reading to the next. `pending` are workers that were stopped and of which it is not known yet whether a
    /// person meant it: a master that dies over that leaves the question to the next.
    #[must_use]
    pub fn next(before: Option<&Self>, since_us: u64, workers: &[Row], pending: &BTreeSet<Instance>, strays: Vec<Stray>) -> Self {
        let before = before.filter(|before| before.since_us == since_us);
        let served = |instance: &Instance| before.is_some_and(|before| before.workers.contains(instance));
        let stays = |(instance, phase, _): &&Row| match phase {
            Phase::Up => true,
            Phase::Waiting | Phase::Starting | Phase::Leaving => served(instance),
            Phase::Down => false,
        };
        let workers = workers.iter().filter(stays).map(|(instance, ..)| *instance);
        let pending = pending.iter().filter(|instance| served(instance)).copied();
        Self { since_us, workers: workers.chain(pending).collect(), strays }
    }

    /// What people did since this was written. A worker comes back for ever, whatever it exits with, so that in one life of
    /// the handle a roll and a stop alone can leave a wanted slot that was served without any worker.
    pub fn meanwhile(&self, found: &Found<'_>) -> Meanwhile {
        if found.rolled || found.since_us != Some(self.since_us) {
            return Meanwhile::default();
        }
        let served: BTreeMap<Slot, Instance> = self.workers.iter().map(|instance| (instance.slot, *instance)).collect();
        // A failed one is still loaded, and no stop; one with a job is about to become something else.
        let taken: BTreeSet<Slot> = found.workers.iter().map(|(instance, ..)| instance.slot).collect();
        let stopped = served.iter().filter(|(slot, _)| found.wanted.contains(slot) && !taken.contains(slot));
        let is_new = |(instance, phase, job): &&Row| {
            *phase == Phase::Up && !job && found.stopped.contains(&instance.slot) && !served.contains_key(&instance.slot)
        };
        Meanwhile {
            stopped: stopped.map(|(_, instance)| *instance).collect(),
            started: found.workers.iter().filter(is_new).map(|(instance, ..)| *instance).collect(),
        }
    }
}

/// What the master before has written; nothing where there is no such file.
///
/// # Errors
/// `InvalidData` when it is damaged, `Unsupported` when it is of a newer format; else those of the file system.
pub fn read(path: &Path) -> io::Result<All> {
    let bytes = match files::read_bounded(path, LIMIT) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(All::new()),
        other => other?,
    };
    parse(&bytes).map_err(|why| why.of(path))
}

pub(crate) fn parse(bytes: &[u8]) -> Result<All, Unread> {
    formats::parse(bytes).map(|File { apps, .. }| apps)
}

/// The file as the master before may have left it.
#[cfg(any(test, fuzzing))]
pub(in crate::master) fn fuzz(data: &[u8]) {
    for (_, serving) in parse(data).map(|all| crate::fuzz::comes_back(&all)).unwrap_or_default() {
        let wanted = Slot::first(Slot::MAX).collect();
        let found = Found { since_us: Some(serving.since_us), workers: &[], wanted: &wanted, stopped: &BTreeSet::new(), rolled: false };
        let meanwhile = serving.meanwhile(&found);
        assert!(meanwhile.started.is_empty() && meanwhile.stopped.iter().all(|worker| serving.workers.contains(worker)));
    }
}

/// Replaces it. Where that cannot be, it goes: what is no longer true would be taken for somebody's wish.
///
/// # Errors
/// Those of the file system.
pub fn write(path: &Path, apps: &All) -> io::Result<()> {
    let bytes = serde_json::to_vec(&File { format: FORMAT, apps: apps.clone() })?;
    files::replace(path, &bytes, 0o600).inspect_err(|_| drop(std::fs::remove_file(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instances(names: &[&str]) -> Vec<Instance> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn slots(numbers: &[u16]) -> BTreeSet<Slot> {
        numbers.iter().map(|number| Slot::new(*number).unwrap()).collect()
    }

    fn rows(rows: &[(&str, Phase)]) -> Vec<Row> {
        rows.iter().map(|(name, phase)| (name.parse().unwrap(), *phase, false)).collect()
    }

    fn serving(workers: &[&str]) -> Serving {
        Serving { since_us: 100, workers: instances(workers).into_iter().collect(), strays: Vec::new() }
    }

    #[test]
    fn a_worker_serves_from_its_readiness_until_it_has_gone() {
        use Phase::{Down, Leaving, Starting, Up, Waiting};
        let none = BTreeSet::new();
        let mut known = Serving::next(None, 100, &rows(&[("1.1.1", Up), ("2.1.1", Starting), ("3.1.1", Waiting)]), &none, Vec::new());
        // What was, the next reading, what is.
        type Step<'a> = (&'a [(&'a str, Phase)], &'a [&'a str]);
        let story: &[Step<'_>] = &[
            (&[("1.1.1", Waiting), ("2.1.1", Up), ("3.1.1", Starting)], &["1.1.1", "2.1.1"]),
            (&[("1.1.1", Starting), ("2.1.1", Leaving)], &["1.1.1", "2.1.1"]),
            (&[("1.1.1", Up), ("2.2.1", Up)], &["1.1.1", "2.2.1"]),
            (&[("1.1.1", Down), ("2.2.1", Up), ("2.3.1", Up)], &["2.2.1", "2.3.1"]),
        ];
        assert_eq!(known, serving(&["1.1.1"]));
        for (reading, serve) in story {
            known = Serving::next(Some(&known), 100, &rows(reading), &none, Vec::new());
            assert_eq!(known, serving(serve), "{reading:?}");
        }
        // It was stopped, and nobody knows yet why.
        let pending: BTreeSet<Instance> = instances(&["2.2.1", "7.1.1"]).into_iter().collect();
        assert_eq!(Serving::next(Some(&known), 100, &rows(&[("2.3.1", Up)]), &pending, Vec::new()), serving(&["2.2.1", "2.3.1"]));
        // Another life of the handle: who starts in it has not served in it.
        let next = Serving::next(Some(&known), 200, &rows(&[("2.2.1", Starting), ("1.2.1", Up)]), &pending, Vec::new());
        assert_eq!(next, Serving { since_us: 200, ..serving(&["1.2.1"]) });
    }

    #[test]
    fn what_people_did_while_no_master_was_there() {
        use Phase::{Down, Leaving, Starting, Up, Waiting};
        type Case<'a> = (&'a str, &'a [(&'a str, Phase)], &'a [&'a str], &'a [&'a str]);
        // Wanted are 1, 2, 3; 4 is to stay empty; 1 and 2 served, and 9, which is none of the app's any more.
        let cases: &[Case<'_>] = &[
            ("nothing", &[("1.1.1", Up), ("2.1.1", Up)], &[], &[]),
            ("a stop", &[("1.1.1", Up)], &["2.1.1"], &[]),
            ("all are stopped", &[], &["1.1.1", "2.1.1"], &[]),
            ("a crash", &[("1.1.1", Up), ("2.1.1", Waiting)], &[], &[]),
            ("a crash loop, or a person's restart", &[("1.1.1", Up), ("2.1.1", Starting)], &[], &[]),
            ("a stop that is under way", &[("1.1.1", Up), ("2.1.1", Leaving)], &[], &[]),
            ("it failed", &[("1.1.1", Up), ("2.1.1", Down)], &[], &[]),
            ("another took its place", &[("1.1.1", Up), ("2.2.1", Up)], &[], &[]),
            ("one that never served starts", &[("1.1.1", Up), ("2.1.1", Up), ("3.1.1", Starting)], &[], &[]),
            ("a stopped one is started", &[("1.1.1", Up), ("2.1.1", Up), ("4.1.1", Up)], &[], &["4.1.1"]),
            ("it is on its way up", &[("1.1.1", Up), ("2.1.1", Up), ("4.1.1", Starting)], &[], &[]),
            ("one where there is no slot", &[("1.1.1", Up), ("2.1.1", Up), ("8.1.1", Up)], &[], &[]),
        ];
        let (wanted, empty) = (slots(&[1, 2, 3]), slots(&[4]));
        let known = serving(&["1.1.1", "2.1.1", "9.1.1"]);
        for (what, workers, stopped, started) in cases {
            let workers = rows(workers);
            let found = Found { since_us: Some(100), workers: &workers, wanted: &wanted, stopped: &empty, rolled: false };
            let told = Meanwhile { stopped: instances(stopped), started: instances(started) };
            assert_eq!(known.meanwhile(&found), told, "{what}");
            // A roll was under way; the app is down; it was stopped and started, or the machine was.
            let nothing = Meanwhile::default();
            assert_eq!(known.meanwhile(&Found { rolled: true, ..found }), nothing, "{what}, in a roll");
            assert_eq!(known.meanwhile(&Found { since_us: None, ..found }), nothing, "{what}, and the app is down");
            assert_eq!(known.meanwhile(&Found { since_us: Some(200), ..found }), nothing, "{what}, in another life");
            assert_eq!(Serving::default().meanwhile(&found), nothing, "{what}, without a memory");
        }
        // Somebody stopped 2 and asked for less.
        let found = Found { since_us: Some(100), workers: &[], wanted: &slots(&[1]), stopped: &slots(&[2]), rolled: false };
        assert_eq!(known.meanwhile(&found).stopped, instances(&["1.1.1"]));
        // Its stop failed: it ran on all the while, and is not to.
        let runs = rows(&[("1.1.1", Up), ("2.1.1", Up)]);
        assert_eq!(known.meanwhile(&Found { workers: &runs, ..found }), Meanwhile::default());
        let ends = [(instances(&["4.1.1"])[0], Up, true)];
        assert_eq!(known.meanwhile(&Found { workers: &ends, stopped: &empty, wanted: &BTreeSet::new(), ..found }), Meanwhile::default());
    }

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("serving.json");
        assert_eq!(read(&path).unwrap(), All::new());
        let strays = vec![Stray { instance: "3.1.1".parse().unwrap(), since_ms: 5 }];
        let all = All::from([("api".parse().unwrap(), Serving { strays, ..serving(&["1.1.1", "2.3-1.1"]) })]);
        write(&path, &all).unwrap();
        assert_eq!(read(&path).unwrap(), all);
        let text = r#"{"format":1,"apps":{"api":{"since_us":100,"workers":["1.1.1"]}}}"#;
        std::fs::write(&path, text).unwrap();
        assert_eq!(read(&path).unwrap()[&"api".parse().unwrap()], serving(&["1.1.1"]));
        for damaged in ["", "{", r#"{"format":1,"apps":{"../x":{"since_us":1,"workers":[]}}}"#] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData, "{damaged}");
        }
    }
}
