//! From what runs and what is wished to a [`Plan`], or a [`Refusal`] that says what to do first.
//!
//! Pure. It must not know how a roll goes on, only where it starts and what bounds it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::stage::{Sight, World};
pub use crate::config::settings::OnFailure;
use crate::config::settings::Reload;
use crate::names::{AppName, Generation, Instance, Slot};
use crate::systemd::ActiveState;

/// A generation, and whose pin it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// What of an app a roll is about. Workers outside of it are neither seen nor touched.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All of it: every worker is replaced.
    App,
    /// These slots: those of them that the app shall serve get a fresh worker, the others lose theirs.
    Slots(BTreeSet<Slot>),
}

impl Scope {
    /// Whether this slot's workers are concerned.
    pub fn has(&self, slot: Slot) -> bool {
        match self {
            Self::App => true,
            Self::Slots(slots) => slots.contains(&slot),
        }
    }

    /// What differs from how it shall be: slots to serve that have no worker, and others that have one. What is on its
    /// way down is no worker any more; one that crashed and comes back is.
    pub fn missing_and_extra(slots: &BTreeSet<Slot>, world: &World) -> BTreeSet<Slot> {
        let stands = |sight: &Sight| matches!(sight.state, ActiveState::Active | ActiveState::Reloading | ActiveState::Activating);
        let taken: BTreeSet<Slot> = world.iter().filter(|(_, sight)| stands(sight)).map(|(worker, _)| worker.slot).collect();
        slots.symmetric_difference(&taken).copied().collect()
    }
}

/// The slots to serve and how far a roll may stray from them. It can change while a roll goes on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The slots.
    pub slots: BTreeSet<Slot>,
    /// How many workers more than slots may stand at once.
    pub surge: usize,
    /// How many slots may be without a ready worker.
    pub unavailable: usize,
    /// How many workers may live at once, those on their way down too.
    #[serde(default = "unbounded")]
    pub live: usize,
}

impl Target {
    /// These slots under an app's keys; percentages are of their number.
    pub fn of(slots: BTreeSet<Slot>, reload: &Reload) -> Self {
        let count = count(&slots);
        let (surge, unavailable) = bounds(reload, count);
        Self { slots, surge, unavailable, live: reload.live(count).into() }
    }
}

fn count(slots: &BTreeSet<Slot>) -> u16 {
    u16::try_from(slots.len()).unwrap_or(Slot::MAX)
}

/// What bound the rolls of older programs.
fn unbounded() -> usize {
    usize::MAX
}

/// What a roll is asked to do, and what it finds.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// Whose workers.
    pub app: &'a AppName,
    /// What serves now.
    pub from: Version,
    /// What shall serve: a generation that nothing runs of yet; or `from` again, where only single slots are concerned.
    pub to: Version,
    /// The slots that the app shall serve.
    pub slots: &'a BTreeSet<Slot>,
    /// What of it the roll is about.
    pub scope: Scope,
    /// The app's keys.
    pub reload: &'a Reload,
    /// Socket units of the app that are not listening or running.
    pub sockets_down: &'a [String],
    /// Every loaded worker unit of the app.
    pub world: &'a World,
}

