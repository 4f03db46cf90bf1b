//! The words between a roll and its executor: what happens, what to do, what a watcher is told, how it ended.
//!
//! Pure data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::plan::{Target, Version};
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
    /// How often systemd has restarted these workers by itself, as of the reading that follows.
    Restarts(BTreeMap<Instance, u32>),
    /// Every worker unit of the app was read: one reading, begun after all that was told before.
    World(World),
    /// Nothing but time.
    Timer,
    /// Somebody stops it where it is.
    Pause {
        /// Who or why; it is shown as long as the roll is paused.
        reason: String,
    },
    /// Somebody lets it go on.
    Resume,
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

/// What a person asks of a roll that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Steer {
    /// [`Event::Pause`].
    Pause {
        /// Who or why.
        reason: String,
    },
    /// [`Event::Resume`].
    Resume,
    /// [`Event::Abort`].
    Abort {
        /// Who or why.
        reason: String,
    },
}

impl From<Steer> for Event {
    fn from(order: Steer) -> Self {
        match order {
            Steer::Pause { reason } => Self::Pause { reason },
            Steer::Resume => Self::Resume,
            Steer::Abort { reason } => Self::Abort { reason },
        }
    }
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
    /// So many canaries are ready, and are watched until each has been so for this long, milliseconds.
    Baking(usize, u64),
    /// They stood the trial.
    Passed(usize),
    /// Nothing is started or retired any more, for this reason.
    Paused(String),
    /// It goes on.
    Resumed,
    /// So many live, and one more must wait for the end of one that is on its way down.
    Full(usize),
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
            Self::Baking(count, ms) => {
                format!("{} ready, and watched until ready for {} s", canaries(*count, "is", "are"), ms.div_ceil(1000))
            }
            Self::Passed(count) => format!("{} passed, the rest follows", canaries(*count, "has", "have")),
            Self::Paused(why) => format!("paused: {why}"),
            Self::Resumed => "goes on".into(),
            Self::Full(count) => format!("waits: {count} workers live, those on their way down too, and `max_live` lets no more"),
        }
    }
}

fn canaries(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 canary {one}") } else { format!("{count} canaries {many}") }
}

/// What to type next where a roll of this app is paused.
pub fn paused(app: &AppName) -> String {
    format!("`project-cluster resume {app}` goes on, `project-cluster abort {app}` goes back to the old workers")
}

/// A worker for people: `api:01 (generation 7)`, or `(generation 7-4)` where that is generation 4 again.
pub fn who(app: &AppName, worker: &Instance) -> String {
    let version = Version { generation: worker.generation, pin: worker.pin };
    format!("{} (generation {version})", Uid { app: app.clone(), slot: worker.slot })
}
