//! The rolls of every app: which run and wait, how far they are, and carrying one out on behalf of the master.
//!
//! The roll itself is `roll`'s; here it is kept ([`Keeper`]), watched, stopped when its handle leaves, and its end
//! remembered.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch as channel};

use super::{LINES, Master, lock, watch};
use crate::api::error::{Code, Refusal};
use crate::api::types::{self, RollState};
use crate::files;
use crate::intent::Hold;
use crate::journal;
use crate::names::{AppName, AppUnits, ClusterName, Generation, Instance, Uid};
use crate::roll::execute::{self, Clock, Control, Deps, Keeper, Limits};
use crate::roll::machine::Roll;
use crate::roll::plan::{self, Version, Wish};
use crate::roll::queue::{Queue, Ticket};
use crate::roll::words::{Outcome, Step};
use crate::systemd::{ActiveState, Error, Systemd};

/// Rolls of an app that are remembered after their end.
const PAST: usize = 20;
/// Steps of a roll that are told: a roll of a thousand workers has four thousand.
const STEPS: usize = 10_000;
/// A roll of a thousand workers is a quarter of a MiB.
const FILE: u64 = 8 * 1024 * 1024;

/// All of them.
#[derive(Debug)]
pub struct Rolls {
    apps: BTreeMap<AppName, AppRolls>,
    changed: channel::Sender<u64>,
}

#[derive(Debug)]
struct AppRolls {
    queue: Queue<()>,
    records: VecDeque<types::Roll>,
}

impl Default for Rolls {
    fn default() -> Self {
        Self { apps: BTreeMap::new(), changed: channel::Sender::new(0) }
    }
}

impl Rolls {
    fn of(&mut self, app: &AppName) -> &mut AppRolls {
        // Numbers begin at the time, so that they are not given twice, also across a restart.
        self.apps.entry(app.clone()).or_insert_with(|| AppRolls { queue: Queue::after(unix_ms()), records: VecDeque::new() })
    }

    /// Whether a roll of this app runs.
    pub fn under_way(&self, app: &AppName) -> bool {
        self.apps.get(app).is_some_and(|rolls| rolls.queue.running().is_some())
    }

    /// The roll that runs, else the last one.
    pub fn latest(&self, app: &AppName) -> Option<types::Roll> {
        let records = &self.apps.get(app)?.records;
        records.iter().find(|roll| roll.state == RollState::Running).or_else(|| records.back()).cloned()
    }

    /// One by its number.
    pub fn get(&self, app: &AppName, id: u64) -> Option<types::Roll> {
        self.apps.get(app)?.records.iter().find(|roll| roll.id == id).cloned()
    }

    /// Tells when any of them has changed.
    pub fn changed(&self) -> channel::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The record of a ticket; a new one is made where there is none.
    fn record(&mut self, app: &AppName, ticket: Ticket, state: RollState) -> types::Roll {
        let rolls = self.of(app);
        if let Some(known) = rolls.records.iter_mut().find(|roll| roll.id == ticket.0) {
            return known.clone();
        }
        while rolls.records.len() >= PAST {
            rolls.records.pop_front();
        }
        let record = types::Roll {
            app: app.clone(),
            id: ticket.0,
            generation: None,
            state,
            sequence: 0,
            ready: 0,
            target: 0,
            steps: Vec::new(),
            reason: None,
            took_ms: 0,
        };
        rolls.records.push_back(record.clone());
        record
    }

    fn change(&mut self, app: &AppName, ticket: Ticket, change: impl FnOnce(&mut types::Roll)) {
        if let Some(record) = self.of(app).records.iter_mut().find(|roll| roll.id == ticket.0) {
            change(record);
            record.sequence += 1;
        }
        self.changed.send_modify(|changes| *changes += 1);
    }
}

/// A roll that is about to be carried out.
struct Begun {
    ticket: Ticket,
    roll: Roll,
    clock: Clock,
}

/// Milliseconds of Unix time.
fn unix_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn clock() -> Clock {
    Clock::showing(journal::monotonic_us_now() / 1000)
}

