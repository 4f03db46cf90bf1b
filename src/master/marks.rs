//! What `ls` and `show` mark of an app beside how it stands: who is on the way down for another, what is masked, who was
//! stopped from outside.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::events::Stray;
use super::world::World;
use crate::api::types::{App, Outside, WorkerState};
use crate::names::{AppUnits, Slot, Uid};

/// Marks an app as it was made from the world.
pub fn mark(app: &mut App, world: &World, units: &AppUnits<'_>, strays: &BTreeMap<Slot, Stray>) {
    let stands = |state| matches!(state, WorkerState::Starting | WorkerState::Online | WorkerState::Restarting);
    let served: BTreeSet<u16> = app.workers.iter().filter(|row| stands(row.state)).map(|row| row.slot).collect();
    for row in &mut app.workers {
        if row.state == WorkerState::Stopping && served.contains(&row.slot) {
            row.state = WorkerState::Retiring;
        }
    }
    let sockets = app.sockets.iter().map(|socket| socket.unit.clone());
    let workers = world.workers(units).into_iter().map(|(instance, _)| units.worker(&instance));
    let is_masked = |unit: &String| world.get(unit).is_some_and(|seen| seen.state.masked);
    app.masked = [units.handle(), units.trigger()].into_iter().chain(sockets).chain(workers).filter(is_masked).collect();
    for (slot, stray) in strays {
        app.outside.push(Outside { uid: Uid { app: app.name.clone(), slot: *slot }, since_ms: stray.since_ms });
    }
}
