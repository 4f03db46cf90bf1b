//! What the laws of a roll are held against: what the world is and what the master was told of it.

use std::collections::BTreeSet;

use super::check::{Asked, History};
use super::world::{OLD, Unit};
use super::{Fate, Old};
use crate::config::settings::Reload;
use crate::names::{Instance, Slot};
use crate::roll::laws::{Case, Causes, Seen, Terms, Told};
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
    /// How many slots the app had when it began.
    pub target: usize,
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

    fn terms(&self) -> Terms<'_> {
        let Basis { slots, first, target, .. } = &self.basis;
        Terms { scope: &self.roll.plan().scope, reload: &self.scenario.reload, slots, first, target: *target }
    }

    fn floor(&self) -> usize {
        self.terms().floor()
    }

    /// How things stand; at the end those stand that were told to.
    fn case(&self, end: bool) -> Case<'_> {
        let Plan { from, to, .. } = self.roll.plan();
        let seen = |worker: &Instance| {
            let told = self.told.get(worker).map(|told| told.0);
            let unit = self.world.units.get(worker).filter(|unit| !matches!(unit.state, ActiveState::Inactive | ActiveState::Failed));
            let up_or_coming = |state| matches!(state, ActiveState::Active | ActiveState::Activating);
            // One that a person started, and that was not told yet.
            let unseen = self.by_hand.contains(worker) && !self.starting.contains(worker) && !told.is_some_and(up_or_coming);
            let leaves = unit.is_some_and(|unit| unit.state == ActiveState::Deactivating && self.world.retiring.contains(worker));
            Seen {
                new: self.is_new(worker),
                kept: self.is_kept(worker),
                told: match told {
                    Some(ActiveState::Active) if self.told_soaked(worker) => Told::Soaked,
                    Some(ActiveState::Active) => Told::Up,
                    _ => Told::NotUp,
                },
                stands: if end { told.is_some_and(up_or_coming) } else { unit.is_some_and(|unit| up_or_coming(unit.state)) && !unseen },
                lives: unit.is_some() && !self.by_hand.contains(worker),
                ends: leaves || told == Some(ActiveState::Deactivating),
                joins: from == to && self.by_hand.contains(worker) && self.basis.lacking.contains(&worker.slot),
            }
        };
        let workers = self.told.keys().chain(self.world.units.keys()).map(|worker| (*worker, seen(worker))).collect();
        let (passed, stopped) = (self.basis.passed, self.stopped());
        Case { terms: self.terms(), lacking: &self.basis.lacking, stopped, passed, workers }
    }

    /// Whether the canaries have been seen to be fit.
    pub(super) fn see_canaries(&mut self) {
        let up = || self.told.keys().filter(|worker| self.told_up(worker) && self.is_new(worker)).count();
        if !self.basis.passed && up() >= self.terms().canaries() {
            let Reload { bake, min_ready, .. } = self.scenario.reload;
            let bake = u64::try_from(bake.max(min_ready).as_millis()).unwrap();
            let bakes = |worker: &Instance, seen: &Seen| seen.told >= Told::Up && self.world.now >= self.told[worker].1 + bake;
            let passed = self.case(false).have_passed(bakes);
            self.basis.passed = passed;
        }
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

    /// What may stop, and what that takes of those that are ready.
    pub(super) fn may_stop(&mut self, instance: &Instance, back: bool) -> Result<(), String> {
        let case = self.case(false);
        case.may_stop(instance, back)?;
        let short = case.terms.floor().saturating_sub(case.ready_without(instance));
        drop(case);
        if self.told_up(instance) {
            self.basis.short = self.basis.short.max(short);
        }
        Ok(())
    }

    /// What may start; and invariant 7.
    pub(super) fn may_start(&self, instance: &Instance, back: bool) -> Result<(), String> {
        let lives = |unit: &Unit| unit.job.is_some() || !matches!(unit.state, ActiveState::Inactive | ActiveState::Failed);
        let told = self.told.get(instance).is_some_and(|told| matches!(told.0, ActiveState::Active | ActiveState::Activating));
        // One that a person started, and that was not told yet.
        let unseen = self.by_hand.contains(instance) && !self.starting.contains(instance) && !told;
        if self.world.units.get(instance).is_some_and(|unit| lives(unit) && !unseen) {
            return Err(format!("invariant 7: {instance} is started twice"));
        }
        self.case(false).may_start(instance, back)
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
        let fates = |version: Version| if version == OLD { &self.scenario.again } else { &self.scenario.new };
        let ill = |version| fates(version).iter().any(|fate| !matches!(fate, Fate::Ready(_)));
        let touched = self.basis.touched || self.scenario.old.contains(&Old::Ill);
        let Plan { from, to, .. } = *self.roll.plan();
        let of_old = |workers: &BTreeSet<Instance>| workers.iter().filter(|it| !self.is_new(it)).map(|it| it.slot).collect();
        let causes = Causes {
            turned: touched || self.basis.aborted || ill(to),
            // Only the old ones' own failure, or somebody else, may spoil the way back.
            spoiled: touched || ill(from),
            overtaken: self.overtaken(),
            emptied: &of_old(&self.basis.retired),
            by_hand: &of_old(&self.by_hand),
        };
        self.case(true).fine_end(outcome, &causes)
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
}
