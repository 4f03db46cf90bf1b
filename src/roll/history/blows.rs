//! What the world and people do to an app in a history.

use std::collections::BTreeSet;

use super::Blow;
use super::check::{Asked, History};
use super::world::{Due, Units};
use crate::names::{Generation, Instance, Slot};
use crate::roll::machine::Phase;
use crate::roll::order::Order;
use crate::roll::plan::{Scope, Version};
use crate::roll::words::Event;
use crate::systemd::{JobEnd, Verb};

/// How long the steps of a handle take.
const STOP_STEP: u64 = 400;
const START_STEP: u64 = 3100;

/// What is about to happen to the master and its calls.
#[derive(Default)]
pub(super) struct Threat {
    /// It dies before its n-th call from now, for so long.
    dies_in: Option<(usize, u64)>,
    pub(super) result_lost: bool,
    call_lost: bool,
    refuse: bool,
    /// Stops that never arrived or were refused, and the roll has not been told.
    pub(super) unheard: BTreeSet<Instance>,
}

impl History<'_> {
    pub(super) fn strike(&mut self, blow: Blow) -> Option<Event> {
        self.world.say(|| format!("{blow:?}"));
        let chosen = |units: &Units, number: usize| units.units.keys().copied().nth(number);
        match blow {
            Blow::Crash(number) => {
                let instance = chosen(&self.world, number)?;
                self.basis.touched = true;
                self.world.crash(instance);
            }
            Blow::PersonStops(number) | Blow::PersonStarts(number) => {
                let instance = chosen(&self.world, number)?;
                let verb = if matches!(blow, Blow::PersonStops(_)) { Verb::Stop } else { Verb::Start };
                self.basis.touched = true;
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
            Blow::Abort if self.alive => {
                self.basis.aborted = true;
                return Some(Event::Abort { reason: "somebody said so".into() });
            }
            Blow::Pause if self.alive => return Some(Event::Pause { reason: "somebody said so".into() }),
            Blow::Resume if self.alive => return Some(Event::Resume),
            Blow::Abort | Blow::Pause | Blow::Resume => {}
            Blow::HandleLeft(away) => self.handle_leaves(away),
            Blow::MasterDies(calls, away) => self.threat.dies_in = Some((calls, away)),
            Blow::ResultLost => self.threat.result_lost = true,
            Blow::CallLost => self.threat.call_lost = true,
            Blow::Refused => self.threat.refuse = true,
        }
        None
    }

    /// Its stop step: all workers go, whatever the master does. One that comes back later is another.
    fn handle_leaves(&mut self, away: u64) {
        if self.handle.take().is_none() {
            return;
        }
        for instance in self.world.read().into_keys() {
            self.world.call(Verb::Stop, instance, None);
        }
        self.world.at(self.world.now + STOP_STEP + away, Due::HandleStarts);
        if !self.scenario.signals_lost {
            self.world.at(self.world.now + 1, Due::Read);
        }
    }

    pub(super) fn handle_starts(&mut self) {
        self.highest = self.highest.next();
        let fresh = Version { generation: self.highest, pin: None };
        for slot in self.wanted.clone() {
            self.world.call(Verb::Start, fresh.worker(slot, 1), None);
        }
        self.world.at(self.world.now + START_STEP, Due::HandleUp(fresh));
    }

    pub(super) fn handle_is_up(&mut self, fresh: Version) {
        self.world.say(|| format!("the handle is up with generation {}", fresh.generation));
        self.handle = Some(self.world.now);
        self.current = fresh;
    }

    /// Somebody asks for a roll.
    pub(super) fn ask(&mut self, order: Order) {
        let highest: Generation = self.highest;
        let (ticket, now) = self.queue.ask(order.clone(), Order::and);
        self.asked.push(Asked { ticket, at: self.world.now, order, highest });
        self.begin_next(now.map(|order| (ticket, order)));
    }

    /// A person wants other slots: remembered, told to the roll that runs, and made so behind it.
    fn resize(&mut self, bits: usize) -> Option<Event> {
        self.wanted = Slot::first(7).filter(|slot| bits & (1 << (slot.get() - 1)) != 0).collect();
        let whole = self.queue.running().is_some() && self.roll.plan().scope == Scope::App;
        self.ask(Order::default());
        if !whole {
            return None;
        }
        if matches!(self.roll.phase(), Phase::Forward { .. } | Phase::Paused { .. }) && !self.overtaken() {
            self.serve(self.wanted.clone());
        }
        Some(Event::Target(self.target()))
    }

    /// Makes a call; false when the master died instead.
    pub(super) fn call(&mut self, verb: Verb, instance: Instance) -> bool {
        if let Some((calls, away)) = self.threat.dies_in {
            self.threat.dies_in = calls.checked_sub(1).map(|left| (left, away));
            if calls == 0 {
                self.world.say(|| format!("the master dies before it can {verb} {instance}"));
                self.alive = false;
                self.life += 1;
                self.starting.clear();
                self.world.at(self.world.now + away, Due::Back);
                return false;
            }
        }
        let (lost, refused) = (std::mem::take(&mut self.threat.call_lost), std::mem::take(&mut self.threat.refuse));
        if lost || refused {
            self.world.say(|| format!("{verb} {instance} {}", if lost { "never arrives" } else { "is refused" }));
            self.basis.touched = true;
            if verb == Verb::Stop {
                self.threat.unheard.insert(instance);
            }
            let end = (!lost).then(|| Err::<JobEnd, _>("no".into()));
            self.world.at(self.world.now + 1, Due::Told { life: self.life, instance, verb, end });
            return true;
        }
        if verb == Verb::Stop {
            self.world.retiring.insert(instance);
        } else {
            self.starting.insert(instance);
        }
        self.world.call(verb, instance, Some(self.life));
        true
    }
}
