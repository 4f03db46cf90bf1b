//! The master's own files, which another version may have written and a full disk may have damaged. Root's steps read the
//! numbers of `apps.json` too, whoever owns the master.

use std::collections::BTreeMap;

use crate::fuzz::comes_back;
use crate::intent::Intent;
use crate::names::{AppName, Slot};
use crate::roll::machine::{Phase, Roll};
use crate::roll::stage::{Sight, World};
use crate::roll::words::{Action, Event};
use crate::systemd::ActiveState;

/// What is remembered, what serves, rolls that were under way, what waits behind them.
pub fn state(data: &[u8]) {
    if let Ok(intent) = Intent::parse(data) {
        let again = comes_back(&intent);
        for (_, app) in again.apps {
            let (slots, wanted) = (app.slots(3), app.wanted(3));
            assert!(wanted.is_subset(&slots) && slots.len() <= Slot::MAX.into() && wanted.is_disjoint(&app.stopped));
        }
    }
    super::events::away::fuzz(data);
    if let Some(roll) = super::rolls::kept::fuzz(data) {
        carried_on(&roll);
    }
    if let Ok(roll) = serde_json::from_slice::<Roll>(data) {
        carried_on(&roll);
    }
}

/// A roll that was read back ends, whatever it was in the middle of, when nothing runs any more, when all runs, and when its
/// time is over; and each step asks for no more than it has workers.
fn carried_on(roll: &Roll) {
    let roll = comes_back(roll).resumed();
    roll.served();
    for state in [ActiveState::Inactive, ActiveState::Active, ActiveState::Failed] {
        let mut one = roll.clone();
        let mut now = 1_000_000;
        for _ in 0..8 {
            let world: World = match state {
                ActiveState::Inactive => BTreeMap::new(),
                state => one.workers().keys().map(|worker| (*worker, Sight { state, starting: false, stopping: false })).collect(),
            };
            let asked = one.step(Event::World(world), now);
            let most = one.workers().len() + 2;
            assert!(asked.iter().filter(|action| matches!(action, Action::Start(_) | Action::Stop(_))).count() <= 2 * most, "{asked:?}");
            now = now.saturating_add(1_000_000_000);
        }
        one.step(Event::HandleLeft, now);
        assert!(matches!(one.phase(), Phase::Ended(_)), "{one:?}");
        assert!(one.step(Event::Timer, now).is_empty(), "what is over asks for nothing");
        let _: &AppName = &one.plan().app;
    }
}
