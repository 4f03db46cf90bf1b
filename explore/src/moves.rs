//! What can happen next.
//!
//! *Calm* moves are those that the world and the master make by themselves, each at its own time: units go on, ends of jobs are
//! told, everything is read, `min_ready` is over. Signals are no moves: one that comes is a reading, one that is lost is none, one
//! that comes twice is a reading twice. So is what a person says to a paused roll: he may take his time and does not stay away.
//! All others are *blows*, of which a [`Setting`] says how many fall on one way.

use std::collections::BTreeSet;

use crate::names::{Instance, Slot};
use crate::roll::laws::Told;
use crate::roll::machine::Phase;
use crate::roll::order::Order;
use crate::roll::plan::Scope;
use crate::roll::stage::Stage;
use crate::roll::words::Event;
use crate::state::{NOW, Setting, State, telling};
use crate::systemd::Verb;
use crate::units::{End, Life, Unit};

/// Kinds of blows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// The master dies.
    Death,
    /// A worker fails to start, dies, is stopped by a person.
    Hurt,
    /// A call or an answer is lost or refused, nothing can be read, nothing can be written.
    Bus,
    Abort,
    /// Somebody pauses it; in the end somebody says `resume` or `abort`.
    Pause,
    /// Other slots are wanted.
    Resize,
    /// Somebody asks for another reload.
    Reload,
    /// The app is stopped.
    Stop,
    /// The deadline passes.
    Late,
}

impl Blow {
    pub const ALL: [Self; 9] =
        [Self::Death, Self::Hurt, Self::Bus, Self::Abort, Self::Pause, Self::Resize, Self::Reload, Self::Stop, Self::Late];
    pub const KINDS: usize = Self::ALL.len();
}

/// What becomes of a judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Good,
    /// The master dies before its n-th call.
    DiesBefore(usize),
    NeverArrives(usize),
    Refused(usize),
    /// The disk is full.
    Unwritten,
    /// Nothing could be read.
    Blind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A unit goes on by itself.
    GoesOn(Instance),
    /// The end of a job is told; stale where its unit has gone on since it was read.
    Told {
        worker: Instance,
        verb: Verb,
        stale: bool,
    },
    Read,
    /// Up for `min_ready`.
    Soaked(Instance),
    /// The next master begins.
    Back,
    /// A master that is back hears which slots are wanted.
    Target,
    Deadline,
    Dies,
    Fails(Instance),
    /// And from then on always.
    Sickens(Instance),
    /// A person stops it.
    Stopped(Instance),
    TimesOut(Instance),
    /// Nobody can tell how its job ended.
    EndLost(Instance, Verb),
    Abort,
    Pause,
    Resume,
    /// A hook is done.
    HookEnds,
    Resize(u8),
    Reload,
    HandleLeaves,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move(pub What, pub Fate);

/// What follows: calm or not, by which move, and which state; or what law it broke.
pub struct Next {
    pub calm: bool,
    pub by: Move,
    pub state: Result<State, String>,
}

/// Everything that can happen next.
pub fn all(setting: &Setting, state: &State) -> Vec<Next> {
    if state.over.is_some() {
        return Vec::new();
    }
    let mut moves = Moves { setting, state, out: Vec::new() };
    moves.calm();
    if !moves.out.iter().any(|next| next.state.as_ref() != Ok(state)) {
        moves.quiet();
    }
    moves.blows();
    moves.out
}

struct Moves<'a> {
    setting: &'a Setting,
    state: &'a State,
    out: Vec<Next>,
}

