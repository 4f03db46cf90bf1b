//! A systemd that behaves: units with states, jobs that merge and cancel each other, automatic restarts, time limits,
//! signals that get lost or come twice, a bus that goes away.
//!
//! It is told how *apps* behave ([`App`]), never what to answer. Time is tokio's, so that under a paused clock an hour
//! passes at once. It knows services with `Restart=always` and without start limit, as our workers are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::{ActiveState, Change, Details, Error, JobEnd, Systemd, UnitState, Verb};

/// How old an answer is when it arrives.
const LATENCY: Duration = Duration::from_millis(3);

/// What an app does when it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It is ready after this time.
    Ready(Duration),
    /// It exits with 1 after this time, before it was ready.
    Crash(Duration),
    /// It never gets ready.
    Never,
    /// A condition of its unit does not hold: the job is done, and nothing runs.
    Skipped,
}

/// One start of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct App {
    /// How it starts.
    pub start: Start,
    /// When, after it got ready, it exits with 1.
    pub crash_after: Option<Duration>,
    /// How long it takes to end after SIGTERM; none ignores it and waits for SIGKILL.
    pub stop: Option<Duration>,
}

impl App {
    /// Ready after `start`, ends 10 ms after SIGTERM.
    pub fn ready_after(start: Duration) -> Self {
        Self { start: Start::Ready(start), crash_after: None, stop: Some(Duration::from_millis(10)) }
    }
    /// Exits after `start`, before it was ready.
    pub fn crashing(start: Duration) -> Self {
        Self { start: Start::Crash(start), ..Self::ready_after(start) }
    }
}

/// What becomes of signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signals {
    /// They arrive.
    Kept,
    /// None arrives.
    Lost,
    /// Each arrives twice.
    Doubled,
}

/// The unit file's time limits.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// `TimeoutStartSec=`.
    pub start: Duration,
    /// `TimeoutStopSec=`.
    pub stop: Duration,
    /// `RestartSec=`.
    pub restart: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { start: Duration::from_secs(30), stop: Duration::from_secs(5), restart: Duration::from_millis(100) }
    }
}

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
    script: Script,
    times: Times,
    signals: Signals,
    refused: Vec<(Verb, String)>,
    calls: Vec<(Verb, String)>,
    trace: Vec<Trace>,
}

struct Unit {
    active: ActiveState,
    sub: &'static str,
    job: Option<Job>,
    app: App,
    /// Starts in all, by hand and automatic.
    starts: u32,
    /// Automatic ones since the last by hand.
    restarts: u32,
    result: &'static str,
    exit_status: i32,
    /// When it last became active, since the fake was made.
    since: Duration,
    /// Counts its changes, so that a timer of an earlier state does nothing.
    epoch: u64,
}

struct Job {
    verb: Verb,
    waiters: Vec<oneshot::Sender<JobEnd>>,
}

impl Unit {
    fn new() -> Self {
        Self {
            active: ActiveState::Inactive,
            sub: "dead",
            job: None,
            app: App::ready_after(Duration::ZERO),
            starts: 0,
            restarts: 0,
            result: "success",
            exit_status: 0,
            since: Duration::ZERO,
            epoch: 0,
        }
    }
    fn finish(&mut self, end: JobEnd) {
        for waiter in self.job.take().into_iter().flat_map(|job| job.waiters) {
            // Who asked may have gone; the job does not care.
            let _ = waiter.send(end);
        }
    }
    fn job_is(&self, verb: Verb) -> bool {
        self.job.as_ref().is_some_and(|job| job.verb == verb)
    }
}

