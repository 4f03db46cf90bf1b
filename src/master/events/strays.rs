//! Workers that somebody stopped from outside (`systemctl stop NAME-APP@1.7.1`) while their app is up: not started again
//! behind that person's back, and shown.
//!
//! A stop is believed once a whole reading, begun later, shows the app up and with no job to end it: at a shutdown
//! workers begin to stop before their handle does, and that is no person's wish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::between::Scene;
use super::life::Phase;
use super::{AGAIN, Master, lock};
use crate::master::rolls::unix_ms;
use crate::names::{AppName, AppUnits, Instance, Slot};
use crate::say::say;
use crate::systemd::Systemd;

/// A worker that was stopped from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stray {
    /// Which it was.
    pub instance: Instance,
    /// When that was seen, milliseconds of Unix time.
    pub since_ms: u64,
}

/// All of them, by app and slot.
#[derive(Debug, Default)]
pub struct Strays {
    known: Mutex<BTreeMap<AppName, BTreeMap<Slot, Stray>>>,
    /// Not believed yet.
    suspected: Mutex<BTreeSet<(AppName, Instance)>>,
    suspicion: Notify,
}

impl Strays {
    /// Those of an app.
    pub fn of(&self, name: &AppName) -> BTreeMap<Slot, Stray> {
        lock(&self.known).get(name).cloned().unwrap_or_default()
    }

    /// Takes what a reading shows: who is back is no stray, nor anybody of an app that is not up.
    pub(super) fn see(&self, scene: &Scene<'_>, suspected: Vec<(AppName, Instance)>) {
        lock(&self.known).retain(|name, slots| {
            let served = scene.served(name);
            slots.retain(|slot, _| scene.is_up(name) && !served.contains(slot));
            !slots.is_empty()
        });
        if !suspected.is_empty() {
            lock(&self.suspected).extend(suspected);
            self.suspicion.notify_one();
        }
    }
}

/// Reads again what is suspected, and believes it or not.
pub(in crate::master) async fn watch<S: Systemd>(master: Arc<Master<S>>) {
    loop {
        master.strays.suspicion.notified().await;
        while let Err(why) = master.look().await {
            say!(Warning, "{why}");
            tokio::time::sleep(AGAIN).await;
        }
        for (name, instance) in std::mem::take(&mut *lock(&master.strays.suspected)) {
            if master.stays_down(&name, &instance) {
                master.stopped_from_outside(&name, instance);
            }
        }
    }
}

impl<S: Systemd> Master<S> {
    /// Whether the app is up to stay, and nobody of this worker's slot is or comes.
    fn stays_down(&self, name: &AppName, instance: &Instance) -> bool {
        let settings = self.settings();
        if !settings.apps.contains_key(name) {
            return false;
        }
        let units = AppUnits::new(&settings.name, name);
        let world = lock(&self.world);
        let handle = world.get(&units.handle());
        let up = Phase::of(handle) == Phase::Up && handle.is_some_and(|seen| seen.state.job.as_deref().is_none_or(|job| job == "reload"));
        let rests = |(other, seen): &(Instance, &super::world::Seen)| {
            other.slot != instance.slot || (Phase::of(Some(seen)) == Phase::Down && seen.state.job.is_none())
        };
        up && world.workers(&units).iter().all(rests)
    }

    /// A person wants this worker down.
    fn stopped_from_outside(&self, name: &AppName, instance: Instance) {
        say!(Notice, "{name}: {} was stopped from outside; it is left so", crate::roll::words::who(name, &instance));
        let stray = Stray { instance, since_ms: unix_ms() };
        lock(&self.strays.known).entry(name.clone()).or_default().insert(instance.slot, stray);
    }
}