impl<S: Systemd> Master<S> {
    /// `reload` of an app: begins a roll, or joins the one that waits behind a running one.
    ///
    /// # Errors
    /// When the app does not run, a socket of it is down, or systemd cannot be asked.
    pub async fn reload(self: &Arc<Self>, name: &AppName) -> Result<types::Roll, Refusal> {
        self.read(name).await?;
        let (ticket, now) = {
            let mut rolls = lock(&self.rolls);
            let (ticket, wish) = rolls.of(name).queue.ask(());
            rolls.record(name, ticket, if wish.is_some() { RollState::Running } else { RollState::Waiting });
            (ticket, wish.is_some())
        };
        if now {
            match self.begin(name, ticket) {
                Ok(begun) => drop(tokio::spawn(self.clone().carry_out(name.clone(), begun))),
                Err(refusal) => {
                    // Nothing began, so there is no record to keep; somebody may have asked meanwhile.
                    let mut rolls = lock(&self.rolls);
                    rolls.of(name).records.retain(|roll| roll.id != ticket.0);
                    let next = rolls.of(name).queue.ended();
                    drop(rolls);
                    if let Some((next, ())) = next {
                        tokio::spawn(self.clone().go_on(name.clone(), next));
                    }
                    return Err(refusal);
                }
            }
        }
        Ok(lock(&self.rolls).record(name, ticket, RollState::Running))
    }

    /// Reads the world anew; an error of systemd is told rather than swallowed.
    async fn read(&self, name: &AppName) -> Result<(), Refusal> {
        let settings = self.settings();
        Self::app_settings(&settings, name)?;
        watch::refresh(&*self.systemd, &settings, &self.world, &watch::Dirty::All).await?;
        self.adopt(&settings);
        Ok(())
    }

    /// Decides whether and how the roll goes, by what was just read.
    fn begin(&self, name: &AppName, ticket: Ticket) -> Result<Begun, Refusal> {
        let settings = self.settings();
        let app = Self::app_settings(&settings, name)?;
        let units = AppUnits::new(&settings.name, name);
        let conflict = |why: String| Refusal::new(Code::Conflict, why);
        let (handle, world, down) = {
            let world = lock(&self.world);
            let down = app.listen.iter().map(|listen| units.socket(&listen.address));
            let down: Vec<String> = down.filter(|unit| world.active(unit) != ActiveState::Active).collect();
            (world.active(&units.handle()), world.sights(&units), down)
        };
        if !matches!(handle, ActiveState::Active | ActiveState::Reloading) {
            return Err(conflict(format!(
                "{name} is not running, so there is nothing to replace. Start it: `project-cluster start {name}`"
            )));
        }
        let intent = self.intent_of(name);
        // What serves: as remembered, else the generation most workers are of.
        let from = intent.generation.map(|generation| Version { generation, pin: intent.pin });
        let from = from.or_else(|| most(world.keys())).ok_or_else(|| conflict(format!("{name}: no worker runs")))?;
        let highest = [self.highest(name), intent.generation, world.keys().map(|worker| worker.generation).max()];
        let to = Version { generation: highest.into_iter().flatten().max().unwrap_or(Generation(0)).next(), pin: None };
        let wish = Wish { from, to, count: Self::target(app), reload: &app.reload, sockets_down: &down, world: &world };
        let plan = plan::plan(&wish).map_err(|why| conflict(format!("{name}: {why}")))?;
        let clock = clock();
        let roll = Roll::new(plan, &world, clock.now());
        lock(&self.rolls).change(name, ticket, |record| {
            record.state = RollState::Running;
            record.generation = Some(to.generation);
            (record.ready, record.target) = (0, u16::try_from(roll.served().1).unwrap_or(u16::MAX));
        });
        Ok(Begun { ticket, roll, clock })
    }

    /// The highest generation that `prepare` has pinned, as it says it.
    fn highest(&self, name: &AppName) -> Option<Generation> {
        let path = self.cluster.var().join(format!("generations/{name}"));
        let text = files::read_bounded(&path, 64).ok()?;
        String::from_utf8(text).ok()?.trim().parse().ok().map(Generation)
    }

    /// The roll that waited begins, or its refusal is its end.
    async fn go_on(self: Arc<Self>, name: AppName, ticket: Ticket) {
        let begun = match self.read(&name).await {
            Ok(()) => self.begin(&name, ticket),
            Err(why) => Err(why),
        };
        match begun {
            Ok(begun) => Box::pin(self.carry_out(name, begun)).await,
            Err(why) => {
                lock(&self.rolls).change(&name, ticket, |record| {
                    record.state = RollState::Failed;
                    record.reason = Some(why.to_string());
                });
                self.end(&name);
            }
        }
    }

    /// The next one, where one waits.
    fn end(self: &Arc<Self>, name: &AppName) {
        let next = lock(&self.rolls).of(name).queue.ended();
        if let Some((ticket, ())) = next {
            tokio::spawn(self.clone().go_on(name.clone(), ticket));
        }
    }

