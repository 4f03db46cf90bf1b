//! Workers that somebody stopped from outside (`systemctl stop NAME-APP@1.7.1`) while their app is up, or started so: it is
//! remembered as if it had been asked of us, and shown.
//!
//! Done while no master was there, it is found by the next one (`away`), and treated the same.
//!
//! A stop is believed once a whole reading, begun later, shows the app up and with no job to end it: at a shutdown
//! workers begin to stop before their handle does, and that is no person's wish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::away::{self, Found, Meanwhile, Row, Serving};
use super::between::{Scene, Told};
use super::life::Phase;
use super::{Master, lock};
use crate::api::events::{By, Happening, Kind};
use crate::config::settings::Settings;
use crate::intent::Change;
use crate::master::memory::Source;
use crate::master::rolls::unix_ms;
use crate::master::world::Seen;
use crate::names::{AppName, AppUnits, Instance, Slot, Uid};
use crate::roll::plan::Target;
use crate::roll::words;
use crate::say::say;
use crate::systemd::{ActiveState, Systemd};

/// After a reading that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// A worker that was stopped from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What was seen and is not believed yet: those that were stopped, those that were started.
    seen: Mutex<(BTreeSet<Worker>, BTreeSet<Worker>)>,
    news: Notify,
    /// Who serves, as it is written down for a master to come.
    kept: Mutex<away::All>,
}

type Worker = (AppName, Instance);

impl Strays {
    /// Those of an app.
    pub fn of(&self, name: &AppName) -> BTreeMap<Slot, Stray> {
        lock(&self.known).get(name).cloned().unwrap_or_default()
    }

    /// Takes what a reading shows: who is back is no stray, nor anybody of an app that is not up.
    pub(super) fn see(&self, scene: &Scene<'_>, told: &Told) {
        lock(&self.known).retain(|name, slots| {
            let served = scene.served(name);
            slots.retain(|slot, _| scene.is_up(name) && !served.contains(slot));
            !slots.is_empty()
        });
        if !told.strays.is_empty() || !told.returned.is_empty() {
            let mut seen = lock(&self.seen);
            seen.0.extend(told.strays.iter().cloned());
            seen.1.extend(told.returned.iter().cloned());
            self.news.notify_one();
        }
    }
}

/// Reads again what was seen, and believes it or not.
pub(in crate::master) async fn watch<S: Systemd>(master: Arc<Master<S>>) {
    loop {
        master.strays.news.notified().await;
        while let Err(why) = master.look().await {
            say!(Warning, "{why}");
            tokio::time::sleep(AGAIN).await;
        }
        let (stopped, started) = std::mem::take(&mut *lock(&master.strays.seen));
        let mut apps: BTreeMap<AppName, (BTreeSet<Slot>, BTreeSet<Slot>)> = BTreeMap::new();
        for (name, instance) in stopped {
            // What a roll has seen before is remembered already.
            let known = master.strays.of(&name).get(&instance.slot).is_some_and(|stray| stray.instance == instance);
            if !known && master.is_settled(&name, &instance, Phase::Down) {
                say!(Notice, "{name}: {} was stopped from outside; it is left so", words::who(&name, &instance));
                let stray = Stray { instance, since_ms: unix_ms() };
                lock(&master.strays.known).entry(name.clone()).or_default().insert(instance.slot, stray);
                apps.entry(name).or_default().0.insert(instance.slot);
            }
        }
        for (name, instance) in started {
            if master.is_settled(&name, &instance, Phase::Up) {
                apps.entry(name).or_default().1.insert(instance.slot);
            }
        }
        for (name, (stopped, started)) in apps {
            master.respect(&name, stopped, started);
        }
        master.keep_serving(&master.settings());
    }
}

impl<S: Systemd> Master<S> {
    /// Finds what people did to workers while no master was there. `rolled` are the apps that the master before was
    /// carrying out a roll of, or was to.
    pub(in crate::master) fn recall(&self, rolled: &BTreeSet<AppName>) {
        let (settings, path) = (self.settings(), self.places.serving());
        let known = away::read(&path).unwrap_or_else(|why| {
            say!(Warning, "{why}; so workers that somebody stopped with systemctl while no master ran are started again");
            away::All::new()
        });
        for (name, serving) in &known {
            let Some(app) = settings.apps.get(name) else { continue };
            let (since_us, rows) = self.serves(&AppUnits::new(&settings.name, name));
            if since_us != Some(serving.since_us) {
                continue;
            }
            let (wanted, stopped) = (self.wanted(name, app), self.intent_of(name).stopped);
            let found = Found { since_us, workers: &rows, wanted: &wanted, stopped: &stopped, rolled: rolled.contains(name) };
            let Meanwhile { stopped, started } = serving.meanwhile(&found);
            let strays = serving.strays.iter().filter(|stray| !rows.iter().any(|(instance, ..)| instance.slot == stray.instance.slot));
            lock(&self.strays.known).entry(name.clone()).or_default().extend(strays.map(|stray| (stray.instance.slot, *stray)));
            for (kind, instances, what) in [(Kind::WorkerStop, &stopped, "stopped"), (Kind::WorkerStart, &started, "started")] {
                for instance in instances {
                    self.events.tell(Happening {
                        app: Some(name.clone()),
                        uid: Some(Uid { app: name.clone(), slot: instance.slot }),
                        generation: Some(instance.generation),
                        unit: Some(AppUnits::new(&settings.name, name).worker(instance)),
                        by: Some(By::Outside),
                        ..Happening::new(kind, format!("{} was {what} from outside while no master ran", words::who(name, instance)))
                    });
                }
            }
            let mut seen = lock(&self.strays.seen);
            seen.0.extend(stopped.into_iter().map(|instance| (name.clone(), instance)));
            seen.1.extend(started.into_iter().map(|instance| (name.clone(), instance)));
        }
        *lock(&self.strays.kept) = known;
        self.keep_serving(&settings);
        self.strays.news.notify_one();
    }

