//! Which worker starts or goes next: a function of the list of workers, the direction and the bounds.
//!
//! Pure. It must not know what happened, only how things stand.

use super::{Phase, Roll};
use crate::names::{Instance, Slot};
use crate::roll::stage::{Stage, Worker};
use crate::roll::words::{Action, Step};

impl Roll {
    pub(super) fn make_moves(&mut self, now: u64, out: &mut Vec<Action>) {
        while let Some(action) = self.next_move(now) {
            match &action {
                Action::Start(worker) => {
                    let new = self.is_forward();
                    self.workers.insert(*worker, Worker::started(new));
                    out.push(Action::Progress(Step::Starting(*worker)));
                }
                Action::Stop(worker) => self.retire(*worker, out),
                _ => {}
            }
            out.push(action);
        }
    }

    /// A worker is asked to stop, by the action that follows.
    pub(super) fn retire(&mut self, worker: Instance, out: &mut Vec<Action>) {
        if let Some(known) = self.workers.get_mut(&worker) {
            known.stop();
        }
        out.push(Action::Progress(Step::Retiring(worker)));
    }

    /// The next start or stop; none when the direction is reached, must wait, or is over.
    fn next_move(&self, now: u64) -> Option<Action> {
        self.until()?;
        self.superfluous(now)
            .map(Action::Stop)
            .or_else(|| self.startable().map(Action::Start))
            .or_else(|| self.dispensable(now).map(Action::Stop))
    }

    /// When the present direction is given up; none when the roll is over, or paused.
    pub fn until(&self) -> Option<u64> {
        match self.phase {
            Phase::Forward { until } | Phase::Back { until, .. } => Some(until),
            Phase::Paused { .. } | Phase::Ended(_) => None,
        }
    }

    /// An unwanted worker that the direction needs no more: its slot is none or has a soaked wanted one, or another
    /// unwanted one serves it as well; on the way back also one that serves nobody. While canaries are on trial they replace
    /// nobody.
    fn superfluous(&self, now: u64) -> Option<Instance> {
        let back = matches!(self.phase, Phase::Back { .. });
        let replaced = |worker: &Instance| {
            let replaces = |(other, known): (&Instance, &Worker)| {
                if self.is_wanted(other) {
                    known.is_soaked(self.plan.min_ready, now) && !self.is_trying()
                } else {
                    known.is_up() && other > worker
                }
            };
            !self.plan.slots.contains(&worker.slot) || self.of(worker.slot).any(replaces)
        };
        self.unwanted()
            .find(|(worker, known)| if known.is_up() { replaced(worker) && self.can_spare(now) } else { back || replaced(worker) })
            .map(|(worker, _)| *worker)
    }

    /// A worker for a slot that needs one, where there is room; slots that nobody serves come first.
    fn startable(&self) -> Option<Instance> {
        let room = self.has_room() && !self.is_crowded() && !self.has_its_canaries();
        let slots = self.plan.slots.iter().copied().filter(|slot| room && self.needs_start(*slot));
        let slot = slots.min_by_key(|slot| (self.of(*slot).any(|(_, known)| known.is_up()), *slot))?;
        let version = if matches!(self.phase, Phase::Back { .. }) { self.plan.from } else { self.plan.to };
        // A free try: a name that was used in this roll is never used again. A slot knows far fewer workers than
        // there are tries, so the last one stands for none.
        let free = |attempt: &u16| !self.workers.contains_key(&version.worker(slot, *attempt));
        Some(version.worker(slot, (1..Instance::MAX_TRY).find(free).unwrap_or(Instance::MAX_TRY)))
    }

    /// An unwanted worker that goes before its replacement: one that serves nobody, where the roll could do nothing
    /// else (it would wait for an ill worker that may never come back); else a ready one, within `max_unavailable`. While
    /// canaries are on trial a ready one stays, and another goes only to make room for the first of them.
    fn dispensable(&self, now: u64) -> Option<Instance> {
        let idle = !self
            .workers
            .iter()
            .any(|(worker, known)| self.is_wanted(worker) && known.stands() && !known.is_soaked(self.plan.min_ready, now));
        let idle = idle && (!self.is_trying() || !self.has_room() && !self.has_its_canaries());
        let of_needy = || self.unwanted().filter(|(worker, _)| self.needs_start(worker.slot));
        of_needy()
            .find(|(_, known)| idle && !known.is_up())
            .or_else(|| of_needy().find(|(_, known)| known.is_up() && !self.is_trying() && self.can_spare(now)))
            .map(|(worker, _)| *worker)
    }

