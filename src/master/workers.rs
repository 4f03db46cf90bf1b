//! What a person asks of single workers and of their number: `add`, `remove`, `scale`, and `start`, `stop`, `restart`,
//! `reset` of one.
//!
//! What is asked for is remembered first; then a roll of the slots that differ from it carries it out, so that it
//! outlives this process, goes new before old, and can be watched like any other roll.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::memory::Source;
use super::rolls::kept::mark_next;
use super::{Master, lock, loops, watch};
use crate::api::error::{Code, Refusal};
use crate::api::types::{Done, RollState};
use crate::config::settings;
use crate::intent::{AppIntent, Change};
use crate::names::{AppName, AppUnits, Slot, Uid};
use crate::roll::order::Order;
use crate::systemd::{ActiveState, Systemd, Verb};

/// Time for systemd to take a request.
const UNDER_WAY: Duration = Duration::from_millis(100);
/// No start takes longer than systemd itself allows it; this bounds a request whose answer is lost.
const RESET: Duration = Duration::from_secs(30);

/// How a change is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It takes effect when a person starts the app.
    Remember,
    /// By the start of its handle.
    Start,
    /// By its handle's stop: an open port with nobody behind it would let clients hang.
    Stop,
    /// By a roll of the slots that differ.
    Roll,
}

/// The way from the slots that were wanted to those that are now: by whether the handle is active, a socket is open, the
/// app had any slots at all, and which slots are ready.
fn way(active: bool, open: bool, had: bool, before: &BTreeSet<Slot>, next: &BTreeSet<Slot>, ready: &BTreeSet<Slot>) -> Way {
    let answers = |slots: &BTreeSet<Slot>| !slots.is_disjoint(ready);
    match active {
        _ if next.is_empty() => {
            if active || open {
                Way::Stop
            } else {
                Way::Remember
            }
        }
        // A person has stopped it, or it is asleep.
        false if had => Way::Remember,
        // It did not run for want of workers alone.
        false => Way::Start,
        true if before.is_empty() => Way::Start,
        // Those that stay are in a crash loop, say.
        true if answers(&(before - next)) && !answers(next) => Way::Stop,
        true => Way::Roll,
    }
}

impl<S: Systemd> Master<S> {
    /// Another number of workers, or others of them to run.
    ///
    /// # Errors
    /// When a slot is none, there would be too many, or its handle is on its way up or down.
    pub async fn change(self: &Arc<Self>, name: &AppName, change: &Change) -> Result<Done, Refusal> {
        self.renew_settings();
        self.look().await?;
        let settings = self.settings();
        let app = Self::app_settings(&settings, name)?;
        let units = AppUnits::new(&settings.name, name);
        self.settled(&units)?;
        let (active, ..) = self.stance(&units, app);
        if !active && let Change::Start(Some(slots)) = change {
            // Who starts one worker of an app that is stopped wants that one.
            let alone = self.intent_of(name).stopped.is_empty();
            let only = if alone { Change::StartOnly(slots.clone()) } else { change.clone() };
            self.remember_change(name, &only, Source::Asked)?;
            return self.start_wanted(name).await;
        }
        let (had, before) = (self.intent_of(name).slots(Self::target(app)), self.wanted(name, app));
        let next = self.changed(name, app, change)?.wanted(Self::target(app));
        let way = {
            let world = lock(&self.world);
            let open = app.listen.iter().any(|listen| world.active(&units.socket(&listen.address)) == ActiveState::Active);
            let up = |state| matches!(state, ActiveState::Active | ActiveState::Reloading);
            let ready = world.workers(&units).into_iter().filter(|(_, seen)| up(seen.state.active)).map(|(one, _)| one.slot).collect();
            way(active, open, !had.is_empty(), &before, &next, &ready)
        };
        // Before it is remembered: what is refused changes nothing. A roll that runs may have an end first.
        if matches!(way, Way::Roll) {
            self.not_paused(name)?;
        }
        match way {
            Way::Start => drop(self.reachable(&units, app)?),
            Way::Roll if !lock(&self.rolls).under_way(name) => drop(self.plan(name, &next, &Order::default())?),
            Way::Roll | Way::Remember | Way::Stop => {}
        }
        if way != Way::Roll {
            return self.reach(name, change, way).await;
        }
        // Between here and the roll that carries it out this process may die; then the next one begins that roll.
        let (waits, default) = (lock(&self.rolls).waiting(name), || (None, Order::default()));
        mark_next(&self.places, name, Some(waits.unwrap_or_else(default)));
        let done = self.reach(name, change, way).await;
        mark_next(&self.places, name, lock(&self.rolls).waiting(name));
        done
    }

