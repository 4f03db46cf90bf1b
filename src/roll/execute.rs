//! Carries a roll out: performs its actions on systemd, feeds it what happens.
//!
//! Dumb on purpose. It must not decide anything about workers: every decision is `machine`'s. What it knows is how
//! systemd tells things: a job's end counts once the unit was read again; a signal means "read again", can be lost or
//! doubled, so that everything is read every few seconds too while a roll runs.

mod eyes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use self::eyes::{Eyes, Reading};
use super::machine::{Phase, Roll};
use super::plan::{Scope, Target};
use super::words::{Action, Event, Outcome, Steer, Step};
use crate::config::settings::App;
use crate::names::{AppName, AppUnits, ClusterName, Instance};
use crate::systemd::{ActiveState, Change, Details, Error, JobEnd, Systemd, Verb};

pub use self::eyes::sight;

/// How often everything is read while a roll runs, beside what signals ask for: a signal can be lost across a
/// daemon-reload (systemd PR 8803). A whole reading costs PID 1 about a millisecond.
const POLL: Duration = Duration::from_secs(5);

/// After a reading that failed.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What systemd may need beyond a worker's own limits (`prepare`, a busy machine) before we stop believing in its
/// answer. It enforces the limits themselves.
const SLACK: Duration = Duration::from_secs(30);

/// A person's order to a roll that is under way, and where he waits for the answer: once it is written down that it is
/// followed, or why it is not.
#[derive(Debug)]
pub struct Asked {
    /// The order.
    pub order: Steer,
    /// Where the answer goes. Dropped without one where the app was stopped or restarted meanwhile.
    pub answer: oneshot::Sender<Result<(), &'static str>>,
}

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
    /// Somebody else has stopped these old workers, and nobody new serves in their place: which slots are wanted now, where
    /// that is remembered as a person's word. None where it is not.
    fn emptied(&mut self, workers: &[Instance]) -> Option<Target>;
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
    /// What a person asks of it.
    pub orders: mpsc::Receiver<Asked>,
}

