//! Entries in a database in memory.

use rusqlite::Connection;
use serde_json::json;

use super::*;
use crate::api::history::{End, Entry};
use crate::api::types::{Roll, Step};
use crate::names::{AppName, Slot};

fn database() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    TABLES.migrations.iter().for_each(|step| connection.execute_batch(step).unwrap());
    connection
}

fn order(key: u64, app: &str, act: Act) -> Asked {
    Asked { key, app: app.parse().unwrap(), act, asked_by: Some("user 1000".into()), begun_ms: 1000 + key, begun_at: 10 * key }
}

fn roll(id: u64, state: &str, more: serde_json::Value) -> Roll {
    let mut roll = json!({
        "app": "api", "id": id, "asked_by": "token ci", "generation": 4, "state": state, "sequence": 1, "ready": 1, "target": 2, "steps": [],
        "reason": null, "took_ms": 40,
    });
    roll.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(roll).unwrap()
}

fn all(connection: &Connection) -> Vec<Entry> {
    list(connection, &Part { limit: 2000, ..Part::default() }).unwrap()
}

#[test]
fn an_order_without_a_roll() {
    let database = database();
    let slots = [1, 3].into_iter().filter_map(Slot::new).collect();
    let one = order(7, "api", Act::new("stop").of(Some(&slots)));
    asked(&database, &one).unwrap();
    let [entry] = &all(&database)[..] else { panic!() };
    assert_eq!((entry.end, entry.took_ms, entry.begun_ms), (End::Running, None, 1007));
    assert_eq!((entry.verb.as_str(), &entry.slots, entry.asked_by.as_deref()), ("stop", &Some(vec![1, 3]), Some("user 1000")));
    ended(&database, &one, End::Done, "stopped\nand more", 95).unwrap();
    let [entry] = &all(&database)[..] else { panic!() };
    assert_eq!((entry.end, entry.took_ms, entry.text.as_deref()), (End::Done, Some(25), Some("stopped")));
    assert_eq!(super::one(&database, entry.id).unwrap().unwrap().text.as_deref(), Some("stopped\nand more"));
    // What has ended has ended.
    ended(&database, &one, End::Failed, "again", 99).unwrap();
    assert_eq!(all(&database)[0].end, End::Done);
    // One whose beginning could not be written.
    ended(&database, &order(8, "api", Act::new("scale").count(3)), End::Refused, "no", 90).unwrap();
    let entry = &all(&database)[0];
    assert_eq!((entry.end, entry.count, entry.took_ms), (End::Refused, Some(3), Some(10)));
    assert_eq!(super::one(&database, 99).unwrap(), None);
}

#[test]
fn a_roll_ends_all_that_it_carried_out() {
    let database = database();
    for key in [1, 2] {
        asked(&database, &order(key, "api", Act::new("reload"))).unwrap();
        carried_by(&database, key, 70).unwrap();
    }
    asked(&database, &order(3, "api", Act::new("reload"))).unwrap();
    asked(&database, &order(4, "bg", Act::new("reload"))).unwrap();
    carried_by(&database, 4, 70).unwrap();
    by_systemctl(&database, 2).unwrap();
    let step = |at_ms| json!({ "at_ms": at_ms, "text": format!("step at {at_ms}") });
    let end = roll(70, "failed", json!({ "reason": "no database\nline", "steps": [step(3), step(38)] }));
    roll_ended(&database, &end, 100, 5000).unwrap();
    let ends: Vec<_> = all(&database).iter().rev().map(|entry| (entry.end, entry.took_ms, entry.waited_ms, entry.systemctl)).collect();
    let running = (End::Running, None, None, false);
    assert_eq!(ends, [(End::Failed, Some(90), Some(50), false), (End::Failed, Some(80), Some(40), true), running, running]);
    let entry = one(&database, 2).unwrap().unwrap();
    assert_eq!(entry.steps, [Step { at_ms: 3, text: "step at 3".into() }, Step { at_ms: 38, text: "step at 38".into() }]);
    assert_eq!((entry.roll, entry.generation.map(|generation| generation.0)), (Some(70), Some(4)));
    // Told twice it is once.
    roll_ended(&database, &end, 200, 5000).unwrap();
    assert_eq!(all(&database).len(), 4);
    // One of which nothing was written stands for what it carried out.
    roll_ended(&database, &roll(71, "done", json!({ "slots": [2] })), 100, 5000).unwrap();
    let entry = &all(&database)[0];
    assert_eq!(
        (entry.verb.as_str(), entry.asked_by.as_deref(), entry.begun_ms, entry.took_ms),
        ("restart", Some("token ci"), 4960, Some(40))
    );
}