    /// Remembers a change and carries it out.
    async fn reach(self: &Arc<Self>, name: &AppName, change: &Change, way: Way) -> Result<Done, Refusal> {
        let intent = self.remember_change(name, change, Source::Asked)?;
        let settings = self.settings();
        let app = Self::app_settings(&settings, name)?;
        let (slots, wanted) = (intent.slots(Self::target(app)), intent.wanted(Self::target(app)));
        let next = if slots.is_empty() { "add" } else { "start" };
        match way {
            Way::Remember => {
                let (wanted, slots) = (wanted.len(), slots.len());
                Ok(Done::new(name, format!("{wanted} of {slots} to run once it is started. `project-cluster {next} {name}`")))
            }
            Way::Stop => {
                self.stop(name).await?;
                let port = if app.listen.is_empty() { "" } else { " and its port closed" };
                let why = format!("no worker is left to answer, so {name} is stopped{port}. `project-cluster {next} {name}`");
                Ok(Done::new(name, why))
            }
            Way::Start => self.start_wanted(name).await,
            Way::Roll => self.converge(name, Order::default()).await,
        }
    }

    /// `restart` of single workers: new before old, in the same slots.
    ///
    /// # Errors
    /// When one of them is not running, the app is not up, a socket of it is down, or systemd cannot be asked.
    pub async fn restart(self: &Arc<Self>, name: &AppName, slots: BTreeSet<Slot>) -> Result<Done, Refusal> {
        self.look().await?;
        let settings = self.settings();
        let app = Self::app_settings(&settings, name)?;
        self.settled(&AppUnits::new(&settings.name, name))?;
        let wanted = self.wanted(name, app);
        if let Some(slot) = slots.difference(&wanted).next() {
            let uid = Uid { app: name.clone(), slot: *slot };
            let why = format!("{uid} is not running. `project-cluster start {uid}` starts it");
            return Err(Refusal::new(Code::Conflict, why));
        }
        self.converge(name, Order::restart(slots)).await
    }

    /// A roll that makes what runs what is wanted; none where it is so already.
    pub(super) async fn converge(self: &Arc<Self>, name: &AppName, order: Order) -> Result<Done, Refusal> {
        let settings = self.settings();
        let app = Self::app_settings(&settings, name)?;
        let units = AppUnits::new(&settings.name, name);
        let wanted = self.wanted(name, app);
        if order == Order::default() && !lock(&self.rolls).under_way(name) {
            let world = lock(&self.world).sights(&units);
            if crate::roll::Scope::missing_and_extra(&wanted, &world).is_empty() {
                let ready = lock(&self.world).ready(&units);
                return Ok(Done::new(name, format!("nothing to do, {ready} of {} ready", wanted.len())));
            }
        }
        let roll = self.roll_out(name, order).await?;
        Ok(Done::by_roll(roll, "begun"))
    }

    /// `reset`: ends a hold, forgets crashes, and tries at once what waits to be tried again; not what starts already, and
    /// nothing that a roll is about. Of the whole app, or of these slots.
    ///
    /// # Errors
    /// When a slot is none, or systemd cannot do it.
    pub async fn reset(self: &Arc<Self>, name: &AppName, slots: Option<&BTreeSet<Slot>>) -> Result<Done, Refusal> {
        self.look().await?;
        let settings = self.settings();
        let app = Self::app_settings(&settings, name)?;
        let units = AppUnits::new(&settings.name, name);
        if let Some(slots) = slots {
            let all = self.intent_of(name).slots(Self::target(app));
            if let Some(slot) = slots.difference(&all).next() {
                let uid = Uid { app: name.clone(), slot: *slot };
                return Err(Refusal::new(Code::NotFound, format!("there is no worker {uid}. `project-cluster ls {name}` lists them")));
            }
        }
        let held = slots.is_none() && self.intent_of(name).held.is_some();
        if slots.is_none() {
            self.promise(name, |intent| intent.held = None)?;
        }
        // What a roll starts is its own: a fresh start there would look like a failure of its worker.
        let roll = lock(&self.rolls).latest(name).filter(|roll| matches!(roll.state, RollState::Running | RollState::Paused));
        let rolled = |slot: Slot| roll.as_ref().is_some_and(|roll| roll.slots.as_ref().is_none_or(|slots| slots.contains(&slot.get())));
        let crashes = self.places.crashes(name);
        let mut waiting = Vec::new();
        let workers: Vec<_> = lock(&self.world).workers(&units).into_iter().map(|(instance, seen)| (instance, seen.clone())).collect();
        for (instance, seen) in workers.into_iter().filter(|(instance, _)| slots.is_none_or(|slots| slots.contains(&instance.slot))) {
            self.systemd.reset_failed(&seen.state.name).await?;
            if !rolled(instance.slot) && loops::waits(&crashes, &instance, &seen, app.timeout.restart) {
                waiting.push(seen.state.name);
            }
        }
        // By hand, so to say: systemd and `prepare` count from 0 again. Each ends like any other start, seen by all; that
        // they are under way is enough here.
        let restarts = waiting.iter().map(|unit| tokio::time::timeout(UNDER_WAY, self.systemd.job(Verb::Restart, unit, RESET)));
        for restart in futures_util::future::join_all(restarts).await.into_iter().flatten() {
            restart?;
        }
        if slots.is_none() {
            self.systemd.reset_failed(&units.handle()).await?;
        }
        self.refresh(&watch::Dirty::All).await;
        if held {
            self.show_standing(name).await;
        }
        let tried = if waiting.is_empty() { String::new() } else { format!("; {} tried again at once", waiting.len()) };
        Ok(Done::new(name, format!("reset{tried}")))
    }

