//! The roll's direction: what each event does in it.

use serde::{Deserialize, Serialize};

use crate::roll::words::Outcome;

/// The roll's direction. *Wanted* workers are the new ones in `Forward` and `Paused`, all others in `Back`.
///
/// In both directions the same moves lead to the goal, in this order: an unwanted worker goes whose slot is served by
/// a soaked wanted one (or is no slot any more), where enough ready ones remain; a slot without a wanted worker gets
/// one, where surge and `max_live` have room; an unwanted one goes before its replacement, where `max_unavailable` allows it.
///
/// A job's end and a reading ([`Event::JobEnded`], [`Event::JobLost`], [`Event::World`]) first move workers as told at
/// [`Stage`]; what follows from that is told here.
///
/// [`Event::JobEnded`]: crate::roll::words::Event::JobEnded
/// [`Event::JobLost`]: crate::roll::words::Event::JobLost
/// [`Event::World`]: crate::roll::words::Event::World
/// [`Stage`]: crate::roll::stage::Stage
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The new generation is wanted in every slot.
    ///
    /// A new worker fails to start or ends, its canaries do not stand the trial, a stop fails, or the deadline has passed:
    /// `Back`, or `Paused` where the app says `on_failure = "pause"`. `Abort`: `Back`. `Pause`: `Paused`. `Resume`: nothing.
    /// An old worker ends: nothing more is retired until enough are ready again; where the roll can do nothing else and has no
    /// room beside it, such a one goes before its replacement. `Target`: the slots that are none any more lose their workers,
    /// new ones too, the added ones get theirs. `HandleLeft`: `Overtaken`. `Timer`: the moves that a soak was in the way
    /// of. No unwanted one is left, every slot soaked: `AllNew`.
    Forward {
        /// When it turns back, milliseconds.
        until: u64,
    },
    /// Nothing is started or retired; new and old workers serve, and a person decides.
    ///
    /// What happens to workers is seen and told, and decides nothing. `Resume`: `Forward`; new workers that do not serve are
    /// given up for fresh ones. `Abort`: `Back`. `Pause`: nothing. `Target`: kept for later. `HandleLeft`: `Overtaken`.
    /// `Timer`: nothing, time does not count.
    Paused {
        /// Who paused it, or what failed.
        reason: String,
        /// How much time is left to the roll, milliseconds. Where something failed, all of it: who resumes then begins anew.
        left: u64,
    },
    /// The old generation is wanted, in the slots that were emptied or are served by new workers alone.
    ///
    /// New workers that are not ready go at once, ready ones as their slots are served. An old worker that was not
    /// retired is not touched, ill or not, and not waited for. A fresh old worker that fails to start, a new one that
    /// cannot be stopped, or the deadline: `Mixed`. One that was ready and ends: systemd restarts it, it is waited for.
    /// `Target`: nothing, and what was changed on the way forward is taken back: all becomes as it was when the roll began,
    /// and whoever comes behind it makes the change. `Abort`, `Pause`, `Resume`: nothing, it goes back already. `HandleLeft`:
    /// `Overtaken`. `Timer`: as forward. No new one is left and every emptied slot soaked: `AllOld`.
    Back {
        /// Why it turned back.
        reason: String,
        /// When it gives up, milliseconds.
        until: u64,
    },
    /// It is over: no event does anything any more.
    Ended(Outcome),
}

impl Phase {
    /// Its name in the diagram.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Forward { .. } => "Forward",
            Self::Paused { .. } => "Paused",
            Self::Back { .. } => "Back",
            Self::Ended(Outcome::AllNew) => "AllNew",
            Self::Ended(Outcome::AllOld { .. }) => "AllOld",
            Self::Ended(Outcome::Mixed { .. }) => "Mixed",
            Self::Ended(Outcome::Overtaken) => "Overtaken",
        }
    }
}
