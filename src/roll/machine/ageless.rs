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

    /// Of all rolls that will do the same from now on, one: no time but the two of each kind, no text.
    pub fn make_canonical(&mut self, now: u64) {
        for known in self.workers.values_mut() {
            let soaked = known.is_soaked(self.plan.min_ready, now);
            if let Stage::Up { since } = &mut known.stage {
                *since = if soaked { 0 } else { now };
            }
            // A judge asks whether it ever ended.
            known.ends = known.ends.min(1);
        }
        if let Phase::Forward { until } | Phase::Back { until, .. } = &mut self.phase {
            *until = if *until <= now { now } else { now.saturating_add(self.plan.deadline) };
        }
        if let Phase::Back { reason, .. } | Phase::Ended(Outcome::AllOld { reason } | Outcome::Mixed { reason, .. }) = &mut self.phase {
            reason.truncate(1);
        }
    }
}
