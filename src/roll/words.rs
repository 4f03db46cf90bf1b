//! The words between a roll and its executor: what happens, what to do, what a watcher is told, how it ended.
//!
//! Pure data.

use serde::{Deserialize, Serialize};

use super::plan::Target;
use super::stage::{Stage, World};
use crate::names::{AppName, Instance, Uid};
use crate::systemd::{ActiveState, JobEnd, Verb};

/// How a roll ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// New workers serve every slot, the old ones are on their way down.
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    /// A person changed which slots the app shall serve.
    Target(Target),
    /// The app's handle has left active: it is being stopped or restarted.
    HandleLeft,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// So many slots are to be served from now on.
    Resized(usize),
}

impl Step {
    /// For people: workers by their uid, with the generation.
    pub fn text(&self, app: &AppName) -> String {
        let who = |instance: &Instance| who(app, instance);
        match self {
            Self::Starting(worker) => format!("{} starts", who(worker)),
            Self::Ready(worker) => format!("{} is ready", who(worker)),
            Self::Left(worker, why) => format!("{} left: {why}", who(worker)),
            Self::Failed(worker, why) => format!("{} failed: {why}", who(worker)),
            Self::Retiring(worker) => format!("{} retires", who(worker)),
            Self::Stopped(worker) => format!("{} is gone", who(worker)),
            Self::Stuck(worker, why) => format!("{} cannot be stopped: {why}", who(worker)),
            Self::GoingBack(why) => format!("going back: {why}"),
            Self::Resized(count) => format!("{count} workers are wanted from now on"),
        }
    }
}

/// A worker for people: `api:01 (generation 7)`.
pub fn who(app: &AppName, worker: &Instance) -> String {
    format!("{} (generation {})", Uid { app: app.clone(), slot: worker.slot }, worker.generation)
}
