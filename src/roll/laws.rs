//! What must hold of every roll, by the numbers of `history`: held against what the units are and what the master was told of
//! them, never against the roll's own books. What the world or people did is forgiven for the workers concerned alone.
//!
//! Pure, and for tests: random histories (`history`) and the exploration (`explore/`) fill in a [`Case`], each from a world of
//! its own. It must not know how either goes on.

use std::collections::{BTreeMap, BTreeSet};

use super::machine::{Phase, Roll};
use super::plan::Scope;
use super::stage::World;
use super::words::{Action, Event, Outcome, Step};
use crate::config::settings::{Amount, Reload};
use crate::names::{Instance, Slot};

/// What the master was last told of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Told {
    /// Or nothing.
    NotUp,
    /// It serves.
    Up,
    /// And that was `min_ready` ago.
    Soaked,
}

/// A worker of the app.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// It is to serve when the roll succeeds.
    pub new: bool,
    /// The roll has not asked it to stop, as far as it knows.
    pub kept: bool,
    /// What was told of it.
    pub told: Told,
    /// It is alive and not on its way down.
    pub stands: bool,
    /// It is alive, which may last or not; but for what a person did where no roll could know.
    pub lives: bool,
    /// It is on its way down, and a roll's.
    pub ends: bool,
    /// A person has started what the roll was to start.
    pub joins: bool,
}

/// What a roll is held to.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// What it is about.
    pub scope: &'a Scope,
    /// The app's keys.
    pub reload: &'a Reload,
    /// The slots that it shall serve.
    pub slots: &'a BTreeSet<Slot>,
    /// Those that it was to serve when it began.
    pub first: &'a BTreeSet<Slot>,
    /// How many slots the app had when it began, whichever it is about.
    pub target: usize,
}

/// A roll at one moment.
#[derive(Debug)]
pub struct Case<'a> {
    /// What it is held to.
    pub terms: Terms<'a>,
    /// The slots that nobody served when it began.
    pub lacking: &'a BTreeSet<Slot>,
    /// Those whose old worker somebody has stopped.
    pub stopped: BTreeSet<Slot>,
    /// Its canaries have been seen to be fit, or there are none.
    pub passed: bool,
    /// All workers of the app.
    pub workers: BTreeMap<Instance, Seen>,
}

/// What a roll ended of.
#[derive(Debug)]
pub struct Causes<'a> {
    /// Something happened that may turn it back.
    pub turned: bool,
    /// And something that may spoil the way back.
    pub spoiled: bool,
    /// The app was stopped.
    pub overtaken: bool,
    /// The slots where it has asked an old worker to stop.
    pub emptied: &'a BTreeSet<Slot>,
    /// Those where a person had a hand in an old one.
    pub by_hand: &'a BTreeSet<Slot>,
}

fn share(count: usize, amount: Amount, rest: usize) -> usize {
    match amount {
        Amount::Count(number) => usize::from(number),
        Amount::Percent(share) => (count * usize::from(share) + rest) / 100,
    }
}

impl Terms<'_> {
    /// `max_surge` and `max_unavailable` in workers, by a sum of our own.
    pub fn bounds(&self) -> (usize, usize) {
        let (Reload { max_surge, max_unavailable, .. }, count) = (self.reload, self.slots.len());
        match (share(count, *max_surge, 99), share(count, *max_unavailable, 0).min(count)) {
            (surge, _) if *self.scope != Scope::App => (surge.max(1), 0),
            (0, unavailable) => (0, unavailable.max(1)),
            both => both,
        }
    }

    /// How many canaries there are to be: a share of the slots when it began.
    pub fn canaries(&self) -> usize {
        let first = self.first.len();
        if *self.scope == Scope::App { share(first, self.reload.canary, 99).min(first).min(self.slots.len()) } else { 0 }
    }

    /// How many are to be ready at least.
    pub fn floor(&self) -> usize {
        self.slots.len().saturating_sub(self.bounds().1)
    }
}

