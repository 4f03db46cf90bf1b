//! The records of every app's rolls: which run and wait, how far they are.
//!
//! Pure but for the clock that numbers them. It must not know how a roll is carried out.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch as channel};

use super::figure;
use crate::api::types::{self, RollState};
use crate::names::AppName;
use crate::roll::execute::Asked;
use crate::roll::order::Order;
use crate::roll::plan::Target;
use crate::roll::queue::{Queue, Ticket};

/// Rolls of an app that are remembered after their end.
const PAST: usize = 20;
/// A person's orders to one roll that may wait at once: each is heard within a reading.
const ORDERS: usize = 8;
/// Steps of a roll that are told: a roll of a thousand workers has four thousand.
const STEPS: usize = 10_000;

/// All of them.
#[derive(Debug)]
pub struct Rolls {
    apps: BTreeMap<AppName, AppRolls>,
    changed: channel::Sender<u64>,
    /// Hears of each roll that ends.
    ends: Ends,
}

type Hears = Box<dyn Fn(&types::Roll) + Send>;

/// Hears of each roll that ends, with its steps.
#[derive(Default)]
struct Ends(Option<Hears>);

impl std::fmt::Debug for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Ends").field(&self.0.is_some()).finish()
    }
}

#[derive(Debug)]
struct AppRolls {
    queue: Queue<Order>,
    records: VecDeque<types::Roll>,
    /// The roll that was stepped last, when, and what its own clock showed then.
    stepped: Option<(u64, Instant, u64)>,
    /// Where the roll that runs hears which slots are wanted.
    target: channel::Sender<Option<Target>>,
    /// Where it hears what a person asks of it.
    orders: Option<mpsc::Sender<Asked>>,
}

impl Default for Rolls {
    fn default() -> Self {
        Self { apps: BTreeMap::new(), changed: channel::Sender::new(0), ends: Ends::default() }
    }
}

impl Rolls {
    fn of(&mut self, app: &AppName) -> &mut AppRolls {
        // Numbers begin at the time, so that they are not given twice, also across a restart.
        self.apps.entry(app.clone()).or_insert_with(|| AppRolls {
            queue: Queue::after(unix_ms()),
            records: VecDeque::new(),
            stepped: None,
            target: channel::Sender::new(None),
            orders: None,
        })
    }

    /// Whether a roll of this app runs.
    pub fn under_way(&self, app: &AppName) -> bool {
        self.apps.get(app).is_some_and(|rolls| rolls.queue.running().is_some())
    }

    /// Whether a roll of any app runs.
    pub fn any_under_way(&self) -> bool {
        self.apps.values().any(|rolls| rolls.queue.running().is_some())
    }

    /// The roll that runs, else the last one.
    pub fn latest(&self, app: &AppName) -> Option<types::Roll> {
        let records = &self.apps.get(app)?.records;
        let runs = |state| matches!(state, RollState::Running | RollState::Paused);
        records.iter().find(|roll| runs(roll.state)).or_else(|| records.back()).cloned()
    }

    /// One by its number.
    pub fn get(&self, app: &AppName, id: u64) -> Option<types::Roll> {
        self.apps.get(app)?.records.iter().find(|roll| roll.id == id).cloned()
    }

    /// Those of an app, or of all, without their steps.
    pub(in crate::master) fn past(&self, app: Option<&AppName>) -> Vec<types::Roll> {
        let apps = self.apps.iter().filter(|(name, _)| app.is_none_or(|app| app == *name));
        apps.flat_map(|(_, rolls)| rolls.records.iter().map(types::Roll::without_steps)).collect()
    }

    /// From now on this hears of each roll that ends.
    pub(in crate::master) fn tell_ends(&mut self, hears: impl Fn(&types::Roll) + Send + 'static) {
        self.ends = Ends(Some(Box::new(hears)));
    }

