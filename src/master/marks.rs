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
    let stands = |state| matches!(state, WorkerState::Starting | WorkerState::Online | WorkerState::Restarting | WorkerState::CrashLoop);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Settings;
    use crate::intent::AppIntent;
    use crate::master::view;
    use crate::names::AppName;
    use crate::systemd::{ActiveState, Details, UnitState};

    #[test]
    fn who_retires_and_what_is_masked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.toml");
        std::fs::write(&path, "[apps.api]\nworkers = 2\ncommand = \"/bin/true\"\ncwd = \"/\"\nlisten = 3000\n").unwrap();
        let settings: Settings =
            crate::config::load(&path, &crate::config::SystemAccounts).unwrap_or_else(|problems| panic!("{problems}")).settings;
        let name: AppName = "api".parse().unwrap();
        let units = AppUnits::new(&settings.name, &name);
        let row = |unit: &str, active, sub: &str, masked| {
            (UnitState { name: unit.into(), active, sub: sub.into(), job: None, masked, gone: false }, Details::default())
        };
        let worker = |instance: &str| format!("project-cluster-api@{instance}.service");
        let mut world = World::default();
        world.update(
            None,
            vec![
                row(&units.handle(), ActiveState::Active, "exited", true),
                row(&worker("1.1.1"), ActiveState::Deactivating, "stop-sigterm", false),
                row(&worker("1.2.1"), ActiveState::Activating, "start-post", true),
                row(&worker("2.1.1"), ActiveState::Deactivating, "stop-sigterm", false),
            ],
        );
        let mut app = view::app(&world, &units, &settings.apps[&name], 2, &AppIntent::default(), None, directory.path());
        mark(&mut app, &world, &units, &BTreeMap::new());
        let states: Vec<WorkerState> = app.workers.iter().map(|row| row.state).collect();
        // Nobody stands in for the last one.
        assert_eq!(states, [WorkerState::Retiring, WorkerState::Starting, WorkerState::Stopping]);
        assert_eq!(app.masked, [units.handle(), worker("1.2.1")]);
    }
}