impl Fake {
    /// A systemd without units; `script` tells how a unit's app behaves at its n-th start, from 1. Needs a tokio
    /// runtime.
    pub fn new(script: impl FnMut(&str, u32) -> App + Send + 'static) -> Self {
        let state = State {
            units: BTreeMap::new(),
            script: Box::new(script),
            times: Times::default(),
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
    /// The main process of a unit dies with 1.
    pub fn crash(&self, unit: &str) {
        let mut state = self.lock();
        if state.units.get(unit).is_some_and(|unit| matches!(unit.active, ActiveState::Active | ActiveState::Activating)) {
            self.crashed(&mut state, unit, "exit-code");
        }
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
            if active == ActiveState::Active && unit.active != active {
                unit.since = self.shared.born.elapsed();
            }
            (unit.active, unit.sub) = (active, sub);
            unit.epoch += 1;
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

    /// Does something to a unit after a while, unless it changes before.
    fn later(&self, state: &State, name: &str, after: Duration, what: fn(&Self, &mut State, &str)) {
        let (fake, name) = (self.clone(), name.to_owned());
        let epoch = |state: &State, name: &str| state.units.get(name).map(|unit| unit.epoch);
        let expected = epoch(state, &name);
        tokio::spawn(async move {
            sleep(after).await;
            let mut state = fake.lock();
            if epoch(&state, &name) == expected {
                what(&fake, &mut state, &name);
            }
        });
    }

    fn begin_start(&self, state: &mut State, name: &str) {
        let Some(unit) = state.units.get_mut(name) else { return };
        unit.starts += 1;
        unit.app = (state.script)(name, unit.starts);
        let start = unit.app.start;
        self.set(state, name, ActiveState::Activating, "start");
        let limit = state.times.start;
        match start {
            Start::Ready(after) if after < limit => self.later(state, name, after, Self::ready),
            Start::Crash(after) if after < limit => {
                self.later(state, name, after, |fake, state, name| fake.crashed(state, name, "exit-code"))
            }
            Start::Skipped => {
                self.set(state, name, ActiveState::Inactive, "dead");
                self.finish(state, name, JobEnd::Done);
            }
            _ => self.later(state, name, limit, |fake, state, name| fake.crashed(state, name, "timeout")),
        }
    }

    fn ready(&self, state: &mut State, name: &str) {
        self.set(state, name, ActiveState::Active, "running");
        self.finish(state, name, JobEnd::Done);
        if let Some(after) = state.units.get(name).and_then(|unit| unit.app.crash_after) {
            self.later(state, name, after, |fake, state, name| fake.crashed(state, name, "exit-code"));
        }
    }

    /// `Restart=always`: the job fails, the unit goes to auto-restart, never to `failed`. Its next start has a start
    /// job too, as on the real one, where a restart job turns into one.
    fn crashed(&self, state: &mut State, name: &str, result: &'static str) {
        if let Some(unit) = state.units.get_mut(name) {
            unit.result = result;
            unit.exit_status = if result == "timeout" { 15 } else { 1 };
        }
        self.set(state, name, ActiveState::Activating, "auto-restart");
        self.finish(state, name, JobEnd::Failed);
        self.later(state, name, state.times.restart, |fake, state, name| {
            if let Some(unit) = state.units.get_mut(name) {
                unit.restarts += 1;
                unit.job.get_or_insert(Job { verb: Verb::Start, waiters: Vec::new() });
            }
            fake.begin_start(state, name);
        });
    }

    fn begin_stop(&self, state: &mut State, name: &str) {
        let Some(unit) = state.units.get(name) else { return };
        match (unit.active, unit.sub) {
            (ActiveState::Deactivating, _) => {}
            (ActiveState::Inactive | ActiveState::Failed, _) | (_, "auto-restart") => self.stopped(state, name, ActiveState::Inactive),
            _ => {
                let stop = unit.app.stop.filter(|after| *after < state.times.stop);
                self.set(state, name, ActiveState::Deactivating, "stop-sigterm");
                match stop {
                    Some(after) => self.later(state, name, after, |fake, state, name| fake.stopped(state, name, ActiveState::Inactive)),
                    None => self.later(state, name, state.times.stop, |fake, state, name| fake.stopped(state, name, ActiveState::Failed)),
                }
            }
        }
    }

    fn stopped(&self, state: &mut State, name: &str, active: ActiveState) {
        if let Some(unit) = state.units.get_mut(name) {
            (unit.result, unit.exit_status) = if active == ActiveState::Failed { ("timeout", 9) } else { ("success", 0) };
        }
        self.set(state, name, active, if active == ActiveState::Failed { "failed" } else { "dead" });
        match state.units.get(name).and_then(|unit| unit.job.as_ref()).map(|job| job.verb) {
            Some(Verb::Stop) => self.finish(state, name, JobEnd::Done),
            Some(Verb::Start | Verb::Restart) => self.begin_start(state, name),
            None => {}
        }
    }

    fn finish(&self, state: &mut State, name: &str, end: JobEnd) {
        if let Some(unit) = state.units.get_mut(name) {
            unit.finish(end);
        }
    }

    /// Mode `replace`: the same job is joined, another one is cancelled. What waits for its end comes back.
    fn enqueue(&self, verb: Verb, name: &str) -> oneshot::Receiver<JobEnd> {
        let (tell, told) = oneshot::channel();
        let mut state = self.lock();
        let unit = state.units.entry(name.into()).or_insert_with(Unit::new);
        if unit.job_is(verb) {
            if let Some(job) = &mut unit.job {
                job.waiters.push(tell);
            }
            return told;
        }
        unit.finish(JobEnd::Canceled);
        unit.job = Some(Job { verb, waiters: vec![tell] });
        match (verb, unit.active) {
            (Verb::Start, ActiveState::Active | ActiveState::Reloading) => unit.finish(JobEnd::Done),
            // It waits until the unit is down.
            (Verb::Start, ActiveState::Deactivating) => {}
            (Verb::Start, _) | (Verb::Restart, ActiveState::Inactive | ActiveState::Failed) => {
                unit.restarts = 0;
                self.begin_start(&mut state, name);
            }
            (Verb::Stop | Verb::Restart, _) => self.begin_stop(&mut state, name),
        }
        told
    }

    fn rows(&self, patterns: &[String]) -> Vec<UnitState> {
        let state = self.lock();
        // What is inactive and has no job is not loaded.
        let loaded = state.units.iter().filter(|(_, unit)| unit.active != ActiveState::Inactive || unit.job.is_some());
        let row = |(name, unit): (&String, &Unit)| UnitState {
            name: name.clone(),
            active: unit.active,
            sub: unit.sub.into(),
            job: unit.job.as_ref().map(|job| job.verb.to_string()),
            masked: false,
        };
        loaded.filter(|(name, _)| patterns.iter().any(|glob| matches(glob, name))).map(row).collect()
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
        let Some(unit) = state.units.get(unit) else { return Ok(Details { result: "success".into(), ..Details::default() }) };
        Ok(Details {
            restarts: unit.restarts,
            result: unit.result.into(),
            exit_status: unit.exit_status,
            by_signal: unit.result == "timeout",
            ..Details::default()
        })
    }

    async fn active_since(&self, unit: &str) -> Result<u64, Error> {
        self.reach()?;
        Ok(self.lock().units.get(unit).map_or(0, |unit| u64::try_from(unit.since.as_micros()).unwrap_or(u64::MAX)))
    }

    async fn job(&self, verb: Verb, unit: &str, limit: Duration) -> Result<JobEnd, Error> {
        self.reach()?;
        let what = format!("{verb} {unit}");
        self.lock().calls.push((verb, unit.into()));
        if self.lock().refused.contains(&(verb, unit.into())) {
            return Err(Error::Refused { what, why: "org.freedesktop.DBus.Error.AccessDenied".into() });
        }
        let told = self.enqueue(verb, unit);
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
        if state.units.get(name).is_some_and(|unit| unit.active == ActiveState::Failed) {
            self.set(&mut state, name, ActiveState::Inactive, "dead");
        }
        Ok(())
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }
}

#[cfg(test)]
mod tests;
