//! Starts that failed, as holds: the handle is failed, the port is closed, nothing is tried until a person acts. The
//! handle's own last lines are the reason.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::rolls::unix_ms;
use super::{LINES, Master, lock};
use crate::intent::Hold;
use crate::names::{AppName, AppUnits, Generation};
use crate::systemd::{ActiveState, Systemd};

/// A start that failed while no master looked is found failed, and its lines may be this old.
const LOOK_BACK_US: u64 = 3600 * 1_000_000;

/// Looks at every change of the world for handles that have failed.
pub(super) async fn watch<S: Systemd>(master: Arc<Master<S>>) {
    let mut seen = master.seen.subscribe();
    let mut known: BTreeSet<AppName> = BTreeSet::new();
    loop {
        let settings = master.settings();
        for name in settings.apps.keys() {
            let failed = lock(&master.world).active(&AppUnits::new(&settings.name, name).handle()) == ActiveState::Failed;
            if !failed {
                known.remove(name);
            } else if known.insert(name.clone()) {
                master.hold_failed_start(name).await;
            }
        }
        if seen.changed().await.is_err() {
            return;
        }
    }
}

impl<S: Systemd> Master<S> {
    async fn hold_failed_start(&self, name: &AppName) {
        let settings = self.settings();
        let handle = AppUnits::new(&settings.name, name).handle();
        let generation = self.highest(name).unwrap_or(Generation(0));
        if self.intent_of(name).held.is_some_and(|held| held.generation == generation) {
            // Told by the master before.
            return;
        }
        let since = crate::journal::monotonic_us_now().saturating_sub(LOOK_BACK_US);
        let lines = self.journal.last_lines(&handle, since, LINES).await;
        let reason = if lines.is_empty() { format!("the start of {handle} failed") } else { lines.join("\n") };
        self.remember(name, |intent| intent.held = Some(Hold { since_ms: unix_ms(), reason, generation }));
    }
}
