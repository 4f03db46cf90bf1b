//! The roll: what runs x what happens -> what runs x what to do.
//!
//! Pure: no I/O, no clock. It keeps one list of workers and one direction. Each event changes the list
//! ([`Roll::step`]); then, from the list alone, the next moves follow one by one until nothing more may be done
//! (`Roll::next_move`). So it does not matter by which way a state was reached, and a roll that was read back from
//! a file goes on like one that never stopped.
//!
//! | file | |
//! |---|---|
//! | `phase` | the direction, and what each event does in it |
//! | `moves` | which worker starts or goes next |
//! | `trial` | canaries |
//! | `pause` | stopping where it is, and going on |
//! | `unseen` | what cannot be seen, and others' hands |

#[cfg(test)]
mod ageless;
mod moves;
mod pause;
mod phase;
mod trial;
mod unseen;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::phase::Phase;
pub use self::trial::Trial;

use super::diagram;
use super::plan::{OnFailure, Plan, Target};
use super::stage::{News, Sight, Stage, Worker, World};
use super::words::{Action, Event, Outcome, Steer, Step};
use crate::names::{Instance, Slot};
use crate::systemd::ActiveState;

/// One roll of one app. As JSON it is what the master keeps in its state directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Roll {
    plan: Plan,
    phase: Phase,
    workers: BTreeMap<Instance, Worker>,
    /// The slots that nobody served when it began: going back cannot ask more of the old ones than they gave.
    #[serde(deserialize_with = "older::lacking")]
    lacking: BTreeSet<Slot>,
    /// What was to be served when it began, where that has changed since: going back leads there.
    #[serde(default)]
    before: Option<Target>,
    /// How far its canaries are.
    #[serde(default)]
    trial: Trial,
    /// Workers of the app that are none of its business, as last read.
    #[serde(default)]
    beside: Beside,
    /// It was told that workers on their way down take the room of those to come.
    #[serde(default)]
    full: bool,
}

impl Roll {
    /// A roll about to begin. The first event, best the reading that follows, sets it going.
    pub fn new(plan: Plan, world: &World, now: u64) -> Self {
        // A worker that ran before has no soak to wait for.
        let since = now.saturating_sub(plan.min_ready);
        let phase = Phase::Forward { until: now.saturating_add(plan.deadline) };
        let trial = if plan.canary > 0 { Trial::Awaited } else { Trial::Over };
        let (workers, lacking, beside) = (BTreeMap::new(), BTreeSet::new(), Beside::of(&plan, world));
        let mut roll = Self { phase, plan, workers, lacking, before: None, trial, beside, full: false };
        for (worker, sight) in world.iter().filter(|(worker, _)| roll.plan.scope.has(worker.slot)) {
            roll.workers.insert(*worker, Worker::found(sight.state, since, roll.is_new(worker)));
        }
        roll.lacking = roll.plan.slots.iter().filter(|slot| !roll.of(**slot).any(|(_, known)| known.is_up())).copied().collect();
        roll
    }

    /// One that a program wrote which knew rolls of whole apps alone, and new workers by their generation.
    #[must_use]
    pub fn upgraded(mut self) -> Self {
        let to = self.plan.to.generation;
        self.workers.iter_mut().for_each(|(worker, known)| known.new = worker.generation == to);
        self
    }

    /// A roll that was read back: whoever awaited its jobs is gone, so the next reading judges them.
    #[must_use]
    pub fn resumed(mut self) -> Self {
        self.workers.values_mut().for_each(|worker| worker.awaited = false);
        self
    }

    /// Its bounds.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Its direction, or its end.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// All workers it knows of.
    pub fn workers(&self) -> &BTreeMap<Instance, Worker> {
        &self.workers
    }

    /// Whether this is one of the workers that shall serve when it succeeds. Of the same generation only those are new
    /// that this roll started.
    pub fn is_new(&self, worker: &Instance) -> bool {
        let by_name = || self.plan.is_deploy() && worker.generation == self.plan.to.generation;
        self.workers.get(worker).map_or_else(by_name, |known| known.new)
    }

