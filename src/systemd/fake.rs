//! A systemd that behaves: units with states, jobs that merge and cancel each other, automatic restarts, start limits,
//! time limits, masked units, signals that get lost or come twice, a bus that goes away.
//!
//! It is told how *apps* behave ([`App`]) and what unit files say ([`Service`]), never what to answer. Time is tokio's,
//! so that under a paused clock an hour passes at once. It must not know what our units are for.
//!
//! | file | |
//! |---|---|
//! | `told` | what it is told |
//! | `unit` | one unit, its job, what is read of it |
//! | `life` | how a unit goes from state to state, by jobs and by itself |
//!
//! A unit that is inactive and has no job is unloaded at once, with its counters. A real one stays loaded, too, as long
//! as a loaded unit refers to it: handles do by their target, sockets by their handle.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep, timeout};

pub use self::told::{App, Kind, Service, Signals, Start, Times};
use self::unit::Unit;
use super::{ActiveState, Change, Details, Error, JobEnd, Systemd, UnitState, Verb, refusal};

mod life;
mod told;
mod unit;

/// How old an answer is when it arrives.
const LATENCY: Duration = Duration::from_millis(3);

/// One change of state: when, which unit, `active/running` for example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Since the fake was made.
    pub at: Duration,
    /// The unit.
    pub unit: String,
    /// Its state and sub-state.
    pub state: String,
}

/// The fake. Clones are the same systemd.
#[derive(Clone)]
pub struct Fake {
    shared: Arc<Shared>,
}

type Script = Box<dyn FnMut(&str, u32) -> App + Send>;

struct Shared {
    state: Mutex<State>,
    changes: broadcast::Sender<Change>,
    bus: watch::Sender<bool>,
    born: Instant,
}

struct State {
    units: BTreeMap<String, Unit>,
    files: BTreeMap<String, Service>,
    script: Script,
    times: Times,
    hurries: bool,
    signals: Signals,
    refused: Vec<(Verb, String)>,
    calls: Vec<(Verb, String)>,
    trace: Vec<Trace>,
}

impl State {
    /// A unit, loaded where it was not.
    fn unit(&mut self, name: &str) -> &mut Unit {
        let file = || self.files.get(name).cloned().unwrap_or(Service::WORKER);
        self.units.entry(name.into()).or_insert_with(|| Unit::new(file()))
    }
}

impl Fake {
    /// A systemd without units; `script` tells how a unit's app behaves at its n-th start, from 1. Needs a tokio
    /// runtime.
    pub fn new(script: impl FnMut(&str, u32) -> App + Send + 'static) -> Self {
        let state = State {
            units: BTreeMap::new(),
            files: BTreeMap::new(),
            script: Box::new(script),
            times: Times::default(),
            hurries: false,
            signals: Signals::Kept,
            refused: Vec::new(),
            calls: Vec::new(),
            trace: Vec::new(),
        };
        // Small on purpose: a receiver that does not listen lags behind, as on a busy bus.
        let shared =
            Shared { state: Mutex::new(state), changes: broadcast::Sender::new(64), bus: watch::Sender::new(true), born: Instant::now() };
        Self { shared: Arc::new(shared) }
    }

