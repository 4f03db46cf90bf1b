//! The invariants, held against what the world is and what the master was told of it.

use std::collections::BTreeSet;

use super::check::History;
use super::world::OLD;
use super::{Fate, Old};
use crate::names::{Instance, Slot};
use crate::roll::machine::Phase;
use crate::roll::plan::Plan;
use crate::roll::words::Outcome;
use crate::systemd::ActiveState;

/// What a roll was given, beside its own books.
pub(super) struct Basis {
    /// The slots that it shall serve.
    pub slots: BTreeSet<Slot>,
    /// Those that it was to serve when it began.
    pub first: BTreeSet<Slot>,
    /// Those of them that nobody served then.
    pub lacking: BTreeSet<Slot>,
    /// Every slot was served when it began, and by one worker alone.
    pub whole: bool,
    pub plain: bool,
    /// Started on its way forward.
    pub started: BTreeSet<Instance>,
    /// Asked to stop.
    pub retired: BTreeSet<Instance>,
}

impl History<'_> {
    pub(super) fn is_new(&self, worker: &Instance) -> bool {
        let Plan { from, to, .. } = self.roll.plan();
        if from.generation == to.generation { self.basis.started.contains(worker) } else { worker.generation == to.generation }
    }

    fn floor(&self) -> usize {
        self.basis.slots.len().saturating_sub(self.roll.plan().unavailable)
    }

    fn told_up(&self, instance: &Instance) -> bool {
        self.told.get(instance).is_some_and(|told| told.0 == ActiveState::Active)
    }

    fn told_soaked(&self, instance: &Instance) -> bool {
        self.told_up(instance) && self.world.now >= self.told[instance].1 + self.scenario.min_ready
    }

    /// The workers that the roll is about and that nobody retired.
    fn remaining(&self) -> impl Iterator<Item = &Instance> {
        let scope = &self.roll.plan().scope;
        self.told.keys().filter(|instance| scope.has(instance.slot) && !self.world.retiring.contains(instance))
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

    /// Invariants 1, 4 and 8.
    pub(super) fn may_stop(&self, instance: &Instance, back: bool) -> Result<(), String> {
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
        // A new one is a replacement where its slot is wanted; where it is none any more, it serves like an old one.
        let replaces = |other: &Instance| self.is_new(other) && self.basis.slots.contains(&other.slot);
        let serves = |other: &Instance| if replaces(other) { self.told_soaked(other) } else { self.told_up(other) };
        let soaked = |other: &&Instance| *other != instance && serves(other);
        let replaced = self.remaining().any(|other| other.slot == instance.slot && self.is_new(other) && self.told_soaked(other));
        let enough = self.remaining().filter(soaked).count() >= self.floor();
        let spare = self.roll.plan().unavailable > 0 || !self.basis.plain || self.meddled;
        let none = !self.basis.slots.contains(&instance.slot);
        let may_go = replaced || none || enough && spare;
        if !back && !self.is_new(instance) && !may_go {
            return Err(format!("invariant 4: {instance} goes before its replacement was ready for long enough"));
        }
        Ok(())
    }

    /// Invariants 2 and 7.
    pub(super) fn may_start(&self, instance: &Instance) -> Result<(), String> {
        // One that a person started meanwhile may be up without its having been told: for systemd there is nothing to do.
        let unit = self.world.units.get(instance).filter(|_| !self.by_hand.contains(instance));
        if unit.is_some_and(|unit| unit.job.is_some() || !matches!(unit.state, ActiveState::Inactive | ActiveState::Failed)) {
            return Err(format!("invariant 7: {instance} is started twice"));
        }
        let scope = &self.roll.plan().scope;
        let lives =
            |other: &&Instance| matches!(self.world.state(other), ActiveState::Active | ActiveState::Activating) && scope.has(other.slot);
        let standing = self.world.units.keys().filter(|other| !self.world.retiring.contains(other)).filter(lives).count();
        if !self.meddled && standing >= self.basis.slots.len() + self.roll.plan().surge {
            return Err(format!("invariant 2: {standing} stand and {instance} is started"));
        }
        if !self.basis.slots.contains(&instance.slot) {
            return Err(format!("{instance} is started, and its slot is none that is wanted"));
        }
        Ok(())
    }

    /// Invariant 1 as a client sees it, as long as only the roll acts.
    pub(super) fn nothing_lost(&self) -> Result<(), String> {
        let scope = &self.roll.plan().scope;
        let ready = self.world.units.iter().filter(|(worker, unit)| scope.has(worker.slot) && unit.state == ActiveState::Active).count();
        if self.basis.whole && !self.world.disturbed && !self.left && ready < self.floor() {
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
        let fine = match outcome {
            Outcome::AllNew => olds.is_empty() && news.iter().all(wanted) && self.basis.slots.iter().all(served),
            Outcome::AllOld { reason } => {
                let emptied = |slot: &&Slot| self.basis.retired.iter().any(|gone| gone.slot == **slot && !self.is_new(gone));
                let back = |slot: &Slot| self.meddled || olds.iter().any(|worker| worker.slot == *slot);
                news.is_empty() && !reason.is_empty() && self.basis.slots.iter().filter(emptied).all(back)
            }
            Outcome::Mixed { who, reason } => {
                let named = remaining.iter().all(|worker| who.iter().any(|(named, _)| named == *worker));
                let ill = |fate: &Fate| !matches!(fate, Fate::Ready(_));
                // Only the old ones' own failure, or somebody else, may spoil the way back.
                let from = if self.roll.plan().from == OLD { &self.scenario.again } else { &self.scenario.new };
                let cause = self.world.disturbed || self.meddled || self.scenario.old.contains(&Old::Ill) || from.iter().any(ill);
                named && cause && !reason.is_empty()
            }
            Outcome::Overtaken => self.left,
        };
        if fine { Ok(()) } else { Err(format!("invariant 5: {outcome:?} with {news:?} and {olds:?}")) }
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
