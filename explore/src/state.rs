//! All that there is at one moment, and what a step of the roll makes of it: what the master does about the rolls of an app,
//! with the same planner, machine, orders and queue, and the same words to the disk.
//!
//! The clock stands still ([`NOW`]); what takes time is a move by itself (`Roll::soak`, `Roll::run_out`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::settings::{Amount, OnFailure, Reload};
use crate::laws::Basis;
use crate::moves::{Blow, Fate};
use crate::names::{Generation, Instance, Slot};
use crate::roll::laws::{self, Told};
use crate::roll::machine::{Phase, Roll};
use crate::roll::order::Order;
use crate::roll::plan::{self, Plan, Refusal, Scope, Target, Version, Wish};
use crate::roll::queue::{Queue, Ticket};
use crate::roll::stage::World;
use crate::roll::words::{Action, Event, Outcome, Step};
use crate::systemd::{ActiveState, JobEnd, Verb};
use crate::units::{End, Life, Unit, Units};

/// Milliseconds of the roll's clock, for ever.
pub const NOW: u64 = 1_000_000;
const MIN_READY: u64 = 1000;
const DEADLINE: u64 = 60_000;
pub const OLD: Version = Version { generation: Generation(4), pin: None };

/// How a slot's old worker is found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Old {
    Up,
    Ill,
    Absent,
    /// Up, and a second one on its way down.
    Draining,
    Twice,
}

/// What is explored: where it begins, and how much may happen on one way.
#[derive(Debug, Clone)]
pub struct Setting {
    pub old: Vec<Old>,
    /// Slots beyond these that still run.
    pub surplus: u16,
    pub reload: Reload,
    /// A hook runs ahead of it.
    pub hook: bool,
    /// Blows at most on one way, and of which kinds.
    pub blows: u8,
    pub kinds: &'static [Blow],
    /// How often on one way somebody lets a paused roll go on. Then he aborts it.
    pub words: u8,
    /// Two moves that nobody can tell from one are one.
    pub merged: bool,
}

impl Setting {
    /// Slots, surge, unavailable, and blows.
    pub fn of(slots: usize, surge: u16, unavailable: u16, blows: u8) -> Self {
        let (max_surge, max_unavailable) = (Amount::Count(surge), Amount::Count(unavailable));
        let (min_ready, deadline) = (Duration::from_millis(MIN_READY), Duration::from_millis(DEADLINE));
        // A trial without a time of its own lasts for `min_ready`, whose end is a move.
        let bake = Duration::ZERO;
        let reload = Reload { max_surge, max_unavailable, min_ready, deadline, bake, ..Reload::default() };
        Self { old: vec![Old::Up; slots], surplus: 0, reload, hook: false, blows, kinds: &Blow::ALL, words: 1, merged: true }
    }

    /// With so many canaries.
    pub fn canary(mut self, canary: u16) -> Self {
        self.reload.canary = Amount::Count(canary);
        self
    }

    /// With no more living workers than that.
    pub fn live(mut self, max_live: u16) -> Self {
        self.reload.max_live = Some(Amount::Count(max_live));
        self
    }

    /// Where a failure waits for a person.
    pub fn pausing(mut self) -> Self {
        self.reload.on_failure = OnFailure::Pause;
        self
    }

    pub fn surge(&self) -> usize {
        Target::of(self.wanted(), &self.reload).surge
    }

    pub fn unavailable(&self) -> usize {
        Target::of(self.wanted(), &self.reload).unavailable
    }

    fn wanted(&self) -> BTreeSet<Slot> {
        Slot::first(u16::try_from(self.old.len()).unwrap()).collect()
    }

