//! What runs, as systemd last told: the master's view of its own units, and how an app stands by it.
//!
//! Pure. `watch.rs` keeps it true; nothing is ever decided by it that systemd is not asked again for.

use std::collections::BTreeMap;

use crate::api::types::{AppState, WorkerState};
use crate::config::settings::Settings;
use crate::names::{AppName, AppUnits, Generation, Instance};
use crate::roll::{execute, stage};
use crate::systemd::{ActiveState, Details, UnitState};

/// A unit as last seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its state.
    pub state: UnitState,
    /// More, for workers.
    pub details: Details,
    /// Whether it was up in the life that it has or is ending. A reading of its end alone cannot tell: the times in it
    /// may be those of its next start.
    pub served: bool,
}

impl Seen {
    fn new(before: Option<&Self>, state: UnitState, details: Details) -> Self {
        let served = match state.active {
            ActiveState::Active | ActiveState::Reloading => true,
            ActiveState::Deactivating => {
                before.is_some_and(|before| before.served || details.active_since_us > before.details.active_since_us)
                    || (details.active_since_us > 0 && details.active_since_us >= details.begun_us)
            }
            ActiveState::Activating | ActiveState::Inactive | ActiveState::Failed => false,
        };
        Self { state, details, served }
    }
}

/// Which of our units it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A worker.
    Worker(Instance),
    /// `NAME@APP.service`.
    Handle,
    /// `NAME-first@APP.service`.
    Trigger,
    /// One of its socket units.
    Socket,
}

/// Whether it was the stop of a failed handle that failed: its main process is the start step, and that went well.
pub fn stop_failed(handle: &Details) -> bool {
    handle.exit_status == 0 && !handle.by_signal
}

/// Every loaded unit of the cluster.
#[derive(Debug, Clone, Default)]
pub struct World {
    units: BTreeMap<String, Seen>,
}

/// The globs that match every unit of the cluster's apps.
pub fn patterns(settings: &Settings) -> Vec<String> {
    let mut patterns = Vec::new();
    for (name, app) in &settings.apps {
        let units = AppUnits::new(&settings.name, name);
        patterns.extend([units.worker_glob(), units.handle(), units.trigger()]);
        patterns.extend(app.listen.iter().map(|listen| units.socket(&listen.address)));
    }
    patterns
}

/// Whose unit this is.
pub fn owner<'a>(settings: &'a Settings, unit: &str) -> Option<(&'a AppName, Kind)> {
    settings.apps.iter().find_map(|(name, app)| {
        let units = AppUnits::new(&settings.name, name);
        let kind = if let Some(instance) = units.instance(unit) {
            Kind::Worker(instance)
        } else if unit == units.handle() {
            Kind::Handle
        } else if unit == units.trigger() {
            Kind::Trigger
        } else if app.listen.iter().any(|listen| units.socket(&listen.address) == unit) {
            Kind::Socket
        } else {
            return None;
        };
        Some((name, kind))
    })
}

impl World {
    /// Takes what was just read: `asked` are the units that were asked for (all when none), `rows` what is loaded.
    pub fn update(&mut self, asked: Option<&[String]>, rows: Vec<(UnitState, Details)>) {
        let before: BTreeMap<String, Seen> = match asked {
            None => std::mem::take(&mut self.units),
            Some(names) => names.iter().filter_map(|name| self.units.remove_entry(name)).collect(),
        };
        for (state, details) in rows {
            let seen = Seen::new(before.get(&state.name), state, details);
            self.units.insert(seen.state.name.clone(), seen);
        }
    }

    /// The units that stand otherwise than these rows, a whole reading, say; also those that come or go by it.
    pub fn differing(&self, rows: &[UnitState]) -> Vec<String> {
        let changed = rows.iter().filter(|row| self.units.get(&row.name).is_none_or(|seen| seen.state != **row));
        let gone = self.units.keys().filter(|name| !rows.iter().any(|row| row.name == **name));
        changed.map(|row| &row.name).chain(gone).cloned().collect()
    }