impl Moves<'_> {
    fn push(&mut self, calm: bool, by: Move, state: Result<State, String>) {
        let state = state.and_then(|mut state| {
            state.nothing_lost()?;
            state.make_canonical(self.setting);
            Ok(state)
        });
        self.out.push(Next { calm, by, state });
    }

    /// A change of the world that the master is not told of yet.
    fn edit(&mut self, blow: Option<Blow>, what: What, change: impl FnOnce(&mut State)) {
        if blow.is_some_and(|blow| !self.state.may_be_struck(self.setting, blow)) {
            return;
        }
        let mut state = self.state.clone();
        if blow.is_some() {
            state.strike();
        }
        change(&mut state);
        self.push(blow.is_none(), Move(what, Fate::Good), Ok(state));
    }

    /// The master judges, with every fate that this can have.
    fn judge(&mut self, blow: Option<Blow>, what: What, change: impl FnOnce(&mut State) -> Result<Option<Event>, String>) {
        if blow.is_some_and(|blow| !self.state.may_be_struck(self.setting, blow)) {
            return;
        }
        let mut state = self.state.clone();
        if blow.is_some() {
            state.strike();
        }
        let told = match change(&mut state) {
            Ok(told) => told,
            Err(broken) => return self.push(blow.is_none(), Move(what, Fate::Good), Err(broken)),
        };
        let setting = self.setting;
        let (death, bus) = (state.may_be_struck(setting, Blow::Death), state.may_be_struck(setting, Blow::Bus));
        if !death && !bus {
            let judged = state.judge(setting, told, Fate::Good).map(|(state, ..)| state);
            return self.push(blow.is_none(), Move(what, Fate::Good), judged);
        }
        let good = state.clone().judge(setting, told.clone(), Fate::Good);
        let (written, calls) = good.as_ref().map_or((false, 0), |(_, written, calls)| (*written, *calls));
        self.push(blow.is_none(), Move(what, Fate::Good), good.map(|(state, ..)| state));
        let mut fates = Vec::new();
        if death {
            fates.extend((0..calls).map(|call| (false, Fate::DiesBefore(call))));
        }
        if bus {
            fates.extend((0..calls).map(|call| (false, Fate::NeverArrives(call))));
            fates.extend((0..calls).map(|call| (true, Fate::Refused(call))));
            if written {
                fates.push((true, Fate::Unwritten));
            }
            if written && told.is_none() && what != What::Back {
                fates.push((false, Fate::Blind));
            }
        }
        for (cause, fate) in fates {
            let mut state = state.clone();
            state.strike();
            state.basis.causes += u8::from(cause);
            let judged = state.judge(setting, told.clone(), fate).map(|(state, ..)| state);
            self.push(false, Move(what, fate), judged);
        }
    }

    fn calm(&mut self) {
        let state = self.state;
        for (worker, unit) in &state.units.all {
            if let Some(verb) = self.ends_unseen(unit) {
                self.judge(None, What::GoesOn(*worker), |state| Ok(state.ends(*worker, verb)));
                self.judge(Some(Blow::Bus), What::EndLost(*worker, verb), |state| {
                    state.ends(*worker, verb);
                    Ok(Some(Event::JobLost { instance: *worker, verb }))
                });
            } else if unit.goes_on() {
                self.edit(None, What::GoesOn(*worker), |state| state.units.go_on(*worker));
            }
        }
        for (worker, known) in state.roll.workers() {
            let told = state.is_new(worker) && state.units.all.get(worker).is_some_and(|unit| unit.told == Told::Up);
            if told || matches!(known.stage, Stage::Up { since } if since > 0) {
                self.edit(None, What::Soaked(*worker), |state| state.soak(worker));
            }
        }
        if !state.alive && state.hooked {
            return self.edit(None, What::Back, |state| state.alive = true);
        }
        if state.hooked {
            return self.edit(None, What::HookEnds, |state| state.hook_ends(self.setting));
        }
        if !state.alive {
            return self.judge(None, What::Back, |state| state.come_back(self.setting).map(|()| None));
        }
        if state.is_paused() {
            self.judge(None, What::Abort, |state| {
                state.basis.causes += 1;
                Ok(Some(Event::Abort { reason: "somebody said so".into() }))
            });
        }
        if state.is_paused() && state.basis.words < self.setting.words {
            self.judge(None, What::Resume, |state| {
                state.basis.words += 1;
                Ok(Some(Event::Resume))
            });
        }
        for (worker, verb, end) in self.ends() {
            let now = state.units.state(&worker);
            let stale = matches!(end, End::Job(_, then) if then != now);
            for stale in [Some(false), stale.then_some(true)].into_iter().flatten() {
                self.judge(None, What::Told { worker, verb, stale }, |state| {
                    state.hear(worker, verb);
                    Ok(Some(telling(worker, verb, end, now, stale)))
                });
            }
        }
        self.judge(None, What::Read, |_| Ok(None));
        if state.unheard {
            self.judge(None, What::Target, |state| {
                state.unheard = false;
                let target = state.target(self.setting);
                state.take_target(self.setting);
                Ok(Some(Event::Target(target)))
            });
        }
    }

    /// Whether nobody could tell the end of this unit's job from that end being told, so that both are one move.
    ///
    /// To the roll a stop that has ended and was not told is one that lasts, whatever it reads meanwhile, and so it is to whatever
    /// falls on it: until it is told, the worker lives and counts for `max_live`. Here it does live until then, so the roll is held
    /// to the sharper law. A roll behind this one finds it there or, told or by itself, gone. A start is one that lasts as well, but
    /// that what is up may die before that is told.
    fn ends_unseen(&self, unit: &Unit) -> Option<Verb> {
        let alone = self.state.is_left_alone(self.setting);
        if !self.setting.merged {
            return None;
        }
        match (unit.job?, unit.life) {
            (Verb::Stop, Life::Down) if unit.heard => Some(Verb::Stop),
            (Verb::Start, Life::Starting) if unit.heard && alone => Some(Verb::Start),
            _ => None,
        }
    }

    fn ends(&self) -> Vec<(Instance, Verb, End)> {
        let verb = |stop| if stop { Verb::Stop } else { Verb::Start };
        self.state.units.ends.iter().map(|((worker, stop), end)| (*worker, verb(*stop), *end)).collect()
    }

    /// Nothing moves any more.
    fn quiet(&mut self) {
        let ill = self.state.units.all.values().any(|unit| unit.life == Life::Ill);
        let late = self.state.roll.until().is_none_or(|until| until <= NOW);
        if late || !ill {
            let broken = if late { "invariant 8: it does not end" } else { "it waits for nothing but its deadline" };
            return self.push(true, Move(What::Deadline, Fate::Good), Err(broken.into()));
        }
        self.edit(None, What::Deadline, State::run_out);
    }

    fn blows(&mut self) {
        use Blow::{Abort, Bus, Death, Hurt, Late, Pause, Reload, Resize, Stop};
        let state = self.state;
        for (worker, unit) in &state.units.all {
            if matches!(unit.life, Life::Up | Life::Starting) {
                for (ill, what) in [(false, What::Fails(*worker)), (true, What::Sickens(*worker))] {
                    self.edit(Some(Hurt), what, |state| {
                        state.hurt();
                        state.units.fail(*worker, ill);
                    });
                }
            }
            if unit.life != Life::Down {
                self.edit(Some(Hurt), What::Stopped(*worker), |state| {
                    state.hurt();
                    if !state.is_new(worker) {
                        state.basis.by_hand.insert(worker.slot);
                    }
                    state.units.call(Verb::Stop, *worker, false);
                    state.units.all.get_mut(worker).into_iter().for_each(|unit| unit.by_hand = true);
                });
            }
            if unit.job.is_some() && unit.heard && matches!(unit.life, Life::Starting | Life::Down) {
                self.edit(Some(Hurt), What::TimesOut(*worker), |state| {
                    state.hurt();
                    state.units.time_out(*worker);
                });
            }
        }
        self.edit(Some(Stop), What::HandleLeaves, |state| {
            state.handle_left = true;
            for worker in state.units.all.keys().copied().collect::<Vec<_>>() {
                state.units.call(Verb::Stop, worker, false);
            }
        });
        if !state.hooked && state.roll.until().is_some_and(|until| until > NOW) {
            self.edit(Some(Late), What::Deadline, |state| {
                state.basis.causes += 1;
                state.run_out();
            });
        }
        if !state.alive {
            return;
        }
        self.edit(Some(Death), What::Dies, State::die);
        for (worker, verb, end) in self.ends() {
            if end != End::Lost {
                self.judge(Some(Bus), What::EndLost(worker, verb), |state| {
                    state.hear(worker, verb);
                    Ok(Some(Event::JobLost { instance: worker, verb }))
                });
            }
        }
        if !state.hooked && !state.is_paused() {
            self.judge(Some(Abort), What::Abort, |state| {
                state.basis.causes += 1;
                Ok(Some(Event::Abort { reason: "somebody said so".into() }))
            });
            self.judge(Some(Pause), What::Pause, |_| Ok(Some(Event::Pause { reason: "somebody said so".into() })));
        }
        // Who asks for more of a paused roll is refused.
        if state.is_paused() {
            return;
        }
        for number in 0..3 {
            if state.hooked {
                self.resize_behind(number);
                continue;
            }
            self.judge(Some(Resize), What::Resize(number), |state| {
                state.wanted = resized(&state.wanted, number);
                state.ask(self.setting, Order::default())?;
                if state.roll.plan().scope != Scope::App {
                    return Ok(None);
                }
                let target = state.target(self.setting);
                state.take_target(self.setting);
                Ok(Some(Event::Target(target)))
            });
        }
        if state.may_be_struck(self.setting, Reload) {
            let mut asked = state.clone();
            asked.strike();
            let begun = asked.ask(self.setting, Order::deploy());
            self.push(false, Move(What::Reload, Fate::Good), begun.map(|()| asked));
        }
    }
}

