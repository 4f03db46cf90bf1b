//! Lives a history through: what the master does about the rolls of an app, with the same planner, machine, orders and
//! queue.

use std::collections::{BTreeMap, BTreeSet};

use super::DEADLINE;
use super::Scenario;
use super::blows::Threat;
use super::invariants::Basis;
use super::world::{Due, OLD, Units};
use crate::names::{Generation, Instance, Slot};
use crate::roll::laws;
use crate::roll::machine::{Phase, Roll};
use crate::roll::order::Order;
use crate::roll::plan::{self, Plan, Refusal, Scope, Target, Version, Wish};
use crate::roll::queue::{Queue, Ticket};
use crate::roll::stage::World;
use crate::roll::words::{Action, Event, Outcome, Step};
use crate::systemd::{ActiveState, Verb};

/// What the roll was last told of a worker, since when.
type Told = BTreeMap<Instance, (ActiveState, u64)>;

/// What somebody asked for.
pub(super) struct Asked {
    pub(super) ticket: Ticket,
    pub(super) at: u64,
    pub(super) order: Order,
    /// The highest generation that there was.
    pub(super) highest: Generation,
}

/// What became of it: a roll, or a refusal.
pub(super) struct Answer {
    pub(super) ticket: Ticket,
    pub(super) begun: u64,
    pub(super) wanted: BTreeSet<Slot>,
    /// Else, whether that is for a reason.
    pub(super) plan: Result<Plan, bool>,
    pub(super) outcome: Option<Outcome>,
}

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
    pub(super) starting: BTreeSet<Instance>,
    /// The lives of masters, and of rolls within; what an earlier one awaited, nobody hears.
    pub(super) life: u32,
    pub(super) alive: bool,
    pub(super) threat: Threat,
    /// Workers that a person started or stopped.
    pub(super) by_hand: BTreeSet<Instance>,
    /// Since when the handle is active.
    pub(super) handle: Option<u64>,
    pub(super) queue: Queue<Order>,
    pub(super) asked: Vec<Asked>,
    pub(super) answers: Vec<Answer>,
    pub(super) wanted: BTreeSet<Slot>,
    pub(super) current: Version,
    pub(super) highest: Generation,
    blows: usize,
    /// How often it was paused, and when it must have ended.
    paused: usize,
    ends_by: u64,
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
    // None that does anything: none has begun.
    let nothing = Order::default().scope(&BTreeSet::new(), &World::new());
    let roll = plan(scenario, OLD, OLD, nothing, &wanted, &World::new()).map_err(|why| why.to_string())?;
    let roll = Roll::new(roll, &World::new(), world.now);
    let mut history = History {
        scenario,
        kept: roll.clone(),
        roll,
        basis: Basis::default(),
        told,
        starting: BTreeSet::new(),
        life: 0,
        alive: true,
        threat: Threat::default(),
        by_hand: BTreeSet::new(),
        handle: Some(world.now),
        queue: Queue::default(),
        asked: Vec::new(),
        answers: Vec::new(),
        wanted,
        current: OLD,
        highest: OLD.generation,
        blows: scenario.blows.len(),
        paused: 0,
        ends_by: 0,
        world,
    };
    let lived = history.go_on().and_then(|()| match (expected, history.roll.phase().name()) {
        (Some(expected), end) if end != expected => Err(format!("it ended {end} and not {expected}")),
        _ => Ok(()),
    });
    let log = history.world.log.unwrap_or_default().join("\n");
    lived.map_err(|broken| format!("{broken}\n{log}"))
}

fn plan(scenario: &Scenario, from: Version, to: Version, scope: Scope, wanted: &BTreeSet<Slot>, world: &World) -> Result<Plan, Refusal> {
    let app = "api".parse().unwrap();
    plan::plan(&Wish { app: &app, from, to, slots: wanted, scope, reload: &scenario.reload, sockets_down: &[], world })
}