    /// Whether the goal of the direction is reached.
    pub(super) fn is_reached(&self, now: u64) -> bool {
        let soaked = |known: &Worker| known.is_soaked(self.plan.min_ready, now);
        let unwanted_left =
            self.workers.iter().any(|(worker, known)| !self.is_wanted(worker) && (known.stands() || known.stage == Stage::Stopping));
        let served = |slot: &Slot| match self.phase {
            Phase::Forward { .. } | Phase::Paused { .. } => self.of(*slot).any(|(worker, known)| self.is_new(worker) && soaked(known)),
            // Old workers that were never retired are as they were before the roll, ill ones too.
            _ => !self.needs_start(*slot) && self.of(*slot).all(|(_, known)| !known.fresh || !known.stands() || soaked(known)),
        };
        self.until().is_some() && !self.is_trying() && !unwanted_left && self.plan.slots.iter().all(served)
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
            && self.workers.values().filter(|known| known.stands()).count() < self.plan.slots.len() + self.extra()
    }

    /// How many workers more than slots may stand.
    fn extra(&self) -> usize {
        if self.is_trying() { self.plan.surge.max(self.canaries_wanted()) } else { self.plan.surge }
    }

    /// Whether all canaries were started that there are to be, and the verdict over them is to come.
    fn has_its_canaries(&self) -> bool {
        self.is_trying() && self.canaries().filter(|(_, known)| known.stands()).count() >= self.canaries_wanted()
    }

    /// How many workers live, those on their way down and those of no concern to it too.
    pub(super) fn living(&self) -> usize {
        self.beside.living + self.workers.values().filter(|known| known.stage != Stage::Gone).count()
    }

    /// How many may. Fewer than the roll needs would end it nowhere: a person who wants more workers than he once allowed
    /// has allowed them.
    fn most_living(&self) -> usize {
        self.plan.live.max(self.plan.slots.len() + self.extra())
    }

    /// Whether workers on their way down are all that is in the way of one to come.
    pub(super) fn is_full(&self) -> bool {
        let waits = self.has_room() && !self.has_its_canaries() && self.plan.slots.iter().any(|slot| self.needs_start(*slot));
        waits && self.is_crowded()
    }

    /// Whether no more may live until one that is on its way down has ended. Where none is, waiting would end nowhere: somebody
    /// has started workers beside those that are wanted.
    fn is_crowded(&self) -> bool {
        let ending = |known: &Worker| matches!(known.stage, Stage::Stopping | Stage::Leaving);
        self.living() >= self.most_living() && (self.beside.ending > 0 || self.workers.values().any(ending))
    }

    /// Whether enough serve when one of them goes. A wanted worker counts once it is soaked.
    fn can_spare(&self, now: u64) -> bool {
        let serves = |(worker, known): &(&Instance, &Worker)| {
            if self.is_wanted(worker) { known.is_soaked(self.plan.min_ready, now) } else { known.is_up() }
        };
        // Going back cannot ask more of the old ones than they gave, nor of those that somebody has stopped meanwhile: nobody
        // brings them back. But where one is to come, it is waited for: the new one there may be all that serves.
        let stopped = |slot: &Slot| {
            let mut old = self.of(*slot).filter(|(worker, _)| !self.is_new(worker)).peekable();
            old.peek().is_some() && old.all(|(_, known)| known.stage == Stage::Gone && !known.fresh && !known.retired)
        };
        let given = |slot: &Slot| stopped(slot) && !self.of(*slot).any(|known| serves(&known));
        let comes = |slot: &Slot| {
            self.needs_start(*slot) || self.of(*slot).any(|(worker, known)| !self.is_new(worker) && known.fresh && known.stands())
        };
        let gave_none = |slot: &Slot| self.lacking.contains(slot) && !comes(slot);
        let lacking = match self.phase {
            Phase::Back { .. } => self.plan.slots.iter().filter(|slot| gave_none(slot) || given(slot)).count(),
            _ => 0,
        };
        self.workers.iter().filter(serves).count() > self.plan.slots.len().saturating_sub(self.plan.unavailable + lacking)
    }

    pub(super) fn is_wanted(&self, worker: &Instance) -> bool {
        match self.phase {
            Phase::Forward { .. } | Phase::Paused { .. } => self.is_new(worker) && self.plan.slots.contains(&worker.slot),
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
    pub(super) fn of(&self, slot: Slot) -> impl Iterator<Item = (&Instance, &Worker)> {
        self.workers.iter().filter(move |(worker, _)| worker.slot == slot)
    }
}
