//! What runs ahead of a roll and behind it.

use super::*;
use crate::api::types::{HookState, RollEnd};
use crate::master::rolls::steer::Order;

const HOOKED: &str = "[apps.api]\nworkers = 3\ncommand = \"/usr/bin/node x.js\"\ncwd = \"/srv\"\nlisten = 3000\n\
                      reload = { deadline = \"20s\", hooks = { before = \"/bin/migrate\", after = \"/bin/tell\", failed = \"/bin/cry\" } }\n";

/// Where this hook fails, or takes so long.
async fn hooked(fails: &'static str, takes: Duration) -> Stage {
    Stage::with(HOOKED, move |unit| match unit.split_once("-api:") {
        Some((_, hook)) if hook.starts_with(fails) && !fails.is_empty() => App::crashing(takes),
        Some(_) => App::ready_after(takes),
        None => App::ready_after(Duration::from_millis(100)),
    })
    .await
}

/// Each hook of a roll, in the order in which they began.
fn ends(roll: &types::Roll) -> Vec<(HookKind, HookState)> {
    roll.hooks.iter().map(|hook| (hook.kind, hook.state)).collect()
}

/// The units that were started, in order, each told once.
fn started(stage: &Stage) -> Vec<String> {
    let starts =
        stage.fake.calls().into_iter().filter(|(verb, unit)| *verb == Verb::Start && unit.contains(':') && !unit.contains("socket"));
    starts.map(|(_, unit)| unit).collect()
}

#[tokio::test(start_paused = true)]
async fn before_takes_its_own_time_and_after_comes_behind_the_memory_of_the_new_generation() {
    let stage = hooked("", 100 * SECOND).await;
    let master = stage.master().await;
    let begun = master.reload(&stage.app).await.unwrap();
    tokio::time::sleep(60 * SECOND).await;
    let roll = master.app(&stage.app).unwrap().roll.unwrap();
    assert_eq!(ends(&roll), [(HookKind::Before, HookState::Running)]);
    assert_eq!((roll.hook().map(|hook| hook.unit.as_str()), stage.up().len()), (Some("project-cluster-api:before@2.service"), 3));
    tokio::time::sleep(60 * SECOND).await;
    let roll = master.app(&stage.app).unwrap().roll.unwrap();
    assert_eq!((ends(&roll).last(), roll.under_way()), (Some(&(HookKind::After, HookState::Running)), true), "{roll:?}");
    assert_eq!((stage.intent().generation, stage.up()), (Some(Generation(2)), vec!["1.2.1".into(), "2.2.1".into(), "3.2.1".into()]));
    let roll = stage.ended(&master, &begun).await;
    assert_eq!((roll.state, ends(&roll).len()), (RollState::Done, 2), "longer than the deadline, which is the workers': {roll:?}");
    assert!(roll.hooks.iter().all(|hook| hook.took_ms.is_some_and(|took| (100_000..110_000).contains(&took))), "{roll:?}");
    assert_eq!(started(&stage), ["project-cluster-api:before@2.service", "project-cluster-api:after@2.service"]);
    assert_eq!(stage.fake.active().iter().filter(|unit| unit.contains("api:")).count(), 0, "nothing of them stays loaded");
    let told: Vec<Kind> =
        master.events().kept(0).into_iter().map(|event| event.what.kind).filter(|kind| kind.word().starts_with("hook.")).collect();
    assert_eq!(told, [Kind::HookBegin, Kind::HookDone, Kind::HookBegin, Kind::HookDone]);
}