    /// Tells when any of them has changed.
    pub fn changed(&self) -> channel::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Somebody asks for a roll: its number, and the order where it is to begin now.
    pub(super) fn ask(&mut self, app: &AppName, order: Order, by: Option<String>) -> (Ticket, Option<Order>) {
        let (ticket, now) = self.of(app).queue.ask(order, Order::and);
        let state = if now.is_some() { RollState::Running } else { RollState::Waiting };
        let reason = self.paused(app).and_then(|roll| roll.reason.as_deref()).filter(|_| now.is_none()).map(behind);
        self.keep(types::Roll { asked_by: by, reason, ..record(app, ticket, state) });
        (ticket, now)
    }

    /// What waits behind the roll that runs.
    pub(in crate::master) fn waiting(&self, app: &AppName) -> Option<(Option<Ticket>, Order)> {
        self.apps.get(app)?.queue.waiting().map(|(ticket, order)| (Some(*ticket), order.clone()))
    }

    /// The last roll that ended.
    pub(super) fn last_ended(&self, app: &AppName) -> Option<types::Roll> {
        self.apps.get(app)?.records.iter().rev().find(|roll| !roll.under_way()).cloned()
    }

    /// Other slots are wanted from now on: the roll that runs hears of it, and so does one that begins later.
    pub(super) fn retarget(&mut self, app: &AppName, target: Target) {
        self.of(app).target.send_replace(Some(target));
    }

    /// Where a roll hears of that.
    pub(super) fn targets(&mut self, app: &AppName) -> channel::Receiver<Option<Target>> {
        self.of(app).target.subscribe()
    }

    /// Where a roll that is about to be carried out hears a person's orders.
    pub(super) fn orders(&mut self, app: &AppName) -> mpsc::Receiver<Asked> {
        let (orders, hears) = mpsc::channel(ORDERS);
        self.of(app).orders = Some(orders);
        hears
    }

    /// Where the roll of this number hears them; none where it is not the one that runs, and within that none where it has
    /// only just begun.
    pub(in crate::master) fn steer(&self, app: &AppName, id: u64) -> Option<Option<mpsc::Sender<Asked>>> {
        let rolls = self.apps.get(app).filter(|rolls| rolls.queue.running() == Some(Ticket(id)))?;
        Some(rolls.orders.clone())
    }

    /// The roll that is paused.
    pub(in crate::master) fn paused(&self, app: &AppName) -> Option<&types::Roll> {
        self.apps.get(app)?.records.iter().find(|roll| roll.state == RollState::Paused)
    }

    /// The roll that runs pauses, or goes on; what waits behind it waits for that as well, and who waits for it is told.
    pub(super) fn turn(&mut self, app: &AppName, ticket: Ticket, paused: Option<String>) {
        let waiting = self.apps.get(app).and_then(|rolls| rolls.queue.waiting()).map(|(ticket, _)| *ticket);
        if let Some(waiting) = waiting {
            let why = paused.as_deref().map(behind);
            self.change(app, waiting, |record| record.reason = why);
        }
        self.change(app, ticket, |record| {
            record.state = if paused.is_some() { RollState::Paused } else { RollState::Running };
            record.reason = paused;
        });
    }

    /// What waits under this number will never begin; none where it does not wait.
    pub(super) fn give_up(&mut self, app: &AppName, id: u64) -> Option<Ticket> {
        let rolls = self.apps.get_mut(app)?;
        rolls.queue.waiting().filter(|(ticket, _)| ticket.0 == id)?;
        let (running, given_up) = (rolls.queue.running(), rolls.queue.forget());
        // The one that runs is the last of which there is something to tell.
        let at = |id: u64| rolls.records.iter().position(|roll| roll.id == id);
        if let (Some(from), Some(to)) = (at(id), running.and_then(|running| at(running.0)))
            && let Some(record) = rolls.records.remove(from)
        {
            rolls.records.insert(to.min(rolls.records.len()), record);
        }
        given_up
    }

    /// Numbers up to this one are given to no roll of this app any more.
    pub(super) fn skip(&mut self, app: &AppName, to: u64) {
        self.of(app).queue.skip(to);
    }

    /// The roll with this number could not begin; there is no record to keep. What waited behind it begins now.
    pub(super) fn withdraw(&mut self, app: &AppName, ticket: Ticket) -> Option<(Ticket, Order)> {
        self.of(app).records.retain(|roll| roll.id != ticket.0);
        self.ended(app)
    }

