//! How a unit of the fake goes from state to state. `tests/it/trace.rs` holds it against a real systemd.
//!
//! Left out are states in which a real unit is only for as long as PID 1 needs for its next turn: `start-pre`, the
//! `failed` before an automatic restart, `inactive` between the halves of a restart.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::told::{Kind, Start};
use super::unit::{Job, Unit};
use super::{ActiveState, Fake, JobEnd, State, Verb};

impl Fake {
    /// Does something to a unit after a while, unless it changes before.
    fn later(&self, state: &State, name: &str, after: Duration, what: fn(&Self, &mut State, &str)) {
        let (fake, name) = (self.clone(), name.to_owned());
        let epoch = |state: &State, name: &str| state.units.get(name).map(|unit| unit.epoch);
        let expected = epoch(state, &name);
        tokio::spawn(async move {
            sleep(after).await;
            let mut state = fake.lock();
            if epoch(&state, &name) == expected {
                what(&fake, &mut state, &name);
            }
        });
    }

    /// A job in mode `replace`. One of the same kind is joined, one that it contradicts is cancelled, and a start that
    /// runs becomes the restart that is asked for. What waits for its end comes back.
    pub(super) fn enqueue(&self, state: &mut State, task: Verb, name: &str) -> oneshot::Receiver<JobEnd> {
        let (tell, told) = oneshot::channel();
        let unit = state.unit(name);
        match &mut unit.job {
            Some(job) if (task == Verb::Stop) == (job.task == Verb::Stop) => {
                job.waiters.push(tell);
                // A restart includes a start, and a reload of what is up is more than its start.
                if job.task == task || task != Verb::Restart {
                    return told;
                }
                job.task = task;
            }
            _ => {
                unit.finish(JobEnd::Canceled);
                unit.job = Some(Job { task, waits: false, waiters: vec![tell] });
            }
        }
        self.run(state, name);
        told
    }

    /// Does what a unit's job asks for, or lets it wait.
    fn run(&self, state: &mut State, name: &str) {
        let hurries = state.hurries;
        let unit = state.unit(name);
        let Some(job) = &mut unit.job else { return };
        let waiting_for_restart = unit.sub == "auto-restart";
        match (job.task, unit.active) {
            (Verb::Start, ActiveState::Active | ActiveState::Reloading) => unit.finish(JobEnd::Done),
            (Verb::Start, ActiveState::Activating) if waiting_for_restart && hurries => {
                unit.restarts += 1;
                self.begin_start(state, name);
            }
            // The delay goes on.
            (Verb::Start, ActiveState::Activating) => job.waits = waiting_for_restart,
            // For what is on its way down already.
            (Verb::Start, ActiveState::Deactivating) => job.waits = true,
            (Verb::Stop | Verb::Restart, ActiveState::Deactivating) => unit.unwanted = true,
            (Verb::Stop, ActiveState::Inactive | ActiveState::Failed) => unit.finish(JobEnd::Done),
            (Verb::Stop, _) if waiting_for_restart => {
                unit.by_hand = true;
                self.set(state, name, ActiveState::Inactive, "dead");
                state.unit(name).finish(JobEnd::Done);
            }
            (Verb::Restart, _) if waiting_for_restart => {
                unit.by_hand = true;
                self.begin_start(state, name);
            }
            (Verb::Start | Verb::Restart, ActiveState::Inactive | ActiveState::Failed) => self.begin_start(state, name),
            (Verb::Stop | Verb::Restart, _) => self.begin_stop(state, name),
            (Verb::Reload, ActiveState::Active) => {
                let Kind::Handle { reload } = unit.service.kind else { return unit.finish(JobEnd::Failed) };
                self.set(state, name, ActiveState::Reloading, "reload");
                self.later(state, name, reload, |fake, state, name| fake.up(state, name, "exited"));
            }
            (Verb::Reload, _) => unit.finish(JobEnd::Failed),
        }
    }

    fn begin_start(&self, state: &mut State, name: &str) {
        let now = self.shared.born.elapsed();
        let all = state.times;
        let unit = state.unit(name);
        let job = unit.job.get_or_insert(Job { task: Verb::Start, waits: false, waiters: Vec::new() });
        (job.task, job.waits) = (Verb::Start, false);
        if let Kind::Socket { service } = &unit.service.kind {
            // Under a service that runs it is refused.
            let service = service.clone();
            if state.units.get(&service).is_none_or(|unit| !unit.is_loaded() || unit.active == ActiveState::Failed) {
                return self.up(state, name, "listening");
            }
            return state.unit(name).finish(JobEnd::Failed);
        }
        if unit.over_limit(now) {
            unit.fails("start-limit-hit");
            self.set(state, name, ActiveState::Failed, "failed");
            return state.unit(name).finish(JobEnd::Failed);
        }
        unit.starts += 1;
        let starts = unit.starts;
        if std::mem::take(&mut unit.by_hand) {
            unit.restarts = 0;
        }
        (unit.unwanted, unit.result, unit.exit_status, unit.by_signal) = (false, "success", 0, false);
        let limit = unit.times(all).start;
        let (sub, limit) = match unit.service.kind {
            Kind::Worker => ("start-post", Some(limit)),
            // A oneshot's is infinite.
            Kind::Handle { .. } => ("start", None),
            _ => ("start", Some(limit)),
        };
        let app = (state.script)(name, starts);
        let unit = state.unit(name);
        unit.app = app;
        if app.start == Start::Skipped {
            return unit.finish(JobEnd::Done);
        }
        self.set(state, name, ActiveState::Activating, sub);
        let within = |after: Duration| limit.is_none_or(|limit| after < limit);
        match (app.start, limit) {
            (Start::Ready(after), _) if within(after) => {
                let ready = |fake: &Self, state: &mut State, name: &str| {
                    let sub = if matches!(state.unit(name).service.kind, Kind::Handle { .. }) { "exited" } else { "running" };
                    fake.up(state, name, sub);
                };
                self.later(state, name, after, ready);
            }
            (Start::Crash(after), _) if within(after) => self.later(state, name, after, Self::crashed),
            (_, Some(limit)) => self.later(state, name, limit, |fake, state, name| {
                state.unit(name).fails("timeout");
                fake.go_down(state, name);
            }),
            _ => {}
        }
    }

