//! Carries one roll out on behalf of the master: stopped when its handle leaves, its end remembered and told.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::kept::{self, Kept};
use super::recorder::Recorder;
use super::records::unix_ms;
use super::{Begun, lock};
use crate::api::types::RollState;
use crate::intent::Hold;
use crate::master::{LINES, Master, watch};
use crate::names::{AppName, AppUnits, Instance};
use crate::roll::execute::{self, Control, Deps, Limits};
use crate::roll::plan::Version;
use crate::roll::words::Outcome;
use crate::say::say;
use crate::systemd::{ActiveState, Systemd};

impl<S: Systemd> Master<S> {
    pub(super) async fn carry_out(self: Arc<Self>, name: AppName, begun: Begun, culprit: Option<Instance>) {
        let Begun { ticket, roll, clock, begin } = begun;
        let settings = self.settings();
        let Some(app) = settings.apps.get(&name) else { return self.end(&name) };
        let units = AppUnits::new(&settings.name, &name);
        let (orders, control) = mpsc::channel(4);
        let watcher = tokio::spawn(self.clone().watch_handle(units.handle(), orders));
        let to = roll.plan().to;
        let culprit = Arc::new(std::sync::Mutex::new(culprit));
        let path = self.places.roll(&name);
        let keeper =
            Recorder { master: self.clone(), app: name.clone(), ticket, begin, clock, culprit: Arc::clone(&culprit), path: path.clone() };
        let limits = Limits::of(&app.timeout);
        let deps = Deps { cluster: settings.name.clone(), app: name.clone(), limits, clock, keeper, control };
        let outcome = execute::execute(self.systemd.clone(), roll, deps).await;
        watcher.abort();
        self.refresh(&watch::Dirty::All).await;
        let culprit = *lock(&culprit);
        let reason = self.why(&units, &outcome, culprit, begin).await;
        self.finish(&name, to, &outcome, reason.as_deref());
        let took_ms = clock.now().saturating_sub(begin);
        announce(&name, to, took_ms, reason.as_deref());
        let Some(mut record) = lock(&self.rolls).get(&name, ticket.0) else { return self.end(&name) };
        record.state = if reason.is_none() { RollState::Done } else { RollState::Failed };
        (record.reason, record.took_ms) = (reason, took_ms);
        // Kept before it is told: who waits and finds a new master gets the same answer.
        if let Err(why) = kept::write(&path, &Kept::ended(record.clone())) {
            say!(Warning, "{name}: the end of the roll cannot be kept for a master to come ({why}): {}", path.display());
        }
        // Told and over at once: whoever hears of it may reload again.
        let mut rolls = lock(&self.rolls);
        let next = rolls.ended(&name);
        rolls.change(&name, ticket, |known| *known = record);
        drop(rolls);
        self.follow_up(&name, next);
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

    /// Why a roll that began then failed, with the app's own last lines; nothing when it did not.
    async fn why(&self, units: &AppUnits<'_>, outcome: &Outcome, culprit: Option<Instance>, begin: u64) -> Option<String> {
        let mut reason = match outcome {
            Outcome::AllNew => return None,
            Outcome::Overtaken => return Some(format!("{} was stopped or restarted meanwhile", units.handle())),
            Outcome::AllOld { reason } => format!("{reason}. The old workers serve as before"),
            Outcome::Mixed { reason, who } => {
                let who: Vec<String> = who.iter().map(|(worker, stage)| format!("{worker} ({})", stage.name())).collect();
                format!("{reason}. Left in a mix: {}", who.join(", "))
            }
        };
        if let Some(instance) = culprit {
            for line in self.journal.last_lines(&units.worker(&instance), begin * 1000, LINES).await {
                reason.push_str(&format!("\n{line}"));
            }
        }
        Some(reason)
    }

    /// Remembers how a roll ended.
    fn finish(&self, name: &AppName, to: Version, outcome: &Outcome, reason: Option<&str>) {
        self.remember(name, |intent| match (reason, outcome) {
            (None, _) => {
                (intent.generation, intent.pin) = (Some(to.generation), to.pin);
                intent.held = None;
            }
            (Some(_), Outcome::Overtaken) => {}
            (Some(reason), _) => intent.held = Some(Hold { since_ms: unix_ms(), reason: reason.to_owned(), generation: to.generation }),
        });
    }
}

/// The journal's lines of an end.
fn announce(name: &AppName, to: Version, took_ms: u64, reason: Option<&str>) {
    let Some(reason) = reason else {
        say!(Notice, "{name}: roll to generation {to} done in {took_ms} ms");
        return;
    };
    let mut lines = reason.lines();
    say!(Error, "{name}: roll to generation {to} failed after {took_ms} ms: {}", lines.next().unwrap_or_default());
    lines.for_each(|line| say!(Error, "{name}: {line}"));
}