    fn plan(&self, from: Version, to: Version, scope: Scope, wanted: &BTreeSet<Slot>, world: &World) -> Result<Plan, Refusal> {
        let app = "api".parse().unwrap();
        plan::plan(&Wish { app: &app, from, to, slots: wanted, scope, reload: &self.reload, sockets_down: &[], world })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The roll that runs; while the master is dead, what lies on disk.
    pub roll: Roll,
    /// What lies on disk, as long as that may matter.
    kept: Option<Roll>,
    pub alive: bool,
    /// A hook runs, and behind it the roll begins anew.
    pub hooked: bool,
    /// The app was stopped since the roll began.
    pub handle_left: bool,
    pub units: Units,
    pub queue: Queue<Order>,
    pub wanted: BTreeSet<Slot>,
    current: Version,
    highest: Generation,
    /// A master that is back has not yet heard which slots are wanted.
    pub unheard: bool,
    pub basis: Basis,
    /// Blows that fell on this way.
    spent: u8,
    /// The class of the end; nothing follows.
    pub over: Option<&'static str>,
}

impl State {
    /// A reload was asked for, and nothing has happened yet.
    pub fn first(setting: &Setting) -> Result<Self, String> {
        let mut units = Units::default();
        let mut ill = 0;
        let surplus = std::iter::repeat_n(&Old::Up, setting.surplus.into());
        for (slot, old) in Slot::first(Slot::MAX).zip(setting.old.iter().chain(surplus)) {
            ill += u8::from(*old == Old::Ill);
            let lives: &[Life] = match old {
                Old::Up => &[Life::Up],
                Old::Ill => &[Life::Ill],
                Old::Absent => &[],
                Old::Draining => &[Life::Down, Life::Up],
                Old::Twice => &[Life::Up, Life::Up],
            };
            for (attempt, life) in (1..).zip(lives) {
                units.all.insert(OLD.worker(slot, attempt), Unit::new(*life));
            }
        }
        let wanted = setting.wanted();
        let nothing = Order::default().scope(&BTreeSet::new(), &World::new());
        let idle = setting.plan(OLD, OLD, nothing, &wanted, &World::new()).map_err(|why| why.to_string())?;
        let mut state = Self {
            roll: Roll::new(idle, &World::new(), NOW),
            kept: None,
            alive: true,
            hooked: false,
            handle_left: false,
            units,
            queue: Queue::default(),
            wanted,
            current: OLD,
            highest: OLD.generation,
            unheard: false,
            basis: Basis { causes: ill, ..Basis::default() },
            spent: 0,
            over: None,
        };
        state.ask(setting, Order::deploy())?;
        state.make_canonical(setting);
        Ok(state)
    }

    /// What is the same from now on looks the same.
    pub fn make_canonical(&mut self, setting: &Setting) {
        let matters = self.alive && self.may_be_struck(setting, Blow::Death);
        self.kept = self.kept.take().filter(|_| matters);
        let counted = self.roll.counts_ends() || self.kept.as_ref().is_some_and(Roll::counts_ends);
        self.roll.make_canonical(NOW, counted);
        if let Some(kept) = &mut self.kept {
            kept.make_canonical(NOW, counted);
        }
        // Of those that are not to replace anybody nobody asks how long they have been up.
        let new: Vec<Instance> = self.units.all.keys().filter(|worker| self.is_new(worker)).copied().collect();
        for (worker, unit) in &mut self.units.all {
            unit.told = if new.contains(worker) { unit.told } else { unit.told.min(Told::Up) };
        }
        if !counted {
            self.units.all.values_mut().for_each(|unit| unit.restarts = 0);
            self.basis.failed = false;
        }
        if self.over.is_some() {
            self.units = Units::default();
            self.unheard = false;
        }
    }

    /// Whether a blow of this kind may still fall.
    pub fn may_be_struck(&self, setting: &Setting, blow: Blow) -> bool {
        !self.is_left_alone(setting) && setting.kinds.contains(&blow)
    }

    /// Whether no blow may fall any more.
    pub fn is_left_alone(&self, setting: &Setting) -> bool {
        self.spent >= setting.blows
    }

    pub fn strike(&mut self) {
        self.spent += 1;
    }

    pub fn is_paused(&self) -> bool {
        matches!(self.roll.phase(), Phase::Paused { .. })
    }

    pub fn is_back(&self) -> bool {
        matches!(self.roll.phase(), Phase::Back { .. })
    }

