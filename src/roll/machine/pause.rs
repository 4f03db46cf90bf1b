//! Stopping a roll where it is, and going on.

use super::{Phase, Roll};
use crate::names::Instance;
use crate::roll::stage::Stage;
use crate::roll::words::{Action, Step};

impl Roll {
    /// Nothing is started or retired from here on. `left` is what its time comes to when it goes on.
    pub(super) fn pause(&mut self, reason: String, left: u64, out: &mut Vec<Action>) {
        out.push(Action::Progress(Step::Paused(reason.clone())));
        self.go(Phase::Paused { reason, left });
    }

    /// A person pauses it.
    pub(super) fn pause_by_hand(&mut self, reason: String, now: u64, out: &mut Vec<Action>) {
        if let Phase::Forward { until } = self.phase {
            self.pause(reason, until.saturating_sub(now), out);
        }
    }

    /// A person lets it go on.
    pub(super) fn resume(&mut self, now: u64, out: &mut Vec<Action>) {
        let Phase::Paused { left, .. } = self.phase else { return };
        out.push(Action::Progress(Step::Resumed));
        self.go(Phase::Forward { until: now.saturating_add(left) });
        // Whatever ended was seen by who resumes.
        self.workers.values_mut().for_each(|known| known.ends = 0);
    }

    /// What failed is tried again, rather than waited for: its back-off grows. Behind the reading that follows `resume`, what is up
    /// by then may serve its slot alone; and behind the verdict over it, which may pause the roll once more.
    pub(super) fn try_failed_again(&mut self, out: &mut Vec<Action>) {
        let failed = self.workers.iter().filter(|(_, known)| known.new && known.stage == Stage::Away);
        for worker in failed.map(|(worker, _)| *worker).collect::<Vec<Instance>>() {
            self.retire(worker, out);
            out.push(Action::Stop(worker));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::settings::{Amount, OnFailure, Reload};
    use crate::names::{Generation, Slot};
    use crate::roll::plan::{Scope, Version, Wish, plan};
    use crate::roll::stage::{Sight, World};
    use crate::roll::words::{Event, Outcome};
    use crate::systemd::{ActiveState, JobEnd, Verb};

    fn world(workers: &[(&str, ActiveState)]) -> World {
        workers.iter().map(|(name, state)| (name.parse().unwrap(), Sight { state: *state, ..Sight::NOTHING })).collect()
    }

    /// Of one slot, begun at 0.
    fn roll(on_failure: OnFailure, canary: u16) -> Roll {
        let (min_ready, deadline) = (Duration::ZERO, Duration::from_secs(60));
        let reload = Reload { min_ready, deadline, on_failure, canary: Amount::Count(canary), ..Reload::default() };
        let (app, slots, world) = ("api".parse().unwrap(), Slot::first(1).collect(), world(&[("1.4.1", ActiveState::Active)]));
        let [from, to] = [4, 5].map(|number| Version { generation: Generation(number), pin: None });
        let wish = Wish { app: &app, from, to, slots: &slots, scope: Scope::App, reload: &reload, sockets_down: &[], world: &world };
        Roll::new(plan(&wish).unwrap(), &world, 0)
    }

    fn calls(actions: Vec<Action>) -> Vec<Action> {
        actions.into_iter().filter(|action| matches!(action, Action::Start(_) | Action::Stop(_))).collect()
    }

    /// Found by the exploration: what had failed was stopped by what was known before the pause ended.
    #[test]
    fn resume_spares_a_new_worker_that_is_back_by_then() {
        use ActiveState::{Activating, Active, Deactivating};
        let mut roll = roll(OnFailure::Abort, 0);
        let (new, reason) = ("1.5.1".parse().unwrap(), "a person".to_owned());
        assert_eq!(calls(roll.step(Event::World(world(&[("1.4.1", Active)])), 0)), [Action::Start(new)]);
        let ready = Event::JobEnded { instance: new, verb: Verb::Start, end: Ok(JobEnd::Done), state: Active };
        let read = |old, new| Event::World(world(&[("1.4.1", old), ("1.5.1", new)]));
        assert_eq!(calls(roll.steps([ready, read(Active, Active)], 1)), [Action::Stop("1.4.1".parse().unwrap())]);
        assert_eq!(calls(roll.steps([Event::Pause { reason }, read(Deactivating, Activating)], 2)), []);
        let mut back = roll.clone();
        let actions = roll.steps([Event::Resume, read(Deactivating, Active)], 3);
        assert!(actions.contains(&Action::Ended(Outcome::AllNew)), "{actions:?}");
        assert_eq!(calls(actions), []);
        // One that is still away goes; when it has gone, `max_live` lets another be tried.
        assert_eq!(calls(back.steps([Event::Resume, read(Deactivating, Activating)], 3)), [Action::Stop(new)]);
    }

    /// Found by the exploration: it was stopped all the same, and on a full disk that was written down nowhere.
    #[test]
    fn a_canary_that_ended_while_it_was_paused_pauses_it_again_and_nothing_is_asked() {
        use ActiveState::{Activating, Active};
        let mut roll = roll(OnFailure::Pause, 1);
        let (new, reason) = ("1.5.1".parse().unwrap(), "a person".to_owned());
        assert_eq!(calls(roll.step(Event::World(world(&[("1.4.1", Active)])), 0)), [Action::Start(new)]);
        let ready = Event::JobEnded { instance: new, verb: Verb::Start, end: Ok(JobEnd::Done), state: Active };
        let read = |new| Event::World(world(&[("1.4.1", Active), ("1.5.1", new)]));
        roll.steps([ready, read(Active)], 1);
        roll.steps([Event::Pause { reason }, read(Active)], 2);
        assert_eq!(calls(roll.steps([Event::Resume, read(Activating)], 3)), []);
        assert_eq!(roll.phase().name(), "Paused");
        // Whoever resumes knows of it now.
        assert_eq!(calls(roll.steps([Event::Resume, read(Activating)], 4)), [Action::Stop(new)]);
    }

    /// Found by the exploration: it started a worker and was paused by its deadline in one step, and where the disk was full the
    /// start was written down nowhere.
    #[test]
    fn a_roll_whose_time_is_over_starts_nothing_more() {
        let read = || Event::World(world(&[("1.4.1", ActiveState::Active)]));
        for (on_failure, end) in [(OnFailure::Pause, "Paused"), (OnFailure::Abort, "AllOld")] {
            let mut roll = roll(on_failure, 0);
            assert_eq!(calls(roll.step(read(), 60_000)), []);
            assert_eq!(roll.phase().name(), end);
        }
    }
}
