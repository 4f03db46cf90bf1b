//! What is remembered of a worker's drain: how it accepts, how it was drained, what was cut.
//!
//! `/run/NAME/drained/APP/INSTANCE.json`, written by root alone (of a user's cluster, by the user), readable by all: the master
//! and `show` tell it. `ready` leaves the first one, how the worker accepts; the helper writes over it. Nothing here fails a
//! stop: a drain that cannot be told of is a drain all the same.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::formats::{self, Unread};
use crate::names::{Instance, Slot};
use crate::worker::files::make_directory;

/// Format of the file.
pub const FORMAT: u32 = 1;
/// Records of gone workers that a slot keeps: who asks after a roll finds those of the roll before too.
const KEPT: usize = 4;
/// Most files of an app.
const MOST: usize = (KEPT + 2) * Slot::MAX as usize;

/// How a worker takes new connections, as seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Its sockets lie in epoll sets, out of which they can be taken.
    Epoll,
    /// A thread blocks in `accept`.
    Accept,
    /// A thread waits in `poll`.
    Poll,
    /// A thread waits in `select`.
    Select,
    /// By io_uring, which cannot be seen.
    IoUring,
    /// Nothing was seen to accept.
    Unseen,
    /// The kernel lets nobody of this user look (Yama, or a process that hides itself).
    Refused,
}

impl How {
    /// Whether it can be drained from outside.
    pub fn is_drained(self) -> bool {
        self == Self::Epoll
    }

