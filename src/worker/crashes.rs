//! Root's count of each worker's ends, and the wait that breaks a crash loop: the first thing `prepare` does.
//!
//! `/run/NAME/crashes/APP/INSTANCE.json`, written by root alone, readable by all: the master shows it. In /run, since a
//! reboot starts everything anew. `health` has the rules; here are the files, the clock and the question to PID 1.
//!
//! Nothing here fails a start: a worker whose ends cannot be counted is started all the same, and the log says so.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{Priority, say};
use super::files;
use super::living;
use super::paths::Paths;
use crate::formats::{self, Unread};
use crate::health::{Count, Known, LONGEST, LOOP, STEP};
use crate::journal::monotonic_us_now;
use crate::names::{AppName, AppUnits, ClusterName, Instance, Slot, Uid};
use crate::systemd::Systemd as _;

/// Most files of an app: two workers in each slot. More would be made by a master that is not ours any more.
const MOST: usize = 2 * Slot::MAX as usize;

/// Counts the end before this start, and waits where the worker is in a crash loop. A signal ends the wait with the process.
pub(super) fn before_start(cluster: &ClusterName, app: &AppName, instance: Instance, paths: &Paths, restart: Duration) {
    let directory = paths.crashes(cluster, app);
    let path = file(&directory, &instance);
    let last = read(&path).unwrap_or_else(|why| {
        say(Priority::Warning, &format!("{} cannot be read, so {app} {instance} is counted anew: {why}", path.display()));
        None
    });
    let now = monotonic_us_now();
    let count = match last {
        None => Count::fresh(now),
        Some(last) if last.is_plain(now, restart) => last.next(now, restart, None),
        Some(last) => last.next(now, restart, known(paths, &AppUnits::new(cluster, app).worker(&instance))),
    };
    let written = match last {
        None => make(&directory, paths, cluster, app, instance).and_then(|()| write(&path, &count)),
        Some(_) => write(&path, &count),
    };
    if let Err(why) = written {
        say(Priority::Warning, &format!("the ends of {app} {instance} cannot be counted in {}: {why}", path.display()));
        return hold_back(paths, &AppUnits::new(cluster, app).worker(&instance));
    }
    if count.ends == LOOP && last.is_none_or(|last| last.ends < LOOP) {
        let uid = Uid { app: app.clone(), slot: instance.slot };
        say(
            Priority::Warning,
            &format!(
                "{uid} {CALLED} it ended {LOOP} times in a row, so each start waits longer, 30 s at most. `project-cluster show {app}` has what it wrote; once mended, `project-cluster reset {uid}` starts it at once"
            ),
        );
    }
    if let Some(wait) = count.next_start(now) {
        linger(count.ends, wait);
    }
}

/// Waits where systemd starts a worker again and again whose ends are not counted: one that can never start, say, of a name that
/// the master made up.
pub(super) fn hold_back(paths: &Paths, unit: &str) {
    if let Some(known) = known(paths, unit).filter(|known| known.restarts > 1) {
        linger(known.restarts, LONGEST);
    }
}

/// What the line says that names a crash loop: it is not the app's own.
pub const CALLED: &str = "is in a crash loop:";

/// Sleeps. The unit's limit covers that; where systemd itself waits for the app, it does not, and is told.
fn linger(ends: u32, wait: Duration) {
    use sd_notify::NotifyState;
    let limit = u32::try_from(STEP.as_micros()).unwrap_or(u32::MAX);
    let status = format!("crash loop: ended {ends} times in a row; waits {:.1} s before the next start", wait.as_secs_f64());
    let _ = sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(limit), NotifyState::Status(&status)]);
    std::thread::sleep(wait);
    let _ = sd_notify::notify(&[NotifyState::Status("")]);
}

/// What systemd knows of the worker; none when it does not say.
fn known(paths: &Paths, unit: &str) -> Option<Known> {
    let details = living::ask(paths, async |systemd| systemd.details(unit).await);
    let told = details.inspect_err(|why| say(Priority::Warning, &format!("{unit}: systemd does not say how often it restarted it: {why}")));
    told.ok().map(|details| Known { restarts: details.restarts, ready_us: details.active_since_us })
}

fn file(directory: &Path, instance: &Instance) -> PathBuf {
    directory.join(format!("{instance}.json"))
}

/// The count of a worker; none where it has none, or one of a newer program.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn read_in(directory: &Path, instance: &Instance) -> io::Result<Option<Count>> {
    read(&file(directory, instance))
}

