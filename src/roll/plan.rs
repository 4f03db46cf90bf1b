//! From what runs and what is wished to a [`Plan`], or a [`Refusal`] that says what to do first.
//!
//! Pure. It must not know how a roll goes on, only where it starts and what bounds it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::stage::World;
use crate::config::settings::Reload;
use crate::names::{AppName, Generation, Instance, Slot};
use crate::systemd::ActiveState;

/// A generation, and whose pin it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The generation.
    pub generation: Generation,
    /// The generation whose pin it uses, where that is another one (a rollback).
    pub pin: Option<Generation>,
}

impl Version {
    /// Its worker of this slot and try.
    pub fn worker(self, slot: Slot, attempt: u16) -> Instance {
        Instance { slot, generation: self.generation, pin: self.pin, attempt }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pin {
            Some(pin) => write!(f, "{}-{pin}", self.generation),
            None => self.generation.fmt(f),
        }
    }
}

/// What a roll is asked to do, and what it finds.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// Whose workers.
    pub app: &'a AppName,
    /// What serves now.
    pub from: Version,
    /// What shall serve: a generation that nothing runs of yet.
    pub to: Version,
    /// How many workers the app shall have.
    pub count: u16,
    /// The app's keys.
    pub reload: &'a Reload,
    /// Socket units of the app that are not listening or running.
    pub sockets_down: &'a [String],
    /// Every loaded worker unit of the app.
    pub world: &'a World,
}

/// The bounds of one roll. Times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Whose workers, for texts.
    pub app: AppName,
    /// What serves when it starts, and again when it fails.
    pub from: Version,
    /// What serves when it succeeds.
    pub to: Version,
    /// The slots that shall be served; workers elsewhere only go.
    pub slots: BTreeSet<Slot>,
    /// How many workers more than slots may stand at once.
    pub surge: usize,
    /// How many slots may be without a ready worker.
    pub unavailable: usize,
    /// How long a worker must have been ready before it counts as a replacement.
    pub min_ready: u64,
    /// How long the way forward may take, and how long the way back.
    pub deadline: u64,
}

/// Why no roll starts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No worker runs, or none shall.
    #[error("no worker runs, so there is nothing to replace; `systemctl restart` of its handle starts fresh ones")]
    NothingRuns,
    /// The configuration wants no worker, and a roll replaces workers.
    #[error("its configuration wants 0 workers, so there is nothing to put in place of those that run; `project-cluster stop` stops it")]
    NoneWanted,
    /// A worker started now would get no listener.
    #[error("its socket is down ({0}), a new worker could not be reached; `systemctl restart` of the app mends it")]
    SocketDown(String),
    /// A number that is not new would mix two versions under one name.
    #[error("generation {wished} is not new: generation {seen} exists; ask again, the next roll takes a higher number")]
    NotNew {
        /// The generation asked for.
        wished: Generation,
        /// The one that forbids it.
        seen: Generation,
    },
}

/// Decides whether a roll can start, and within which bounds.
///
/// Percentages are of `count`; surge rounds up, unavailable down, as in Kubernetes. Where both come out as 0,
/// unavailable becomes 1, again as in Kubernetes: since surge rounds up, it is 0 only where a person wrote 0, and who
/// says "never one more" (no memory for it, say) means it, while the other 0 is but rounding.
pub fn plan(wish: &Wish<'_>) -> Result<Plan, Refusal> {
    let lives = |state: &ActiveState| !matches!(state, ActiveState::Inactive | ActiveState::Failed);
    if wish.count == 0 {
        return Err(Refusal::NoneWanted);
    }
    if !wish.world.values().any(|sight| lives(&sight.state)) {
        return Err(Refusal::NothingRuns);
    }
    if let Some(socket) = wish.sockets_down.first() {
        return Err(Refusal::SocketDown(socket.clone()));
    }
    let wished = wish.to.generation;
    let seen = wish.world.keys().map(|worker| worker.generation).chain([wish.from.generation]).max();
    if let Some(seen) = seen.filter(|seen| *seen >= wished) {
        return Err(Refusal::NotNew { wished, seen });
    }
    let (surge, unavailable) = bounds(wish.reload, wish.count);
    Ok(Plan {
        app: wish.app.clone(),
        from: wish.from,
        to: wish.to,
        slots: Slot::first(wish.count).collect(),
        surge,
        unavailable,
        min_ready: millis(wish.reload.min_ready),
        deadline: millis(wish.reload.deadline),
    })
}