impl Case<'_> {
    /// How many workers more than slots may stand.
    fn extra(&self, back: bool) -> usize {
        if self.passed || back { self.terms.bounds().0 } else { self.terms.bounds().0.max(self.terms.canaries()) }
    }

    /// `max_live`, which is never less than a roll needs.
    fn live_at_most(&self, back: bool) -> usize {
        let wanted = if *self.terms.scope == Scope::App { self.terms.slots.len() } else { self.terms.target };
        let asked = self.terms.reload.max_live.map_or(wanted * 2, |amount| share(wanted, amount, 99));
        asked.max(wanted + self.extra(back))
    }

    /// The workers that the roll is about and that it has not asked to stop.
    fn remaining(&self) -> impl Iterator<Item = (&Instance, &Seen)> {
        self.workers.iter().filter(|(worker, seen)| self.terms.scope.has(worker.slot) && seen.kept)
    }

    fn is_wanted(&self, worker: &Instance) -> bool {
        self.terms.slots.contains(&worker.slot)
    }

    /// Whether a worker serves. A new one is a replacement where its slot is wanted, and so has to be soaked; where it is none
    /// any more, it serves like an old one.
    fn serves(&self, worker: &Instance, seen: &Seen) -> bool {
        seen.told >= if seen.new && self.is_wanted(worker) { Told::Soaked } else { Told::Up }
    }

    /// Whether the roll may do with one less: a worker serves beside another of its slot, or where none is wanted.
    fn has_a_spare(&self) -> bool {
        self.remaining().any(|(worker, seen)| {
            let beside = |(other, seen): (&Instance, &Seen)| other.slot == worker.slot && other != worker && self.serves(other, seen);
            self.serves(worker, seen) && (!self.is_wanted(worker) || self.remaining().any(beside))
        })
    }

    /// How many are ready without this one.
    pub fn ready_without(&self, worker: &Instance) -> usize {
        self.remaining().filter(|(other, seen)| *other != worker && seen.told >= Told::Up).count()
    }

    /// Invariants 1, 4 and 8, and that no old worker goes for canaries that are not known to be fit.
    pub fn may_stop(&self, worker: &Instance, back: bool) -> Result<(), String> {
        if !self.terms.scope.has(worker.slot) {
            return Err(format!("invariant 8: {worker} is none of its business"));
        }
        // One whose start never arrived.
        let Some(seen) = self.workers.get(worker) else { return Ok(()) };
        if back && !seen.new {
            return Err(format!("invariant 8: on its way back it touches {worker}"));
        }
        if seen.told == Told::NotUp {
            return Ok(());
        }
        let ready = self.ready_without(worker);
        let forgiven = if back { self.lacking.union(&self.stopped).count() } else { 0 };
        if ready + forgiven < self.terms.floor() {
            return Err(format!("invariant 1: without {worker} only {ready} are ready"));
        }
        if back || seen.new {
            return Ok(());
        }
        let of_slot = |other: &Instance| other.slot == worker.slot && other != worker;
        // Beside another old one that serves its slot, one is needed no more, canaries or not.
        let doubled = || self.remaining().any(|(other, seen)| of_slot(other) && !seen.new && seen.told >= Told::Up);
        if !self.passed && self.is_wanted(worker) && !doubled() {
            return Err(format!("{worker} goes before the canaries have passed"));
        }
        let replaced = self.remaining().any(|(other, seen)| of_slot(other) && seen.new && seen.told == Told::Soaked);
        let enough = || self.remaining().filter(|(other, seen)| *other != worker && self.serves(other, seen)).count() >= self.terms.floor();
        let spare = || self.terms.bounds().1 > 0 || self.has_a_spare();
        // Within `max_unavailable` one makes room for its replacement, and not for one that is there and ready.
        let soaks = || self.remaining().any(|(other, seen)| of_slot(other) && seen.new && seen.told == Told::Up);
        if replaced || !self.is_wanted(worker) || enough() && spare() && (doubled() || !soaks()) {
            return Ok(());
        }
        Err(format!("invariant 4: {worker} goes before its replacement was ready for long enough"))
    }

    /// Invariant 2, and that no more is started beside canaries than they are. (7, that nothing is started twice, is of the
    /// world alone.)
    pub fn may_start(&self, worker: &Instance, back: bool) -> Result<(), String> {
        let standing = || self.remaining().filter(|(_, seen)| seen.stands);
        let count = standing().count();
        if count >= self.terms.slots.len() + self.extra(back) {
            return Err(format!("invariant 2: {count} stand and {worker} is started"));
        }
        let canaries = || standing().filter(|(other, seen)| seen.new && self.is_wanted(other)).count();
        if !self.passed && !back && canaries() >= self.terms.canaries() {
            return Err(format!("{worker} is started before the canaries have passed"));
        }
        // Where nothing is on its way down, there is nothing to wait for.
        let live = self.workers.values().filter(|seen| seen.lives).count();
        if live >= self.live_at_most(back) && self.workers.values().any(|seen| seen.lives && seen.ends) {
            return Err(format!("invariant 2: {live} live and {worker} is started"));
        }
        if !self.is_wanted(worker) {
            return Err(format!("{worker} is started, and its slot is none that is wanted"));
        }
        Ok(())
    }

    /// As many new workers as there are to be canaries have been ready for so long; `bakes` tells of one.
    pub fn have_passed(&self, bakes: impl Fn(&Instance, &Seen) -> bool) -> bool {
        let fit = self.remaining().filter(|(worker, seen)| seen.new && self.is_wanted(worker) && bakes(worker, seen));
        fit.count() >= self.terms.canaries()
    }

    /// Invariant 5: and nothing ends otherwise than a person expects.
    pub fn fine_end(&self, outcome: &Outcome, causes: &Causes<'_>) -> Result<(), String> {
        let standing = || self.remaining().filter(|(_, seen)| seen.stands);
        let news: Vec<&Instance> = standing().filter(|(_, seen)| seen.new).map(|(worker, _)| worker).collect();
        let olds: Vec<&Instance> = standing().filter(|(_, seen)| !seen.new).map(|(worker, _)| worker).collect();
        let old = |slot: &Slot| olds.iter().any(|worker| worker.slot == *slot);
        let fine = match outcome {
            Outcome::AllNew => {
                let served = |slot: &Slot| news.iter().any(|worker| worker.slot == *slot && self.workers[*worker].told == Told::Soaked);
                let joins = olds.iter().all(|worker| self.workers[*worker].joins && self.is_wanted(worker));
                joins && news.iter().all(|worker| self.is_wanted(worker)) && self.terms.slots.iter().all(|slot| served(slot) || old(slot))
            }
            Outcome::AllOld { reason } => {
                let back = |slot: &Slot| causes.by_hand.contains(slot) || old(slot);
                causes.turned && news.is_empty() && !reason.is_empty() && causes.emptied.intersection(self.terms.slots).all(back)
            }
            Outcome::Mixed { reason, who } => {
                let named = standing().all(|(worker, _)| who.iter().any(|(named, _)| named == worker));
                causes.spoiled && named && !reason.is_empty()
            }
            Outcome::Overtaken => causes.overtaken,
        };
        if fine { Ok(()) } else { Err(format!("invariant 5: {outcome:?} with {news:?} and {olds:?}")) }
    }
}

