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

/// A package manager waits for its scripts with all other packages behind them: as long as systemd gives a service by default.
const OF_A_PACKAGE: Duration = Duration::from_secs(90);

/// What `userdel` and `groupdel` end with where there is no such user or group.
const UNKNOWN: i32 = 6;

/// The running systemd.
pub(crate) struct Running<'a> {
    runtime: &'a Runtime,
    bus: Bus,
    /// For what is started and restarted.
    limit: Duration,
    /// Whether a target is waited for, which waits for its apps.
    waits: bool,
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
        Ok(Self { runtime, bus, limit: LIMIT, waits: true })
    }

    /// The same for a package's script: it waits for no app, and for a master not long.
    pub fn for_a_package(self) -> Self {
        Self { limit: OF_A_PACKAGE, waits: false, ..self }
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
        match self.runtime.block_on(self.bus.job(verb, unit, self.limit)).map_err(error)? {
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
        if !self.waits && Path::new(unit).extension().is_some_and(|kind| kind == "target") {
            return self.begin(unit);
        }
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
        // Each alone may have been left by a run that was cut off. `userdel` takes the group of the same name with it, but not
        // one that an operator is in (`userdel(8)`, USERGROUPS_ENAB).
        ["userdel", "groupdel"].into_iter().try_for_each(|tool| {
            let (done, ended) = run(Command::new(tool).arg(name));
            if ended == Some(UNKNOWN) { Ok(()) } else { done }
        })
    }
}

fn error(why: impl std::fmt::Display) -> LiveError {
    LiveError(why.to_string())
}

/// Runs a tool of the system; what it says is the error.
fn tool(command: &mut Command) -> Result<(), LiveError> {
    run(command).0
}

/// The same, with the number that it ended with.
fn run(command: &mut Command) -> (Result<(), LiveError>, Option<i32>) {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.stdin(Stdio::null()).output() {
        Err(why) => (Err(LiveError(format!("{name} cannot be run: {why}"))), None),
        Ok(output) if output.status.success() => (Ok(()), Some(0)),
        Ok(output) => {
            let said = crate::journal::clean(&String::from_utf8_lossy(&output.stderr)).join("; ");
            (Err(LiveError(format!("{name}: {said}"))), output.status.code())
        }
    }
}
