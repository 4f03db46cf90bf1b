//! What the laws of a roll (`src/roll/laws.rs`) are held against here: what the units are and what the master was told of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::{Instance, Slot};
use crate::roll::laws::{self, Case, Causes, Seen, Terms, Told};
use crate::roll::machine::Phase;
use crate::roll::order::Order;
use crate::roll::plan::Plan;
use crate::roll::words::Outcome;
use crate::state::{NOW, Setting, State};
use crate::units::Life;

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
    /// How many slots the app had then.
    pub target: usize,
    /// How many served at least ever since, but for those that somebody took.
    pub floor: usize,
    /// Its canaries have been told to be fit, or there are none.
    pub passed: bool,
    /// One has been told to have ended before that, and nobody has said `resume` since.
    pub failed: bool,
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
    /// How often somebody has said `resume`.
    pub words: u8,
}

impl State {
    pub fn is_new(&self, worker: &Instance) -> bool {
        let Plan { from, to, .. } = self.roll.plan();
        if from.generation == to.generation {
            // Of those that are not there only one whose start never arrived matters.
            self.units.all.get(worker).is_none_or(|unit| unit.new)
        } else {
            worker.generation == to.generation
        }
    }

    pub fn terms<'a>(&'a self, setting: &'a Setting) -> Terms<'a> {
        let Basis { slots, first, target, .. } = &self.basis;
        Terms { scope: &self.roll.plan().scope, reload: &setting.reload, slots, first, target: *target }
    }

    fn workers(&self) -> BTreeMap<Instance, Seen> {
        let seen = self.units.all.iter().map(|(worker, unit)| {
            let (new, kept, told, stands) = (self.is_new(worker), !unit.retiring, unit.told, unit.stands());
            (*worker, Seen { new, kept, told, stands, lives: !unit.by_hand, ends: unit.life == Life::Down, joins: false })
        });
        seen.collect()
    }

    pub fn case<'a>(&'a self, setting: &'a Setting) -> Case<'a> {
        let (lacking, stopped, passed) = (&self.basis.lacking, self.stopped(), self.basis.passed);
        Case { terms: self.terms(setting), lacking, stopped, passed, workers: self.workers() }
    }

    /// Other slots are to be served.
    pub fn serve(&mut self, setting: &Setting, slots: BTreeSet<Slot>) {
        self.basis.slots = slots;
        self.basis.floor = self.basis.floor.min(self.terms(setting).floor());
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

    /// A call: invariants 1, 2, 4, 7 and 8, and the canaries'.
    pub fn may_start(&self, setting: &Setting, worker: &Instance, back: bool) -> Result<(), String> {
        if self.units.all.contains_key(worker) {
            return Err(format!("invariant 7: {worker} is started twice"));
        }
        self.case(setting).may_start(worker, back)
    }

    pub fn may_stop(&self, setting: &Setting, worker: &Instance, back: bool) -> Result<(), String> {
        let mut case = self.case(setting);
        // One that has gone, or never came, and nobody has said so.
        let new = self.is_new(worker);
        case.workers.entry(*worker).or_insert(Seen {
            new,
            kept: true,
            told: Told::NotUp,
            stands: false,
            lives: false,
            ends: false,
            joins: false,
        });
        case.may_stop(worker, back)
    }

    /// What was just told of canaries.
    ///
    /// One that ends, and be it back before anybody looks, has failed the trial: from then on the roll goes on nowhere but back,
    /// or waits for a word.
    pub fn see_canaries(&mut self, setting: &Setting, read: bool) {
        if self.basis.passed {
            return;
        }
        let ended = |worker: &Instance| {
            let known = self.roll.workers().get(worker).map_or(0, |known| known.restarts);
            self.units.all.get(worker).is_none_or(|unit| unit.life != Life::Up || u32::from(unit.restarts) > known)
        };
        self.basis.failed |= read && self.roll.on_trial().iter().any(|worker| self.basis.slots.contains(&worker.slot) && ended(worker));
        self.basis.failed &= self.terms(setting).canaries() > 0;
        self.basis.passed = !self.basis.failed && self.case(setting).have_passed(|_, seen| seen.told == Told::Soaked);
    }

    /// What a roll makes of canaries that failed.
    pub fn heeds_canaries(&self) -> Result<(), String> {
        if self.basis.failed && !self.basis.passed && matches!(self.roll.phase(), Phase::Forward { .. }) {
            return Err("a canary has ended, and it goes on".into());
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

    /// Invariant 8: every wait has an end, and a soak that the roll waits for wakes it; a pause waits for a person alone.
    pub fn waits_for_something(&self, wakes: Option<u64>) -> Result<(), String> {
        if matches!(self.roll.phase(), Phase::Paused { .. }) {
            return if wakes == Some(u64::MAX) { Ok(()) } else { Err(format!("it is paused, and wakes at {wakes:?}")) };
        }
        let soaks = self.roll.workers().values().filter(|known| known.is_up() && !known.is_soaked(self.roll.plan().min_ready, NOW));
        let first = soaks.map(|_| NOW + self.roll.plan().min_ready).chain(self.roll.until()).min();
        match wakes {
            Some(at) if at > NOW && first.is_some_and(|first| at <= first) => Ok(()),
            _ => Err(format!("invariant 8: it wakes at {wakes:?} and not by {first:?}")),
        }
    }

    /// Invariant 5.
    pub fn fine_end(&self, setting: &Setting, outcome: &Outcome) -> Result<(), String> {
        laws::is_over(&self.roll, self.units.read(), NOW)?;
        if self.basis.unseen {
            return Ok(());
        }
        let Basis { causes, emptied, by_hand, .. } = &self.basis;
        // One thing turns it back, another spoils the way back.
        let why = Causes { turned: *causes > 0, spoiled: *causes > 1, overtaken: self.handle_left, emptied, by_hand };
        self.case(setting).fine_end(outcome, &why).map_err(|broken| format!("{broken}, by {causes} of {} blows", setting.blows))?;
        if self.handle_left && *outcome != Outcome::Overtaken {
            return Err(format!("invariant 5: the app was stopped, and it ends {outcome:?}"));
        }
        Ok(())
    }
}
