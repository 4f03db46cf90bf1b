//! Crash loops as people see them: root's counts and what such a worker wrote last, both read when somebody asks.
//!
//! The journal is asked once for each end, of one worker of an app, and nobody waits long for it: a list of many such
//! workers takes as long as any other. While nobody asks, nothing is read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::world::Seen;
use super::{LINES, Master, lock};
use crate::api::types::{App, CrashLoop, CrashLoops, Worker, WorkerState};
use crate::health::LOOP;
use crate::journal::monotonic_us_now;
use crate::names::{AppName, Instance};
use crate::systemd::Systemd;
use crate::worker::{crashes, ready};

/// How long an answer waits for the journal; lines that come later are there for the next question.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether a worker is in a crash loop. `restart` is the time that systemd waits by itself.
pub(super) fn of(directory: &Path, instance: &Instance, seen: &Seen, restart: Duration) -> Option<CrashLoop> {
    // A worker without that many automatic restarts needs no file to be read.
    if seen.details.restarts < LOOP {
        return None;
    }
    let now = monotonic_us_now();
    let until = match WorkerState::of(seen.state.active, &seen.state.sub) {
        WorkerState::Online => now,
        WorkerState::Starting | WorkerState::Restarting => now.saturating_sub(u64::try_from(restart.as_micros()).unwrap_or(u64::MAX)),
        _ => return None,
    };
    // What cannot be read is not shown; the worker stands as systemd says.
    let count = crashes::read_in(directory, instance).ok()??;
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    count.is_loop(seen.details.active_since_us, until).then(|| CrashLoop {
        ends: count.ends,
        looping_ms: now.saturating_sub(count.since_us) / 1000,
        next_start_ms: count.next_start(now).map(ms),
    })
}

/// Whether a worker waits to be tried again: systemd's own wait, or that of its first step.
pub(super) fn waits(directory: &Path, instance: &Instance, seen: &Seen, restart: Duration) -> bool {
    match WorkerState::of(seen.state.active, &seen.state.sub) {
        WorkerState::Restarting => true,
        WorkerState::Starting => of(directory, instance, seen, restart).is_some_and(|crash| crash.next_start_ms.is_some()),
        _ => false,
    }
}

/// All such workers of an app, by its rows; the first of them stands for the others.
pub(super) fn of_app(rows: &[Worker]) -> Option<CrashLoops> {
    let looping: Vec<(&Worker, &CrashLoop)> = rows.iter().filter_map(|row| Some((row, row.crash_loop.as_ref()?))).collect();
    let (first, _) = looping.first()?;
    Some(CrashLoops {
        workers: u16::try_from(looping.len()).unwrap_or(u16::MAX),
        ends: looping.iter().map(|(_, crash)| crash.ends).max().unwrap_or_default(),
        looping_ms: looping.iter().map(|(_, crash)| crash.looping_ms).max().unwrap_or_default(),
        next_start_ms: looping.iter().filter_map(|(_, crash)| crash.next_start_ms).min(),
        worker: first.uid.clone(),
        lines: Vec::new(),
    })
}

/// What one worker of each looping app wrote last.
#[derive(Debug, Default)]
pub(super) struct Said {
    apps: BTreeMap<AppName, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Of which worker and which of its ends.
    of: (String, u32),
    lines: Vec<String>,
    /// What is being read; one reading of an app at a time.
    reading: bool,
}

/// The worker whose lines are wanted.
#[derive(Debug, Clone)]
struct Wanted {
    app: AppName,
    of: (String, u32),
    since_us: u64,
}

impl Said {
    fn has(&self, wanted: &Wanted) -> bool {
        self.apps.get(&wanted.app).is_some_and(|entry| entry.of == wanted.of)
    }

    /// Whether these are to be read now.
    fn begin(&mut self, wanted: &Wanted) -> bool {
        if self.has(wanted) {
            return false;
        }
        let entry = self.apps.entry(wanted.app.clone()).or_default();
        !std::mem::replace(&mut entry.reading, true)
    }

    fn end(&mut self, wanted: &Wanted, lines: Vec<String>) {
        self.apps.insert(wanted.app.clone(), Entry { of: wanted.of.clone(), lines, reading: false });
    }
}

impl<S: Systemd> Master<S> {
    /// Adds the last lines to apps with workers in a crash loop.
    pub async fn tell_crash_loops(master: &Arc<Self>, apps: &mut [App]) {
        let wanted: Vec<Wanted> = apps.iter().filter_map(wanted).collect();
        if wanted.is_empty() {
            return;
        }
        let settings = master.settings();
        lock(&master.said).apps.retain(|name, _| settings.apps.contains_key(name));
        for wanted in wanted.iter().cloned() {
            if lock(&master.said).begin(&wanted) {
                let master = master.clone();
                tokio::spawn(async move {
                    let lines = master.journal.lines_so_far(&wanted.of.0, wanted.since_us, 2 * LINES).await;
                    lock(&master.said).end(&wanted, of_the_app(lines));
                    master.heard.notify_waiters();
                });
            }
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let heard = master.heard.notified();
            if wanted.iter().all(|wanted| lock(&master.said).has(wanted)) || timeout_at(deadline, heard).await.is_err() {
                break;
            }
        }
        let said = lock(&master.said);
        for app in apps {
            if let (Some(crash), Some(entry)) = (&mut app.crash_loop, said.apps.get(&app.name)) {
                crash.lines.clone_from(&entry.lines);
            }
        }
    }
}

