//! What root keeps of every app: pins, which of them got ready, the counter of generations, the whole settings.
//!
//! All of it lies below `/var/lib/NAME/pins` (0700): `settings.json`, `APP/counter.json`, `APP/GEN.json`, `APP/GEN.ready`,
//! `APP/lock`. What nobody can come back to any more is forgotten when a generation is made ([`Store::superfluous`]). It must not
//! know units, processes or what a worker does with its pin. Nothing here is ever written by the unprivileged master.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::again;
use super::error::Error;
use super::files;
use super::paths::Paths;
use super::pin::{self, Pin};
use super::published::{Published, Told};
use super::release::{self, Owner};
use super::sys;
use crate::config::settings::{App, Settings};
use crate::formats;
use crate::intent::AppIntent;
use crate::names::{AppName, ClusterName, Generation, HookKind};

/// How long a step waits for another that holds an app's lock. A holder writes two small files; seconds mean a disk that
/// hangs, and a worker's start should then say so rather than run into systemd's time limit.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// `counter.json` of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Format of this file, 1.
    pub format: u32,
    /// The highest generation ever made; 0 before the first.
    pub generation: Generation,
    /// The generation that the handle last started, which a reboot starts again.
    pub started: Option<Generation>,
}

formats::numbered!(Counter, 1);

impl Default for Counter {
    fn default() -> Self {
        Self { format: 1, generation: Generation(0), started: None }
    }
}

/// The store of one cluster. Cheap to make: nothing is read before it is asked for.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
}

/// An app's lock, held until dropped (by a killed process too).
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its drop: closing the file releases the lock")] File);

impl Store {
    /// The store of `cluster` below `paths`.
    pub fn open(cluster: &ClusterName, paths: &Paths) -> Self {
        Self { directory: paths.pins(cluster) }
    }

    fn app(&self, app: &AppName) -> PathBuf {
        self.directory.join(app.as_str())
    }

    /// The whole settings, with `env`, as `install` last wrote them.
    ///
    /// # Errors
    /// Where there are none, or they are damaged or of a newer program.
    pub fn settings(&self) -> Result<Settings, Error> {
        let path = self.directory.join("settings.json");
        let Some(settings) = files::read_json::<Settings>(&path)? else {
            return Err(Error::new(format!(
                "{} is missing, so it is not known what a worker should become: run `project-cluster install`",
                path.display()
            )));
        };
        Ok(settings)
    }

    /// Writes the whole settings, mode 0600: what every generation made from now on is pinned from.
    pub fn write_settings(&self, settings: &Settings) -> Result<(), Error> {
        files::make_directory(&self.directory, true)?;
        files::write_json(&self.directory.join("settings.json"), settings)
    }

    /// Takes an app's lock, so that of several workers starting at once one makes the pin and none gets another's port.
    ///
    /// # Errors
    /// When it is still held after 10 s.
    pub fn lock(&self, app: &AppName) -> Result<Lock, Error> {
        let directory = self.app(app);
        files::make_directory(&directory, true)?;
        let path = directory.join("lock");
        let take = || {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            Ok((sys::files::lock(&file, LOCK_LIMIT)?, file))
        };
        match take() {
            Ok((true, file)) => Ok(Lock(file)),
            Ok((false, _)) => Err(Error::new(format!(
                "{} was held by another step for {LOCK_LIMIT:?}: is the disk hanging? `fuser {0}` names the process",
                path.display()
            ))),
            Err(error) => Err(io_error("be locked", &path.display().to_string(), &error)),
        }
    }

    /// The pin of a generation, if it was made.
    pub fn pin(&self, app: &AppName, generation: Generation) -> Result<Option<Pin>, Error> {
        let path = self.app(app).join(format!("{generation}.json"));
        let pin = files::read_json::<Pin>(&path)?;
        match pin {
            Some(pin) if pin.command.is_empty() => Err(Error::new(format!("{} is damaged: it holds no command", path.display()))),
            other => Ok(other),
        }
    }

    /// The counter of an app. It never lies below a pin that is there: a power cut between pin and counter, or a lost
    /// counter, must not let a number be given twice.
    pub fn counter(&self, app: &AppName) -> Result<Counter, Error> {
        let mut counter = files::read_json::<Counter>(&self.app(app).join("counter.json"))?.unwrap_or_default();
        for (generation, kind) in self.entries(app)? {
            if kind == Kind::Pin {
                counter.generation = counter.generation.max(generation);
            }
        }
        Ok(counter)
    }

    /// Makes the pin of the next generation from the settings, every symlink of `cwd` resolved with the rights of `owner`. The
    /// caller holds the lock.
    ///
    /// # Errors
    /// When `generation` is not the next one, the app or its `cwd` is not there.
    pub fn make_pin(&self, _lock: &Lock, app: &AppName, generation: Generation, owner: Owner) -> Result<Pin, Error> {
        let settings = self.settings()?;
        let Some(wanted) = settings.apps.get(app) else {
            return Err(Error::new(format!(
                "there is no app `{app}` in the configuration that was last installed: add `[apps.{app}]` and run `project-cluster install`"
            )));
        };
        let pin = from_settings(app, generation, wanted, owner)?;
        self.keep_pin(app, generation, &pin)?;
        Ok(pin)
    }