impl Moves<'_> {
    /// Other slots are wanted while a hook runs: the roll hears of it when it begins.
    fn resize_behind(&mut self, number: u8) {
        if self.state.may_be_struck(self.setting, Blow::Resize) {
            let mut state = self.state.clone();
            state.strike();
            state.wanted = resized(&state.wanted, number);
            let asked = state.ask(self.setting, Order::default());
            self.push(false, Move(What::Resize(number), Fate::Good), asked.map(|()| state));
        }
    }
}

impl State {
    /// The end of a job is told.
    fn hear(&mut self, worker: Instance, verb: Verb) {
        let end = self.units.ends.remove(&(worker, verb == Verb::Stop));
        // It never was asked to stop.
        if matches!(end, Some(End::Lost | End::Refused))
            && let Some(unit) = self.units.all.get_mut(&worker)
        {
            unit.retiring = false;
        }
    }

    /// A job ends and is told.
    fn ends(&mut self, worker: Instance, verb: Verb) -> Option<Event> {
        self.units.go_on(worker);
        let end = self.units.ends.get(&(worker, verb == Verb::Stop)).copied();
        self.hear(worker, verb);
        let now = self.units.state(&worker);
        end.map(|end| telling(worker, verb, end, now, false))
    }

    fn hurt(&mut self) {
        self.basis.causes += 1;
        self.basis.hurts += 1;
    }

    /// What the roll makes of another target, on its way forward.
    fn take_target(&mut self, setting: &Setting) {
        if matches!(self.roll.phase(), Phase::Forward { .. } | Phase::Paused { .. }) && !self.handle_left {
            self.serve(setting, self.wanted.clone());
        }
    }
}

/// One less, one more, or all of them others.
fn resized(wanted: &BTreeSet<Slot>, number: u8) -> BTreeSet<Slot> {
    let count = u16::try_from(wanted.len()).unwrap();
    match number {
        0 => Slot::first(count.saturating_sub(1)).collect(),
        1 => Slot::first(count + 1).collect(),
        _ => Slot::first(count + 1).skip(1).collect(),
    }
}
