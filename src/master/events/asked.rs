//! What this master has asked of systemd, so that an event can say who did it.
//!
//! [`Noted`] is systemd as the master uses it: it notes each job before it is asked for. A note is forgotten once its job
//! has ended and a reading begun after that shows the unit at rest, so that nobody else's doing is taken for ours.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::api::events::By;
use crate::master::under_way;
use crate::master::world::World;
use crate::roll::plan::Scope;
use crate::systemd::{ActiveState, Change, Details, Error, JobEnd, Systemd, UnitState, Verb};

/// More notes than a cluster has units: those whose jobs have ended go, if systemd cannot be read for long.
const NOTES: usize = 16_384;

/// One job that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Note {
    serial: u64,
    verb: Verb,
    who: Who,
    ended: bool,
}

/// Who asked for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// A roll or a person.
    pub by: By,
    /// The roll's number.
    pub roll: Option<u64>,
    /// Which person, program or token, where that is known: `"user 1000"`, `"token ci"`.
    pub asked_by: Option<String>,
}

impl Who {
    /// A person, by a request.
    pub const OPERATOR: Self = Self { by: By::Operator, roll: None, asked_by: None };
    /// Nobody here.
    pub const OUTSIDE: Self = Self { by: By::Outside, roll: None, asked_by: None };

    /// A roll that this one asked for: of a whole app it is one, and for single workers a person's hand.
    pub fn roll(number: u64, scope: &Scope, asked_by: Option<String>) -> Self {
        match scope {
            Scope::App => Self { by: By::Roll, roll: Some(number), asked_by: None },
            Scope::Slots(_) => Self { by: By::Operator, roll: Some(number), asked_by },
        }
    }
}

/// The jobs that were asked for, the latest of each unit.
#[derive(Debug, Default)]
pub struct Ledger {
    notes: Mutex<(u64, BTreeMap<String, Note>)>,
}

impl Ledger {
    /// Notes a job; its number.
    pub fn note(&self, unit: &str, verb: Verb, who: Who) -> u64 {
        let mut notes = self.lock();
        notes.0 += 1;
        let serial = notes.0;
        if notes.1.len() >= NOTES {
            notes.1.retain(|_, note| !note.ended);
        }
        notes.1.insert(unit.to_owned(), Note { serial, verb, who, ended: false });
        serial
    }

    /// The job with this number has ended, or nobody waits for it any more.
    pub fn end(&self, unit: &str, serial: u64) {
        if let Some(note) = self.lock().1.get_mut(unit).filter(|note| note.serial == serial) {
            note.ended = true;
        }
    }

    /// Who of us asked for this unit to stop (or to start).
    pub fn who(&self, unit: &str, stop: bool) -> Option<Who> {
        let notes = self.lock();
        let note = notes.1.get(unit)?;
        let fits = if stop { note.verb != Verb::Start } else { note.verb != Verb::Stop };
        fits.then(|| note.who.clone())
    }

    /// The numbers of the last jobs that have ended: what a reading that begins now will show.
    pub fn ended(&self) -> Vec<u64> {
        self.lock().1.values().filter(|note| note.ended).map(|note| note.serial).collect()
    }

    /// Forgets those of [`Self::ended`] whose units are at rest in the reading begun after it.
    pub fn settle(&self, ended: &[u64], world: &World) {
        let rests = |unit: &str| {
            world.get(unit).is_none_or(|seen| {
                seen.state.job.is_none() && !matches!(seen.state.active, ActiveState::Activating | ActiveState::Deactivating)
            })
        };
        self.lock().1.retain(|unit, note| !ended.contains(&note.serial) || !rests(unit));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (u64, BTreeMap<String, Note>)> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// systemd, with each job noted.
#[derive(Debug)]
pub struct Noted<S> {
    inner: Arc<S>,
    ledger: Arc<Ledger>,
    who: Who,
}

impl<S: Systemd> Noted<S> {
    /// For what persons ask.
    pub fn new(inner: Arc<S>) -> Self {
        Self { inner, ledger: Arc::default(), who: Who::OPERATOR }
    }
    /// The same systemd and ledger, for what a roll asks.
    pub fn for_roll(&self, who: Who) -> Self {
        Self { inner: Arc::clone(&self.inner), ledger: Arc::clone(&self.ledger), who }
    }
    /// What was asked.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

/// Ends a note, also when nobody waits for its job any more.
struct Ending<'a> {
    ledger: &'a Ledger,
    unit: &'a str,
    serial: u64,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.ledger.end(self.unit, self.serial);
    }
}

impl<S: Systemd> Systemd for Noted<S> {
    async fn units(&self, patterns: &[String]) -> Result<Vec<UnitState>, Error> {
        self.inner.units(patterns).await
    }
    async fn details(&self, unit: &str) -> Result<Details, Error> {
        self.inner.details(unit).await
    }
    async fn active_since(&self, unit: &str) -> Result<u64, Error> {
        self.inner.active_since(unit).await
    }
    async fn job(&self, verb: Verb, unit: &str, limit: Duration) -> Result<JobEnd, Error> {
        // It neither starts nor stops anything.
        if verb == Verb::Reload {
            return self.inner.job(verb, unit, limit).await;
        }
        let mut who = self.who.clone();
        if who.by == By::Operator && who.asked_by.is_none() {
            who.asked_by = under_way::asker();
        }
        let serial = self.ledger.note(unit, verb, who);
        let _ending = Ending { ledger: &self.ledger, unit, serial };
        self.inner.job(verb, unit, limit).await
    }
    async fn reset_failed(&self, unit: &str) -> Result<(), Error> {
        self.inner.reset_failed(unit).await
    }
    async fn settle(&self) -> Result<(), Error> {
        self.inner.settle().await
    }
    fn changes(&self) -> tokio::sync::broadcast::Receiver<Change> {
        self.inner.changes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "project-cluster-api@1.1.1.service";

    fn world(active: ActiveState) -> World {
        let mut world = World::default();
        let row = UnitState { name: UNIT.into(), active, sub: String::new(), job: None, masked: false, gone: false };
        world.update(None, vec![(row, Details::default())]);
        world
    }

    #[test]
    fn a_note_lives_until_a_later_reading_shows_its_unit_at_rest() {
        let ledger = Ledger::default();
        let serial = ledger.note(UNIT, Verb::Stop, Who::OPERATOR);
        assert_eq!(ledger.who(UNIT, true), Some(Who::OPERATOR));
        assert_eq!(ledger.who(UNIT, false), None, "nobody asked for a start");
        // A reading that began while the job ran.
        let began = ledger.ended();
        ledger.end(UNIT, serial);
        ledger.settle(&began, &world(ActiveState::Inactive));
        assert!(ledger.who(UNIT, true).is_some());
        // Nobody waits any more, and it is still on its way down.
        let began = ledger.ended();
        ledger.settle(&began, &world(ActiveState::Deactivating));
        assert!(ledger.who(UNIT, true).is_some());
        ledger.settle(&began, &world(ActiveState::Inactive));
        assert_eq!(ledger.who(UNIT, true), None);
    }

    #[test]
    fn the_latest_counts_and_an_end_of_an_earlier_one_does_not() {
        let ledger = Ledger::default();
        let first = ledger.note(UNIT, Verb::Start, Who::roll(7, &Scope::App, None));
        ledger.note(UNIT, Verb::Stop, Who::roll(7, &Scope::App, None));
        ledger.end(UNIT, first);
        assert_eq!(ledger.ended(), Vec::<u64>::new());
        assert_eq!(ledger.who(UNIT, true), Some(Who { by: By::Roll, roll: Some(7), asked_by: None }));
    }
}
