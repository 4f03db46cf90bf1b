//! From two readings of the world to what happened between them.
//!
//! Pure. It must not know how events are kept or told. An event of which nobody can say by whom says nothing of it.

use std::collections::{BTreeMap, BTreeSet};

use super::asked::{Ledger, Who};
use super::life::{End, Phase, Turn, turns};
use crate::api::events::{By, Cause, Happening, Kind};
use crate::config::settings::Settings;
use crate::master::world::{self, Kind as Unit, Seen, World};
use crate::names::{AppName, AppUnits, Instance, Slot, Uid, anew};
use crate::roll::words;
use crate::systemd::ActiveState;

/// All that it goes by.
#[derive(Debug)]
pub struct Scene<'a> {
    /// Which units are whose.
    pub settings: &'a Settings,
    /// The reading of before.
    pub before: &'a World,
    /// That of now.
    pub after: &'a World,
    /// What was asked for here.
    pub asked: &'a Ledger,
}

/// What happened.
#[derive(Debug, Default)]
pub struct Told {
    /// In an order in which it can have happened: apps that leave, workers, apps that came.
    pub happenings: Vec<Happening>,
    /// Workers that were stopped while their app is up and nobody here asked for it.
    pub strays: Vec<(AppName, Instance)>,
    /// Workers that were started so.
    pub returned: Vec<(AppName, Instance)>,
}

/// An app's handle between the two.
#[derive(Debug, Clone)]
struct Handle {
    from: Phase,
    to: Phase,
    /// Up in both, and all the while, with nobody asking for its stop.
    steady: bool,
    /// Who moved it, where it moved.
    by: Option<Who>,
}

/// What happened between two readings.
pub fn between(scene: &Scene<'_>) -> Told {
    let mut told = Told::default();
    let mut came = Vec::new();
    let mut handles: BTreeMap<&AppName, Handle> = BTreeMap::new();
    for name in scene.settings.apps.keys() {
        let handle = scene.handle(name);
        let (left, up) = scene.app(name, &handle);
        told.happenings.extend(left);
        came.extend(up);
        handles.insert(name, handle);
    }
    let names: BTreeSet<&String> = scene.before.names().chain(scene.after.names()).collect();
    for unit in names {
        let Some((name, kind)) = world::owner(scene.settings, unit) else { continue };
        let Some(handle) = handles.get(name) else { continue };
        match kind {
            Unit::Worker(instance) => scene.worker(name, &instance, unit, handle, &mut told),
            Unit::Socket => told.happenings.extend(scene.socket(name, unit, handle)),
            Unit::Handle | Unit::Trigger => {}
        }
    }
    told.happenings.extend(came);
    told
}

