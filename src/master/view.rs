//! From the world to what the API shows. It must not change anything.

use std::collections::BTreeSet;
use std::path::Path;

use super::loops;
use super::usage::Usages;
use super::world::{Seen, World};
use crate::api::types::{App, CrashLoop, Revisions, Roll, Socket, Worker, WorkerState};
use crate::config::settings::{self, User};
use crate::intent::AppIntent;
use crate::journal::monotonic_us_now;
use crate::names::{AppName, AppUnits, Instance, Slot, Uid};
use crate::systemd::ActiveState;

/// The workers of an app: what is loaded, and a row for each of its slots where nothing is. `looping` tells crash loops.
fn workers(
    world: &World,
    units: &AppUnits<'_>,
    slots: &BTreeSet<Slot>,
    stopped: &BTreeSet<Slot>,
    looping: impl Fn(&Instance, &Seen) -> Option<CrashLoop>,
) -> Vec<Worker> {
    let row = |(instance, seen)| worker(units, instance, seen, looping(&instance, seen));
    let mut rows: Vec<Worker> = world.workers(units).into_iter().map(row).collect();
    for slot in slots {
        if !rows.iter().any(|row| row.slot == slot.get()) {
            rows.push(absent(units.app, *slot, if stopped.contains(slot) { WorkerState::Stopped } else { WorkerState::Offline }));
        }
    }
    rows.sort_by_key(|row| (row.slot, row.generation));
    rows
}

fn worker(units: &AppUnits<'_>, instance: Instance, seen: &Seen, crash_loop: Option<CrashLoop>) -> Worker {
    let state = WorkerState::of(seen.state.active, &seen.state.sub);
    let up = (state == WorkerState::Online).then(|| monotonic_us_now().saturating_sub(seen.details.active_since_us) / 1000);
    Worker {
        uid: Uid { app: units.app.clone(), slot: instance.slot },
        app: units.app.clone(),
        slot: instance.slot.get(),
        generation: Some(instance.generation),
        pin: instance.pin,
        release: None,
        unit: Some(units.worker(&instance)),
        state: if crash_loop.is_some() { WorkerState::CrashLoop } else { state },
        pid: seen.details.main_pid,
        uptime_ms: up,
        restarts: seen.details.restarts,
        crash_loop,
        errors: None,
        warnings: None,
        memory_bytes: None,
        cpu_ms: None,
    }
}

fn absent(app: &AppName, slot: Slot, state: WorkerState) -> Worker {
    Worker {
        uid: Uid { app: app.clone(), slot },
        app: app.clone(),
        slot: slot.get(),
        generation: None,
        pin: None,
        release: None,
        unit: None,
        state,
        pid: None,
        uptime_ms: None,
        restarts: 0,
        crash_loop: None,
        errors: None,
        warnings: None,
        memory_bytes: None,
        cpu_ms: None,
    }
}

/// Completes rows by what their control groups use: nothing tells when that changes.
pub fn measure(rows: &mut [Worker], world: &World, usages: &mut Usages) {
    for row in rows {
        if let Some(seen) = row.unit.as_ref().and_then(|unit| world.get(unit)) {
            let usage = usages.of(&seen.details.control_group);
            (row.memory_bytes, row.cpu_ms) = (usage.memory, usage.cpu_ms);
        }
    }
}

/// The socket units of an app and whether they listen.
pub fn sockets(world: &World, units: &AppUnits<'_>, settings: &settings::App) -> Vec<Socket> {
    let socket = |listen: &settings::Listen| {
        let unit = units.socket(&listen.address);
        Socket { address: listen.address.to_string(), active: world.active(&unit) == ActiveState::Active, unit }
    };
    settings.listen.iter().map(socket).collect()
}

/// An app as a whole, where so many workers are configured; `crashes` is the directory of root's
/// counts. Without what its generations tell (`apply`), and what its workers use ([`measure`]).
pub fn app(
    world: &World,
    units: &AppUnits<'_>,
    settings: &settings::App,
    configured: u16,
    intent: &AppIntent,
    roll: Option<Roll>,
    crashes: &Path,
) -> App {
    let target = u16::try_from(intent.wanted(configured).len()).unwrap_or(u16::MAX);
    let looping = |instance: &Instance, seen: &Seen| loops::of(crashes, instance, seen, settings.timeout.restart);
    let workers = workers(world, units, &intent.slots(configured), &intent.stopped, looping);
    let sockets = sockets(world, units, settings);
    let up = !sockets.is_empty() && sockets.iter().all(|socket| socket.active);
    let rolling = roll.as_ref().is_some_and(Roll::under_way);
    App {
        name: units.app.clone(),
        state: world.app_state(units, target, rolling, settings.on_demand, up),
        target,
        ready: world.ready(units),
        configured,
        on_demand: settings.on_demand,
        generation: intent.generation,
        pin: intent.pin,
        release: None,
        past: Vec::new(),
        rolled_back: None,
        latest: None,
        changed: None,
        revisions: Revisions::default(),
        held: intent.held.clone(),
        command: settings.command.clone(),
        cwd: settings.cwd.display().to_string(),
        user: match &settings.user {
            User::Own => "who owns the cluster".to_owned(),
            User::Dynamic(name) => format!("{name} (dynamic)"),
            User::Named { user, .. } => user.clone(),
        },
        sockets,
        handle: units.handle(),
        roll,
        masked: Vec::new(),
        outside: Vec::new(),
        crash_loop: loops::of_app(&workers),
        workers,
    }
}
