//! What a roll looks at before anything is judged: its app's workers, its handle, its sockets, the restarts of its canaries.
//!
//! One reading is whole or none: what of it cannot be had makes all of it fail. It must not know what follows from it.

use std::collections::BTreeMap;

use crate::names::{AppUnits, Instance, anew, unmask};
use crate::roll::stage::{Sight, World};
use crate::systemd::{ActiveState, Error, Systemd, UnitState};

/// Canaries that are asked for their restarts at each reading: a question to PID 1 each.
const ASKED: usize = 64;

/// What a roll looks at.
pub(super) struct Eyes<'a> {
    pub units: &'a AppUnits<'a>,
    pub handle_since: u64,
    pub sockets: &'a [String],
}

/// What it sees.
pub(super) enum Reading {
    /// The handle has left active since it became so.
    HandleLeft,
    /// The app is up.
    World {
        /// Every loaded worker of it.
        world: World,
        /// How often systemd has restarted the canaries by itself.
        restarts: BTreeMap<Instance, u32>,
        /// What is to be said where a socket is down.
        down: Option<String>,
        /// Whether nobody is about to stop the app.
        stays: bool,
        /// Workers that serve and that nothing would drain if they were stopped now, and why.
        undrained: BTreeMap<Instance, String>,
    },
}

impl Eyes<'_> {
    pub async fn read<S: Systemd>(&self, systemd: &S, canaries: Vec<Instance>) -> Result<Reading, Error> {
        let handle = self.units.handle();
        let rows = systemd.units(&[&[self.units.worker_glob(), handle.clone()], self.sockets].concat()).await?;
        let is_active = |row: &UnitState| row.name == handle && matches!(row.active, ActiveState::Active | ActiveState::Reloading);
        // A restart that falls between two readings shows in the time alone.
        let stays = rows.iter().any(|row| is_active(row) && !matches!(row.job.as_deref(), Some("stop" | "restart")));
        if !rows.iter().any(is_active) || systemd.active_since(&handle).await? != self.handle_since {
            return Ok(Reading::HandleLeft);
        }
        let up = |socket: &&String| rows.iter().any(|row| row.name == **socket && row.active == ActiveState::Active);
        let down = self.sockets.iter().find(|socket| !up(socket));
        let down = down.map(|it| format!("its socket {it} is down, a new worker could not be reached. `{}` mends it", anew(&handle)));
        let world: World = rows.iter().filter_map(|unit| Some((self.units.instance(&unit.name)?, sight(unit)))).collect();
        let undrained = rows.iter().filter_map(|row| Some((self.units.instance(&row.name)?, self.why_spared(row)?))).collect();
        let mut restarts = BTreeMap::new();
        let up = |canary: &Instance| world.get(canary).is_some_and(|sight| sight.state == ActiveState::Active);
        for canary in canaries.into_iter().filter(up).take(ASKED) {
            restarts.insert(canary, systemd.details(&self.units.worker(&canary)).await?.restarts);
        }
        Ok(Reading::World { world, restarts, down, stays, undrained })
    }

    /// Why a worker that serves is not stopped. systemd knows no step of one whose unit somebody masked or deleted: its
    /// connections would be cut, and a roll is no reason for that. Who wants it all the same has `systemctl stop`.
    fn why_spared(&self, row: &UnitState) -> Option<String> {
        let (what, command) = match (row.gone, row.masked) {
            _ if row.active != ActiveState::Active => return None,
            (true, _) => ("not found", "sudo project-cluster install".to_owned()),
            // Which of both somebody masked, the row does not tell.
            (_, true) => ("masked", unmask(&format!("{} {}", row.name, self.units.template()))),
            _ => return None,
        };
        Some(format!("its unit is {what}, and so nothing would drain it: `{command}`"))
    }
}

/// What a unit's row says. From systemd 254 on a unit that will be restarted is `failed` or `inactive` for a moment,
/// which only its sub-state tells from a lasting end.
pub fn sight(unit: &UnitState) -> Sight {
    let state = if unit.sub.ends_with("-before-auto-restart") { ActiveState::Activating } else { unit.active };
    let job = |verb| unit.job.as_deref() == Some(verb);
    Sight { state, starting: job("start"), stopping: job("stop") }
}