    /// For people, behind "drains by itself only: ".
    pub fn text(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::Accept => "a blocking accept",
            Self::Poll => "poll",
            Self::Select => "select",
            Self::IoUring => "io_uring",
            Self::Unseen => "it was not seen to accept",
            Self::Refused => "the kernel lets nobody look into it",
        }
    }
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// No connection was left.
    Empty,
    /// `drain` was over.
    Cut,
    /// The whole app, or the system, stops: `timeout.kill` was over.
    Hurried,
    /// The worker ended by itself meanwhile.
    Ended,
    /// It could not be drained: SIGTERM came at once.
    AtOnce,
    /// The helper was killed, or gave up.
    Broken,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`] at the time of writing.
    pub format: u32,
    /// How it accepts.
    pub how: How,
    /// When its drain began, microseconds of `CLOCK_MONOTONIC`; none of a worker that serves.
    #[serde(default)]
    pub since_us: Option<u64>,
    /// How that ended; none as long as it goes on.
    #[serde(default)]
    pub end: Option<End>,
    /// How long it took until no new connection could reach it, microseconds.
    #[serde(default)]
    pub quiet_us: Option<u64>,
    /// How long it took as a whole, milliseconds.
    #[serde(default)]
    pub took_ms: Option<u64>,
    /// Connections that were open when it was last looked.
    #[serde(default)]
    pub open: Option<u32>,
    /// It had more processes, threads or descriptors than are looked at, or a socket was still in a set at the last look.
    #[serde(default)]
    pub partly: bool,
}

formats::numbered!(Record, FORMAT);

impl Record {
    /// Most bytes of such a file.
    pub const MAX_BYTES: u64 = 4096;

    /// Of a worker that serves.
    pub fn serving(how: How) -> Self {
        Self { format: FORMAT, how, since_us: None, end: None, quiet_us: None, took_ms: None, open: None, partly: false }
    }
}

impl fmt::Display for Record {
    /// For people, behind "api:01 (generation 7) ".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = self.took_ms.map_or_else(String::new, |ms| format!(" after {}.{} s", ms / 1000, ms % 1000 / 100));
        let connections = |count: u32| if count == 1 { "1 connection was".into() } else { format!("{count} connections were") };
        match (self.end, self.open) {
            (None, _) if self.since_us.is_none() && self.how.is_drained() => f.write_str("is drained before SIGTERM")?,
            (None, _) if self.since_us.is_none() => write!(f, "drains by itself only: {}", self.how.text())?,
            (None, Some(open)) => write!(f, "drains: {} open when last looked", connections(open))?,
            (None, None) => f.write_str("drains")?,
            (Some(End::Empty), _) => write!(f, "drained{took}, nothing was cut")?,
            (Some(End::Cut), Some(open)) => write!(f, "{} still open{took}", connections(open))?,
            (Some(End::Cut), None) => write!(f, "its time to drain was over{took}")?,
            (Some(End::Hurried), open) => {
                write!(f, "{} still open{took}, when the app's stop could wait no longer", connections(open.unwrap_or(0)))?;
            }
            (Some(End::Ended), _) => write!(f, "ended by itself{took}")?,
            (Some(End::AtOnce), _) => write!(f, "drains by itself only: {}", self.how.text())?,
            (Some(End::Broken), _) => write!(f, "its drain was broken off{took}")?,
        }
        f.write_str(if self.partly { " (not all of it could be looked at, or taken out)" } else { "" })
    }
}

fn file(directory: &Path, instance: &Instance) -> PathBuf {
    directory.join(format!("{instance}.json"))
}

/// The record of a worker; none where there is none, or one of a newer program, or one that is just being written.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn read_in(directory: &Path, instance: &Instance) -> io::Result<Option<Record>> {
    match crate::files::read_bounded(&file(directory, instance), Record::MAX_BYTES) {
        Ok(bytes) if bytes.is_empty() => Ok(None),
        Ok(bytes) => match formats::parse(&bytes) {
            Ok(record) => Ok(Some(record)),
            Err(Unread::Newer { .. }) => Ok(None),
            Err(Unread::Damaged(why)) => Err(why.into()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes an empty record of a worker that starts, for who may not make one later. It counts when something is written to it.
///
/// # Errors
/// Those of the file system.
pub(crate) fn open(directory: &Path, workers: &Path, instance: &Instance) -> io::Result<fs::File> {
    make_room(directory, workers, instance)?;
    let path = file(directory, instance);
    fs::OpenOptions::new().write(true).create(true).truncate(true).custom_flags(libc::O_NOFOLLOW).mode(0o644).open(path)
}

/// Replaces the record of a worker.
///
/// # Errors
/// Those of the file system.
pub(super) fn write(directory: &Path, instance: &Instance, record: &Record) -> io::Result<()> {
    crate::files::replace(&file(directory, instance), &serde_json::to_vec(record)?, 0o644)
}

/// Makes the directory, and removes the records of workers of this slot that are long gone. `workers` holds the runtime
/// directories of those that are not.
///
/// # Errors
/// Those of the file system, and when there are far too many files.
pub(crate) fn make_room(directory: &Path, workers: &Path, instance: &Instance) -> io::Result<()> {
    make_directory(directory, false).map_err(|why| io::Error::other(why.to_string()))?;
    let (mut gone, mut stay): (Vec<(SystemTime, PathBuf)>, usize) = (Vec::new(), 0);
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let other = entry.path().file_stem().and_then(OsStr::to_str).and_then(|stem| stem.parse::<Instance>().ok());
        let is_gone = |other: &Instance| {
            other.slot == instance.slot && other != instance && workers.join(other.to_string()).symlink_metadata().is_err()
        };
        match (other.filter(is_gone), entry.metadata().and_then(|meta| meta.modified())) {
            (Some(_), Ok(at)) => gone.push((at, entry.path())),
            _ => stay += 1,
        }
    }
    gone.sort();
    for (_, old) in gone.iter().rev().skip(KEPT) {
        match fs::remove_file(old) {
            // Another of the slot may have been first.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let left = stay + gone.len().min(KEPT);
    if left < MOST { Ok(()) } else { Err(io::Error::other(format!("{} holds {left} files already", directory.display()))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(text: &str) -> Instance {
        text.parse().unwrap()
    }

    #[test]
    fn a_slot_keeps_the_last_few_and_those_that_live() {
        let root = tempfile::tempdir().unwrap();
        let (directory, workers) = (root.path().join("drained/api"), root.path().join("workers"));
        fs::create_dir_all(workers.join("1.1.1")).unwrap();
        for generation in 1..=9 {
            let it = instance(&format!("1.{generation}.1"));
            make_room(&directory, &workers, &it).unwrap();
            write(&directory, &it, &Record::serving(How::Epoll)).unwrap();
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(generation);
            fs::File::open(file(&directory, &it)).unwrap().set_modified(at).unwrap();
        }
        let there: Vec<u64> = (1..=9).filter(|at| read_in(&directory, &instance(&format!("1.{at}.1"))).unwrap().is_some()).collect();
        assert_eq!(there, [1, 5, 6, 7, 8, 9]);
        fs::write(file(&directory, &instance("2.1.1")), "").unwrap();
        assert_eq!(read_in(&directory, &instance("2.1.1")).unwrap(), None, "it is just being written");
        fs::write(file(&directory, &instance("2.1.1")), r#"{"format":2,"how":"carrier_pigeon"}"#).unwrap();
        assert_eq!(read_in(&directory, &instance("2.1.1")).unwrap(), None);
        fs::write(file(&directory, &instance("2.1.1")), "{").unwrap();
        assert!(read_in(&directory, &instance("2.1.1")).is_err());
    }

    #[test]
    fn what_it_says() {
        let with = |end, open| Record { since_us: Some(1), end, open, took_ms: Some(30_070), ..Record::serving(How::Epoll) };
        for (record, text) in [
            (Record::serving(How::Epoll), "is drained before SIGTERM"),
            (Record::serving(How::Poll), "drains by itself only: poll"),
            (with(None, Some(1)), "drains: 1 connection was open when last looked"),
            (with(Some(End::Empty), Some(0)), "drained after 30.0 s, nothing was cut"),
            (with(Some(End::Cut), Some(3)), "3 connections were still open after 30.0 s"),
            (Record { how: How::Select, ..with(Some(End::AtOnce), None) }, "drains by itself only: select"),
        ] {
            assert_eq!(record.to_string(), text);
        }
        assert!(
            Record { partly: true, ..with(Some(End::Empty), None) }
                .to_string()
                .ends_with("cut (not all of it could be looked at, or taken out)")
        );
    }
}
