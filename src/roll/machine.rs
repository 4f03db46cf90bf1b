//! The roll: what runs x what happens -> what runs x what to do.
//!
//! Pure: no I/O, no clock. It keeps one list of workers and one direction. Each event changes the list
//! ([`Roll::step`]); then, from the list alone, the next moves follow one by one until nothing more may be done
//! (`Roll::next_move`). So it does not matter by which way a state was reached, and a roll that was read back from
//! a file goes on like one that never stopped.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::diagram;
use super::plan::{Plan, Target};
use super::stage::{News, Sight, Stage, Worker, World};
use super::words::{Action, Event, Outcome, Step};
use crate::names::{Instance, Slot};

/// The roll's direction. *Wanted* workers are the new ones in `Forward`, all others in `Back`.
///
/// In both directions the same moves lead to the goal, in this order: an unwanted worker goes whose slot is served by
/// a soaked wanted one (or is no slot any more), where enough ready ones remain; a slot without a wanted worker gets
/// one, where the surge has room; an unwanted one goes before its replacement, where `max_unavailable` allows it.
///
/// A job's end and a reading ([`Event::JobEnded`], [`Event::JobLost`], [`Event::World`]) first move workers as told at
/// [`Stage`]; what follows from that is told here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The new generation is wanted in every slot.
    ///
    /// A new worker fails to start or ends, a stop fails, `Abort`, or the deadline has passed: `Back`. An old worker
    /// ends: nothing more is retired until enough are ready again; where the roll can do nothing else and has no room
    /// beside it, such a one goes before its replacement. `Target`: the slots that are none any more lose their workers,
    /// new ones too, the added ones get theirs. `HandleLeft`: `Overtaken`. `Timer`: the moves that a soak was in the way
    /// of. No unwanted one is left, every slot soaked: `AllNew`.
    Forward {
        /// When it turns back, milliseconds.
        until: u64,
    },
    /// The old generation is wanted, in the slots that were emptied or are served by new workers alone.
    ///
    /// New workers that are not ready go at once, ready ones as their slots are served. An old worker that was not
    /// retired is not touched, ill or not, and not waited for. A fresh old worker that fails to start, a new one that
    /// cannot be stopped, or the deadline: `Mixed`. One that was ready and ends: systemd restarts it, it is waited for.
    /// `Target`: nothing, and what was changed on the way forward is taken back: all becomes as it was when the roll began,
    /// and whoever comes behind it makes the change. `Abort`: nothing, it goes back already. `HandleLeft`: `Overtaken`.
    /// `Timer`: as forward. No new one is left and every emptied slot soaked:
    /// `AllOld`.
    Back {
        /// Why it turned back.
        reason: String,
        /// When it gives up, milliseconds.
        until: u64,
    },
    /// It is over: no event does anything any more.
    Ended(Outcome),
}

impl Phase {
    /// Its name in the diagram.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Forward { .. } => "Forward",
            Self::Back { .. } => "Back",
            Self::Ended(Outcome::AllNew) => "AllNew",
            Self::Ended(Outcome::AllOld { .. }) => "AllOld",
            Self::Ended(Outcome::Mixed { .. }) => "Mixed",
            Self::Ended(Outcome::Overtaken) => "Overtaken",
        }
    }
}

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
}

