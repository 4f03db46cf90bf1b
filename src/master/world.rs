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

/// Every loaded unit of the cluster.
#[derive(Debug, Default)]
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
        match asked {
            None => self.units.clear(),
            Some(names) => names.iter().for_each(|name| drop(self.units.remove(name))),
        }
        for (state, details) in rows {
            self.units.insert(state.name.clone(), Seen { state, details });
        }
    }

    /// The units that stand otherwise than these rows, a whole reading, say; also those that come or go by it.
    pub fn differing(&self, rows: &[UnitState]) -> Vec<String> {
        let changed = rows.iter().filter(|row| self.units.get(&row.name).is_none_or(|seen| seen.state != **row));
        let gone = self.units.keys().filter(|name| !rows.iter().any(|row| row.name == **name));
        changed.map(|row| &row.name).chain(gone).cloned().collect()
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
            ActiveState::Active | ActiveState::Reloading if ready >= target => AppState::Running,
            ActiveState::Active | ActiveState::Reloading => AppState::Degraded,
        }
    }

    /// The generation and its pin, where all slots are served and every worker that is up is of that one.
    pub fn one_version(&self, units: &AppUnits<'_>, target: u16) -> Option<(Generation, Option<Generation>)> {
        let up = |seen: &Seen| matches!(seen.state.active, ActiveState::Active | ActiveState::Reloading);
        let workers = self.workers(units);
        let mut versions = workers.iter().filter(|(_, seen)| up(seen)).map(|(instance, _)| (instance.generation, instance.pin));
        let first = versions.next()?;
        let served = 1 + versions.clone().count();
        (versions.all(|version| version == first) && served >= usize::from(target)).then_some(first)
    }

    /// How many workers of an app are ready.
    pub fn ready(&self, units: &AppUnits<'_>) -> u16 {
        let online = |seen: &Seen| WorkerState::of(seen.state.active, &seen.state.sub) == WorkerState::Online;
        u16::try_from(self.workers(units).iter().filter(|(_, seen)| online(seen)).count()).unwrap_or(u16::MAX)
    }
}
