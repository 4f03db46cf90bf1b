//! What travels between the master and its clients, as JSON.
//!
//! Pure data, shared by the routes and the command line. Every field says its unit; times are milliseconds.

mod rolls;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use self::rolls::{Hook, HookState, Roll, RollEnd, RollState, Step};
use crate::intent::{Hold, RolledBack};
use crate::names::{AppName, Generation, Uid};
use crate::systemd::ActiveState;

/// `GET /v1/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Health {
    /// The cluster.
    pub name: String,
    /// Version of the master.
    pub version: String,
    /// Its PID.
    pub pid: u32,
    /// How long it has been up, milliseconds.
    pub uptime_ms: u64,
    /// Why what happens is not written into the history at present; null where it is.
    #[serde(default)]
    pub history: Option<String>,
}

/// How a worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum WorkerState {
    /// Started, not ready yet.
    Starting,
    /// Ready.
    Online,
    /// Ended unexpectedly and waits for its next start.
    Restarting,
    /// Ended three times in a row or more without having been ready for 10 s; waits longer each time, or tries again.
    CrashLoop,
    /// On its way down.
    Stopping,
    /// On its way down, while another worker of its slot is up or on its way up.
    Retiring,
    /// Ended badly.
    Failed,
    /// Not running, because a person stopped it: nothing starts it until a person does.
    Stopped,
    /// Not running.
    Offline,
}

impl WorkerState {
    /// From what systemd says of its unit, which knows no crash loop.
    pub fn of(active: ActiveState, sub: &str) -> Self {
        match active {
            ActiveState::Active | ActiveState::Reloading => Self::Online,
            ActiveState::Activating if sub == "auto-restart" => Self::Restarting,
            ActiveState::Activating => Self::Starting,
            ActiveState::Deactivating => Self::Stopping,
            ActiveState::Failed => Self::Failed,
            ActiveState::Inactive => Self::Offline,
        }
    }
    /// The word that tables and JSON show.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Online => "online",
            Self::Restarting => "restarting",
            Self::CrashLoop => "crash-loop",
            Self::Stopping => "stopping",
            Self::Retiring => "retiring",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Offline => "offline",
        }
    }
}

/// One row of `GET /v1/workers` and of `ls --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Worker {
    /// What people call it, `api:01`.
    pub uid: Uid,
    /// Its app.
    pub app: AppName,
    /// Its place, from 1.
    pub slot: u16,
    /// The generation it belongs to; none for a place where nothing runs.
    pub generation: Option<Generation>,
    /// The generation that this one is again, by a rollback; null of one that is its own.
    #[serde(default)]
    pub pin: Option<Generation>,
    /// The release: where `cwd` led when its generation was made; null where nothing runs or it is not known.
    #[serde(default)]
    pub release: Option<String>,
    /// Its unit; none for a place where nothing runs.
    pub unit: Option<String>,
    /// How it stands.
    pub state: WorkerState,
    /// PID of its main process.
    pub pid: Option<u32>,
    /// Since it got ready, milliseconds.
    pub uptime_ms: Option<u64>,
    /// Automatic restarts since it was started.
    pub restarts: u32,
    /// How it loops, where it does; its state is `crash-loop` then.
    #[serde(default)]
    pub crash_loop: Option<CrashLoop>,
    /// Errors it logged; null while nothing counts them.
    pub errors: Option<u64>,
    /// Warnings it logged; null while nothing counts them.
    pub warnings: Option<u64>,
    /// Memory of its whole control group, bytes, at most a second ago: what the kernel charges, or the resident sets where it charges nothing.
    pub memory_bytes: Option<u64>,
    /// CPU time of its whole control group, milliseconds, at most a second ago.
    pub cpu_ms: Option<u64>,
}

/// A worker in a crash loop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CrashLoop {
    /// Ends in a row, 3 or more, none after it had been ready for 10 s.
    pub ends: u32,
    /// Since the first of them, milliseconds.
    pub looping_ms: u64,
    /// Until its next start, milliseconds; null while it tries.
    pub next_start_ms: Option<u64>,
}

/// The workers of an app that are in a crash loop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CrashLoops {
    /// How many there are.
    pub workers: u16,
    /// The most ends in a row of one of them.
    pub ends: u32,
    /// Since the first end of the one that has been at it longest, milliseconds.
    pub looping_ms: u64,
    /// Until the next start of one of them, milliseconds; null while all try.
    pub next_start_ms: Option<u64>,
    /// The one that stands for them.
    pub worker: Uid,
    /// What that one wrote last, at most 30 lines; none where the journal has none, or not told them in half a second.
    pub lines: Vec<String>,
}

/// How an app stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AppState {
    /// All its workers are ready.
    Running,
    /// Fewer workers than wanted are ready.
    Degraded,
    /// Its workers start.
    Starting,
    /// A roll is under way.
    Rolling,
    /// Its workers stop.
    Stopping,
    /// Nothing runs, its port is closed.
    Stopped,
    /// Nothing runs; the first connection starts it.
    Sleeping,
    /// Its start failed; the port is closed until a person starts it.
    Failed,
}

impl AppState {
    /// The word that tables and JSON show.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Starting => "starting",
            Self::Rolling => "rolling",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Sleeping => "sleeping",
            Self::Failed => "failed",
        }
    }
}