/// The bounds of one roll. Times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Plan {
    /// Whose workers, for texts.
    pub app: AppName,
    /// What serves when it starts, and again when it fails.
    pub from: Version,
    /// What serves when it succeeds.
    pub to: Version,
    /// What of the app it is about.
    #[serde(default = "Plan::whole")]
    pub scope: Scope,
    /// The slots within that which shall be served; workers elsewhere in it only go.
    pub slots: BTreeSet<Slot>,
    /// How many workers more than slots may stand at once.
    pub surge: usize,
    /// How many slots may be without a ready worker.
    pub unavailable: usize,
    /// How long a worker must have been ready before it counts as a replacement.
    pub min_ready: u64,
    /// How long the way forward may take, and how long the way back.
    pub deadline: u64,
    /// How many workers may live at once, those on their way down too.
    #[serde(default = "unbounded")]
    pub live: usize,
    /// How many new workers stand trial beside all old ones before the rest follows.
    #[serde(default)]
    pub canary: usize,
    /// How long each of them must have been ready.
    #[serde(default)]
    pub bake: u64,
    /// What comes of a failure on the way forward.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// Why no roll starts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No worker runs, or none shall.
    #[error("no worker runs, so there is nothing to replace")]
    NothingRuns,
    /// No worker is wanted, and a roll replaces workers.
    #[error("0 workers are wanted, so there is nothing to put in place of those that run")]
    NoneWanted,
    /// A worker started now would get no listener.
    #[error("its socket {0} is down, a new worker could not be reached")]
    SocketDown(String),
    /// A canary would have to take an old worker's place.
    #[error("a canary stands beside all old workers, and max_surge is 0: there is no room for it")]
    NoRoom,
    /// No canary could ever pass.
    #[error("canaries are to be watched for {bake} s, and the whole roll may take {deadline} s")]
    Hasty {
        /// Seconds.
        bake: u64,
        /// Seconds.
        deadline: u64,
    },
    /// A number that is not new would mix two versions under one name.
    #[error("generation {wished} is not new: generation {seen} exists; ask again, the next roll takes a higher number")]
    NotNew {
        /// The generation asked for.
        wished: Generation,
        /// The one that forbids it.
        seen: Generation,
    },
}

impl Plan {
    /// Whether the roll brings another generation up, and not the same again.
    pub fn is_deploy(&self) -> bool {
        self.to.generation != self.from.generation
    }

    /// What a plan was about that an older program wrote down.
    fn whole() -> Scope {
        Scope::App
    }

    /// What of a target concerns it.
    pub(super) fn within(&self, slots: BTreeSet<Slot>) -> BTreeSet<Slot> {
        slots.into_iter().filter(|slot| self.scope.has(*slot)).collect()
    }
}

/// Decides whether a roll can start, and within which bounds.
///
/// Percentages are of the number of slots; surge rounds up, unavailable down, as in Kubernetes. Where both come out as
/// 0, unavailable becomes 1, again as in Kubernetes: since surge rounds up, it is 0 only where a person wrote 0, and who
/// says "never one more" (no memory for it, say) means it, while the other 0 is but rounding.
///
/// A roll of single slots always starts the new worker before it stops the old one, whatever `max_surge` says: that is
/// what a person asks for who restarts one worker.
pub fn plan(wish: &Wish<'_>) -> Result<Plan, Refusal> {
    let lives = |state: &ActiveState| !matches!(state, ActiveState::Inactive | ActiveState::Failed);
    let slots: BTreeSet<Slot> = wish.slots.iter().filter(|slot| wish.scope.has(**slot)).copied().collect();
    if wish.scope == Scope::App {
        if slots.is_empty() {
            return Err(Refusal::NoneWanted);
        }
        if !wish.world.values().any(|sight| lives(&sight.state)) {
            return Err(Refusal::NothingRuns);
        }
    }
    if let Some(socket) = wish.sockets_down.first().filter(|_| !slots.is_empty()) {
        return Err(Refusal::SocketDown(socket.clone()));
    }
    let wished = wish.to.generation;
    let seen = wish.world.keys().map(|worker| worker.generation).chain([wish.from.generation]).max();
    if let Some(seen) = seen.filter(|seen| *seen >= wished && (wish.scope == Scope::App || wish.to != wish.from)) {
        return Err(Refusal::NotNew { wished, seen });
    }
    let mut target = Target::of(slots, wish.reload);
    let (canary, bake, deadline) = (trial(wish, &target.slots), millis(wish.reload.bake), millis(wish.reload.deadline));
    if wish.scope != Scope::App {
        (target.surge, target.unavailable) = (target.surge.max(1), 0);
        // Other workers of the app live as well.
        target.live = usize::from(wish.reload.live(count(wish.slots))).max(wish.slots.len() + target.surge);
    }
    if canary > 0 && target.surge == 0 {
        return Err(Refusal::NoRoom);
    }
    if canary > 0 && bake >= deadline {
        return Err(Refusal::Hasty { bake: bake / 1000, deadline: deadline / 1000 });
    }
    Ok(Plan {
        app: wish.app.clone(),
        from: wish.from,
        to: wish.to,
        scope: wish.scope.clone(),
        slots: target.slots,
        surge: target.surge,
        unavailable: target.unavailable,
        min_ready: millis(wish.reload.min_ready),
        deadline,
        live: target.live,
        canary,
        bake,
        // What a person asks of single workers ends as he sees it.
        on_failure: if wish.scope == Scope::App { wish.reload.on_failure } else { OnFailure::Abort },
    })
}

