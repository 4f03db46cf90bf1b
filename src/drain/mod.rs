//! Draining a worker from outside: `project-cluster drain`, the `ExecStop=+` of a worker, before its SIGTERM.
//!
//! It takes the shared sockets out of the worker's epoll sets, so that new connections go to its siblings, waits until those
//! that it has have ended, or `drain` is over, and returns. The app knows nothing of it. Where that cannot be done it returns
//! at once, and the record says why.
//!
//! Two processes. The one that systemd started looks into the worker, whom it does not trust: it gives up everything but the
//! rights that this takes, is bounded in time and memory, and asks systemd for more time every few seconds, so that one that
//! hangs in the kernel is left behind. The other, `herald`, speaks with systemd and keeps the record, and never looks at the
//! worker.
//!
//! | file | | |
//! |---|---|---|
//! | `plan` | what was seen -> what to take out, or why not; when the worker is quiet | pure |
//! | `diag` | what the kernel tells of ends of connections, as bytes | pure |
//! | `record` | how a worker drains and drained, `/run/NAME/drained/APP/INSTANCE.json` | |
//! | `group` | which processes are the worker's | |
//! | `look` | the worker's processes, threads and connections | |
//! | `first` | the quick way: sets that threads wait for | |
//! | `sets` | its epoll sets, each once | |
//! | `rights` | what it takes to look into it | |
//! | `change` | a socket taken out of a set | |
//! | `ends` | when one of those has ended | |
//! | `wait` | the drain itself, from first look to last | |
//! | `herald` | systemd and the record | |
//! | `kernel` | what needs `unsafe` | |
//!
//! It must not know rolls or the master. Whether the app stops as a whole it asks systemd.

mod change;
mod diag;
mod ends;
mod first;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod group;
mod herald;
mod kernel;
mod look;
mod plan;
pub mod record;
mod rights;
mod sets;
mod wait;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use self::herald::Herald;
use self::look::{Look, Target};
use self::record::{End, How, Record};
use self::wait::Drain;
use crate::names::{AppName, ClusterName, Instance};
use crate::roll::words::who;
use crate::say::say;
use crate::worker::files::read_json;
use crate::worker::inherited::{Socket, Sockets};
use crate::worker::paths::Paths;
use crate::worker::sys::process;

/// The rights that it keeps where the worker's own user may not look into the worker.
const RIGHTS: [u32; 3] = [process::CAP_SYS_PTRACE, process::CAP_DAC_READ_SEARCH, process::CAP_KILL];

/// What the unit says.
struct Orders {
    cluster: ClusterName,
    app: AppName,
    instance: Instance,
    paths: Paths,
    /// The longest that it may take.
    drain: Duration,
    /// The longest that it may take when the whole app stops.
    kill: Duration,
}

/// Runs `project-cluster drain --cluster NAME --app APP --drain-ms N --kill-ms N INSTANCE`; `args` are those behind `drain`. Must
/// be called with one thread. It never fails: whatever becomes of it, SIGTERM follows.
pub fn main(args: &[OsString]) -> ExitCode {
    let begin = Instant::now();
    kernel::as_any_other();
    // The unit's `UMask=` is the app's; the record is to be read by all.
    process::usual_umask();
    let Some(orders) = Orders::parse(args) else {
        say!(
            Error,
            "usage: project-cluster drain --cluster NAME --app APP --drain-ms N --kill-ms N INSTANCE (systemd calls it; `project-cluster install` writes its units anew)"
        );
        return ExitCode::SUCCESS;
    };
    // The step runs behind a crash as well: nothing is left to drain.
    let Some(main) = std::env::var("MAINPID").ok().and_then(|text| text.parse().ok()) else { return ExitCode::SUCCESS };
    wait::ask_for_time("drains");
    if let Err(why) = orders.run(main, begin) {
        say!(Warning, "{}: it cannot be drained, and gets SIGTERM at once: {why}", who(&orders.app, &orders.instance));
    }
    ExitCode::SUCCESS
}

/// How often, and how far apart, it is tried to see how a worker accepts that has just begun to listen.
const TRIES: (u32, Duration) = (10, Duration::from_millis(2));

/// How a worker that has got ready accepts from its shared sockets; none where it is not seen to.
pub(crate) fn accepts(main: u32, sockets: &[Socket]) -> Option<How> {
    let group = group::own_group();
    let target = Target { main, sockets, ours: &[], group: &group };
    let mut look = Look::default();
    let begun = Instant::now();
    for _ in 0..TRIES.0 {
        target.look(&mut look, false);
        let seen = look.seen(&target, true, Instant::now() + look::LONGEST);
        if look.refused {
            // Who drains it will have no more rights than this; root's step will have.
            return (!process::has_capability(process::CAP_SYS_PTRACE)).then_some(How::Refused);
        }
        if let Some(how) = plan::how(&seen) {
            return Some(how);
        }
        if begun.elapsed() >= look::LONGEST {
            // It has more than can be looked at, and waits for this to be called ready.
            break;
        }
        std::thread::sleep(TRIES.1);
    }
    None
}

