//! How a roll lies in `/run/NAME/state`, and how a new master takes it up.
//!
//! `/run`, not `/var`: a reboot ends every roll. Beside it lies a mark when a reload waits behind the roll.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::records::unix_ms;
use super::{Begun, clock, lock, what};
use crate::api::events::{By, Kind};
use crate::api::types::{self, RollState};
use crate::files;
use crate::formats::{self, Unread};
use crate::intent::Hold;
use crate::master::events::asked::Who;
use crate::master::{Master, Places};
use crate::names::{AppName, Generation, Instance};
use crate::points::pass;
use crate::roll::machine::{Phase, Roll};
use crate::roll::order::Order;
use crate::roll::queue::Ticket;
use crate::say::say;
use crate::systemd::Systemd;

/// A roll of a thousand workers is a quarter of a MiB.
const FILE: u64 = 8 * 1024 * 1024;
/// Steps that are kept: each writing writes them all.
const STEPS: usize = 200;

/// Format of the file, raised when another program could misread it. 2: rolls of single slots. 3: canaries, and rolls that
/// are paused.
pub(crate) const FORMAT: u32 = 3;

/// A roll as it lies in its file: under way, or ended and kept for who still waits for it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Format at the time of writing; the first had no number.
    #[serde(default = "Kept::first_format")]
    format: u32,
    /// What clients see of it.
    record: types::Roll,
    /// When it began, milliseconds of `CLOCK_MONOTONIC`.
    begin: u64,
    /// Since when the handle had been active then.
    handle_since: u64,
    /// The worker that made it turn back.
    culprit: Option<Instance>,
    /// The roll; none once its end has been remembered.
    roll: Option<Roll>,
    /// The one before, which ended: who waits for it may not have heard so yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<types::Roll>,
}

/// Format of what waits, raised when another program could misread it. The first was an empty file: a reload. 3: a rollback,
/// which a program that knows 2 takes for a reload, and other canaries than configured.
pub(crate) const NEXT_FORMAT: u32 = 3;

/// What waits behind a roll, as it lies beside it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// Format at the time of writing; some that are read have none.
    #[serde(default)]
    format: u32,
    #[serde(flatten)]
    order: Order,
    /// The number that its roll will have, where it has one yet: a roll of that number has begun it.
    #[serde(default)]
    ticket: Option<u64>,
}

formats::numbered!(Kept, FORMAT);
formats::numbered!(Waiting, NEXT_FORMAT);

impl Kept {
    /// One that goes on.
    pub fn under_way(record: types::Roll, begin: u64, handle_since: u64, culprit: Option<Instance>, roll: &Roll) -> Self {
        Self { format: FORMAT, record: short(record), begin, handle_since, culprit, roll: Some(roll.clone()), before: None }
    }
    /// Behind that one.
    #[must_use]
    pub fn behind(self, before: Option<types::Roll>) -> Self {
        Self { before: before.map(short), ..self }
    }
    /// One whose end has been remembered.
    pub fn ended(record: types::Roll) -> Self {
        Self { format: FORMAT, record: short(record), begin: 0, handle_since: 0, culprit: None, roll: None, before: None }
    }

    fn first_format() -> u32 {
        1
    }

    /// From what lies in the file, whichever program wrote it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Unread> {
        let mut kept: Self = formats::parse(bytes)?;
        if kept.format < 2 {
            kept.roll = kept.roll.map(Roll::upgraded);
        }
        Ok(kept)
    }
}

/// With its last steps alone.
fn short(mut record: types::Roll) -> types::Roll {
    record.steps.drain(..record.steps.len().saturating_sub(STEPS));
    record
}

/// Replaces the file.
pub(super) fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let what = if kept.roll.is_some() { "the roll" } else { "its end" };
    pass(format_args!("{what} is to be written"));
    files::replace(path, &serde_json::to_vec(kept)?, 0o600)?;
    pass(format_args!("{what} is written"));
    Ok(())
}