#[test]
fn what_a_master_before_left_open_is_settled_by_what_this_one_knows() {
    let database = database();
    // One that goes on, one that ended meanwhile, one that nobody knows, one of no roll, one whose roll was not written yet.
    for (key, app, of) in [(1, "api", Some(70)), (2, "api", Some(69)), (3, "api", Some(68)), (4, "bg", None), (5, "mail", None)] {
        asked(&database, &order(key, app, Act::new("reload"))).unwrap();
        if let Some(of) = of {
            carried_by(&database, key, of).unwrap();
        }
    }
    let rolls = [
        roll(70, "running", json!({})),
        roll(69, "done", json!({})),
        roll(80, "waiting", json!({ "app": "mail" })),
        roll(60, "done", json!({})),
    ];
    settle(&database, &rolls, 100, 5000).unwrap();
    let ends: Vec<_> = all(&database).iter().rev().map(|entry| (entry.end, entry.roll)).collect();
    assert_eq!(
        ends,
        [(End::Running, Some(70)), (End::Done, Some(69)), (End::CutOff, Some(68)), (End::CutOff, None), (End::Running, Some(80))],
        "and the one that ended long ago brings no entry"
    );
    assert!(one(&database, 4).unwrap().unwrap().text.is_some_and(|text| text.contains("`project-cluster ls`")));
    // The end of what goes on is its own.
    roll_ended(&database, &roll(80, "done", json!({ "app": "mail" })), 200, 6000).unwrap();
    assert_eq!(all(&database)[0].end, End::Done);
}

#[test]
fn the_newest_thousand_are_kept_and_what_is_under_way() {
    let database = database();
    asked(&database, &order(1, "api", Act::new("reload"))).unwrap();
    for key in 2..=1300 {
        ended(&database, &order(key, "api", Act::new("reset")), End::Done, "reset", 0).unwrap();
    }
    let kept = all(&database);
    assert_eq!(kept.len(), 1001);
    assert_eq!((kept[0].id, kept[999].id, kept[1000].id, kept[1000].end), (1300, 301, 1, End::Running));
    // Numbers are not given twice.
    database.execute("DELETE FROM entry", []).unwrap();
    asked(&database, &order(2000, "api", Act::new("reload"))).unwrap();
    assert_eq!(all(&database)[0].id, 1301);
}

#[test]
fn parts() {
    let database = database();
    for (key, app) in [(1, "api"), (2, "bg"), (3, "api"), (4, "mail")] {
        asked(&database, &order(key, app, Act::new("start"))).unwrap();
    }
    (TABLES.told)(&database, "something is missing").unwrap();
    let ids =
        |part: Part| list(&database, &Part { limit: part.limit.max(1), ..part }).unwrap().iter().map(|entry| entry.id).collect::<Vec<_>>();
    let many = Part { limit: 10, ..Part::default() };
    let (api, bg): (AppName, AppName) = ("api".parse().unwrap(), "bg".parse().unwrap());
    assert_eq!(ids(many.clone()), [5, 4, 3, 2, 1]);
    assert_eq!(ids(Part { limit: 2, ..many.clone() }), [5, 4]);
    assert_eq!(ids(Part { before: Some(3), ..many.clone() }), [2, 1]);
    assert_eq!(ids(Part { app: Some(api.clone()), ..many.clone() }), [3, 1]);
    assert_eq!(ids(Part { since_ms: Some(1003), ..many.clone() }), [5, 4, 3]);
    assert_eq!(ids(Part { seen: Some([api, bg].into()), limit: 2, ..many.clone() }), [3, 2], "the limit is of what is seen");
    assert_eq!(ids(Part { seen: Some([].into()), ..many.clone() }), [] as [u64; 0]);
    assert_eq!(ids(Part { before: Some(u64::MAX), since_ms: Some(u64::MAX), ..many }), [] as [u64; 0]);
    assert_eq!(one(&database, 5).unwrap().unwrap().text.as_deref(), Some("something is missing"));
}