    /// Sets the time limits of all units, for starts and stops to come.
    pub fn set_times(&self, times: Times) {
        self.lock().times = times;
    }
    /// Sets whether a start by hand ends the delay of an automatic restart, as in systemd 257, or waits for its end, as in
    /// 252 and here until told otherwise.
    pub fn set_hurries(&self, hurries: bool) {
        self.lock().hurries = hurries;
    }
    /// Sets what becomes of signals.
    pub fn set_signals(&self, signals: Signals) {
        self.lock().signals = signals;
    }
    /// Refuses a verb on a unit from now on, as polkit does.
    pub fn refuse(&self, verb: Verb, unit: &str) {
        self.lock().refused.push((verb, unit.into()));
    }
    /// Takes the bus away or gives it back. Jobs go on meanwhile; who waits for one is told that he will not hear.
    pub fn set_reachable(&self, reachable: bool) {
        self.shared.bus.send_replace(reachable);
        if reachable {
            self.send(Change::All);
        }
    }
    /// Tells of a change that was none.
    pub fn rumour(&self, unit: &str) {
        self.send(Change::Unit(unit.into()));
    }
    /// What a daemon-reload looks like from outside: everything seems to go and come.
    pub fn daemon_reload(&self) {
        let names: Vec<String> = self.lock().units.keys().cloned().collect();
        for name in names.iter().chain(&names) {
            self.send(Change::Unit(name.clone()));
        }
        self.send(Change::All);
    }
    /// Says what a unit's file says, before its first start; one that nobody defines is a [`Service::WORKER`].
    pub fn define(&self, unit: &str, service: Service) {
        self.lock().files.insert(unit.into(), service);
    }
    /// The main process of a unit, where one runs, exits with 1.
    pub fn crash(&self, unit: &str) {
        let mut state = self.lock();
        if state.unit(unit).has_process() {
            self.crashed(&mut state, unit);
        }
    }
    /// The main process of a unit, where one runs, is killed by SIGKILL.
    pub fn kill(&self, unit: &str) {
        let mut state = self.lock();
        if state.unit(unit).has_process() {
            self.process_ends(&mut state, unit, "signal", 9, true);
        }
    }
    /// Somebody asks for a reload of a handle.
    pub fn reload(&self, unit: &str) {
        // Nobody here waits for its end.
        drop(self.enqueue(&mut self.lock(), Verb::Reload, unit));
    }
    /// Masks a unit, or unmasks it; what runs goes on.
    pub fn mask(&self, unit: &str, on: bool) {
        self.lock().unit(unit).masked = on;
        self.daemon_reload();
    }
    /// Deletes a unit's file; what runs goes on.
    pub fn delete(&self, unit: &str) {
        let mut state = self.lock();
        state.files.insert(unit.into(), Service { kind: Kind::Missing, ..Service::WORKER });
        state.unit(unit).gone = true;
        drop(state);
        self.daemon_reload();
    }
    /// From now on, and until its next start, the app of a running unit behaves like this.
    pub fn turn_into(&self, unit: &str, app: App) {
        if let Some(unit) = self.lock().units.get_mut(unit) {
            unit.app = app;
        }
    }
    /// State of a unit, as `active/running`.
    pub fn state(&self, unit: &str) -> String {
        self.lock().units.get(unit).map_or_else(|| "inactive/dead".into(), |unit| format!("{}/{}", unit.active, unit.sub))
    }
    /// The units that are active.
    pub fn active(&self) -> Vec<String> {
        let state = self.lock();
        state.units.iter().filter(|(_, unit)| unit.active == ActiveState::Active).map(|(name, _)| name.clone()).collect()
    }
    /// All jobs that were asked for so far, refused ones too, in order.
    pub fn calls(&self) -> Vec<(Verb, String)> {
        self.lock().calls.clone()
    }
    /// All changes of state so far, in order.
    pub fn trace(&self) -> Vec<Trace> {
        self.lock().trace.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, change: Change) {
        // Nobody may be listening.
        let _ = self.shared.changes.send(change);
    }

    /// Moves a unit and tells it.
    fn set(&self, state: &mut State, name: &str, active: ActiveState, sub: &'static str) {
        if let Some(unit) = state.units.get_mut(name) {
            if active == ActiveState::Active && !matches!(unit.active, ActiveState::Active | ActiveState::Reloading) {
                unit.since = self.shared.born.elapsed();
            }
            (unit.active, unit.sub) = (active, sub);
            unit.epoch += 1;
            unit.forget_if_unloaded();
        }
        state.trace.push(Trace { at: self.shared.born.elapsed(), unit: name.into(), state: format!("{active}/{sub}") });
        let times = match state.signals {
            Signals::Kept => 1,
            Signals::Lost => 0,
            Signals::Doubled => 2,
        };
        for _ in 0..times {
            self.send(Change::Unit(name.into()));
        }
    }

