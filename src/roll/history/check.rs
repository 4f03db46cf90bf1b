//! Lives a history through and holds the invariants after every event.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{Due, NEW, OLD, Units};
use super::{Blow, Fate, Old, Scenario};
use crate::names::{Instance, Slot};
use crate::roll::machine::{Phase, Roll};
use crate::roll::plan::{Plan, Scope};
use crate::roll::words::{Action, Event, Outcome};
use crate::systemd::{ActiveState, JobEnd, Verb};

const DEADLINE: u64 = 60_000;

/// What the roll was last told of a worker, since when.
type Told = BTreeMap<Instance, (ActiveState, u64)>;

struct History<'a> {
    scenario: &'a Scenario,
    world: Units,
    roll: Roll,
    /// What lies on disk.
    kept: Roll,
    told: Told,
    /// Starts whose end it awaits: until then it does not take them for ready.
    starting: BTreeSet<Instance>,
    /// The master's lives; what an earlier one awaited, nobody hears.
    life: u32,
    alive: bool,
    dies_in: Option<usize>,
    result_lost: bool,
    call_lost: bool,
    refuse: bool,
    /// Somebody else than the roll had a hand in it.
    meddled: bool,
    left: bool,
}

/// Lives a history to its end; an error says which invariant broke, or that it ended otherwise than expected, and
/// tells the history.
pub(super) fn live(scenario: &Scenario, expected: Option<&str>) -> Result<(), String> {
    // Nothing in it is left to chance, so a second life is the same as the first.
    live_once(scenario, expected, false).or_else(|_| live_once(scenario, expected, true))
}

fn live_once(scenario: &Scenario, expected: Option<&str>, logged: bool) -> Result<(), String> {
    let mut world = Units::new(scenario, logged);
    let plan = Plan {
        app: "api".parse().unwrap(),
        from: OLD,
        to: NEW,
        scope: Scope::App,
        slots: Slot::first(u16::try_from(scenario.old.len()).unwrap()).collect(),
        surge: scenario.surge,
        unavailable: scenario.unavailable,
        min_ready: scenario.min_ready,
        deadline: DEADLINE,
    };
    let roll = Roll::new(plan, &world.read(), world.now);
    for (after, blow) in &scenario.blows {
        world.at(world.now + after, Due::Blow(*blow));
    }
    world.at(world.now, Due::Read);
    world.at(world.now + 5000, Due::Poll);
    let told = world.read().into_iter().map(|(instance, sight)| (instance, (sight.state, 0))).collect();
    let kept = roll.clone();
    let mut history = History {
        scenario,
        world,
        roll,
        kept,
        told,
        starting: BTreeSet::new(),
        life: 0,
        alive: true,
        dies_in: None,
        result_lost: false,
        call_lost: false,
        refuse: false,
        meddled: false,
        left: false,
    };
    let lived = history.go_on().and_then(|()| match (expected, history.roll.phase().name()) {
        (Some(expected), end) if end != expected => Err(format!("it ended {end} and not {expected}")),
        _ => Ok(()),
    });
    let log = history.world.log.unwrap_or_default().join("\n");
    lived.map_err(|broken| format!("{broken}\n{log}"))
}

