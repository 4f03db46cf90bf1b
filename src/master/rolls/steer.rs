//! What a person asks of a roll that is under way: `pause`, `resume`, `abort`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{kept, lock};
use crate::api::error::{Code, Refusal};
use crate::api::events::{By, Kind};
use crate::api::types::{self, Done, RollState};
use crate::master::{Master, under_way};
use crate::names::{AppName, AppUnits};
use crate::roll::execute::Asked;
use crate::roll::queue::Ticket;
use crate::roll::words::{self, Steer};
use crate::say::say;
use crate::systemd::{ActiveState, Systemd};

/// A roll reads systemd before it heeds anything, and that has a deadline of its own, as has what it read just before.
const HEARD: Duration = Duration::from_secs(60);

/// How soon a roll that has just begun is asked again.
const BEGINS: Duration = Duration::from_millis(20);

/// What a person may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Nothing is started or retired from now on.
    Pause,
    /// It goes on.
    Resume,
    /// The old workers are wanted again.
    Abort,
}

impl Order {
    fn by(self, asker: Option<String>) -> Steer {
        let who = asker.unwrap_or_else(|| "somebody".to_owned());
        match self {
            Self::Pause => Steer::Pause { reason: format!("{who} asked for it") },
            Self::Resume => Steer::Resume,
            Self::Abort => Steer::Abort { reason: format!("aborted by {who}") },
        }
    }
}

impl<S: Systemd> Master<S> {
    /// Steers the roll of this number. It is answered when the roll heeds it and that is written down, not when it ends.
    ///
    /// # Errors
    /// When it is not the roll under way, or cannot heed that as it stands.
    pub async fn steer(self: &Arc<Self>, name: &AppName, id: u64, order: Order) -> Result<Done, Refusal> {
        let known = self.roll(name, id, None, Duration::ZERO).await?;
        if order == Order::Abort
            && let Some(done) = self.give_up(name, id)
        {
            return Ok(done);
        }
        let begun = Instant::now();
        let conflict =
            |why: &str| Refusal::new(Code::Conflict, format!("{name}: {why}. `project-cluster show {name}` tells how it stands"));
        let asks = loop {
            let asks = lock(&self.rolls).steer(name, id).ok_or_else(|| {
                conflict(match known.state {
                    RollState::Waiting => {
                        "this roll has not begun, it waits for the one before it: one that waits can be aborted, and no more than that"
                    }
                    _ => "its roll has ended",
                })
            })?;
            match asks {
                Some(asks) => break asks,
                None if begun.elapsed() > HEARD => return Err(conflict("its roll does not begin")),
                None => tokio::time::sleep(BEGINS).await,
            }
        };
        let (answer, answered) = oneshot::channel();
        let asked = Asked { order: order.by(under_way::asker()), answer };
        let heard = async {
            asks.send(asked).await.ok()?;
            answered.await.ok()
        };
        match tokio::time::timeout(HEARD, heard).await {
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(why))) => return Err(conflict(why)),
            Ok(None) => return Err(conflict("its roll has just ended")),
            Err(_) => {
                let why =
                    format!("{name}: its roll waits for systemd and has not heeded this yet; it may still. `project-cluster show {name}`");
                return Err(Refusal::new(Code::Unavailable, why));
            }
        }
        if order != Order::Pause && known.slots.is_none() {
            self.show_again(name, id).await;
        }
        let roll = self.roll(name, id, None, Duration::ZERO).await?;
        Ok(match order {
            Order::Pause => Done { under_way: false, ..Done::by_roll(roll, format!("paused. {}", words::paused(name))) },
            Order::Resume => Done::by_roll(roll, "goes on"),
            Order::Abort => Done::by_roll(roll, "goes back"),
        })
    }

    /// A roll that waits behind another is not wanted any more: it never begins, and whoever waits for it hears so. What runs
    /// goes on.
    fn give_up(&self, name: &AppName, id: u64) -> Option<Done> {
        let ticket = lock(&self.rolls).give_up(name, id)?;
        // First: a master to come would begin it.
        kept::mark_next(&self.places, name, lock(&self.rolls).waiting(name));
        let who = under_way::asker().unwrap_or_else(|| "somebody".to_owned());
        let why = format!("aborted by {who} before it began; nothing was done for it");
        say!(Notice, "{name}: the roll that waited was {why}");
        self.tell_roll(Kind::RollFailed, name, Some(By::Operator), ticket.0, None, format!("{name}: the roll that waited was {why}"));
        lock(&self.rolls).fail(name, ticket, why);
        let roll = lock(&self.rolls).get(name, id)?;
        Some(Done::by_roll(roll, "the roll that waited is aborted, and what it waited for goes on"))
    }

    /// The handle shows a roll again whose reload step has ended with the pause.
    async fn show_again(self: &Arc<Self>, name: &AppName, id: u64) {
        let settings = self.settings();
        let units = AppUnits::new(&settings.name, name);
        let idle = {
            let world = lock(&self.world);
            world.get(&units.handle()).is_some_and(|seen| seen.state.active == ActiveState::Active && seen.state.job.is_none())
        };
        if idle {
            self.show(&units, Ticket(id)).await;
        }
    }

    /// Refuses what would have to wait for a roll that waits for a person.
    ///
    /// # Errors
    /// When a roll of the app is paused.
    pub(in crate::master) fn not_paused(&self, name: &AppName) -> Result<(), Refusal> {
        match lock(&self.rolls).paused(name) {
            None => Ok(()),
            Some(roll) => Err(refusal(roll)),
        }
    }
}

/// A roll that waits for a person is in the way, or is what was waited for.
pub fn refusal(roll: &types::Roll) -> Refusal {
    let (name, why) = (&roll.app, roll.reason.as_deref().unwrap_or("no reason is known"));
    Refusal::new(Code::Paused, format!("{name}: its roll is paused: {why}. {}", words::paused(name))).of(roll.path())
}
