//! The hooks of a roll: `before` ahead of its machine, `after` or `failed` behind its end.
//!
//! How far each is stands in the roll's record, which is written down before it is asked for and when it has ended: a master
//! to come waits for one that runs, and runs none again that has ended.

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::carry::{LOOK_AGAIN, heard};
use super::recorder::Recorder;
use super::{lock, unix_ms};
use crate::api::events::Kind;
use crate::api::types::{Hook, HookState};
use crate::config::settings;
use crate::hook::{self, End};
use crate::master::{LINES, Master};
use crate::names::{AppUnits, HookInstance, HookKind};
use crate::roll::execute::{Asked, Keeper as _};
use crate::roll::machine::Roll;
use crate::roll::words::Steer;
use crate::say::say;
use crate::systemd::{ActiveState, Error, Systemd};

/// What came of a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Came {
    /// It ended well, or there is none.
    Well,
    /// It failed: why, and its last lines.
    Failed(String),
    /// A person has aborted the roll, and it was stopped: who.
    Aborted(String),
    /// The app was stopped or restarted meanwhile.
    Left,
}

/// Where a roll that is about to be carried out hears what a person asks of it, and a word that was not answered yet.
#[derive(Debug)]
pub(super) struct Ear {
    pub orders: mpsc::Receiver<Asked>,
    /// Answered once it is written down.
    answer: Option<oneshot::Sender<Result<(), &'static str>>>,
}

impl Ear {
    pub fn new(orders: mpsc::Receiver<Asked>) -> Self {
        Self { orders, answer: None }
    }

    /// Returns when somebody aborts. There is nothing yet that could be paused or resumed.
    async fn abort(&mut self) -> String {
        loop {
            match self.orders.recv().await {
                Some(Asked { order: Steer::Abort { reason }, answer }) => {
                    self.answer = Some(answer);
                    return reason;
                }
                // Who asked may have gone.
                Some(Asked { answer, .. }) => drop(answer.send(Err(BEFORE))),
                None => std::future::pending().await,
            }
        }
    }

    /// What was asked for is done.
    fn done(&mut self) {
        if let Some(answer) = self.answer.take() {
            // Who asked may have gone.
            let _ = answer.send(Ok(()));
        }
    }
}

/// Why a roll is not paused that has begun with its hook.
const BEFORE: &str = "its hook `before` runs, no worker was touched yet and there is nothing to pause or resume: an abort ends it, a pause is heeded once workers are replaced";

impl<S: Systemd> Master<S> {
    /// Runs a hook of a roll, where there is one and it has not ended yet. Behind `before` the roll begins anew, by what is seen
    /// then: its time is its workers' own.
    ///
    /// What has begun is carried to its end whatever is configured by now; and a `before` that somebody has configured since
    /// then comes behind no move of the roll. A rollback has none: what an older release would do to what a later one has
    /// migrated nobody knows, and whoever goes back is in a hurry.
    pub(super) async fn hook(
        &self,
        kind: HookKind,
        units: &AppUnits<'_>,
        app: &settings::App,
        roll: &mut Roll,
        keeper: &mut Recorder<S>,
        ear: Option<&mut Ear>,
    ) -> Came {
        let (name, ticket) = (keeper.app.clone(), keeper.ticket);
        let limits = hook::Limits::of(app);
        let record = lock(&self.rolls).get(&name, ticket.0);
        let known = record.and_then(|record| record.hooks.into_iter().find(|hook| hook.kind == kind));
        let begun = known.as_ref().map(|known| known.state);
        let since_ms = known.as_ref().map_or_else(unix_ms, |known| known.since_ms);
        let to = roll.plan().to;
        let unit = units.hook(kind, HookInstance { generation: to.generation, pin: to.pin });
        // A master before may not have lived to clear its unit away.
        match known.map(|known| (known.state, known.reason)) {
            Some((HookState::Done, _)) => {
                hook::clear(&*self.systemd, &unit, limits).await;
                return Came::Well;
            }
            // Nor to tell that the app was stopped.
            Some((HookState::Failed, reason)) => {
                hook::clear(&*self.systemd, &unit, limits).await;
                let left = self.has_left(units, keeper.handle_since).await.unwrap_or(false);
                return if left { Came::Left } else { Came::Failed(reason.unwrap_or_default()) };
            }
            Some((HookState::Running, _)) => {}
            None => {
                let late = kind == HookKind::Before && (to.pin.is_some() || !roll.is_untouched());
                if app.hooks.command(kind).is_none() || !roll.plan().is_deploy() || late {
                    return Came::Well;
                }
            }
        }
        // Of one that is taken up by the wall clock, which may have been set.
        let since = keeper.clock.now().saturating_sub(unix_ms().saturating_sub(since_ms));
        if begun.is_none() {
            let hook = Hook { kind, unit: unit.clone(), state: HookState::Running, since_ms, took_ms: None, reason: None };
            lock(&self.rolls).change(&name, ticket, |record| record.hooks.push(hook));
            if let Err(why) = keeper.persist(roll) {
                // Whoever comes after us could not tell that it ran.
                let why = format!("it was not started, since the state of the roll could not be written: {why}");
                return self.hook_ended(kind, Came::Failed(why), 0, roll, keeper);
            }
        }
        let mut ear = ear;
        let verb = if begun.is_none() { "starts" } else { "is waited for" };
        keeper.tell(Kind::HookBegin, format!("hook {kind} {verb}"), Some(&unit), roll);
        let abort = async {
            match ear.as_deref_mut() {
                Some(ear) => ear.abort().await,
                None => std::future::pending().await,
            }
        };
        // Nothing is asked for but behind a reading that shows the app up: this process may have been away for a while.
        let runs = async {
            if !self.is_up(units, keeper, roll.plan().deadline).await {
                return None;
            }
            tokio::select! {
                biased;
                end = hook::run(&*self.systemd, &unit, limits, begun.is_some()) => Some(end),
                () = self.leaves(units, keeper.handle_since) => None,
            }
        };
        let (end, aborted) = tokio::select! {
            biased;
            end = runs => (end, None),
            who = abort => (None, Some(who)),
        };
        if end.is_none() {
            hook::clear(&*self.systemd, &unit, limits).await;
        }
        let left = !matches!(end, Some(End::Done))
            && self.has_left(units, keeper.handle_since).await.unwrap_or(end.is_none() && aborted.is_none());
        let mut came = match (end, aborted) {
            (Some(End::Done), _) => Came::Well,
            (Some(End::Failed(why)), _) if !left => Came::Failed(why),
            (None, Some(who)) if !left => Came::Aborted(who),
            _ => Came::Left,
        };
        let took_ms = keeper.clock.now().saturating_sub(since);
        if let Came::Failed(why) = &mut came {
            for line in self.journal.last_lines(&unit, keeper.begin * 1000, LINES).await {
                why.push_str(&format!("\n{line}"));
            }
            why.push_str(&format!("\n`journalctl -u {unit}` has all of it"));
        }
        if kind == HookKind::Before && came == Came::Well {
            self.refresh(&crate::master::watch::Dirty::All).await;
            let sights = lock(&self.world).sights(units);
            *roll = Roll::new(roll.plan().clone(), &sights, keeper.clock.now());
        }
        let came = self.hook_ended(kind, came, took_ms, roll, keeper);
        if let (Came::Aborted(_), Some(ear)) = (&came, ear) {
            ear.done();
        }
        if matches!(came, Came::Well | Came::Failed(_)) {
            // Not before it is written down how it ended: the unit is what a master to come would go by.
            hook::clear(&*self.systemd, &unit, limits).await;
        }
        came
    }

