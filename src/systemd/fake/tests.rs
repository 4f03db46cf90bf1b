//! That the fake behaves.

use super::*;

const LONG: Duration = Duration::from_secs(3600);
const A: &str = "a@1.1.1.service";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn states(fake: &Fake) -> Vec<String> {
    fake.trace().into_iter().map(|trace| format!("{} {}", trace.at.as_millis(), trace.state)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stop_takes_the_place_of_a_start_and_a_second_start_joins_the_first() {
    let fake = Fake::new(|_, _| App::ready_after(ms(500)));
    let start = || fake.job(Verb::Start, A, LONG);
    let stop = async {
        sleep(ms(100)).await;
        fake.job(Verb::Stop, A, LONG).await
    };
    let ends = tokio::join!(start(), start(), stop);
    assert_eq!(ends, (Ok(JobEnd::Canceled), Ok(JobEnd::Canceled), Ok(JobEnd::Done)));
    // The helper that waited for readiness was ended by a signal.
    assert_eq!(states(&fake), ["0 activating/start-post", "100 deactivating/stop-sigterm", "110 failed/failed"]);
    fake.reset_failed(A).await.unwrap();
    assert_eq!(fake.units(&["a@*.service".into()]).await, Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_start_during_a_stop_waits_for_it_and_a_restart_does_both() {
    let fake = Fake::new(|_, _| App::ready_after(ms(50)));
    assert_eq!(fake.job(Verb::Start, A, LONG).await, Ok(JobEnd::Done));
    let start = async {
        sleep(ms(5)).await;
        fake.job(Verb::Start, A, LONG).await
    };
    assert_eq!(tokio::join!(fake.job(Verb::Stop, A, LONG), start), (Ok(JobEnd::Canceled), Ok(JobEnd::Done)));
    assert_eq!(fake.job(Verb::Restart, A, LONG).await, Ok(JobEnd::Done));
    let expected = ["activating/start-post", "active/running", "deactivating/stop-sigterm"];
    let seen: Vec<String> = fake.trace().into_iter().map(|trace| trace.state).collect();
    assert_eq!(seen, [&expected[..], &expected[..], &expected[..2]].concat());
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_restarted_and_never_failed() {
    let fake = Fake::new(|_, start| if start < 3 { App::crashing(ms(40)) } else { App::ready_after(ms(40)) });
    assert_eq!(fake.job(Verb::Start, A, LONG).await, Ok(JobEnd::Failed));
    assert_eq!(fake.state(A), "activating/auto-restart");
    sleep(ms(1000)).await;
    assert_eq!(fake.state(A), "active/running");
    let details = fake.details(A).await.unwrap();
    assert_eq!((details.restarts, details.result.as_str()), (2, "success"));
    fake.crash(A);
    assert_eq!(fake.state(A), "activating/auto-restart");
    let details = fake.details(A).await.unwrap();
    assert_eq!((details.exit_status, details.result.as_str()), (1, "exit-code"));
    assert_eq!(fake.job(Verb::Stop, A, LONG).await, Ok(JobEnd::Done));
    sleep(ms(1000)).await;
    assert_eq!(fake.state(A), "inactive/dead");
}

#[tokio::test(start_paused = true)]
async fn limits_are_enforced() {
    let fake =
        Fake::new(|_, start| App { start: if start == 1 { Start::Never } else { Start::Ready(ms(1)) }, crash_after: None, stop: None });
    assert_eq!(fake.job(Verb::Start, A, LONG).await, Ok(JobEnd::Failed));
    assert_eq!(fake.details(A).await.unwrap().result, "timeout");
    assert_eq!(fake.job(Verb::Start, A, LONG).await, Ok(JobEnd::Done));
    assert!(matches!(fake.job(Verb::Stop, A, ms(100)).await, Err(Error::Deadline { .. })));
    sleep(ms(5000)).await;
    assert_eq!(fake.state(A), "failed/failed");
    fake.reset_failed(A).await.unwrap();
    assert_eq!(
        states(&fake),
        [
            "0 activating/start-post",
            "30000 deactivating/stop-sigterm",
            "35000 activating/auto-restart",
            "35100 activating/start-post",
            "35101 active/running",
            "35101 deactivating/stop-sigterm",
            "40101 failed/failed",
            "40201 inactive/dead"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_goes_leaves_nobody_waiting() {
    let fake = Fake::new(|_, _| App::ready_after(ms(500)));
    let mut changes = fake.changes();
    let cut = async {
        sleep(ms(100)).await;
        fake.set_reachable(false);
    };
    let (end, ()) = tokio::join!(fake.job(Verb::Start, A, LONG), cut);
    assert!(matches!(end, Err(Error::Unreachable(_))));
    assert!(fake.units(&[A.into()]).await.is_err());
    sleep(ms(1000)).await;
    fake.set_reachable(true);
    // The job went on.
    assert_eq!(fake.units(&[A.into()]).await.unwrap()[0].active, ActiveState::Active);
    let told: Vec<Change> = std::iter::from_fn(|| changes.try_recv().ok()).collect();
    assert_eq!(told, [Change::Unit(A.into()), Change::Unit(A.into()), Change::All]);
    fake.refuse(Verb::Stop, A);
    assert!(matches!(fake.job(Verb::Stop, A, LONG).await, Err(Error::Refused { .. })));
}