#[tokio::test(start_paused = true)]
async fn a_before_that_fails_starts_no_worker_and_one_of_a_single_worker_s_roll_is_none() {
    let stage = hooked("before", SECOND).await;
    let master = stage.master().await;
    let roll = stage.ended(&master, &master.reload(&stage.app).await.unwrap()).await;
    let reason = roll.reason.as_ref().unwrap();
    assert!(reason.starts_with("hook before failed: it exited with 1; no worker was started. The old workers serve as before"), "{reason}");
    assert!(reason.ends_with("`journalctl -u project-cluster-api:before@2.service` has all of it"), "{reason}");
    assert_eq!(ends(&roll), [(HookKind::Before, HookState::Failed), (HookKind::Failed, HookState::Done)]);
    assert_eq!(stage.up(), ["1.1.1", "2.1.1", "3.1.1"]);
    assert!(stage.fake.calls().iter().all(|(verb, unit)| !(*verb == Verb::Start && unit.contains(".2."))), "{:?}", stage.fake.calls());
    let intent = stage.intent();
    assert_eq!((intent.generation, intent.held.unwrap().generation), (Some(Generation(1)), Generation(2)));
    // The next one has another number, since its pin was made.
    let next = stage.ended(&master, &master.reload(&stage.app).await.unwrap()).await;
    assert_eq!(next.generation, Some(Generation(3)));
    let two = std::collections::BTreeSet::from([Slot::new(2).unwrap()]);
    let before = started(&stage);
    let done = master.restart(&stage.app, two).await.unwrap();
    let roll = stage.ended(&master, &done.roll.unwrap()).await;
    assert_eq!((roll.state, roll.hooks, started(&stage)), (RollState::Done, vec![], before));
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_the_app_ends_a_hook_and_nothing_comes_behind_it() {
    for after in [Duration::from_millis(10), 10 * SECOND] {
        let stage = hooked("", 60 * SECOND).await;
        let master = stage.master().await;
        let roll = master.reload(&stage.app).await.unwrap();
        tokio::time::sleep(after).await;
        assert_eq!(stage.fake.job(Verb::Stop, "project-cluster@api.service", SECOND).await, Ok(JobEnd::Done));
        let roll = stage.ended(&master, &roll).await;
        assert!(roll.reason.as_ref().unwrap().contains("was stopped or restarted meanwhile"), "{roll:?}");
        assert_eq!((ends(&roll), stage.intent().held), (vec![(HookKind::Before, HookState::Failed)], None));
        assert_eq!(stage.fake.state("project-cluster-api:before@2.service"), "inactive/dead");
        assert_eq!(stage.up(), ["1.1.1", "2.1.1", "3.1.1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_down_is_not_run() {
    let stage = hooked("", SECOND).await;
    let master = stage.master().await;
    let (state, away) = (stage.places().run.join("state"), stage.places().run.join("away"));
    let roll = master.reload(&stage.app).await.unwrap();
    std::fs::rename(&state, &away).unwrap();
    let roll = stage.ended(&master, &roll).await;
    assert!(roll.reason.as_ref().unwrap().starts_with("hook before failed: it was not started, since"), "{roll:?}");
    assert_eq!((started(&stage), stage.up()), (Vec::<String>::new(), vec!["1.1.1".into(), "2.1.1".into(), "3.1.1".into()]));
}

/// Its client, and the roll behind it.
#[tokio::test(start_paused = true)]
async fn an_abort_stops_the_hook_and_what_waits_can_be_aborted_alone() {
    let mut stage = hooked("", 100 * SECOND).await;
    let master = stage.master().await;
    let roll = master.reload(&stage.app).await.unwrap();
    let waits = master.reload(&stage.app).await.unwrap();
    tokio::time::sleep(10 * SECOND).await;
    let refused = master.steer(&stage.app, roll.id, Order::Pause).await.unwrap_err();
    assert!(refused.code() == Code::Conflict && refused.to_string().contains("its hook `before` runs"), "{refused}");
    let refused = master.steer(&stage.app, waits.id, Order::Pause).await.unwrap_err();
    assert!(refused.to_string().contains("one that waits can be aborted"), "{refused}");
    // The one that waits: the other is not touched by that, and its number is given to none, by no master.
    let done = under_way::asked("user 7".into(), master.steer(&stage.app, waits.id, Order::Abort)).await.unwrap();
    let gone = done.roll.unwrap();
    assert_eq!(
        (gone.state, gone.reason.as_deref()),
        (RollState::Failed, Some("aborted by user 7 before it began; nothing was done for it"))
    );
    assert!(!done.under_way && master.app(&stage.app).unwrap().roll.unwrap().id == roll.id, "{:?}", master.past_rolls(None));
    assert!(!stage.places().next_roll(&stage.app).exists(), "no master to come begins it");
    assert_eq!(master.steer(&stage.app, waits.id, Order::Abort).await.unwrap_err().code(), Code::Conflict);
    let again = master.reload(&stage.app).await.unwrap();
    assert!(again.id > waits.id, "{} {}", again.id, waits.id);
    stage.kill();
    let master = stage.master().await;
    assert_eq!(master.roll(&stage.app, again.id, None, Duration::ZERO).await.unwrap().state, RollState::Waiting, "under the same number");
    master.steer(&stage.app, again.id, Order::Abort).await.unwrap();
    // The hook, under another master.
    tokio::time::sleep(SECOND).await;
    let begun = tokio::time::Instant::now();
    let asked = under_way::asked("user 7".into(), master.steer(&stage.app, roll.id, Order::Abort)).await.unwrap();
    assert!(asked.roll.is_some() && begun.elapsed() < 5 * SECOND, "heeded at once: {asked:?}, {:?}", begun.elapsed());
    let ended = stage.ended(&master, &roll).await;
    let why = "aborted by user 7 while hook before ran; no worker was started";
    assert_eq!((ended.state, ended.end, stage.intent().held.unwrap().reason.as_str()), (RollState::Failed, Some(RollEnd::AllOld), why));
    assert_eq!(ended.hooks[0].reason.as_deref(), Some("aborted by user 7"), "{ended:?}");
    assert_eq!(stage.fake.state("project-cluster-api:before@2.service"), "inactive/dead");
    assert!(stage.up() == ["1.1.1", "2.1.1", "3.1.1"] && master.app(&stage.app).unwrap().roll.unwrap().id == roll.id);
    assert!(stage.fake.calls().iter().all(|(verb, unit)| !(*verb == Verb::Start && unit.contains(".2."))), "{:?}", stage.fake.calls());
}

/// What is configured meanwhile counts for rolls to come.
#[tokio::test(start_paused = true)]
async fn a_roll_under_way_has_the_hooks_that_it_began_with() {
    // One that comes in the middle, while it is paused.
    let mut stage = Stage::set(&[]).await;
    let master = stage.master().await;
    let roll = master.reload(&stage.app).await.unwrap();
    while !stage.up().contains(&"1.2.1".to_owned()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    master.steer(&stage.app, roll.id, Order::Pause).await.unwrap();
    stage.kill();
    stage.toml = HOOKED;
    let master = stage.master().await;
    tokio::time::sleep(60 * SECOND).await;
    let seen = master.roll(&stage.app, roll.id, None, Duration::ZERO).await.unwrap();
    assert_eq!((seen.state, &started(&stage)[..]), (RollState::Paused, &[][..]), "{seen:?}");
    master.steer(&stage.app, roll.id, Order::Resume).await.unwrap();
    let ended = stage.ended(&master, &roll).await;
    assert_eq!((ended.state, stage.up()), (RollState::Done, vec!["1.2.1".into(), "2.2.1".into(), "3.2.1".into()]), "{ended:?}");
    assert!(!ended.hooks.iter().any(|hook| hook.kind == HookKind::Before), "{ended:?}");

    // One that is taken out while it runs: it is waited for all the same.
    let mut stage = hooked("", 100 * SECOND).await;
    let master = stage.master().await;
    let roll = master.reload(&stage.app).await.unwrap();
    tokio::time::sleep(10 * SECOND).await;
    stage.kill();
    stage.toml = API;
    let master = stage.master().await;
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(stage.up(), ["1.1.1", "2.1.1", "3.1.1"], "no worker starts beside a migration");
    let ended = stage.ended(&master, &roll).await;
    assert_eq!((ended.state, ends(&ended)), (RollState::Done, vec![(HookKind::Before, HookState::Done)]), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_migrates_nothing_and_leaves_no_hook_s_unit() {
    let mut stage = hooked("", SECOND).await;
    let master = stage.master().await;
    tell(&stage.places().var, Generation(1), Generation(1));
    let roll = stage.ended(&master, &master.reload(&stage.app).await.unwrap()).await;
    assert_eq!(ends(&roll).len(), 2, "{roll:?}");
    let before = started(&stage).len();
    let roll = stage.ended(&master, &master.roll_back(&stage.app, None).await.unwrap()).await;
    let told = (roll.state, roll.pin, ends(&roll));
    assert_eq!(told, (RollState::Done, Some(Generation(1)), vec![(HookKind::After, HookState::Done)]), "{roll:?}");
    assert_eq!(started(&stage)[before..], ["project-cluster-api:after@3-1.service"]);
    assert_eq!(stage.fake.active().iter().filter(|unit| unit.contains("api:")).count(), 0, "nothing of them stays loaded");
    stage.kill();
}
