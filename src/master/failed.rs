//! Starts that failed, as holds (a stop that failed is none: it is one once nothing is left): the handle is failed, the port is closed, nothing is tried until a person acts. The
//! handle's own last lines are the reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::rolls::unix_ms;
use super::{LINES, Master, lock, world};
use crate::intent::Hold;
use crate::names::{AppName, AppUnits, Generation};
use crate::say::say;
use crate::systemd::{ActiveState, Systemd};

/// Looks at every change of the world for handles that have failed.
pub(super) async fn watch<S: Systemd>(master: Arc<Master<S>>) {
    let mut seen = master.seen.subscribe();
    // By the generation that failed: between two looks one may have come up and the next have failed.
    let mut known: BTreeMap<AppName, Generation> = BTreeMap::new();
    loop {
        for name in master.settings().apps.keys() {
            let generation = master.highest(name).unwrap_or(Generation(0));
            if master.start_failed(name) && known.insert(name.clone(), generation) != Some(generation) {
                // Its lines may be a second late, and other apps shall not wait for them.
                tokio::spawn(hold(master.clone(), name.clone(), generation));
            }
        }
        if seen.changed().await.is_err() {
            return;
        }
    }
}

async fn hold<S: Systemd>(master: Arc<Master<S>>, name: AppName, generation: Generation) {
    if master.intent_of(&name).held.is_some_and(|held| held.generation == generation) {
        // The master before has told it.
        return;
    }
    let settings = master.settings();
    let handle = AppUnits::new(&settings.name, &name).handle();
    let since = match master.systemd.details(&handle).await {
        Ok(details) if world::stop_failed(&details) => return master.stopped_late(&name).await,
        Ok(details) => details.begun_us,
        Err(why) => return say!(Warning, "{name}: its start failed, and why cannot be read: {why}"),
    };
    let lines = master.journal.last_lines(&handle, since, LINES).await;
    let reason = if lines.is_empty() { format!("the start of {handle} failed") } else { lines.join("\n") };
    // A person may have mended and started it meanwhile.
    if master.start_failed(&name) && master.highest(&name).unwrap_or(Generation(0)) == generation {
        master.remember(&name, |intent| intent.held = Some(Hold::new(unix_ms(), &reason, generation)));
    }
}

impl<S: Systemd> Master<S> {
    /// Of a stop that failed, the failure is forgotten as soon as all of the app is down.
    async fn stopped_late(&self, name: &AppName) {
        let mut seen = self.seen.subscribe();
        while self.start_failed(name) {
            let settings = self.settings();
            let Some(app) = settings.apps.get(name) else { return };
            let units = AppUnits::new(&settings.name, name);
            if self.left(&units, app).is_empty() {
                return self.systemd.reset_failed(&units.handle()).await.unwrap_or_else(|why| say!(Warning, "{name}: {why}"));
            }
            if seen.changed().await.is_err() {
                return;
            }
        }
    }

    fn start_failed(&self, name: &AppName) -> bool {
        lock(&self.world).active(&AppUnits::new(&self.settings().name, name).handle()) == ActiveState::Failed
    }
}
