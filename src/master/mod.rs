//! The master: one small process that serves the API, watches the cluster's units and rolls apps.
//!
//! systemd is the truth about what runs; the master adds what was asked for ([`Intent`]). Killing it harms nothing:
//! workers have no dependency on it, and it adopts what it finds.
//!
//! | task | waits for | touches |
//! |---|---|---|
//! | `serve` (axum, one task a connection) | requests | asks [`Master`] |
//! | `watch` | systemd's changes | the [`World`] |
//! | one a roll (`rolls`) | job ends, changes, its clock | the roll's record, [`Intent`] |
//! | `run` | signals, the watchdog | all of the above, by ending them |

mod apply;
pub mod events;
mod failed;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod glance;
mod loops;
mod marks;
mod memory;
mod operate;
mod past;
mod places;
mod renew;
pub mod rolls;
mod run;
pub(crate) mod thrift;
mod ticks;
pub mod under_way;
pub mod usage;
mod view;
pub mod watch;
mod workers;
pub mod world;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch as channel;
use tokio::time::Instant;

pub use places::Places;
pub use run::main;

use self::events::asked::Noted;
use self::events::{Events, Strays};
use self::glance::Questions;
use self::memory::{Memory, Source};
use self::rolls::Rolls;
use self::usage::Usages;
use self::watch::Gathered;
use self::world::World;
use crate::api::error::{Code, Refusal};
use crate::api::tokens::Keys;
use crate::api::types::{App, Health, Roll};
use crate::config::settings::{self, Settings};
use crate::intent::Intent;
use crate::journal::Journal;
use crate::names::{AppName, AppUnits, ClusterName, Slot};
use crate::say::say;
use crate::status;
use crate::store::Store;
use crate::systemd::{self, Systemd};

/// Lines of a failed step that a message shows: a stack of Node with its source line and its error is over 20.
const LINES: usize = 30;
/// After a reading that failed.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The master of one cluster.
#[derive(Debug)]
pub struct Master<S> {
    cluster: ClusterName,
    places: Places,
    journal: Journal,
    systemd: Arc<Noted<S>>,
    settings: RwLock<Arc<Settings>>,
    /// The tokens of the API over TCP, as far as they are known.
    keys: channel::Sender<Arc<Keys>>,
    /// Which files those were.
    key_files: Mutex<Option<renew::KeyStamps>>,
    /// Which settings file that was.
    settings_file: Mutex<Option<renew::Stamp>>,
    world: Mutex<World>,
    /// Held from a reading's first question until the world has it, so that an older reading never follows a newer.
    reading: tokio::sync::Mutex<()>,
    questions: Questions,
    /// A reading failed: all is to be read again.
    unread: tokio::sync::Notify,
    /// Grows with every reading of the world.
    seen: channel::Sender<u64>,
    memory: Mutex<Memory>,
    rolls: Mutex<Rolls>,
    usages: Mutex<Usages>,
    events: Arc<Events>,
    strays: Strays,
    /// Where the history lies; none where nobody is to be told later.
    store: OnceLock<Arc<Store>>,
    said: Mutex<loops::Said>,
    /// The journal told what a worker in a crash loop said.
    heard: tokio::sync::Notify,
    begun: Instant,
}

