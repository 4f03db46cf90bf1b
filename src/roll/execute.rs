//! Carries a roll out: performs its actions on systemd, feeds it what happens.
//!
//! Dumb on purpose. It must not decide anything about workers: every decision is `machine`'s. What it knows is how
//! systemd tells things: a job's end counts once the unit was read again; a signal means "read again", can be lost or
//! doubled, so that everything is read every few seconds too while a roll runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::machine::{Phase, Roll};
use super::plan::{Scope, Target};
use super::stage::{Sight, World};
use super::words::{Action, Event, Outcome, Step};
use crate::config::settings::App;
use crate::names::{AppName, AppUnits, ClusterName, Instance, anew};
use crate::systemd::{ActiveState, Change, Details, Error, JobEnd, Systemd, UnitState, Verb};

/// How often everything is read while a roll runs, beside what signals ask for: a signal can be lost across a
/// daemon-reload (systemd PR 8803). A whole reading costs PID 1 about a millisecond.
const POLL: Duration = Duration::from_secs(5);

/// After a reading that failed.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What systemd may need beyond a worker's own limits (`prepare`, a busy machine) before we stop believing in its
/// answer. It enforces the limits themselves.
const SLACK: Duration = Duration::from_secs(30);

/// How long the jobs of one worker may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A start.
    pub start: Duration,
    /// A stop, draining included.
    pub stop: Duration,
}

impl Limits {
    /// Those of an app.
    pub fn of(app: &App) -> Self {
        // A start that fails ends with SIGTERM and SIGKILL before its job does.
        Self { start: app.timeout.start + app.kill_limit() + SLACK, stop: app.stop_limit() + SLACK }
    }
}

/// The roll's clock: milliseconds that never go back, also across a restart of the master.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    origin_ms: u64,
}

impl Clock {
    /// A clock that now shows `ms` milliseconds since boot.
    pub fn showing(ms: u64) -> Self {
        Self { origin: Instant::now(), origin_ms: ms }
    }