/// A paused roll makes no call: goes through what it does next. Returns whether it is paused then.
pub fn rests_while_paused(mut paused: bool, actions: &[Action]) -> Result<bool, String> {
    for action in actions {
        match action {
            Action::Progress(Step::Paused(_)) => paused = true,
            Action::Progress(Step::Resumed | Step::GoingBack(_)) => paused = false,
            Action::Start(_) | Action::Stop(_) if paused => return Err(format!("it is paused, and yet: {action:?}")),
            _ => {}
        }
    }
    Ok(paused)
}

/// On the way back a new worker that serves nobody goes at once.
pub fn keeps_nobody_useless(roll: &Roll) -> Result<(), String> {
    let back = matches!(roll.phase(), Phase::Back { .. });
    match roll.workers().iter().find(|(worker, known)| back && known.stands() && roll.is_new(worker) && !known.is_up()) {
        Some((worker, _)) => Err(format!("on its way back it keeps {worker}, which serves nobody")),
        None => Ok(()),
    }
}

/// A roll that has ended does nothing more, whatever happens.
pub fn is_over(roll: &Roll, world: World, now: u64) -> Result<(), String> {
    let reason = String::new;
    let events = [
        Event::Timer,
        Event::World(world),
        Event::HandleLeft,
        Event::Pause { reason: reason() },
        Event::Resume,
        Event::Abort { reason: reason() },
    ];
    if events.into_iter().any(|event| !roll.clone().step(event, now).is_empty()) {
        return Err("it acts after its end".into());
    }
    Ok(())
}