fn wanted(app: &App) -> Option<Wanted> {
    let row = app.workers.iter().find(|row| row.crash_loop.is_some())?;
    let (unit, crash) = (row.unit.clone()?, row.crash_loop.as_ref()?);
    let since_us = monotonic_us_now().saturating_sub(crash.looping_ms * 1000);
    Some(Wanted { app: app.name.clone(), of: (unit, crash.ends), since_us })
}

/// Without what our own steps say of every end, at most [`LINES`].
fn of_the_app(mut lines: Vec<String>) -> Vec<String> {
    lines.retain(|line| !line.contains(ready::ENDED) && !line.contains(crashes::CALLED));
    lines.split_off(lines.len().saturating_sub(LINES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Count;
    use crate::systemd::{ActiveState, Details, UnitState};

    fn seen(active: ActiveState, sub: &str, restarts: u32, active_since_us: u64) -> Seen {
        let state = UnitState { name: "api".into(), active, sub: sub.into(), job: None, masked: false, gone: false };
        Seen { served: false, state, details: Details { restarts, active_since_us, ..Details::default() } }
    }

    #[test]
    fn a_worker_that_waits_or_is_just_up_is_in_its_loop_and_one_that_is_stopped_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let instance: Instance = "3.1.1".parse().unwrap();
        let now = monotonic_us_now();
        let write = |count: Count| {
            std::fs::write(directory.path().join("3.1.1.json"), serde_json::to_vec(&count).unwrap()).unwrap();
        };
        let of = |seen: Seen| super::of(directory.path(), &instance, &seen, Duration::from_millis(100));
        let waiting = || seen(ActiveState::Activating, "start-pre", 4, 0);
        let waits = |seen: Seen| super::waits(directory.path(), &instance, &seen, Duration::from_millis(100));
        assert_eq!(of(waiting()), None, "no count");
        assert!(!waits(waiting()) && waits(seen(ActiveState::Activating, "auto-restart", 0, 0)));
        write(Count { format: 1, ends: 4, since_us: now.saturating_sub(5_000_000), start_us: now + 60_000_000 });
        let found = of(waiting()).unwrap();
        assert!(found.ends == 4 && (5000..50_000).contains(&found.looping_ms), "{found:?}");
        assert!(found.next_start_ms.is_some_and(|ms| (10_000..=60_000).contains(&ms)), "{found:?}");
        assert!(of(seen(ActiveState::Activating, "auto-restart", 4, 0)).is_some());
        assert!(waits(waiting()) && !waits(seen(ActiveState::Activating, "start-pre", 0, 0)), "a person's start");
        assert_eq!(of(seen(ActiveState::Activating, "start-pre", 0, 0)), None, "a person's start");
        assert_eq!(of(seen(ActiveState::Deactivating, "stop-sigterm", 4, 0)), None);
        assert_eq!(of(seen(ActiveState::Inactive, "dead", 4, 0)), None);
        write(Count { format: 1, ends: 4, since_us: 0, start_us: now.saturating_sub(20_000_000) });
        assert!(of(waiting()).is_some() && !waits(waiting()), "it tries");
        assert!(!waits(seen(ActiveState::Activating, "start-post", 4, 0)));
        let up = |ago: u64| seen(ActiveState::Active, "running", 4, now.saturating_sub(ago));
        assert_eq!(of(up(2_000_000)).map(|found| found.next_start_ms), Some(None));
        assert_eq!(of(up(15_000_000)), None);
    }

    #[test]
    fn lines_of_our_own_steps_are_not_the_app_s() {
        let lines = ["boom", &format!("the main process (7) of api {} says why", ready::ENDED), &format!("api:03 {} 3", crashes::CALLED)];
        assert_eq!(of_the_app(lines.map(String::from).to_vec()), ["boom"]);
        let many: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        assert_eq!(of_the_app(many)[..2], ["70", "71"]);
    }

    #[test]
    fn an_app_is_read_once_for_each_end_and_one_reading_at_a_time() {
        let mut said = Said::default();
        let wanted = |ends| Wanted { app: "api".parse().unwrap(), of: ("api@3.1.1.service".into(), ends), since_us: 0 };
        assert!(said.begin(&wanted(3)));
        assert!(!said.has(&wanted(3)));
        said.end(&wanted(3), vec!["boom".into()]);
        assert!(said.has(&wanted(3)) && !said.begin(&wanted(3)));
        assert!(!said.has(&wanted(4)) && said.begin(&wanted(4)));
    }
}
