//! What a fake is told: how apps behave, what their unit files say, what becomes of signals.

use std::time::Duration;

/// What an app does when it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It is ready after this time.
    Ready(Duration),
    /// It exits with 1 after this time, before it was ready.
    Crash(Duration),
    /// It never gets ready.
    Never,
    /// A condition of its unit does not hold: the job is done, and nothing runs.
    Skipped,
}

/// One start of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct App {
    /// How it starts.
    pub start: Start,
    /// When, after it got ready, it exits with 1.
    pub crash_after: Option<Duration>,
    /// How long it takes to end after SIGTERM; none ignores it and waits for SIGKILL.
    pub stop: Option<Duration>,
}

impl App {
    /// Ready after `start`, ends 10 ms after SIGTERM.
    pub fn ready_after(start: Duration) -> Self {
        Self { start: Start::Ready(start), crash_after: None, stop: Some(Duration::from_millis(10)) }
    }
    /// Exits after `start`, before it was ready.
    pub fn crashing(start: Duration) -> Self {
        Self { start: Start::Crash(start), ..Self::ready_after(start) }
    }
}

/// What a unit is, beside what its app does: the lines of its unit file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its type.
    pub kind: Kind,
    /// Its time limits; none are those of all units ([`Fake::set_times`](super::Fake::set_times)).
    pub times: Option<Times>,
    /// `Restart=always`.
    pub restart: bool,
    /// `StartLimitBurst=` and `StartLimitIntervalSec=`.
    pub start_limit: Option<(u32, Duration)>,
    /// `SuccessExitStatus=1`.
    pub success: bool,
}

impl Service {
    /// As our workers are.
    pub const WORKER: Self = Self { kind: Kind::Worker, times: None, restart: true, start_limit: None, success: false };
    /// As our handles are, a reload of which takes so long.
    pub const fn handle(reload: Duration) -> Self {
        Self { kind: Kind::Handle { reload }, restart: false, ..Self::WORKER }
    }
    /// A socket whose `Service=` is this unit.
    pub fn socket(service: &str) -> Self {
        Self { kind: Kind::Socket { service: service.into() }, restart: false, ..Self::WORKER }
    }
}

/// What kind of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `Type=exec`, ready once its `ExecStartPost=` says so.
    Worker,
    /// `Type=notify`.
    Notify,
    /// `Type=oneshot` with `RemainAfterExit=yes`: its app is the start step and the stop step, each of which takes its
    /// time and neither of which is a process that stays.
    Handle {
        /// How long its `ExecReload=` takes.
        reload: Duration,
    },
    /// There is no unit file of this name.
    Missing,
    /// A socket unit; it starts and stops at once.
    Socket {
        /// The service that it triggers.
        service: String,
    },
}

/// What becomes of signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signals {
    /// They arrive.
    Kept,
    /// None arrives.
    Lost,
    /// Each arrives twice.
    Doubled,
}

/// The unit file's time limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// `TimeoutStartSec=`.
    pub start: Duration,
    /// `TimeoutStopSec=`.
    pub stop: Duration,
    /// `RestartSec=`.
    pub restart: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { start: Duration::from_secs(30), stop: Duration::from_secs(5), restart: Duration::from_millis(100) }
    }
}