impl Roll {
    /// A roll about to begin. The first event, best the reading that follows, sets it going.
    pub fn new(plan: Plan, world: &World, now: u64) -> Self {
        // A worker that ran before has no soak to wait for.
        let since = now.saturating_sub(plan.min_ready);
        let phase = Phase::Forward { until: now.saturating_add(plan.deadline) };
        let mut roll = Self { phase, plan, workers: BTreeMap::new(), lacking: BTreeSet::new(), before: None };
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
        events.into_iter().for_each(|event| self.take_in(event, now, &mut out));
        self.proceed(now, &mut out);
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
            Event::Timer => {}
            Event::Abort { reason } => self.turn_back(reason, now, out),
            Event::Target(target) => self.resize(target, out),
            Event::HandleLeft => self.end(Outcome::Overtaken, out),
        }
    }

    /// Takes in a reading.
    fn look(&mut self, world: &World, now: u64, out: &mut Vec<Action>) {
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

    /// Other slots are to be served.
    fn resize(&mut self, mut target: Target, out: &mut Vec<Action>) {
        target.slots = self.plan.within(target.slots);
        if matches!(self.phase, Phase::Forward { .. }) && target.slots != self.plan.slots {
            let was = self.aim_at(target, out);
            self.before.get_or_insert(was);
        }
    }

    /// Takes another target; the one of before comes back.
    fn aim_at(&mut self, target: Target, out: &mut Vec<Action>) -> Target {
        out.push(Action::Progress(Step::Resized(target.slots.len())));
        let Plan { slots, surge, unavailable, .. } = &mut self.plan;
        Target {
            slots: std::mem::replace(slots, target.slots),
            surge: std::mem::replace(surge, target.surge),
            unavailable: std::mem::replace(unavailable, target.unavailable),
        }
    }

    /// What a worker's news mean.
    fn heed(&mut self, instance: Instance, news: News, now: u64, out: &mut Vec<Action>) {
        let forward = matches!(self.phase, Phase::Forward { .. });
        let new = self.is_new(&instance);
        match news {
            News::Nothing => {}
            News::Ready => out.push(Action::Progress(Step::Ready(instance))),
            News::Stopped => out.push(Action::Progress(Step::Stopped(instance))),
            News::NeverStarted => {
                self.workers.remove(&instance);
            }
            News::Left(why) => {
                let step = Step::Left(instance, why.into());
                self.fail(step, forward && self.is_wanted(&instance), now, out);
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
            Phase::Forward { .. } => self.turn_back(why, now, out),
            Phase::Back { reason, .. } => {
                let reason = format!("{reason}; then, going back, {why}");
                let left = |known: &Worker| known.stands() || known.stage == Stage::Stopping;
                let who = self.workers.iter().filter(|(_, known)| left(known)).map(|(worker, known)| (*worker, known.stage)).collect();
                self.end(Outcome::Mixed { reason, who }, out);
            }
            Phase::Ended(_) => {}
        }
    }

    fn turn_back(&mut self, reason: String, now: u64, out: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Forward { .. }) {
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

    /// All moves that may be made now; then the end, or when to look again.
    fn proceed(&mut self, now: u64, out: &mut Vec<Action>) {
        self.make_moves(now, out);
        if self.until().is_some_and(|until| now >= until) && !self.is_reached(now) {
            self.give_up(format!("its time ran out after {} s", self.plan.deadline / 1000), now, out);
            self.make_moves(now, out);
        }
        if self.is_reached(now) {
            let outcome = match &self.phase {
                Phase::Back { reason, .. } => Outcome::AllOld { reason: reason.clone() },
                _ => Outcome::AllNew,
            };
            self.end(outcome, out);
        }
        if let Some(until) = self.until() {
            let soaks = self.workers.values().filter_map(|known| match known.stage {
                Stage::Up { since } => Some(since.saturating_add(self.plan.min_ready)).filter(|at| *at > now),
                _ => None,
            });
            out.push(Action::WakeAt(soaks.fold(until, u64::min)));
        }
    }

    fn make_moves(&mut self, now: u64, out: &mut Vec<Action>) {
        while let Some(action) = self.next_move(now) {
            match &action {
                Action::Start(worker) => {
                    let new = matches!(self.phase, Phase::Forward { .. });
                    self.workers.insert(*worker, Worker::started(new));
                    out.push(Action::Progress(Step::Starting(*worker)));
                }
                Action::Stop(worker) => {
                    if let Some(known) = self.workers.get_mut(worker) {
                        known.stop();
                    }
                    out.push(Action::Progress(Step::Retiring(*worker)));
                }
                _ => {}
            }
            out.push(action);
        }
    }

    /// The next start or stop; none when the direction is reached, must wait, or is over.
    fn next_move(&self, now: u64) -> Option<Action> {
        self.until()?;
        self.superfluous(now)
            .map(Action::Stop)
            .or_else(|| self.startable().map(Action::Start))
            .or_else(|| self.dispensable(now).map(Action::Stop))
    }

    /// When the present direction is given up; none when the roll is over.
    pub fn until(&self) -> Option<u64> {
        match self.phase {
            Phase::Forward { until } | Phase::Back { until, .. } => Some(until),
            Phase::Ended(_) => None,
        }
    }

    /// An unwanted worker that the direction needs no more: its slot is none or has a soaked wanted one, or another
    /// unwanted one serves it as well; on the way back also one that serves nobody.
    fn superfluous(&self, now: u64) -> Option<Instance> {
        let back = matches!(self.phase, Phase::Back { .. });
        let replaced = |worker: &Instance| {
            let replaces = |(other, known): (&Instance, &Worker)| {
                if self.is_wanted(other) { known.is_soaked(self.plan.min_ready, now) } else { known.is_up() && other > worker }
            };
            !self.plan.slots.contains(&worker.slot) || self.of(worker.slot).any(replaces)
        };
        self.unwanted()
            .find(|(worker, known)| if known.is_up() { replaced(worker) && self.can_spare(now) } else { back || replaced(worker) })
            .map(|(worker, _)| *worker)
    }

    /// A worker for a slot that needs one, where the surge has room; slots that nobody serves come first.
    fn startable(&self) -> Option<Instance> {
        let slots = self.plan.slots.iter().copied().filter(|slot| self.has_room() && self.needs_start(*slot));
        let slot = slots.min_by_key(|slot| (self.of(*slot).any(|(_, known)| known.is_up()), *slot))?;
        let version = if matches!(self.phase, Phase::Back { .. }) { self.plan.from } else { self.plan.to };
        // A free try: a name that was used in this roll is never used again. A slot knows far fewer workers than
        // there are tries, so the last one stands for none.
        let free = |attempt: &u16| !self.workers.contains_key(&version.worker(slot, *attempt));
        Some(version.worker(slot, (1..Instance::MAX_TRY).find(free).unwrap_or(Instance::MAX_TRY)))
    }

    /// An unwanted worker that goes before its replacement: one that serves nobody, where the roll could do nothing
    /// else (it would wait for an ill worker that may never come back); else a ready one, within `max_unavailable`.
    fn dispensable(&self, now: u64) -> Option<Instance> {
        let idle = !self
            .workers
            .iter()
            .any(|(worker, known)| self.is_wanted(worker) && known.stands() && !known.is_soaked(self.plan.min_ready, now));
        let of_needy = || self.unwanted().filter(|(worker, _)| self.needs_start(worker.slot));
        of_needy()
            .find(|(_, known)| idle && !known.is_up())
            .or_else(|| of_needy().find(|(_, known)| known.is_up() && self.can_spare(now)))
            .map(|(worker, _)| *worker)
    }

    /// Whether the goal of the direction is reached.
    fn is_reached(&self, now: u64) -> bool {
        let soaked = |known: &Worker| known.is_soaked(self.plan.min_ready, now);
        let unwanted_left =
            self.workers.iter().any(|(worker, known)| !self.is_wanted(worker) && (known.stands() || known.stage == Stage::Stopping));
        let served = |slot: &Slot| match self.phase {
            Phase::Forward { .. } => self.of(*slot).any(|(worker, known)| self.is_new(worker) && soaked(known)),
            // Old workers that were never retired are as they were before the roll, ill ones too.
            _ => !self.needs_start(*slot) && self.of(*slot).all(|(_, known)| !known.fresh || !known.stands() || soaked(known)),
        };
        self.until().is_some() && !unwanted_left && self.plan.slots.iter().all(served)
    }

    /// Whether a slot lacks a wanted worker that the direction must give it.
    fn needs_start(&self, slot: Slot) -> bool {
        let wanted = self.of(slot).any(|(worker, known)| self.is_wanted(worker) && known.stands());
        let needed = || match self.phase {
            Phase::Back { .. } => self.of(slot).any(|(worker, known)| if self.is_new(worker) { known.is_up() } else { known.retired }),
            _ => true,
        };
        !wanted && needed()
    }

    /// Whether one more may stand. As long as nobody knows whether a stop arrived, nobody knows who stands: the next reading
    /// tells.
    fn has_room(&self) -> bool {
        !self.workers.values().any(Worker::may_still_stand)
            && self.workers.values().filter(|known| known.stands()).count() < self.plan.slots.len() + self.plan.surge
    }

    /// Whether enough serve when one of them goes. A wanted worker counts once it is soaked.
    fn can_spare(&self, now: u64) -> bool {
        let serves = |(worker, known): &(&Instance, &Worker)| {
            if self.is_wanted(worker) { known.is_soaked(self.plan.min_ready, now) } else { known.is_up() }
        };
        // Going back cannot ask more of the old ones than they gave, nor of those that somebody has stopped meanwhile: nobody
        // brings them back.
        let stopped = |slot: &Slot| {
            let mut old = self.of(*slot).filter(|(worker, _)| !self.is_new(worker)).peekable();
            old.peek().is_some() && old.all(|(_, known)| known.stage == Stage::Gone && !known.fresh && !known.retired)
        };
        let given = |slot: &Slot| stopped(slot) && !self.of(*slot).any(|known| serves(&known));
        let lacking = match self.phase {
            Phase::Back { .. } => self.plan.slots.iter().filter(|slot| self.lacking.contains(slot) || given(slot)).count(),
            _ => 0,
        };
        self.workers.iter().filter(serves).count() > self.plan.slots.len().saturating_sub(self.plan.unavailable + lacking)
    }

    fn is_wanted(&self, worker: &Instance) -> bool {
        match self.phase {
            Phase::Forward { .. } => self.is_new(worker) && self.plan.slots.contains(&worker.slot),
            _ => !self.is_new(worker),
        }
    }

    /// The unwanted workers that stand, those that serve nobody first.
    fn unwanted(&self) -> impl Iterator<Item = (&Instance, &Worker)> {
        let of = move |up: bool| {
            self.workers.iter().filter(move |(worker, known)| !self.is_wanted(worker) && known.stands() && known.is_up() == up)
        };
        of(false).chain(of(true))
    }

    /// The workers of a slot.
    fn of(&self, slot: Slot) -> impl Iterator<Item = (&Instance, &Worker)> {
        self.workers.iter().filter(move |(worker, _)| worker.slot == slot)
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
