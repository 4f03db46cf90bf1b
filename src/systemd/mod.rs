//! The edge to systemd: one narrow trait, its real implementation over D-Bus and a fake that behaves.
//!
//! systemd is the truth about what runs; nothing here keeps a copy. It must not know apps, rolls or generations:
//! it speaks of units and jobs. `dbus.rs` is the only user of zbus.

pub mod dbus;
pub mod fake;
mod private;
mod refusal;
pub mod stop;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a person asks of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// `StartUnit`, mode `replace`.
    Start,
    /// `StopUnit`, mode `replace`.
    Stop,
    /// `RestartUnit`, mode `replace`.
    Restart,
    /// `ReloadUnit`, mode `fail`: it takes no job's place.
    Reload,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
        })
    }
}

/// How a job ended: the `result` of `JobRemoved` (`org.freedesktop.systemd1(5)`).
///
/// `Done` is also said when a condition skipped the start, and a unit with `Restart=always` that never got ready
/// goes on to auto-restart behind a `Failed`: whoever judges a start reads the unit's state again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobEnd {
    /// It was carried out.
    Done,
    /// Another job took its place.
    Canceled,
    /// The job's own time limit ran out.
    Timeout,
    /// It failed.
    Failed,
    /// A job it depended on failed.
    Dependency,
    /// It had nothing to do.
    Skipped,
}

/// `ActiveState` of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActiveState {
    /// Not running; also a unit that is not loaded at all.
    Inactive,
    /// On its way up, or waiting for its automatic restart.
    Activating,
    /// Up: for a worker, ready.
    Active,
    /// Up, and a reload job runs.
    Reloading,
    /// On its way down.
    Deactivating,
    /// Ended badly; systemd keeps it until it is reset.
    Failed,
}

impl fmt::Display for ActiveState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inactive => "inactive",
            Self::Activating => "activating",
            Self::Active => "active",
            Self::Reloading => "reloading",
            Self::Deactivating => "deactivating",
            Self::Failed => "failed",
        })
    }
}

/// One row of `ListUnitsByPatterns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitState {
    /// Its full name.
    pub name: String,
    /// Its state.
    pub active: ActiveState,
    /// Its sub-state, `auto-restart` for example.
    pub sub: String,
    /// Kind of the job that waits or runs for it (`start`, `stop`, `restart`, ...).
    pub job: Option<String>,
    /// Whether somebody has masked it: what runs goes on, and cannot be started again until `systemctl unmask`. An
    /// inactive one shows this as long as something keeps it loaded, as the target keeps handles, and handles sockets.
    pub masked: bool,
    /// Its file is gone, and systemd has seen it: what runs goes on, and a stop would run none of its steps.
    pub gone: bool,
}

/// What is known of a service beside its state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// PID of its main process, where it runs.
    pub main_pid: Option<u32>,
    /// Automatic restarts since its last start by hand.
    pub restarts: u32,
    /// When it became active, microseconds of `CLOCK_MONOTONIC`.
    pub active_since_us: u64,
    /// When it last began to start, microseconds of `CLOCK_MONOTONIC`.
    pub begun_us: u64,
    /// Its control group below the cgroup root, `/system.slice/...`.
    pub control_group: String,
    /// `Result` of the service: `success`, `exit-code`, `timeout`, ...
    pub result: String,
    /// Exit code, or signal number, of its last main process.
    pub exit_status: i32,
    /// Whether that was a signal.
    pub by_signal: bool,
}

/// Something changed; read again. A change may be told twice, and several as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This unit.
    Unit(String),
    /// Perhaps anything: the connection was lost and made again, or systemd reloaded itself.
    All,
}

/// Why a request to systemd did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// systemd cannot be reached or does not answer: what was asked for may have arrived all the same.
    #[error("systemd cannot be reached over D-Bus: {0}")]
    Unreachable(String),
    /// It refused, and says why (its own words).
    #[error("systemd refused to {what}: {why}")]
    Refused {
        /// The request, `start api@1.service`.
        what: String,
        /// D-Bus error name and message.
        why: String,
    },
    /// No end of the job within the limit.
    #[error("{what} did not end within {limit:?}")]
    Deadline {
        /// The request.
        what: String,
        /// The limit.
        limit: Duration,
    },
}

/// The narrow trait: all that this program ever asks of systemd while a cluster runs.
///
/// Every call has a deadline of its own inside (a method call at most 25 s, D-Bus's own habit); `job` waits for the
/// job's end at most `limit`.
pub trait Systemd: Send + Sync + 'static {
    /// The loaded units that match any of these globs.
    fn units(&self, patterns: &[String]) -> impl Future<Output = Result<Vec<UnitState>, Error>> + Send;
    /// More about one service.
    fn details(&self, unit: &str) -> impl Future<Output = Result<Details, Error>> + Send;
    /// When a unit last became active, microseconds of `CLOCK_MONOTONIC`; a reload of it changes nothing.
    fn active_since(&self, unit: &str) -> impl Future<Output = Result<u64, Error>> + Send;
    /// Asks for a job and waits for its end. Dropping the future does not cancel the job. Requests reach systemd in
    /// the order in which their futures are first polled: a stop must not overtake the start that it takes back.
    fn job(&self, verb: Verb, unit: &str, limit: Duration) -> impl Future<Output = Result<JobEnd, Error>> + Send;
    /// Forgets a failure and its counters. A unit that is not loaded is no error.
    fn reset_failed(&self, unit: &str) -> impl Future<Output = Result<(), Error>> + Send;
    /// Returns once every change that systemd had made before the call has been sent to the receivers of
    /// [`Self::changes`]: one small question, however many units there are.
    fn settle(&self) -> impl Future<Output = Result<(), Error>> + Send;
    /// From now on, what changes. A receiver that lags behind gets [`Change::All`] by way of
    /// `RecvError::Lagged`.
    fn changes(&self) -> tokio::sync::broadcast::Receiver<Change>;
}
