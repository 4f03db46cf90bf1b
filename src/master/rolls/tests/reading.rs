//! What a master reads and when: signals, questions, settings, readings that fail.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_question_is_answered_by_the_present_and_finds_lost_signals_for_the_next() {
    let stage = Stage::set(&[]).await;
    let master = stage.master().await;
    assert_eq!(stage.fake.job(Verb::Stop, "project-cluster-api@3.1.1.service", SECOND).await, Ok(JobEnd::Done));
    // At once: the burst of its signals is not over.
    master.glance().await.unwrap();
    assert_eq!(master.app(&stage.app).unwrap().ready, 2);
    stage.fake.set_signals(crate::systemd::fake::Signals::Lost);
    assert_eq!(stage.fake.job(Verb::Stop, "project-cluster-api@2.1.1.service", SECOND).await, Ok(JobEnd::Done));
    tokio::time::sleep(10 * SECOND).await;
    master.glance().await.unwrap();
    assert_eq!(master.app(&stage.app).unwrap().ready, 2, "no signal came, and nobody had asked for long");
    master.glance().await.unwrap();
    assert_eq!(master.app(&stage.app).unwrap().ready, 1);
    stage.fake.set_reachable(false);
    assert_eq!(master.glance().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_signals_is_read_within_20_milliseconds() {
    for storm in ["project-cluster-api@1.1.1.service", "other.service"] {
        let (changes, mut heard) = broadcast::channel(64);
        let noise = async {
            let ours = |unit: &str| changes.send(Change::Unit(unit.into())).unwrap();
            ours("project-cluster-api@2.1.1.service");
            loop {
                ours(storm);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let settings = settings(API);
        let begin = tokio::time::Instant::now();
        let mut gathered = watch::Gathered::default();
        tokio::select! { open = gathered.burst(&mut heard, &settings) => assert!(open), () = noise => {} }
        let watch::Dirty::Units(units) = gathered.take().unwrap() else { panic!("all") };
        assert!(units.contains(&"project-cluster-api@2.1.1.service".to_owned()), "{units:?}");
        assert!(begin.elapsed() <= Duration::from_millis(if storm == "other.service" { 4 } else { 21 }), "{:?}", begin.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_failed_is_made_again() {
    let stage = Stage::set(&[]).await;
    let master = stage.master().await;
    stage.deaf.store(true, Ordering::Relaxed);
    assert_eq!(stage.fake.job(Verb::Stop, "project-cluster-api@2.1.1.service", SECOND).await, Ok(JobEnd::Done));
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(master.app(&stage.app).unwrap().ready, 3);
    stage.deaf.store(false, Ordering::Relaxed);
    // No signal says so.
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(master.app(&stage.app).unwrap().ready, 2);
}

#[tokio::test(start_paused = true)]
async fn a_reload_takes_settings_that_no_signal_told_of() {
    let stage = Stage::set(&[]).await;
    let master = stage.master().await;
    for workers in [2, 4] {
        let installed = settings(&API.replace("workers = 3", &format!("workers = {workers}")));
        crate::files::replace(&stage.places().settings(), &serde_json::to_vec(&installed).unwrap(), 0o600).unwrap();
        let roll = stage.ended(&master, &master.reload(&stage.app).await.unwrap()).await;
        assert_eq!((roll.state, roll.target, stage.up().len()), (RollState::Done, workers, usize::from(workers)), "{roll:?}");
    }
}