fn read(path: &Path) -> io::Result<Kept> {
    Kept::parse(&files::read_bounded(path, FILE)?).map_err(|why| why.of(path))
}

/// A file as the master before may have left it; its roll.
#[cfg(any(test, fuzzing))]
pub(in crate::master) fn fuzz(data: &[u8]) -> Option<Roll> {
    if let Ok(waiting) = Waiting::parse(data) {
        let written = serde_json::to_vec(&waiting).ok();
        let again = written.and_then(|written| Waiting::parse(&written).ok());
        assert!(again.is_some_and(|again| (&again.order, again.ticket) == (&waiting.order, waiting.ticket)), "{waiting:?}");
    }
    let kept = Kept::parse(data).ok()?;
    crate::fuzz::comes_back(&kept.record);
    assert!(short(kept.record).steps.len() <= STEPS);
    kept.roll
}

/// Writes down what waits behind a roll, or that nothing does.
pub(in crate::master) fn mark_next(places: &Places, name: &AppName, waits: Option<(Option<Ticket>, Order)>) {
    let path = places.next_roll(name);
    let what = if waits.is_some() { "what waits" } else { "that nothing waits" };
    pass(format_args!("{what} is to be written"));
    let done = match waits {
        Some((ticket, order)) => {
            let waiting = Waiting { format: NEXT_FORMAT, order, ticket: ticket.map(|ticket| ticket.0) };
            serde_json::to_vec(&waiting).map_err(io::Error::from).and_then(|waiting| files::replace(&path, &waiting, 0o600))
        }
        None => std::fs::remove_file(&path).or_else(|why| if why.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(why) }),
    };
    match done {
        Err(why) => say!(Warning, "{}: {why}", path.display()),
        Ok(()) => pass(format_args!("{what} is written")),
    }
}

impl Waiting {
    /// From what lies in the file, whichever program wrote it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Unread> {
        if bytes.is_empty() {
            return Ok(Self { format: NEXT_FORMAT, order: Order::deploy(), ticket: None });
        }
        formats::parse(bytes)
    }
}

/// What waits behind a roll. Where that cannot be read nobody is known to have asked for another generation: what is
/// wanted is made to run, which takes no more than what is remembered.
fn next(places: &Places, name: &AppName) -> Option<Waiting> {
    let path = places.next_roll(name);
    match files::read_bounded(&path, FILE).and_then(|bytes| Waiting::parse(&bytes).map_err(|why| why.of(&path))) {
        Ok(waiting) => Some(waiting),
        Err(why) if why.kind() == io::ErrorKind::NotFound => None,
        Err(why) => {
            say!(
                Critical,
                "{name}: what waited behind a roll cannot be read ({why}); {}. Only what is remembered is carried out: if it was a reload, `project-cluster reload {name}`",
                aside(&path)
            );
            Some(Waiting { format: NEXT_FORMAT, order: Order::default(), ticket: None })
        }
    }
}

/// Moves a damaged file aside and says where it is.
fn aside(path: &Path) -> String {
    match files::set_aside(path) {
        Ok(aside) => format!("it was moved to {}", aside.display()),
        Err(why) => format!("{} cannot be moved aside ({why})", path.display()),
    }
}

impl<S: Systemd> Master<S> {
    /// Kept before it is told: who waits and finds a new master gets the same answer.
    pub(super) fn keep_end(&self, record: &types::Roll) {
        let (name, path) = (&record.app, self.places.roll(&record.app));
        let before = lock(&self.rolls).last_ended(name);
        if let Err(why) = write(&path, &Kept::ended(record.clone()).behind(before)) {
            say!(Warning, "{name}: the end of the roll cannot be kept for a master to come ({why}): {}", path.display());
        }
    }

