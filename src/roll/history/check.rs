//! Lives a history through: what the master does about the rolls of an app, with the same machine, orders and queue; the
//! bounds of a plan are made here.

use std::collections::{BTreeMap, BTreeSet};

use super::invariants::Basis;
use super::world::{Due, OLD, Units};
use super::{Blow, Old, Scenario};
use crate::names::{Generation, Instance, Slot};
use crate::roll::machine::{Phase, Roll};
use crate::roll::order::Order;
use crate::roll::plan::{Plan, Scope, Target, Version};
use crate::roll::queue::{Queue, Ticket};
use crate::roll::words::{Action, Event, Outcome, Step};
use crate::systemd::{ActiveState, JobEnd, Verb};

const DEADLINE: u64 = 60_000;

/// What the roll was last told of a worker, since when.
type Told = BTreeMap<Instance, (ActiveState, u64)>;

pub(super) struct History<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) world: Units,
    /// The roll that runs, or the last one.
    pub(super) roll: Roll,
    pub(super) basis: Basis,
    /// What lies on disk.
    kept: Roll,
    pub(super) told: Told,
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
    pub(super) meddled: bool,
    /// Workers that a person started or stopped.
    pub(super) by_hand: BTreeSet<Instance>,
    pub(super) left: bool,
    queue: Queue<Order>,
    /// Who asked for a roll, and when; which began, and when.
    asked: Vec<(Ticket, u64)>,
    begun: Vec<(Ticket, u64)>,
    wanted: BTreeSet<Slot>,
    current: Version,
    highest: Generation,
    blows: usize,
}

/// Lives a history to its end; an error says which invariant broke, or that its last roll ended otherwise than expected,
/// and tells the history.
pub(super) fn live(scenario: &Scenario, expected: Option<&str>) -> Result<(), String> {
    // Nothing in it is left to chance, so a second life is the same as the first.
    live_once(scenario, expected, false).or_else(|_| live_once(scenario, expected, true))
}

fn live_once(scenario: &Scenario, expected: Option<&str>, logged: bool) -> Result<(), String> {
    let mut world = Units::new(scenario, logged);
    for (after, blow) in &scenario.blows {
        world.at(world.now + after, Due::Blow(*blow));
    }
    world.at(world.now + 5000, Due::Poll);
    let told = world.read().into_iter().map(|(instance, sight)| (instance, (sight.state, 0))).collect();
    let wanted: BTreeSet<Slot> = Slot::first(u16::try_from(scenario.old.len()).unwrap()).collect();
    let roll = Roll::new(plan(scenario, OLD, OLD, Scope::Slots(BTreeSet::new()), &wanted), &world.read(), world.now);
    let mut history = History {
        scenario,
        world,
        kept: roll.clone(),
        roll,
        basis: Basis {
            slots: BTreeSet::new(),
            first: BTreeSet::new(),
            lacking: BTreeSet::new(),
            whole: false,
            plain: false,
            started: BTreeSet::new(),
            retired: BTreeSet::new(),
        },
        told,
        starting: BTreeSet::new(),
        life: 0,
        alive: true,
        dies_in: None,
        result_lost: false,
        call_lost: false,
        refuse: false,
        meddled: false,
        by_hand: BTreeSet::new(),
        left: false,
        queue: Queue::default(),
        asked: Vec::new(),
        begun: Vec::new(),
        wanted,
        current: OLD,
        highest: OLD.generation,
        blows: scenario.blows.len(),
    };
    let lived = history.go_on().and_then(|()| match (expected, history.roll.phase().name()) {
        (Some(expected), end) if end != expected => Err(format!("it ended {end} and not {expected}")),
        _ => Ok(()),
    });
    let log = history.world.log.unwrap_or_default().join("\n");
    lived.map_err(|broken| format!("{broken}\n{log}"))
}

fn plan(scenario: &Scenario, from: Version, to: Version, scope: Scope, wanted: &BTreeSet<Slot>) -> Plan {
    let slots: BTreeSet<Slot> = wanted.iter().filter(|slot| scope.has(**slot)).copied().collect();
    let (surge, unavailable) = match scope {
        Scope::App => (scenario.surge, scenario.unavailable),
        Scope::Slots(_) => (scenario.surge.max(1), 0),
    };
    let (min_ready, deadline) = (scenario.min_ready, DEADLINE);
    Plan { app: "api".parse().unwrap(), from, to, scope, slots, surge, unavailable, min_ready, deadline }
}

