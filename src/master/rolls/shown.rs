//! A roll that systemctl did not begin is shown where its users look: `systemctl status NAME@APP` and `is-active`.
//!
//! The status of a unit can be told by its own processes alone, so the master asks systemd for a reload of the handle and
//! leaves a mark with the number of the roll. The reload step takes the mark and follows that roll; without one it asks
//! for a roll. A person's reload that systemd makes one with ours is answered by this roll, which has started nothing yet;
//! a later one runs the step again, behind it and without a mark. Whatever becomes of this, the roll goes on. The number 0
//! asks for a status alone.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::lock;
use crate::files;
use crate::master::Master;
use crate::names::{AppName, AppUnits};
use crate::roll::queue::Ticket;
use crate::say::say;
use crate::systemd::{ActiveState, Systemd, Verb};

/// Within this the step has taken its mark, or never will.
const TAKEN: Duration = Duration::from_secs(30);

impl<S: Systemd> Master<S> {
    /// Lets the app's handle show this roll.
    pub(super) async fn show(self: &Arc<Self>, units: &AppUnits<'_>, ticket: Ticket) {
        drop(self.mark(units, ticket.0).await);
    }

    /// Lets the status of the app's handle tell how the app stands, where no roll does: behind the end of a hold, say.
    pub(in crate::master) async fn show_standing(self: &Arc<Self>, name: &AppName) {
        let settings = self.settings();
        let units = AppUnits::new(&settings.name, name);
        let idle = {
            let world = lock(&self.world);
            world.get(&units.handle()).is_some_and(|seen| seen.state.active == ActiveState::Active && seen.state.job.is_none())
        };
        if idle && !lock(&self.rolls).under_way(name) {
            // To its end: a person's reload right behind this must not become one with it, and nothing reloaded.
            if let Some(told) = self.mark(&units, 0).await {
                let _ = tokio::time::timeout(TAKEN, told).await;
            }
        }
    }

    async fn mark(self: &Arc<Self>, units: &AppUnits<'_>, number: u64) -> Option<JoinHandle<()>> {
        let (path, handle) = (self.places.shown(units.app), units.handle());
        let unshown = |why: &dyn Display| say!(Info, "{handle} does not show this roll: {why}");
        if let Err(why) = files::replace(&path, number.to_string().as_bytes(), 0o600) {
            unshown(&format_args!("{}: {why}", path.display()));
            return None;
        }
        let (master, app) = (Arc::clone(self), units.app.clone());
        let shows = handle.clone();
        let job = tokio::spawn(async move {
            if let Err(why) = master.systemd.job(Verb::Reload, &shows, TAKEN).await {
                say!(Info, "{shows} may not show the roll of {app}: {why}");
            }
            // Never taken where the handle was stopped, say; a later step must not find it.
            let path = master.places.shown(&app);
            if files::read_bounded(&path, 32).is_ok_and(|mark| mark == number.to_string().as_bytes()) {
                let _ = std::fs::remove_file(&path);
            }
        });
        // That request goes out first.
        tokio::task::yield_now().await;
        Some(job)
    }

    /// A mark of the master before, where no step is there to take it.
    pub(super) fn forget_shown(&self, name: &AppName) {
        let settings = self.settings();
        let handle = AppUnits::new(&settings.name, name).handle();
        if lock(&self.world).active(&handle) != ActiveState::Reloading {
            let _ = std::fs::remove_file(self.places.shown(name));
        }
    }
}
