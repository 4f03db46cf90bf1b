//! Waits until a worker is ready, so that even a plain `systemctl start` tells the truth: `ExecStartPost=+`.
//!
//! It starts as root, opens what is root's (the mark of a ready generation), and gives up everything but CAP_SYS_PTRACE at
//! once, becoming the worker's user. The first design ran it as that user with nothing: that fails under Yama, for workers
//! with ambient capabilities and for programs that are not dumpable, and the mark could not be root's. What it reads from the
//! worker from then on can fool only the worker's own readiness.

mod diagnose;
pub(in crate::worker) mod http;
pub(crate) mod look;
pub(crate) mod members;
mod probe;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use probe::run_probe;

use super::error::Error;
use super::files;
use super::inherited::{Socket, Sockets, read_copy};
use super::paths::Paths;
use super::pin::Copy;
use super::store::Store;
use super::sys::{self, process};
use crate::config::settings::Ready;
use crate::names::{AppName, AppUnits, ClusterName, Instance};

/// Pause between two looks: short at first, since most servers are up within some ten milliseconds of their runtime.
const SHORTEST: Duration = Duration::from_millis(1);
/// And no longer than this, so that readiness is not seen late; a look costs some hundred microseconds.
const LONGEST: Duration = Duration::from_millis(20);
/// How much earlier than systemd's own limit the wait ends, so that the reason can still be said.
const MARGIN: Duration = Duration::from_millis(500);
/// How long the main process may outlive its supervisor, which leaves when the app has: both ends are seen in any order.
const SUPERVISOR_FIRST: Duration = Duration::from_millis(200);

/// Waits until the worker is ready, at most a little less than `timeout` (that of `TimeoutStartSec=`), and marks its
/// generation ready.
///
/// # Errors
/// When its main process ends, its supervisor is killed, or the time is over: with what was seen of it.
pub fn run(cluster: &ClusterName, app: &AppName, instance: &str, paths: &Paths, main: u32, timeout: Duration) -> Result<(), Error> {
    let end = Instant::now() + timeout.saturating_sub(MARGIN.min(timeout / 10));
    // A unit's `UMask=` is the app's; how it drains is to be read by all.
    process::usual_umask();
    let instance: Instance = instance.parse().map_err(|why| Error::new(format!("`{instance}` is no worker of {app}: {why}")))?;
    let unit = AppUnits::new(cluster, app).worker(&instance);
    let pidfd = process::pidfd_open(main).map_err(|_| ended(&unit, main))?;
    let directory = paths.workers(cluster, app).join(instance.to_string());
    let opened = File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(&directory);
    let opened = opened.and_then(|file| file.metadata().map(|metadata| (file, metadata)));
    let (opened, owner) = opened.map_err(|error| Error::new(format!("{} cannot be opened: {error}", directory.display())))?;
    let mark = Store::open(cluster, paths).ready_mark(app, instance.generation)?;
    let record = crate::drain::record::open(&paths.drained(cluster, app), &paths.workers(cluster, app), &instance).ok();
    if process::effective_uid() == 0 {
        process::drop_to(owner.uid(), owner.gid(), &[process::CAP_SYS_PTRACE])
            .map_err(|error| Error::new(format!("root's rights cannot be given up: {error}; is `ExecStartPost=+` of {unit} changed?")))?;
    }
    let copy = read_copy(&directory)?;
    // Without it the wait merely looks from time to time.
    let bell = sys::files::open_bell(opened.as_fd(), Sockets::BELL).ok();
    let mut wait = Wait { unit, main, pidfd, bell, directory, end, timeout, pause: SHORTEST };
    match (&copy.pin.ready, copy.port, copy.pin.listen.is_empty()) {
        (Ready::Listen, Some(port), _) => wait.own_port(port)?,
        (Ready::Listen, None, false) => wait.shared(&copy)?,
        (Ready::Http(path), Some(port), _) => wait.http(port, path)?,
        (Ready::Http(_), None, _) => {
            return Err(Error::new(format!(
                "`ready = {{ http = ... }}` of {app} needs a port of its own: write `spawn = \"child\"` and `port`"
            )));
        }
        // Without anything to listen on it can only stay up.
        (Ready::None | Ready::Listen, ..) => wait.stay_up(copy.pin.min_ready)?,
        // systemd itself waited for READY=1, and for the command's own ExecStartPost=.
        (Ready::Notify | Ready::Exec(_), ..) => wait.alive()?,
    }
    mark.set(wait.nonblocking())?;
    if let Some(record) = record.filter(|_| !copy.pin.listen.is_empty()) {
        wait.tell_how_it_drains(&record);
    }
    Ok(())
}