    fn rows(&self, patterns: &[String]) -> Vec<UnitState> {
        let state = self.lock();
        let loaded = state.units.iter().filter(|(_, unit)| unit.is_loaded());
        loaded.filter(|(name, _)| patterns.iter().any(|glob| matches(glob, name))).map(|(name, unit)| unit.row(name)).collect()
    }

    /// What systemd says before it makes a job.
    fn refusal(&self, verb: Verb, name: &str) -> Option<String> {
        let mut state = self.lock();
        state.calls.push((verb, name.into()));
        if state.refused.contains(&(verb, name.into())) {
            return Some(refusal::told("org.freedesktop.DBus.Error.AccessDenied", "Access denied"));
        }
        let unit = state.unit(name);
        match (verb, unit.masked, &unit.service.kind) {
            (Verb::Reload, ..) if unit.job.as_ref().is_some_and(|job| matches!(job.task, Verb::Stop | Verb::Restart)) => {
                let why = format!("Transaction for {name} is destructive.");
                Some(refusal::told("org.freedesktop.systemd1.TransactionIsDestructive", &why))
            }
            (Verb::Start | Verb::Restart | Verb::Reload, true, _) => {
                Some(refusal::told("org.freedesktop.systemd1.UnitMasked", &format!("Unit {name} is masked.")))
            }
            (Verb::Start | Verb::Restart, ..) if unit.gone || unit.service.kind == Kind::Missing => {
                Some(refusal::told("org.freedesktop.systemd1.NoSuchUnit", &format!("Unit {name} not found.")))
            }
            _ => None,
        }
    }

    fn reach(&self) -> Result<(), Error> {
        if *self.shared.bus.borrow() { Ok(()) } else { Err(gone()) }
    }
}

fn gone() -> Error {
    Error::Unreachable("the bus is away".into())
}

/// `*` stands for any text, once; all that our globs need.
fn matches(glob: &str, name: &str) -> bool {
    match glob.split_once('*') {
        Some((head, tail)) => name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail),
        None => glob == name,
    }
}

impl Systemd for Fake {
    async fn units(&self, patterns: &[String]) -> Result<Vec<UnitState>, Error> {
        self.reach()?;
        let rows = self.rows(patterns);
        sleep(LATENCY).await;
        self.reach()?;
        Ok(rows)
    }

    async fn details(&self, unit: &str) -> Result<Details, Error> {
        self.reach()?;
        let state = self.lock();
        Ok(state.units.get(unit).map_or_else(|| Unit::new(Service::WORKER).details(), Unit::details))
    }

    async fn active_since(&self, unit: &str) -> Result<u64, Error> {
        self.reach()?;
        Ok(self.lock().units.get(unit).map_or(0, |unit| u64::try_from(unit.since.as_micros()).unwrap_or(u64::MAX)))
    }

    async fn job(&self, verb: Verb, unit: &str, limit: Duration) -> Result<JobEnd, Error> {
        self.reach()?;
        let what = format!("{verb} {unit}");
        if let Some(why) = self.refusal(verb, unit) {
            return Err(Error::Refused { what, why });
        }
        let told = self.enqueue(&mut self.lock(), verb, unit);
        let mut bus = self.shared.bus.subscribe();
        tokio::select! {
            biased;
            end = timeout(limit, told) => match end {
                Ok(end) => end.map_err(|_| gone()),
                Err(_) => Err(Error::Deadline { what, limit }),
            },
            _ = bus.wait_for(|reachable| !reachable) => Err(gone()),
        }
    }

    async fn reset_failed(&self, name: &str) -> Result<(), Error> {
        self.reach()?;
        let mut state = self.lock();
        let Some(unit) = state.units.get_mut(name) else { return Ok(()) };
        (unit.result, unit.restarts, unit.by_hand) = ("success", 0, false);
        unit.counted.clear();
        if unit.active == ActiveState::Failed {
            self.set(&mut state, name, ActiveState::Inactive, "dead");
        }
        Ok(())
    }

    async fn settle(&self) -> Result<(), Error> {
        self.reach()?;
        sleep(LATENCY).await;
        self.reach()
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }
}

#[cfg(test)]
mod tests;