    fn up(&self, state: &mut State, name: &str, sub: &'static str) {
        self.set(state, name, ActiveState::Active, sub);
        let unit = state.unit(name);
        unit.finish(JobEnd::Done);
        if let (true, Some(after)) = (unit.has_process(), unit.app.crash_after) {
            self.later(state, name, after, Self::crashed);
        }
        self.tell_socket(state, name);
    }

    /// Its process exits with 1.
    pub(super) fn crashed(&self, state: &mut State, name: &str) {
        let unit = state.unit(name);
        let result = if unit.service.success && unit.sub == "running" { "success" } else { "exit-code" };
        self.process_ends(state, name, result, 1, false);
    }

    /// Its main process ends. A handle's steps have one more behind them.
    pub(super) fn process_ends(&self, state: &mut State, name: &str, result: &'static str, status: i32, by_signal: bool) {
        let unit = state.unit(name);
        unit.ended(result, status, by_signal);
        if matches!(unit.service.kind, Kind::Handle { .. }) { self.go_down(state, name) } else { self.dead(state, name) }
    }

    /// As a job asks for.
    fn begin_stop(&self, state: &mut State, name: &str) {
        let unit = state.unit(name);
        unit.unwanted = true;
        match (&unit.service.kind, unit.sub) {
            (Kind::Socket { .. }, _) => return self.dead(state, name),
            // The helper that waits for readiness gets SIGTERM as well.
            (_, "start-post") => unit.fails("signal"),
            _ => {}
        }
        self.go_down(state, name);
    }

    fn go_down(&self, state: &mut State, name: &str) {
        let all = state.times;
        let unit = state.unit(name);
        let (app, limit) = (unit.app, unit.times(all).stop);
        let sub = if matches!(unit.service.kind, Kind::Handle { .. }) { "stop-post" } else { "stop-sigterm" };
        self.set(state, name, ActiveState::Deactivating, sub);
        match app.stop.filter(|after| *after < limit) {
            Some(after) => self.later(state, name, after, Self::dead),
            None => self.later(state, name, limit, |fake, state, name| {
                state.unit(name).ended("timeout", 9, true);
                fake.dead(state, name);
            }),
        }
    }

    /// Nothing of it runs any more. `Restart=always` holds for a unit that nobody asked to stop, whatever its result.
    fn dead(&self, state: &mut State, name: &str) {
        let all = state.times;
        let unit = state.unit(name);
        let failed = unit.result != "success";
        let comes_back = unit.service.restart && !unit.unwanted;
        unit.by_hand = !comes_back;
        let goes_on = match &unit.job {
            Some(Job { task: Verb::Restart, .. } | Job { task: Verb::Start, waits: true, .. }) => true,
            Some(Job { task: Verb::Start, .. }) => {
                unit.finish(if failed { JobEnd::Failed } else { JobEnd::Done });
                false
            }
            _ => false,
        };
        if goes_on {
            self.begin_start(state, name);
        } else if comes_back {
            let delay = unit.times(all).restart;
            self.set(state, name, ActiveState::Activating, "auto-restart");
            self.later(state, name, delay, |fake, state, name| {
                state.unit(name).restarts += 1;
                fake.begin_start(state, name);
            });
        } else {
            let (active, sub) = if failed { (ActiveState::Failed, "failed") } else { (ActiveState::Inactive, "dead") };
            self.set(state, name, active, sub);
            state.unit(name).finish(JobEnd::Done);
        }
        self.tell_socket(state, name);
    }

    /// A socket listens again when its service is gone, and is `running` while there is one.
    fn tell_socket(&self, state: &mut State, service: &str) {
        let runs = state.units.get(service).is_some_and(|unit| unit.active != ActiveState::Inactive && unit.active != ActiveState::Failed);
        let is_its = |unit: &Unit| matches!(&unit.service.kind, Kind::Socket { service: its } if its == service);
        let mut sockets = state.units.iter().filter(|(_, unit)| is_its(unit) && unit.active == ActiveState::Active);
        let Some(socket) = sockets.next().map(|(name, _)| name.clone()) else { return };
        let sub = if runs { "running" } else { "listening" };
        if state.unit(&socket).sub != sub {
            self.set(state, &socket, ActiveState::Active, sub);
        }
    }
}
