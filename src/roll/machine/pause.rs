//! Stopping a roll where it is, and going on.

use super::{Phase, Roll};
use crate::names::Instance;
use crate::roll::stage::Stage;
use crate::roll::words::{Action, Step};

impl Roll {
    /// Nothing is started or retired from here on. `left` is what its time comes to when it goes on.
    pub(super) fn pause(&mut self, reason: String, left: u64, out: &mut Vec<Action>) {
        out.push(Action::Progress(Step::Paused(reason.clone())));
        self.go(Phase::Paused { reason, left });
    }

    /// A person pauses it.
    pub(super) fn pause_by_hand(&mut self, reason: String, now: u64, out: &mut Vec<Action>) {
        if let Phase::Forward { until } = self.phase {
            self.pause(reason, until.saturating_sub(now), out);
        }
    }

    /// A person lets it go on.
    pub(super) fn resume(&mut self, now: u64, out: &mut Vec<Action>) {
        let Phase::Paused { left, .. } = self.phase else { return };
        out.push(Action::Progress(Step::Resumed));
        self.go(Phase::Forward { until: now.saturating_add(left) });
        // Whatever ended was seen by who resumes. What failed is tried again, rather than waited for: its back-off grows.
        self.workers.values_mut().for_each(|known| known.ends = 0);
        let failed = self.workers.iter().filter(|(_, known)| known.new && known.stage == Stage::Away);
        for worker in failed.map(|(worker, _)| *worker).collect::<Vec<Instance>>() {
            self.retire(worker, out);
            out.push(Action::Stop(worker));
        }
    }
}
