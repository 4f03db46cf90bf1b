//! A systemd through which the master's n-th call is its last act, and that notes what it was asked for.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::systemd::fake::Fake;
use crate::systemd::{Change, Details, Error, JobEnd, Systemd, UnitState, Verb};

/// A job that arrived.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub at: Instant,
    pub verb: Verb,
    pub unit: String,
    /// How long the fake's trace was before it.
    pub seen: usize,
}

pub(super) struct Fatal {
    pub fake: Fake,
    pub calls_left: Mutex<usize>,
    /// Whether the fatal call still arrives.
    arrives: bool,
    pub died: Notify,
    pub calls: Mutex<Vec<Call>>,
}

impl Fatal {
    pub fn new(fake: Fake, calls_left: usize, arrives: bool) -> Self {
        Self { fake, calls_left: Mutex::new(calls_left), arrives, died: Notify::new(), calls: Mutex::default() }
    }
}

impl Systemd for Fatal {
    async fn units(&self, patterns: &[String]) -> Result<Vec<UnitState>, Error> {
        self.fake.units(patterns).await
    }
    async fn active_since(&self, unit: &str) -> Result<u64, Error> {
        self.fake.active_since(unit).await
    }
    async fn details(&self, unit: &str) -> Result<Details, Error> {
        self.fake.details(unit).await
    }
    async fn job(&self, verb: Verb, unit: &str, limit: Duration) -> Result<JobEnd, Error> {
        let left = {
            let mut left = self.calls_left.lock().unwrap();
            *left = left.saturating_sub(1);
            *left
        };
        if left == 0 {
            self.died.notify_one();
        }
        if left == 0 && !self.arrives {
            return std::future::pending().await;
        }
        // Answered at once, and refused where the bus is away.
        if self.fake.active_since(unit).await.is_ok() {
            let call = Call { at: Instant::now(), verb, unit: unit.into(), seen: self.fake.trace().len() };
            self.calls.lock().unwrap().push(call);
        }
        self.fake.job(verb, unit, limit).await
    }
    async fn reset_failed(&self, unit: &str) -> Result<(), Error> {
        self.fake.reset_failed(unit).await
    }
    async fn settle(&self) -> Result<(), Error> {
        self.fake.settle().await
    }
    fn changes(&self) -> tokio::sync::broadcast::Receiver<Change> {
        self.fake.changes()
    }
}
