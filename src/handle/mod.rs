//! The steps of a handle, `NAME@APP.service`: root's own, over PID 1's private socket, so that `systemctl start`,
//! `stop` and `restart` work with the master, D-Bus and polkit dead.
//!
//! They take names and numbers only and run no shell. `plan.rs` decides, `start.rs` and `stop.rs` act.

mod hooks;
pub mod plan;
mod start;
mod stop;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::settings::{App, Settings};
use crate::names::{AppName, AppUnits, ClusterName, Instance};
use crate::place;
use crate::say::say;
use crate::systemd::dbus::Bus;
use crate::systemd::{self, ActiveState, Systemd, UnitState};
use crate::worker::error::Error as StepError;
use crate::worker::paths::Paths;
use crate::worker::store::Store;

/// PID 1 on a machine under load; nothing that we ask it takes longer by itself.
const SLACK: Duration = Duration::from_secs(15);

/// Why a step failed; the paragraph goes to the journal, where `systemctl status` shows it.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Systemd(#[from] systemd::Error),
    #[error(transparent)]
    Store(#[from] StepError),
    #[error("{0}")]
    Other(String),
}

/// What both steps know.
struct Handle<'a> {
    units: AppUnits<'a>,
    /// None when `install` has just removed the app from the settings: it can only be stopped.
    app: Option<&'a App>,
    paths: &'a Paths,
    systemd: Bus,
    store: Store,
}

/// `handle start|stop --cluster NAME APP`.
pub fn main(args: &[OsString]) -> ExitCode {
    let args: Option<Vec<&str>> = args.iter().map(|arg| arg.to_str()).collect();
    let parsed = match args.as_deref() {
        Some([step @ ("start" | "stop"), "--cluster", cluster, app]) => {
            cluster.parse::<ClusterName>().and_then(|cluster| Ok((*step, cluster, app.parse::<AppName>()?))).ok()
        }
        _ => None,
    };
    let Some((step, cluster, app)) = parsed else {
        say!(Error, "usage: project-cluster handle start|stop --cluster NAME APP (systemd calls it: `systemctl start NAME@APP`)");
        return ExitCode::from(2);
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => {
            say!(Error, "the kernel gives no event queue: {why}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(step, &cluster, &app)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.to_string().lines() {
                say!(Error, "{line}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(step: &str, cluster: &ClusterName, app: &AppName) -> Result<(), Error> {
    let paths = &place::here().paths;
    let store = Store::open(cluster, paths);
    let settings: Option<Settings> = match store.settings() {
        Ok(settings) => Some(settings),
        // A stop needs nothing of them but how long the workers may take.
        Err(why) if step == "stop" => {
            say!(Warning, "{why}; stopping all the same");
            None
        }
        Err(why) => return Err(why.into()),
    };
    let handle = Handle {
        units: AppUnits::new(cluster, app),
        app: settings.as_ref().and_then(|settings| settings.apps.get(app)),
        paths,
        systemd: Bus::private(paths).await?,
        store,
    };
    match step {
        "start" => start::run(&handle, cluster).await,
        _ => stop::run(&handle, cluster).await,
    }
}

impl Handle<'_> {
    /// The workers that systemd knows.
    async fn workers(&self) -> Result<Vec<(Instance, UnitState)>, Error> {
        let rows = self.systemd.units(&[self.units.worker_glob()]).await?;
        Ok(rows.into_iter().filter_map(|row| self.units.instance(&row.name).map(|instance| (instance, row))).collect())
    }

    /// How a unit stands; one that is not loaded is inactive.
    async fn active(&self, unit: &str) -> Result<ActiveState, Error> {
        Ok(self.systemd.units(&[unit.to_owned()]).await?.first().map_or(ActiveState::Inactive, |row| row.active))
    }

    /// Stops units all at once; what then still runs is an error.
    async fn stop_all(&self, units: &[String], limit: Duration) -> Result<(), Error> {
        let left = systemd::stop::all(&self.systemd, units, limit).await?;
        if left.is_empty() {
            return Ok(());
        }
        Err(Error::Other(format!("still running after a stop: {}. `systemctl list-jobs` says what else is asked of them", left.join(", "))))
    }

    /// Stops the hooks that run, of a roll or of a start that is over.
    async fn stop_hooks(&self, limit: Duration) -> Result<(), Error> {
        let hooks = self.systemd.units(&self.units.hook_globs()).await?;
        let hooks: Vec<String> = hooks.into_iter().map(|row| row.name).collect();
        self.stop_all(&hooks, limit).await
    }

    /// Stops all workers, and what a roll asked for meanwhile.
    async fn stop_workers(&self, limit: Duration) -> Result<(), Error> {
        for _ in 0..3 {
            let workers: Vec<String> = self.workers().await?.into_iter().map(|(_, row)| row.name).collect();
            if workers.is_empty() {
                break;
            }
            self.stop_all(&workers, limit).await?;
        }
        Ok(())
    }
}