    /// Writes down who serves, where that has changed.
    pub(super) fn keep_serving(&self, settings: &Settings) {
        let mut kept = lock(&self.strays.kept);
        let mut next = away::All::new();
        for name in settings.apps.keys() {
            if let (Some(since_us), rows) = self.serves(&AppUnits::new(&settings.name, name)) {
                let pending = lock(&self.strays.seen).0.iter().filter(|(app, _)| app == name).map(|(_, instance)| *instance).collect();
                let strays = self.strays.of(name).into_values().collect();
                next.insert(name.clone(), Serving::next(kept.get(name), since_us, &rows, &pending, strays));
            }
        }
        if *kept == next {
            return;
        }
        let path = self.places.serving();
        if let Err(why) = away::write(&path, &next) {
            say!(Warning, "{}: {why}; a master to come starts workers again that somebody stops with systemctl before", path.display());
        }
        *kept = next;
    }

    /// Since when an app has been up, where it is and no job is about to end that; and its workers but those that are
    /// inactive and at rest.
    fn serves(&self, units: &AppUnits<'_>) -> (Option<u64>, Vec<Row>) {
        let world = lock(&self.world);
        let row = |(instance, seen): (Instance, &Seen)| {
            let (phase, job) = (Phase::of(Some(seen)), seen.state.job.is_some());
            let rests = seen.state.active == ActiveState::Inactive && phase == Phase::Down && !job;
            (!rests).then_some((instance, phase, job))
        };
        let handle = world.get(&units.handle()).filter(|seen| stays(seen));
        (handle.map(|seen| seen.details.active_since_us), world.workers(units).into_iter().filter_map(row).collect())
    }

    /// Whether the app is up to stay, and all workers of this slot are down, or this one up.
    fn is_settled(&self, name: &AppName, instance: &Instance, phase: Phase) -> bool {
        let settings = self.settings();
        if !settings.apps.contains_key(name) {
            return false;
        }
        let units = AppUnits::new(&settings.name, name);
        let world = lock(&self.world);
        let up = world.get(&units.handle()).is_some_and(stays);
        let rests = |seen: Option<&Seen>| Phase::of(seen) == phase && seen.is_none_or(|seen| seen.state.job.is_none());
        up && match phase {
            Phase::Down => world.workers(&units).into_iter().all(|(other, seen)| other.slot != instance.slot || rests(Some(seen))),
            _ => rests(world.get(&units.worker(instance))),
        }
    }

    /// A roll of the app sees that these old workers were stopped from outside, perhaps still on their way down: remembered at
    /// once, since their slots would be filled again meanwhile. Which slots are wanted then; none where it is not believed.
    pub(in crate::master) fn believe(&self, name: &AppName, workers: &[Instance]) -> Option<Target> {
        let settings = self.settings();
        let app = settings.apps.get(name)?;
        let slots: BTreeSet<Slot> = workers.iter().map(|worker| worker.slot).collect();
        // As in `respect`: who stops all of them has not said which are to stay down.
        if self.wanted(name, app).is_subset(&slots) {
            return None;
        }
        if let Err(why) = self.remember_change(name, &Change::Stop(slots), Source::Seen) {
            say!(Notice, "{why}");
            return None;
        }
        for instance in workers {
            say!(Notice, "{name}: {} was stopped from outside; it is left so", words::who(name, instance));
            let stray = Stray { instance: *instance, since_ms: unix_ms() };
            lock(&self.strays.known).entry(name.clone()).or_default().insert(instance.slot, stray);
        }
        self.keep_serving(&settings);
        Some(Target::of(self.wanted(name, app), &app.reload))
    }

    /// What a person did with systemctl is remembered as if it had been asked of us. Nothing is started or stopped for it:
    /// others may be on their way down by the same hand. Who stops all of them has not said which are to stay down: then
    /// none is remembered, else the app's next start would start nobody.
    fn respect(&self, name: &AppName, stopped: BTreeSet<Slot>, started: BTreeSet<Slot>) {
        let settings = self.settings();
        let Some(app) = settings.apps.get(name) else { return };
        let strays: BTreeSet<Slot> = self.strays.of(name).into_keys().collect();
        let intent = self.intent_of(name);
        let none_left = self.wanted(name, app).is_subset(&stopped);
        let back = if none_left { &strays | &started } else { started };
        let back: BTreeSet<Slot> = &back & &intent.stopped;
        let stopped = if none_left { BTreeSet::new() } else { stopped };
        let changes = [(!back.is_empty()).then_some(Change::Start(Some(back))), (!stopped.is_empty()).then_some(Change::Stop(stopped))];
        for change in changes.into_iter().flatten() {
            // A worker that is none of the app's any more.
            if let Err(why) = self.remember_change(name, &change, Source::Seen) {
                say!(Notice, "{why}");
            }
        }
    }
}

/// Whether this handle is up, and no job is about to end that.
fn stays(handle: &Seen) -> bool {
    Phase::of(Some(handle)) == Phase::Up && !matches!(handle.state.job.as_deref(), Some("stop" | "restart"))
}
