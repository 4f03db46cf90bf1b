//! The rolls of every app: asking for one, beginning it, what comes after it.
//!
//! | file | |
//! |---|---|
//! | `records` | which run and wait, how far they are |
//! | `carry` | carries one out on behalf of the master, and remembers its end |
//! | `hooks` | what runs once ahead of its workers and behind its end |
//! | `recorder` | writes a roll down and tells who watches |
//! | `steer` | what a person asks of one that is under way |
//! | `shown` | lets the app's handle show one that systemctl did not begin |
//! | `kept` | how it lies in `/run/NAME/state`, and taking it up again after a restart |
//!
//! The roll itself is `roll`'s.

mod carry;
mod hooks;
pub(crate) mod kept;
mod recorder;
mod records;
mod shown;
pub(crate) mod steer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use self::records::Rolls;
pub(super) use self::records::unix_ms;

use self::kept::Kept;
use super::{Master, lock, under_way};
use crate::api::error::{Code, Refusal};
use crate::api::events::{By, Kind};
use crate::api::types::{self, RollState};
use crate::config::settings::Spawn;
use crate::journal;
use crate::names::{AppName, AppUnits, Generation, Instance, Slot, Uid, anew};
use crate::roll::execute::Clock;
use crate::roll::machine::Roll;
use crate::roll::order::{Canaries, Order};
use crate::roll::plan::{self, Plan, Scope, Target, Version, Wish};
use crate::roll::queue::Ticket;
use crate::roll::stage;
use crate::say::say;
use crate::systemd::{ActiveState, Systemd};

/// A roll that is about to be carried out.
struct Begun {
    ticket: Ticket,
    roll: Roll,
    clock: Clock,
    /// When it began, by that clock.
    begin: u64,
    /// Since when the handle had been active then.
    handle_since: u64,
    /// Whether its handle is still to be told: nobody asked by systemctl.
    unshown: bool,
}

fn clock() -> Clock {
    Clock::showing(journal::monotonic_us_now() / 1000)
}

impl<S: Systemd> Master<S> {
    /// `reload` of an app: every worker is replaced by one of a new generation.
    ///
    /// # Errors
    /// When the app does not run, a socket of it is down, or systemd cannot be asked.
    pub async fn reload(self: &Arc<Self>, name: &AppName) -> Result<types::Roll, Refusal> {
        self.reload_with(name, Canaries::default()).await
    }

    /// The same, this once with other canaries than configured.
    ///
    /// # Errors
    /// Also when there is no room for them.
    pub async fn reload_with(self: &Arc<Self>, name: &AppName, canaries: Canaries) -> Result<types::Roll, Refusal> {
        self.roll_out(name, Order::deploy().tried(canaries)).await
    }

    /// Begins a roll, or joins the one that waits behind a running one.
    ///
    /// # Errors
    /// When the app does not run, a socket of it is down, or systemd cannot be asked.
    pub(super) async fn roll_out(self: &Arc<Self>, name: &AppName, order: Order) -> Result<types::Roll, Refusal> {
        self.renew_settings();
        Self::app_settings(&self.settings(), name)?;
        self.look().await?;
        let waits = lock(&self.rolls).waiting(name);
        if let Some((_, waits)) = waits.filter(|(_, waits)| waits.excludes(&order)) {
            let what = waits.to.map_or_else(|| "a reload".to_owned(), |to| format!("a rollback to generation {to}"));
            let why = format!(
                "{name}: {what} waits behind the roll under way, and no roll can be both. Ask again when it is over: `project-cluster show {name}`"
            );
            return Err(Refusal::new(Code::Conflict, why));
        }
        self.not_paused(name)?;
        let (ticket, now) = lock(&self.rolls).ask(name, order, under_way::asker());
        self.note_roll(ticket.0);
        match now.map(|order| self.begin(name, ticket, &order, false)) {
            Some(Ok(begun)) => drop(tokio::spawn(self.clone().carry_out(name.clone(), begun, None))),
            Some(Err(refusal)) => {
                // Somebody may have asked meanwhile.
                let next = lock(&self.rolls).withdraw(name, ticket);
                self.follow_up(name, next);
                return Err(refusal);
            }
            None => kept::mark_next(&self.places, name, lock(&self.rolls).waiting(name)),
        }
        lock(&self.rolls).get(name, ticket.0).ok_or_else(|| Refusal::new(Code::Failed, format!("{name}: too many rolls at once")))
    }

    /// Other slots of an app are wanted than before: the roll that runs is told.
    pub(super) fn retarget(&self, name: &AppName) {
        if let Some(app) = self.settings().apps.get(name) {
            let wanted = self.wanted(name, app);
            lock(&self.rolls).retarget(name, Target::of(wanted, &app.reload));
        }
    }

