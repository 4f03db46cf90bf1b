//! What must hold, in the numbers of `src/roll/history`: held against what the units are and what the master was told of them,
//! never against the roll's own books. What the world or people did is forgiven for the workers concerned alone.

use std::collections::BTreeSet;

use crate::names::{Instance, Slot};
use crate::roll::order::Order;
use crate::roll::plan::{Plan, Scope, Target};
use crate::roll::words::{Event, Outcome};
use crate::state::{NOW, Setting, State};
use crate::units::{Life, Told, Unit};

/// What a roll was given, beside its own books.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Basis {
    /// The slots that it shall serve.
    pub slots: BTreeSet<Slot>,
    /// Those that it was to serve when it began.
    pub first: BTreeSet<Slot>,
    /// Those of them that nobody served then.
    pub lacking: BTreeSet<Slot>,
    /// Those where it has asked an old worker to stop.
    pub emptied: BTreeSet<Slot>,
    /// How many served at least ever since, but for those that somebody took.
    pub floor: usize,
    /// What was asked for meanwhile.
    pub asked: Option<Order>,
    /// How many workers somebody took on this way.
    pub hurts: u8,
    /// Those whose old worker a person has stopped.
    pub by_hand: BTreeSet<Slot>,
    /// The world has changed before this judgement and could not be read: the end is one of what was told.
    pub unseen: bool,
    /// How much has happened on this way that a roll may fail of.
    pub causes: u8,
}

impl State {
    pub fn is_new(&self, worker: &Instance) -> bool {
        let Plan { from, to, .. } = self.roll.plan();
        if from.generation == to.generation {
            self.units.all.get(worker).is_some_and(|unit| unit.new)
        } else {
            worker.generation == to.generation
        }
    }

    /// Surge and unavailable, by the keys and not by the plan.
    fn bounds(&self, setting: &Setting) -> (usize, usize) {
        let Target { surge, unavailable, .. } = Target::of(self.basis.slots.clone(), &setting.reload);
        if self.roll.plan().scope == Scope::App { (surge, unavailable) } else { (surge.max(1), 0) }
    }

    fn floor(&self, setting: &Setting) -> usize {
        self.basis.slots.len().saturating_sub(self.bounds(setting).1)
    }

    /// Other slots are to be served.
    pub fn serve(&mut self, setting: &Setting, slots: BTreeSet<Slot>) {
        self.basis.slots = slots;
        self.basis.floor = self.basis.floor.min(self.floor(setting));
    }

    fn told(&self, worker: &Instance) -> Told {
        self.units.all.get(worker).map_or(Told::NotUp, |unit| unit.told)
    }

    /// The workers that the roll is about and that it has not asked to stop.
    fn remaining(&self) -> impl Iterator<Item = (&Instance, &Unit)> {
        let scope = &self.roll.plan().scope;
        self.units.all.iter().filter(|(worker, unit)| scope.has(worker.slot) && !unit.retiring)
    }

    /// The slots that no worker serves as far as was told.
    pub fn unserved(&self, slots: &BTreeSet<Slot>) -> BTreeSet<Slot> {
        let serves =
            |slot: &Slot| self.units.all.iter().any(|(worker, unit)| worker.slot == *slot && !unit.retiring && unit.told >= Told::Up);
        slots.iter().filter(|slot| !serves(slot)).copied().collect()
    }

    /// The slots whose old worker somebody has stopped.
    fn stopped(&self) -> BTreeSet<Slot> {
        let old = |slot: &Slot| self.units.all.keys().any(|worker| worker.slot == *slot && !self.is_new(worker));
        let unserved = self.unserved(&self.basis.slots);
        unserved.into_iter().filter(|slot| !self.basis.emptied.contains(slot) && !old(slot)).collect()
    }

    fn serves(&self, worker: &Instance) -> bool {
        let replaces = self.is_new(worker) && self.basis.slots.contains(&worker.slot);
        self.told(worker) >= if replaces { Told::Soaked } else { Told::Up }
    }

    /// Whether a worker serves beside another of its slot, or where none is wanted.
    fn is_spare(&self, worker: &Instance) -> bool {
        let beside = |(other, _): (&Instance, &Unit)| other.slot == worker.slot && other != worker && self.serves(other);
        self.serves(worker) && (!self.basis.slots.contains(&worker.slot) || self.remaining().any(beside))
    }

    /// Invariants 1, 4 and 8.
    pub fn may_stop(&self, setting: &Setting, worker: &Instance, back: bool) -> Result<(), String> {
        if !self.roll.plan().scope.has(worker.slot) {
            return Err(format!("invariant 8: {worker} is none of its business"));
        }
        if back && !self.is_new(worker) {
            return Err(format!("invariant 8: on its way back it touches {worker}"));
        }
        if self.told(worker) == Told::NotUp {
            return Ok(());
        }
        let ready = self.remaining().filter(|(other, unit)| *other != worker && unit.told >= Told::Up).count();
        let forgiven = if back { self.basis.lacking.union(&self.stopped()).count() } else { 0 };
        if ready + forgiven < self.floor(setting) {
            return Err(format!("invariant 1: without {worker} only {ready} are ready"));
        }
        let soaked = |(other, unit): (&Instance, &Unit)| other.slot == worker.slot && self.is_new(other) && unit.told == Told::Soaked;
        let replaced = self.remaining().any(soaked);
        let enough = self.remaining().filter(|(other, _)| *other != worker && self.serves(other)).count() >= self.floor(setting);
        let spare = self.bounds(setting).1 > 0 || self.remaining().any(|(other, _)| self.is_spare(other));
        let none = !self.basis.slots.contains(&worker.slot);
        if !(back || self.is_new(worker) || replaced || none || enough && spare) {
            return Err(format!("invariant 4: {worker} goes before its replacement was ready for long enough"));
        }
        Ok(())
    }

