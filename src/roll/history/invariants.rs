//! The invariants, held against what the world is and what the master was told of it.

use std::collections::BTreeSet;

use super::check::{Asked, History};
use super::world::{OLD, Unit};
use super::{Fate, Old};
use crate::config::settings::{Amount, Reload};
use crate::names::{Instance, Slot};
use crate::roll::machine::Phase;
use crate::roll::plan::{Plan, Scope, Version};
use crate::roll::words::Outcome;
use crate::systemd::ActiveState;

/// What a roll was given, beside its own books.
#[derive(Default)]
pub(super) struct Basis {
    /// The slots that it shall serve.
    pub slots: BTreeSet<Slot>,
    /// Those that it was to serve when it began.
    pub first: BTreeSet<Slot>,
    /// Those of them that nobody served then.
    pub lacking: BTreeSet<Slot>,
    /// Since when the handle was active then.
    pub handle: Option<u64>,
    /// How many ready ones lack of the floor as far as was told, and not by the roll's doing.
    short: usize,
    /// Started on its way forward.
    pub started: BTreeSet<Instance>,
    /// Asked to stop.
    pub retired: BTreeSet<Instance>,
    /// As many new ones as there were to be canaries have been ready for as long as they were to be.
    passed: bool,
    /// How many may live, of a roll of single slots.
    pub live: usize,
    /// Somebody else had a hand in it; somebody wanted it to end.
    pub touched: bool,
    pub aborted: bool,
}

impl Basis {
    pub fn new(first: BTreeSet<Slot>, lacking: BTreeSet<Slot>, handle: Option<u64>) -> Self {
        Self { first, lacking, handle, ..Self::default() }
    }
}

