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
use super::{Master, lock, watch};
use crate::api::error::{Code, Refusal};
use crate::api::types::Done;
use crate::config::settings;
use crate::intent::{AppIntent, Change};
use crate::names::{AppName, AppUnits, Slot, Uid};
use crate::roll::order::Order;
use crate::systemd::{ActiveState, Systemd, Verb};

/// Time for systemd to take a request.
const UNDER_WAY: Duration = Duration::from_millis(100);
/// No start takes longer than systemd itself allows it; this bounds a request whose answer is lost.
const RESET: Duration = Duration::from_secs(30);

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
        let before = self.wanted(name, app);
        let next = self.changed(name, app, change)?.wanted(Self::target(app));
        if !active || before.is_empty() || next.is_empty() {
            return self.reach(name, change, &before, active).await;
        }
        // Between here and the roll that carries it out this process may die; then the next one begins that roll.
        let (waits, default) = (lock(&self.rolls).waiting(name), || (None, Order::default()));
        mark_next(&self.places, name, Some(waits.unwrap_or_else(default)));
        let done = self.reach(name, change, &before, active).await;
        mark_next(&self.places, name, lock(&self.rolls).waiting(name));
        done
    }

    /// Remembers a change and carries it out.
    async fn reach(self: &Arc<Self>, name: &AppName, change: &Change, before: &BTreeSet<Slot>, active: bool) -> Result<Done, Refusal> {
        let intent = self.remember_change(name, change, Source::Asked)?;
        let settings = self.settings();
        let app = Self::app_settings(&settings, name)?;
        let (slots, wanted) = (intent.slots(Self::target(app)), intent.wanted(Self::target(app)));
        if !active {
            return Ok(Done::new(
                name,
                format!("{} of {} to run once it is started. `project-cluster start {name}`", wanted.len(), slots.len()),
            ));
        }
        if wanted.is_empty() {
            self.stop(name).await?;
            let next = if slots.is_empty() { "add" } else { "start" };
            let why = format!("no worker is left to answer, so {name} is stopped and its port closed. `project-cluster {next} {name}`");
            return Ok(Done::new(name, why));
        }
        if before.is_empty() {
            return self.start_wanted(name).await;
        }
        self.converge(name, Order::default()).await
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
        Ok(Done { roll: Some(roll), ..Done::new(name, "begun") })
    }

    /// `reset`: ends a hold, forgets crashes, and tries at once what waits to be tried again. Of the whole app, or of
    /// these slots.
    ///
    /// # Errors
    /// When a slot is none, or systemd cannot do it.
    pub async fn reset(&self, name: &AppName, slots: Option<&BTreeSet<Slot>>) -> Result<Done, Refusal> {
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
        if slots.is_none() {
            self.promise(name, |intent| intent.held = None)?;
        }
        let mut waiting = Vec::new();
        let workers: Vec<_> =
            lock(&self.world).workers(&units).into_iter().map(|(instance, seen)| (instance, seen.state.clone())).collect();
        for (instance, state) in workers {
            if slots.is_none_or(|slots| slots.contains(&instance.slot)) {
                self.systemd.reset_failed(&state.name).await?;
                if state.active == ActiveState::Activating {
                    waiting.push(state.name);
                }
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