fn read(path: &Path) -> io::Result<Option<Count>> {
    match crate::files::read_bounded(path, Count::MAX_BYTES) {
        Ok(bytes) => match formats::parse(&bytes) {
            Ok(count) => Ok(Some(count)),
            Err(Unread::Newer { .. }) => Ok(None),
            Err(Unread::Damaged(why)) => Err(why.into()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, count: &Count) -> io::Result<()> {
    crate::files::replace(path, &serde_json::to_vec(count)?, 0o644)
}

/// Whether the count is of one that ended a short while ago and will come back: several of one slot, which a master that is not
/// ours any more may ask for, would take each other's.
fn waits(path: &Path) -> bool {
    let recent = path.metadata().and_then(|meta| meta.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|age| age < 2 * STEP));
    recent && read(path).is_ok_and(|count| count.is_some_and(|count| count.ends > 0))
}

/// Makes room for the count of a worker that has none yet: its directory, and the files of workers of its slot that are
/// gone leave.
fn make(directory: &Path, paths: &Paths, cluster: &ClusterName, app: &AppName, instance: Instance) -> io::Result<()> {
    let made = || {
        files::make_directory(&paths.run.join(cluster.as_str()), false)?;
        files::make_directory(directory, false)
    };
    made().map_err(|why| io::Error::other(why.to_string()))?;
    let workers = paths.workers(cluster, app);
    let mut stay = 0;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let other = path.file_stem().and_then(OsStr::to_str).and_then(|stem| stem.parse::<Instance>().ok());
        // A runtime directory is gone between an end and the next start as well, and a count with it then: of a slot in which
        // another worker starts for the first time, it is not missed.
        let gone = other.is_some_and(|other| {
            other.slot == instance.slot && other != instance && workers.join(other.to_string()).symlink_metadata().is_err()
        }) && !waits(&path);
        match gone.then(|| fs::remove_file(&path)) {
            // Another of the slot may have been first.
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Some(_) => {}
            // Also what is just being written, under a name of its own.
            None => stay += 1,
        }
    }
    if stay < MOST { Ok(()) } else { Err(io::Error::other(format!("{} holds {stay} files already", directory.display()))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn instance(text: &str) -> Instance {
        text.parse().unwrap()
    }

    #[test]
    fn a_count_is_root_s_file_that_others_read_and_leaves_with_the_slot_s_next_worker() {
        let root = tempfile::tempdir().unwrap();
        let (paths, cluster, app) = (Paths::under(root.path()), ClusterName::default(), "api".parse::<AppName>().unwrap());
        let directory = paths.crashes(&cluster, &app);
        let start = |text: &str| before_start(&cluster, &app, instance(text), &paths, Duration::from_millis(100));
        let ends = |text: &str| read_in(&directory, &instance(text)).unwrap().map(|count| count.ends);
        start("1.1.1");
        start("1.1.1");
        start("2.1.1");
        assert_eq!([ends("1.1.1"), ends("2.1.1"), ends("1.2.1")], [Some(1), Some(0), None]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&file(&directory, &instance("1.1.1")))), (0o755, 0o644));
        // A rolling reload: both workers of slot 1 live, then a later one finds the first gone.
        fs::create_dir_all(paths.workers(&cluster, &app).join("1.1.1")).unwrap();
        start("1.2.1");
        assert_eq!([ends("1.1.1"), ends("1.2.1")], [Some(1), Some(0)]);
        fs::remove_dir(paths.workers(&cluster, &app).join("1.1.1")).unwrap();
        start("1.2.2");
        assert_eq!(ends("1.1.1"), Some(1), "it may just be between an end and its next start");
        let long_ago = std::time::SystemTime::now() - 3 * STEP;
        fs::File::open(file(&directory, &instance("1.1.1"))).unwrap().set_modified(long_ago).unwrap();
        start("1.3.1");
        assert_eq!([ends("1.1.1"), ends("1.2.1"), ends("1.3.1"), ends("2.1.1")], [None, None, Some(0), Some(0)]);
        // Damaged or of a later program: counted anew.
        fs::write(file(&directory, &instance("2.1.1")), "{").unwrap();
        start("2.1.1");
        assert_eq!(ends("2.1.1"), Some(0));
        fs::write(file(&directory, &instance("2.1.1")), r#"{"format":2,"ends":9,"since_us":1,"start_us":1}"#).unwrap();
        assert_eq!(ends("2.1.1"), None);
    }

    #[test]
    fn an_app_has_a_bound() {
        let root = tempfile::tempdir().unwrap();
        let (paths, cluster, app) = (Paths::under(root.path()), ClusterName::default(), "api".parse::<AppName>().unwrap());
        let directory = paths.crashes(&cluster, &app);
        fs::create_dir_all(&directory).unwrap();
        for number in 1..=MOST {
            fs::File::create(directory.join(format!("1.{number}.1.json"))).unwrap();
        }
        before_start(&cluster, &app, instance("5.9.1"), &paths, Duration::ZERO);
        assert_eq!(read_in(&directory, &instance("5.9.1")).unwrap(), None);
    }
}