    /// What would be remembered behind a change.
    fn changed(&self, name: &AppName, app: &settings::App, change: &Change) -> Result<AppIntent, Refusal> {
        self.intent_of(name).changed(name, Self::target(app), change).map_err(|why| Refusal::new(Code::Conflict, why))
    }

    /// Remembers a change, and tells the roll that runs.
    pub(super) fn remember_change(&self, name: &AppName, change: &Change, source: Source) -> Result<AppIntent, Refusal> {
        let settings = self.settings();
        let app = Self::app_settings(&settings, name)?;
        let intent = self.changed(name, app, change)?;
        let AppIntent { slots, stopped, .. } = intent.clone();
        let change = |known: &mut AppIntent| (known.slots, known.stopped) = (slots, stopped);
        match source {
            Source::Asked => self.promise(name, change)?,
            Source::Seen => self.remember(name, change),
        }
        self.retarget(name);
        Ok(intent)
    }

    /// The handle's own steps are not at work: what they start and stop is theirs.
    pub(super) fn settled(&self, units: &AppUnits<'_>) -> Result<(), Refusal> {
        let handle = units.handle();
        let how = match lock(&self.world).active(&handle) {
            ActiveState::Activating => "starting",
            ActiveState::Deactivating => "being stopped",
            _ => return Ok(()),
        };
        Err(Refusal::new(Code::Conflict, format!("{} is {how}: wait for it (`systemctl status {handle}`), then try again", units.app)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_of_a_change() {
        let slots = |numbers: &[u16]| numbers.iter().filter_map(|number| Slot::new(*number)).collect::<BTreeSet<Slot>>();
        let (up, down) = (true, false);
        type Case<'a> = ([bool; 3], [&'a [u16]; 3], Way);
        let cases: &[Case<'_>] = &[
            ([up, true, true], [&[1, 2], &[1], &[1, 2]], Way::Roll),
            ([up, true, true], [&[1], &[1, 2], &[1]], Way::Roll),
            ([up, true, true], [&[1], &[], &[1]], Way::Stop),
            // The last that answers; those that stay are in a crash loop.
            ([up, true, true], [&[1, 2, 3], &[2, 3], &[1]], Way::Stop),
            // None answers, and none that does goes.
            ([up, true, true], [&[1, 2], &[2], &[]], Way::Roll),
            ([up, true, true], [&[1, 2], &[1], &[1]], Way::Roll),
            ([up, false, true], [&[], &[1], &[]], Way::Start),
            // Stopped, or asleep.
            ([down, false, true], [&[1, 2], &[1], &[]], Way::Remember),
            ([down, false, true], [&[1], &[], &[]], Way::Remember),
            ([down, true, true], [&[1, 2], &[1], &[]], Way::Remember),
            ([down, true, true], [&[1], &[], &[]], Way::Stop),
            // It had 0 workers.
            ([down, false, false], [&[], &[1], &[]], Way::Start),
        ];
        for ([active, open, had], [before, next, ready], expected) in cases {
            let found = way(*active, *open, *had, &slots(before), &slots(next), &slots(ready));
            assert_eq!(found, *expected, "active {active}, open {open}, had {had}: {before:?} to {next:?}, ready {ready:?}");
        }
    }
}
