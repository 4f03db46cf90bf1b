//! `pause`, `resume`, `abort`, and what else is asked for meanwhile.

use super::*;
use crate::api::types::RollEnd;
use crate::intent::Change;
use crate::master::rolls::steer::Order;

#[tokio::test(start_paused = true)]
async fn a_paused_roll_refuses_what_would_wait_for_it_and_outlives_the_master() {
    let mut stage = Stage::set(&[]).await;
    let master = stage.master().await;
    let roll = master.reload(&stage.app).await.unwrap();
    let waits = master.reload(&stage.app).await.unwrap();
    let done = master.steer(&stage.app, roll.id, Order::Pause).await.unwrap();
    assert!(!done.under_way && done.message.contains("`project-cluster resume api` goes on"), "{done:?}");
    let behind = master.steer(&stage.app, waits.id, Order::Pause).await.unwrap_err();
    assert!(behind.code() == Code::Conflict && behind.to_string().contains("has not begun"), "{behind}");
    // A new master finds it so.
    for lives in [true, false] {
        if !lives {
            stage.kill();
        }
        let master = if lives { Arc::clone(&master) } else { stage.master().await };
        // What was on its way gets where it was going.
        tokio::time::sleep(60 * SECOND).await;
        let up = stage.up();
        let known = master.roll(&stage.app, roll.id, None, 600 * SECOND).await.unwrap();
        assert_eq!((known.state, known.reason.as_deref()), (RollState::Paused, Some("somebody asked for it")), "{known:?}");
        let behind = master.app(&stage.app).unwrap().roll.unwrap();
        assert_eq!(behind.id, roll.id, "the one that is paused is shown");
        let behind = master.past_rolls(None).into_iter().find(|roll| roll.state == RollState::Waiting).unwrap();
        assert!(behind.stands_still() && behind.reason.as_ref().unwrap().contains("waits behind a roll that is paused"), "{behind:?}");
        let refusals = [
            master.reload(&stage.app).await.unwrap_err(),
            master.change(&stage.app, &Change::Scale(5)).await.unwrap_err(),
            master.restart(&stage.app, Slot::first(1).collect()).await.unwrap_err(),
            master.start(&stage.app).await.unwrap_err(),
            master.apply(&stage.app, false).await.unwrap_err(),
        ];
        for refusal in refusals {
            assert!(refusal.code() == Code::Paused && refusal.to_string().contains("`project-cluster abort api`"), "{refusal:?}");
        }
        assert_eq!(stage.intent().slots, None, "what is refused changes nothing");
        tokio::time::sleep(3600 * SECOND).await;
        assert_eq!(stage.up(), up);
        if !lives {
            master.steer(&stage.app, roll.id, Order::Resume).await.unwrap();
            let ended = stage.ended(&master, &roll).await;
            assert_eq!((ended.state, ended.reason.as_deref(), ended.end), (RollState::Done, None, Some(RollEnd::AllNew)), "{ended:?}");
            let next = stage.ended(&master, &behind).await;
            assert_eq!((next.state, next.generation), (RollState::Done, Some(Generation(3))), "{next:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_holds_the_app_and_says_who() {
    let stage = Stage::set(&[]).await;
    let master = stage.master().await;
    let roll = master.reload(&stage.app).await.unwrap();
    let asked = under_way::asked("user 1000".into(), master.steer(&stage.app, roll.id, Order::Abort)).await.unwrap();
    assert!(asked.under_way, "{asked:?}");
    let ended = stage.ended(&master, &roll).await;
    assert_eq!((ended.state, ended.end), (RollState::Failed, Some(RollEnd::AllOld)), "{ended:?}");
    assert_eq!(stage.intent().held.unwrap().reason, "aborted by user 1000");
    assert_eq!(stage.up(), ["1.1.1", "2.1.1", "3.1.1"]);
    let late = master.steer(&stage.app, roll.id, Order::Pause).await.unwrap_err();
    assert!(late.code() == Code::Conflict && late.to_string().contains("has ended"), "{late}");
    assert_eq!(master.steer(&stage.app, 7, Order::Pause).await.unwrap_err().code(), Code::NotFound);
    master.reset(&stage.app, None).await.unwrap();
    assert_eq!(stage.intent().held, None);
}