impl Orders {
    fn parse(args: &[OsString]) -> Option<Self> {
        let (mut cluster, mut app, mut instance, mut drain, mut kill, mut root) = (None, None, None, None, None, None);
        let mut words = args.iter().map(|word| word.to_str());
        while let Some(word) = words.next() {
            match word? {
                "--cluster" => cluster = words.next()??.parse().ok(),
                "--app" => app = words.next()??.parse().ok(),
                "--drain-ms" => drain = words.next()??.parse().ok().map(Duration::from_millis),
                "--kill-ms" => kill = words.next()??.parse().ok().map(Duration::from_millis),
                "--root" => root = words.next()?,
                word if instance.is_none() => instance = word.parse().ok(),
                _ => return None,
            }
        }
        let paths = root.map_or_else(|| crate::place::here().paths.clone(), |root| Paths::under(Path::new(root)));
        Some(Self { cluster: cluster?, app: app?, instance: instance?, paths, drain: drain?, kill: kill? })
    }

    fn run(&self, main: u32, begin: Instant) -> io::Result<()> {
        let pidfd = process::pidfd_open(main)?;
        let group = group::own_group();
        let is_member = group::is_member(main, &group);
        // Asked behind it: what lives has kept its number all the while. One that has ended leaves nothing to drain.
        if look::has_ended(&pidfd) {
            return Ok(());
        }
        if !is_member {
            return Err(io::Error::other(format!("process {main} is not of its control group")));
        }
        let directory = self.paths.drained(&self.cluster, &self.app);
        let before = record::read_in(&directory, &self.instance).ok().flatten();
        let (mine, other) = UnixStream::pair()?;
        let herald = Herald {
            cluster: self.cluster.clone(),
            app: self.app.clone(),
            instance: self.instance,
            paths: self.paths.clone(),
            directory: directory.clone(),
        };
        let child = match process::fork() {
            Ok(None) => {
                drop((mine, pidfd));
                kernel::bound();
                process::exit_now(herald.run(other))
            }
            Ok(child) => child.map(i32::unsigned_abs),
            Err(why) => {
                // The worker is at its limit of processes, and so has much to lose. A herald that is not there counts as one that
                // was killed.
                let (who, kill) = (who(&self.app, &self.instance), self.kill);
                say!(Warning, "{who}: no process for the record of its drain ({why}), which lasts {kill:?} at most (`timeout.kill`)");
                None
            }
        };
        drop(other);
        kernel::bound();
        process::set_name(c"pc-drain");
        let ours: Vec<u32> = child.into_iter().chain([std::process::id()]).collect();
        if process::effective_uid() == 0 {
            let (uid, gid) = rights::owner(main).ok_or(io::ErrorKind::NotFound)?;
            let rights: &[u32] = if rights::needs_no_capability(main, &ours) { &[] } else { &RIGHTS };
            // What its number said was said of it as long as it lives.
            if look::has_ended(&pidfd) {
                return Ok(());
            }
            process::drop_to(uid, gid, rights)?;
        } else {
            process::no_new_privileges()?;
            process::hide()?;
        }
        // The worker's own file: what it says of others' sockets it does not have would be found in nobody's sets.
        let file = self.paths.workers(&self.cluster, &self.app).join(self.instance.to_string()).join(Sockets::FILE);
        let sockets: Option<Sockets> = read_json(&file).map_err(|why| io::Error::other(why.to_string()))?;
        let sockets = sockets.filter(|sockets| sockets.pid == main).ok_or_else(|| io::Error::other("its sockets are not known"))?;
        let target = Target { main, sockets: &sockets.sockets, ours: &ours, group: &group };
        let mut drain = Drain::new(&target, &pidfd, mine, before.map(|record| record.how), begin, self.drain, self.kill);
        let record = drain.run();
        // As late as that: others of a roll drain at the same time.
        self.tell(&record, &told(&directory, &self.instance));
        drain.finish();
        Ok(())
    }

    /// For the journal. `told`: what was said of others of this app already.
    fn tell(&self, record: &Record, told: &BTreeSet<How>) {
        let who = who(&self.app, &self.instance);
        match record.end {
            Some(End::Cut | End::Hurried) => say!(Warning, "{who}: {record}"),
            Some(End::AtOnce) if told.contains(&record.how) => say!(Info, "{who} {record}"),
            Some(End::AtOnce) => say!(
                Notice,
                "{who} {record}; it gets SIGTERM at once. If its app ends gracefully by itself, `drain_by = \"self\"` in [apps.{}.reload] says so, then `project-cluster install`",
                self.app
            ),
            _ => say!(Info, "{who}: {record}"),
        }
    }
}

/// How others of this app that drain by themselves accept: it was said of them.
fn told(directory: &Path, own: &Instance) -> BTreeSet<How> {
    let names = std::fs::read_dir(directory).into_iter().flatten().flatten().take(256).map(|entry| entry.file_name());
    let others = names.filter_map(|name| name.to_str()?.strip_suffix(".json")?.parse::<Instance>().ok()).filter(|other| other != own);
    let records = others.filter_map(|other| record::read_in(directory, &other).ok().flatten());
    records.filter(|record| record.end == Some(End::AtOnce)).map(|record| record.how).collect()
}
