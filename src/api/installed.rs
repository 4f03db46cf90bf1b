//! The configuration as `GET /v1/config` tells it.
//!
//! Pure: [`Settings`] without what is for the disk alone (the format, what was installed earlier), and with its lengths of time
//! in milliseconds, as everywhere in the API.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::caller::Caller;
use crate::config::settings::{self, Amount, DrainBy, Listen, Ready, Sandbox, Settings, Spawn, User, Workers};
use crate::names::{AppName, ClusterName};

/// What `install` validated, defaults and all.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Config {
    /// The cluster's name.
    pub name: ClusterName,
    /// Where the REST API listens beside its unix socket.
    pub api: settings::Api,
    /// The app types by name; those that there are for who asks.
    pub apps: BTreeMap<AppName, AppConfig>,
}

/// One app type.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AppConfig {
    /// How many workers.
    pub workers: Workers,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Working directory, as configured.
    pub cwd: PathBuf,
    /// Who the workers run as.
    pub user: User,
    /// The shared listen addresses, in the order written: the order of `LISTEN_FDS`.
    pub listen: Vec<Listen>,
    /// Whether workers share sockets or have a port of their own.
    pub spawn: Spawn,
    /// Whether a `bind` of a declared address gets the inherited socket.
    pub swap: bool,
    /// What makes a worker ready.
    pub ready: Ready,
    /// Whether the first connection starts it.
    pub on_demand: bool,
    /// Exit codes that mean success beside 0 and SIGTERM's 143.
    pub success_exit_codes: Vec<u8>,
    /// Time limits.
    pub timeout: TimeoutConfig,
    /// How a roll goes.
    pub reload: ReloadConfig,
    /// The sandbox's switches.
    pub sandbox: Sandbox,
    /// Directives of the worker's `[Service]` section taken verbatim, after all others.
    pub systemd: BTreeMap<String, Vec<String>>,
    /// Directives of the slice that holds all workers of the app, verbatim (`MemoryMax=`, ...).
    pub limits: BTreeMap<String, Vec<String>>,
}

/// Time limits.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TimeoutConfig {
    /// Until a started worker must be ready, milliseconds.
    pub start_ms: u64,
    /// From SIGTERM to SIGKILL, milliseconds.
    pub kill_ms: u64,
    /// From a worker's unexpected end to its next start, milliseconds; doubled from the third end in a row on, up to 30 s.
    pub restart_ms: u64,
}

/// How a roll goes.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReloadConfig {
    /// How many workers beyond the target may run meanwhile.
    pub max_surge: Amount,
    /// How many workers short of the target may be ready meanwhile.
    pub max_unavailable: Amount,
    /// How long a new worker must have been ready before an old one is touched, milliseconds.
    pub min_ready_ms: u64,
    /// Of one roll, milliseconds.
    pub deadline_ms: u64,
    /// How long a worker that is to stop may take to end its connections before SIGTERM, milliseconds.
    pub drain_ms: u64,
    /// Who sees to it.
    pub drain_by: DrainBy,
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Config {
    /// That of these settings, as far as it exists for who asks.
    pub fn of(settings: &Settings, caller: &Caller) -> Self {
        let apps = settings.apps.iter().filter(|(name, _)| caller.sees(name));
        Self { name: settings.name.clone(), api: settings.api.clone(), apps: apps.map(|(name, app)| (name.clone(), app.into())).collect() }
    }
}

impl From<&settings::App> for AppConfig {
    fn from(app: &settings::App) -> Self {
        let app = app.clone();
        Self {
            workers: app.workers,
            command: app.command,
            cwd: app.cwd,
            user: app.user,
            listen: app.listen,
            spawn: app.spawn,
            swap: app.swap,
            ready: app.ready,
            on_demand: app.on_demand,
            success_exit_codes: app.success_exit_codes,
            timeout: TimeoutConfig { start_ms: ms(app.timeout.start), kill_ms: ms(app.timeout.kill), restart_ms: ms(app.timeout.restart) },
            reload: ReloadConfig {
                max_surge: app.reload.max_surge,
                max_unavailable: app.reload.max_unavailable,
                min_ready_ms: ms(app.reload.min_ready),
                deadline_ms: ms(app.reload.deadline),
                drain_ms: ms(app.reload.drain),
                drain_by: app.reload.drain_by,
            },
            sandbox: app.sandbox,
            systemd: app.systemd,
            limits: app.limits,
        }
    }
}
