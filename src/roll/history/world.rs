//! The world of a history: workers under a systemd that has no more than a roll sees of one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fate, Old, Scenario};
use crate::names::{Generation, Instance, Slot};
use crate::roll::plan::Version;
use crate::roll::stage::{Sight, World};
use crate::systemd::{ActiveState, JobEnd, Verb};

pub(super) const OLD: Version = Version { generation: Generation(4), pin: None };

/// Delay of an automatic restart, and how long a stop takes.
pub(super) const RESTART: u64 = 100;
const STOP: u64 = 300;

#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub state: ActiveState,
    pub job: Option<Verb>,
    /// The life that hears how the job ends.
    asker: Option<u32>,
    /// Never gets ready.
    ill: bool,
    /// In the delay of an automatic restart.
    delayed: bool,
    fate: Fate,
    epoch: u64,
}

impl Unit {
    fn new(state: ActiveState) -> Self {
        Self { state, job: None, asker: None, ill: false, delayed: false, fate: Fate::Ready(50), epoch: 0 }
    }
}

/// What is due.
#[derive(Debug, Clone)]
pub(super) enum Due {
    /// A unit moves on, unless it did otherwise meanwhile.
    Unit(Instance, u64),
    /// A life hears of the end of a job.
    Told {
        life: u32,
        instance: Instance,
        verb: Verb,
        /// None where nobody can tell.
        end: Option<Result<JobEnd, String>>,
    },
    /// The master reads everything.
    Read,
    Poll,
    Timer,
    Blow(super::Blow),
    /// The master is back.
    Back,
    /// Somebody says a word to a roll that is paused: whether it is `resume`.
    Word(bool),
    /// The handle's start step brings workers up; and is done.
    HandleStarts,
    HandleUp(Version),
}

pub(super) struct Units {
    pub now: u64,
    pub units: BTreeMap<Instance, Unit>,
    pub due: BTreeMap<(u64, u64), Due>,
    /// None where nobody will read it: most histories are fine.
    pub log: Option<Vec<String>>,
    /// Workers that the roll asked to stop and that have not come back.
    pub retiring: BTreeSet<Instance>,
    /// Workers that were up, are not, and that is not the roll's doing.
    pub lost: BTreeSet<Instance>,
    signals_lost: bool,
    /// A start in the delay of an automatic restart begins at once, as from systemd 257 on; else it waits for its end.
    hurries: bool,
    fates: BTreeMap<u64, Vec<Fate>>,
    /// Those of a generation that was not started yet.
    new: Vec<Fate>,
    count: u64,
}

impl Units {
    pub fn new(scenario: &Scenario, logged: bool) -> Self {
        let mut world = Self {
            now: 1_000_000,
            units: BTreeMap::new(),
            due: BTreeMap::new(),
            log: logged.then(Vec::new),
            retiring: BTreeSet::new(),
            lost: BTreeSet::new(),
            signals_lost: scenario.signals_lost,
            hurries: scenario.hurries,
            fates: [(OLD.generation.0, scenario.again.clone())].into(),
            new: scenario.new.clone(),
            count: 0,
        };
        let mut add = |slot: u16, attempt, state, ill| {
            let unit = Unit { ill, delayed: ill, ..Unit::new(state) };
            world.units.insert(OLD.worker(Slot::new(slot).unwrap(), attempt), unit);
        };
        let surplus = std::iter::repeat_n(&Old::Up, scenario.surplus);
        for (slot, old) in (1..).zip(scenario.old.iter().chain(surplus)) {
            match old {
                Old::Absent => {}
                Old::Ill => add(slot, 1, ActiveState::Activating, true),
                Old::Up => add(slot, 1, ActiveState::Active, false),
                Old::Draining => {
                    add(slot, 1, ActiveState::Deactivating, false);
                    add(slot, 2, ActiveState::Active, false);
                }
                Old::Twice => {
                    add(slot, 1, ActiveState::Active, false);
                    add(slot, 2, ActiveState::Active, false);
                }
            }
        }
        for instance in world.units.keys().copied().collect::<Vec<_>>() {
            if world.units[&instance].state == ActiveState::Deactivating {
                world.later(instance, 4000);
            }
        }
        world
    }

    pub fn at(&mut self, time: u64, due: Due) {
        self.count += 1;
        self.due.insert((time, self.count), due);
    }