impl History<'_> {
    fn go_on(&mut self) -> Result<(), String> {
        while !matches!(self.roll.phase(), Phase::Ended(_)) {
            let ((time, _), due) = self.world.due.pop_first().ok_or("the roll waits for nothing")?;
            // Two directions, and a master that may have been away at each end.
            if time > 1_000_000 + 2 * DEADLINE + 5000 {
                return Err("the roll does not end".into());
            }
            self.world.now = time;
            let event = match due {
                Due::Unit(instance, epoch) => {
                    self.world.move_on(instance, epoch);
                    self.nothing_lost()?;
                    continue;
                }
                Due::Told { life, instance, verb, end } if self.alive && life == self.life => {
                    self.starting.remove(&instance);
                    if std::mem::take(&mut self.result_lost) {
                        Event::JobLost { instance, verb }
                    } else {
                        let state = self.world.state(&instance);
                        self.tell(instance, state);
                        Event::JobEnded { instance, verb, end, state }
                    }
                }
                Due::Poll => {
                    self.world.at(time + 5000, Due::Read);
                    self.world.at(time + 5000, Due::Poll);
                    continue;
                }
                Due::Read if self.alive => self.read(),
                Due::Back => {
                    self.world.say(|| "the master is back".into());
                    self.alive = true;
                    let kept = serde_json::to_string(&self.kept).map_err(|error| error.to_string())?;
                    self.roll = serde_json::from_str::<Roll>(&kept).map_err(|error| error.to_string())?.resumed();
                    self.read()
                }
                Due::Timer if self.alive => Event::Timer,
                Due::Blow(blow) => match self.strike(blow) {
                    Some(event) => event,
                    None => continue,
                },
                _ => continue,
            };
            self.step(event)?;
        }
        for event in [Event::Timer, Event::World(self.world.read()), Event::HandleLeft, Event::Abort { reason: String::new() }] {
            if !self.roll.step(event, self.world.now).is_empty() {
                return Err("it acts after its end".into());
            }
        }
        Ok(())
    }

    fn tell(&mut self, instance: Instance, state: ActiveState) {
        if self.starting.contains(&instance) {
            return;
        }
        let now = self.world.now;
        let told = self.told.entry(instance).or_insert((state, now));
        if told.0 != state {
            *told = (state, now);
        }
    }

    fn read(&mut self) -> Event {
        let world = self.world.read();
        for instance in self.told.keys().chain(world.keys()).copied().collect::<Vec<_>>() {
            self.tell(instance, self.world.state(&instance));
        }
        Event::World(world)
    }

    fn strike(&mut self, blow: Blow) -> Option<Event> {
        self.world.say(|| format!("{blow:?}"));
        let chosen = |units: &Units, number: usize| units.units.keys().copied().nth(number);
        match blow {
            Blow::Crash(number) => {
                let instance = chosen(&self.world, number)?;
                self.world.crash(instance);
            }
            Blow::PersonStops(number) | Blow::PersonStarts(number) => {
                let instance = chosen(&self.world, number)?;
                let verb = if matches!(blow, Blow::PersonStops(_)) { Verb::Stop } else { Verb::Start };
                (self.world.disturbed, self.meddled) = (true, true);
                self.world.call(verb, instance, None);
            }
            Blow::Abort => return self.alive.then(|| Event::Abort { reason: "somebody said so".into() }),
            Blow::HandleLeft => {
                self.left = self.alive;
                return self.alive.then_some(Event::HandleLeft);
            }
            Blow::MasterDies(calls) => self.dies_in = Some(calls),
            Blow::ResultLost => self.result_lost = true,
            Blow::CallLost => self.call_lost = true,
            Blow::Refused => self.refuse = true,
        }
        None
    }

    fn step(&mut self, event: Event) -> Result<(), String> {
        let was = self.roll.phase().clone();
        let now = self.world.now;
        if !matches!(event, Event::World(_) | Event::Timer) {
            self.world.say(|| format!("> {event:?}"));
        }
        let actions = self.roll.step(event, now);
        if actions.iter().any(|action| matches!(action, Action::Start(_) | Action::Stop(_) | Action::Ended(_))) {
            self.kept = self.roll.clone();
        }
        let mut woken = false;
        for action in actions {
            match action {
                Action::Progress(step) => self.world.say(|| format!("< {step:?}")),
                Action::WakeAt(at) => {
                    woken = at > now;
                    self.world.at(at, Due::Timer);
                }
                Action::Ended(outcome) => {
                    self.world.say(|| format!("< {outcome:?}"));
                    self.ended(&outcome)?;
                    woken = true;
                }
                Action::Start(instance) => {
                    self.may_start(&instance)?;
                    if !self.call(Verb::Start, instance) {
                        return Ok(());
                    }
                }
                Action::Stop(instance) => {
                    self.may_stop(&instance, &was)?;
                    if !self.call(Verb::Stop, instance) {
                        return Ok(());
                    }
                }
            }
        }
        if !woken {
            return Err("a wait without a deadline".into());
        }
        let back = matches!(self.roll.phase(), Phase::Back { .. });
        if let Some((worker, _)) =
            self.roll.workers().iter().find(|(worker, known)| back && self.roll.is_new(worker) && known.stands() && !known.is_up())
        {
            return Err(format!("on its way back it keeps {worker}, which serves nobody"));
        }
        self.nothing_lost()
    }

    /// Makes a call; false when the master died instead.
    fn call(&mut self, verb: Verb, instance: Instance) -> bool {
        if let Some(calls) = self.dies_in {
            self.dies_in = calls.checked_sub(1);
            if calls == 0 {
                self.world.say(|| format!("the master dies before it can {verb} {instance}"));
                self.alive = false;
                self.life += 1;
                self.starting.clear();
                self.world.at(self.world.now + 250, Due::Back);
                return false;
            }
        }
        if std::mem::take(&mut self.call_lost) {
            self.world.say(|| format!("{verb} {instance} never arrives"));
            (self.result_lost, self.meddled) = (true, true);
            let end = Ok(JobEnd::Done);
            self.world.at(self.world.now + 1, Due::Told { life: self.life, instance, verb, end });
        } else if std::mem::take(&mut self.refuse) {
            self.world.say(|| format!("{verb} {instance} is refused"));
            self.meddled = true;
            let end = Err("no".into());
            self.world.at(self.world.now + 1, Due::Told { life: self.life, instance, verb, end });
        } else {
            if verb == Verb::Stop {
                self.world.retiring.insert(instance);
            } else {
                self.starting.insert(instance);
            }
            self.world.call(verb, instance, Some(self.life));
        }
        true
    }

    fn floor(&self) -> usize {
        self.scenario.old.len() - self.scenario.unavailable
    }

    fn told_up(&self, instance: &Instance) -> bool {
        self.told.get(instance).is_some_and(|told| told.0 == ActiveState::Active)
    }

    fn told_soaked(&self, instance: &Instance) -> bool {
        self.told_up(instance) && self.world.now >= self.told[instance].1 + self.scenario.min_ready
    }

    fn remaining(&self) -> impl Iterator<Item = &Instance> {
        self.told.keys().filter(|instance| !self.world.retiring.contains(instance))
    }

    /// Invariants 1, 4 and 8.
    fn may_stop(&self, instance: &Instance, was: &Phase) -> Result<(), String> {
        let is_new = |worker: &Instance| worker.generation == NEW.generation;
        if matches!(was, Phase::Back { .. }) && !is_new(instance) {
            return Err(format!("on its way back it touches {instance}"));
        }
        if !self.told_up(instance) {
            return Ok(());
        }
        let ready = self.remaining().filter(|other| *other != instance && self.told_up(other)).count();
        let lacking = self.scenario.old.iter().filter(|old| matches!(old, Old::Ill | Old::Absent)).count();
        let forgiven = if matches!(self.roll.phase(), Phase::Forward { .. }) { 0 } else { lacking };
        if ready + forgiven < self.floor() {
            return Err(format!("invariant 1: without {instance} only {ready} are ready"));
        }
        let soaked = |other: &&Instance| *other != instance && if is_new(other) { self.told_soaked(other) } else { self.told_up(other) };
        let replaced = self.remaining().any(|other| other.slot == instance.slot && is_new(other) && self.told_soaked(other));
        let plain = self.scenario.surplus == 0 && !self.scenario.old.contains(&Old::Twice) && !self.meddled;
        let enough = self.remaining().filter(soaked).count() >= self.floor();
        if matches!(was, Phase::Forward { .. }) && !is_new(instance) && !(replaced || enough && (self.scenario.unavailable > 0 || !plain)) {
            return Err(format!("invariant 4: {instance} goes before its replacement was ready for long enough"));
        }
        Ok(())
    }

    /// Invariants 2 and 7.
    fn may_start(&self, instance: &Instance) -> Result<(), String> {
        let unit = self.world.units.get(instance);
        if unit.is_some_and(|unit| unit.job.is_some() || !matches!(unit.state, ActiveState::Inactive | ActiveState::Failed)) {
            return Err(format!("invariant 7: {instance} is started twice"));
        }
        let lives = |instance: &&Instance| matches!(self.world.state(instance), ActiveState::Active | ActiveState::Activating);
        let standing = self.world.units.keys().filter(|other| !self.world.retiring.contains(other)).filter(lives).count();
        if !self.meddled && standing >= self.scenario.old.len() + self.scenario.surge {
            return Err(format!("invariant 2: {standing} stand and {instance} is started"));
        }
        Ok(())
    }

    /// Invariant 1 as a client sees it, as long as only the roll acts.
    fn nothing_lost(&self) -> Result<(), String> {
        let whole = !self.scenario.old.iter().any(|old| matches!(old, Old::Ill | Old::Absent));
        let ready = self.world.units.values().filter(|unit| unit.state == ActiveState::Active).count();
        if whole && !self.world.disturbed && !self.left && ready < self.floor() {
            return Err(format!("invariant 1: only {ready} are ready, and nobody but the roll did it"));
        }
        Ok(())
    }

    /// Invariant 5.
    fn ended(&self, outcome: &Outcome) -> Result<(), String> {
        let new = |instance: &&&Instance| instance.generation == NEW.generation;
        let stands = |instance: &&Instance| matches!(self.told[*instance].0, ActiveState::Active | ActiveState::Activating);
        let remaining: Vec<&Instance> = self.remaining().filter(stands).collect();
        let (news, olds): (Vec<&Instance>, Vec<&Instance>) = remaining.iter().partition(new);
        let served = |by: &[&Instance], slot: &Slot| by.iter().any(|worker| worker.slot == *slot && self.told_soaked(worker));
        let slots = &self.roll.plan().slots;
        let fine = match outcome {
            Outcome::AllNew => olds.is_empty() && slots.iter().all(|slot| served(&news, slot)),
            Outcome::AllOld { .. } => {
                let emptied = |slot: &&Slot| self.world.retiring.iter().any(|gone| gone.slot == **slot && !new(&&gone));
                news.is_empty() && slots.iter().filter(emptied).all(|slot| self.meddled || olds.iter().any(|worker| worker.slot == *slot))
            }
            Outcome::Mixed { who, reason } => {
                let named = remaining.iter().all(|worker| who.iter().any(|(named, _)| named == *worker));
                let cause = self.world.disturbed
                    || self.meddled
                    || self.scenario.old.contains(&Old::Ill)
                    || self.scenario.again.iter().any(|fate| !matches!(fate, Fate::Ready(_)));
                named && cause && !reason.is_empty()
            }
            Outcome::Overtaken => self.left,
        };
        if fine { Ok(()) } else { Err(format!("invariant 5: {outcome:?} with {news:?} and {olds:?}")) }
    }
}
