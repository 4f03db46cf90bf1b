//! One worker's life within a roll.
//!
//! Pure. It must not know the roll's direction or bounds: it turns what systemd says into a [`Stage`] and tells the
//! roll what that means ([`News`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::diagram;
use crate::names::Instance;
use crate::systemd::{ActiveState, JobEnd, Verb};

/// What one reading of systemd says of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sight {
    /// Its state.
    pub state: ActiveState,
    /// Whether a start job waits or runs for it. systemd's own automatic restart has one too, once its delay is over.
    pub starting: bool,
    /// Whether a stop job waits or runs for it: a crash has none, and neither has a restart.
    pub stopping: bool,
}

impl Sight {
    /// A unit that is not loaded.
    pub const NOTHING: Self = Self { state: ActiveState::Inactive, starting: false, stopping: false };
}

/// One whole reading: who is missing is not loaded.
pub type World = BTreeMap<Instance, Sight>;

/// Where a worker stands. *Standing* (not retiring) are `Starting`, `Up` and `Away`.
///
/// What the roll asks (`start`, `stop`) moves a worker at once; what systemd says moves it as told below. The end of a
/// job that is not the one asked for last says nothing, anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Asked to start, not ready yet.
    ///
    /// Start job ended: done and active -> `Up`; anything else is a failed start, and it goes where its state says.
    /// Job lost, then a reading: active -> `Up`; a start job there -> stays; not loaded -> it never was started and is
    /// forgotten; anything else is a failed start. Reading while the job's end is awaited: nothing. Stop -> `Stopping`.
    Starting,
    /// Ready without a break since this time.
    ///
    /// Reading: active -> stays; on its way down by a stop job, which is somebody else's -> `Leaving`; else on its way up or
    /// down -> `Away`; not running -> `Gone`. Stop -> `Stopping`.
    Up {
        /// Milliseconds of the roll's clock.
        since: u64,
    },
    /// Not ready, though nobody asked it to stop: it crashed or is restarted, and systemd brings it back.
    ///
    /// Reading: active -> `Up`; on its way down by a stop job -> `Leaving`; not running -> `Gone`; else stays. Stop ->
    /// `Stopping`.
    Away,
    /// Asked to stop, not yet seen on its way.
    ///
    /// Reading: on its way down -> `Leaving`; not running -> `Leaving`, or `Gone` where no job's end is awaited; up
    /// and no job's end awaited -> the request was lost, `Up` or `Away` again. Stop job ended: not running -> `Gone`;
    /// on its way down -> `Leaving`; up -> a failed stop, `Up` or `Away` again.
    Stopping,
    /// Seen on its way down, by this roll's wish or somebody else's: it accepts nothing more and may take its time.
    ///
    /// As `Stopping`.
    Leaving,
    /// Not running. Reading: active -> `Up`, on its way -> `Away` (a person or systemd started it again).
    Gone,
}

impl Stage {
    /// Its name in the diagram.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "Starting",
            Self::Up { .. } => "Up",
            Self::Away => "Away",
            Self::Stopping => "Stopping",
            Self::Leaving => "Leaving",
            Self::Gone => "Gone",
        }
    }

    /// Where a worker stands of which only the state is known.
    pub(super) fn of(state: ActiveState, since: u64) -> Self {
        match state {
            ActiveState::Active | ActiveState::Reloading => Self::Up { since },
            ActiveState::Activating | ActiveState::Deactivating => Self::Away,
            ActiveState::Inactive | ActiveState::Failed => Self::Gone,
        }
    }
}

/// A worker as the roll knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Worker {
    /// Where it stands.
    pub stage: Stage,
    /// The end of the job asked for last will be told; until then readings do not judge it.
    pub awaited: bool,
    /// This roll started it.
    pub fresh: bool,
    /// It is one of those that shall serve when the roll succeeds.
    #[serde(default)]
    pub new: bool,
    /// This roll has asked it to stop.
    pub retired: bool,
    /// How often it ended while it was wanted, since it was started or the roll was resumed.
    #[serde(default)]
    pub ends: u32,
    /// How often systemd had restarted it by itself when it was last told.
    #[serde(default)]
    pub restarts: u32,
}

/// What a change means for the roll.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum News {
    /// Nothing.
    Nothing,
    /// It serves.
    Ready,
    /// It served and does so no more; nobody here asked for that.
    Left(&'static str),
    /// It was asked to start and did not get ready.
    StartFailed(String),
    /// It was asked to stop and is still up.
    StopFailed(String),
    /// It stopped as asked.
    Stopped,
    /// The request to start it never arrived.
    NeverStarted,
}

impl Worker {
    /// One that the roll finds. A worker on its way down when the roll begins was retired by an earlier one.
    pub(super) fn found(state: ActiveState, since: u64, new: bool) -> Self {
        let stage = if state == ActiveState::Deactivating { Stage::Leaving } else { Stage::of(state, since) };
        Self { stage, awaited: false, fresh: false, new, retired: false, ends: 0, restarts: 0 }
    }

    /// One that the roll starts.
    pub(super) fn started(new: bool) -> Self {
        Self { stage: Stage::Starting, awaited: true, fresh: true, new, retired: false, ends: 0, restarts: 0 }
    }

    /// Not retiring, and alive or on its way.
    pub fn stands(&self) -> bool {
        matches!(self.stage, Stage::Starting | Stage::Up { .. } | Stage::Away)
    }

    /// Asked to stop, and whether that arrived is not known.
    pub(super) fn may_still_stand(&self) -> bool {
        self.stage == Stage::Stopping && !self.awaited
    }

