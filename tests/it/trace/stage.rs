//! What a scenario plays on, and what is written down of it.
//!
//! A *trace* is, per unit, the sequence of its different states (`activating/start-post start`: state, sub-state, job)
//! as read through the trait, and beside it a script: how each job that was asked for ended, and what a scenario notes.
//!
//! One thing is left out, because it depends on when somebody looks: *passing* states, in which a unit is for as long
//! as PID 1 needs for its next turn, or a helper for an exit (`inactive` between the two halves of a restart,
//! `failed-before-auto-restart`). A state counts when three readings in a row show it, each asked for when the
//! one before was answered and a pause was over: so it lasted longer than two pauses. Every state that a scenario is
//! about lasts a [`phase`], many times as long, so that neither a busy machine nor signals that come as one hide it.
//! Two never count, since they are forks that take their time on a busy machine: `start-pre`, and `start` of a unit whose
//! start is over when its program runs (`Type=exec`; of others it is the time until they are ready).
//! For the same reason a unit that is not loaded counts as `inactive/dead`: systemd forgets it when it comes to that.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use project_cluster::systemd::fake::Kind;
use project_cluster::systemd::{Error, JobEnd, Systemd, UnitState, Verb};
use tokio::time::{Instant, sleep};

use super::ground::{Hand, Unit};

/// How long a state lasts that a scenario is about.
pub fn phase() -> Duration {
    Duration::from_millis(PHASE_MS.load(Ordering::Relaxed))
}

/// Longer on a machine that has shown to be too busy.
pub static PHASE_MS: AtomicU64 = AtomicU64::new(800);

/// Between two readings.
const PAUSE: Duration = Duration::from_millis(50);
/// So many readings show a state that lasts.
const READINGS: u32 = 3;
/// Longer than anything here takes.
pub const LONG: Duration = Duration::from_secs(60);

const NOTHING: &str = "inactive/dead";

