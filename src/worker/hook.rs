//! A hook's first step, root's (`ExecStartPre=+`): what `prepare` is for a worker. `worker exec` becomes the command then.
//!
//! The generation comes from a unit name that the unprivileged master chose. So it is root who sees to it that a hook of one
//! generation runs once, whoever asks for it how often: a migration that has begun is not begun again.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::error::Error;
use super::paths::Paths;
use super::pin::{self, Copy, Pin};
use super::prepare::{existing, hand_over, pin_for, prune};
use super::release::Owner;
use super::store::{Lock, Store};
use super::sys;
use crate::config::settings::Spawn;
use crate::names::{AppName, AppUnits, ClusterName, HookInstance, HookKind};

/// Prepares the hook `kind` of `app` for the generation that `instance` names: makes its pin where `before` is the first of
/// it, marks that the hook begins, writes its copy into `$RUNTIME_DIRECTORY`.
///
/// # Errors
/// When the generation is none that may be started, the hook has begun already or is not configured, or a file cannot be
/// written.
pub fn prepare(cluster: &ClusterName, app: &AppName, kind: HookKind, instance: &str, paths: &Paths) -> Result<(), Error> {
    // What root leaves for the master is to be readable.
    sys::process::usual_umask();
    let directory = std::env::var_os("RUNTIME_DIRECTORY").unwrap_or_default();
    prepare_in(cluster, app, kind, instance, paths, Path::new(&directory))
}

/// [`prepare`] with the runtime directory that systemd named.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_in(
    cluster: &ClusterName,
    app: &AppName,
    kind: HookKind,
    instance: &str,
    paths: &Paths,
    directory: &Path,
) -> Result<(), Error> {
    let hook: HookInstance = instance.parse().map_err(|why| Error::new(format!("`{instance}` is no generation of {app}: {why}")))?;
    let expected = paths.run.join(AppUnits::new(cluster, app).hook_directory(kind, &hook.to_string()));
    if directory != expected {
        return Err(Error::new(format!(
            "RUNTIME_DIRECTORY is `{}` and should be `{}`: the unit was changed; run `project-cluster install`",
            directory.display(),
            expected.display()
        )));
    }
    let looked = directory.symlink_metadata();
    let owner = looked.map_err(|error| Error::new(format!("{} cannot be looked at: {error}", directory.display())))?;
    let owner = Owner { uid: owner.uid(), gid: owner.gid() };
    let store = Store::open(cluster, paths);
    let lock = store.lock(app)?;
    // How a roll goes is as it is installed now; what it runs in is its generation's.
    let settings = store.settings()?;
    let command = settings.apps.get(app).and_then(|app| app.hooks.command(kind)).filter(|command| !command.is_empty());
    let Some(command) = command else {
        return Err(Error::new(format!(
            "{app} has no hook `{kind}` in the configuration that was last installed: write it in `[apps.{app}.reload.hooks]` and run `project-cluster install`"
        )));
    };
    let known = store.pin(app, hook.generation).is_ok_and(|pin| pin.is_some());
    let pin = release(&store, &lock, app, kind, hook, owner)?;
    drop(lock);
    if !known {
        prune(&store, cluster, app, paths);
    }
    let pin = Pin { command: command.to_vec(), listen: Vec::new(), swap: false, spawn: Spawn::Cluster, ..pin };
    let instance = hook.worker();
    let copy = Copy {
        format: pin::FORMAT,
        cluster: cluster.clone(),
        app: app.clone(),
        instance,
        port: None,
        nonblocking: None,
        hook: Some(kind),
        pin,
    };
    hand_over(&copy, directory).map_err(|error| Error::new(format!("{} cannot be written: {error}", directory.join(Copy::FILE).display())))
}

/// The pin that a hook of this generation runs in, with the mark that it begins.
fn release(store: &Store, lock: &Lock, app: &AppName, kind: HookKind, hook: HookInstance, owner: Owner) -> Result<Pin, Error> {
    let own = match kind {
        HookKind::Before => Some(pin_for(store, lock, app, &hook.worker(), owner)?),
        HookKind::After => Some(existing(store, app, hook.generation)?),
        HookKind::Failed => store.pin(app, hook.generation)?,
    };
    let Some(pin) = own else {
        // It failed before there was a release: told by the one that serves. There is nothing that begins twice.
        let next = store.counter(app)?.generation.next();
        let last = store.last_ready(app)?.filter(|_| hook.generation == next);
        return match last {
            Some(last) => existing(store, app, last),
            None => Err(Error::new(format!(
                "generation {} of {app} has no release, and none got ready that could stand for it",
                hook.generation
            ))),
        };
    };
    if !store.begin_hook(lock, app, hook.generation, kind)? {
        return Err(Error::new(format!(
            "the hook `{kind}` of generation {} of {app} has begun before, and runs once: `project-cluster reload {app}` makes another generation",
            hook.generation
        )));
    }
    Ok(pin)
}
