//! What happens, told to whoever listens: found between two readings of the world, or told by a roll.
//!
//! | file | |
//! |---|---|
//! | `between` | two readings to events (pure) |
//! | `life` | what became of one worker between them (pure) |
//! | `ring` | the last events, numbered (pure) |
//! | `asked` | what this master asked of systemd: who did it |
//! | `strays` | workers that were stopped from outside |
//! | `away` | the same, while no master was there (pure but for its file) |
//!
//! Readers take from the ring at their own pace: nobody waits for them, and who falls behind is told.

pub mod asked;
pub(crate) mod away;
mod between;
mod life;
mod ring;
mod strays;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch as channel};

pub(super) use self::strays::watch as watch_strays;
pub use self::strays::{Stray, Strays};

use self::asked::Who;
use self::between::Scene;
use self::ring::{KEPT, Ring};
use super::rolls::unix_ms;
use super::world::{self, World};
use super::{Master, lock};
use crate::api::error::{Code, Refusal};
use crate::api::events::{By, Event, Happening, Kind};
use crate::config::settings::Settings;
use crate::drain;
use crate::drain::record::End;
use crate::names::{AppName, AppUnits, Generation};
use crate::roll::words;
use crate::systemd::{ActiveState, Systemd, Verb};

/// Readers at once; each holds a connection.
pub const READERS: usize = 256;
/// Events that a reader takes at once.
const BATCH: usize = 64;

/// The events of one master.
#[derive(Debug)]
pub struct Events {
    ring: Mutex<Ring>,
    newest: channel::Sender<u64>,
    readers: Arc<Semaphore>,
}

impl Default for Events {
    fn default() -> Self {
        let ring = Ring::new(unix_ms());
        let newest = channel::Sender::new(ring.newest());
        Self { ring: Mutex::new(ring), newest, readers: Arc::new(Semaphore::new(READERS)) }
    }
}

impl Events {
    /// Keeps an event and wakes who waits for one.
    pub fn tell(&self, what: Happening) {
        let seq = lock(&self.ring).push(unix_ms(), what);
        self.newest.send_replace(seq);
    }

    /// All that are kept behind this number; 0 asks for all.
    pub fn kept(&self, after: u64) -> Vec<Event> {
        lock(&self.ring).behind(after, unix_ms(), KEPT)
    }

    /// A reader of what comes behind this number; without one, of what comes from now on.
    ///
    /// # Errors
    /// When there are as many as may be.
    pub fn reader(self: &Arc<Self>, after: Option<u64>) -> Result<Reader, Refusal> {
        let permit = Arc::clone(&self.readers).try_acquire_owned().map_err(|_| {
            Refusal::new(Code::Busy, format!("{READERS} readers follow the events already; end one of them, or ask with ?follow=false"))
        })?;
        let newest = self.newest.subscribe();
        let after = after.unwrap_or_else(|| *newest.borrow());
        Ok(Reader { events: Arc::clone(self), after, newest, _permit: permit })
    }
}

/// Somebody who follows the events.
#[derive(Debug)]
pub struct Reader {
    events: Arc<Events>,
    after: u64,
    newest: channel::Receiver<u64>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// The number behind which the next event is.
    pub fn position(&self) -> u64 {
        self.after
    }

    /// The next events, some at once, as soon as there are any; a gap where some were missed. Empty when the master ends.
    pub async fn next(&mut self) -> Vec<Event> {
        loop {
            // Marked as seen before the ring is read: what comes in between wakes again.
            self.newest.borrow_and_update();
            let batch = lock(&self.events.ring).behind(self.after, unix_ms(), BATCH);
            if let Some(last) = batch.last() {
                self.after = last.seq;
                return batch;
            }
            if self.newest.changed().await.is_err() {
                return Vec::new();
            }
        }
    }
}

impl<S: Systemd> Master<S> {
    /// The events.
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// Tells what happened between the world as it was and as it is now. `ended` are the jobs of ours that had ended
    /// when the reading began.
    pub(super) fn tell_changes(&self, settings: &Settings, before: &World, ended: &[u64]) {
        let after = lock(&self.world).clone();
        let asked = self.systemd.ledger();
        // The first reading shows how things are, not that they came to be so.
        if *self.seen.borrow() > 0 {
            let scene = Scene { settings, before, after: &after, asked };
            let told = between::between(&scene);
            self.strays.see(&scene, &told);
            for mut what in told.happenings {
                self.tell_drain(settings, &mut what);
                self.events.tell(what);
            }
            self.keep_serving(settings);
        }
        asked.settle(ended, &after);
    }

    /// Adds to the stop of a worker what became of its drain, where that is worth a word, and to the roll that stopped it.
    fn tell_drain(&self, settings: &Settings, what: &mut Happening) {
        let (Kind::WorkerStop, Some(app), Some(unit)) = (what.kind, &what.app, &what.unit) else { return };
        let Some(instance) = AppUnits::new(&settings.name, app).instance(unit) else { return };
        let Ok(Some(record)) = drain::record::read_in(&self.places.drained(app), &instance) else { return };
        if matches!(record.end, None | Some(End::Empty)) {
            return;
        }
        let cut = record.open.filter(|_| matches!(record.end, Some(End::Cut | End::Hurried)));
        if let Some(roll) = what.roll {
            let text = format!("{}: {record}", words::who(app, &instance));
            lock(&self.rolls).later(app, roll, text, cut.unwrap_or(0));
        }
        what.text.push_str(&format!("; {record}"));
    }

    /// Tells that the master is up.
    pub(super) fn tell_start(&self) {
        let settings = self.settings();
        let workers =
            lock(&self.world).names().filter(|unit| matches!(world::owner(&settings, unit), Some((_, world::Kind::Worker(_))))).count();
        let apps = settings.apps.len();
        let text = format!(
            "the master is up and sees {apps} {}, {workers} {}; earlier events are not kept",
            plural(apps, "app"),
            plural(workers, "worker")
        );
        self.events.tell(Happening::new(Kind::MasterStart, text));
    }

    /// A roll is taken up: what of its app is on its way up or down, the master before has asked for.
    pub(super) fn note_jobs_of(&self, name: &AppName, who: &Who) {
        let settings = self.settings();
        let units = AppUnits::new(&settings.name, name);
        let ledger = self.systemd.ledger();
        for (instance, seen) in lock(&self.world).workers(&units) {
            let verb = match seen.state.active {
                ActiveState::Deactivating => Verb::Stop,
                ActiveState::Activating => Verb::Start,
                _ => continue,
            };
            let unit = units.worker(&instance);
            let serial = ledger.note(&unit, verb, who.clone());
            ledger.end(&unit, serial);
        }
    }

    /// Tells of a roll: its begin, by who asked for it where that can be told; a step, its end.
    pub(super) fn tell_roll(
        &self,
        kind: Kind,
        name: &AppName,
        by: Option<By>,
        roll: u64,
        generation: Option<Generation>,
        text: impl Into<String>,
    ) {
        let asked_by = (by == Some(By::Operator)).then(|| lock(&self.rolls).get(name, roll)?.asked_by).flatten();
        let what = Happening { app: Some(name.clone()), generation, by, asked_by, roll: Some(roll), ..Happening::new(kind, text) };
        self.events.tell(what);
    }
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}
