//! Writes a roll down before each step, and tells who watches: the API's clients, the journal, `systemctl status`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::kept::{self, Kept};
use super::{lock, what};
use crate::api::events::{By, Kind};
use crate::api::types;
use crate::master::Master;
use crate::names::{AppName, Instance};
use crate::roll::execute::{Clock, Keeper};
use crate::roll::machine::Roll;
use crate::roll::plan::Target;
use crate::roll::queue::Ticket;
use crate::roll::words::{self, Step};
use crate::say::say;
use crate::systemd::{Error, Systemd};

/// The keeper of one roll.
pub(super) struct Recorder<S> {
    pub master: Arc<Master<S>>,
    pub app: AppName,
    pub ticket: Ticket,
    /// When it began, by its clock.
    pub begin: u64,
    /// Since when the handle had been active then.
    pub handle_since: u64,
    pub clock: Clock,
    /// The first worker that made it turn back: its last lines are the reason.
    pub culprit: Arc<Mutex<Option<Instance>>>,
    pub path: PathBuf,
}

impl<S: Systemd> Recorder<S> {
    /// Puts a step into the record; how many slots are served, of how many.
    fn note(&self, text: String, roll: &Roll) -> (usize, usize) {
        let at_ms = self.clock.now().saturating_sub(self.begin);
        let served = roll.served();
        lock(&self.master.rolls).step(&self.app, self.ticket, served, types::Step { at_ms, text });
        served
    }

    /// What a hook of the roll does.
    pub fn tell(&mut self, kind: Kind, text: String, unit: Option<&str>, roll: &Roll) {
        if kind == Kind::HookFailed {
            say!(Warning, "{}: {text}", self.app);
        } else {
            say!(Info, "{}: {text}", self.app);
        }
        self.master.tell_hook(kind, &self.app, self.ticket.0, roll.plan().to.generation, unit, &text);
        crate::status::tell(&format!("{}: {text}", what(&self.app, roll.plan())));
        self.note(text, roll);
    }
}

impl<S: Systemd> Keeper for Recorder<S> {
    fn persist(&mut self, roll: &Roll) -> Result<(), String> {
        let rolls = lock(&self.master.rolls);
        let record = rolls.get(&self.app, self.ticket.0).ok_or("its record is gone")?;
        let before = rolls.last_ended(&self.app);
        drop(rolls);
        let culprit = *lock(&self.culprit);
        kept::write(&self.path, &Kept::under_way(record, self.begin, self.handle_since, culprit, roll).behind(before))
            .map_err(|why| format!("{}: {why}", self.path.display()))
    }

    fn report(&mut self, step: &Step, roll: &Roll) {
        if let Step::Failed(instance, _) | Step::Left(instance, _) | Step::Stuck(instance, _) = step
            && roll.is_new(instance)
        {
            lock(&self.culprit).get_or_insert(*instance);
        }
        let text = step.text(&self.app);
        match step {
            Step::Paused(_) => say!(Warning, "{}: {text}. {}", self.app, words::paused(&self.app)),
            _ => say!(Info, "{}: {text}", self.app),
        }
        self.master.tell_roll(Kind::RollStep, &self.app, Some(By::Roll), self.ticket.0, Some(roll.plan().to.generation), text.clone());
        match step {
            Step::Paused(why) => lock(&self.master.rolls).turn(&self.app, self.ticket, Some(why.clone())),
            Step::Resumed | Step::GoingBack(_) => lock(&self.master.rolls).turn(&self.app, self.ticket, None),
            _ => {}
        }
        let (ready, target) = self.note(text, roll);
        crate::status::tell(&format!("{}: {ready} of {target} ready", what(&self.app, roll.plan())));
    }

    fn trouble(&mut self, error: &Error) {
        say!(Warning, "{}: {error}; the roll goes on", self.app);
    }

    fn emptied(&mut self, workers: &[Instance]) -> Option<Target> {
        self.master.believe(&self.app, workers)
    }
}