    async fn carry_out(self: Arc<Self>, name: AppName, begun: Begun) {
        let Begun { ticket, roll, clock } = begun;
        let settings = self.settings();
        let Some(app) = settings.apps.get(&name) else { return self.end(&name) };
        let units = AppUnits::new(&settings.name, &name);
        let (orders, control) = mpsc::channel(4);
        let watcher = tokio::spawn(self.clone().watch_handle(units.handle(), orders));
        let (to, begin) = (roll.plan().to, clock.now());
        println!("<5>{name}: roll to generation {to} begins");
        let culprit = Arc::default();
        let path = roll_file(&self.cluster, &name);
        let keeper =
            Recorder { master: self.clone(), app: name.clone(), ticket, begin, clock, culprit: Arc::clone(&culprit), path: path.clone() };
        let limits = Limits::of(&app.timeout);
        let deps = Deps { cluster: settings.name.clone(), app: name.clone(), limits, clock, keeper, control };
        let outcome = execute::execute(self.systemd.clone(), roll, deps).await;
        watcher.abort();
        self.refresh(&watch::Dirty::All).await;
        let culprit = *lock(&culprit);
        self.finish(&name, ticket, &units, to, &outcome, culprit, clock.now().saturating_sub(begin)).await;
        if let Err(why) = std::fs::remove_file(&path) {
            eprintln!("<4>{name}: the record of the ended roll cannot be removed ({why}): {}", path.display());
        }
        self.end(&name);
    }

    /// Tells the roll when its handle leaves active: then everything belongs to the handle's stop step.
    async fn watch_handle(self: Arc<Self>, handle: String, orders: mpsc::Sender<Control>) {
        let mut seen = self.seen.subscribe();
        loop {
            if !matches!(lock(&self.world).active(&handle), ActiveState::Active | ActiveState::Reloading) {
                // The roll may have ended meanwhile.
                let _ = orders.send(Control::HandleLeft).await;
                return;
            }
            if seen.changed().await.is_err() {
                return;
            }
        }
    }

    /// Remembers how a roll ended, says it in the journal and to who waits.
    #[allow(clippy::too_many_arguments, reason = "what is known of one end, used once")]
    async fn finish(
        &self,
        name: &AppName,
        ticket: Ticket,
        units: &AppUnits<'_>,
        to: Version,
        outcome: &Outcome,
        culprit: Option<Instance>,
        took_ms: u64,
    ) {
        let begun_us = journal::monotonic_us_now().saturating_sub(took_ms * 1000);
        let mut reason = match outcome {
            Outcome::AllNew => None,
            Outcome::AllOld { reason } => Some(format!("{reason}. The old workers serve as before")),
            Outcome::Mixed { reason, who } => {
                let who: Vec<String> = who.iter().map(|(worker, stage)| format!("{worker} ({})", stage.name())).collect();
                Some(format!("{reason}. Left in a mix: {}", who.join(", ")))
            }
            Outcome::Overtaken => Some(format!("{} was stopped or restarted meanwhile", units.handle())),
        };
        if let (Some(reason), Some(instance)) = (&mut reason, culprit) {
            for line in journal::last_lines(&units.worker(&instance), begun_us, LINES).await {
                reason.push_str(&format!("\n{line}"));
            }
        }
        self.remember(name, |intent| match (&reason, outcome) {
            (None, _) => {
                (intent.generation, intent.pin) = (Some(to.generation), to.pin);
                intent.held = None;
            }
            (Some(_), Outcome::Overtaken) => {}
            (Some(reason), _) => intent.held = Some(Hold { since_ms: unix_ms(), reason: reason.clone(), generation: to.generation }),
        });
        match &reason {
            None => println!("<5>{name}: roll to generation {to} done in {took_ms} ms"),
            Some(reason) => reason.lines().enumerate().for_each(|(at, line)| {
                if at == 0 {
                    println!("<3>{name}: roll to generation {to} failed after {took_ms} ms: {line}");
                } else {
                    println!("<3>{name}: {line}");
                }
            }),
        }
        lock(&self.rolls).change(name, ticket, |record| {
            record.state = if reason.is_none() { RollState::Done } else { RollState::Failed };
            (record.reason, record.took_ms) = (reason, took_ms);
        });
    }

