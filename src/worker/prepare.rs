//! A worker's first step, root's (`ExecStartPre=+`): decides what the worker becomes and hands it over.
//!
//! The instance comes from a unit name that the unprivileged master chose, so it is checked here and names nothing but
//! numbers. The runtime directory belongs to the worker's user, whom root must not trust: nothing in it is followed.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::{Error, Priority, say};
use super::paths::Paths;
use super::pin::{Copy, Pin};
use super::release::Owner;
use super::store::{Lock, Store};
use super::{crashes, living, ports, sys};
use crate::config::settings::Spawn;
use crate::intent::Intent;
use crate::names::{AppName, AppUnits, ClusterName, Generation, Instance};

/// How long a worker waits for a port. A roll starts the next one as soon as an old one retires, and that one gives its
/// port back only when it has ended: after SIGTERM and perhaps `timeout.kill`.
const PORT_WAIT: Duration = Duration::from_secs(10);
/// How often it looks. Nothing tells of a runtime directory that goes but a watch that costs more than this.
const PORT_LOOK: Duration = Duration::from_millis(20);

/// Name of the copy while it is written.
const TEMPORARY: &CStr = c".pin.json.new";
/// [`Copy::FILE`] for the kernel.
const FILE: &CStr = c"pin.json";

/// Prepares the worker `instance` of `app`: waits where it is in a crash loop, makes its generation's pin where it is the
/// first, finds its port, writes its copy into `$RUNTIME_DIRECTORY`. `restart` is the unit's `RestartSec=`.
///
/// # Errors
/// When the instance is none that may be started, the app or its `cwd` is not there, no port is free, or a file cannot be
/// written.
pub fn run(cluster: &ClusterName, app: &AppName, instance: &str, paths: &Paths, restart: Duration) -> Result<(), Error> {
    // A unit's `UMask=` is the app's; what root leaves for the master is to be readable.
    sys::process::usual_umask();
    let directory = std::env::var_os("RUNTIME_DIRECTORY").unwrap_or_default();
    let directory = Path::new(&directory);
    let instance = checked(cluster, app, instance, paths, directory)
        .inspect_err(|_| crashes::hold_back(paths, &format!("{}@{instance}.service", AppUnits::new(cluster, app).prefix())))?;
    // Before anything that can fail: a step that fails each time is a crash loop too.
    crashes::before_start(cluster, app, instance, paths, restart);
    finish(cluster, app, instance, paths, directory)
}

/// [`run`] with the runtime directory that systemd named, without counting or waiting.
///
/// # Errors
/// As [`run`].
pub fn prepare(cluster: &ClusterName, app: &AppName, instance: &str, paths: &Paths, directory: &Path) -> Result<(), Error> {
    finish(cluster, app, checked(cluster, app, instance, paths, directory)?, paths, directory)
}

/// The instance, which somebody unprivileged chose, where its name is one and systemd gave it the directory of that name.
fn checked(cluster: &ClusterName, app: &AppName, instance: &str, paths: &Paths, directory: &Path) -> Result<Instance, Error> {
    let instance: Instance = instance.parse().map_err(|why| Error::new(format!("`{instance}` is no worker of {app}: {why}")))?;
    let expected = paths.workers(cluster, app).join(instance.to_string());
    if directory != expected {
        return Err(Error::new(format!(
            "RUNTIME_DIRECTORY is `{}` and should be `{}`: the unit was changed; run `project-cluster install`",
            directory.display(),
            expected.display()
        )));
    }
    Ok(instance)
}

fn finish(cluster: &ClusterName, app: &AppName, instance: Instance, paths: &Paths, directory: &Path) -> Result<(), Error> {
    let store = Store::open(cluster, paths);
    let failed = |error: io::Error| Error::new(format!("{} cannot be looked at: {error}", directory.display()));
    let owner = directory.symlink_metadata().map_err(failed)?;
    let owner = Owner { uid: owner.uid(), gid: owner.gid() };
    let until = Instant::now() + PORT_WAIT;
    let known = store.pin(app, instance.generation).is_ok_and(|pin| pin.is_some());
    let copy = loop {
        match copy_for(&store, cluster, app, instance, paths, owner)? {
            Ok(copy) => break copy,
            Err(full) if Instant::now() >= until => return Err(full),
            Err(_) => std::thread::sleep(PORT_LOOK),
        }
    };
    hand_over(&copy, directory)
        .map_err(|error| Error::new(format!("{} cannot be written: {error}", directory.join(Copy::FILE).display())))?;
    // Several first workers of a generation find the same to do, one after the other.
    if !known {
        prune(&store, cluster, app, paths);
    }
    Ok(())
}

/// Forgets the pins that nobody can come back to, behind a new one. Where somebody cannot be asked whether he still needs one,
/// none is, which is told and keeps nothing from starting.
pub(super) fn prune(store: &Store, cluster: &ClusterName, app: &AppName, paths: &Paths) {
    if let Err(why) = forget(store, cluster, app, paths) {
        say(Priority::Warning, &format!("{app}: pins that nobody comes back to are not removed: {why}"));
    }
}