/// Surge and unavailable of a target; never both 0.
fn bounds(reload: &Reload, count: u16) -> (usize, usize) {
    let (surge, unavailable) = (reload.max_surge.up(count), reload.max_unavailable.down(count).min(count));
    (surge.into(), if surge == 0 { unavailable.max(1) } else { unavailable }.into())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Amount::{self, Count, Percent};
    use crate::roll::stage::Sight;

    fn reload(max_surge: Amount, max_unavailable: Amount) -> Reload {
        Reload { max_surge, max_unavailable, min_ready: Duration::from_secs(1), deadline: Duration::from_secs(600) }
    }

    fn version(generation: u64) -> Version {
        Version { generation: Generation(generation), pin: None }
    }

    fn world(workers: &[(&str, ActiveState)]) -> World {
        workers.iter().map(|(name, state)| (name.parse().unwrap(), Sight { state: *state, starting: false })).collect()
    }

    #[test]
    fn percentages_round_as_kubernetes_does() {
        let cases = [
            (Percent(25), Percent(25), 4, (1, 1)),
            (Percent(25), Percent(25), 3, (1, 0)),
            (Percent(1), Percent(99), 3, (1, 2)),
            (Count(2), Count(0), 1, (2, 0)),
            // Both 0 by rounding: the written 0 stands, the rounded one gives way.
            (Count(0), Percent(25), 3, (0, 1)),
            (Percent(0), Percent(10), 9, (0, 1)),
            // Never more unavailable than there are.
            (Count(0), Count(7), 3, (0, 3)),
            (Percent(100), Percent(100), 5, (5, 5)),
        ];
        for (surge, unavailable, count, expected) in cases {
            assert_eq!(bounds(&reload(surge, unavailable), count), expected, "{surge:?} {unavailable:?} of {count}");
        }
    }

    #[test]
    fn refusals_say_what_to_do_first() {
        let reload = reload(Count(1), Count(0));
        let up = world(&[("1.4.1", ActiveState::Active), ("2.4.1", ActiveState::Activating)]);
        let app = "api".parse().unwrap();
        let wish = Wish { app: &app, from: version(4), to: version(5), count: 2, reload: &reload, sockets_down: &[], world: &up };
        let fine = plan(&wish).unwrap();
        assert_eq!((fine.slots.len(), fine.surge, fine.unavailable, fine.min_ready, fine.deadline), (2, 1, 0, 1000, 600_000));

        let down = world(&[("1.4.1", ActiveState::Failed)]);
        assert_eq!(plan(&Wish { world: &down, ..wish.clone() }), Err(Refusal::NothingRuns));
        assert_eq!(plan(&Wish { count: 0, ..wish.clone() }), Err(Refusal::NoneWanted));
        let sockets = ["a.socket".to_owned()];
        assert_eq!(plan(&Wish { sockets_down: &sockets, ..wish.clone() }), Err(Refusal::SocketDown("a.socket".into())));
        let refused = plan(&Wish { to: version(4), ..wish.clone() });
        assert_eq!(refused, Err(Refusal::NotNew { wished: Generation(4), seen: Generation(4) }));
        // A leftover of a failed roll counts: its number is taken.
        let leftover = world(&[("1.4.1", ActiveState::Active), ("1.6.1", ActiveState::Failed)]);
        assert!(matches!(plan(&Wish { world: &leftover, ..wish }), Err(Refusal::NotNew { .. })));
    }
}