    /// Somebody asks for a roll.
    pub fn ask(&mut self, setting: &Setting, order: Order) -> Result<(), String> {
        let (_, now) = self.queue.ask(order.clone(), Order::and);
        match now {
            Some(order) => self.begin(setting, order),
            None => {
                let asked = self.basis.asked.take();
                self.basis.asked = Some(asked.map_or(order.clone(), |earlier| earlier.and(order)));
                Ok(())
            }
        }
    }

    /// Begins it, or answers it with a refusal and begins what waits.
    fn begin(&mut self, setting: &Setting, order: Order) -> Result<(), String> {
        let world = self.units.read();
        self.hear_reading();
        let scope = order.scope(&self.wanted, &world);
        let to = if order.deploy { Version { generation: self.highest.next(), pin: None } } else { self.current };
        match setting.plan(self.current, to, scope, &self.wanted, &world) {
            Ok(plan) => {
                self.highest = self.highest.max(to.generation);
                if order.deploy && (plan.scope != Scope::App || plan.to.generation <= plan.from.generation) {
                    return Err(format!("invariant 9: {order:?} is answered by {plan:?}"));
                }
                self.hooked = setting.hook && order.deploy;
                self.basis.target = self.wanted.len();
                self.units.all.values_mut().for_each(|unit| unit.new = false);
                self.begins(setting, plan, &world);
                Ok(())
            }
            Err(why) => {
                let fine = match why {
                    Refusal::NothingRuns => world.values().all(|sight| sight.state == ActiveState::Inactive),
                    Refusal::NoneWanted => self.wanted.is_empty(),
                    Refusal::SocketDown(_) | Refusal::NotNew { .. } | Refusal::NoRoom | Refusal::Hasty { .. } => false,
                };
                if !fine {
                    return Err(format!("invariant 9: {order:?} is refused for nothing: {why}"));
                }
                self.over = Some("Refused");
                Ok(())
            }
        }
    }

    /// A roll begins, by what is seen then.
    fn begins(&mut self, setting: &Setting, plan: Plan, world: &World) {
        let (slots, scope) = (plan.slots.clone(), plan.scope.clone());
        self.roll = Roll::new(plan, world, NOW);
        self.kept = Some(self.roll.clone());
        let lacking = self.unserved(&slots);
        let serves = |(worker, unit): &(&Instance, &Unit)| unit.life == Life::Up && scope.has(worker.slot);
        let floor = self.units.all.iter().filter(serves).count();
        let Basis { causes, target, words, .. } = self.basis;
        let asked = self.basis.asked.take();
        self.basis = Basis { first: slots.clone(), lacking, causes, target, words, floor, asked, ..Basis::default() };
        self.unheard = false;
        self.serve(setting, slots);
        self.basis.passed = self.terms(setting).canaries() == 0;
    }

    /// The hook ends, and the roll begins: what was read before is long past.
    pub fn hook_ends(&mut self, setting: &Setting) {
        self.hooked = false;
        if self.handle_left {
            self.over = Some("Overtaken");
            return;
        }
        let world = self.units.read();
        self.hear_reading();
        self.begins(setting, self.roll.plan().clone(), &world);
        self.unheard = self.wanted != self.basis.slots;
    }

    /// Everything is read: what the master knows then.
    pub fn hear_reading(&mut self) {
        let Units { all, ends } = &mut self.units;
        for (worker, unit) in all {
            // Of a start that it no longer wants it awaits nothing.
            let awaited = !unit.unwanted && (ends.contains_key(&(*worker, false)) || unit.job == Some(Verb::Start) && unit.heard);
            unit.told = if unit.life != Life::Up || awaited { Told::NotUp } else { unit.told.max(Told::Up) };
        }
    }

    pub fn target(&self, setting: &Setting) -> Target {
        Target::of(self.wanted.clone(), &setting.reload)
    }

    /// Death, at any moment: what lies on disk is all that is left of the roll.
    pub fn die(&mut self) {
        if let Some(kept) = self.kept.take() {
            self.roll = kept;
        }
        self.alive = false;
        self.units.forget();
        // A stop that never arrived will not be heard of.
        self.units.all.values_mut().filter(|unit| unit.life != Life::Down).for_each(|unit| unit.retiring = false);
    }