    /// Serving.
    pub fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up { .. })
    }

    /// Serving for at least so long.
    pub fn is_soaked(&self, min_ready: u64, now: u64) -> bool {
        matches!(self.stage, Stage::Up { since } if now >= since.saturating_add(min_ready))
    }

    fn go(&mut self, to: Stage) {
        diagram::check_worker(self.stage, to);
        self.stage = to;
    }

    /// The roll asks it to stop.
    pub(super) fn stop(&mut self) {
        self.go(Stage::Stopping);
        (self.awaited, self.retired) = (true, true);
    }

    /// A job that the roll asked for has ended, and the state was read again.
    pub(super) fn job_ended(&mut self, verb: Verb, end: &Result<JobEnd, String>, state: ActiveState, now: u64) -> News {
        match (verb, self.stage) {
            (Verb::Start, Stage::Starting) => {
                self.awaited = false;
                self.go(Stage::of(state, now));
                if *end == Ok(JobEnd::Done) && self.is_up() { News::Ready } else { News::StartFailed(describe(end, state)) }
            }
            (Verb::Stop, Stage::Stopping | Stage::Leaving) => {
                self.awaited = false;
                match state {
                    ActiveState::Inactive | ActiveState::Failed => {
                        self.go(Stage::Gone);
                        News::Stopped
                    }
                    ActiveState::Deactivating => {
                        self.go(Stage::Leaving);
                        News::Nothing
                    }
                    _ => {
                        self.go(Stage::of(state, now));
                        News::StopFailed(describe(end, state))
                    }
                }
            }
            _ => News::Nothing,
        }
    }

    /// The end of that job will not be told: readings judge from now on.
    pub(super) fn job_lost(&mut self, verb: Verb) {
        match (verb, self.stage) {
            (Verb::Start, Stage::Starting) | (Verb::Stop, Stage::Stopping | Stage::Leaving) => self.awaited = false,
            _ => {}
        }
    }

    /// A reading.
    pub(super) fn seen(&mut self, sight: Sight, now: u64) -> News {
        use ActiveState::{Activating, Active, Deactivating, Failed, Inactive, Reloading};
        match (self.stage, sight.state) {
            (Stage::Starting, _) if self.awaited => News::Nothing,
            (Stage::Starting, Active | Reloading) => {
                self.go(Stage::Up { since: now });
                News::Ready
            }
            (Stage::Starting, _) if sight.starting => News::Nothing,
            (Stage::Starting, Inactive) => News::NeverStarted,
            (Stage::Starting, state) => {
                self.go(Stage::of(state, now));
                News::StartFailed(format!("it was found {state} after its start"))
            }
            (Stage::Up { .. }, Active | Reloading) => News::Nothing,
            (Stage::Up { .. }, Deactivating) if sight.stopping => {
                self.go(Stage::Leaving);
                News::Left("somebody has stopped it")
            }
            (Stage::Away, Deactivating) if sight.stopping => {
                self.go(Stage::Leaving);
                News::Nothing
            }
            (Stage::Up { .. }, state) => {
                self.go(Stage::of(state, now));
                News::Left(if matches!(self.stage, Stage::Gone) { "it ended or was stopped" } else { "it ended and is being restarted" })
            }
            (Stage::Away | Stage::Gone, state) => {
                let stage = Stage::of(state, now);
                if stage != self.stage {
                    self.go(stage);
                }
                if self.is_up() { News::Ready } else { News::Nothing }
            }
            (Stage::Stopping, Deactivating) => {
                self.go(Stage::Leaving);
                News::Nothing
            }
            (Stage::Stopping, Inactive | Failed) if self.awaited => {
                self.go(Stage::Leaving);
                News::Nothing
            }
            (Stage::Stopping | Stage::Leaving, Inactive | Failed) if !self.awaited => {
                self.go(Stage::Gone);
                News::Stopped
            }
            (Stage::Stopping | Stage::Leaving, Active | Reloading | Activating) if !self.awaited => {
                self.go(Stage::of(sight.state, now));
                News::Nothing
            }
            (Stage::Stopping | Stage::Leaving, _) => News::Nothing,
        }
    }
}

fn describe(end: &Result<JobEnd, String>, state: ActiveState) -> String {
    match end {
        Ok(JobEnd::Done) => format!("its job is done and yet it is {state}"),
        Ok(JobEnd::Canceled) => "somebody else's request took the place of ours".into(),
        Ok(JobEnd::Timeout) => "its job did not end in time".into(),
        Ok(JobEnd::Failed) => "its job failed".into(),
        Ok(JobEnd::Dependency) => "a unit that it needs failed".into(),
        Ok(JobEnd::Skipped) => "its job had nothing to do".into(),
        Err(why) => why.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_failed_stays_failed_though_the_automatic_restart_was_quick() {
        let mut worker = Worker::started(true);
        let news = worker.job_ended(Verb::Start, &Ok(JobEnd::Failed), ActiveState::Active, 7);
        assert_eq!(news, News::StartFailed("its job failed".into()));
        assert_eq!(worker.stage, Stage::Up { since: 7 });
    }

    #[test]
    fn what_an_earlier_roll_drains_does_not_stand() {
        assert!(!Worker::found(ActiveState::Deactivating, 7, false).stands());
        assert!(Worker::found(ActiveState::Activating, 7, false).stands());
    }

    #[test]
    fn the_end_of_an_earlier_job_says_nothing() {
        let mut worker = Worker::started(true);
        worker.stop();
        assert_eq!(worker.job_ended(Verb::Start, &Ok(JobEnd::Canceled), ActiveState::Deactivating, 7), News::Nothing);
        worker.job_lost(Verb::Start);
        assert!(worker.awaited && worker.stage == Stage::Stopping);
    }
}