type Play<S, H> = Box<dyn FnOnce(Stage<S, H>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A scenario: its units, and what is done with them.
pub struct Scenario<S, H> {
    pub name: &'static str,
    pub units: Vec<Unit>,
    play: Play<S, H>,
}

impl<S, H> Scenario<S, H> {
    pub fn new<F>(name: &'static str, units: Vec<Unit>, play: impl FnOnce(Stage<S, H>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self { name, units, play: Box::new(move |stage| Box::pin(play(stage))) }
    }
}

/// Where a scenario plays.
pub struct Stage<S, H> {
    pub systemd: Arc<S>,
    pub hand: Arc<H>,
    name: &'static str,
    script: Arc<Mutex<Vec<String>>>,
}

impl<S, H> Clone for Stage<S, H> {
    fn clone(&self) -> Self {
        Self { systemd: Arc::clone(&self.systemd), hand: Arc::clone(&self.hand), name: self.name, script: Arc::clone(&self.script) }
    }
}

fn shown(row: &UnitState) -> String {
    let mut text = format!("{}/{}", row.active, row.sub);
    row.job.iter().for_each(|job| text.push_str(&format!(" {job}")));
    text.push_str(if row.masked { " masked" } else { "" });
    text
}

impl<S: Systemd, H: Hand> Stage<S, H> {
    /// The full name of one of the scenario's units.
    pub fn unit(&self, short: &str) -> String {
        unit_name(self.name, short)
    }

    pub fn note(&self, text: impl Into<String>) {
        self.script.lock().unwrap().push(text.into());
    }

    /// A job to its end.
    pub async fn job(&self, verb: Verb, short: &str) {
        let end = self.systemd.job(verb, &self.unit(short), LONG).await;
        self.note(format!("{verb} {short}: {}", told(end)));
    }

    pub async fn start(&self, short: &str) {
        self.job(Verb::Start, short).await;
    }

    pub async fn stop(&self, short: &str) {
        self.job(Verb::Stop, short).await;
    }

    pub async fn restart(&self, short: &str) {
        self.job(Verb::Restart, short).await;
    }

    pub async fn reset(&self, short: &str) {
        let done = self.systemd.reset_failed(&self.unit(short)).await;
        self.note(format!("reset {short}: {}", done.map_or_else(|why| refusal(&why), |()| "done".into())));
    }

    /// Notes how a unit's last run ended, and how often systemd has restarted it.
    pub async fn details(&self, short: &str) {
        let details = self.systemd.details(&self.unit(short)).await.expect("details");
        let by = if details.by_signal { "signal" } else { "exit" };
        self.note(format!("{short}: {}, {by} {}, {} restarts", details.result, details.exit_status, details.restarts));
    }

    /// Waits until a unit is in this state.
    pub async fn until(&self, short: &str, state: &str) {
        let unit = self.unit(short);
        let end = Instant::now() + LONG;
        loop {
            let rows = self.systemd.units(std::slice::from_ref(&unit)).await.expect("a reading");
            let now = rows.first().map_or(NOTHING.into(), |row| format!("{}/{}", row.active, row.sub));
            if now == state {
                return;
            }
            assert!(Instant::now() < end, "{unit} never was {state}, it is {now}");
            sleep(PAUSE).await;
        }
    }

    /// The middle of the state that a unit is in: what comes before counts, and what comes behind.
    pub async fn within(&self) {
        sleep(phase() / 2).await;
    }

    /// Long enough for the state that has just begun to count.
    pub async fn lasts(&self) {
        sleep(phase()).await;
    }
}

pub fn unit_name(scenario: &str, short: &str) -> String {
    if short.contains('.') || short.contains('@') { short.into() } else { format!("trace-{scenario}-{short}.service") }
}

fn told(end: Result<JobEnd, Error>) -> String {
    end.map_or_else(|why| refusal(&why), |end| format!("{end:?}"))
}

fn refusal(why: &Error) -> String {
    why.to_string()
}

/// Plays all scenarios at once; the trace of each, line by line.
pub async fn play<S: Systemd, H: Hand>(systemd: Arc<S>, hand: Arc<H>, scenarios: Vec<Scenario<S, H>>) -> BTreeMap<&'static str, String> {
    let states: Arc<Mutex<BTreeMap<String, Vec<String>>>> = Arc::default();
    let recorder = tokio::spawn(record(Arc::clone(&systemd), Arc::clone(&states)));
    let mut played = Vec::new();
    for scenario in scenarios {
        // Forty at once would keep PID 1 from answering for longer than a phase.
        sleep(phase() / 10).await;
        let script = Arc::new(Mutex::new(Vec::new()));
        let stage = Stage { systemd: Arc::clone(&systemd), hand: Arc::clone(&hand), name: scenario.name, script: Arc::clone(&script) };
        played.push((scenario.name, scenario.units, script, tokio::spawn((scenario.play)(stage))));
    }
    let mut ended = Vec::new();
    for (name, units, script, task) in played {
        task.await.unwrap_or_else(|why| panic!("{name}: {why}\n{:?}\n{:?}", script.lock().unwrap(), states.lock().unwrap()));
        ended.push((name, units, script));
    }
    // What the last act has led to.
    sleep(phase()).await;
    recorder.abort();
    let mut traces = BTreeMap::new();
    for (name, units, script) in ended {
        let mut text = String::new();
        for line in script.lock().unwrap().iter() {
            let _ = writeln!(text, "{line}");
        }
        for unit in units {
            let mut seen = states.lock().unwrap().get(&unit.name).cloned().unwrap_or_default();
            let forks = |state: &String| {
                state.starts_with("activating/start-pre") || state.starts_with("activating/start ") && unit.service.kind == Kind::Worker
            };
            seen.retain(|state| !forks(state));
            seen.dedup();
            let _ = writeln!(text, "{}: {}", unit.name, seen.join(" > "));
        }
        traces.insert(name, text);
    }
    traces
}

async fn record<S: Systemd>(systemd: Arc<S>, states: Arc<Mutex<BTreeMap<String, Vec<String>>>>) {
    let mut candidates: BTreeMap<String, (String, u32)> = BTreeMap::new();
    let patterns = ["trace-*".to_owned(), "project-cluster*".to_owned()];
    loop {
        let rows = systemd.units(&patterns).await.expect("a reading");
        let mut now: BTreeMap<String, String> = candidates.keys().map(|unit| (unit.clone(), NOTHING.to_owned())).collect();
        now.extend(rows.iter().map(|row| (row.name.clone(), shown(row))));
        for (unit, state) in now {
            let candidate = candidates.entry(unit.clone()).or_insert((NOTHING.into(), READINGS));
            *candidate = if candidate.0 == state { (state, candidate.1 + 1) } else { (state, 1) };
            if candidate.1 == READINGS {
                let mut states = states.lock().unwrap();
                let seen = states.entry(unit).or_default();
                if seen.last().map_or(NOTHING, String::as_str) != candidate.0 {
                    seen.push(candidate.0.clone());
                }
            }
        }
        sleep(PAUSE).await;
    }
}
