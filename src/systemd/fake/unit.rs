//! One unit of the fake, and its job.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;

use super::told::{App, Kind, Service, Times};
use crate::systemd::{ActiveState, Details, JobEnd, UnitState, Verb};

pub(super) struct Job {
    pub task: Verb,
    /// It waits for the unit to be somewhere else first: for the end of a stop, of the delay of an automatic restart.
    pub waits: bool,
    pub waiters: Vec<oneshot::Sender<JobEnd>>,
}

pub(super) struct Unit {
    pub service: Service,
    pub active: ActiveState,
    pub sub: &'static str,
    pub job: Option<Job>,
    pub app: App,
    pub masked: bool,
    /// Its file was deleted while it ran.
    pub gone: bool,
    /// Starts in all, by hand and automatic.
    pub starts: u32,
    /// When the starts were that a start limit counts.
    pub counted: VecDeque<Duration>,
    /// Automatic ones since the last by hand.
    pub restarts: u32,
    /// The next start forgets `restarts`.
    pub by_hand: bool,
    /// Somebody asked it to stop: it is not restarted.
    pub unwanted: bool,
    pub result: &'static str,
    pub exit_status: i32,
    pub by_signal: bool,
    /// When it last became active, since the fake was made.
    pub since: Duration,
    /// Counts its changes, so that a timer of an earlier state does nothing.
    pub epoch: u64,
}

impl Unit {
    pub fn new(service: Service) -> Self {
        Self {
            service,
            active: ActiveState::Inactive,
            sub: "dead",
            job: None,
            app: App::ready_after(Duration::ZERO),
            masked: false,
            gone: false,
            starts: 0,
            counted: VecDeque::new(),
            restarts: 0,
            by_hand: true,
            unwanted: false,
            result: "success",
            exit_status: 0,
            by_signal: false,
            since: Duration::ZERO,
            epoch: 0,
        }
    }

    pub fn finish(&mut self, end: JobEnd) {
        for waiter in self.job.take().into_iter().flat_map(|job| job.waiters) {
            // Who asked may have gone; the job does not care.
            let _ = waiter.send(end);
        }
        self.forget_if_unloaded();
    }

    /// A unit that is inactive and has no job is unloaded, and with it goes what is not in its file.
    pub fn forget_if_unloaded(&mut self) {
        if !self.is_loaded() {
            (self.result, self.exit_status, self.by_signal, self.restarts) = ("success", 0, false, 0);
            self.counted.clear();
        }
    }

    pub fn is_loaded(&self) -> bool {
        self.active != ActiveState::Inactive || self.job.is_some()
    }

    /// Whether a main process runs.
    pub fn has_process(&self) -> bool {
        matches!(self.service.kind, Kind::Worker | Kind::Notify) && matches!(self.sub, "start" | "start-post" | "running" | "stop-sigterm")
    }

    pub fn task(&self) -> Option<Verb> {
        self.job.as_ref().map(|job| job.task)
    }

    /// Its main process ended. The first failure of a run is its result.
    pub fn ended(&mut self, result: &'static str, exit_status: i32, by_signal: bool) {
        (self.exit_status, self.by_signal) = (exit_status, by_signal);
        self.fails(result);
    }

    /// Something but its main process failed.
    pub fn fails(&mut self, result: &'static str) {
        if self.result == "success" {
            self.result = result;
        }
    }

    /// Whether its start limit forbids one more start now; if not, that one is counted.
    pub fn over_limit(&mut self, now: Duration) -> bool {
        let Some((burst, interval)) = self.service.start_limit else { return false };
        self.counted.retain(|at| now.saturating_sub(*at) < interval);
        let over = self.counted.len() >= burst as usize;
        if !over {
            self.counted.push_back(now);
        }
        over
    }

    /// Its time limits where the fake has these for all.
    pub fn times(&self, all: Times) -> Times {
        self.service.times.unwrap_or(all)
    }

    pub fn row(&self, name: &str) -> UnitState {
        UnitState {
            name: name.into(),
            active: self.active,
            sub: self.sub.into(),
            job: self.task().map(|task| task.to_string()),
            masked: self.masked,
            gone: self.gone,
        }
    }

    pub fn details(&self) -> Details {
        Details {
            restarts: self.restarts,
            result: self.result.into(),
            exit_status: self.exit_status,
            by_signal: self.by_signal,
            ..Details::default()
        }
    }
}
