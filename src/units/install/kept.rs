//! Addresses that the settings no longer declare and that a worker may still come back to.
//!
//! A crashed worker comes back as what its pin says, its addresses included. So a socket stays, running and on disk, as
//! long as the generation that a start would start, or one with loaded workers, is pinned to it.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::settings::{Listen, Settings};
use crate::handle::plan::{self, Known};
use crate::intent::Intent;
use crate::names::{AppName, AppUnits, ClusterName, Generation};
use crate::worker::store::Store;

use super::disk::Root;
use super::{Error, Live, Options};

/// By app, what is declared no more and still in use, and the generation that uses it.
pub(super) type Kept = BTreeMap<AppName, Vec<(Listen, Generation)>>;

/// What to keep. An address that would overlap with a declared one goes all the same: both cannot be had.
pub(super) fn kept(settings: &Settings, options: &Options, root: &Root, live: Option<&dyn Live>) -> Result<Kept, Error> {
    let cluster = &settings.name;
    let store = Store::open(cluster, &options.paths());
    let intent = remembered(root, cluster);
    let mut kept = Kept::new();
    if root.read(&root.paths().master_settings(cluster))?.is_none() {
        return Ok(kept);
    }
    for name in settings.apps.keys() {
        let units = AppUnits::new(cluster, name);
        let loaded = match live {
            Some(live) => live.running(&[units.worker_glob()]).map_err(|source| Error::Live { what: "listing workers".into(), source })?,
            None => Vec::new(),
        };
        let mut used: BTreeSet<Generation> =
            loaded.iter().filter_map(|unit| units.instance(unit)).map(|instance| instance.generation).collect();
        used.extend(current_pin(&store, name, &intent));
        for generation in used.into_iter().rev() {
            // A pin that cannot be read starts no worker either.
            let Ok(Some(pin)) = store.pin(name, generation) else { continue };
            for listen in pin.listen {
                let declared = settings.apps.values().flat_map(|app| &app.listen).any(|other| other.address.overlaps(&listen.address));
                let others = kept.values().flatten().any(|(other, _)| other.address.overlaps(&listen.address));
                if !declared && !others {
                    kept.entry(name.clone()).or_default().push((listen, generation));
                }
            }
        }
    }
    Ok(kept)
}

/// What the master remembers. Damaged or not there: the pins alone tell, as they do for a start.
pub(super) fn remembered(root: &Root, cluster: &ClusterName) -> Intent {
    Intent::read(&root.at(&root.paths().intent(cluster))).unwrap_or_default()
}

/// The pin of the generation that a start would start.
pub(super) fn current_pin(store: &Store, app: &AppName, intent: &Intent) -> Option<Generation> {
    let counter = store.counter(app).ok()?;
    let current = intent.apps.get(app).and_then(|app| Some((app.generation?, app.pin.or(app.generation)?)));
    let known = Known { highest: Some(counter.generation), current, started: counter.started, ready: store.last_ready(app).ok()? };
    Some(plan::generation(&known, false, |pin| matches!(store.pin(app, pin), Ok(Some(_)))).1)
}