    pub fn say(&mut self, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>6} ms  {}", self.now - 1_000_000, text()));
        }
    }

    /// One whole reading, as systemd would give it.
    pub fn read(&self) -> World {
        let loaded = self.units.iter().filter(|(_, unit)| unit.state != ActiveState::Inactive || unit.job.is_some());
        loaded
            .map(|(instance, unit)| {
                (*instance, Sight { state: unit.state, starting: unit.job == Some(Verb::Start), stopping: unit.job == Some(Verb::Stop) })
            })
            .collect()
    }

    pub fn state(&self, instance: &Instance) -> ActiveState {
        self.units.get(instance).map_or(ActiveState::Inactive, |unit| unit.state)
    }

    fn later(&mut self, instance: Instance, after: u64) {
        let epoch = self.units[&instance].epoch;
        self.at(self.now + after, Due::Unit(instance, epoch));
    }

    fn set(&mut self, instance: Instance, state: ActiveState) {
        let unit = self.units.get_mut(&instance).unwrap();
        let was = std::mem::replace(&mut unit.state, state);
        unit.epoch += 1;
        if state == ActiveState::Active {
            self.lost.remove(&instance);
        } else if was == ActiveState::Active && !self.retiring.contains(&instance) {
            self.lost.insert(instance);
        }
        self.say(|| format!("{instance} is {state}"));
        if !self.signals_lost {
            self.at(self.now + 1, Due::Read);
        }
    }

    fn end_job(&mut self, instance: Instance, end: JobEnd) {
        let unit = self.units.get_mut(&instance).unwrap();
        if let (Some(verb), Some(life)) = (unit.job.take(), unit.asker.take()) {
            self.at(self.now + 1, Due::Told { life, instance, verb, end: Some(Ok(end)) });
        }
    }

    /// A job, mode `replace`, asked for by a life of the master or by a person.
    pub fn call(&mut self, verb: Verb, instance: Instance, asker: Option<u32>) {
        let unit = self.units.entry(instance).or_insert_with(|| Unit::new(ActiveState::Inactive));
        if unit.job == Some(verb) {
            unit.asker = asker.or(unit.asker);
            return;
        }
        self.end_job(instance, JobEnd::Canceled);
        let unit = self.units.get_mut(&instance).unwrap();
        (unit.job, unit.asker) = (Some(verb), asker);
        let (delayed, ill) = (unit.delayed, unit.ill);
        match (verb, unit.state) {
            (Verb::Stop, _) if delayed => {
                unit.delayed = false;
                self.set(instance, ActiveState::Inactive);
                self.end_job(instance, JobEnd::Done);
            }
            (Verb::Start, _) if delayed && ill => self.later(instance, RESTART),
            (Verb::Start, _) if delayed && self.hurries => self.start(instance),
            (Verb::Start, _) if delayed => {}
            (Verb::Stop, ActiveState::Active | ActiveState::Activating) => {
                self.set(instance, ActiveState::Deactivating);
                self.later(instance, STOP);
            }
            (Verb::Start, ActiveState::Inactive | ActiveState::Failed) => self.start(instance),
            (_, ActiveState::Deactivating) => {}
            _ => self.end_job(instance, JobEnd::Done),
        }
    }

    fn start(&mut self, instance: Instance) {
        if self.retiring.remove(&instance) {
            self.lost.insert(instance);
        }
        let fates = self.fates.entry(instance.generation.0).or_insert_with(|| self.new.clone());
        fates.rotate_left(1);
        let fate = fates[fates.len() - 1];
        let unit = self.units.get_mut(&instance).unwrap();
        (unit.fate, unit.delayed) = (fate, false);
        self.set(instance, ActiveState::Activating);
        let (Fate::Ready(after) | Fate::Fails(after) | Fate::Dies(after, _)) = fate;
        self.later(instance, after);
    }

    /// A unit's time has come.
    pub fn move_on(&mut self, instance: Instance, epoch: u64) {
        let unit = self.units[&instance].clone();
        if unit.epoch != epoch {
            return;
        }
        match (unit.state, unit.job, unit.fate) {
            (ActiveState::Deactivating, job, _) => {
                self.set(instance, ActiveState::Inactive);
                if job == Some(Verb::Start) {
                    self.start(instance);
                }
                self.end_job_if(instance, Verb::Stop);
            }
            // Who asked for a start in the delay hears the end of this one.
            (_, Some(_), _) if unit.delayed && unit.ill => self.end_job(instance, JobEnd::Failed),
            (_, None, _) if unit.delayed && unit.ill => {}
            (..) if unit.delayed => {
                self.units.get_mut(&instance).unwrap().job = Some(Verb::Start);
                self.start(instance);
            }
            (ActiveState::Activating, _, Fate::Fails(_)) => {
                self.comes_back(instance);
                self.end_job(instance, JobEnd::Failed);
            }
            (ActiveState::Activating, _, Fate::Ready(_) | Fate::Dies(..)) => {
                self.set(instance, ActiveState::Active);
                self.end_job(instance, JobEnd::Done);
                if let Fate::Dies(_, after) = unit.fate {
                    self.later(instance, after);
                }
            }
            (ActiveState::Active, _, _) => self.crash(instance),
            _ => {}
        }
    }

    fn end_job_if(&mut self, instance: Instance, verb: Verb) {
        if self.units[&instance].job == Some(verb) {
            self.end_job(instance, JobEnd::Done);
        }
    }

    pub fn crash(&mut self, instance: Instance) {
        if self.state(&instance) == ActiveState::Active {
            self.comes_back(instance);
        }
    }

    /// Its automatic restart.
    fn comes_back(&mut self, instance: Instance) {
        self.set(instance, ActiveState::Activating);
        self.units.get_mut(&instance).unwrap().delayed = true;
        self.later(instance, RESTART);
    }
}