    /// The next master reads the roll.
    pub fn come_back(&mut self, setting: &Setting) -> Result<(), String> {
        let kept = serde_json::to_string(&self.roll).map_err(|error| error.to_string())?;
        let roll: Roll = serde_json::from_str(&kept).map_err(|error| error.to_string())?;
        if roll != self.roll {
            return Err(format!("invariant 7: {kept} reads as {roll:?}"));
        }
        self.roll = roll.resumed();
        self.alive = true;
        // What was told it and not written down, it is told again.
        self.serve(setting, self.roll.plan().slots.clone());
        self.unheard = self.roll.plan().scope == Scope::App && self.wanted != self.roll.plan().slots;
        Ok(())
    }

    /// `min_ready` is over for this worker.
    pub fn soak(&mut self, worker: &Instance) {
        self.roll.soak(worker);
        if let Some(kept) = &mut self.kept {
            kept.soak(worker);
        }
        if let Some(unit) = self.units.all.get_mut(worker).filter(|unit| unit.told == Told::Up) {
            unit.told = Told::Soaked;
        }
    }

    pub fn run_out(&mut self) {
        self.roll.run_out(NOW);
        if let Some(kept) = &mut self.kept {
            kept.run_out(NOW);
        }
    }

    /// The master judges what it is told, with a reading behind that; what it does then goes as its fate will. Whether that was to
    /// be written down, and how many calls it made.
    ///
    /// As `execute` has it: first the disk, then the calls.
    pub fn judge(mut self, setting: &Setting, told: Option<Event>, fate: Fate) -> Result<(Self, bool, usize), String> {
        let blind = fate == Fate::Blind;
        let (back, paused) = (self.is_back(), self.is_paused());
        if matches!(told, Some(Event::Resume)) {
            self.basis.failed = false;
        }
        let events = if blind {
            // What is told is kept until the next reading, as if it were told then.
            Vec::new()
        } else if self.handle_left {
            vec![Event::HandleLeft]
        } else {
            self.hear_reading();
            let count = |worker: Instance| (worker, self.units.all.get(&worker).map_or(0, |unit| unit.restarts.into()));
            let counts: BTreeMap<Instance, u32> = self.roll.on_trial().into_iter().map(count).collect();
            let counts = Some(counts).filter(|counts| !counts.is_empty()).map(Event::Restarts);
            told.clone().into_iter().chain(counts).chain([Event::World(self.units.read())]).collect()
        };
        // What a paused roll does not judge, its canaries have yet to show.
        if !blind && (!paused || matches!(told, Some(Event::Resume))) {
            self.see_canaries(setting, !self.handle_left);
        }
        self.basis.unseen = blind && (self.handle_left || self.basis.hurts > 0);
        let mut actions = if blind { self.roll.unseen(NOW) } else { self.roll.steps(events, NOW) };
        let written = actions.iter().any(is_written);
        if written && fate != Fate::Unwritten {
            self.kept = Some(self.roll.clone());
        } else if written && matches!(self.roll.phase(), Phase::Forward { .. }) {
            let lost = self.forgo(&mut actions);
            let abort = Event::Abort { reason: "the disk is full".into() };
            actions.extend(self.roll.steps(lost.into_iter().chain([abort]), NOW));
        }
        let calls = actions.iter().filter(|action| is_call(action)).count();
        if fate == Fate::Unwritten && calls > 0 && !self.is_back() && !matches!(self.roll.phase(), Phase::Ended(_)) {
            return Err(format!("invariant 7: it could not be written down, and yet: {actions:?}"));
        }
        laws::rests_while_paused(paused, &actions)?;
        self.heeds_canaries()?;
        self.carry_out(setting, actions, fate, back)?;
        Ok((self, written, calls))
    }