impl History<'_> {
    fn go_on(&mut self) -> Result<(), String> {
        self.ask(Order::deploy());
        // As long as something runs or somebody may still ask for it.
        while self.queue.running().is_some() || self.blows > 0 && !self.left {
            let Some(((time, _), due)) = self.world.due.pop_first() else { return Err("the roll waits for nothing".into()) };
            let begun = self.begun.last().map_or(0, |(_, at)| *at);
            // Two directions, and a master that may have been away at each end.
            if self.queue.running().is_some() && time > begun + 2 * DEADLINE + 5000 {
                return Err("invariant 8: the roll does not end".into());
            }
            self.world.now = time;
            if let Some(event) = self.happens(due)?
                && self.alive
                && self.queue.running().is_some()
            {
                self.step(event)?;
            }
        }
        self.all_served()
    }

    /// Something is due: what the roll hears of it.
    fn happens(&mut self, due: Due) -> Result<Option<Event>, String> {
        let now = self.world.now;
        Ok(Some(match due {
            Due::Unit(instance, epoch) => {
                self.world.move_on(instance, epoch);
                self.nothing_lost()?;
                return Ok(None);
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
                self.world.at(now + 5000, Due::Read);
                self.world.at(now + 5000, Due::Poll);
                return Ok(None);
            }
            Due::Read if self.alive => self.read(),
            Due::Back => {
                self.world.say(|| "the master is back".into());
                self.alive = true;
                let kept = serde_json::to_string(&self.kept).map_err(|error| error.to_string())?;
                self.roll = serde_json::from_str::<Roll>(&kept).map_err(|error| error.to_string())?.resumed();
                let read = self.read();
                if self.queue.running().is_none() || self.roll.plan().scope != Scope::App {
                    return Ok(Some(read));
                }
                self.step(read)?;
                // Asked for before it died, and perhaps not heard.
                Event::Target(self.target())
            }
            Due::Timer if self.alive => Event::Timer,
            Due::Blow(blow) => {
                self.blows -= 1;
                return Ok(self.strike(blow));
            }
            _ => return Ok(None),
        }))
    }

    /// Somebody asks for a roll.
    fn ask(&mut self, order: Order) {
        let (ticket, now) = self.queue.ask(order, Order::and);
        self.asked.push((ticket, self.world.now));
        if let Some(order) = now {
            self.begin(ticket, &order);
        }
    }

    fn begin(&mut self, ticket: Ticket, order: &Order) {
        self.begun.push((ticket, self.world.now));
        let world = self.world.read();
        self.read();
        let scope = order.scope(&self.wanted, &world);
        if order.deploy {
            self.highest = self.highest.next();
        }
        let to = if order.deploy { Version { generation: self.highest, pin: None } } else { self.current };
        let plan = plan(self.scenario, self.current, to, scope, &self.wanted);
        let slots = plan.slots.clone();
        let served = |slot: &Slot| world.iter().filter(|(worker, _)| worker.slot == *slot).count() == 1;
        let up = |slot: &Slot| world.iter().any(|(worker, sight)| worker.slot == *slot && sight.state == ActiveState::Active);
        let first = self.begun.len() == 1;
        let doubled = self.scenario.surplus > 0 || self.scenario.old.iter().any(|old| matches!(old, Old::Twice | Old::Draining));
        self.basis = Basis {
            lacking: self.unserved(&slots),
            whole: slots.iter().all(up) && (first || !self.meddled && !self.world.disturbed),
            plain: slots.iter().all(served) && (first || !doubled),
            started: BTreeSet::new(),
            retired: BTreeSet::new(),
            first: slots.clone(),
            slots,
        };
        self.roll = Roll::new(plan, &world, self.world.now);
        self.kept = self.roll.clone();
        self.world.say(|| format!("roll {} begins: {:?}", ticket.0, self.roll.plan()));
        self.world.at(self.world.now, Due::Read);
    }

    fn target(&self) -> Target {
        Target { slots: self.wanted.clone(), surge: self.scenario.surge, unavailable: self.scenario.unavailable }
    }

    /// Invariant 6: a roll for each who asked, begun when it was asked for or later, and no more rolls than that.
    fn all_served(&self) -> Result<(), String> {
        let stopped = matches!(self.roll.phase(), Phase::Ended(Outcome::Overtaken | Outcome::Mixed { .. }));
        for (ticket, at) in &self.asked {
            let answered = self.begun.iter().any(|(begun, when)| begun == ticket && when >= at);
            if !answered && !stopped {
                return Err(format!("invariant 6: nobody answers roll {}", ticket.0));
            }
        }
        if self.begun.windows(2).any(|pair| pair[0].0 >= pair[1].0) || self.begun.len() > self.asked.len() {
            return Err(format!("invariant 6: {:?} were asked for and {:?} begun", self.asked, self.begun));
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
                self.by_hand.insert(instance);
                self.world.call(verb, instance, None);
            }
            Blow::Reload if self.alive => self.ask(Order::deploy()),
            Blow::Restart(number) if self.alive => {
                let slot = Slot::new(u16::try_from(number).ok()? + 1)?;
                self.ask(Order::restart([slot].into()));
            }
            Blow::Resize(bits) if self.alive => return self.resize(bits),
            Blow::Reload | Blow::Restart(_) | Blow::Resize(_) => {}
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

    /// A person wants other slots: remembered, told to the roll that runs, and made so behind it.
    fn resize(&mut self, bits: usize) -> Option<Event> {
        self.wanted = Slot::first(7).filter(|slot| bits & (1 << (slot.get() - 1)) != 0).collect();
        let whole = self.queue.running().is_some() && self.roll.plan().scope == Scope::App;
        self.ask(Order::default());
        if !whole {
            return None;
        }
        if matches!(self.roll.phase(), Phase::Forward { .. }) {
            (self.basis.whole, self.basis.plain) = (false, false);
            self.basis.slots = self.wanted.clone();
        }
        Some(Event::Target(self.target()))
    }

    fn step(&mut self, event: Event) -> Result<(), String> {
        let mut back = matches!(self.roll.phase(), Phase::Back { .. });
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
                Action::Progress(step) => {
                    if matches!(step, Step::GoingBack(_)) {
                        // All shall be as it was before.
                        back = true;
                        self.basis.slots = self.basis.first.clone();
                    }
                    self.world.say(|| format!("< {step:?}"));
                }
                Action::WakeAt(at) => {
                    woken = at > now;
                    self.world.at(at, Due::Timer);
                }
                Action::Ended(outcome) => return self.ended(&outcome),
                Action::Start(instance) => {
                    self.may_start(&instance)?;
                    if !back {
                        self.basis.started.insert(instance);
                    }
                    if !self.call(Verb::Start, instance) {
                        return Ok(());
                    }
                }
                Action::Stop(instance) => {
                    self.may_stop(&instance, back)?;
                    self.basis.retired.insert(instance);
                    if !self.call(Verb::Stop, instance) {
                        return Ok(());
                    }
                }
            }
        }
        if !woken {
            return Err("invariant 8: a wait without a deadline".into());
        }
        self.keeps_nobody_useless()?;
        self.nothing_lost()
    }

    /// A roll has ended: what is remembered of it, and what comes next.
    fn ended(&mut self, outcome: &Outcome) -> Result<(), String> {
        self.world.say(|| format!("< {outcome:?}"));
        self.fine_end(outcome)?;
        for event in [Event::Timer, Event::World(self.world.read()), Event::HandleLeft, Event::Abort { reason: String::new() }] {
            if !self.roll.clone().step(event, self.world.now).is_empty() {
                return Err("it acts after its end".into());
            }
        }
        if *outcome == Outcome::AllNew {
            self.current = self.roll.plan().to;
        }
        if matches!(outcome, Outcome::Overtaken | Outcome::Mixed { .. }) {
            // Stopped, or a person has to look.
            self.queue.forget();
            self.blows = 0;
        }
        if let Some((ticket, order)) = self.queue.ended() {
            self.begin(ticket, &order);
        }
        Ok(())
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
}
