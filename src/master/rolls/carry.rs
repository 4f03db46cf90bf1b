//! Carries one roll out on behalf of the master: stopped when its handle leaves, its end remembered and told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use super::hooks::{Came, Ear};
use super::recorder::Recorder;
use super::records::unix_ms;
use super::{Begun, figure, lock, what};
use crate::api::events::{By, Kind};
use crate::api::types::{RollEnd, RollState};
use crate::config::settings;
use crate::intent::{Hold, RolledBack};
use crate::master::events::asked::Who;
use crate::master::{LINES, Master, watch};
use crate::names::{AppName, AppUnits, HookKind, Instance, Slot, Uid};
use crate::roll::execute::{self, Deps, Limits};
use crate::roll::machine::Roll;
use crate::roll::plan::{Plan, Scope};
use crate::roll::queue::Ticket;
use crate::roll::words::{self, Outcome};
use crate::say::say;
use crate::systemd::{ActiveState, Change, Error, Systemd, Verb};

/// How often a handle that is being stopped is looked at beside what signals tell.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl<S: Systemd> Master<S> {
    pub(super) async fn carry_out(self: Arc<Self>, name: AppName, begun: Begun, culprit: Option<Instance>) {
        let Begun { ticket, mut roll, clock, begin, handle_since, unshown } = begun;
        let settings = self.settings();
        let Some(app) = settings.apps.get(&name) else {
            return self.never_begins(&name, ticket, &format!("{name} was removed from the configuration"));
        };
        let units = AppUnits::new(&settings.name, &name);
        if unshown {
            // Before the first worker starts: a reload of a person's that becomes one with ours has all that it deploys in this
            // roll then.
            self.show(&units, ticket).await;
        }
        let plan = roll.plan().clone();
        let culprit = Arc::new(std::sync::Mutex::new(culprit));
        let keeper = || Recorder {
            master: self.clone(),
            app: name.clone(),
            ticket,
            begin,
            handle_since,
            clock,
            culprit: Arc::clone(&culprit),
            path: self.places.roll(&name),
        };
        let limits = Limits::of(app);
        let sockets = app.listen.iter().map(|listen| units.socket(&listen.address)).collect();
        // What was asked for while no master was there counts as well.
        self.retarget(&name);
        let cluster = settings.name.clone();
        let mut ear = Ear::new(lock(&self.rolls).orders(&name));
        let before = self.hook(HookKind::Before, &units, app, &mut roll, &mut keeper(), Some(&mut ear)).await;
        let (target, orders) = (lock(&self.rolls).targets(&name), ear.orders);
        let deps = Deps { cluster, app: name.clone(), limits, clock, keeper: keeper(), handle_since, sockets, target, orders };
        let asked_by = lock(&self.rolls).get(&name, ticket.0).and_then(|record| record.asked_by);
        let who = Who::roll(ticket.0, &plan.scope, asked_by);
        let (outcome, said) = match before {
            Came::Well => (execute::execute(Arc::new(self.systemd.for_roll(who)), &mut roll, deps).await, String::new()),
            Came::Left => (Outcome::Overtaken, String::new()),
            Came::Aborted(who) => {
                (Outcome::AllOld { reason: format!("{who} while hook before ran; no worker was started") }, String::new())
            }
            Came::Failed(why) => {
                let (first, lines) =
                    why.split_once('\n').map_or((why.as_str(), String::new()), |(first, rest)| (first, format!("\n{rest}")));
                (Outcome::AllOld { reason: format!("hook before failed: {first}; no worker was started") }, lines)
            }
        };
        if outcome == Outcome::Overtaken
            && let Err(why) = self.sweep(&units, app, &roll, handle_since).await
        {
            say!(Warning, "{name}: {why}; what a start behind its stop left running is not stopped. `systemctl stop {}`", units.handle());
        }
        self.refresh(&watch::Dirty::All).await;
        let culprit = *lock(&culprit);
        let why = self.why(&units, figure(self.wanted(&name, app).len()), &plan, &outcome, culprit, begin).await;
        let why = why.map(|why| Why { told: why.told + &said, kept: why.kept + &said });
        let unwritten = self.finish(&plan, app.revision.number, &outcome, why.as_ref().map(|why| why.kept.as_str()));
        let reason = match (why.map(|why| why.told), unwritten) {
            (reason, None) => reason,
            (None, Some(why)) => Some(format!("generation {} serves, but is not remembered: {why}", plan.to.generation)),
            (Some(reason), Some(why)) => Some(format!("{reason}\nThis is not remembered: {why}")),
        };
        // Behind all that is to be remembered: how it goes changes nothing of that.
        let behind = match outcome {
            Outcome::AllNew => Some(HookKind::After),
            Outcome::AllOld { .. } | Outcome::Mixed { .. } => Some(HookKind::Failed),
            Outcome::Overtaken => None,
        };
        if let Some(kind) = behind {
            self.hook(kind, &units, app, &mut roll, &mut keeper(), None).await;
        }
        let took_ms = clock.now().saturating_sub(begin);
        announce(&plan, took_ms, reason.as_deref());
        self.tell_end(&plan, ticket, took_ms, reason.as_deref());
        let Some(mut record) = lock(&self.rolls).get(&name, ticket.0) else { return self.end(&name) };
        record.state = if reason.is_none() { RollState::Done } else { RollState::Failed };
        (record.reason, record.took_ms) = (reason, took_ms);
        record.end = Some(match outcome {
            Outcome::AllNew => RollEnd::AllNew,
            Outcome::AllOld { .. } => RollEnd::AllOld,
            Outcome::Mixed { .. } => RollEnd::Mixed,
            Outcome::Overtaken => RollEnd::Overtaken,
        });
        self.keep_end(&record);
        // Told and over at once: whoever hears of it may reload again.
        let stopped = outcome == Outcome::Overtaken && lock(&self.world).active(&units.handle()) == ActiveState::Inactive;
        let mut rolls = lock(&self.rolls);
        if stopped && let Some(waiting) = rolls.forget(&name) {
            let why = format!("{name} was stopped before this reload could begin. Start it: `project-cluster start {name}`");
            rolls.fail(&name, waiting, why);
        }
        let next = rolls.ended(&name);
        // The rest of it may have grown meanwhile, by workers that have drained.
        rolls.change(&name, ticket, |known| {
            (known.state, known.end, known.reason, known.took_ms) = (record.state, record.end, record.reason, record.took_ms);
        });
        drop(rolls);
        self.follow_up(&name, next);
    }

    /// After an app was stopped or restarted in the middle of a roll: a start that was asked for just before may have brought a
    /// worker up behind that, and with it the sockets, which a stopped app keeps closed.
    async fn sweep(&self, units: &AppUnits<'_>, app: &settings::App, roll: &Roll, handle_since: u64) -> Result<(), Error> {
        let handle = units.handle();
        let sockets: Vec<String> = app.listen.iter().map(|listen| units.socket(&listen.address)).collect();
        let mut changes = self.systemd.changes();
        let (stopped, rows) = loop {
            let rows = self.systemd.units(&[&[units.worker_glob(), handle.clone()], &sockets[..]].concat()).await?;
            match rows.iter().find(|row| row.name == handle).map_or(ActiveState::Inactive, |row| row.active) {
                ActiveState::Inactive | ActiveState::Failed => break (true, rows),
                ActiveState::Active | ActiveState::Reloading => break (false, rows),
                ActiveState::Activating | ActiveState::Deactivating => {}
            }
            // One of its steps is at work; systemd bounds it. A signal of its end may get lost.
            let _ = tokio::time::timeout(LOOK_AGAIN, heard(&mut changes, &handle)).await;
        };
        let limit = Limits::of(app).stop;
        let lives =
            |unit: &str| rows.iter().any(|row| row.name == unit && !matches!(row.active, ActiveState::Inactive | ActiveState::Failed));
        for (worker, _) in roll.workers().iter().filter(|(_, known)| known.fresh) {
            let unit = units.worker(worker);
            // The start step of a restart leaves in a slot who lives there: only one beside another is too many.
            let doubled = || {
                rows.iter().any(|row| {
                    row.name != unit && lives(&row.name) && units.instance(&row.name).is_some_and(|other| other.slot == worker.slot)
                })
            };
            if lives(&unit) && (stopped || doubled()) {
                say!(Notice, "{}: stopping {unit}, which came up behind the stop of {handle}", units.app);
                self.systemd.job(Verb::Stop, &unit, limit).await?;
            }
        }
        for socket in sockets.into_iter().filter(|_| stopped) {
            // One that sleep left open is older than the handle's last start.
            if self.systemd.active_since(&socket).await? > handle_since {
                self.systemd.job(Verb::Stop, &socket, limit).await?;
            }
        }
        Ok(())
    }

    /// Why a roll that began then failed; nothing when it did not.
    async fn why(
        &self,
        units: &AppUnits<'_>,
        target: u16,
        plan: &Plan,
        outcome: &Outcome,
        culprit: Option<Instance>,
        begin: u64,
    ) -> Option<Why> {
        let down = &plan.slots - &self.served(units.app);
        let again = (!plan.is_deploy() && !down.is_empty()).then(|| {
            let down: Vec<String> = down.iter().map(|slot| Uid { app: units.app.clone(), slot: *slot }.to_string()).collect();
            format!("`project-cluster start {}` tries again", down.join(" "))
        });
        let (reason, now) = match outcome {
            Outcome::AllNew => return None,
            Outcome::Overtaken => (format!("{} was stopped or restarted meanwhile", units.handle()), String::new()),
            Outcome::AllOld { reason } if !plan.is_deploy() => {
                (reason.clone(), again.map(|again| format!(". {again}")).unwrap_or_default())
            }
            Outcome::AllOld { reason } => match lock(&self.world).ready(units) {
                ready if ready >= target => (reason.clone(), ". The old workers serve as before".to_owned()),
                ready => (reason.clone(), format!(". Only {ready} of {target} old workers serve")),
            },
            Outcome::Mixed { reason, who } => {
                let who: Vec<String> =
                    who.iter().map(|(worker, stage)| format!("{}: {}", words::who(units.app, worker), stage.name())).collect();
                let mend = again.unwrap_or_else(|| {
                    let (app, from) = (units.app, plan.from.generation);
                    format!(
                        "`project-cluster rollback {app} --to {from}` brings back what served, `project-cluster reload {app}` replaces them all, once it is mended"
                    )
                });
                // A line of its own: each is cut, and who is left matters more than the whole of why.
                (reason.clone(), format!("\nLeft in a mix: {}. {mend}", who.join(", ")))
            }
        };
        let mut lines = String::new();
        if let Some(instance) = culprit.filter(|_| *outcome != Outcome::Overtaken) {
            for line in self.journal.last_lines(&units.worker(&instance), begin * 1000, LINES).await {
                lines.push_str(&format!("\n{line}"));
            }
        }
        Some(Why { told: format!("{reason}{now}{lines}"), kept: format!("{reason}{lines}") })
    }

    /// The event of an end.
    fn tell_end(&self, plan: &Plan, ticket: Ticket, took_ms: u64, reason: Option<&str>) {
        let what = what(&plan.app, plan);
        let (kind, text) = match reason {
            None => (Kind::RollDone, format!("{what} done in {took_ms} ms")),
            Some(reason) => (Kind::RollFailed, format!("{what} failed: {}", reason.lines().next().unwrap_or_default())),
        };
        self.tell_roll(kind, &plan.app, Some(By::Roll), ticket.0, Some(plan.to.generation), text);
    }

    /// Remembers how a roll ended; why that is not written down, where there was anything to remember. `installed` is the
    /// revision of the settings that it went by.
    fn finish(&self, plan: &Plan, installed: u64, outcome: &Outcome, reason: Option<&str>) -> Option<String> {
        let name = &plan.app;
        if *outcome == Outcome::Overtaken || (reason.is_none() && plan.scope != Scope::App) {
            return None;
        }
        let to = plan.to;
        let served = self.served(name);
        self.remember(name, |intent| match (reason, &plan.scope) {
            (None, Scope::App) => {
                let now = unix_ms();
                intent.serves(to.generation, to.pin, now);
                intent.rolled_back = to.pin.map(|to| RolledBack { to, since_ms: now, installed });
                intent.held = None;
            }
            (Some(reason), Scope::App) => intent.held = Some(Hold::new(unix_ms(), reason, to.generation)),
            // What did not start stays down, as after a start of the whole app, until a person tries again.
            (_, Scope::Slots(_)) => intent.stopped.extend(plan.slots.difference(&served)),
        });
        self.unwritten()
    }

    /// The slots of an app that have a worker.
    fn served(&self, name: &AppName) -> BTreeSet<Slot> {
        let settings = self.settings();
        let world = lock(&self.world).sights(&AppUnits::new(&settings.name, name));
        let stands = |state| !matches!(state, ActiveState::Inactive | ActiveState::Failed | ActiveState::Deactivating);
        world.iter().filter(|(_, sight)| stands(sight.state)).map(|(worker, _)| worker.slot).collect()
    }
}

