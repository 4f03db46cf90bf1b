//! The start step: sockets, then workers; ends well when at least one worker is ready.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future;

use super::plan::{self, Known};
use super::{Error, Handle, SLACK};
use crate::config::settings::App;
use crate::intent::{AppIntent, Intent};
use crate::journal::{self, Journal};
use crate::names::{ClusterName, Instance};
use crate::place;
use crate::say::say;
use crate::status;
use crate::systemd::{self, ActiveState, JobEnd, Systemd, Verb};

/// Lines of a failed worker that the message shows: a stack of Node with its source line and its error is over 20.
const LINES: usize = 25;
/// A socket or a trigger has no more to do than to bind, or to close.
const SOCKET: Duration = Duration::from_secs(45);

pub(super) async fn run(handle: &Handle<'_>, cluster: &ClusterName) -> Result<(), Error> {
    let begun = journal::monotonic_us_now();
    let Some(settings) = handle.app else {
        let (app, handle) = (handle.units.app, handle.units.handle());
        return Err(Error::Other(format!(
            "{handle}: there is no app `{app}` in the configuration: write it, then `project-cluster install`"
        )));
    };
    let app = handle.units.app;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let intent = remembered(handle);
    let slots = intent.wanted(settings.workers.count(cores));
    if slots.is_empty() {
        // An open port with nobody behind it would let clients hang: that of an app on demand is open already.
        let open = handle.systemd.triggered_by(&handle.units.trigger()).await?;
        handle.stop_all(&open, SOCKET).await?;
        let why = match intent.stopped.len() {
            0 => format!("it has 0 workers (`project-cluster add {app}` gives it one)"),
            stopped => format!("all of its {stopped} workers are to stay stopped (`project-cluster start {app}` starts them)"),
        };
        let port = if settings.listen.is_empty() { "" } else { " and no port open" };
        say!(Notice, "{app}: {why}, so nothing is started{port}");
        status::tell(&format!("{why}, so nothing is started{port}"));
        return Ok(());
    }
    // Of a sleep whose stop never came.
    let _ = std::fs::remove_file(handle.paths.sleep_mark(cluster, app));
    sockets(handle, settings).await?;
    let mark = handle.paths.fresh_mark(cluster, app);
    let counter = handle.store.counter(app)?;
    let known = Known {
        highest: Some(counter.generation),
        current: intent.generation.map(|generation| (generation, intent.pin.unwrap_or(generation))),
        started: counter.started,
        ready: handle.store.last_ready(app)?,
    };
    let generation = plan::generation(&known, mark.exists(), |pin| matches!(handle.store.pin(app, pin), Ok(Some(_))));
    let loaded = handle.workers().await?;
    let lives = |state| matches!(state, ActiveState::Active | ActiveState::Activating | ActiveState::Reloading);
    let loaded: Vec<(Instance, bool)> = loaded.iter().map(|(instance, row)| (*instance, lives(row.active))).collect();
    let workers = plan::workers(&slots, generation, &loaded);
    // Each of the three steps of a start has the time limit for itself.
    let limit = settings.timeout.start * 3 + SLACK;
    // The first worker of a fresh generation pins it; the others wait for its lock, so all may start at once.
    let (up, all) = (Cell::new(0_usize), workers.len());
    let tell = |up: usize| status::tell(&format!("starts generation {}, {up} of {all} ready", generation.0));
    tell(0);
    let ends = future::join_all(workers.iter().map(|instance| async {
        let end = ready(handle, settings, instance, limit).await;
        if end.is_ok() {
            up.set(up.get() + 1);
            tell(up.get());
        }
        end
    }))
    .await;
    let failed: Vec<(&Instance, &Result<(), String>)> = workers.iter().zip(&ends).filter(|(_, end)| end.is_err()).collect();
    if failed.len() < workers.len() {
        handle.store.set_started(app, generation.0)?;
        // Consumed by success alone: what failed is to be tried anew, with what is on disk by then.
        let _ = std::fs::remove_file(&mark);
        for (instance, why) in &failed {
            if let Err(why) = why {
                say!(Warning, "{app}: {} is not ready: {why}; systemd goes on trying", handle.units.worker(instance));
            }
        }
        let ready = workers.len() - failed.len();
        say!(Info, "{app}: {ready} of {all} ready, generation {}", generation.0);
        status::tell_up(app);
        return Ok(());
    }
    let Some((instance, Err(why))) = failed.first() else {
        return Err(Error::Other(format!("{app}: nothing could be started")));
    };
    // At once, before systemd tries them again: what follows takes a moment. The stop step does it again, and tells why
    // where it cannot.
    let units: Vec<String> = workers.iter().map(|instance| handle.units.worker(instance)).collect();
    let _ = handle.stop_all(&units, settings.kill_limit() * 2 + SLACK).await;
    let unit = handle.units.worker(instance);
    let mut text = format!("{app}: none of {} workers got ready. {unit}: {why}", workers.len());
    for line in Journal::of(place::here().manager).last_lines(&unit, begun, LINES).await {
        text.push_str(&format!("\n  {line}"));
    }
    let closed = if settings.listen.is_empty() { "" } else { "Its port is closed. " };
    text.push_str(&format!("\n{closed}Mend it, then: systemctl start {}, which takes what is on disk by then", handle.units.handle()));
    Err(Error::Other(text))
}