impl History<'_> {
    fn go_on(&mut self) -> Result<(), String> {
        self.ask(Order::deploy());
        // As long as something runs or somebody may still ask for it.
        while self.queue.running().is_some() || self.blows > 0 {
            let Some(((time, _), due)) = self.world.due.pop_first() else { return Err("the roll waits for nothing".into()) };
            if self.queue.running().is_some() && time > self.ends_by && !matches!(self.roll.phase(), Phase::Paused { .. }) {
                return Err("invariant 8: the roll does not end".into());
            }
            self.world.now = time;
            if let Some(event) = self.happens(due)?
                && self.alive
                && self.queue.running().is_some()
            {
                // Whatever it is, the executor reads before it is judged.
                self.step(if self.overtaken() { Event::HandleLeft } else { event })?;
            }
        }
        self.all_answered()
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
                self.threat.unheard.remove(&instance);
                let end = end.filter(|_| !std::mem::take(&mut self.threat.result_lost));
                if let Some(end) = end {
                    let state = self.world.state(&instance);
                    self.tell(instance, state);
                    self.settle();
                    Event::JobEnded { instance, verb, end, state }
                } else {
                    Event::JobLost { instance, verb }
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
                self.threat.unheard.clear();
                let kept = serde_json::to_string(&self.kept).map_err(|error| error.to_string())?;
                self.roll = serde_json::from_str::<Roll>(&kept).map_err(|error| error.to_string())?.resumed();
                let read = self.read();
                if self.queue.running().is_none() || self.roll.plan().scope != Scope::App || self.overtaken() {
                    return Ok(Some(read));
                }
                self.step(read)?;
                if self.queue.running().is_none() {
                    return Ok(None);
                }
                // Asked for before it died, and perhaps not heard.
                Event::Target(self.target())
            }
            Due::Timer if self.alive => Event::Timer,
            Due::Word(_) if !matches!(self.roll.phase(), Phase::Paused { .. }) => return Ok(None),
            Due::Word(resume) if !self.alive => {
                self.world.at(now + 500, Due::Word(resume));
                return Ok(None);
            }
            Due::Word(true) => Event::Resume,
            Due::Word(false) => {
                self.basis.aborted = true;
                Event::Abort { reason: "somebody said so".into() }
            }
            Due::HandleStarts => {
                self.handle_starts();
                return Ok(None);
            }
            Due::HandleUp(fresh) => {
                self.handle_is_up(fresh);
                return Ok(None);
            }
            Due::Blow(blow) => {
                self.blows -= 1;
                return Ok(self.strike(blow));
            }
            _ => return Ok(None),
        }))
    }

    /// Begins what waits, or answers it with a refusal.
    pub(super) fn begin_next(&mut self, mut next: Option<(Ticket, Order)>) {
        while let Some((ticket, order)) = next {
            let plan = self.begin(&order).map(|()| self.roll.plan().clone());
            self.world.say(|| format!("roll {} begins: {plan:?}", ticket.0));
            let (begun, wanted) = (self.world.now, self.wanted.clone());
            let refused = plan.is_err();
            self.answers.push(Answer { ticket, begun, wanted, plan, outcome: None });
            next = if refused { self.queue.ended() } else { None };
        }
    }

    fn begin(&mut self, order: &Order) -> Result<(), bool> {
        if self.handle.is_none() {
            return Err(true);
        }
        let world = self.world.read();
        self.read();
        let scope = order.scope(&self.wanted, &world);
        let to = if order.deploy { Version { generation: self.highest.next(), pin: None } } else { self.current };
        let plan = plan(self.scenario, self.current, to, scope, &self.wanted, &world).map_err(|why| match why {
            Refusal::NothingRuns => world.values().all(|sight| matches!(sight.state, ActiveState::Inactive | ActiveState::Failed)),
            Refusal::NoneWanted => order.deploy && self.wanted.is_empty(),
            Refusal::SocketDown(_) | Refusal::NotNew { .. } | Refusal::NoRoom | Refusal::Hasty { .. } => false,
        })?;
        self.highest = self.highest.max(to.generation);
        let slots = plan.slots.clone();
        self.roll = Roll::new(plan, &world, self.world.now);
        self.kept = self.roll.clone();
        self.basis = Basis::new(slots.clone(), self.unserved(&slots), self.handle);
        self.serve(slots);
        self.basis.target = self.wanted.len();
        self.bound();
        self.world.at(self.world.now, Due::Read);
        Ok(())
    }

    /// Two directions, and a master that may have been away at each end.
    fn bound(&mut self) {
        self.ends_by = self.world.now + 2 * DEADLINE + 5000;
    }

    /// Whether the app was stopped since the roll began.
    pub(super) fn overtaken(&self) -> bool {
        self.handle.is_none() || self.handle != self.basis.handle
    }

    pub(super) fn target(&self) -> Target {
        Target::of(self.wanted.clone(), &self.scenario.reload)
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
        self.settle();
        Event::World(world)
    }

    fn step(&mut self, event: Event) -> Result<(), String> {
        let (mut back, paused) = (matches!(self.roll.phase(), Phase::Back { .. }), matches!(self.roll.phase(), Phase::Paused { .. }));
        let now = self.world.now;
        if !matches!(event, Event::World(_) | Event::Timer) {
            self.world.say(|| format!("> {event:?}"));
        }
        // What a paused roll does not judge, its canaries have yet to show.
        if !paused || event == Event::Resume {
            self.see_canaries();
        }
        let actions = self.roll.step(event, now);
        let call = |action: &Action| matches!(action, Action::Start(_) | Action::Stop(_));
        let turn = |step: &Step| matches!(step, Step::Paused(_) | Step::Resumed | Step::Baking(..) | Step::Passed(_));
        let written =
            |action: &Action| call(action) || matches!(action, Action::Ended(_)) || matches!(action, Action::Progress(step) if turn(step));
        if actions.iter().any(written) {
            self.kept = self.roll.clone();
        }
        laws::rests_while_paused(paused, &actions)?;
        let mut woken = false;
        for action in actions {
            match action {
                Action::Progress(step) => {
                    if matches!(step, Step::GoingBack(_)) {
                        // All shall be as it was before.
                        back = true;
                        self.serve(self.basis.first.clone());
                    }
                    match step {
                        Step::Paused(_) => self.is_paused(),
                        Step::Resumed => self.bound(),
                        Step::GoingBack(_) => self.bound(),
                        _ => {}
                    }
                    self.world.say(|| format!("< {step:?}"));
                }
                // A pause waits for a person, and for no time.
                Action::WakeAt(u64::MAX) => woken = matches!(self.roll.phase(), Phase::Paused { .. }),
                Action::WakeAt(at) => {
                    woken = at > now;
                    self.world.at(at, Due::Timer);
                }
                Action::Ended(outcome) => return self.ended(&outcome),
                Action::Start(instance) => {
                    self.may_start(&instance, back)?;
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
        laws::keeps_nobody_useless(&self.roll)?;
        self.nothing_lost()
    }

    /// Somebody will say a word.
    fn is_paused(&mut self) {
        let (after, resume) = self.scenario.words.get(self.paused).copied().unwrap_or((1000, false));
        self.paused += 1;
        self.world.at(self.world.now + after, Due::Word(resume));
    }

    /// A roll has ended: what is remembered of it, and what comes next.
    fn ended(&mut self, outcome: &Outcome) -> Result<(), String> {
        self.world.say(|| format!("< {outcome:?}"));
        self.fine_end(outcome)?;
        laws::is_over(&self.roll, self.world.read(), self.world.now)?;
        self.right_answer(outcome)?;
        self.life += 1;
        self.starting.clear();
        self.threat.unheard.clear();
        if *outcome == Outcome::AllNew {
            self.current = self.roll.plan().to;
        }
        if self.handle.is_none()
            && let Some(ticket) = self.queue.forget()
        {
            let (begun, wanted) = (self.world.now, self.wanted.clone());
            self.answers.push(Answer { ticket, begun, wanted, plan: Err(true), outcome: None });
        }
        let next = self.queue.ended();
        self.begin_next(next);
        Ok(())
    }
}