    /// The roll that ran has ended. What waited behind it begins now.
    pub(super) fn ended(&mut self, app: &AppName) -> Option<(Ticket, Order)> {
        let rolls = self.of(app);
        rolls.orders = None;
        rolls.queue.ended()
    }

    /// The app was stopped: what waits is not wanted any more.
    pub(super) fn forget(&mut self, app: &AppName) -> Option<Ticket> {
        self.of(app).queue.forget()
    }

    /// A roll that never began ends.
    pub(super) fn fail(&mut self, app: &AppName, ticket: Ticket, why: String) {
        self.change(app, ticket, |record| (record.state, record.reason) = (RollState::Failed, Some(why)));
    }

    /// A roll that the master before began goes on here under its own number: who waits for it asks by that.
    pub(super) fn adopt(&mut self, record: types::Roll) -> Ticket {
        let rolls = self.of(&record.app);
        let known = rolls.records.iter().map(|known| known.id).max();
        rolls.queue = Queue::after(record.id.saturating_sub(1));
        let ticket = rolls.queue.adopt();
        // One that waited behind it and was aborted has a later number.
        known.into_iter().for_each(|known| rolls.queue.skip(known));
        self.keep(record);
        ticket
    }

    /// A roll that ended under the master before.
    pub(super) fn remember(&mut self, record: types::Roll) {
        // A reload that waited behind it has the next number.
        self.of(&record.app).queue = Queue::after(record.id);
        self.keep(record);
    }

    fn keep(&mut self, record: types::Roll) {
        let records = &mut self.of(&record.app.clone()).records;
        if records.iter().any(|known| known.id == record.id) {
            return;
        }
        while records.len() >= PAST {
            records.pop_front();
        }
        records.push_back(record);
    }

    /// Changes a record and tells it.
    pub(super) fn change(&mut self, app: &AppName, ticket: Ticket, change: impl FnOnce(&mut types::Roll)) {
        let mut ended = None;
        if let Some(record) = self.of(app).records.iter_mut().find(|roll| roll.id == ticket.0) {
            let before = record.under_way();
            change(record);
            record.sequence += 1;
            ended = (before && !record.under_way()).then(|| record.clone());
        }
        if let (Some(roll), Some(hears)) = (ended, &self.ends.0) {
            hears(&roll);
        }
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// Adds a step to a record and tells it; `served` are how many slots new workers serve, of how many.
    pub(super) fn step(&mut self, app: &AppName, ticket: Ticket, served: (usize, usize), step: types::Step) {
        self.of(app).stepped = Some((ticket.0, Instant::now(), step.at_ms));
        self.change(app, ticket, |record| {
            (record.ready, record.target, record.took_ms) = (figure(served.0), figure(served.1), step.at_ms);
            if record.steps.len() < STEPS {
                record.steps.push(step);
            }
        });
    }
}

/// What is said of a roll that waits behind one that is paused for this reason.
fn behind(why: &str) -> String {
    format!("waits behind a roll that is paused: {why}")
}

impl Rolls {
    /// What became of a worker that the roll has stopped, perhaps long after its end; `cut` connections of it were cut.
    pub(in crate::master) fn later(&mut self, app: &AppName, roll: u64, text: String, cut: u32) {
        let stepped = self.of(app).stepped.filter(|(id, ..)| *id == roll);
        let since = |at: Instant| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.change(app, Ticket(roll), |record| {
            let at_ms = stepped.map_or(record.took_ms, |(_, at, ms)| ms.saturating_add(since(at)));
            record.cut = record.cut.saturating_add(cut);
            if record.steps.len() < STEPS {
                record.steps.push(types::Step { at_ms, text });
            }
        });
    }
}

fn record(app: &AppName, ticket: Ticket, state: RollState) -> types::Roll {
    types::Roll {
        app: app.clone(),
        id: ticket.0,
        asked_by: None,
        generation: None,
        pin: None,
        slots: None,
        state,
        sequence: 0,
        ready: 0,
        target: 0,
        steps: Vec::new(),
        hooks: Vec::new(),
        reason: None,
        end: None,
        took_ms: 0,
        cut: 0,
    }
}

/// Milliseconds of Unix time.
pub(in crate::master) fn unix_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
