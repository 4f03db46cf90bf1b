//! What `install` and `uninstall` ask of the running systemd, over its private socket: as root, or as the user whose it is.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::place::Place;
use crate::systemd::dbus::Bus;
use crate::systemd::{ActiveState, Error, JobEnd, Systemd, UnitState, Verb};
use crate::units::install::{Live, LiveError};

/// A target waits for its apps, and an app's start is bounded by its own limits: this is only for a PID 1 that hangs.
const LIMIT: Duration = Duration::from_secs(3600);

/// The running systemd.
pub(crate) struct Running<'a> {
    runtime: &'a Runtime,
    bus: Bus,
}

impl<'a> Running<'a> {
    /// Connects.
    ///
    /// # Errors
    /// When PID 1 cannot be reached: no systemd, or not root.
    pub fn connect(place: &Place, runtime: &'a Runtime) -> Result<Self, LiveError> {
        if let Some(why) = place.absent() {
            return Err(LiveError(why));
        }
        let bus = runtime.block_on(Bus::private(&place.paths)).map_err(error)?;
        Ok(Self { runtime, bus })
    }

    /// Tells the master that its settings changed. One that does not run reads them when it starts.
    pub fn hang_up(&self, master: &str) -> Result<(), LiveError> {
        self.runtime.block_on(self.bus.kill_main(master, libc::SIGHUP)).map_err(error)
    }

    /// Has a unit started, and does not wait for it.
    pub fn begin(&self, unit: &str) -> Result<(), LiveError> {
        match self.runtime.block_on(self.bus.job(Verb::Start, unit, Duration::ZERO)) {
            Ok(_) | Err(Error::Deadline { .. }) => Ok(()),
            Err(why) => Err(error(why)),
        }
    }

    /// Which of these units failed.
    pub fn failed(&self, units: &[String]) -> Result<Vec<String>, LiveError> {
        let rows = self.runtime.block_on(self.bus.units(units)).map_err(error)?;
        Ok(rows.into_iter().filter(|row| row.active == ActiveState::Failed).map(|row| row.name).collect())
    }

    fn brought_up(&self, verb: Verb, unit: &str) -> Result<(), LiveError> {
        match self.runtime.block_on(self.bus.job(verb, unit, LIMIT)).map_err(error)? {
            JobEnd::Done => Ok(()),
            end => Err(LiveError(format!("{unit} did not start ({end:?}): `systemctl status {unit}`"))),
        }
    }

    fn stop_one(&self, pattern: &str) -> Result<(), LiveError> {
        self.runtime.block_on(async {
            let units = self.bus.units(&[pattern.to_owned()]).await.map_err(error)?;
            let stops = units.iter().map(|unit| async {
                let end = self.bus.job(Verb::Stop, &unit.name, LIMIT).await.map_err(error)?;
                self.bus.reset_failed(&unit.name).await.map_err(error)?;
                if end == JobEnd::Done { Ok(()) } else { Err(LiveError(format!("{} did not stop ({end:?})", unit.name))) }
            });
            futures_util::future::join_all(stops).await.into_iter().collect()
        })
    }
}

impl Live for Running<'_> {
    fn sysusers(&self, conf: &Path) -> Result<(), LiveError> {
        tool(Command::new("systemd-sysusers").arg(conf))
    }

    fn daemon_reload(&self) -> Result<(), LiveError> {
        self.runtime.block_on(self.bus.reload()).map_err(error)
    }

    fn enable(&self, unit: &str) -> Result<(), LiveError> {
        self.runtime.block_on(self.bus.enable(unit, true)).map_err(error)
    }

    fn disable(&self, unit: &str) -> Result<(), LiveError> {
        self.runtime.block_on(self.bus.enable(unit, false)).map_err(error)
    }

    fn start(&self, unit: &str) -> Result<(), LiveError> {
        self.brought_up(Verb::Start, unit)
    }

    fn restart(&self, unit: &str) -> Result<(), LiveError> {
        self.brought_up(Verb::Restart, unit)
    }

    fn running(&self, patterns: &[String]) -> Result<Vec<String>, LiveError> {
        let rows = self.runtime.block_on(self.bus.units(patterns)).map_err(error)?;
        let runs = |row: &UnitState| !matches!(row.active, ActiveState::Inactive | ActiveState::Failed);
        Ok(rows.into_iter().filter(runs).map(|row| row.name).collect())
    }

    fn stop(&self, units: &[String]) -> Result<(), LiveError> {
        units.iter().try_for_each(|unit| self.stop_one(unit))
    }

    fn remove_user(&self, name: &str) -> Result<(), LiveError> {
        // The group of the same name goes with it (`userdel(8)`, USERGROUPS_ENAB), unless somebody else is in it.
        match tool(Command::new("userdel").arg(name)) {
            Ok(()) => Ok(()),
            Err(why) if why.0.contains("does not exist") => Ok(()),
            Err(why) => Err(why),
        }
    }
}

fn error(why: impl std::fmt::Display) -> LiveError {
    LiveError(why.to_string())
}

/// Runs a tool of the system; what it says is the error.
fn tool(command: &mut Command) -> Result<(), LiveError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|why| LiveError(format!("{name} cannot be run: {why}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(LiveError(format!("{name}: {}", crate::journal::clean(&String::from_utf8_lossy(&output.stderr)).join("; "))))
}