    /// Takes up the rolls that the master before was carrying out, and those that waited behind them; of which apps these
    /// are, those too of which nobody can tell any more. The world must have been read.
    pub(in crate::master) fn take_up(self: &Arc<Self>) -> BTreeSet<AppName> {
        let mut rolled = BTreeSet::new();
        for name in self.settings().apps.keys() {
            self.forget_shown(name);
            let path = self.places.roll(name);
            let waits = next(&self.places, name);
            match read(&path) {
                Err(why) if why.kind() == io::ErrorKind::NotFound => {}
                Err(why) => {
                    rolled.insert(name.clone());
                    self.lost(name, &path, &why);
                }
                Ok(Kept { record, begin, handle_since, culprit, roll: Some(roll), before, .. }) => {
                    rolled.insert(name.clone());
                    before.into_iter().for_each(|before| lock(&self.rolls).remember(before));
                    // It is this one that waited, where the master before did not live to take the mark away.
                    let waits = waits.filter(|waits| waits.ticket != Some(record.id));
                    self.resume(name, record, (begin, handle_since), culprit, roll);
                    let again = |Waiting { order, ticket, .. }: Waiting| {
                        let mut rolls = lock(&self.rolls);
                        // Who waits for it asks by its number.
                        ticket.into_iter().for_each(|ticket| rolls.skip(name, ticket.saturating_sub(1)));
                        (Some(rolls.ask(name, order.clone(), None).0), order)
                    };
                    let waits = waits.map(again);
                    mark_next(&self.places, name, waits);
                    continue;
                }
                Ok(Kept { record, roll: None, before, .. }) => {
                    before.into_iter().chain([record]).for_each(|ended| lock(&self.rolls).remember(ended));
                }
            }
            if let Some(Waiting { order, .. }) = waits {
                rolled.insert(name.clone());
                // It was to begin, and the master before did not live to do it.
                let (ticket, now) = lock(&self.rolls).ask(name, order, None);
                if let Some(order) = now {
                    tokio::spawn(self.clone().go_on(name.clone(), ticket, order));
                }
            }
        }
        rolled
    }

    fn resume(self: &Arc<Self>, name: &AppName, mut record: types::Roll, times: (u64, u64), culprit: Option<Instance>, roll: Roll) {
        let (begin, handle_since) = times;
        let roll = roll.resumed();
        let clock = clock();
        say!(Notice, "{}: taken up by a new master", what(name, roll.plan()));
        let step = types::Step { at_ms: clock.now().saturating_sub(begin), text: "taken up by a new master".into() };
        let mut rolls = lock(&self.rolls);
        if let Phase::Paused { reason, .. } = roll.phase() {
            (record.state, record.reason) = (RollState::Paused, Some(reason.clone()));
        }
        let asked_by = record.asked_by.clone();
        let ticket = rolls.adopt(record);
        rolls.step(name, ticket, roll.served(), step);
        drop(rolls);
        self.note_jobs_of(name, &Who::roll(ticket.0, &roll.plan().scope, asked_by));
        self.tell_roll(
            Kind::RollStep,
            name,
            Some(By::Roll),
            ticket.0,
            Some(roll.plan().to.generation),
            format!("the roll of {name} is taken up by a new master"),
        );
        tokio::spawn(self.clone().carry_out(name.clone(), Begun { ticket, roll, clock, begin, handle_since, unshown: false }, culprit));
    }

    /// The roll of before cannot be known: a person must look, so the app is held.
    fn lost(&self, name: &AppName, path: &Path, why: &io::Error) {
        let reason = format!(
            "the master was restarted during a roll, and what it kept of it cannot be read ({why}). Workers may be of two generations"
        );
        say!(Critical, "{name}: {reason}; {}. `project-cluster reload {name}` replaces them all", aside(path));
        let generation = self.highest(name).or(self.intent_of(name).generation).unwrap_or(Generation(0));
        self.remember(name, |intent| intent.held = Some(Hold::new(unix_ms(), &reason, generation)));
    }
}
