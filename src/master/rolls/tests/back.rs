//! Rollbacks: carried on by whoever comes next, and not undone by what was asked for before.

use super::*;

/// A stage whose generation 2 serves and whose generation 1 is kept.
async fn second() -> (Stage, Arc<Master<Mortal>>) {
    let stage = Stage::set(&[]).await;
    let master = stage.master().await;
    tell(&stage.places().var, Generation(1), Generation(1));
    assert_eq!(stage.ended(&master, &master.reload(&stage.app).await.unwrap()).await.generation, Some(Generation(2)));
    (stage, master)
}

#[tokio::test(start_paused = true)]
async fn a_rollback_is_a_generation_of_its_own_with_the_older_pin_also_behind_a_master_that_died() {
    for after in [0, 150, 1300, 2600] {
        let (mut stage, master) = second().await;
        let roll = master.roll_back(&stage.app, None).await.unwrap();
        tokio::time::sleep(Duration::from_millis(after)).await;
        stage.kill();
        let master = stage.master().await;
        let roll = stage.ended(&master, &roll).await;
        let told = (roll.state, roll.generation, roll.pin);
        assert_eq!(told, (RollState::Done, Some(Generation(3)), Some(Generation(1))), "killed after {after} ms: {roll:?}");
        assert_eq!(stage.up(), ["1.3-1.1", "2.3-1.1", "3.3-1.1"], "killed after {after} ms");
        let intent = stage.intent();
        assert_eq!((intent.generation, intent.pin), (Some(Generation(3)), Some(Generation(1))));
        assert_eq!(intent.rolled_back.map(|back| back.to), Some(Generation(1)), "killed after {after} ms");
        let shown = master.app(&stage.app).unwrap();
        assert!(shown.workers.iter().all(|row| row.pin == Some(Generation(1)) && row.release.as_deref() == Some("/")), "{shown:?}");
        assert_eq!(shown.past.iter().map(|past| past.generation.0).collect::<Vec<_>>(), [2]);
        // A single worker is what its siblings are; a reload is what is installed again.
        let one = master.restart(&stage.app, [Slot::new(2).unwrap()].into()).await.unwrap().roll.unwrap();
        stage.ended(&master, &one).await;
        assert_eq!(stage.up(), ["1.3-1.1", "2.3-1.2", "3.3-1.1"]);
        let next = stage.ended(&master, &master.reload(&stage.app).await.unwrap()).await;
        assert_eq!((next.generation, next.pin, stage.intent().rolled_back), (Some(Generation(4)), None, None));
        assert_eq!(stage.up(), ["1.4.1", "2.4.1", "3.4.1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_is_not_merged_with_a_reload_and_not_lost_with_its_master() {
    let (mut stage, master) = second().await;
    let first = master.reload(&stage.app).await.unwrap();
    let why = master.roll_back(&stage.app, None).await.unwrap_err().to_string();
    assert!(why.contains("generation 3 is under way") && why.contains("`--to 2`, `--to 1`"), "{why}");
    let back = master.roll_back(&stage.app, Some(Generation(1))).await.unwrap();
    assert_eq!(master.roll_back(&stage.app, Some(Generation(1))).await.unwrap().id, back.id, "the same twice is once");
    for refused in [master.reload(&stage.app).await, master.roll_back(&stage.app, Some(Generation(2))).await] {
        let why = refused.unwrap_err().to_string();
        assert!(why.contains("a rollback to generation 1 waits behind the roll under way"), "{why}");
    }
    stage.kill();
    let master = stage.master().await;
    assert_eq!(stage.ended(&master, &first).await.generation, Some(Generation(3)));
    let back = stage.ended(&master, &back).await;
    assert_eq!((back.state, back.generation, back.pin), (RollState::Done, Some(Generation(4)), Some(Generation(1))), "{back:?}");
    assert_eq!(stage.up(), ["1.4-1.1", "2.4-1.1", "3.4-1.1"]);
}

#[tokio::test(start_paused = true)]
async fn behind_a_roll_that_failed_what_served_is_there_to_go_back_to() {
    let stage = Stage::set(&[2]).await;
    let master = stage.master().await;
    tell(&stage.places().var, Generation(1), Generation(1));
    let why = master.roll_back(&stage.app, Some(Generation(1))).await.unwrap_err().to_string();
    assert!(why.contains("generation 1 is what serves"), "{why}");
    assert_eq!(stage.ended(&master, &master.reload(&stage.app).await.unwrap()).await.state, RollState::Failed);
    let why = master.roll_back(&stage.app, Some(Generation(2))).await.unwrap_err().to_string();
    assert!(why.contains("never current"), "{why}");
    let roll = stage.ended(&master, &master.roll_back(&stage.app, Some(Generation(1))).await.unwrap()).await;
    assert_eq!(
        (roll.state, stage.intent().held, stage.up()),
        (RollState::Done, None, ["1.3-1.1", "2.3-1.1", "3.3-1.1"].map(str::to_owned).to_vec())
    );
}