    /// Invariants 2 and 7.
    pub fn may_start(&self, setting: &Setting, worker: &Instance) -> Result<(), String> {
        if self.units.all.contains_key(worker) {
            return Err(format!("invariant 7: {worker} is started twice"));
        }
        let standing = self.remaining().filter(|(_, unit)| unit.stands()).count();
        if standing >= self.basis.slots.len() + self.bounds(setting).0 {
            return Err(format!("invariant 2: {standing} stand and {worker} is started"));
        }
        if !self.basis.slots.contains(&worker.slot) {
            return Err(format!("{worker} is started, and its slot is none that is wanted"));
        }
        Ok(())
    }

    /// Invariant 1 as a client sees it.
    pub fn nothing_lost(&self) -> Result<(), String> {
        if self.over.is_some() || self.handle_left {
            return Ok(());
        }
        let scope = &self.roll.plan().scope;
        let ready = self.units.all.iter().filter(|(worker, unit)| scope.has(worker.slot) && unit.life == Life::Up).count();
        if ready + usize::from(self.basis.hurts) < self.basis.floor {
            return Err(format!("invariant 1: only {ready} are ready, and nobody but the roll did it"));
        }
        Ok(())
    }

    /// Invariant 8: every wait has an end, and a soak that the roll waits for wakes it.
    pub fn waits_for_something(&self, wakes: Option<u64>) -> Result<(), String> {
        let soaks = self.roll.workers().values().filter(|known| known.is_up() && !known.is_soaked(self.roll.plan().min_ready, NOW));
        let first = soaks.map(|_| NOW + self.roll.plan().min_ready).chain(self.roll.until()).min();
        match wakes {
            Some(at) if at > NOW && first.is_some_and(|first| at <= first) => Ok(()),
            _ => Err(format!("invariant 8: it wakes at {wakes:?} and not by {first:?}")),
        }
    }

    /// On the way back a new worker that serves nobody goes at once.
    pub fn keeps_nobody_useless(&self) -> Result<(), String> {
        let useless = |worker: &Instance, up: bool| self.is_back() && self.roll.is_new(worker) && !up;
        match self.roll.workers().iter().find(|(worker, known)| known.stands() && useless(worker, known.is_up())) {
            Some((worker, _)) => Err(format!("on its way back it keeps {worker}, which serves nobody")),
            None => Ok(()),
        }
    }

    /// Invariant 5: and nothing ends otherwise than a person expects.
    pub fn fine_end(&self, setting: &Setting, outcome: &Outcome) -> Result<(), String> {
        for event in [Event::Timer, Event::World(self.units.read()), Event::HandleLeft, Event::Abort { reason: String::new() }] {
            if !self.roll.clone().step(event, NOW).is_empty() {
                return Err("it acts after its end".into());
            }
        }
        if self.basis.unseen {
            return Ok(());
        }
        let standing = || self.remaining().filter(|(_, unit)| unit.stands()).map(|(worker, _)| worker);
        let (news, olds): (Vec<&Instance>, Vec<&Instance>) = standing().partition(|worker| self.is_new(worker));
        let slots = &self.basis.slots;
        let causes = self.basis.causes;
        let fine = match outcome {
            Outcome::AllNew => {
                let served = |slot: &Slot| news.iter().any(|worker| worker.slot == *slot && self.told(worker) == Told::Soaked);
                olds.is_empty() && news.iter().all(|worker| slots.contains(&worker.slot)) && slots.iter().all(served)
            }
            Outcome::AllOld { reason } => {
                let back = |slot: &Slot| self.basis.by_hand.contains(slot) || olds.iter().any(|worker| worker.slot == *slot);
                let emptied = self.basis.emptied.iter().filter(|slot| slots.contains(slot));
                causes > 0 && news.is_empty() && !reason.is_empty() && emptied.into_iter().all(back)
            }
            // One thing turns it back, another spoils the way back.
            Outcome::Mixed { reason, who } => {
                let named = standing().all(|worker| who.iter().any(|(named, _)| named == worker));
                causes > 1 && named && !reason.is_empty()
            }
            Outcome::Overtaken => self.handle_left,
        };
        if fine && (self.handle_left || *outcome != Outcome::Overtaken) {
            return Ok(());
        }
        Err(format!("invariant 5: {} of {} blows, {outcome:?} with {news:?} and {olds:?}", causes, setting.blows))
    }
}
