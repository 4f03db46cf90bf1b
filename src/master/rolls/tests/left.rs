//! What a master leaves to the next: rolls under way, those that have ended, files that are damaged.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_kept_roll_is_taken_up_under_its_number_and_so_is_the_reload_behind_it() {
    for after in [0, 150, 1300, 2600] {
        let mut stage = Stage::set(&[]).await;
        let master = stage.master().await;
        let first = master.reload(&stage.app).await.unwrap();
        let second = master.reload(&stage.app).await.unwrap();
        tokio::time::sleep(Duration::from_millis(after)).await;
        stage.kill();
        let master = stage.master().await;
        let first = stage.ended(&master, &first).await;
        assert_eq!((first.state, first.generation), (RollState::Done, Some(Generation(2))), "killed after {after} ms: {first:?}");
        assert!(first.steps.iter().any(|step| step.text.contains("new master")), "{first:?}");
        let second = stage.ended(&master, &second).await;
        assert_eq!((second.state, second.generation), (RollState::Done, Some(Generation(3))), "killed after {after} ms: {second:?}");
        assert_eq!(stage.up(), ["1.3.1", "2.3.1", "3.3.1"], "killed after {after} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_is_remembered_by_the_next_master_where_this_one_did_not_live_to_do_it() {
    for (broken, state) in [(&[2][..], RollState::Failed), (&[], RollState::Done)] {
        let mut stage = Stage::set(broken).await;
        let master = stage.master().await;
        let roll = master.reload(&stage.app).await.unwrap();
        // The executor's last writing; what is to be remembered of it comes behind.
        let path = stage.places().roll(&stage.app);
        while !std::fs::read_to_string(&path).is_ok_and(|text| text.contains(r#""phase":{"ended""#)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stage.kill();
        assert_eq!((stage.intent().generation, stage.intent().held), (Some(Generation(1)), None));
        let master = stage.master().await;
        assert_eq!(stage.ended(&master, &roll).await.state, state);
        assert_eq!(stage.intent().held.is_some(), state == RollState::Failed);
        assert_eq!(stage.intent().generation, Some(Generation(if state == RollState::Failed { 1 } else { 2 })));
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_roll_file_holds_the_app_and_says_what_to_do() {
    let stage = Stage::set(&[]).await;
    stage.start("1.2.1").await;
    for damage in ["", "{", r#"{"record":{}}"#] {
        std::fs::write(stage.places().roll(&stage.app), damage).unwrap();
        let master = stage.master().await;
        let held = master.app(&stage.app).unwrap().held.unwrap();
        assert!(held.reason.contains("cannot be read"), "{held:?}");
        assert!(!stage.places().roll(&stage.app).exists());
    }
    // A reload replaces them all.
    let master = stage.master().await;
    let roll = stage.ended(&master, &master.reload(&stage.app).await.unwrap()).await;
    assert_eq!(roll.state, RollState::Done, "{roll:?}");
    assert_eq!(stage.up(), ["1.3.1", "2.3.1", "3.3.1"]);
    assert_eq!(stage.intent().held, None);
}