/// How many canaries a roll has: none where it brings no other version.
fn trial(wish: &Wish<'_>, slots: &BTreeSet<Slot>) -> usize {
    if wish.scope == Scope::App { usize::from(wish.reload.canary.up(count(slots))).min(slots.len()) } else { 0 }
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

    fn reload(max_surge: Amount, max_unavailable: Amount) -> Reload {
        Reload { max_surge, max_unavailable, ..Reload::default() }
    }

    fn version(generation: u64) -> Version {
        Version { generation: Generation(generation), pin: None }
    }

    fn world(workers: &[(&str, ActiveState)]) -> World {
        workers.iter().map(|(name, state)| (name.parse().unwrap(), Sight { state: *state, ..Sight::NOTHING })).collect()
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
        let slots = Slot::first(2).collect();
        let (from, to, scope) = (version(4), version(5), Scope::App);
        let wish = Wish { app: &app, from, to, slots: &slots, scope, reload: &reload, sockets_down: &[], world: &up };
        let fine = plan(&wish).unwrap();
        assert_eq!((fine.slots.len(), fine.surge, fine.unavailable, fine.min_ready, fine.deadline), (2, 1, 0, 1000, 600_000));

        let down = world(&[("1.4.1", ActiveState::Failed)]);
        assert_eq!(plan(&Wish { world: &down, ..wish.clone() }), Err(Refusal::NothingRuns));
        assert_eq!(plan(&Wish { slots: &BTreeSet::new(), ..wish.clone() }), Err(Refusal::NoneWanted));
        let sockets = ["a.socket".to_owned()];
        assert_eq!(plan(&Wish { sockets_down: &sockets, ..wish.clone() }), Err(Refusal::SocketDown("a.socket".into())));
        let refused = plan(&Wish { to: version(4), ..wish.clone() });
        assert_eq!(refused, Err(Refusal::NotNew { wished: Generation(4), seen: Generation(4) }));
        // A leftover of a failed roll counts: its number is taken.
        let leftover = world(&[("1.4.1", ActiveState::Active), ("1.6.1", ActiveState::Failed)]);
        assert!(matches!(plan(&Wish { world: &leftover, ..wish }), Err(Refusal::NotNew { .. })));
    }

    #[test]
    fn a_roll_of_single_slots_replaces_them_new_before_old_and_no_other() {
        let never_more = reload(Count(0), Count(1));
        let slots = |numbers: &[u16]| numbers.iter().map(|number| Slot::new(*number).unwrap()).collect::<BTreeSet<_>>();
        let (app, served, nothing) = ("api".parse().unwrap(), slots(&[1, 2, 3]), World::new());
        let (scope, down) = (Scope::Slots(slots(&[2, 9])), ["a.socket".to_owned()]);
        let (from, to) = (version(4), version(4));
        let wish = Wish { app: &app, from, to, slots: &served, scope, reload: &never_more, sockets_down: &[], world: &nothing };
        let fine = plan(&wish).unwrap();
        assert_eq!((&fine.slots, fine.surge, fine.unavailable, fine.is_deploy()), (&slots(&[2]), 1, 0, false));
        assert!(matches!(plan(&Wish { sockets_down: &down, ..wish.clone() }), Err(Refusal::SocketDown(_))));
        // What only goes needs no socket.
        let only_goes = plan(&Wish { sockets_down: &down, scope: Scope::Slots(slots(&[9])), ..wish }).unwrap();
        assert!(only_goes.slots.is_empty());
    }

    #[test]
    fn what_is_missing_and_what_is_too_much() {
        use ActiveState::{Activating, Active, Deactivating, Failed};
        let slots: BTreeSet<Slot> = Slot::first(4).collect();
        let found = world(&[("1.4.1", Active), ("2.4.1", Activating), ("3.4.1", Deactivating), ("4.4.1", Failed), ("6.4.1", Active)]);
        let numbers: Vec<u16> = Scope::missing_and_extra(&slots, &found).into_iter().map(Slot::get).collect();
        assert_eq!(numbers, [3, 4, 6]);
    }
}