impl Scene<'_> {
    fn units<'a>(&'a self, name: &'a AppName) -> AppUnits<'a> {
        AppUnits::new(&self.settings.name, name)
    }

    fn handle(&self, name: &AppName) -> Handle {
        let unit = self.units(name).handle();
        let (before, after) = (self.before.get(&unit), self.after.get(&unit));
        let (from, to) = (Phase::of(before), Phase::of(after));
        let since = |seen: Option<&Seen>| seen.map_or(0, |seen| seen.details.active_since_us);
        let ends = after.and_then(|seen| seen.state.job.as_deref()).is_some_and(|job| job == "stop" || job == "restart");
        let steady = from == Phase::Up && to == Phase::Up && since(before) == since(after) && !ends;
        let asked = self.asked.who(&unit, true).or_else(|| self.asked.who(&unit, false));
        // A connection is nobody's doing.
        let woken = Phase::of(self.after.get(&self.units(name).trigger())) == Phase::Up;
        let by = asked.or((!woken).then_some(Who::OUTSIDE));
        Handle { from, to, steady, by }
    }

    /// The events of an app: that of its leaving, that of its coming.
    fn app(&self, name: &AppName, handle: &Handle) -> (Option<Happening>, Option<Happening>) {
        let unit = self.units(name).handle();
        let event = |kind, text: String| Happening {
            app: Some(name.clone()),
            unit: Some(unit.clone()),
            by: handle.by.as_ref().map(|who| who.by),
            asked_by: handle.by.as_ref().and_then(|who| who.asked_by.clone()),
            ..Happening::new(kind, text)
        };
        let again = handle.from == Phase::Up && handle.to == Phase::Up && {
            let since = |world: &World| world.get(&unit).map_or(0, |seen| seen.details.active_since_us);
            since(self.before) != since(self.after)
        };
        let left = (handle.from == Phase::Up && (again || handle.to != Phase::Up)).then(|| event(Kind::Stop, format!("{name} is stopped")));
        let ready = self.after.ready(&self.units(name));
        let failed = |world: &World| world.active(&unit) == ActiveState::Failed;
        let came = match handle.to {
            Phase::Up if again || handle.from != Phase::Up => {
                let how = if handle.by.is_none() { ", woken by a connection" } else { "" };
                Some(event(Kind::Start, format!("{name} is up{how}: {ready} ready")))
            }
            Phase::Down if failed(self.after) && !failed(self.before) => {
                let stop = self.after.get(&unit).is_some_and(|handle| world::stop_failed(&handle.details));
                Some(if stop {
                    event(Kind::Stop, format!("the stop of {name} failed, some of it may still run. `project-cluster stop {name}`"))
                } else {
                    let listens = self.settings.apps.get(name).is_some_and(|app| !app.listen.is_empty());
                    let closed = if listens { ", its port is closed" } else { "" };
                    event(Kind::StartFailed, format!("the start of {name} failed{closed}. `project-cluster show {name}` says why"))
                })
            }
            _ => None,
        };
        (left, came)
    }

    fn socket(&self, name: &AppName, unit: &str, handle: &Handle) -> Option<Happening> {
        let was = Phase::of(self.before.get(unit)) == Phase::Up;
        let is = Phase::of(self.after.get(unit)) == Phase::Up;
        // As the app comes and goes, so do they.
        if was == is || !handle.steady {
            return None;
        }
        let asked = self.asked.who(unit, was).unwrap_or(Who::OUTSIDE);
        let (kind, text) = if is {
            (Kind::SocketUp, format!("{unit} of {name} listens again"))
        } else {
            let mend = anew(&self.units(name).handle());
            (Kind::SocketDown, format!("{unit} of {name} is down: new connections are refused. `{mend}`"))
        };
        Some(Happening {
            app: Some(name.clone()),
            unit: Some(unit.to_owned()),
            by: Some(asked.by),
            roll: asked.roll,
            asked_by: asked.asked_by,
            ..Happening::new(kind, text)
        })
    }

    fn worker(&self, name: &AppName, instance: &Instance, unit: &str, handle: &Handle, told: &mut Told) {
        let (before, after) = (self.before.get(unit), self.after.get(unit));
        let turns = turns(before, after);
        let uid = Uid { app: name.clone(), slot: instance.slot };
        let who = words::who(name, instance);
        // The last turn alone is the one whose end the reading shows.
        let last_end = turns.iter().rposition(|turn| *turn != Turn::Started);
        for (at, turn) in turns.iter().enumerate() {
            let stands = Phase::of(after) == Phase::Down && at + 1 == turns.len();
            let end = if Some(at) == last_end && at + 1 == turns.len() { End::of(after) } else { End::of(None) };
            let asked = self.asked.who(unit, *turn == Turn::Stopped);
            let by = match turn {
                // systemd's own restart is nobody's doing.
                Turn::Started if matches!(Phase::of(before), Phase::Waiting) || turns[..at].contains(&Turn::Restarted) => None,
                Turn::Started if asked.is_none() && after.is_some_and(|seen| seen.details.restarts > 0) => None,
                Turn::Started | Turn::Stopped if handle.steady => Some(asked.unwrap_or(Who::OUTSIDE)),
                Turn::Started | Turn::Stopped => asked.or_else(|| handle.by.clone()),
                Turn::Restarted => end.killed().then_some(Who::OUTSIDE),
                Turn::StartFailed => None,
            };
            let outside = by.as_ref().is_some_and(|who| who.by == By::Outside);
            let stray = *turn == Turn::Stopped && outside && handle.steady && stands && after.is_none_or(|seen| seen.state.job.is_none());
            let (kind, text) = match turn {
                Turn::Started => (Kind::WorkerStart, format!("{who} is ready")),
                Turn::Restarted => (Kind::WorkerRestart, format!("{who} ended ({}) and comes back", end.text)),
                Turn::StartFailed if stands => (Kind::WorkerStartFailed, format!("{who} did not get ready ({})", end.text)),
                Turn::StartFailed => (Kind::WorkerStartFailed, format!("{who} did not get ready ({}) and is tried again", end.text)),
                Turn::Stopped if stray => {
                    (Kind::WorkerStop, format!("{who} was stopped from outside. Start it: `project-cluster start {uid}`"))
                }
                Turn::Stopped if end.cause == Cause::Timeout => {
                    (Kind::WorkerStop, format!("{who} did not end within its `timeout.kill` and was killed"))
                }
                Turn::Stopped => (Kind::WorkerStop, format!("{who} has stopped")),
            };
            let ended = matches!(turn, Turn::Restarted | Turn::StartFailed) || end.cause == Cause::Timeout;
            if stray {
                told.strays.push((name.clone(), *instance));
            }
            if *turn == Turn::Started && outside && handle.steady {
                told.returned.push((name.clone(), *instance));
            }
            told.happenings.push(Happening {
                app: Some(name.clone()),
                uid: Some(uid.clone()),
                generation: Some(instance.generation),
                unit: Some(unit.to_owned()),
                by: by.as_ref().map(|who| who.by),
                cause: ended.then_some(end.cause),
                exit_code: end.exit_code.filter(|_| ended),
                signal: end.signal.filter(|_| ended),
                restarts: after.filter(|_| ended || *turn == Turn::Started).map(|seen| seen.details.restarts),
                roll: by.as_ref().and_then(|who| who.roll),
                asked_by: by.and_then(|who| who.asked_by),
                ..Happening::new(kind, text)
            });
        }
    }

    /// Whether an app is up now.
    pub fn is_up(&self, name: &AppName) -> bool {
        Phase::of(self.after.get(&self.units(name).handle())) == Phase::Up
    }

    /// The slots of an app of which some worker stands, is on its way up or will be restarted.
    pub fn served(&self, name: &AppName) -> BTreeSet<Slot> {
        let workers = self.after.workers(&self.units(name));
        let stands = |seen: &Seen| !matches!(Phase::of(Some(seen)), Phase::Down | Phase::Leaving);
        workers.into_iter().filter(|(_, seen)| stands(seen)).map(|(instance, _)| instance.slot).collect()
    }
}