    /// Decides whether and how a roll goes to these slots, by what was just read. With the plan comes that world.
    ///
    /// # Errors
    /// When the app does not run, a socket of it is down, or nothing is known to have served.
    pub(super) fn plan(&self, name: &AppName, wanted: &BTreeSet<Slot>, order: &Order) -> Result<(Plan, stage::World), Refusal> {
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
        if let Some(why) = not_running(name, handle) {
            return Err(conflict(why));
        }
        let intent = self.intent_of(name);
        // What serves: as remembered, else the generation most workers are of.
        let from = intent.generation.map(|generation| Version { generation, pin: intent.pin });
        let from = from.or_else(|| most(world.keys())).ok_or_else(|| {
            conflict(format!("{name}: no worker runs, so there is nothing to replace. Start them: `{}`", anew(&units.handle())))
        })?;
        let highest = [self.highest(name), intent.generation, world.keys().map(|worker| worker.generation).max()];
        let next = Version { generation: highest.into_iter().flatten().max().unwrap_or(Generation(0)).next(), pin: None };
        let to = match order.to.filter(|_| order.deploy) {
            Some(pin) => {
                self.goes_back(name, pin)?;
                Version { pin: Some(pin), ..next }
            }
            None if order.deploy => next,
            None => from,
        };
        let scope = order.scope(wanted, &world);
        let reload = order.canaries.over(app.reload);
        let wish = Wish { app: name, from, to, slots: wanted, scope, reload: &reload, sockets_down: &down, world: &world };
        let plan = plan::plan(&wish).map_err(|why| conflict(refused(name, &units, &why)))?;
        if let (Spawn::Child { ports, .. }, true) = (&app.spawn, plan.canary > plan.surge) {
            let extra = ports.map_or(0, |(first, last)| usize::from(last - first) + 1);
            if extra < plan.canary {
                let why =
                    format!("{name}: {} canaries need a port each beside those of the old workers, and `ports` has {extra}", plan.canary);
                return Err(conflict(format!("{why}. Ask for fewer, or write more `ports`, then `sudo project-cluster install`")));
            }
        }
        Ok((plan, world))
    }

    /// Begins a roll, where it can be. `waited`: behind another one, which the handle may still show.
    fn begin(&self, name: &AppName, ticket: Ticket, order: &Order, waited: bool) -> Result<Begun, Refusal> {
        let settings = self.settings();
        let app = Self::app_settings(&settings, name)?;
        let (plan, world) = self.plan(name, &self.wanted(name, app), order)?;
        let (to, handle) = (plan.to, AppUnits::new(&settings.name, name).handle());
        let (handle_since, handle_busy) = {
            let world = lock(&self.world);
            let seen = world.get(&handle);
            let busy = seen.is_some_and(|seen| seen.state.active == ActiveState::Reloading || seen.state.job.is_some());
            (seen.map_or(0, |seen| seen.details.active_since_us), busy)
        };
        // Its reload step asks like any other client.
        let by = if order.deploy && order.to.is_none() && handle_busy { (!waited).then_some(By::Outside) } else { Some(By::Operator) };
        if by == Some(By::Outside) {
            self.note_systemctl();
        }
        let clock = clock();
        let begin = clock.now();
        let roll = Roll::new(plan, &world, begin);
        let mut begun = None;
        lock(&self.rolls).change(name, ticket, |record| {
            (record.state, record.reason) = (RollState::Running, None);
            record.generation = Some(to.generation);
            record.pin = to.pin;
            // Its reload step is of nobody's user.
            record.asked_by.take_if(|_| by != Some(By::Operator));
            record.slots = match &roll.plan().scope {
                Scope::App => None,
                Scope::Slots(slots) => Some(slots.iter().map(|slot| slot.get()).collect()),
            };
            (record.ready, record.target) = (0, figure(roll.served().1));
            begun = Some(record.clone());
        });
        let before = lock(&self.rolls).last_ended(name);
        // Before anybody is told that it has begun: a master to come carries it out as promised.
        let path = self.places.roll(name);
        if let Some(Err(why)) =
            begun.map(|record| kept::write(&path, &Kept::under_way(record, begin, handle_since, None, &roll).behind(before)))
        {
            let why = format!("{name}: nothing was begun, since the roll cannot be written down ({why}): {}", path.display());
            return Err(Refusal::new(Code::Failed, why));
        }
        say!(Notice, "{} begins", what(name, roll.plan()));
        self.tell_roll(Kind::RollBegin, name, by, ticket.0, Some(to.generation), what(name, roll.plan()));
        let unshown = roll.plan().is_deploy() && !handle_busy;
        Ok(Begun { ticket, roll, clock, begin, handle_since, unshown })
    }

    /// The highest generation that `prepare` has pinned.
    pub(super) fn highest(&self, name: &AppName) -> Option<Generation> {
        self.published(name).highest()
    }