impl History<'_> {
    pub(super) fn is_new(&self, worker: &Instance) -> bool {
        let Plan { from, to, .. } = self.roll.plan();
        if from.generation == to.generation { self.basis.started.contains(worker) } else { worker.generation == to.generation }
    }

    /// `max_surge` and `max_unavailable` in workers, by a sum of our own.
    fn bounds(&self) -> (usize, usize) {
        let (Reload { max_surge, max_unavailable, .. }, count) = (self.scenario.reload, self.basis.slots.len());
        let share = |amount, rest| match amount {
            Amount::Count(number) => usize::from(number),
            Amount::Percent(share) => (count * usize::from(share) + rest) / 100,
        };
        match (share(max_surge, 99), share(max_unavailable, 0).min(count)) {
            (surge, _) if self.roll.plan().scope != Scope::App => (surge.max(1), 0),
            (0, unavailable) => (0, unavailable.max(1)),
            both => both,
        }
    }

    /// How many canaries there are to be, and for how long.
    fn canaries(&self) -> (usize, u64) {
        let (Reload { canary, bake, min_ready, .. }, count) = (self.scenario.reload, self.basis.slots.len());
        if self.roll.plan().scope != Scope::App {
            return (0, 0);
        }
        let share = match canary {
            Amount::Count(number) => usize::from(number),
            // Of the slots when it began.
            Amount::Percent(share) => (self.basis.first.len() * usize::from(share)).div_ceil(100),
        };
        (share.min(self.basis.first.len()).min(count), u64::try_from(bake.max(min_ready).as_millis()).unwrap())
    }

    /// `max_live`, of so many workers wanted: never less than a roll needs.
    pub(super) fn live_at_most(&self, wanted: usize) -> usize {
        let asked = match self.scenario.reload.max_live {
            None => wanted * 2,
            Some(Amount::Count(number)) => number.into(),
            Some(Amount::Percent(share)) => (wanted * usize::from(share)).div_ceil(100),
        };
        asked.max(wanted + self.bounds().0.max(self.canaries().0))
    }

    /// Whether the canaries have been seen to be fit.
    pub(super) fn see_canaries(&mut self) {
        let (count, bake) = self.canaries();
        let fit = |worker: &&Instance| {
            let new = self.is_new(worker) && self.basis.slots.contains(&worker.slot);
            new && self.told_up(worker) && self.world.now >= self.told[*worker].1 + bake
        };
        self.basis.passed |= self.remaining().filter(fit).count() >= count;
    }

    fn floor(&self) -> usize {
        self.basis.slots.len().saturating_sub(self.bounds().1)
    }

    /// Other slots are to be served: what lacks of that is nobody's doing.
    pub(super) fn serve(&mut self, slots: BTreeSet<Slot>) {
        if slots != self.basis.slots {
            self.basis.slots = slots;
            self.basis.short = self.floor();
            self.settle();
        }
    }

    /// What was just told. A worker that somebody took lacks of the floor until that was reached once more.
    pub(super) fn settle(&mut self) {
        let up: BTreeSet<Instance> = self.remaining().filter(|worker| self.told_up(worker)).copied().collect();
        let scope = &self.roll.plan().scope;
        let told = |worker: &&Instance| scope.has(worker.slot) && self.is_kept(worker) && !up.contains(worker);
        let took = self.world.lost.iter().filter(told).count();
        self.basis.short = (self.basis.short + took).min(self.floor().saturating_sub(up.len()));
        self.world.lost.retain(|worker| up.contains(worker));
    }

    fn told_up(&self, instance: &Instance) -> bool {
        self.told.get(instance).is_some_and(|told| told.0 == ActiveState::Active)
    }

    fn told_soaked(&self, instance: &Instance) -> bool {
        self.told_up(instance) && self.world.now >= self.told[instance].1 + self.roll.plan().min_ready
    }

    /// The workers that the roll is about and that nobody retired.
    fn remaining(&self) -> impl Iterator<Item = &Instance> {
        let scope = &self.roll.plan().scope;
        self.told.keys().filter(|instance| scope.has(instance.slot) && self.is_kept(instance))
    }

    /// Whether the roll has not asked it to stop, or has been told that nobody knows what came of that.
    fn is_kept(&self, instance: &Instance) -> bool {
        !self.world.retiring.contains(instance) && !self.threat.unheard.contains(instance)
    }

    /// The slots that no worker serves as far as was told.
    pub(super) fn unserved(&self, slots: &BTreeSet<Slot>) -> BTreeSet<Slot> {
        let served: BTreeSet<Slot> = self
            .told
            .keys()
            .filter(|worker| self.told_up(worker) && !self.world.retiring.contains(worker))
            .map(|worker| worker.slot)
            .collect();
        slots.difference(&served).copied().collect()
    }

    /// The slots whose old worker somebody has stopped: nobody serves them, nobody brings one back, and the roll has retired
    /// none there.
    fn stopped(&self) -> BTreeSet<Slot> {
        let ours = |slot: &Slot| self.basis.retired.iter().any(|worker| worker.slot == *slot && !self.is_new(worker));
        let down = |(worker, told): (&Instance, &(ActiveState, u64))| {
            self.is_new(worker) || matches!(told.0, ActiveState::Inactive | ActiveState::Failed)
        };
        let gone = |slot: &Slot| self.told.iter().filter(|(worker, _)| worker.slot == *slot).all(down);
        self.unserved(&self.basis.slots).into_iter().filter(|slot| !ours(slot) && gone(slot)).collect()
    }

    /// Whether a worker serves. A new one is a replacement where its slot is wanted, and so has to be soaked; where it is
    /// none any more, it serves like an old one.
    fn serves(&self, worker: &Instance) -> bool {
        let replaces = self.is_new(worker) && self.basis.slots.contains(&worker.slot);
        if replaces { self.told_soaked(worker) } else { self.told_up(worker) }
    }

    /// Whether a worker serves beside another of its slot, or where none is wanted: the roll may do with one less.
    fn is_spare(&self, worker: &Instance) -> bool {
        let beside = |other: &Instance| other.slot == worker.slot && other != worker && self.serves(other);
        self.serves(worker) && (!self.basis.slots.contains(&worker.slot) || self.remaining().any(beside))
    }

    /// Invariants 1, 4 and 8.
    pub(super) fn may_stop(&mut self, instance: &Instance, back: bool) -> Result<(), String> {
        if !self.roll.plan().scope.has(instance.slot) {
            return Err(format!("invariant 8: {instance} is none of its business"));
        }
        if back && !self.is_new(instance) {
            return Err(format!("invariant 8: on its way back it touches {instance}"));
        }
        if !self.told_up(instance) {
            return Ok(());
        }
        let ready = self.remaining().filter(|other| *other != instance && self.told_up(other)).count();
        let forgiven = if back { self.basis.lacking.union(&self.stopped()).count() } else { 0 };
        if ready + forgiven < self.floor() {
            return Err(format!("invariant 1: without {instance} only {ready} are ready"));
        }
        // Beside another old one that serves its slot, one is needed no more, canaries or not.
        let doubled =
            || self.remaining().any(|other| other != instance && other.slot == instance.slot && !self.is_new(other) && self.told_up(other));
        if !back && !self.is_new(instance) && !self.basis.passed && self.basis.slots.contains(&instance.slot) && !doubled() {
            return Err(format!("{instance} goes before the canaries have passed"));
        }
        let replaced = self.remaining().any(|other| other.slot == instance.slot && self.is_new(other) && self.told_soaked(other));
        let enough = self.remaining().filter(|other| *other != instance && self.serves(other)).count() >= self.floor();
        let spare = self.bounds().1 > 0 || self.remaining().any(|other| self.is_spare(other));
        let none = !self.basis.slots.contains(&instance.slot);
        let may_go = replaced || none || enough && spare;
        if !back && !self.is_new(instance) && !may_go {
            return Err(format!("invariant 4: {instance} goes before its replacement was ready for long enough"));
        }
        self.basis.short = self.basis.short.max(self.floor().saturating_sub(ready));
        Ok(())
    }

    /// Invariants 2 and 7.
    pub(super) fn may_start(&self, instance: &Instance) -> Result<(), String> {
        // One that a person started, and that was not told yet.
        let unseen = |other: &Instance| {
            let told = self.told.get(other).is_some_and(|told| matches!(told.0, ActiveState::Active | ActiveState::Activating));
            self.by_hand.contains(other) && !self.starting.contains(other) && !told
        };
        let unit = self.world.units.get(instance).filter(|_| !unseen(instance));
        if unit.is_some_and(|unit| unit.job.is_some() || !matches!(unit.state, ActiveState::Inactive | ActiveState::Failed)) {
            return Err(format!("invariant 7: {instance} is started twice"));
        }
        let scope = &self.roll.plan().scope;
        let stands = |other: &&Instance| {
            let lives = matches!(self.world.state(other), ActiveState::Active | ActiveState::Activating);
            lives && scope.has(other.slot) && self.is_kept(other) && !unseen(other)
        };
        let standing = self.world.units.keys().filter(stands).count();
        let trying = !self.basis.passed && matches!(self.roll.phase(), Phase::Forward { .. });
        let extra = if trying { self.bounds().0.max(self.canaries().0) } else { self.bounds().0 };
        if standing >= self.basis.slots.len() + extra {
            return Err(format!("invariant 2: {standing} stand and {instance} is started"));
        }
        let canaries = self.world.units.keys().filter(stands).filter(|other| self.is_new(other) && self.basis.slots.contains(&other.slot));
        if trying && canaries.count() >= self.canaries().0 {
            return Err(format!("{instance} is started before the canaries have passed"));
        }
        let lives = |(other, unit): &(&Instance, &Unit)| {
            !matches!(unit.state, ActiveState::Inactive | ActiveState::Failed) && !self.by_hand.contains(*other)
        };
        let live = self.world.units.iter().filter(lives).count();
        let most = if *scope == Scope::App { self.live_at_most(self.basis.slots.len()) } else { self.basis.live };
        // Where nothing is on its way down, there is nothing to wait for.
        let ends = |(other, unit): &(&Instance, &Unit)| {
            let told = self.told.get(*other).is_some_and(|told| told.0 == ActiveState::Deactivating);
            told || unit.state == ActiveState::Deactivating && self.world.retiring.contains(*other)
        };
        if live >= most && self.world.units.iter().filter(lives).any(|unit| ends(&unit)) {
            return Err(format!("invariant 2: {live} live and {instance} is started"));
        }
        if !self.basis.slots.contains(&instance.slot) {
            return Err(format!("{instance} is started, and its slot is none that is wanted"));
        }
        Ok(())
    }

    /// Invariant 1 as a client sees it, but for what somebody else has taken.
    pub(super) fn nothing_lost(&self) -> Result<(), String> {
        let scope = &self.roll.plan().scope;
        let ready = self.world.units.iter().filter(|(worker, unit)| scope.has(worker.slot) && unit.state == ActiveState::Active).count();
        let taken = self.world.lost.iter().filter(|worker| scope.has(worker.slot)).count();
        if !self.overtaken() && ready + taken + self.basis.short < self.floor() {
            return Err(format!("invariant 1: only {ready} are ready, and nobody but the roll did it"));
        }
        Ok(())
    }

    /// Invariant 5.
    pub(super) fn fine_end(&self, outcome: &Outcome) -> Result<(), String> {
        let new = |instance: &&&Instance| self.is_new(instance);
        let stands = |instance: &&Instance| matches!(self.told[*instance].0, ActiveState::Active | ActiveState::Activating);
        let remaining: Vec<&Instance> = self.remaining().filter(stands).collect();
        let (news, olds): (Vec<&Instance>, Vec<&Instance>) = remaining.iter().partition(new);
        let wanted = |worker: &&Instance| self.basis.slots.contains(&worker.slot);
        let served = |slot: &Slot| news.iter().any(|worker| worker.slot == *slot && self.told_soaked(worker));
        let fates = |version: Version| if version == OLD { &self.scenario.again } else { &self.scenario.new };
        let ill = |version| fates(version).iter().any(|fate| !matches!(fate, Fate::Ready(_)));
        let touched = self.basis.touched || self.scenario.old.contains(&Old::Ill);
        let Plan { from, to, .. } = *self.roll.plan();
        let fine = match outcome {
            Outcome::AllNew => {
                // What a person started where nobody served, of the version that is wanted, is what the roll was to start.
                let joined = |worker: &&Instance| {
                    from == to && self.by_hand.contains(*worker) && self.basis.lacking.contains(&worker.slot) && wanted(worker)
                };
                let by_hand = |slot: &Slot| olds.iter().any(|worker| worker.slot == *slot);
                olds.iter().all(joined) && news.iter().all(wanted) && self.basis.slots.iter().all(|slot| served(slot) || by_hand(slot))
            }
            Outcome::AllOld { reason } => {
                let emptied = |slot: &&Slot| self.basis.retired.iter().any(|gone| gone.slot == **slot && !self.is_new(gone));
                let by_hand = |slot: &Slot| self.by_hand.iter().any(|worker| worker.slot == *slot && !self.is_new(worker));
                let back = |slot: &Slot| by_hand(slot) || olds.iter().any(|worker| worker.slot == *slot);
                let cause = touched || self.basis.aborted || ill(to);
                news.is_empty() && cause && !reason.is_empty() && self.basis.slots.iter().filter(emptied).all(back)
            }
            Outcome::Mixed { who, reason } => {
                let named = remaining.iter().all(|worker| who.iter().any(|(named, _)| named == *worker));
                // Only the old ones' own failure, or somebody else, may spoil the way back.
                named && (touched || ill(from)) && !reason.is_empty()
            }
            Outcome::Overtaken => self.overtaken(),
        };
        if fine { Ok(()) } else { Err(format!("invariant 5: {outcome:?} with {news:?} and {olds:?}")) }
    }

    /// Invariant 9: the outcome goes to those who asked for this very roll.
    pub(super) fn right_answer(&mut self, outcome: &Outcome) -> Result<(), String> {
        let (running, to) = (self.queue.running(), self.roll.plan().to);
        let answer = self.answers.last_mut().filter(|answer| Some(answer.ticket) == running && answer.outcome.is_none());
        let answer = answer.filter(|answer| answer.plan.as_ref().is_ok_and(|plan| plan.to == to));
        let Some(answer) = answer else { return Err(format!("invariant 9: {outcome:?} of {to} is told to {running:?}")) };
        answer.outcome = Some(outcome.clone());
        Ok(())
    }

    /// Invariants 6 and 9: one answer for each who asked, by a roll that began when it was asked for or later and that was
    /// about what was asked for, or by a refusal; and no more rolls than that.
    pub(super) fn all_answered(&self) -> Result<(), String> {
        for Asked { ticket, at, order, highest } in &self.asked {
            let Some(answer) = self.answers.iter().find(|answer| answer.ticket == *ticket && answer.begun >= *at) else {
                return Err(format!("invariant 6: nobody answers roll {}", ticket.0));
            };
            let plan = match &answer.plan {
                Ok(plan) => plan,
                Err(true) => continue,
                Err(false) => return Err(format!("invariant 9: {order:?} is refused for nothing")),
            };
            let deployed = !order.deploy || plan.scope == Scope::App && plan.to.generation > *highest;
            let restarted = order.restart.intersection(&answer.wanted).all(|slot| plan.scope.has(*slot));
            if !deployed || !restarted || answer.outcome.is_none() {
                return Err(format!("invariant 9: {order:?} is answered by {plan:?}, which ended {:?}", answer.outcome));
            }
        }
        if self.answers.windows(2).any(|pair| pair[0].ticket >= pair[1].ticket) || self.answers.len() > self.asked.len() {
            return Err("invariant 6: more rolls were begun than asked for".into());
        }
        Ok(())
    }

    pub(super) fn keeps_nobody_useless(&self) -> Result<(), String> {
        let back = matches!(self.roll.phase(), Phase::Back { .. });
        let useless =
            |(worker, known): &(&Instance, &crate::roll::stage::Worker)| back && self.is_new(worker) && known.stands() && !known.is_up();
        match self.roll.workers().iter().find(useless) {
            Some((worker, _)) => Err(format!("on its way back it keeps {worker}, which serves nobody")),
            None => Ok(()),
        }
    }
}
