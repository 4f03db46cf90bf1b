//! What a roll does about what it cannot see, and about what others do behind its back.

use super::{Phase, Roll};
use crate::names::Instance;
use crate::roll::plan::Scope;
use crate::roll::stage::{Sight, Stage, World};
use crate::roll::words::Action;
use crate::systemd::ActiveState;

impl Roll {
    /// Time passes, and systemd cannot be read: nothing is judged, started or retired by what is remembered, and it ends as no
    /// success. Its deadline counts all the same, since nobody may wait for ever.
    pub fn unseen(&mut self, now: u64) -> Vec<Action> {
        let mut out = Vec::new();
        if self.until().is_some_and(|until| now >= until) {
            let why = format!("its time ran out after {} s, and systemd could not be read then", self.plan.deadline / 1000);
            self.give_up(why, now, &mut out);
        }
        if !matches!(self.phase, Phase::Ended(_)) {
            out.push(Action::WakeAt(self.until().unwrap_or(u64::MAX)));
        }
        out
    }

    /// The old workers that served until this reading and that somebody else has stopped, where nobody new stands in their slot:
    /// who crashes comes back for ever, so that only a stop leaves a slot empty. A roll of single slots leaves others alone.
    pub fn stopped_by_others(&self, world: &World) -> Vec<Instance> {
        if !self.is_forward() || self.plan.scope != Scope::App || !self.plan.is_deploy() {
            return Vec::new();
        }
        let stopped = |worker: &Instance| {
            let sight = world.get(worker).copied().unwrap_or(Sight::NOTHING);
            match sight.state {
                ActiveState::Deactivating => sight.stopping,
                ActiveState::Inactive => !sight.starting,
                _ => false,
            }
        };
        let alone = |worker: &Instance| !self.of(worker.slot).any(|(other, known)| other != worker && known.stands());
        let served = self.workers.iter().filter(|(worker, known)| {
            !self.is_new(worker) && matches!(known.stage, Stage::Up { .. } | Stage::Away) && self.plan.slots.contains(&worker.slot)
        });
        served.map(|(worker, _)| *worker).filter(|worker| stopped(worker) && alone(worker)).collect()
    }
}
