//! A roll whose systemd carries out what it is asked and cannot be looked at: nothing is asked for.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_roll_whose_time_runs_out_while_it_cannot_look_asks_for_nothing_until_it_has_looked() {
    let stage = Stage::set(&[]).await;
    let master = stage.master().await;
    let roll = master.reload(&stage.app).await.unwrap();
    while !stage.up().contains(&"1.2.1".to_owned()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stage.deaf.store(true, Ordering::Relaxed);
    assert_eq!(stage.fake.job(Verb::Stop, "project-cluster@api.service", SECOND).await, Ok(JobEnd::Done));
    let calls = stage.fake.calls();
    // Longer than the way forward may take.
    tokio::time::sleep(700 * SECOND).await;
    assert_eq!(stage.fake.calls(), calls, "it asks for nothing");
    stage.deaf.store(false, Ordering::Relaxed);
    let roll = stage.ended(&master, &roll).await;
    assert!(roll.reason.as_ref().is_some_and(|reason| reason.contains("was stopped or restarted meanwhile")), "{roll:?}");
}