/// Carries a roll out to its end: a new one, or one that was read back and [`Roll::resumed`].
///
/// Nothing is judged and no call made but behind a reading that shows the handle active, and without a break since the
/// roll began: this process may have been away for a while, and what runs may be the handle's own by now. So another
/// target is heard behind the first reading, and what is told while systemd cannot be read is kept until it can. Meanwhile the
/// deadline alone counts.
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
    let (mut looked, mut steered) = (false, true);
    // Workers that are not stopped, and why.
    let mut spared = BTreeMap::new();
    // Told since the last reading; a person's order among that, which no other overtakes.
    let (mut told, mut asked) = (Vec::new(), None::<Asked>);
    deps.target.mark_changed();
    loop {
        // On the way back what can be saved is saved, socket or not.
        let forward = matches!(roll.phase(), Phase::Forward { .. }) && !roll.plan().slots.is_empty();
        let eyes = Eyes { units: &units, handle_since: deps.handle_since, sockets: if forward { &deps.sockets } else { &[] } };
        // In this order: signals are taken when no reading is due, so that a storm of them cannot starve it.
        tokio::select! {
            biased;
            Some(ended) = jobs.join_next() => match ended {
                Ok(event) => told.push(event),
                // Which one, nobody knows: readings judge them all.
                Err(_) => { *roll = roll.clone().resumed(); stale = true; continue }
            },
            () = sleep_until(deps.clock.at(wake)) => {}
            changed = deps.target.changed(), if resizable && looked => {
                resizable = changed.is_ok();
                match deps.target.borrow_and_update().clone() {
                    // The last word counts.
                    Some(target) => {
                        told.retain(|told| !matches!(told, Event::Target(_)));
                        told.push(Event::Target(target));
                    }
                    None => continue,
                }
            }
            order = deps.orders.recv(), if steered && looked && asked.is_none() => match order {
                Some(order) => asked = Some(order),
                None => { steered = false; continue }
            },
            () = std::future::ready(()), if stale => {}
            change = changes.recv(), if signals_come => {
                stale = match change {
                    Ok(Change::Unit(unit)) => unit == handle || units.instance(&unit).is_some() || deps.sockets.contains(&unit),
                    Ok(Change::All) | Err(RecvError::Lagged(_)) => true,
                    Err(RecvError::Closed) => { signals_come = false; false }
                };
                continue
            }
            _ = poll.tick() => {}
        }
        // Before what was told is judged: a start that a stop of the app has cancelled is no failure. And no move is made on
        // what was known before: a master that was away for a while knows little.
        let reading = eyes.read(&*systemd, roll.on_trial()).await;
        let now = deps.clock.now();
        stale = false;
        let (mut actions, answer) = match reading {
            Ok(Reading::HandleLeft) => (roll.step(Event::HandleLeft, now), None),
            Ok(Reading::World { world, restarts, down, stays, undrained }) => {
                (looked, spared) = (true, undrained);
                let order = asked.take();
                let answer = order.as_ref().map(|asked| roll.heeds(&asked.order));
                let (order, answers) = order.map(|asked| (Event::from(asked.order), asked.answer)).unzip();
                // Whoever stops the app stops its workers as well.
                let by_hand = if stays { roll.stopped_by_others(&world) } else { Vec::new() };
                let emptied = if by_hand.is_empty() { None } else { deps.keeper.emptied(&by_hand) };
                let abort = down.map(|reason| Event::Abort { reason });
                let events = order.into_iter().chain(told.drain(..)).chain(emptied.map(Event::Target)).chain(abort);
                let events = events.chain((!restarts.is_empty()).then_some(Event::Restarts(restarts))).chain([Event::World(world)]);
                (roll.steps(events, now), answer.zip(answers))
            }
            Err(error) => {
                deps.keeper.trouble(&error);
                poll.reset_after(TRY_AGAIN);
                (roll.unseen(now), None)
            }
        };
        let written = actions.iter().any(is_written);
        // What was seen is told before the roll is written down, so that a master to come knows it: who is to blame, say.
        tell_seen(&mut actions, roll, &mut deps.keeper);
        let unwritten = if written { deps.keeper.persist(roll).err() } else { None };
        if let Some(why) = &unwritten
            && matches!(roll.phase(), Phase::Forward { .. })
        {
            // Whoever comes after us could not tell what we did: the less we do, the better. All of it is taken in before any
            // move follows from it, so that none of those is lost.
            let lost = forgo(&mut actions);
            stale = true;
            let reason = format!("the state of the roll could not be written: {why}");
            actions.extend(roll.steps(lost.into_iter().chain([Event::Abort { reason }]), now));
            tell_seen(&mut actions, roll, &mut deps.keeper);
        }
        if let Some((heeds, answer)) = answer {
            let forgotten = unwritten.is_some() && matches!(roll.phase(), Phase::Paused { .. });
            let why = "its roll is paused, but that cannot be written down: a master that is restarted would go on with it";
            // Who asked may have gone.
            let _ = answer.send(if forgotten { Err(why) } else { heeds });
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
            if verb == Verb::Stop
                && let Some(why) = spared.remove(&worker)
            {
                let refused = Event::JobEnded { instance: worker, verb, end: Err(why), state: ActiveState::Active };
                jobs.spawn(std::future::ready(refused));
                continue;
            }
            jobs.spawn(run_job(Arc::clone(&systemd), verb, worker, units.worker(&worker), limit));
        }
    }
}

/// Whether this asks systemd for something.
fn is_call(action: &Action) -> bool {
    matches!(action, Action::Start(_) | Action::Stop(_))
}

/// Whether a master to come must know of this. What is told of canaries is their time: it counts on.
fn is_written(action: &Action) -> bool {
    let turn = |step: &Step| matches!(step, Step::Paused(_) | Step::Resumed | Step::Baking(..) | Step::Passed(_));
    is_call(action) || matches!(action, Action::Ended(_)) || matches!(action, Action::Progress(step) if turn(step))
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
