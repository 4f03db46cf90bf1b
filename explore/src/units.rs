//! A systemd that has no more than a roll sees of one. Each thing that it does is a step of its own, so that anything else can
//! happen between two of them.

use std::collections::BTreeMap;

use crate::names::Instance;
use crate::roll::laws::Told;
use crate::roll::stage::{Sight, World};
use crate::systemd::{ActiveState, JobEnd, Verb};

/// Where a unit stands. One that does not run is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    /// Starting; gets ready or fails.
    Starting,
    /// It ended; systemd starts it again after a while.
    Delayed,
    /// In a crash loop without end.
    Ill,
    Up,
    /// On its way down.
    Down,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unit {
    pub life: Life,
    pub job: Option<Verb>,
    /// This master and this roll asked for that job, and will hear how it ends.
    pub heard: bool,
    /// The roll has asked it to stop, as far as it knows.
    pub retiring: bool,
    /// The roll has tried to.
    pub unwanted: bool,
    /// The roll has started it on its way forward.
    pub new: bool,
    pub told: Told,
    /// How often systemd has restarted it by itself.
    pub restarts: u8,
    /// A person has asked it to stop.
    pub by_hand: bool,
}

impl Unit {
    pub fn new(life: Life) -> Self {
        let told = Told::NotUp;
        Self { life, job: None, heard: false, retiring: false, unwanted: false, new: false, told, restarts: 0, by_hand: false }
    }

    pub fn state(&self) -> ActiveState {
        match self.life {
            Life::Starting | Life::Delayed | Life::Ill => ActiveState::Activating,
            Life::Up => ActiveState::Active,
            Life::Down => ActiveState::Deactivating,
        }
    }

    /// Whether it does anything by itself.
    pub fn goes_on(&self) -> bool {
        !matches!((self.life, self.job), (Life::Up, _) | (Life::Ill, None))
    }

    /// Not on its way down, and nobody asked for that.
    pub fn stands(&self) -> bool {
        !self.retiring && self.life != Life::Down
    }
}

/// How a job went, as the master is about to hear it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// And how its unit stood at that moment.
    Job(JobEnd, ActiveState),
    /// The call was refused.
    Refused,
    /// The call never arrived, and nobody can say so.
    Lost,
}

/// The units of the app, and the ends of jobs that are still to be told.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Units {
    pub all: BTreeMap<Instance, Unit>,
    pub ends: BTreeMap<(Instance, bool), End>,
}

fn is_stop(verb: Verb) -> bool {
    verb == Verb::Stop
}

impl Units {
    pub fn read(&self) -> World {
        self.all
            .iter()
            .map(|(worker, unit)| {
                (*worker, Sight { state: unit.state(), starting: unit.job == Some(Verb::Start), stopping: unit.job == Some(Verb::Stop) })
            })
            .collect()
    }

    pub fn state(&self, worker: &Instance) -> ActiveState {
        self.all.get(worker).map_or(ActiveState::Inactive, Unit::state)
    }

    /// Whoever awaited jobs is gone.
    pub fn forget(&mut self) {
        self.ends.clear();
        self.all.values_mut().for_each(|unit| unit.heard = false);
    }

    /// What the master will hear instead of a job's end.
    pub fn will_hear(&mut self, worker: Instance, verb: Verb, end: End) {
        self.ends.insert((worker, is_stop(verb)), end);
    }

    fn end_job(&mut self, worker: Instance, end: JobEnd) {
        let Some(unit) = self.all.get_mut(&worker) else { return };
        let (job, heard) = (unit.job.take(), std::mem::take(&mut unit.heard));
        if let Some(verb) = job.filter(|_| heard) {
            let state = unit.state();
            self.will_hear(worker, verb, End::Job(end, state));
        }
    }

    fn goes(&mut self, worker: Instance, end: Option<JobEnd>) {
        if let Some(unit) = self.all.remove(&worker)
            && let (Some(verb), true, Some(end)) = (unit.job, unit.heard, end)
        {
            self.will_hear(worker, verb, End::Job(end, ActiveState::Inactive));
        }
    }

    /// A job, mode `replace`, asked for by the master or by a person.
    pub fn call(&mut self, verb: Verb, worker: Instance, heard: bool) {
        if !self.all.contains_key(&worker) {
            if verb == Verb::Stop {
                if heard {
                    self.will_hear(worker, verb, End::Job(JobEnd::Done, ActiveState::Inactive));
                }
                return;
            }
            self.all.insert(worker, Unit { job: Some(verb), heard, ..Unit::new(Life::Starting) });
            return;
        }
        if self.all[&worker].job == Some(verb) {
            if let Some(unit) = self.all.get_mut(&worker) {
                unit.heard |= heard;
            }
            return;
        }
        self.end_job(worker, JobEnd::Canceled);
        let Some(unit) = self.all.get_mut(&worker) else { return };
        (unit.job, unit.heard) = (Some(verb), heard);
        match (verb, unit.life) {
            (Verb::Stop, Life::Delayed | Life::Ill) => self.goes(worker, Some(JobEnd::Done)),
            (Verb::Stop, _) => unit.life = Life::Down,
            (_, Life::Up) => self.end_job(worker, JobEnd::Done),
            // It waits for the end of the delay, or of the stop.
            _ => {}
        }
    }

    /// The next thing that this unit does by itself.
    pub fn go_on(&mut self, worker: Instance) {
        let Some(unit) = self.all.get_mut(&worker) else { return };
        match (unit.life, unit.job) {
            (Life::Starting, _) => {
                unit.life = Life::Up;
                self.end_job(worker, JobEnd::Done);
            }
            (Life::Delayed, _) => {
                (unit.life, unit.job) = (Life::Starting, Some(Verb::Start));
                unit.restarts += 1;
            }
            (Life::Ill, Some(_)) => self.end_job(worker, JobEnd::Failed),
            (Life::Down, Some(Verb::Start)) => {
                *unit = Unit { job: unit.job, heard: unit.heard, new: unit.new, ..Unit::new(Life::Starting) };
            }
            (Life::Down, _) => self.goes(worker, Some(JobEnd::Done)),
            _ => {}
        }
    }

    /// It ends, and systemd brings it back: once, or again and again in vain.
    pub fn fail(&mut self, worker: Instance, ill: bool) {
        if let Some(unit) = self.all.get_mut(&worker) {
            unit.life = if ill { Life::Ill } else { Life::Delayed };
            self.end_job(worker, JobEnd::Failed);
        }
    }

    /// systemd gives a job up, and its unit goes on.
    pub fn time_out(&mut self, worker: Instance) {
        if let Some(unit) = self.all.get_mut(&worker)
            && unit.job.is_some()
        {
            // A start that is not ready in time is ended.
            if unit.life == Life::Starting {
                unit.life = Life::Delayed;
            }
            self.end_job(worker, JobEnd::Timeout);
        }
    }
}