    /// Whether it has made no move yet, and nobody has steered it.
    pub fn is_untouched(&self) -> bool {
        let moved = |(worker, known): (&Instance, &Worker)| self.is_new(worker) || known.stage == Stage::Stopping;
        matches!(self.phase, Phase::Forward { .. }) && !self.workers.iter().any(moved)
    }

    /// Whether this order can be followed now; else why not.
    ///
    /// # Errors
    /// For people, without the app's name.
    pub fn heeds(&self, order: &Steer) -> Result<(), &'static str> {
        match (&self.phase, order) {
            (Phase::Ended(_), _) => Err("its roll has ended"),
            (Phase::Back { .. }, Steer::Pause { .. } | Steer::Resume) => Err("its roll goes back already, which nothing may stop"),
            _ => Ok(()),
        }
    }

    /// How many slots new workers serve, of how many.
    pub fn served(&self) -> (usize, usize) {
        let served = |slot: &&Slot| self.of(**slot).any(|(worker, known)| self.is_new(worker) && known.is_up());
        (self.plan.slots.iter().filter(served).count(), self.plan.slots.len())
    }

    /// Something happened at `now` (milliseconds, of one clock that never goes back): what is to be done.
    pub fn step(&mut self, event: Event, now: u64) -> Vec<Action> {
        self.steps([event], now)
    }

    /// All this happened by `now`: what is to be done behind the last of it.
    pub fn steps(&mut self, events: impl IntoIterator<Item = Event>, now: u64) -> Vec<Action> {
        let mut out = Vec::new();
        if matches!(self.phase, Phase::Ended(_)) {
            return out;
        }
        let paused = matches!(self.phase, Phase::Paused { .. });
        events.into_iter().for_each(|event| self.take_in(event, now, &mut out));
        self.proceed(paused, now, &mut out);
        out
    }

    fn take_in(&mut self, event: Event, now: u64, out: &mut Vec<Action>) {
        match event {
            Event::JobEnded { instance, verb, end, state } => {
                if let Some(worker) = self.workers.get_mut(&instance) {
                    let news = worker.job_ended(verb, &end, state, now);
                    self.heed(instance, news, now, out);
                }
            }
            Event::JobLost { instance, verb } => {
                if let Some(worker) = self.workers.get_mut(&instance) {
                    worker.job_lost(verb);
                }
            }
            Event::World(world) => self.look(&world, now, out),
            Event::Restarts(counts) => self.compare_restarts(counts, now, out),
            Event::Timer => {}
            Event::Pause { reason } => self.pause_by_hand(reason, now, out),
            Event::Resume => self.resume(now, out),
            Event::Abort { reason } => self.turn_back(reason, now, out),
            Event::Target(target) => self.resize(target, out),
            Event::HandleLeft => self.end(Outcome::Overtaken, out),
        }
    }

    /// Takes in a reading.
    fn look(&mut self, world: &World, now: u64, out: &mut Vec<Action>) {
        self.beside = Beside::of(&self.plan, world);
        for (instance, sight) in world.iter().filter(|(instance, _)| self.plan.scope.has(instance.slot)) {
            if !self.workers.contains_key(instance) {
                // Somebody else started it: it counts, so that no mix goes unseen.
                self.workers.insert(*instance, Worker::found(sight.state, now, self.is_new(instance)));
            }
        }
        // All of it before any of it is judged: an end names who is left, and that is what this reading says.
        let seen = |(instance, worker): (&Instance, &mut Worker)| {
            (*instance, worker.seen(world.get(instance).copied().unwrap_or(Sight::NOTHING), now))
        };
        let news: Vec<(Instance, News)> = self.workers.iter_mut().map(seen).collect();
        for (instance, news) in news {
            self.heed(instance, news, now, out);
        }
    }

    /// Takes in systemd's counts of automatic restarts: a worker may have ended and come back between two readings.
    fn compare_restarts(&mut self, counts: BTreeMap<Instance, u32>, now: u64, out: &mut Vec<Action>) {
        for (instance, count) in counts {
            let Some(worker) = self.workers.get_mut(&instance) else { continue };
            let unseen = worker.is_up() && count > worker.restarts;
            worker.restarts = count;
            if unseen {
                self.heed(instance, News::Left("it ended, and was back before anybody looked"), now, out);
            }
        }
    }

    /// Other slots are to be served.
    fn resize(&mut self, mut target: Target, out: &mut Vec<Action>) {
        target.slots = self.plan.within(target.slots);
        if self.is_forward() && target.slots != self.plan.slots {
            let was = self.aim_at(target, out);
            self.before.get_or_insert(was);
        }
    }

    /// Takes another target; the one of before comes back.
    fn aim_at(&mut self, target: Target, out: &mut Vec<Action>) -> Target {
        out.push(Action::Progress(Step::Resized(target.slots.len())));
        let Plan { slots, surge, unavailable, live, .. } = &mut self.plan;
        Target {
            slots: std::mem::replace(slots, target.slots),
            surge: std::mem::replace(surge, target.surge),
            unavailable: std::mem::replace(unavailable, target.unavailable),
            live: std::mem::replace(live, target.live),
        }
    }

    /// What a worker's news mean.
    fn heed(&mut self, instance: Instance, news: News, now: u64, out: &mut Vec<Action>) {
        let forward = self.is_forward();
        let new = self.is_new(&instance);
        match news {
            News::Nothing => {}
            News::Ready => out.push(Action::Progress(Step::Ready(instance))),
            News::Stopped => out.push(Action::Progress(Step::Stopped(instance))),
            News::NeverStarted => {
                self.workers.remove(&instance);
            }
            News::Left(why) => {
                let (step, matters) = (Step::Left(instance, why.into()), forward && self.is_wanted(&instance));
                if matters && let Some(worker) = self.workers.get_mut(&instance) {
                    worker.ends += 1;
                }
                // Of a canary the judge decides, behind all that happened.
                self.fail(step, matters && !self.is_trying(), now, out);
            }
            // Back: a new one that fails was on its way down anyway; so is one whose slot is none any more.
            News::StartFailed(why) => self.fail(Step::Failed(instance, why), self.is_wanted(&instance), now, out),
            // Back: an old one that stays up is welcome.
            News::StopFailed(why) => self.fail(Step::Stuck(instance, why), forward || new, now, out),
        }
    }

    /// A worker failed; where it `matters`, the direction does.
    fn fail(&mut self, step: Step, matters: bool, now: u64, out: &mut Vec<Action>) {
        let reason = step.text(&self.plan.app);
        out.push(Action::Progress(step));
        if matters {
            self.give_up(reason, now, out);
        }
    }

    /// This direction does not lead to its goal: the other one, or the end.
    fn give_up(&mut self, why: String, now: u64, out: &mut Vec<Action>) {
        match &self.phase {
            Phase::Forward { .. } if self.plan.on_failure == OnFailure::Pause => self.pause(why, self.plan.deadline, out),
            Phase::Forward { .. } => self.turn_back(why, now, out),
            Phase::Back { reason, .. } => {
                let reason = format!("{reason}; then, going back, {why}");
                let left = |known: &Worker| known.stands() || known.stage == Stage::Stopping;
                let who = self.workers.iter().filter(|(_, known)| left(known)).map(|(worker, known)| (*worker, known.stage)).collect();
                self.end(Outcome::Mixed { reason, who }, out);
            }
            Phase::Paused { .. } | Phase::Ended(_) => {}
        }
    }

    fn turn_back(&mut self, reason: String, now: u64, out: &mut Vec<Action>) {
        if self.is_forward() {
            out.push(Action::Progress(Step::GoingBack(reason.clone())));
            if let Some(before) = self.before.take() {
                self.aim_at(before, out);
            }
            self.go(Phase::Back { reason, until: now.saturating_add(self.plan.deadline) });
        }
    }

    fn end(&mut self, outcome: Outcome, out: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Ended(_)) {
            out.push(Action::Ended(outcome.clone()));
            self.go(Phase::Ended(outcome));
        }
    }

    fn go(&mut self, to: Phase) {
        diagram::check_phase(&self.phase, &to);
        self.phase = to;
    }

    /// Whether the new generation is wanted.
    fn is_forward(&self) -> bool {
        matches!(self.phase, Phase::Forward { .. } | Phase::Paused { .. })
    }

    /// All moves that may be made now; then the end, or when to look again.
    fn proceed(&mut self, was_paused: bool, now: u64, out: &mut Vec<Action>) {
        self.try_out(now, out);
        if matches!(self.phase, Phase::Forward { .. }) {
            // Ahead of the moves: what would be started now would be of no use, and a paused roll makes none.
            if self.is_late(now) && !self.can_reach(now) {
                self.run_out_of_time(now, out);
            }
            if was_paused && matches!(self.phase, Phase::Forward { .. }) {
                self.try_failed_again(out);
            }
            self.make_moves(now, out);
        } else {
            self.make_moves(now, out);
            if self.is_late(now) && !self.is_reached(now) {
                self.run_out_of_time(now, out);
            }
        }
        if self.is_reached(now) {
            let outcome = match &self.phase {
                Phase::Back { reason, .. } => Outcome::AllOld { reason: reason.clone() },
                _ => Outcome::AllNew,
            };
            self.end(outcome, out);
        }
        let full = self.until().is_some() && self.is_full();
        if full && !self.full {
            out.push(Action::Progress(Step::Full(self.living())));
        }
        self.full = full;
        match self.phase {
            Phase::Forward { until } | Phase::Back { until, .. } => out.push(Action::WakeAt(self.next_soak(now).fold(until, u64::min))),
            // Until a person says so.
            Phase::Paused { .. } => out.push(Action::WakeAt(u64::MAX)),
            Phase::Ended(_) => {}
        }
    }

    fn is_late(&self, now: u64) -> bool {
        self.until().is_some_and(|until| now >= until)
    }

    /// Whether the moves that may be made now are the last ones.
    fn can_reach(&self, now: u64) -> bool {
        let mut tried = self.clone();
        tried.make_moves(now, &mut Vec::new());
        tried.is_reached(now)
    }

    fn run_out_of_time(&mut self, now: u64, out: &mut Vec<Action>) {
        let full = if self.is_full() { ", while workers on their way down took up `max_live`" } else { "" };
        self.give_up(format!("its time ran out after {} s{full}", self.plan.deadline / 1000), now, out);
    }

    /// When workers will have been ready for long enough.
    fn next_soak(&self, now: u64) -> impl Iterator<Item = u64> {
        let trial = self.is_trying().then(|| self.trial_ms());
        self.workers.values().flat_map(move |known| {
            let since = if let Stage::Up { since } = known.stage { Some(since) } else { None };
            let soaks = [Some(self.plan.min_ready), trial].into_iter().flatten();
            soaks.filter_map(move |soak| Some(since?.saturating_add(soak)).filter(|at| *at > now))
        })
    }
}

/// How many workers live that a plan is not about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Beside {
    living: usize,
    /// Those of them that are on their way down.
    ending: usize,
}

impl Beside {
    fn of(plan: &Plan, world: &World) -> Self {
        let states = world.iter().filter(|(worker, _)| !plan.scope.has(worker.slot)).map(|(_, sight)| sight.state);
        let living = states.clone().filter(|state| !matches!(state, ActiveState::Inactive | ActiveState::Failed)).count();
        Self { living, ending: states.filter(|state| *state == ActiveState::Deactivating).count() }
    }
}

/// What older programs wrote.
mod older {
    use std::collections::BTreeSet;

    use serde::{Deserialize, Deserializer};

    use crate::names::Slot;

    /// Once a number alone.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Lacking {
        Slots(BTreeSet<Slot>),
        Count(u16),
    }

    pub(super) fn lacking<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Slot>, D::Error> {
        Ok(match Lacking::deserialize(deserializer)? {
            Lacking::Slots(slots) => slots,
            // Which ones nobody knows, and only how many of them there are counts.
            Lacking::Count(count) => Slot::first(count).collect(),
        })
    }
}