/// What the master remembers, if that can be read: its numbers only.
fn remembered(handle: &Handle<'_>) -> AppIntent {
    match Intent::read(&handle.paths.intent(handle.units.cluster)) {
        Ok(mut intent) => intent.apps.remove(handle.units.app).unwrap_or_default(),
        Err(why) => {
            say!(Warning, "what the master remembers cannot be read ({why}); going by the pins and the configuration");
            AppIntent::default()
        }
    }
}

/// Starts the sockets that are not up. One cannot start while its `Service=` is active (trap 8), so the trigger goes
/// first; sockets that are up are left alone, with what queues in them.
async fn sockets(handle: &Handle<'_>, settings: &App) -> Result<(), Error> {
    let limit = SOCKET;
    let mut down = Vec::new();
    for unit in settings.listen.iter().map(|listen| handle.units.socket(&listen.address)) {
        if handle.active(&unit).await? != ActiveState::Active {
            down.push(unit);
        }
    }
    if down.is_empty() {
        return Ok(());
    }
    // Workers that outlived their handle, which was masked, hold the address of a socket that is closed: no other could be
    // reached beside them.
    let old: Vec<String> = handle.workers().await?.into_iter().map(|(_, row)| row.name).collect();
    let old = systemd::stop::running(&handle.systemd, &old).await?;
    if !old.is_empty() {
        say!(Warning, "{}: these outlived their closed socket and are stopped: {}", handle.units.app, old.join(", "));
        handle.stop_workers(settings.kill_limit() * 2 + SLACK).await?;
    }
    // Where it is not active a stop of it would only be work for systemd: while the sockets are closed nobody wakes it.
    if handle.active(&handle.units.trigger()).await? != ActiveState::Inactive {
        handle.stop_all(&[handle.units.trigger()], limit).await?;
    }
    for unit in &down {
        handle.systemd.reset_failed(unit).await?;
        let end = handle.systemd.job(Verb::Start, unit, limit).await?;
        if end != JobEnd::Done || handle.active(unit).await? != ActiveState::Active {
            return Err(Error::Other(format!(
                "{}: {unit} cannot listen: the address may be taken by another program (`ss -lptn`). `journalctl -u {unit}` has systemd's own words",
                handle.units.app
            )));
        }
    }
    Ok(())
}

/// Starts one worker and says why it is not ready.
async fn ready(handle: &Handle<'_>, settings: &App, instance: &Instance, limit: Duration) -> Result<(), String> {
    let unit = handle.units.worker(instance);
    let end = handle.systemd.job(Verb::Start, &unit, limit).await.map_err(|why: systemd::Error| why.to_string())?;
    // `done` is also said when a condition skipped the start: the state decides.
    if handle.active(&unit).await.map_err(|why| why.to_string())? == ActiveState::Active {
        return Ok(());
    }
    let details = handle.systemd.details(&unit).await.map_err(|why| why.to_string())?;
    Err(match (end, details.result.as_str(), details.by_signal) {
        (JobEnd::Canceled, ..) => "its start was cancelled by another job".into(),
        (JobEnd::Timeout, ..) | (_, "timeout", _) => format!("it was not ready within {:?}", settings.timeout.start),
        // The step's own words come with the lines behind: `worker ready` or `worker probe` wrote them.
        (_, "exit-code", true) => "the step that waits for it failed, and systemd ended it".into(),
        (_, _, true) => format!("it was killed by signal {} before it was ready", details.exit_status),
        (_, _, false) => format!("it exited with code {} before it was ready", details.exit_status),
    })
}