/// Nothing under our locks panics half way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Systemd> Master<S> {
    /// One that knows its settings and what was asked for, and has not looked at the world yet.
    pub fn new(systemd: Arc<S>, settings: Settings, intent: Intent, places: Places, journal: Journal) -> Arc<Self> {
        Arc::new(Self {
            cluster: settings.name.clone(),
            places,
            journal,
            systemd: Arc::new(Noted::new(systemd)),
            settings: RwLock::new(Arc::new(settings)),
            keys: channel::Sender::default(),
            key_files: Mutex::default(),
            settings_file: Mutex::default(),
            world: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            questions: Questions::default(),
            unread: tokio::sync::Notify::new(),
            seen: channel::Sender::new(0),
            memory: Mutex::new(Memory::new(intent)),
            rolls: Mutex::default(),
            usages: Mutex::default(),
            events: Arc::default(),
            strays: Strays::default(),
            store: OnceLock::new(),
            said: Mutex::default(),
            heard: tokio::sync::Notify::new(),
            begun: Instant::now(),
        })
    }

    /// The settings as `install` last wrote them.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// New settings; what runs is not touched.
    pub fn set_settings(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// `GET /v1/health`.
    pub fn health(&self) -> Health {
        Health {
            name: self.cluster.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            history: self.store.get().and_then(|store| store.trouble()),
        }
    }

    /// How many workers are configured for an app.
    fn target(app: &settings::App) -> u16 {
        // Looked up once: the standard library reads the control group's limits for it, file by file.
        static CORES: LazyLock<usize> = LazyLock::new(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
        app.workers.count(*CORES)
    }

    /// The slots of an app that shall be served.
    fn wanted(&self, name: &AppName, app: &settings::App) -> BTreeSet<Slot> {
        self.intent_of(name).wanted(Self::target(app))
    }

    /// The slots of an app, with those that are stopped.
    ///
    /// # Errors
    /// When there is no such app.
    pub fn slots(&self, name: &AppName) -> Result<BTreeSet<Slot>, Refusal> {
        let settings = self.settings();
        Ok(self.intent_of(name).slots(Self::target(Self::app_settings(&settings, name)?)))
    }

    fn app_settings<'a>(settings: &'a Settings, name: &AppName) -> Result<&'a settings::App, Refusal> {
        settings.apps.get(name).ok_or_else(|| Refusal::new(Code::NotFound, format!("there is no app `{name}`")))
    }

    /// All apps.
    pub fn apps(&self) -> Vec<App> {
        let settings = self.settings();
        settings.apps.iter().map(|(name, app)| self.view(&settings, name, app)).collect()
    }

    /// One app.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn app(&self, name: &AppName) -> Result<App, Refusal> {
        let settings = self.settings();
        let app = Self::app_settings(&settings, name)?;
        Ok(self.view(&settings, name, app))
    }

    fn view(&self, settings: &Settings, name: &AppName, app: &settings::App) -> App {
        let intent = self.intent_of(name);
        let roll = lock(&self.rolls).latest(name);
        let units = AppUnits::new(&settings.name, name);
        let world = lock(&self.world);
        let crashes = self.places.crashes(name);
        let mut view = view::app(&world, &units, app, Self::target(app), &intent, roll, &crashes);
        view::measure(&mut view.workers, &world, &mut lock(&self.usages));
        marks::mark(&mut view, &world, &units, &self.strays.of(name));
        drop(world);
        self.compare(&mut view, app, &intent);
        view
    }

    /// Reads the world again; when that fails, the log says so and `run` goes on trying.
    async fn refresh(&self, dirty: &watch::Dirty) {
        if let Err(why) = self.read(dirty).await {
            say!(Warning, "{why}");
            self.unread.notify_one();
        }
    }

    /// Keeps the world true, until systemd's edge is gone.
    async fn follow(&self, mut changes: tokio::sync::broadcast::Receiver<systemd::Change>) {
        let mut gathered = Gathered::default();
        let mut again: Option<Instant> = None;
        loop {
            let settings = self.settings();
            tokio::select! {
                () = self.questions.asked() => self.answer(&mut gathered, &mut changes).await,
                open = gathered.burst(&mut changes, &settings) => {
                    if !open {
                        return;
                    }
                    if let Some(dirty) = gathered.take() {
                        self.refresh(&dirty).await;
                        if dirty.is_many() {
                            thrift::trim();
                        }
                    }
                }
                () = self.unread.notified() => again = Some(Instant::now() + TRY_AGAIN),
                () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                    again = None;
                    self.refresh(&watch::Dirty::All).await;
                }
            }
        }
    }

    /// Reads the whole world again.
    ///
    /// # Errors
    /// When systemd cannot be asked.
    async fn look(&self) -> Result<(), systemd::Error> {
        self.read(&watch::Dirty::All).await
    }

    async fn read(&self, dirty: &watch::Dirty) -> Result<(), systemd::Error> {
        let settings = self.settings();
        let reading = self.reading.lock().await;
        let (ended, before) = (self.systemd.ledger().ended(), lock(&self.world).clone());
        watch::refresh(&*self.systemd, &settings, &self.world, dirty).await?;
        if *dirty == watch::Dirty::All {
            self.questions.compared();
        }
        self.tell_changes(&settings, &before, &ended);
        drop(reading);
        self.adopt(&settings);
        self.seen.send_modify(|seen| *seen += 1);
        Ok(())
    }

    /// What `systemctl status` of the master says while nothing rolls.
    fn tell_status(&self) {
        if lock(&self.rolls).any_under_way() {
            return;
        }
        let apps = self.settings().apps.len();
        let status = format!("watches {apps} {}", if apps == 1 { "app" } else { "apps" });
        status::tell(&status);
    }

    /// Takes over what runs: an app whose workers are all of one generation, with none rolling, is of that generation; one
    /// that is not whole is of what a start step last brought up, where that is later than what is remembered. What is remembered of apps that are none any more goes.
    fn adopt(&self, settings: &Settings) {
        // Also what an earlier reading could not write down; the log has said so.
        let _ = self.change_intent(Source::Seen, |intent| intent.apps.retain(|name, _| settings.apps.contains_key(name)));
        for (name, app) in &settings.apps {
            if lock(&self.rolls).under_way(name) {
                continue;
            }
            let units = AppUnits::new(&settings.name, name);
            let one = lock(&self.world).one_version(&units, self.wanted(name, app).len());
            // Without a memory `started` may be older than what serves: then it tells nothing.
            let started = || {
                let remembered = self.intent_of(name).generation?;
                self.published(name).started.filter(|started| *started > remembered).map(|started| (started, None))
            };
            if let Some((generation, pin)) = one.or_else(started) {
                self.remember(name, |intent| {
                    if intent.generation != Some(generation) {
                        (intent.generation, intent.pin) = (Some(generation), pin);
                        // A person's restart brought a later one up: that ends a hold.
                        intent.held.take_if(|held| generation > held.generation);
                    }
                });
            }
        }
    }

    /// The rolls that are remembered, of an app or of all, newest first, without their steps.
    pub fn past_rolls(&self, name: Option<&AppName>) -> Vec<Roll> {
        let mut rolls = lock(&self.rolls).past(name);
        rolls.sort_by(|a, b| b.id.cmp(&a.id).then_with(|| a.app.cmp(&b.app)));
        rolls
    }

    /// A roll, once it has ended, or changed since `after`; at the latest after `wait`.
    ///
    /// # Errors
    /// When it is not known.
    pub async fn roll(&self, name: &AppName, id: u64, after: Option<u64>, wait: Duration) -> Result<Roll, Refusal> {
        let mut changed = lock(&self.rolls).changed();
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let roll = lock(&self.rolls).get(name, id).ok_or_else(|| {
                Refusal::new(
                    Code::NotFound,
                    format!("there is no roll {id} of {name}: the master was restarted since. `project-cluster show {name}`"),
                )
            })?;
            // Lower, too: a client that asked the master before may know more than that one could keep.
            if after.is_some_and(|after| after != roll.sequence) || !roll.under_way() {
                return Ok(roll);
            }
            if !matches!(tokio::time::timeout_at(deadline, changed.changed()).await, Ok(Ok(()))) {
                return Ok(roll);
            }
        }
    }
}