fn forget(store: &Store, cluster: &ClusterName, app: &AppName, paths: &Paths) -> Result<(), Error> {
    let keep = store.settings()?.apps.get(app).map_or(0, |app| app.keep);
    let intent = Intent::read(&paths.intent(cluster)).map_err(|why| Error::new(format!("the master's memory cannot be read: {why}")))?;
    let intent = intent.apps.get(app).cloned().unwrap_or_default();
    let lock = store.lock(app)?;
    let mut gone = store.superfluous(&lock, app, &intent, keep)?;
    if gone.is_empty() {
        return Ok(());
    }
    // The lock is held: a worker that is not loaded yet finds what is left, and none of it half gone.
    for worker in living::workers(paths, &AppUnits::new(cluster, app)).map_err(Error::new)? {
        gone.remove(&worker.generation);
        gone.remove(&worker.pinned());
    }
    store.forget(&lock, app, &gone)
}

/// What the worker gets; the inner error says that no port is free. The app's lock is held no longer than this takes.
fn copy_for(
    store: &Store,
    cluster: &ClusterName,
    app: &AppName,
    instance: Instance,
    paths: &Paths,
    owner: Owner,
) -> Result<Result<Copy, Error>, Error> {
    let lock = store.lock(app)?;
    let pin = pin_for(store, &lock, app, &instance, owner)?;
    let port = match pin.spawn {
        Spawn::Child { port: Some(first), ports } => match ports::assign(&lock, paths, cluster, app, instance, first, ports)? {
            Ok(port) => Some(port),
            Err(full) => return Ok(Err(full)),
        },
        Spawn::Child { port: None, .. } | Spawn::Cluster => None,
    };
    let nonblocking = if pin.listen.is_empty() { None } else { siblings(store, app, &instance)? };
    Ok(Ok(Copy { format: super::pin::FORMAT, cluster: cluster.clone(), app: app.clone(), instance, port, nonblocking, hook: None, pin }))
}

/// The pin of a worker's generation: the existing one, else made now if the generation is the next one. What the name says
/// of an older pin is checked by that, where it is still there: the generation has a copy, which says whose it is.
pub(super) fn pin_for(store: &Store, lock: &Lock, app: &AppName, instance: &Instance, owner: Owner) -> Result<Pin, Error> {
    let older = instance.pin.map(|named| Ok::<_, Error>((named, store.pin(app, named)?))).transpose()?;
    if let Some(pin) = store.pin(app, instance.generation)? {
        let fits = match &older {
            None => true,
            Some((_, Some(older))) => older.generation == pin.generation,
            Some((named, None)) => pin.generation <= *named,
        };
        if let Some((named, _)) = older.filter(|_| !fits) {
            return Err(Error::new(format!(
                "generation {} of {app} was made from the pin of generation {}, not of {named}: start it under its own name",
                instance.generation, pin.generation
            )));
        }
        return Ok(pin);
    }
    if let Some((named, None)) = older {
        return Err(gone(app, named));
    }
    let counter = store.counter(app)?;
    if instance.generation <= counter.generation {
        return Err(gone(app, instance.generation));
    }
    match older.and_then(|(_, pin)| pin) {
        Some(older) => store.copy_pin(lock, app, instance.generation, &older, owner).map(|()| older),
        None => store.make_pin(lock, app, instance.generation, owner),
    }
}

/// Whether the workers beside this one want their sockets non-blocking: by those of its own generation that got ready, else
/// by the last generation that did. Unknown before the first.
fn siblings(store: &Store, app: &AppName, instance: &Instance) -> Result<Option<bool>, Error> {
    if store.is_nonblocking(app, instance.generation)? {
        return Ok(Some(true));
    }
    store.last_ready(app)?.map(|last| store.is_nonblocking(app, last)).transpose()
}

pub(super) fn existing(store: &Store, app: &AppName, generation: Generation) -> Result<Pin, Error> {
    store.pin(app, generation)?.ok_or_else(|| gone(app, generation))
}

fn gone(app: &AppName, generation: Generation) -> Error {
    Error::new(format!(
        "the pin of generation {generation} of {app} is not kept any more: `project-cluster reload {app}` makes a new generation, `project-cluster show {app}` lists those to go back to"
    ))
}

/// Writes the worker's copy, mode 0400, of the directory's owner, by names below the open directory alone.
pub(super) fn hand_over(copy: &Copy, directory: &Path) -> io::Result<()> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_RDONLY;
    let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else { return Err(io::ErrorKind::InvalidInput.into()) };
    let parent = {
        use std::os::unix::fs::OpenOptionsExt as _;
        File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(parent)?
    };
    let owner = parent.metadata()?.uid();
    if owner != 0 && owner != sys::process::effective_uid() {
        return Err(io::Error::other("the directory above it belongs to another user: `chown root` it"));
    }
    let name = std::ffi::CString::new(name.as_encoded_bytes())?;
    let directory = sys::files::open_at(parent.as_fd(), &name, flags, 0)?;
    let metadata = directory.metadata()?;
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_WRONLY;
    let mut file = match sys::files::open_at(directory.as_fd(), TEMPORARY, flags, 0o600) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Left by a step that was killed.
            sys::files::unlink_at(directory.as_fd(), TEMPORARY)?;
            sys::files::open_at(directory.as_fd(), TEMPORARY, flags, 0o600)?
        }
        other => other?,
    };
    file.write_all(&serde_json::to_vec(copy)?)?;
    sys::files::chown(file.as_fd(), metadata.uid(), metadata.gid())?;
    file.set_permissions(std::fs::Permissions::from_mode(0o400))?;
    sys::files::rename_at(directory.as_fd(), TEMPORARY, FILE)
}