    /// As `execute::forgo`: no call is made, and the roll is to be told so.
    fn forgo(&mut self, actions: &mut Vec<Action>) -> Vec<Event> {
        let lost = actions.iter().filter_map(|action| match action {
            Action::Start(instance) => Some(Event::JobLost { instance: *instance, verb: Verb::Start }),
            Action::Stop(instance) => {
                self.units.all.get_mut(instance).into_iter().for_each(|unit| unit.unwanted = true);
                Some(Event::JobLost { instance: *instance, verb: Verb::Stop })
            }
            _ => None,
        });
        let lost = lost.collect();
        actions.retain(|action| !is_call(action));
        lost
    }

    fn carry_out(&mut self, setting: &Setting, actions: Vec<Action>, fate: Fate, mut back: bool) -> Result<(), String> {
        let mut number = 0;
        let mut wakes = None;
        for action in actions {
            let (verb, worker) = match action {
                Action::Progress(step) => {
                    if matches!(step, Step::GoingBack(_)) {
                        // All shall be as it was before.
                        back = true;
                        self.serve(setting, self.basis.first.clone());
                    }
                    continue;
                }
                Action::WakeAt(at) => {
                    wakes = Some(at);
                    continue;
                }
                Action::Ended(outcome) => return self.ended(setting, &outcome),
                Action::Start(worker) => {
                    self.may_start(setting, &worker, back)?;
                    (Verb::Start, worker)
                }
                Action::Stop(worker) => {
                    self.may_stop(setting, &worker, back)?;
                    if !self.is_new(&worker) {
                        self.basis.emptied.insert(worker.slot);
                    }
                    (Verb::Stop, worker)
                }
            };
            if fate == Fate::DiesBefore(number) {
                self.die();
                return Ok(());
            }
            let lost = match fate {
                Fate::NeverArrives(call) if call == number => Some(End::Lost),
                Fate::Refused(call) if call == number => Some(End::Refused),
                _ => None,
            };
            number += 1;
            if let Some(end) = lost {
                self.units.will_hear(worker, verb, end);
            } else {
                self.units.call(verb, worker, true);
            }
            if let Some(unit) = self.units.all.get_mut(&worker) {
                (unit.retiring, unit.unwanted) = (verb == Verb::Stop, verb == Verb::Stop);
                unit.new |= verb == Verb::Start && !back;
            }
        }
        // Blind, it makes no move; it tries again within seconds, and by its deadline.
        if fate == Fate::Blind && self.roll.until().is_some() && wakes == self.roll.until() {
            return Ok(());
        }
        self.waits_for_something(wakes)?;
        laws::keeps_nobody_useless(&self.roll)
    }

    fn ended(&mut self, setting: &Setting, outcome: &Outcome) -> Result<(), String> {
        self.fine_end(setting, outcome)?;
        self.units.forget();
        if *outcome == Outcome::AllNew {
            self.current = self.roll.plan().to;
        }
        let asked = self.basis.asked.take();
        if self.handle_left {
            self.queue.forget();
        }
        match (self.queue.ended(), asked) {
            (Some((Ticket(_), order)), Some(asked)) if order == asked => self.begin(setting, order),
            (None, asked) if asked.is_none() || self.handle_left => {
                self.over = Some(self.roll.phase().name());
                Ok(())
            }
            (next, asked) => Err(format!("invariant 6: asked for was {asked:?}, and what follows is {next:?}")),
        }
    }
}

/// The end of a job, as it is told.
pub fn telling(worker: Instance, verb: Verb, end: End, now: ActiveState, stale: bool) -> Event {
    let of = |end: Result<JobEnd, String>, state| Event::JobEnded { instance: worker, verb, end, state };
    match end {
        End::Job(end, then) => of(Ok(end), if stale { then } else { now }),
        End::Refused => of(Err("no".into()), now),
        End::Lost => Event::JobLost { instance: worker, verb },
    }
}

fn is_call(action: &Action) -> bool {
    matches!(action, Action::Start(_) | Action::Stop(_))
}

/// As `execute::is_written`.
fn is_written(action: &Action) -> bool {
    let turn = |step: &Step| matches!(step, Step::Paused(_) | Step::Resumed | Step::Baking(..) | Step::Passed(_));
    is_call(action) || matches!(action, Action::Ended(_)) || matches!(action, Action::Progress(step) if turn(step))
}
