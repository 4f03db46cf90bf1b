//! Rolls that are steered: canaries, a person's orders, `on_failure`, `max_live`.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::roll::machine::Phase;

impl Stage {
    /// A person's order to the roll that runs, and its answer.
    pub(super) async fn steer(&self, order: Steer) -> Result<(), &'static str> {
        let (answer, answered) = oneshot::channel();
        self.steer.send(Asked { order, answer }).await.unwrap();
        answered.await.unwrap()
    }

    pub(super) async fn wait_for(&self, step: &str) {
        let said = || self.steps().iter().any(|said| said.contains(step));
        tokio::time::timeout(Duration::from_secs(3600), async {
            while !said() {
                tokio::time::sleep(ms(10)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("nobody says {step}: {:?}", self.steps()));
    }

    fn kept(&self) -> Roll {
        serde_json::from_str(&self.book.kept.lock().unwrap().clone().unwrap()).unwrap()
    }
}

fn pause() -> Steer {
    Steer::Pause { reason: "root asked for it".into() }
}

pub(super) async fn tried(canary: u16, new: impl FnMut(u16, u32) -> App + Send + 'static) -> Stage {
    let mut stage = Stage::set(new).await;
    stage.reload = Reload { canary: Amount::Count(canary), bake: Duration::from_secs(5), ..stage.reload };
    stage
}

#[tokio::test(start_paused = true)]
async fn canaries_stand_beside_all_old_ones_until_they_have_passed() {
    let stage = tried(2, |_, _| App::ready_after(ms(200))).await;
    let begun = Instant::now();
    let meanwhile = |_| async {
        stage.wait_for("2 canaries are ready, and watched until ready for 5 s").await;
        tokio::time::sleep(ms(4900)).await;
        // Two, though max_surge is one, and all old ones.
        assert_eq!(stage.calls(), ["start 1.5.1", "start 2.5.1"]);
        assert_eq!(stage.active().len(), 6);
        stage.wait_for("2 canaries have passed, the rest follows").await;
    };
    assert_eq!(stage.with(meanwhile).await, Outcome::AllNew);
    assert!(begun.elapsed() >= Duration::from_secs(5));
    assert_eq!(stage.active(), all(5, 4));
    assert_eq!(stage.calls()[2..4], ["stop 1.4.1", "stop 2.4.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_ends_within_its_bake_leaves_the_old_ones_untouched() {
    let stage = tried(1, |_, _| App { crash_after: Some(ms(3000)), ..App::ready_after(ms(100)) }).await;
    let outcome = stage.execute().await;
    let why = "the canary api:01 (generation 5) ended once before it had been ready for 5 s";
    assert_eq!(outcome, Outcome::AllOld { reason: why.into() });
    assert_eq!(stage.calls(), ["start 1.5.1", "stop 1.5.1"]);
    assert_eq!(stage.active(), all(4, 4));
}

/// No reading falls between its end and its restart, and no signal tells of either.
#[tokio::test(start_paused = true)]
async fn a_canary_that_was_back_before_anybody_looked_has_ended_all_the_same() {
    let stage = tried(1, |_, start| App { crash_after: (start == 1).then_some(ms(6000)), ..App::ready_after(ms(100)) }).await;
    let reload = Reload { bake: Duration::from_secs(20), ..stage.reload };
    let stage = Stage { reload, ..stage };
    stage.fake.set_signals(Signals::Lost);
    let outcome = stage.execute().await;
    assert!(stage.steps().iter().any(|step| step.contains("was back before anybody looked")), "{:?}", stage.steps());
    assert!(reason(&outcome).starts_with("the canary api:01 (generation 5) ended once"), "{outcome:?}");
    assert_eq!(stage.active(), all(4, 4));
}

#[tokio::test(start_paused = true)]
async fn a_paused_roll_does_nothing_until_it_is_resumed() {
    let stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
    let meanwhile = |_| async {
        stage.wait_for("api:02 (generation 5) starts").await;
        assert_eq!(stage.steer(pause()).await, Ok(()));
        // Twice is once.
        assert_eq!(stage.steer(pause()).await, Ok(()));
        assert!(matches!(stage.kept().phase(), Phase::Paused { reason, .. } if reason == "root asked for it"));
        let calls = stage.calls();
        // Longer than its deadline: that stands still.
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(stage.calls(), calls);
        assert_eq!(
            stage.active(),
            [all(4, 4)[1..].to_vec(), all(5, 2)].concat().into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        );
        assert_eq!(stage.steer(Steer::Resume).await, Ok(()));
        assert!(matches!(stage.kept().phase(), Phase::Forward { .. }));
    };
    assert_eq!(stage.with(meanwhile).await, Outcome::AllNew);
    assert_eq!(stage.active(), all(5, 4));
}

#[tokio::test(start_paused = true)]
async fn an_abort_goes_back_from_wherever_the_roll_is_and_nothing_stops_that() {
    for paused in [false, true] {
        let stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
        let meanwhile = |_| async {
            stage.wait_for("api:03 (generation 5) starts").await;
            if paused {
                assert_eq!(stage.steer(pause()).await, Ok(()));
            }
            assert_eq!(stage.steer(Steer::Abort { reason: "aborted by root".into() }).await, Ok(()));
            assert!(stage.steer(pause()).await.unwrap_err().contains("goes back already"));
            assert!(stage.steer(Steer::Resume).await.is_err());
        };
        assert_eq!(stage.with(meanwhile).await, Outcome::AllOld { reason: "aborted by root".into() });
        assert_eq!(stage.active(), [unit("1.4.2"), unit("2.4.2"), unit("3.4.1"), unit("4.4.1")]);
    }
}

/// `on_failure = "pause"`: a person mends what was wrong and says `resume`; the worker that failed gets another try.
#[tokio::test(start_paused = true)]
async fn a_failure_waits_for_a_person_and_what_failed_is_tried_again() {
    static MENDED: AtomicBool = AtomicBool::new(false);
    let new = |slot, _| if slot == 3 && !MENDED.load(Ordering::Relaxed) { App::crashing(ms(30)) } else { App::ready_after(ms(200)) };
    let mut stage = Stage::set(new).await;
    stage.reload.on_failure = OnFailure::Pause;
    let meanwhile = |_| async {
        stage.wait_for("paused: api:03 (generation 5) failed: it exited with 1").await;
        let calls = stage.calls();
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(stage.calls(), calls, "nothing of it is stopped or tried again");
        assert_eq!(stage.steer(Steer::Resume).await, Ok(()));
        // Still broken.
        while stage.steps().iter().filter(|step| step.contains("paused: ")).count() < 2 {
            tokio::time::sleep(ms(10)).await;
        }
        MENDED.store(true, Ordering::Relaxed);
        assert_eq!(stage.steer(Steer::Resume).await, Ok(()));
    };
    assert_eq!(stage.with(meanwhile).await, Outcome::AllNew, "{:?}", stage.steps());
    assert_eq!(stage.active(), [unit("1.5.1"), unit("2.5.1"), unit("3.5.3"), unit("4.5.1")]);
    assert!(!stage.calls().iter().any(|call| call.starts_with("start") && call.contains(".4.")));
}

#[tokio::test(start_paused = true)]
async fn a_pause_outlives_the_master() {
    let stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
    let (mut roll, deps) = (stage.roll().await, stage.deps().await);
    tokio::select! {
        outcome = execute(Arc::new(stage.fake.clone()), &mut roll, deps) => panic!("{outcome:?}"),
        () = async {
            stage.wait_for("api:02 (generation 5) starts").await;
            assert_eq!(stage.steer(pause()).await, Ok(()));
        } => {}
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let calls = stage.calls();
    let (steer, orders) = mpsc::channel(1);
    let (mut roll, deps) = (stage.kept().resumed(), Deps { orders, ..stage.deps().await });
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(stage.calls(), calls);
        let (answer, answered) = oneshot::channel();
        steer.send(Asked { order: Steer::Resume, answer }).await.unwrap();
        assert_eq!(answered.await, Ok(Ok(())));
    };
    let (outcome, ()) = tokio::join!(execute(Arc::new(stage.fake.clone()), &mut roll, deps), meanwhile);
    stage.settle().await;
    assert_eq!(outcome, Outcome::AllNew);
    assert_eq!(stage.active(), all(5, 4));
    once_each(&stage, "paused");
}

/// Old workers that take long to end, and as many of them as may live beside the new.
#[tokio::test(start_paused = true)]
async fn a_roll_waits_for_old_workers_on_their_way_down_where_no_more_may_live() {
    for (most, slowest) in [(5, 40), (6, 20), (8, 10)] {
        let mut stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
        stage.reload.max_live = Some(Amount::Count(most));
        stage.fake.set_times(crate::systemd::fake::Times { stop: Duration::from_secs(60), ..Default::default() });
        for old in all(4, 4) {
            stage.fake.turn_into(&old, App { stop: Some(Duration::from_secs(10)), ..App::ready_after(ms(10)) });
        }
        let begun = Instant::now();
        let mut took = Duration::ZERO;
        let (mut roll, deps) = (stage.roll().await, stage.deps().await);
        let outcome = execute(Arc::new(stage.fake.clone()), &mut roll, deps).await;
        took += begun.elapsed();
        stage.settle().await;
        assert_eq!((outcome, stage.active()), (Outcome::AllNew, all(5, 4)), "{most}");
        let mut live = BTreeSet::new();
        for trace in stage.fake.trace().into_iter().filter(|trace| trace.unit != HANDLE) {
            if trace.state.starts_with("inactive") || trace.state.starts_with("failed") {
                live.remove(&trace.unit);
            } else {
                live.insert(trace.unit);
            }
            assert!(live.len() <= usize::from(most), "{most}: {live:?}");
        }
        assert_eq!(stage.steps().iter().any(|step| step.contains("`max_live` lets no more")), most < 8, "{:?}", stage.steps());
        assert!(took < Duration::from_secs(slowest + 5), "{most}: {took:?}");
    }
}

/// The cap must not end a roll nowhere: old ones that never end are bounded by systemd, and by the deadline, which says why.
#[tokio::test(start_paused = true)]
async fn what_takes_too_long_to_end_is_named_when_the_time_runs_out() {
    let mut stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
    stage.reload = Reload { max_live: Some(Amount::Count(5)), deadline: Duration::from_secs(30), ..stage.reload };
    stage.fake.set_times(crate::systemd::fake::Times { stop: Duration::from_secs(3600), ..Default::default() });
    stage.fake.turn_into(&unit("1.4.1"), App { stop: None, ..App::ready_after(ms(10)) });
    let outcome = stage.execute().await;
    assert!(reason(&outcome).contains("ran out after 30 s, while workers on their way down took up `max_live`"), "{outcome:?}");
}