    /// The roll that waited begins, or its refusal is its end.
    async fn go_on(self: Arc<Self>, name: AppName, ticket: Ticket, order: Order) {
        let begun = match self.look().await {
            Ok(()) => self.begin(&name, ticket, &order, true),
            Err(why) => Err(why.into()),
        };
        // Not before: a master to come would know of neither.
        kept::mark_next(&self.places, &name, lock(&self.rolls).waiting(&name));
        match begun {
            Ok(begun) => Box::pin(self.carry_out(name, begun, None)).await,
            Err(why) => self.never_begins(&name, ticket, &why.to_string()),
        }
    }

    /// The refusal of a roll that others wait for is its end.
    fn never_begins(self: &Arc<Self>, name: &AppName, ticket: Ticket, why: &str) {
        say!(Warning, "{name}: what was asked for is not begun: {why}");
        self.tell_roll(Kind::RollFailed, name, Some(By::Roll), ticket.0, None, format!("{name}: what was asked for is not begun: {why}"));
        // It may be written down as one under way, which the next master would take up.
        let record = lock(&self.rolls).get(name, ticket.0);
        if let Some(record) = record {
            self.keep_end(&types::Roll { state: RollState::Failed, reason: Some(why.to_owned()), ..record });
        }
        lock(&self.rolls).fail(name, ticket, why.to_owned());
        self.end(name);
    }

    /// The next one, where one waits.
    fn end(self: &Arc<Self>, name: &AppName) {
        let next = lock(&self.rolls).ended(name);
        self.follow_up(name, next);
    }

    fn follow_up(self: &Arc<Self>, name: &AppName, next: Option<(Ticket, Order)>) {
        match next {
            Some((ticket, order)) => drop(tokio::spawn(self.clone().go_on(name.clone(), ticket, order))),
            None => {
                kept::mark_next(&self.places, name, None);
                self.tell_status();
            }
        }
    }
}

/// Why there is nothing to replace, where the handle is in this state.
fn not_running(name: &AppName, handle: ActiveState) -> Option<String> {
    match handle {
        ActiveState::Active | ActiveState::Reloading => None,
        ActiveState::Activating => Some(format!(
            "{name} is starting, with what is configured now. Wait for it: `project-cluster start {name}`, then reload if need be"
        )),
        ActiveState::Deactivating => Some(format!("{name} is being stopped, so there is nothing to replace")),
        ActiveState::Failed => {
            Some(format!("the start of {name} failed, so there is nothing to replace. Start it: `project-cluster start {name}`"))
        }
        ActiveState::Inactive => {
            Some(format!("{name} is not running, so there is nothing to replace. Start it: `project-cluster start {name}`"))
        }
    }
}

/// A refusal of the plan, with the command that helps.
fn refused(name: &AppName, units: &AppUnits<'_>, why: &plan::Refusal) -> String {
    match why {
        plan::Refusal::SocketDown(_) => format!("{name}: {why}. Mend it: `{}`", anew(&units.handle())),
        plan::Refusal::NothingRuns => format!("{name}: {why}. Start them: `project-cluster start {name}`"),
        plan::Refusal::NoneWanted => format!("{name}: {why}. `project-cluster stop {name}` stops it"),
        plan::Refusal::NotNew { .. } => format!("{name}: {why}"),
        plan::Refusal::NoRoom => {
            format!(
                "{name}: {why}. Write max_surge = 1 in [apps.{name}.reload], then `sudo project-cluster install`; or without: `project-cluster reload {name} --canary 0`"
            )
        }
        plan::Refusal::Hasty { .. } => {
            format!(
                "{name}: {why}. Watch them for less: `project-cluster reload {name} --bake 30s`; or write a longer `deadline` in [apps.{name}.reload]"
            )
        }
    }
}

/// What a roll does, for the journal.
fn what(name: &AppName, plan: &Plan) -> String {
    match &plan.scope {
        Scope::App => match plan.to.pin {
            Some(pin) => format!("{name}: rollback to generation {pin}, as generation {}", plan.to.generation),
            None => format!("{name}: roll to generation {}", plan.to),
        },
        Scope::Slots(slots) => {
            let slots: Vec<String> = slots.iter().map(|slot| Uid { app: name.clone(), slot: *slot }.to_string()).collect();
            format!("{name}: roll of {}", if slots.is_empty() { "nothing".to_owned() } else { slots.join(", ") })
        }
    }
}

/// A number of workers; an app has at most 1024.
fn figure(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// The version most workers are of.
fn most<'a>(workers: impl Iterator<Item = &'a Instance>) -> Option<Version> {
    let mut counts: BTreeMap<(Generation, Option<Generation>), usize> = BTreeMap::new();
    workers.for_each(|worker| *counts.entry((worker.generation, worker.pin)).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map(|((generation, pin), _)| Version { generation, pin })
}

#[cfg(test)]
mod tests;