    /// What it shows.
    pub fn now(&self) -> u64 {
        self.origin_ms.saturating_add(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// When it will show `ms`; a century at most, which is what "never" comes to.
    fn at(&self, ms: u64) -> Instant {
        const CENTURY_MS: u64 = 100 * 365 * 86_400_000;
        self.origin + Duration::from_millis(ms.saturating_sub(self.origin_ms).min(CENTURY_MS))
    }
}

/// Who keeps and watches a roll: the master.
pub trait Keeper: Send {
    /// Writes the roll down, before the first call of a step and at its end. An error turns a roll back that is on its
    /// way forward, and the calls of that step are not made; the text says why it could not be written.
    fn persist(&mut self, roll: &Roll) -> Result<(), String>;
    /// A step was made or seen; `roll` is as it stands after it.
    fn report(&mut self, step: &Step, roll: &Roll);
    /// systemd could not be read; the roll goes on and tries again within seconds.
    fn trouble(&mut self, error: &Error);
}

/// All that a roll needs beside systemd.
#[derive(Debug)]
pub struct Deps<K> {
    /// The cluster.
    pub cluster: ClusterName,
    /// The app.
    pub app: AppName,
    /// Limits of its jobs.
    pub limits: Limits,
    /// The clock that the roll was made by.
    pub clock: Clock,
    /// Who keeps and watches it.
    pub keeper: K,
    /// When the app's handle had become active as the roll began ([`Systemd::active_since`]): another time, and it was
    /// restarted meanwhile.
    pub handle_since: u64,
    /// The app's socket units. When one goes down on the way forward the roll turns back: a new worker could not be
    /// reached.
    pub sockets: Vec<String>,
    /// Which slots the app shall serve, as a person changes it; none until the first change. It counts for a roll of the
    /// whole app alone.
    pub target: watch::Receiver<Option<Target>>,
}

/// Carries a roll out to its end: a new one, or one that was read back and [`Roll::resumed`].
///
/// Nothing is judged and no call made but behind a reading that shows the handle active, and without a break since the
/// roll began: this process may have been away for a while, and what runs may be the handle's own by now. So another
/// target is heard behind the first reading.
///
/// When it returns, old workers may still be on their way down; their stops go on by themselves. Dropping it leaves
/// all workers as they are.
pub async fn execute<S: Systemd, K: Keeper>(systemd: Arc<S>, roll: &mut Roll, mut deps: Deps<K>) -> Outcome {
    // A roll that was read back may have ended before the end of it was remembered.
    if let Phase::Ended(outcome) = roll.phase() {
        return outcome.clone();
    }
    // Subscribed before the first reading: what changes behind it is told.
    let mut changes = systemd.changes();
    let mut jobs = JoinSet::new();
    let mut poll = interval_at(Instant::now() + POLL, POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut wake = roll.until().unwrap_or(0);
    let (mut stale, mut signals_come) = (true, true);
    let app = (deps.cluster.clone(), deps.app.clone());
    let units = AppUnits::new(&app.0, &app.1);
    let handle = units.handle();
    let mut resizable = roll.plan().scope == Scope::App;
    let mut looked = false;
    deps.target.mark_changed();
    loop {
        // On the way back what can be saved is saved, socket or not.
        let forward = matches!(roll.phase(), Phase::Forward { .. }) && !roll.plan().slots.is_empty();
        let eyes = Eyes { units: &units, handle_since: deps.handle_since, sockets: if forward { &deps.sockets } else { &[] } };
        // In this order: signals are taken when no reading is due, so that a storm of them cannot starve it.
        let told = tokio::select! {
            biased;
            Some(ended) = jobs.join_next() => match ended {
                Ok(event) => Some(event),
                // Which one, nobody knows: readings judge them all.
                Err(_) => { *roll = roll.clone().resumed(); stale = true; continue }
            },
            () = sleep_until(deps.clock.at(wake)) => Some(Event::Timer),
            changed = deps.target.changed(), if resizable && looked => {
                resizable = changed.is_ok();
                match deps.target.borrow_and_update().clone() {
                    Some(target) => Some(Event::Target(target)),
                    None => continue,
                }
            }
            () = std::future::ready(()), if stale => None,
            change = changes.recv(), if signals_come => {
                stale = match change {
                    Ok(Change::Unit(unit)) => unit == handle || units.instance(&unit).is_some() || deps.sockets.contains(&unit),
                    Ok(Change::All) | Err(RecvError::Lagged(_)) => true,
                    Err(RecvError::Closed) => { signals_come = false; false }
                };
                continue
            }
            _ = poll.tick() => None,
        };
        // Before what was told is judged: a start that a stop of the app has cancelled is no failure. And no move is made on
        // what was known before: a master that was away for a while knows little.
        let reading = eyes.read(&*systemd).await;
        let blind = reading.is_err();
        let events = match reading {
            Ok(Reading::HandleLeft) => vec![Event::HandleLeft],
            Ok(Reading::World { world, down }) => {
                (stale, looked) = (false, true);
                let abort = down.map(|reason| Event::Abort { reason });
                told.into_iter().chain(abort).chain([Event::World(world)]).collect()
            }
            Err(error) => {
                deps.keeper.trouble(&error);
                poll.reset_after(TRY_AGAIN);
                stale = false;
                match told {
                    Some(told) => vec![told],
                    None => continue,
                }
            }
        };
        let now = deps.clock.now();
        let mut actions = roll.steps(events, now);
        if blind {
            // What runs may be the handle's own by now: time goes on, and nothing is asked for until it was looked.
            loop {
                let lost = forgo(&mut actions);
                if lost.is_empty() {
                    break;
                }
                actions.extend(lost.into_iter().flat_map(|lost| roll.step(lost, now)));
            }
        }
        // What was seen is told before the roll is written down, so that a master to come knows it: who is to blame, say.
        tell_seen(&mut actions, roll, &mut deps.keeper);
        if actions.iter().any(|action| is_call(action) || matches!(action, Action::Ended(_)))
            && let Err(why) = deps.keeper.persist(roll)
            && matches!(roll.phase(), Phase::Forward { .. })
        {
            // Whoever comes after us could not tell what we did: the less we do, the better.
            for lost in forgo(&mut actions) {
                roll.step(lost, now);
            }
            stale = true;
            let reason = format!("the state of the roll could not be written: {why}");
            actions.extend(roll.step(Event::Abort { reason }, now));
            tell_seen(&mut actions, roll, &mut deps.keeper);
        }
        for action in actions {
            let (verb, worker, limit) = match action {
                Action::Start(worker) => (Verb::Start, worker, deps.limits.start),
                Action::Stop(worker) => (Verb::Stop, worker, deps.limits.stop),
                Action::WakeAt(ms) => {
                    wake = ms;
                    continue;
                }
                Action::Progress(step) => {
                    deps.keeper.report(&step, roll);
                    continue;
                }
                Action::Ended(outcome) => {
                    if outcome == Outcome::Overtaken {
                        // A start that is still on its way would come up behind whoever looks next.
                        while jobs.join_next().await.is_some() {}
                    }
                    jobs.detach_all();
                    return outcome;
                }
            };
            jobs.spawn(run_job(Arc::clone(&systemd), verb, worker, units.worker(&worker), limit));
        }
    }
}

/// Whether this asks systemd for something.
fn is_call(action: &Action) -> bool {
    matches!(action, Action::Start(_) | Action::Stop(_))
}

/// Whether this is told of a call, and so only where the call is made.
fn is_of_call(step: &Step) -> bool {
    matches!(step, Step::Starting(_) | Step::Retiring(_))
}

/// Reports, and takes out, what is told of no call.
fn tell_seen<K: Keeper>(actions: &mut Vec<Action>, roll: &Roll, keeper: &mut K) {
    actions.retain(|action| match action {
        Action::Progress(step) if !is_of_call(step) => {
            keeper.report(step, roll);
            false
        }
        _ => true,
    });
}

/// Takes the calls out, and what would be told of them; what the roll is to know of them instead comes back.
fn forgo(actions: &mut Vec<Action>) -> Vec<Event> {
    let lost = actions.iter().filter_map(|action| match action {
        Action::Start(instance) => Some(Event::JobLost { instance: *instance, verb: Verb::Start }),
        Action::Stop(instance) => Some(Event::JobLost { instance: *instance, verb: Verb::Stop }),
        _ => None,
    });
    let lost = lost.collect();
    actions.retain(|action| !is_call(action) && !matches!(action, Action::Progress(step) if is_of_call(step)));
    lost
}

/// What a roll looks at.
struct Eyes<'a> {
    units: &'a AppUnits<'a>,
    handle_since: u64,
    sockets: &'a [String],
}

/// What it sees.
enum Reading {
    /// The handle has left active since it became so.
    HandleLeft,
    /// Every loaded worker of the app, and what is to be said where a socket is down.
    World { world: World, down: Option<String> },
}

impl Eyes<'_> {
    async fn read<S: Systemd>(&self, systemd: &S) -> Result<Reading, Error> {
        let handle = self.units.handle();
        let rows = systemd.units(&[&[self.units.worker_glob(), handle.clone()], self.sockets].concat()).await?;
        let is_active = |row: &UnitState| row.name == handle && matches!(row.active, ActiveState::Active | ActiveState::Reloading);
        // A restart that falls between two readings shows in the time alone.
        if !rows.iter().any(is_active) || systemd.active_since(&handle).await? != self.handle_since {
            return Ok(Reading::HandleLeft);
        }
        let up = |socket: &&String| rows.iter().any(|row| row.name == **socket && row.active == ActiveState::Active);
        let down = self.sockets.iter().find(|socket| !up(socket));
        let down = down.map(|it| format!("its socket {it} is down, a new worker could not be reached. `{}` mends it", anew(&handle)));
        let world = rows.iter().filter_map(|unit| Some((self.units.instance(&unit.name)?, sight(unit)))).collect();
        Ok(Reading::World { world, down })
    }
}

/// What a unit's row says. From systemd 254 on a unit that will be restarted is `failed` or `inactive` for a moment,
/// which only its sub-state tells from a lasting end.
pub fn sight(unit: &UnitState) -> Sight {
    let state = if unit.sub.ends_with("-before-auto-restart") { ActiveState::Activating } else { unit.active };
    Sight { state, starting: unit.job.as_deref() == Some("start") }
}

/// One job to its end, as an event. A unit that it leaves failed is reset, so that no leftover stays loaded.
async fn run_job<S: Systemd>(systemd: Arc<S>, verb: Verb, instance: Instance, unit: String, limit: Duration) -> Event {
    let lost = Event::JobLost { instance, verb };
    let end = match systemd.job(verb, &unit, limit).await {
        Ok(JobEnd::Failed) => why_it_failed(&*systemd, &unit).await.map_or(Ok(JobEnd::Failed), Err),
        Ok(end) => Ok(end),
        Err(Error::Refused { why, .. }) => Err(format!("systemd refused: {why}")),
        Err(Error::Deadline { .. }) => Ok(JobEnd::Timeout),
        Err(Error::Unreachable(_)) => return lost,
    };
    let Ok(rows) = systemd.units(std::slice::from_ref(&unit)).await else { return lost };
    let state = rows.iter().find(|row| row.name == unit).map_or(ActiveState::Inactive, |row| sight(row).state);
    if state == ActiveState::Failed {
        // It matters to nobody's decision: what stays is one row of `systemctl --failed`, and `stop` resets it again.
        let _ = systemd.reset_failed(&unit).await;
    }
    Event::JobEnded { instance, verb, end, state }
}

/// None where systemd's answer is gone (the next automatic start wipes it) or says nothing more.
async fn why_it_failed<S: Systemd>(systemd: &S, unit: &str) -> Option<String> {
    reason_of(&systemd.details(unit).await.ok()?)
}

/// Why a start failed, in a person's words.
fn reason_of(details: &Details) -> Option<String> {
    match details.result.as_str() {
        // The code is that of another step: `prepare`, before there was a main process, or `ready`, behind whose failure
        // systemd sent SIGTERM. Its own lines say why.
        "exit-code" if details.by_signal || matches!(details.exit_status, 0 | 143) => Some("it was not ready, and was ended".into()),
        "exit-code" => Some(format!("it exited with {}", details.exit_status)),
        "signal" | "core-dump" => Some(format!("signal {} ended it", details.exit_status)),
        "timeout" => Some("it was not ready within its `timeout.start`".into()),
        "" | "success" => None,
        other => Some(format!("systemd calls it `{other}`")),
    }
}

#[cfg(test)]
mod tests;
