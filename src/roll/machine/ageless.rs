//! A roll whose times are made few, for its exploration (`explore/`): the clock stands still, and what has grown old
//! is edited instead.
//!
//! A roll does nothing with a time but compare it with now, in two ways: whether a worker has been up for `min_ready` (with no
//! longer `bake` a canary has as well), and whether a deadline has passed. So every time is one of two. Nothing else may be changed here.

use super::{Outcome, Phase, Roll};
use crate::names::Instance;
use crate::roll::stage::Stage;

impl Roll {
    /// This worker, if it is up, has been so for long enough.
    pub fn soak(&mut self, worker: &Instance) {
        if let Some(known) = self.workers.get_mut(worker)
            && let Stage::Up { since } = &mut known.stage
        {
            *since = 0;
        }
    }

    /// The deadline of the present direction is now.
    pub fn run_out(&mut self, now: u64) {
        if let Phase::Forward { until } | Phase::Back { until, .. } = &mut self.phase {
            *until = now;
        }
    }

    /// Whether an end of a canary's may still count: going back it does not.
    pub fn counts_ends(&self) -> bool {
        self.is_trying()
    }

    /// Of all rolls that will do the same from now on, one: no time but the two of each kind, no text. Ends and restarts stay
    /// where a judge asks for them.
    pub fn make_canonical(&mut self, now: u64, counted: bool) {
        let trying = self.is_trying();
        for known in self.workers.values_mut() {
            let soaked = known.is_soaked(self.plan.min_ready, now);
            if let Stage::Up { since } = &mut known.stage {
                *since = if soaked { 0 } else { now };
            }
            // A judge asks whether it ever ended.
            known.ends = if trying { known.ends.min(1) } else { 0 };
            known.restarts = if counted { known.restarts } else { 0 };
        }
        match &mut self.phase {
            Phase::Forward { until } | Phase::Back { until, .. } => {
                *until = if *until <= now { now } else { now.saturating_add(self.plan.deadline) };
            }
            Phase::Paused { left, .. } => *left = if *left == 0 { 0 } else { self.plan.deadline },
            Phase::Ended(_) => {}
        }
        if let Phase::Back { reason, .. }
        | Phase::Paused { reason, .. }
        | Phase::Ended(Outcome::AllOld { reason } | Outcome::Mixed { reason, .. }) = &mut self.phase
        {
            reason.truncate(1);
        }
    }
}