/// One of `GET /v1/apps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct App {
    /// Its name.
    pub name: AppName,
    /// How it stands.
    pub state: AppState,
    /// How many workers it is to have.
    pub target: u16,
    /// How many are ready.
    pub ready: u16,
    /// How many workers are configured; `target` is what a person made of it.
    #[serde(default)]
    pub configured: u16,
    /// Whether the first connection starts it.
    #[serde(default)]
    pub on_demand: bool,
    /// The current generation.
    pub generation: Option<Generation>,
    /// The generation that this one is again, by a rollback; null of one that is its own.
    #[serde(default)]
    pub pin: Option<Generation>,
    /// The release of the current generation: where `cwd` led when it was made; null where that is not known.
    #[serde(default)]
    pub release: Option<String>,
    /// The generations that it can be rolled back to, the last first.
    #[serde(default)]
    pub past: Vec<Past>,
    /// By which rollback what serves is there, or is on its way; null where by none.
    #[serde(default)]
    pub rolled_back: Option<RolledBack>,
    /// The highest generation that there ever was; none of an app that was never started.
    #[serde(default)]
    pub latest: Option<Generation>,
    /// What is configured and not in effect; none where all is.
    #[serde(default)]
    pub changed: Option<Changed>,
    /// Which settings are installed, in effect, and failed.
    #[serde(default)]
    pub revisions: Revisions,
    /// Why nothing is tried by itself.
    pub held: Option<Hold>,
    /// Program and arguments of the next generation, as `install` last wrote them.
    pub command: Vec<String>,
    /// Its working directory, as configured.
    pub cwd: String,
    /// Who its workers run as.
    pub user: String,
    /// Its shared addresses and how their socket units stand.
    pub sockets: Vec<Socket>,
    /// The handle, `systemctl` takes it.
    pub handle: String,
    /// The roll under way, or the last one that this master carried out.
    pub roll: Option<Roll>,
    /// Those of its units that somebody has masked: they cannot be started until `systemctl unmask`.
    #[serde(default)]
    pub masked: Vec<String>,
    /// Those of its workers that were stopped from outside (`systemctl stop`) while it is up: they are left so.
    #[serde(default)]
    pub outside: Vec<Outside>,
    /// Those of its workers that are in a crash loop; null where none is.
    #[serde(default)]
    pub crash_loop: Option<CrashLoops>,
    /// Its workers.
    pub workers: Vec<Worker>,
}

/// A generation that an app can be rolled back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Past {
    /// Which.
    pub generation: Generation,
    /// The generation that it was again, by a rollback; null of one that was its own.
    #[serde(default)]
    pub pin: Option<Generation>,
    /// The revision of the settings that it was made from; null where that is not known any more.
    pub revision: Option<u64>,
    /// The release: where `cwd` led when it was made.
    pub release: String,
    /// When it became current, milliseconds of Unix time; null where an older version saw it.
    pub since_ms: Option<u64>,
}

/// Revisions of an app's settings: one number is one set of settings, whenever they are installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Revisions {
    /// That of what is installed.
    pub installed: u64,
    /// That of what runs, or of what the next start makes where nothing does; null where it is not known any more.
    pub serves: Option<u64>,
    /// That of what failed last and is held; null where nothing did, or it failed before it was made.
    pub failed: Option<u64>,
}

impl Default for Revisions {
    /// Those of an app of which nothing has ever changed.
    fn default() -> Self {
        Self { installed: 0, serves: Some(0), failed: None }
    }
}

impl App {
    /// Whether it failed with just what is installed, so that the same again would be no use.
    pub fn failed_so(&self) -> bool {
        self.revisions.failed == Some(self.revisions.installed)
    }
}

/// What is configured and not in effect: `apply` brings it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Changed {
    /// The keys of the configuration, as far as they are known.
    pub keys: BTreeSet<String>,
    /// Whether it makes other workers, of a new generation.
    pub becomes: bool,
    /// Whether it stands in the configuration alone and has yet to be installed. The master cannot know that: the command
    /// line sets it, where it can read the configuration.
    #[serde(default)]
    pub on_disk: bool,
}

/// A worker that was stopped from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Outside {
    /// What people call it, `api:01`.
    pub uid: Uid,
    /// When the master saw it, milliseconds of Unix time.
    pub since_ms: u64,
}

/// A listen address of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Socket {
    /// Where it listens.
    pub address: String,
    /// Its unit.
    pub unit: String,
    /// Whether it listens.
    pub active: bool,
}

/// What an order came to, or how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Done {
    /// The app.
    pub app: AppName,
    /// For people.
    pub message: String,
    /// Whether it goes on: then the status is 202.
    #[serde(default)]
    pub under_way: bool,
    /// The roll that carries it out, where that takes one: ask for its end.
    #[serde(default)]
    pub roll: Option<Roll>,
}

impl Done {
    /// It is done.
    pub fn new(app: &AppName, message: impl Into<String>) -> Self {
        Self { app: app.clone(), message: message.into(), under_way: false, roll: None }
    }
    /// A job of systemd's carries it out, which may take minutes.
    pub fn ordered(app: &AppName) -> Self {
        Self { under_way: true, ..Self::new(app, "ordered") }
    }
    /// A roll carries it out.
    pub fn by_roll(roll: Roll, message: impl Into<String>) -> Self {
        Self { under_way: roll.under_way(), roll: Some(roll.clone()), ..Self::new(&roll.app, message) }
    }
}

/// `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Problem {
    /// Where the code is explained, a URI reference: `/v1/problems#conflict`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// A stable word for programs, `conflict`: the list is docs/problems.md.
    pub code: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, in short; the same for each of a code.
    pub title: String,
    /// What is wrong and what to do, for people; of several lines where a worker's own last words are the reason.
    pub detail: String,
    /// The parameter or part of the path that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What failed, a URI reference: the roll that was waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}