    /// Writes down how it ended, and tells it.
    fn hook_ended(&self, kind: HookKind, came: Came, took_ms: u64, roll: &Roll, keeper: &mut Recorder<S>) -> Came {
        let name = keeper.app.clone();
        let took = std::time::Duration::from_millis(took_ms);
        let (state, reason, told, text) = match &came {
            Came::Well => (HookState::Done, None, Kind::HookDone, format!("hook {kind} is done after {took:?}")),
            Came::Left => {
                let why = "it was stopped with the app".to_owned();
                (HookState::Failed, Some(why.clone()), Kind::HookFailed, format!("hook {kind} ended: {why}"))
            }
            Came::Aborted(who) => {
                (HookState::Failed, Some(who.clone()), Kind::HookFailed, format!("hook {kind} is stopped after {took:?}: {who}"))
            }
            Came::Failed(why) => {
                let first = why.lines().next().unwrap_or_default();
                (HookState::Failed, Some(why.clone()), Kind::HookFailed, format!("hook {kind} failed after {took:?}: {first}"))
            }
        };
        let mut unit = None;
        lock(&self.rolls).change(&name, keeper.ticket, |record| {
            if let Some(hook) = record.hooks.iter_mut().find(|hook| hook.kind == kind) {
                (hook.state, hook.took_ms, hook.reason) = (state, Some(took_ms), reason);
                unit = Some(hook.unit.clone());
            }
        });
        if let Err(why) = keeper.persist(roll) {
            say!(Warning, "{name}: how hook {kind} ended is not written down: {why}");
        }
        keeper.tell(told, text, unit.as_deref(), roll);
        if let Came::Failed(why) = &came {
            // Of `before` the roll's end says it.
            why.lines().skip(1).filter(|_| kind != HookKind::Before).for_each(|line| say!(Warning, "{name}: {line}"));
        }
        came
    }

    /// Whether the app is up as it was when its roll began, once systemd can be asked; when it cannot for so long, it counts as not.
    async fn is_up(&self, units: &AppUnits<'_>, keeper: &mut Recorder<S>, deadline: u64) -> bool {
        let until = keeper.clock.now().saturating_add(deadline);
        loop {
            match self.has_left(units, keeper.handle_since).await {
                Ok(left) => return !left,
                Err(_) if keeper.clock.now() >= until => return false,
                Err(why) => keeper.trouble(&why),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Returns once the app's handle has left active since then.
    async fn leaves(&self, units: &AppUnits<'_>, handle_since: u64) {
        let (handle, mut changes) = (units.handle(), self.systemd.changes());
        // What cannot be read now is read again.
        while !self.has_left(units, handle_since).await.unwrap_or(false) {
            let _ = timeout(LOOK_AGAIN, heard(&mut changes, &handle)).await;
        }
    }

    async fn has_left(&self, units: &AppUnits<'_>, handle_since: u64) -> Result<bool, Error> {
        let handle = units.handle();
        let rows = self.systemd.units(std::slice::from_ref(&handle)).await?;
        let active = rows.iter().any(|row| row.name == handle && matches!(row.active, ActiveState::Active | ActiveState::Reloading));
        // A restart that falls between two readings shows in the time alone.
        Ok(!active || self.systemd.active_since(&handle).await? != handle_since)
    }
}