    /// The names of all that are loaded.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.units.keys()
    }

    /// One unit.
    pub fn get(&self, unit: &str) -> Option<&Seen> {
        self.units.get(unit)
    }

    /// State of one unit; one that is not loaded is inactive.
    pub fn active(&self, unit: &str) -> ActiveState {
        self.units.get(unit).map_or(ActiveState::Inactive, |seen| seen.state.active)
    }

    /// The workers of an app that are loaded, by slot, then generation.
    pub fn workers(&self, units: &AppUnits<'_>) -> Vec<(Instance, &Seen)> {
        let mut workers: Vec<_> =
            self.units.iter().filter_map(|(name, seen)| units.instance(name).map(|instance| (instance, seen))).collect();
        workers.sort_by_key(|(instance, _)| *instance);
        workers
    }

    /// The workers of an app as a roll wants to know them.
    pub fn sights(&self, units: &AppUnits<'_>) -> stage::World {
        self.workers(units).into_iter().map(|(instance, seen)| (instance, execute::sight(&seen.state))).collect()
    }

    /// How an app stands.
    pub fn app_state(&self, units: &AppUnits<'_>, target: u16, rolling: bool, on_demand: bool, sockets_up: bool) -> AppState {
        let ready = self.ready(units);
        match self.active(&units.handle()) {
            ActiveState::Failed => AppState::Failed,
            ActiveState::Activating => AppState::Starting,
            ActiveState::Deactivating => AppState::Stopping,
            ActiveState::Inactive if on_demand && sockets_up => AppState::Sleeping,
            ActiveState::Inactive => AppState::Stopped,
            _ if rolling => AppState::Rolling,
            _ if target == 0 && ready == 0 => AppState::Stopped,
            ActiveState::Active | ActiveState::Reloading if ready >= target => AppState::Running,
            ActiveState::Active | ActiveState::Reloading => AppState::Degraded,
        }
    }

    /// The generation and its pin, where all slots are served and every worker that is up is of that one.
    pub fn one_version(&self, units: &AppUnits<'_>, target: usize) -> Option<(Generation, Option<Generation>)> {
        let up = |seen: &Seen| matches!(seen.state.active, ActiveState::Active | ActiveState::Reloading);
        let workers = self.workers(units);
        let mut versions = workers.iter().filter(|(_, seen)| up(seen)).map(|(instance, _)| (instance.generation, instance.pin));
        let first = versions.next()?;
        let served = 1 + versions.clone().count();
        let whole = versions.clone().all(|(generation, _)| generation == first.0) && served >= target;
        // A worker that a start by its own pin's name brought up is of the same generation.
        whole.then(|| (first.0, versions.fold(first.1, |pin, (_, other)| pin.or(other))))
    }

    /// How many workers of an app are ready.
    pub fn ready(&self, units: &AppUnits<'_>) -> u16 {
        let online = |seen: &Seen| WorkerState::of(seen.state.active, &seen.state.sub) == WorkerState::Online;
        u16::try_from(self.workers(units).iter().filter(|(_, seen)| online(seen)).count()).unwrap_or(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{AppName, ClusterName};

    fn row(name: &str, active: ActiveState, sub: &str) -> (UnitState, Details) {
        (UnitState { name: name.into(), active, sub: sub.into(), job: None, masked: false, gone: false }, Details::default())
    }

    fn up(instance: &str) -> (UnitState, Details) {
        row(&format!("project-cluster-api@{instance}.service"), ActiveState::Active, "running")
    }

    /// A world of these units, and what it says of the app `api` of two workers.
    fn world(rows: &[(UnitState, Details)]) -> World {
        let mut world = World::default();
        world.update(None, rows.to_vec());
        world
    }

    #[test]
    fn only_a_whole_set_of_one_version_is_adopted() {
        let (cluster, app): (ClusterName, AppName) = (ClusterName::default(), "api".parse().unwrap());
        let units = AppUnits::new(&cluster, &app);
        let version = |rows: &[(UnitState, Details)]| world(rows).one_version(&units, 2);
        assert_eq!(version(&[up("1.7.1"), up("2.7.3")]), Some((Generation(7), None)));
        assert_eq!(version(&[up("1.8-7.1"), up("2.8-7.1")]), Some((Generation(8), Some(Generation(7)))));
        assert_eq!(version(&[up("1.8.1"), up("2.8-7.1")]), Some((Generation(8), Some(Generation(7)))));
        assert_eq!(version(&[up("1.7.1"), up("2.8.1")]), None, "a mix");
        assert_eq!(version(&[up("1.7.1")]), None, "one is missing");
        assert_eq!(version(&[]), None);
        // One on its way down does not count, another app's neither.
        let leaving = row("project-cluster-api@1.6.1.service", ActiveState::Deactivating, "stop-sigterm");
        let other = row("project-cluster-bg@1.9.1.service", ActiveState::Active, "running");
        assert_eq!(version(&[up("1.7.1"), up("2.7.1"), leaving, other]), Some((Generation(7), None)));
    }

    #[test]
    fn the_handle_decides_how_an_app_stands() {
        let (cluster, app): (ClusterName, AppName) = (ClusterName::default(), "api".parse().unwrap());
        let units = AppUnits::new(&cluster, &app);
        let state = |handle: ActiveState, workers: &[&str], rolling: bool, on_demand: bool| {
            let mut rows: Vec<_> = workers.iter().map(|worker| up(worker)).collect();
            rows.push(row("project-cluster@api.service", handle, "exited"));
            world(&rows).app_state(&units, 2, rolling, on_demand, true)
        };
        let both = ["1.1.1", "2.1.1"];
        assert_eq!(state(ActiveState::Active, &both, false, false), AppState::Running);
        assert_eq!(state(ActiveState::Reloading, &both, true, false), AppState::Rolling);
        assert_eq!(state(ActiveState::Active, &both[..1], false, false), AppState::Degraded);
        assert_eq!(state(ActiveState::Activating, &[], false, false), AppState::Starting);
        assert_eq!(state(ActiveState::Deactivating, &both, true, false), AppState::Stopping);
        assert_eq!(state(ActiveState::Failed, &[], false, true), AppState::Failed);
        assert_eq!(state(ActiveState::Inactive, &[], false, true), AppState::Sleeping);
        assert_eq!(state(ActiveState::Inactive, &[], false, false), AppState::Stopped);
    }

    #[test]
    fn a_reading_differs_by_what_changed_came_or_went() {
        let world = world(&[up("1.1.1"), up("2.1.1"), up("3.1.1")]);
        let states = |rows: Vec<(UnitState, Details)>| rows.into_iter().map(|row| row.0).collect::<Vec<_>>();
        assert_eq!(world.differing(&states(vec![up("1.1.1"), up("2.1.1"), up("3.1.1")])), Vec::<String>::new());
        let failed = row("project-cluster-api@2.1.1.service", ActiveState::Failed, "failed");
        let mut differing = world.differing(&states(vec![up("1.1.1"), failed, up("4.1.1")]));
        differing.sort_unstable();
        assert_eq!(differing, ["2.1.1", "3.1.1", "4.1.1"].map(|instance| format!("project-cluster-api@{instance}.service")));
    }
}
