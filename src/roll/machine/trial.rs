//! The canaries: so many new workers beside the old ones, and a verdict over them before the rest follows.
//!
//! Until then no old worker goes that serves a slot. They count as surge: as long as they are on trial, `max_surge` is at
//! least their number.

use serde::{Deserialize, Serialize};

use super::{Phase, Roll};
use crate::names::Instance;
use crate::roll::judge::{Canary, Judge as _, Steady, Verdict, Watched};
use crate::roll::stage::{Stage, Worker};
use crate::roll::words::{Action, Step};

/// How far the trial is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trial {
    /// There was none to stand, or it is stood.
    #[default]
    Over,
    /// The canaries are not all ready.
    Awaited,
    /// They are, and are watched.
    Baking,
}

impl Roll {
    /// How far the trial is.
    pub fn trial(&self) -> Trial {
        self.trial
    }

    /// The canaries that are up, while they are on trial.
    pub fn on_trial(&self) -> Vec<Instance> {
        let up = self.canaries().filter(|(_, known)| self.is_trying() && known.is_up());
        up.map(|(worker, _)| *worker).collect()
    }

    /// Whether the verdict is still to come. Going back none comes.
    pub(super) fn is_trying(&self) -> bool {
        self.trial != Trial::Over && self.is_forward()
    }

    /// How many canaries there are to be.
    pub(super) fn canaries_wanted(&self) -> usize {
        self.plan.canary.min(self.plan.slots.len())
    }

    /// The new workers.
    pub(super) fn canaries(&self) -> impl Iterator<Item = (&Instance, &Worker)> {
        self.workers.iter().filter(|(worker, _)| self.is_wanted(worker))
    }

    /// How long a canary must have been ready.
    pub(super) fn trial_ms(&self) -> u64 {
        self.plan.bake.max(self.plan.min_ready)
    }

    /// Hears the judge.
    pub(super) fn try_out(&mut self, now: u64, out: &mut Vec<Action>) {
        if !self.is_trying() || !matches!(self.phase, Phase::Forward { .. }) {
            return;
        }
        let ready_for = |known: &Worker| match known.stage {
            Stage::Up { since } => Some(now.saturating_sub(since)),
            _ => None,
        };
        let canaries = self.canaries().map(|(worker, known)| Canary { worker: *worker, ready_for: ready_for(known), ends: known.ends });
        let watched = Watched { app: &self.plan.app, wanted: self.canaries_wanted(), bake: self.trial_ms(), canaries: canaries.collect() };
        let (wanted, ready) = (watched.wanted, watched.canaries.iter().filter(|canary| canary.ready_for.is_some()).count());
        match Steady.judge(&watched) {
            Verdict::Good => {
                self.trial = Trial::Over;
                out.push(Action::Progress(Step::Passed(wanted)));
            }
            Verdict::Bad(why) => self.give_up(why, now, out),
            Verdict::Wait if ready < wanted => self.trial = Trial::Awaited,
            Verdict::Wait if self.trial == Trial::Awaited => {
                self.trial = Trial::Baking;
                out.push(Action::Progress(Step::Baking(wanted, self.trial_ms())));
            }
            Verdict::Wait => {}
        }
    }
}