    /// Makes the next generation one that uses an older generation's pin: a copy, so that the generation has a pin of its
    /// own whatever becomes of the old one. The caller holds the lock.
    ///
    /// # Errors
    /// When `generation` is not the next one, or what the pin says could not be brought about as it was: its release is gone,
    /// or units say something else by now.
    pub fn copy_pin(&self, _lock: &Lock, app: &AppName, generation: Generation, older: &Pin, owner: Owner) -> Result<(), Error> {
        let settings = self.settings()?;
        if let Some(now) = settings.apps.get(app) {
            again::can_be(app, older, now, owner)?;
        }
        self.keep_pin(app, generation, older)
    }

    fn keep_pin(&self, app: &AppName, generation: Generation, pin: &Pin) -> Result<(), Error> {
        let counter = self.counter(app)?;
        if generation != counter.generation.next() {
            return Err(Error::new(format!(
                "generation {generation} of {app} cannot be made: the last one is {}, so the next is {}",
                counter.generation,
                counter.generation.next()
            )));
        }
        files::write_json(&self.app(app).join(format!("{generation}.json")), pin)?;
        files::write_json(&self.app(app).join("counter.json"), &Counter { generation, ..counter })?;
        self.publish(app, self.told(app)?, |published| published.add(generation, pin.revision))
    }

    /// Says where the master can read it which generations there are, and of these pins whose they are and which release they
    /// are of: nothing else of a pin. The lock is held.
    fn publish(&self, app: &AppName, pins: Vec<Told>, change: impl FnOnce(&mut Published)) -> Result<(), Error> {
        let path = self.published_path(app);
        if let Some(directory) = path.parent() {
            files::make_directory(directory, false)?;
        }
        let mut published = self.published(app);
        change(&mut published);
        published.tell(pins);
        crate::files::replace(&path, published.to_string().as_bytes(), 0o644)
            .map_err(|error| io_error("be written", &path.display().to_string(), &error))
    }

    /// What may be told of the pins that are there; one that cannot be read is none that could be used.
    fn told(&self, app: &AppName) -> Result<Vec<Told>, Error> {
        let entries = self.entries(app)?;
        let told = |(generation, kind): &(Generation, Kind)| {
            let pin = if *kind == Kind::Pin { self.pin(app, *generation).ok().flatten()? } else { return None };
            let ready = entries.contains(&(*generation, Kind::Ready));
            Some(Told { generation: *generation, maker: pin.generation, ready, release: pin.cwd.display().to_string() })
        };
        Ok(entries.iter().filter_map(told).collect())
    }

    /// The generations with a pin that nobody can come back to: neither among the last `keep` that were current, nor named by
    /// what the master remembers, nor what a start would start. Whether a worker lives that names one of them is not known here.
    pub fn superfluous(&self, _lock: &Lock, app: &AppName, intent: &AppIntent, keep: u16) -> Result<BTreeSet<Generation>, Error> {
        let (told, counter) = (self.told(app)?, self.counter(app)?);
        let mut stays: BTreeSet<Generation> = intent.past(&told, keep).into_iter().map(|pin| pin.generation).collect();
        // What the handle started goes by nothing once something later serves.
        let started = counter.started.filter(|started| Some(*started) >= intent.generation);
        stays.extend(intent.named().chain([counter.generation]).chain(started).chain(self.last_ready(app)?));
        Ok(told.into_iter().map(|pin| pin.generation).filter(|generation| !stays.contains(generation)).collect())
    }

