//! What a history over the fake must have been, from the calls that arrived and from the fake's trace alone.
//!
//! A roll knows a world that is some milliseconds old, or as old as its last reading where signals are lost or the bus is
//! away: what was so within that time, it may have taken for so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::fatal::Call;
use super::histories::{Blow, DEADLINE, Record, SOCKET, Scenario, instance};
use super::*;
use crate::roll::plan::Target;
use crate::systemd::fake::Trace;

/// When a worker was active; the end is open while it is.
type Active = Vec<(Instant, Option<Instant>)>;

const SOON: Duration = Duration::from_millis(20);

fn is_new(worker: &Instance) -> bool {
    worker.generation == NEW.generation
}

impl Record<'_> {
    /// The world before the trace's n-th line: states, and when workers were active until then.
    fn world(&self, lines: usize) -> (BTreeMap<Instance, &str>, BTreeMap<Instance, Active>) {
        let (mut states, mut active) = (BTreeMap::new(), BTreeMap::<Instance, Active>::new());
        for trace in &self.trace[..lines] {
            let Some(worker) = instance(&trace.unit) else { continue };
            let (at, state) = (self.born + trace.at, trace.state.split('/').next().unwrap_or_default());
            states.insert(worker, state);
            let spans = active.entry(worker).or_default();
            let up = spans.last().is_some_and(|span| span.1.is_none());
            match (state == "active", up) {
                (true, false) => spans.push((at, None)),
                (false, true) => spans.last_mut().unwrap().1 = Some(at),
                _ => {}
            }
        }
        (states, active)
    }

    /// How old what a roll knows at a moment may be: since when.
    fn known_since(&self, now: Instant) -> Instant {
        let old = |(at, blow, _): &(Instant, Blow, _)| matches!(blow, Blow::Signals(crate::systemd::fake::Signals::Lost)) && *at <= now;
        let age = if self.blows.iter().any(old) { Duration::from_millis(5100) } else { SOON };
        let away = self.blows.iter().filter_map(|(at, blow, _)| match blow {
            Blow::BusAway(away) if *at <= now && *at + ms(*away) + SOON >= now => Some(*at),
            _ => None,
        });
        away.min().unwrap_or(now) - age
    }

    /// The workers that a person started or stopped until then.
    fn by_hand(&self, now: Instant) -> BTreeSet<Instance> {
        let hand = |(at, blow, unit): &(Instant, Blow, Option<String>)| match blow {
            Blow::PersonStarts(_) | Blow::PersonStops(_) if *at <= now => instance(unit.as_ref()?),
            _ => None,
        };
        self.blows.iter().filter_map(hand).collect()
    }

    fn did(&self, what: impl Fn(&Blow) -> bool) -> bool {
        self.blows.iter().any(|(_, blow, _)| what(blow))
    }

    /// The bounds that may be in effect at a moment: a change is told some time after it was made, and a roll that goes
    /// back takes up the first again.
    fn floor(&self, now: Instant) -> usize {
        let told = self.targets.iter().filter(|(at, _)| *at <= now);
        told.map(|(_, target)| target.slots.len() - target.unavailable.min(target.slots.len())).min().unwrap_or(0)
    }

    pub(super) fn judge(&self) -> Result<(), String> {
        let limit = DEADLINE * 2 + self.dead + Duration::from_secs(20);
        if self.ended - self.begun > limit {
            return Err(format!("invariant 8: it took {:?}", self.ended - self.begun));
        }
        let mut started = BTreeSet::new();
        for (number, call) in self.calls.iter().enumerate() {
            let worker = instance(&call.unit).ok_or_else(|| format!("invariant 3: {} {}, which is no worker", call.verb, call.unit))?;
            let told = |broken| format!("{broken}: {} {worker} at {:?}", call.verb, call.at - self.born);
            self.may_act(call).map_err(told)?;
            match call.verb {
                Verb::Start => {
                    self.may_start(call, worker).map_err(told)?;
                    // What could not be written down no master to come knows.
                    let unwritten = self.dead > Duration::ZERO && self.did(|blow| matches!(blow, Blow::DiskFull(_)));
                    // Or a condition skipped its start, and nothing ever ran.
                    let skipped = || self.trace[..call.seen].iter().all(|trace| trace.unit != call.unit);
                    if !started.insert(worker) && !unwritten && !self.by_hand(call.at).contains(&worker) && !skipped() {
                        return Err(told("invariant 7: started twice".into()));
                    }
                }
                _ => self.may_stop(number, worker).map_err(told)?,
            }
        }
        self.sockets_stay()?;
        self.nothing_lost()?;
        self.fine_end()
    }

    /// Invariant 3: nobody but a person or the handle takes a socket down, whoever lives or dies.
    fn sockets_stay(&self) -> Result<(), String> {
        let taken = self.blows.iter().filter(|(_, blow, _)| matches!(blow, Blow::SocketDown | Blow::Handle(_))).map(|(at, ..)| *at).min();
        let opened = |trace: &&Trace| self.born + trace.at >= self.begun && taken.is_none_or(|taken| self.born + trace.at < taken);
        match self.trace.iter().filter(|trace| trace.unit == SOCKET).filter(opened).find(|trace| !trace.state.starts_with("active")) {
            Some(trace) => Err(format!("invariant 3: {SOCKET} is {} at {:?}", trace.state, trace.at)),
            None => Ok(()),
        }
    }

    /// Invariant 8, of the handle and sockets: what is over is over.
    fn may_act(&self, call: &Call) -> Result<(), String> {
        for (at, blow, _) in self.blows.iter().filter(|(at, ..)| *at + SOON < call.at) {
            if matches!(blow, Blow::Handle(_)) {
                return Err("invariant 8: the handle has left".into());
            }
            let seen = self.known_since(call.at) > *at;
            let new = instance(&call.unit).is_some_and(|worker| is_new(&worker));
            if *blow == Blow::SocketDown && seen && call.verb == Verb::Start && new {
                return Err("its socket is down, and a new one is started".into());
            }
        }
        Ok(())
    }

    /// Invariant 2.
    fn may_start(&self, call: &Call, worker: Instance) -> Result<(), String> {
        let (states, _) = self.world(call.seen);
        let hand = self.by_hand(call.at);
        let stands = |(other, state): &(&Instance, &&str)| matches!(**state, "active" | "activating") && !hand.contains(other);
        let standing = states.iter().filter(stands).filter(|(other, _)| **other != worker).count();
        let room = self.targets.iter().map(|(_, target)| target.slots.len() + target.surge).max().unwrap_or(0);
        if standing >= room {
            return Err(format!("invariant 2: {standing} stand, {room} may"));
        }
        if !self.targets.iter().any(|(at, target)| *at <= call.at && target.slots.contains(&worker.slot)) {
            return Err("its slot is none that is wanted".into());
        }
        Ok(())
    }

    /// Invariants 1, 4 and 8.
    fn may_stop(&self, number: usize, worker: Instance) -> Result<(), String> {
        let call = &self.calls[number];
        let (states, active) = self.world(call.seen);
        let (known, hand) = (self.known_since(call.at), self.by_hand(call.at));
        // One that the roll need not have known to be ready may go like one that is not.
        if states.get(&worker) != Some(&"active") || active[&worker].last().is_some_and(|span| span.0 > known) {
            return Ok(());
        }
        let retired = |other: &Instance, end: Instant| {
            let of = |earlier: &&Call| earlier.verb == Verb::Stop && instance(&earlier.unit) == Some(*other);
            self.calls[..number].iter().filter(of).any(|earlier| earlier.at == end)
        };
        let up = |other: &Instance| {
            let spans = active.get(other).map_or(&[][..], Vec::as_slice);
            spans.last().is_some_and(|span| span.1.is_none_or(|end| end >= known && !retired(other, end)))
        };
        let ready = active.keys().filter(|other| **other != worker && up(other)).count();
        let slots: BTreeSet<Slot> = self.targets[0].1.slots.clone();
        let lacking = slots.iter().zip(&self.scenario.old).filter(|(_, there)| !**there).map(|(slot, _)| *slot);
        let stopped = hand.iter().filter(|other| !is_new(other)).map(|other| other.slot);
        let forgiven = if is_new(&worker) { lacking.chain(stopped).collect::<BTreeSet<_>>().len() } else { 0 };
        if ready + forgiven < self.floor(call.at) {
            return Err(format!("invariant 1: only {ready} others are ready"));
        }
        // How long it was up, as far as a roll may have seen.
        let since = |other: &Instance| {
            let spans = &active[other];
            let mut since = spans.last()?.0;
            for pair in spans.windows(2).rev() {
                let unseen = call.at - self.known_since(call.at) > SOON || self.dead > Duration::ZERO;
                if unseen && pair[1].0 == since {
                    since = pair[0].0;
                }
            }
            Some(since)
        };
        let soaked = |other: &Instance| up(other) && since(other).is_some_and(|since| since + self.scenario.reload.min_ready <= call.at);
        let replaced = active.keys().any(|other| other.slot == worker.slot && is_new(other) && soaked(other));
        let told: Vec<&Target> = self.targets.iter().filter(|(at, _)| *at <= call.at).map(|(_, target)| target).collect();
        let spare = told.len() > 1 || told[0].unavailable > 0 || !hand.is_empty();
        if !is_new(&worker) && !replaced && !spare {
            return Err("invariant 4: its replacement was not ready for long enough".into());
        }
        Ok(())
    }

    /// Invariant 1 as a client sees it, where nothing but the roll takes a worker.
    fn nothing_lost(&self) -> Result<(), String> {
        let crashes = |app: &App| app.crash_after.is_some();
        let Scenario { new, again, old, .. } = self.scenario;
        if new.iter().chain(again).any(crashes)
            || old.contains(&false)
            || self.did(|blow| matches!(blow, Blow::Crash(_) | Blow::PersonStops(_)))
        {
            return Ok(());
        }
        let mut up = BTreeSet::new();
        for trace in &self.trace {
            let (Some(worker), at) = (instance(&trace.unit), self.born + trace.at) else { continue };
            if trace.state.starts_with("active") {
                up.insert(worker)
            } else {
                up.remove(&worker)
            };
            if at > self.begun && up.len() < self.floor(at) {
                return Err(format!("invariant 1: only {} are ready at {:?}, and nobody but the roll did it", up.len(), trace.at));
            }
        }
        Ok(())
    }

    /// Invariant 5.
    fn fine_end(&self) -> Result<(), String> {
        let (states, active) = self.world(self.seen);
        let (known, hand) = (self.known_since(self.ended), self.by_hand(self.ended));
        let up = |worker: &Instance| {
            let spans = active.get(worker).map_or(&[][..], Vec::as_slice);
            spans.last().is_some_and(|span| span.1.is_none_or(|end| end >= known))
        };
        let stands = |worker: &Instance| matches!(states.get(worker), Some(&"active" | &"activating"));
        let left = |new: bool| states.keys().filter(|worker| is_new(worker) == new && !hand.contains(worker) && stands(worker)).count();
        let served = |slot: &Slot| states.keys().any(|worker| worker.slot == *slot && is_new(worker) && up(worker));
        let good = |app: &App| matches!(app.start, Start::Ready(_)) && app.crash_after.is_none();
        let touched = self.did(|blow| matches!(blow, Blow::Crash(_) | Blow::PersonStops(_) | Blow::PersonStarts(_)));
        let turned = touched || self.did(|blow| matches!(blow, Blow::DiskFull(_) | Blow::SocketDown));
        let fine = match &self.outcome {
            // A change of what is wanted may have come too late to be heard.
            Outcome::AllNew => left(false) == 0 && self.targets.iter().any(|(_, target)| target.slots.iter().all(served)),
            Outcome::AllOld { .. } => {
                let emptied = |call: &&Call| call.verb == Verb::Stop && instance(&call.unit).is_some_and(|worker| !is_new(&worker));
                let mut slots = self.calls.iter().filter(emptied).filter_map(|call| instance(&call.unit)).map(|worker| worker.slot);
                let first = &self.targets[0].1.slots;
                let back = |slot: Slot| {
                    let old = |worker: &Instance| worker.slot == slot && !is_new(worker);
                    let there = |worker: &Instance| up(worker) || !matches!(states[worker], "inactive" | "failed");
                    !first.contains(&slot) || hand.iter().any(old) || states.keys().any(|worker| old(worker) && there(worker))
                };
                let cause = turned || !self.scenario.new.iter().all(good);
                left(true) == 0 && cause && slots.all(back)
            }
            Outcome::Mixed { .. } => touched || !self.scenario.again.iter().all(good),
            Outcome::Overtaken => self.did(|blow| matches!(blow, Blow::Handle(_))),
        };
        if fine { Ok(()) } else { Err(format!("invariant 5: {:?}", self.outcome)) }
    }
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<(Duration, String)> =
            self.trace.iter().map(|trace| (trace.at, format!("         {} {}", trace.unit, trace.state))).collect();
        lines.extend(self.calls.iter().map(|call| (call.at - self.born, format!("    {} {}", call.verb, call.unit))));
        lines.extend(self.blows.iter().map(|(at, blow, unit)| (*at - self.born, format!("{blow:?} {}", unit.as_deref().unwrap_or("")))));
        lines.push((self.ended - self.born, format!("{:?}", self.outcome)));
        lines.sort_by_key(|(at, _)| *at);
        lines.iter().try_for_each(|(at, text)| writeln!(f, "{:>6} ms {text}", at.as_millis()))
    }
}