    /// Takes up the rolls that the master before was carrying out.
    pub(super) fn take_up(self: &Arc<Self>) {
        let settings = self.settings();
        for name in settings.apps.keys() {
            let path = roll_file(&self.cluster, name);
            let read = match files::read_bounded(&path, FILE) {
                Err(why) if why.kind() == std::io::ErrorKind::NotFound => continue,
                Err(why) => Err(why.to_string()),
                Ok(bytes) => serde_json::from_slice::<Kept>(&bytes).map_err(|why| why.to_string()),
            };
            let kept = match read {
                Ok(kept) => kept,
                Err(why) => {
                    eprintln!(
                        "<2>{name}: the roll of before cannot be read ({why}) and is not taken up; `project-cluster show {name}`, then reload"
                    );
                    let _ = std::fs::remove_file(&path);
                    continue;
                }
            };
            let roll = kept.roll.resumed();
            println!("<5>{name}: taking up the roll to generation {}", roll.plan().to);
            let mut rolls = lock(&self.rolls);
            // Who waits for it asks by the number that the master before gave.
            rolls.of(name).queue = Queue::after(kept.id.saturating_sub(1));
            let ticket = rolls.of(name).queue.adopt();
            rolls.record(name, ticket, RollState::Running);
            rolls.change(name, ticket, |record| {
                record.generation = Some(roll.plan().to.generation);
                let (ready, target) = roll.served();
                (record.ready, record.target) = (u16::try_from(ready).unwrap_or(u16::MAX), u16::try_from(target).unwrap_or(u16::MAX));
                record.steps.push(types::Step { at_ms: 0, text: "taken up by a new master".into() });
            });
            drop(rolls);
            tokio::spawn(self.clone().carry_out(name.clone(), Begun { ticket, roll, clock: clock() }));
        }
    }
}

/// A roll as it lies in `/run/NAME/state`.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    id: u64,
    roll: Roll,
}

/// `/run`, not `/var`: a reboot ends every roll.
fn roll_file(cluster: &ClusterName, app: &AppName) -> PathBuf {
    cluster.run().join(format!("state/roll-{app}.json"))
}

/// The version most workers are of.
fn most<'a>(workers: impl Iterator<Item = &'a Instance>) -> Option<Version> {
    let mut counts: BTreeMap<(Generation, Option<Generation>), usize> = BTreeMap::new();
    workers.for_each(|worker| *counts.entry((worker.generation, worker.pin)).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map(|((generation, pin), _)| Version { generation, pin })
}

/// Writes a roll down and tells who watches.
struct Recorder<S> {
    master: Arc<Master<S>>,
    app: AppName,
    ticket: Ticket,
    begin: u64,
    clock: Clock,
    /// The first worker that made it turn back: its last lines are the reason.
    culprit: Arc<Mutex<Option<Instance>>>,
    path: PathBuf,
}

impl<S: Systemd> Keeper for Recorder<S> {
    fn persist(&mut self, roll: &Roll) -> Result<(), String> {
        let kept = Kept { id: self.ticket.0, roll: roll.clone() };
        let bytes = serde_json::to_vec(&kept).map_err(|why| why.to_string())?;
        files::replace(&self.path, &bytes, 0o600).map_err(|why| format!("{}: {why}", self.path.display()))
    }

    fn report(&mut self, step: &Step, roll: &Roll) {
        if let Step::Failed(instance, _) | Step::Left(instance, _) | Step::Stuck(instance, _) = step
            && roll.is_new(instance)
        {
            lock(&self.culprit).get_or_insert(*instance);
        }
        let at_ms = self.clock.now().saturating_sub(self.begin);
        let text = tell(&self.app, step);
        println!("<6>{}: {text}", self.app);
        let (ready, _) = roll.served();
        lock(&self.master.rolls).change(&self.app, self.ticket, |record| {
            record.ready = u16::try_from(ready).unwrap_or(u16::MAX);
            record.took_ms = at_ms;
            if record.steps.len() < STEPS {
                record.steps.push(types::Step { at_ms, text: text.clone() });
            }
        });
        notify_step(&self.app, roll);
    }

    fn trouble(&mut self, error: &Error) {
        eprintln!("<4>{}: {error}; the roll goes on", self.app);
    }
}

/// `systemctl status NAME` shows how far the roll is.
fn notify_step(app: &AppName, roll: &Roll) {
    let (ready, target) = roll.served();
    let text = format!("rolls {app} to generation {}: {ready} of {target} ready", roll.plan().to);
    // Without NOTIFY_SOCKET there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(&text)]);
}

/// A step for people: workers by their uid, with the generation.
fn tell(app: &AppName, step: &Step) -> String {
    let who = |instance: &Instance| format!("{} (generation {})", Uid { app: app.clone(), slot: instance.slot }, instance.generation);
    match step {
        Step::Starting(worker) => format!("{} starts", who(worker)),
        Step::Ready(worker) => format!("{} is ready", who(worker)),
        Step::Left(worker, why) => format!("{} left: {why}", who(worker)),
        Step::Failed(worker, why) => format!("{} failed: {why}", who(worker)),
        Step::Retiring(worker) => format!("{} retires", who(worker)),
        Step::Stopped(worker) => format!("{} is gone", who(worker)),
        Step::Stuck(worker, why) => format!("{} cannot be stopped: {why}", who(worker)),
        Step::GoingBack(why) => format!("going back to the old generation: {why}"),
    }
}