    /// Forgets the pins of these generations: first they are told no more, then they go.
    pub fn forget(&self, _lock: &Lock, app: &AppName, generations: &BTreeSet<Generation>) -> Result<(), Error> {
        let mut told = self.told(app)?;
        told.retain(|pin| !generations.contains(&pin.generation));
        self.publish(app, told, |_| ())?;
        for generation in generations {
            for kind in ["ready", "before", "after", "failed", "json"] {
                let path = self.app(app).join(format!("{generation}.{kind}"));
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(io_error("be removed", &path.display().to_string(), &error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// What is told of an app's generations; nothing where that cannot be read.
    pub fn published(&self, app: &AppName) -> Published {
        let bytes = crate::files::read_bounded(&self.published_path(app), Published::LIMIT).unwrap_or_default();
        Published::parse(&String::from_utf8_lossy(&bytes))
    }

    fn published_path(&self, app: &AppName) -> PathBuf {
        self.directory.with_file_name("generations").join(app.as_str())
    }

    /// Remembers what the handle starts, for the next boot, and tells the master.
    pub fn set_started(&self, app: &AppName, generation: Generation) -> Result<(), Error> {
        let _lock = self.lock(app)?;
        let counter = self.counter(app)?;
        files::write_json(&self.app(app).join("counter.json"), &Counter { started: Some(generation), ..counter })?;
        self.publish(app, self.told(app)?, |published| published.started = Some(generation))
    }

    /// The highest generation of which some worker got ready: what serves when everything else is lost.
    pub fn last_ready(&self, app: &AppName) -> Result<Option<Generation>, Error> {
        Ok(self.entries(app)?.into_iter().filter(|(_, kind)| *kind == Kind::Ready).map(|(generation, _)| generation).max())
    }

    /// Opens the mark that says a worker of this generation got ready. Made empty, which does not count yet, so that a
    /// process which gave up its rights since can still set it: see [`ReadyMark::set`].
    pub fn ready_mark(&self, app: &AppName, generation: Generation) -> Result<ReadyMark, Error> {
        let path = self.app(app).join(format!("{generation}.ready"));
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map(ReadyMark)
            .map_err(|error| io_error("be opened", &path.display().to_string(), &error))
    }

    /// Whether ready workers of this generation had their shared sockets non-blocking.
    pub fn is_nonblocking(&self, app: &AppName, generation: Generation) -> Result<bool, Error> {
        let path = self.app(app).join(format!("{generation}.ready"));
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(64).read_to_end(&mut bytes));
        match read {
            Ok(_) => Ok(bytes.ends_with(NONBLOCKING)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_error("be read", &path.display().to_string(), &error)),
        }
    }

    /// Marks that a hook of this generation begins; false where it has begun before. The caller holds the lock.
    pub fn begin_hook(&self, _lock: &Lock, app: &AppName, generation: Generation, kind: HookKind) -> Result<bool, Error> {
        let path = self.app(app).join(format!("{generation}.{kind}"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(io_error("be made", &path.display().to_string(), &error)),
        }
    }

    /// Pins and set marks of an app, in no order.
    fn entries(&self, app: &AppName) -> Result<Vec<(Generation, Kind)>, Error> {
        let directory = self.app(app);
        let failed = |error: io::Error| io_error("be listed", &directory.display().to_string(), &error);
        let listing = match fs::read_dir(&directory) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        for entry in listing {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some((number, kind)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
            let Ok(number) = number.parse() else { continue };
            match kind {
                "json" => found.push((Generation(number), Kind::Pin)),
                "ready" if entry.metadata().map_err(failed)?.len() > 0 => found.push((Generation(number), Kind::Ready)),
                _ => {}
            }
        }
        Ok(found)
    }
}

/// What a numbered file of an app is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pin,
    Ready,
}

/// What a set mark begins with.
const READY: &[u8] = b"ready\n";
/// What follows where the shared sockets were non-blocking.
const NONBLOCKING: &[u8] = b"nonblocking\n";

/// The open mark of a generation.
#[derive(Debug)]
pub struct ReadyMark(File);

impl ReadyMark {
    /// Sets it. A mark counts when it is not empty: making the file needs root's rights, writing into it does not.
    ///
    /// `nonblocking`: its shared sockets are. Once said it stays: a look while systemd starts a sibling may miss it.
    pub fn set(&self, nonblocking: bool) -> Result<(), Error> {
        // Not appended: a second worker's mark says the same in the same place.
        let set = self.0.write_all_at(READY, 0);
        let set = set.and_then(|()| if nonblocking { self.0.write_all_at(NONBLOCKING, READY.len() as u64) } else { Ok(()) });
        set.map_err(|error| Error::new(format!("the mark of a ready generation cannot be written: {error}")))
    }
}

/// A pin from an app's settings.
fn from_settings(app: &AppName, generation: Generation, wanted: &App, owner: Owner) -> Result<Pin, Error> {
    let cwd = release::resolve(wanted, owner).map_err(|error| {
        let next = match error.kind() {
            io::ErrorKind::PermissionDenied => "let its user enter each directory of the path (`chmod o+x`)",
            _ => "make it",
        };
        Error::new(format!(
            "the working directory of {app}, {}, cannot be used: {error}; {next}, or change `cwd` of `[apps.{app}]` and run `project-cluster install`",
            wanted.cwd.display()
        ))
        .with_code(super::error::CHDIR)
    })?;
    Ok(Pin {
        format: pin::FORMAT,
        generation,
        revision: wanted.revision.number,
        command: wanted.command.clone(),
        cwd,
        env: wanted.env.clone(),
        listen: wanted.listen.clone(),
        swap: wanted.swap,
        spawn: wanted.spawn.clone(),
        ready: wanted.ready.clone(),
        min_ready: wanted.reload.min_ready,
    })
}

fn io_error(what: &str, path: &str, error: &io::Error) -> Error {
    let hint =
        if error.kind() == io::ErrorKind::PermissionDenied && !crate::place::here().is_user() { ": this step runs as root" } else { "" };
    Error::new(format!("{path} cannot {what}: {error}{hint}"))
}

#[cfg(test)]
pub(super) mod tests;