/// Waits for what may be a change of this unit; for ever where systemd tells no more.
pub(super) async fn heard(changes: &mut broadcast::Receiver<Change>, unit: &str) {
    loop {
        match changes.recv().await {
            Ok(Change::Unit(name)) if name != unit => {}
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Why a roll failed, with the app's own last lines.
struct Why {
    /// Also who serves now.
    told: String,
    /// For later, when that may have changed: `ls` and `show` count anew.
    kept: String,
}

/// The journal's lines of an end.
fn announce(plan: &Plan, took_ms: u64, reason: Option<&str>) {
    let (name, what) = (&plan.app, what(&plan.app, plan));
    let Some(reason) = reason else {
        say!(Notice, "{what} done in {took_ms} ms");
        return;
    };
    let mut lines = reason.lines();
    say!(Error, "{what} failed after {took_ms} ms: {}", lines.next().unwrap_or_default());
    lines.for_each(|line| say!(Error, "{name}: {line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_signals_that_end_does_not_spin() {
        let (changes, mut hears) = broadcast::channel(4);
        let mut waits = async || tokio::time::timeout(LOOK_AGAIN, heard(&mut hears, "a.service")).await.is_ok();
        for (change, wakes) in [(Change::Unit("b.service".into()), false), (Change::Unit("a.service".into()), true), (Change::All, true)] {
            changes.send(change).unwrap();
            assert_eq!(waits().await, wakes);
        }
        drop(changes);
        assert!(!waits().await);
    }
}
