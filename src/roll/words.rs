//! The words between a roll and its executor: what happens, what to do, what a watcher is told, how it ended.
//!
//! Pure data.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::stage::{Stage, World};
use crate::names::Instance;
use crate::systemd::{ActiveState, JobEnd, Verb};

/// How a roll ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The new generation serves every slot, the old one is on its way down.
    AllNew,
    /// The old generation serves as before, no new worker is left standing.
    AllOld {
        /// Why the new one does not.
        reason: String,
    },
    /// The way back failed too.
    Mixed {
        /// Why it went back, and why that failed.
        reason: String,
        /// Who is left, and where it stands.
        who: Vec<(Instance, Stage)>,
    },
    /// The app was stopped or restarted meanwhile: what runs belongs to the handle's own steps.
    Overtaken,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A job that an [`Action`] asked for ended, and its unit was read again.
    JobEnded {
        /// Whose.
        instance: Instance,
        /// `Start` or `Stop`.
        verb: Verb,
        /// Its result, or why it was refused.
        end: Result<JobEnd, String>,
        /// The unit's state afterwards.
        state: ActiveState,
    },
    /// A job was asked for, but how it ended cannot be told.
    JobLost {
        /// Whose.
        instance: Instance,
        /// `Start` or `Stop`.
        verb: Verb,
    },
    /// Every worker unit of the app was read: one reading, begun after all that was told before.
    World(World),
    /// Nothing but time.
    Timer,
    /// Somebody wants the old generation back.
    Abort {
        /// Who or why; it stands in the outcome.
        reason: String,
    },
    /// The app's handle has left active: it is being stopped or restarted.
    HandleLeft,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask for a start job.
    Start(Instance),
    /// Ask for a stop job.
    Stop(Instance),
    /// Send [`Event::Timer`] at this time, milliseconds; it takes the place of an earlier one.
    WakeAt(u64),
    /// Tell who watches.
    Progress(Step),
    /// It is over; nothing follows.
    Ended(Outcome),
}

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A worker is started.
    Starting(Instance),
    /// It serves.
    Ready(Instance),
    /// It served and does so no more.
    Left(Instance, String),
    /// It did not start.
    Failed(Instance, String),
    /// It is asked to stop.
    Retiring(Instance),
    /// It has stopped.
    Stopped(Instance),
    /// It could not be stopped.
    Stuck(Instance, String),
    /// The old generation is wanted again.
    GoingBack(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting(worker) => write!(f, "{worker} starts"),
            Self::Ready(worker) => write!(f, "{worker} is ready"),
            Self::Left(worker, why) => write!(f, "{worker} does not serve any more: {why}"),
            Self::Failed(worker, why) => write!(f, "{worker} did not get ready: {why}"),
            Self::Retiring(worker) => write!(f, "{worker} retires"),
            Self::Stopped(worker) => write!(f, "{worker} has stopped"),
            Self::Stuck(worker, why) => write!(f, "{worker} could not be stopped: {why}"),
            Self::GoingBack(reason) => write!(f, "going back: {reason}"),
        }
    }
}
