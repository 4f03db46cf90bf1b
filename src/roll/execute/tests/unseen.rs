//! What happens while systemd carries out what it is asked and cannot be looked at, and behind the roll's back.

use std::sync::atomic::{AtomicBool, Ordering};

use super::steered::tried;
use super::*;
use crate::systemd::fake::Times;

/// A systemd whose readings of the whole app fail, or those of single services; jobs and their ends are told.
struct Deaf {
    fake: Fake,
    readings: AtomicBool,
    details: AtomicBool,
    /// Readings fail from the moment on at which a job of this unit is asked for.
    from: Mutex<Option<String>>,
}

impl Systemd for Deaf {
    async fn units(&self, patterns: &[String]) -> Result<Vec<crate::systemd::UnitState>, Error> {
        // More than one is the whole app.
        if patterns.len() > 1 && self.readings.load(Ordering::Relaxed) {
            return Err(Error::Unreachable("the bus is away".into()));
        }
        self.fake.units(patterns).await
    }
    async fn details(&self, unit: &str) -> Result<Details, Error> {
        if self.details.load(Ordering::Relaxed) {
            return Err(Error::Unreachable("the bus is away".into()));
        }
        self.fake.details(unit).await
    }
    async fn active_since(&self, unit: &str) -> Result<u64, Error> {
        self.fake.active_since(unit).await
    }
    async fn job(&self, verb: Verb, unit: &str, limit: Duration) -> Result<JobEnd, Error> {
        if self.from.lock().unwrap().take_if(|from| from == unit).is_some() {
            self.readings.store(true, Ordering::Relaxed);
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

impl Stage {
    /// Rolls over a systemd that cannot be looked at for a while.
    async fn deaf<F: Future<Output = ()>>(&self, meanwhile: impl FnOnce(Arc<Deaf>) -> F) -> Outcome {
        let deaf = Arc::new(Deaf { fake: self.fake.clone(), readings: false.into(), details: false.into(), from: Mutex::default() });
        let (mut roll, deps) = (self.roll().await, self.deps().await);
        let (outcome, ()) = tokio::join!(execute(Arc::clone(&deaf), &mut roll, deps), meanwhile(deaf));
        self.settle().await;
        outcome
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_job_that_is_told_while_nothing_can_be_read_ends_no_roll() {
    let stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
    stage.fake.set_times(Times { restart: Duration::from_secs(60), ..Times::default() });
    let here = &stage;
    let outcome = stage
        .deaf(|deaf| async move {
            *deaf.from.lock().unwrap() = Some(unit("4.4.1"));
            here.wait_for("api:04 (generation 4) retires").await;
            deaf.fake.crash(&unit("1.5.1"));
            sleep_until(Instant::now() + Duration::from_secs(10)).await;
            deaf.readings.store(false, Ordering::Relaxed);
        })
        .await;
    assert!(reason(&outcome).starts_with("api:01 (generation 5) left"), "{outcome:?}: {:?}", stage.steps());
    assert!(matches!(outcome, Outcome::AllOld { .. }), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_canary_is_not_found_fit_by_what_is_remembered_of_it() {
    for (readings, details) in [(true, false), (false, true)] {
        let stage = tried(1, |_, _| App::ready_after(ms(200))).await;
        stage.fake.set_signals(Signals::Lost);
        let here = &stage;
        let outcome = stage
            .deaf(|deaf| async move {
                here.wait_for("1 canary is ready, and watched").await;
                deaf.readings.store(readings, Ordering::Relaxed);
                deaf.details.store(details, Ordering::Relaxed);
                // It is back at once.
                deaf.fake.crash(&unit("1.5.1"));
                // Its bake is over meanwhile.
                sleep_until(Instant::now() + Duration::from_secs(20)).await;
                deaf.readings.store(false, Ordering::Relaxed);
                deaf.details.store(false, Ordering::Relaxed);
            })
            .await;
        assert!(!stage.steps().iter().any(|step| step.contains("passed")), "{readings} {details}: {:?}", stage.steps());
        assert!(reason(&outcome).starts_with("the canary api:01 (generation 5) ended once"), "{readings} {details}: {outcome:?}");
        assert_eq!(stage.active(), all(4, 4), "{readings} {details}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_that_comes_while_nothing_can_be_read_is_heeded_behind_the_next_reading() {
    let stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
    let here = &stage;
    let outcome = stage
        .deaf(|deaf| async move {
            here.wait_for("api:01 (generation 5) is ready").await;
            deaf.readings.store(true, Ordering::Relaxed);
            let begun = Instant::now();
            let lifted = async {
                sleep_until(begun + Duration::from_secs(10)).await;
                deaf.readings.store(false, Ordering::Relaxed);
            };
            let (heeded, ()) = tokio::join!(here.steer(Steer::Abort { reason: "aborted by root".into() }), lifted);
            assert!(heeded == Ok(()) && begun.elapsed() >= Duration::from_secs(10), "{heeded:?} after {:?}", begun.elapsed());
        })
        .await;
    assert_eq!(outcome, Outcome::AllOld { reason: "aborted by root".into() });
}

/// An old worker that drains for long: its slot stays empty, on either way.
#[tokio::test(start_paused = true)]
async fn an_old_worker_that_somebody_stops_is_replaced_by_none_however_long_it_drains() {
    for fails in [false, true] {
        let stage = Stage::set(move |slot, _| if fails && slot == 3 { App::crashing(ms(30)) } else { App::ready_after(ms(200)) }).await;
        stage.fake.set_times(Times { stop: Duration::from_secs(40), ..Times::default() });
        *stage.book.respects.lock().unwrap() = Some(stage.reload);
        stage.fake.turn_into(&unit("2.4.1"), App { stop: Some(Duration::from_secs(30)), ..App::ready_after(ms(10)) });
        let here = &stage;
        let outcome = stage
            .with(|fake| async move {
                here.wait_for("api:01 (generation 5) is ready").await;
                assert_eq!(fake.job(Verb::Stop, &unit("2.4.1"), Duration::from_secs(60)).await, Ok(JobEnd::Done));
            })
            .await;
        let calls = stage.calls();
        assert!(!calls.iter().any(|call| call.starts_with("start 2.")), "{fails}: {calls:?}");
        assert!(
            stage.steps().iter().any(|step| step.contains("api:02 (generation 4) left: somebody has stopped it")),
            "{:?}",
            stage.steps()
        );
        let left = if fails { vec!["1.4.2", "3.4.1", "4.4.1"] } else { vec!["1.5.1", "3.5.1", "4.5.1"] };
        assert_eq!(stage.active(), left.into_iter().map(unit).collect::<Vec<_>>(), "{fails}: {outcome:?}");
        assert_eq!(matches!(outcome, Outcome::AllNew), !fails, "{outcome:?}");
    }
}

/// One that crashes, whose main process leaves something behind that takes long to end, is not stopped by anybody.
#[tokio::test(start_paused = true)]
async fn an_old_worker_that_crashes_or_is_restarted_by_somebody_is_replaced_in_its_turn() {
    for restart in [false, true] {
        let stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
        *stage.book.respects.lock().unwrap() = Some(stage.reload);
        let here = &stage;
        let outcome = stage
            .with(|fake| async move {
                here.wait_for("api:01 (generation 5) is ready").await;
                if restart {
                    assert_eq!(fake.job(Verb::Restart, &unit("3.4.1"), Duration::from_secs(60)).await, Ok(JobEnd::Done));
                } else {
                    fake.crash(&unit("3.4.1"));
                }
            })
            .await;
        assert_eq!((outcome, stage.active()), (Outcome::AllNew, all(5, 4)), "{restart}: {:?}", stage.steps());
    }
}

/// Each writing fails from the n-th on: no move is lost, so that every stop that the roll believes in was asked for.
#[tokio::test(start_paused = true)]
async fn a_disk_that_is_full_from_any_writing_on_leaves_no_stop_that_was_never_asked_for() {
    for written in 0..10 {
        let mut stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
        // Several go at once.
        stage.reload = Reload { max_surge: Amount::Count(2), max_unavailable: Amount::Count(1), ..stage.reload };
        *stage.book.room.lock().unwrap() = Some(written);
        let (begun, outcome) = (Instant::now(), stage.execute().await);
        assert!(matches!(&outcome, Outcome::AllOld { .. } | Outcome::AllNew), "{written}: {outcome:?}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{written}: not its deadline, {:?}", begun.elapsed());
        let of = if outcome == Outcome::AllNew { 5 } else { 4 };
        let up = stage.active();
        assert!(up.len() == 4 && up.iter().all(|unit| unit.contains(&format!(".{of}."))), "{written}: {outcome:?} {up:?}");
        let calls = stage.calls();
        let retired = stage.steps().iter().filter(|step| step.contains(" retires")).count();
        assert_eq!(calls.iter().filter(|call| call.starts_with("stop")).count(), retired, "{written}: {calls:?} {:?}", stage.steps());
    }
}
