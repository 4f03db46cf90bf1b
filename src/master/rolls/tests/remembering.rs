//! What the master remembers, and what it makes of what others left.

use super::*;
use crate::intent::{Change as Wanted, Hold};

#[tokio::test(start_paused = true)]
async fn a_restart_that_was_not_whole_is_of_the_generation_it_brought_up() {
    let stage = Stage::set(&[2]).await;
    let master = stage.master().await;
    master.remember(&stage.app, |intent| intent.held = Some(Hold::new(1, "no", Generation(1))));
    // `systemctl restart`: slot 2 does not get ready, and the start step is content with the others.
    for slot in 1..=3 {
        assert_eq!(stage.fake.job(Verb::Stop, &format!("project-cluster-api@{slot}.1.1.service"), SECOND).await, Ok(JobEnd::Done));
    }
    stage.start("1.2.1").await;
    stage.start("3.2.1").await;
    let _ = stage.fake.job(Verb::Start, "project-cluster-api@2.2.1.service", SECOND).await;
    std::fs::write(stage.places().generation(&stage.app), "started 2\n1 0\n2 0\n").unwrap();
    let done = master.change(&stage.app, &Wanted::Add(1)).await.unwrap();
    assert_eq!((stage.intent().generation, stage.intent().held), (Some(Generation(2)), None));
    stage.ended(&master, &done.roll.unwrap()).await;
    assert!(stage.up().contains(&"4.2.1".to_owned()), "{:?}", stage.up());
    assert!(stage.up().iter().all(|worker| !worker.contains(".1.")), "{:?}", stage.up());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_down_is_not_begun_and_what_is_so_is_written_later() {
    let stage = Stage::set(&[]).await;
    let master = stage.master().await;
    let (state, away) = (stage.places().var.join("state"), stage.places().var.join("away"));
    let roll = master.reload(&stage.app).await.unwrap();
    std::fs::rename(&state, &away).unwrap();
    let roll = stage.ended(&master, &roll).await;
    let reason = roll.reason.unwrap();
    assert_eq!(roll.state, RollState::Failed);
    assert!(reason.starts_with("generation 2 serves, but is not remembered: ") && reason.contains("`df "), "{reason}");
    assert_eq!(stage.up(), ["1.2.1", "2.2.1", "3.2.1"]);
    for change in [Wanted::Add(1), Wanted::Scale(1), Wanted::Stop([crate::names::Slot::new(2).unwrap()].into())] {
        let refused = master.change(&stage.app, &change).await.unwrap_err();
        assert!(refused.to_string().starts_with("api: nothing was begun, since it cannot be written down: "), "{refused}");
        assert!(!stage.places().next_roll(&stage.app).exists());
    }
    assert_eq!(master.app(&stage.app).unwrap().workers.len(), 3);
    // A reading is enough, and then a verb is carried out.
    std::fs::rename(&away, &state).unwrap();
    master.look().await.unwrap();
    assert_eq!(stage.intent().generation, Some(Generation(2)));
    let done = master.change(&stage.app, &Wanted::Add(1)).await.unwrap();
    assert_eq!(stage.ended(&master, &done.roll.unwrap()).await.state, RollState::Done);
}

#[tokio::test(start_paused = true)]
async fn what_waited_and_cannot_be_read_is_no_deploy() {
    let newer = r#"{"format":4,"deploy":true,"restart":[],"ticket":null}"#;
    for (text, generation) in [("", 2), (r#"{"deploy":true,"restart":[]}"#, 2), ("{", 1), ("null", 1), ("{}", 1), (newer, 1)] {
        let stage = Stage::set(&[]).await;
        let path = stage.places().next_roll(&stage.app);
        // A worker is missing: that is mended in any case.
        assert_eq!(stage.fake.job(Verb::Stop, "project-cluster-api@3.1.1.service", SECOND).await, Ok(JobEnd::Done));
        stage.master().await.remember(&stage.app, |intent| intent.generation = Some(Generation(1)));
        std::fs::write(&path, text).unwrap();
        let master = stage.master().await;
        let roll = master.app(&stage.app).unwrap().roll.unwrap();
        assert_eq!(stage.ended(&master, &roll).await.state, RollState::Done);
        assert_eq!((master.app(&stage.app).unwrap().generation, stage.up().len()), (Some(Generation(generation)), 3), "{text}");
        assert_eq!(path.with_extension("next.damaged-1").exists(), generation == 1, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_not_remembered_and_who_asked_is_told() {
    let stage = Stage::set(&[]).await;
    let master = stage.master().await;
    let two = std::collections::BTreeSet::from([crate::names::Slot::new(2).unwrap()]);
    let stop = master.change(&stage.app, &Wanted::Stop(two.clone())).await.unwrap();
    stage.ended(&master, &stop.roll.unwrap()).await;
    assert_eq!(stage.fake.job(Verb::Stop, SOCKET, SECOND).await, Ok(JobEnd::Done));
    let before = (stage.intent(), stage.up());
    for change in [Wanted::Add(1), Wanted::Scale(5), Wanted::Start(Some(two))] {
        let refused = master.change(&stage.app, &change).await.unwrap_err().to_string();
        assert!(refused.contains(SOCKET) && refused.ends_with("start project-cluster@api.service`"), "{change:?}: {refused}");
        assert_eq!((stage.intent(), stage.up()), before, "{change:?}");
        assert!(!stage.places().next_roll(&stage.app).exists());
    }
    let refused = master.start(&stage.app).await.unwrap_err().to_string();
    assert!(refused.ends_with("start project-cluster@api.service`"), "{refused}");
    assert_eq!((stage.intent(), stage.up()), before);
    assert_eq!(stage.fake.job(Verb::Start, SOCKET, SECOND).await, Ok(JobEnd::Done));
    // Who asked is told; what the roll does then is its own.
    let reload = master.reload(&stage.app).await.unwrap();
    stage.ended(&master, &reload).await;
    let told = master.events().kept(0).into_iter().filter(|event| event.what.roll == Some(reload.id));
    let told: Vec<_> = told.filter_map(|event| Some((event.what.kind, event.what.by?.word()))).collect();
    assert_eq!((told[0], told[told.len() - 1]), ((Kind::RollBegin, "operator"), (Kind::RollDone, "roll")), "{told:?}");
}
