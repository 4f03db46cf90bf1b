//! What the first format's program had written in the middle of a roll, taken up by this one.

use super::*;
use crate::roll::execute::Clock;

const ROLL: &str = include_str!("../../../../tests/fixtures/formats/roll-1.json");
const APPS: &str = include_str!("../../../../tests/fixtures/formats/apps-1.json");

/// A stage as that program left it: the first of three slots served by the new generation, the second on its way, a reload
/// waiting. The times in the file are those of another machine's boot; they become this one's.
async fn left() -> Stage {
    let stage = Stage::set(&[]).await;
    for worker in ["1.2.1", "2.2.1"] {
        stage.start(worker).await;
    }
    let since = stage.fake.active_since("project-cluster@api.service").await.unwrap();
    let now = clock().now();
    let mut roll = ROLL.replace("13660268430", &since.to_string());
    for (then, ago) in [("13660341", 900), ("13660775", 466), ("13658341", 2900)] {
        roll = roll.replace(then, &(now - ago).to_string());
    }
    roll = roll.replace("14260341", &(now + 599_000).to_string());
    std::fs::write(stage.places().roll(&stage.app), roll).unwrap();
    std::fs::write(stage.places().next_roll(&stage.app), "").unwrap();
    std::fs::write(stage.places().intent(), APPS).unwrap();
    stage
}

fn clock() -> Clock {
    super::super::clock()
}

#[tokio::test(start_paused = true)]
async fn its_roll_goes_on_and_the_reload_behind_it_follows() {
    let stage = left().await;
    let master = stage.master().await;
    let first = master.roll(&stage.app, 1_795_530_543_641, None, SECOND).await.unwrap();
    let first = stage.ended(&master, &first).await;
    assert_eq!((first.state, first.generation), (RollState::Done, Some(Generation(2))), "{first:?}");
    assert_eq!(first.steps[1].text, "api:01 (generation 2) is ready", "its steps are kept");
    let second = master.roll(&stage.app, 1_795_530_543_642, None, SECOND).await.unwrap();
    let second = stage.ended(&master, &second).await;
    assert_eq!((second.state, second.generation), (RollState::Done, Some(Generation(3))), "{second:?}");
    assert_eq!(stage.up(), ["1.3.1", "2.3.1", "3.3.1"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_or_newer_is_moved_aside_and_holds_the_app() {
    for text in ["", "{", "null", &ROLL.replacen('{', "{\"format\":4,", 1), &ROLL.replace("\"lacking\":0", "\"lacking\":-1")] {
        let stage = left().await;
        std::fs::write(stage.places().roll(&stage.app), text).unwrap();
        std::fs::remove_file(stage.places().next_roll(&stage.app)).unwrap();
        let master = stage.master().await;
        let held = master.app(&stage.app).unwrap().held.expect("it is held");
        assert!(held.reason.contains("cannot be read"), "{held:?}");
        let aside = stage.places().roll(&stage.app).with_extension("json.damaged-1");
        assert_eq!(std::fs::read_to_string(aside).unwrap(), *text);
        // Nobody's workers were touched, and a reload makes them one again.
        assert_eq!(stage.up(), ["1.1.1", "1.2.1", "2.1.1", "2.2.1", "3.1.1"]);
        let roll = stage.ended(&master, &master.reload(&stage.app).await.unwrap()).await;
        assert_eq!((roll.state, stage.up().len()), (RollState::Done, 3), "{roll:?}");
        assert_eq!(stage.intent().held, None);
    }
}