#[test]
fn texts_and_steps_are_bounded_and_the_first_and_the_last_steps_are_kept() {
    let database = database();
    let long = "\u{e9}".repeat(100_000);
    ended(&database, &order(1, "api", Act::new("stop")), End::Failed, &long, 20).unwrap();
    assert_eq!(one(&database, 1).unwrap().unwrap().text.unwrap().len(), TEXT);
    let steps: Vec<_> = (0..10_000).map(|at| json!({ "at_ms": at, "text": format!("{at} \u{1}{}", "\"".repeat(1000)) })).collect();
    roll_ended(&database, &roll(70, "done", json!({ "steps": steps })), 100, 5000).unwrap();
    let kept = one(&database, 2).unwrap().unwrap().steps;
    assert_eq!((kept.len(), kept[0].at_ms, kept[199].at_ms, kept[400].at_ms), (STEPS + 1, 0, 199, 9999));
    assert_eq!(kept[200].text, "(9600 steps are not kept)");
    assert!(kept.iter().all(|step| step.text.len() <= STEP && !step.text.contains('\u{1}')));
    let bytes: i64 = database.query_row("SELECT length(steps) FROM entry WHERE id = 2", [], |row| row.get(0)).unwrap();
    assert!(usize::try_from(bytes).unwrap() < READ, "{bytes}: as much as there may be is read back");
}

#[test]
fn what_somebody_else_wrote_is_told_as_far_as_it_makes_sense() {
    let database = database();
    database
        .execute_batch(
            "INSERT INTO entry (key, app, verb, slots, count, begun_ms, begun_at, took_ms, state, text, roll, generation, steps)
             VALUES (1, '../x', CAST(x'ff1b' AS TEXT), '[70000]', -3, -1, 0, -5, 'odd', '', -7, -1, '{\"a\":')",
        )
        .unwrap();
    let entry = one(&database, 1).unwrap().unwrap();
    assert_eq!((entry.app, entry.slots, entry.count, entry.begun_ms, entry.took_ms), (None, None, None, 0, None));
    assert_eq!((entry.end, entry.verb.as_str(), entry.roll, entry.steps), (End::CutOff, "\u{fffd}\u{1b}", None, Vec::new()));
}

#[tokio::test]
async fn a_database_of_each_format_is_read_and_says_what_it_said() {
    for format in 1..=TABLES.migrations.len() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.sqlite");
        let specimen = format!("{}/tests/fixtures/formats/store-{format}.sqlite", env!("CARGO_MANIFEST_DIR"));
        std::fs::copy(specimen, &path).unwrap();
        let store = crate::store::Store::new(path, TABLES, || {});
        let entries = store.read(|connection| list(connection, &Part { limit: 10, ..Part::default() })).await.unwrap();
        let told: Vec<_> = entries.iter().map(|entry| (entry.id, entry.verb.as_str(), entry.asked_by.as_deref(), entry.end)).collect();
        let expected = [
            (3, "restart", Some("192.0.2.7"), End::Running),
            (2, "scale", Some("token ci"), End::Refused),
            (1, "reload", Some("user 0"), End::Done),
        ];
        assert_eq!(told, expected, "format {format}");
        let reload = store.read(|connection| one(connection, 1)).await.unwrap().unwrap();
        assert_eq!((reload.took_ms, reload.systemctl, reload.steps.len(), reload.steps[1].at_ms), (Some(352), true, 2, 340));
        // And it can be gone on with.
        store.write(|connection| settle(connection, &[], 0, 0));
        let entries = store.read(|connection| list(connection, &Part { limit: 1, ..Part::default() })).await.unwrap();
        assert_eq!((entries[0].end, store.trouble()), (End::CutOff, None));
    }
}