/// What the line says that tells of an end before readiness: what the app wrote before it says more.
pub const ENDED: &str = "ended before it was ready: what it wrote last says why";

fn ended(unit: &str, main: u32) -> Error {
    Error::new(format!("the main process ({main}) of {unit} {ENDED}, `journalctl -u {unit}`"))
}

struct Wait {
    unit: String,
    main: u32,
    pidfd: OwnedFd,
    bell: Option<File>,
    directory: PathBuf,
    end: Instant,
    timeout: Duration,
    pause: Duration,
}

impl Wait {
    fn remaining(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Fails when the main process has ended.
    fn alive(&self) -> Result<(), Error> {
        self.sleep(Duration::ZERO)
    }

    /// Waits, but not beyond the end of the main process or the ringing of the bell.
    fn sleep(&self, limit: Duration) -> Result<(), Error> {
        let bell = self.bell.as_ref().map_or(self.pidfd.as_fd(), |bell| bell.as_fd());
        let [main, rung] = process::poll([self.pidfd.as_fd(), bell], Some(limit))
            .map_err(|error| Error::new(format!("the main process of {} cannot be watched: {error}", self.unit)))?;
        if main != 0 {
            return Err(ended(&self.unit, self.main));
        }
        if rung != 0
            && let Some(mut bell) = self.bell.as_ref()
        {
            // Emptied so that it wakes again; what happened is looked up anyway.
            let _ = bell.read(&mut [0; 4096]);
        }
        Ok(())
    }

    /// Pauses between two looks; false when the time is over. `began`: when the last look began, so that looks at a worker with
    /// very many descriptors cannot take a whole core.
    fn again(&mut self, began: Instant) -> Result<bool, Error> {
        let pause = self.pause.max(began.elapsed() * 4).min(self.remaining());
        self.sleep(pause)?;
        self.pause = (self.pause * 3 / 2).min(LONGEST);
        Ok(!self.remaining().is_zero())
    }

    /// The shared sockets, as far as they are known.
    fn sockets(&self) -> Vec<Socket> {
        let sockets: Option<Sockets> = files::read_json(&self.directory.join(Sockets::FILE)).unwrap_or_default();
        sockets.into_iter().flat_map(|sockets| sockets.sockets).collect()
    }

    /// Leaves word of how the worker accepts, and so how it will drain. It is ready whatever becomes of that.
    fn tell_how_it_drains(&self, record: &File) {
        if let Some(how) = crate::drain::accepts(self.main, &self.sockets()) {
            let text = serde_json::to_vec(&crate::drain::record::Record::serving(how)).unwrap_or_default();
            let _ = record.write_all_at(&text, 0);
        }
    }

    /// Whether the app made its shared sockets non-blocking. What nobody may look into is taken for blocking.
    fn nonblocking(&self) -> bool {
        let wanted: BTreeSet<u64> = self.sockets().into_iter().map(|socket| socket.inode).collect();
        !wanted.is_empty() && look::nonblocking(&members::members(self.main), &wanted)
    }

    /// Until each inherited socket is accepted from.
    fn shared(&mut self, copy: &Copy) -> Result<(), Error> {
        let path = self.directory.join(Sockets::FILE);
        let sockets = loop {
            let began = Instant::now();
            let sockets: Option<Sockets> = files::read_json(&path)?;
            if let Some(sockets) = sockets.filter(|sockets| sockets.pid == self.main) {
                break sockets;
            }
            if !self.again(began)? {
                return Err(Error::new(format!(
                    "{} did not become its app within {:?}: {} is missing; is its `ExecStart=` changed?",
                    self.unit,
                    self.timeout,
                    path.display()
                )));
            }
        };
        self.pause = SHORTEST;
        let supervisor = sockets.supervisor.map(supervisor);
        let mut done = BTreeSet::new();
        let mut killed: Option<Instant> = None;
        loop {
            let began = Instant::now();
            for (index, socket) in sockets.sockets.iter().enumerate() {
                if self.directory.join(Sockets::mark(self.main, index)).symlink_metadata().is_ok() {
                    done.insert(socket.inode);
                }
            }
            let wanted: BTreeSet<u64> = sockets.sockets.iter().map(|socket| socket.inode).filter(|inode| !done.contains(inode)).collect();
            if !wanted.is_empty() {
                done.extend(look::accepted(&members::members(self.main), &wanted));
            }
            if sockets.sockets.iter().all(|socket| done.contains(&socket.inode)) {
                return self.alive();
            }
            let gone = matches!(&supervisor, Some(None)) || matches!(&supervisor, Some(Some(pidfd)) if has_ended(pidfd));
            if gone && killed.get_or_insert(began).elapsed() >= SUPERVISOR_FIRST {
                return Err(Error::new(format!(
                    "the bind supervisor of {} was killed; the app's next bind fails, so the worker is started again",
                    self.unit
                )));
            }
            if !self.again(began)? {
                let elsewhere = diagnose::elsewhere(self.main, &sockets.sockets);
                let missing = copy.pin.listen.iter().zip(&sockets.sockets).filter(|(_, socket)| !done.contains(&socket.inode));
                let missing: Vec<_> = missing.map(|(listen, _)| listen.address.to_string()).collect();
                let all: Vec<_> = copy.pin.listen.iter().map(|listen| listen.address.to_string()).collect();
                return Err(Error::new(format!("{} {}", self.unit, diagnose::shared(&all, &missing, &elsewhere, self.timeout))));
            }
        }
    }

    /// Until some process of the worker listens on its own port.
    fn own_port(&mut self, port: u16) -> Result<(), Error> {
        loop {
            let began = Instant::now();
            let members = members::members(self.main);
            if diagnose::port_is_open(self.main, &members, port) {
                return self.alive();
            }
            if !self.again(began)? {
                let elsewhere = diagnose::elsewhere(self.main, &[]);
                return Err(Error::new(format!("{} {}", self.unit, diagnose::own_port(port, &elsewhere, self.timeout))));
            }
        }
    }

    /// Until its own port, held by the worker and nobody else, answers.
    fn http(&mut self, port: u16, path: &str) -> Result<(), Error> {
        self.own_port(port)?;
        self.pause = SHORTEST;
        loop {
            let began = Instant::now();
            let last = match http::get(port, path, self.remaining()) {
                Ok(200..=399) => return self.alive(),
                Ok(status) => format!("it answers {status}"),
                Err(error) => error.to_string(),
            };
            if !self.again(began)? {
                return Err(Error::new(format!(
                    "{} listens on its port and http://127.0.0.1:{port}{path} gave no 2xx or 3xx within {:?}: {last}; look at the app's health check, or raise `timeout.start`",
                    self.unit, self.timeout
                )));
            }
        }
    }

    /// For `min_ready`, whatever it does.
    fn stay_up(&mut self, min_ready: Duration) -> Result<(), Error> {
        if min_ready > self.remaining() {
            return Err(Error::new(format!(
                "`min_ready` ({min_ready:?}) of {} is as long as `timeout.start` ({:?}): it can never get ready; raise `timeout.start`",
                self.unit, self.timeout
            )));
        }
        let end = Instant::now() + min_ready;
        while Instant::now() < end {
            self.sleep(end.saturating_duration_since(Instant::now()))?;
        }
        self.alive()
    }
}

/// A descriptor of the supervisor, none when it is gone already or its number is another's by now.
fn supervisor(pid: u32) -> Option<OwnedFd> {
    let pidfd = process::pidfd_open(pid).ok()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (name.trim_end() == "pc-swap").then_some(pidfd)
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    process::poll([pidfd.as_fd()], Some(Duration::ZERO)).is_ok_and(|[events]| events != 0)
}
