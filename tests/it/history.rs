//! The history on a real systemd: who asked for what and what came of it, over the death of a master, a damaged database and a
//! full disk.

use serde_json::{Value, json};

use super::cluster::{Cluster, HELLO, SOON, app, installed, shop};

const MASTER: &str = "project-cluster.service";
const STORE: &str = "/var/lib/project-cluster/state/store.sqlite";

/// All entries, newest first.
#[track_caller]
fn history(cluster: &Cluster, more: &[&str]) -> Vec<Value> {
    let mut words = vec!["history", "--json"];
    words.extend(more);
    if !more.contains(&"-n") {
        words.extend(["-n", "1000"]);
    }
    serde_json::from_str(&cluster.cli(&words).ok()).unwrap()
}

/// What of an entry does not depend on time.
fn told(entry: &Value) -> Value {
    json!([entry["app"], entry["verb"], entry["slots"], entry["count"], entry["asked_by"], entry["systemctl"], entry["end"]])
}

fn text(entry: &Value) -> &str {
    entry["text"].as_str().unwrap_or_default()
}

/// A roll that is in its middle.
#[track_caller]
fn rolls(cluster: &Cluster) {
    cluster.wait_until("a roll is under way", SOON, || {
        cluster.app("api")["roll"]["steps"].as_array().is_some_and(|steps| !steps.is_empty()) && cluster.app("api")["state"] == "rolling"
    });
}

#[test]
fn it_says_who_asked_for_what_and_what_came_of_it() {
    let bg = app("bg", 1, "node /srv/apps/worker.js", "ready = \"none\"");
    let cluster = installed(&(app("api", 2, "node app.js 3000", "listen = 3000\ntimeout.start = \"5s\"") + &bg));
    cluster.program("v1", HELLO);
    cluster.cli(&["install", "--now"]).ok();
    assert_eq!(history(&cluster, &[]), Vec::<Value>::new(), "systemd started it, and nobody asked the master");

    cluster.cli(&["reload", "api"]).ok();
    cluster.cli(&["scale", "api", "3"]).ok();
    cluster.systemctl(&["reload", "project-cluster@api"]).ok();
    let token = cluster.cli(&["token", "add", "ci", "--role", "operate", "--app", "api", "--quiet"]).ok();
    let ask = |method: &str, path: &str| {
        let bearer = format!("Authorization: Bearer {}", token.trim());
        cluster.run(&["curl", "-sS", "-m", "60", "-X", method, "-H", &bearer, &format!("http://127.0.0.1:8887/{path}")]).ok()
    };
    ask("POST", "v1/apps/api/rolls?slots=2&wait=60s");
    cluster.cli(&["stop", "bg"]).ok();
    cluster.cli(&["reload", "bg"]).exits(1);
    cluster.deploy("v2", "throw new Error('no database')");
    cluster.cli(&["reload", "api"]).exits(1);
    // As the first version's client asks.
    cluster.run(&["curl", "-sS", "-m", "60", "-X", "POST", "--unix-socket", "/run/project-cluster/api.sock", "http://x/bg/start"]).ok();

    let entries = history(&cluster, &[]);
    let all: Vec<Value> = entries.iter().rev().map(told).collect();
    let own = format!("user {}", cluster.run(&["id", "-u", "project-cluster"]).ok().trim());
    assert_eq!(
        json!(all),
        json!([
            ["api", "reload", null, null, "user 0", false, "done"],
            ["api", "scale", null, 3, "user 0", false, "done"],
            // systemd runs the reload step of the handle, as the cluster's user, whoever asked for it.
            ["api", "reload", null, null, own, true, "done"],
            ["api", "restart", [2], null, "token ci", false, "done"],
            ["bg", "stop", null, null, "user 0", false, "done"],
            ["bg", "reload", null, null, "user 0", false, "refused"],
            ["api", "reload", null, null, "user 0", false, "failed"],
            ["bg", "start", [1], null, "user 0", false, "done"],
        ]),
        "{entries:#?}"
    );
    assert!(entries.iter().all(|entry| entry["took_ms"].is_u64()), "{entries:#?}");
    assert!(text(&entries[2]).contains("is not running, so there is nothing to replace"), "{}", entries[2]);
    // All that is known of one: the steps with their times, and the app's own words.
    let failed = history(&cluster, &["api", "-n", "1", "--steps"]).remove(0);
    assert!(text(&failed).contains("no database") && text(&failed).contains("The old workers serve as before"), "{failed}");
    let steps = failed["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| step["text"].as_str().unwrap().starts_with("going back: ")), "{failed}");
    assert!(steps.is_sorted_by_key(|step| step["at_ms"].as_u64()) && steps[0]["text"] == "api:01 (generation 4) starts", "{failed}");
    assert_eq!(failed["generation"], 4);

    // For people: of the width of a terminal, and by name.
    let table = cluster.cli(&["history", "api", "-n", "3"]).ok();
    assert_eq!(table.lines().count(), 4, "{table}");
    let row = |line: usize| table.lines().nth(line).unwrap().split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
    assert!(row(1).starts_with("api reload root ") && row(1).contains("failed: api:0"), "{table}");
    assert!(row(2).starts_with("api restart 02 token ci ") && row(2).ends_with(" done"), "{table}");
    // Newest first; numbers may have gaps.
    let id = |at: usize| entries[at]["id"].to_string();
    let full = cluster.cli(&["history", "--id", &id(5)]).ok();
    assert!(full.contains(" by systemctl\n") && full.contains("api:01 (generation 3) is ready"), "{full}");
    // Of a worker: what was asked of its app, and of itself.
    let worker: Vec<String> = history(&cluster, &["api:02"]).iter().map(|entry| entry["id"].to_string()).collect();
    assert_eq!(worker, [1, 4, 5, 6, 7].map(id));
    assert_eq!(history(&cluster, &["--since", "1h", "bg"]).len(), 3);
    assert_eq!(history(&cluster, &["--since", "2020-01-01", "-n", "2"]).len(), 2);

    // Of a token, what there is for it; the pages lead on.
    let seen: Vec<Value> = serde_json::from_str(&ask("GET", "v1/history?limit=1000")).unwrap();
    assert!(seen.len() == 5 && seen.iter().all(|entry| entry["app"] == "api"), "{seen:#?}");
    assert!(ask("GET", &format!("v1/history/{}", id(3))).contains("\"not-found\""));
    assert!(ask("GET", &format!("v1/history/{}", id(4))).contains("token ci"));
    assert!(ask("GET", "v1/history?app=bg").contains("there is no app `bg`; there are: api"));
    let page = cluster.sh("curl -sS -D - --unix-socket /run/project-cluster/api.sock 'http://x/v1/history?limit=2&app=bg'").ok();
    let next = format!("link: </v1/history?app=bg&limit=2&after={}>; rel=\"next\"", id(2));
    assert!(page.to_lowercase().contains(&next), "{page}");

    // An app that is none any more has a past; one that there never was has none.
    cluster.config(&app("api", 2, "node app.js 3000", "listen = 3000"));
    cluster.cli(&["install"]).ok();
    assert_eq!(history(&cluster, &["bg"]).len(), 3);
    assert!(cluster.cli(&["history", "apj"]).exits(1).stderr.contains("there is no app `apj`"));
    assert!(cluster.cli(&["history", "a:b"]).exits(2).stderr.contains("`a:b`"));

    // At rest nothing is open, and the files are the master's alone.
    cluster.wait_until("the database is closed", SOON, || !cluster.exists(format!("{STORE}-wal")));
    assert_eq!(cluster.run(&["stat", "-c", "%U %a", STORE]).ok().trim(), "project-cluster 600");
}

#[test]
pub fn a_master_that_dies_leaves_a_roll_to_the_next_one_and_an_order_cut_off() {
    let stubborn = app("bg", 1, "node /srv/apps/broken/stubborn.js 3001", "listen = 3001\ntimeout.kill = \"4s\"");
    let cluster = installed(&(app("api", 2, "node app.js 3000", "listen = 3000\nreload.min_ready = \"1s\"") + &stubborn));
    cluster.program("v1", HELLO);
    cluster.write(format!("/etc/systemd/system/{MASTER}.d/quick.conf"), "[Service]\nRestartSec=20ms\n");
    cluster.cli(&["install", "--now"]).ok();

    let reload = cluster.spawn(&["project-cluster", "reload", "api"]);
    rolls(&cluster);
    let stop = cluster.spawn(&["project-cluster", "stop", "bg"]);
    cluster.wait_until("bg is on its way down", SOON, || cluster.state("project-cluster@bg.service") == "deactivating");
    let open = history(&cluster, &[]);
    assert!(open.len() == 2 && open.iter().all(|entry| entry["end"] == "running" && entry["took_ms"].is_null()), "{open:#?}");
    cluster.kill(cluster.main_pid(MASTER).unwrap(), "KILL");
    reload.wait(SOON).ok();
    stop.wait(SOON);

    let ends: Vec<Value> = history(&cluster, &[]).iter().rev().map(told).collect();
    assert_eq!(
        ends[..2],
        [json!(["api", "reload", null, null, "user 0", false, "done"]), json!(["bg", "stop", null, null, "user 0", false, "cut-off"])],
        "{ends:#?}"
    );
    // Who waits asks the next master again, and that one's answer is its own.
    assert!(ends.len() <= 3 && ends.get(2).is_none_or(|again| again[1] == "stop"), "{ends:#?}");
    let full = cluster.cli(&["history", "--id", "1"]).ok();
    assert!(full.contains("taken up by a new master") && full.contains("by root"), "{full}");
    assert!(cluster.cli(&["history", "--id", "2"]).ok().contains("the master ended before this did"));
}

#[test]
pub fn a_damaged_database_is_moved_aside_and_said_and_a_newer_one_left_alone() {
    let cluster = shop(1, "");
    cluster.cli(&["reload", "api"]).ok();
    assert_eq!(history(&cluster, &[]).len(), 1);
    cluster.systemctl(&["stop", MASTER]).ok();
    assert!(!cluster.exists(format!("{STORE}-wal")), "closed, nothing is beside it");
    cluster.write(STORE, "this was a database once, and is none any more".repeat(100));
    cluster.cli(&["restart", "api:01"]).ok();
    let entries = history(&cluster, &[]);
    assert_eq!(entries.len(), 2, "{entries:#?}");
    assert!(entries.iter().any(|entry| entry["verb"] == "history" && text(entry).contains("store.sqlite.damaged-1")), "{entries:#?}");
    assert!(entries.iter().any(|entry| entry["verb"] == "restart" && entry["end"] == "done"), "{entries:#?}");
    assert!(cluster.exists(format!("{STORE}.damaged-1")));
    let said = cluster.journal(&["-u", MASTER, "-p", "crit", "-o", "cat"]);
    assert!(said.contains("is damaged") && said.contains("Rolls and workers are not concerned"), "{said}");

    cluster.systemctl(&["stop", MASTER]).ok();
    let newer = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA user_version = 99')";
    cluster.run(&["python3", "-c", newer, STORE]).ok();
    let before = cluster.run(&["sha256sum", STORE]).ok();
    cluster.cli(&["reload", "api"]).ok();
    let refused = cluster.cli(&["history"]).exits(1);
    assert!(refused.stderr.contains("was written by a newer project-cluster (format 99, this one knows 1)"), "{}", refused.stderr);
    let health = cluster.sh("curl -sS --unix-socket /run/project-cluster/api.sock http://x/v1/health").ok();
    assert!(serde_json::from_str::<Value>(&health).unwrap()["history"].as_str().is_some_and(|why| why.contains("newer")), "{health}");
    cluster.systemctl(&["stop", MASTER]).ok();
    assert_eq!(cluster.run(&["sha256sum", STORE]).ok(), before);
}

#[test]
fn on_a_full_disk_workers_are_replaced_and_what_is_lost_is_said() {
    let cluster = shop(1, "");
    cluster.cli(&["restart", "api:01"]).ok();
    cluster.systemctl(&["stop", MASTER]).ok();
    // Its directory on a disk of its own, which then is full.
    let state = "/var/lib/project-cluster/state";
    let small = format!(
        "cp -a {state} /root/state; mount -t tmpfs -o size=256k,mode=0700,uid=project-cluster,gid=project-cluster none {state}; cp -a /root/state/. {state}/"
    );
    cluster.sh(&small).ok();
    assert_eq!(history(&cluster, &[]).len(), 1, "it is as before");
    cluster.sh(&format!("dd if=/dev/zero of={state}/fill bs=4k 2>/dev/null || :")).ok();
    // Many, so that no free part of the log is enough.
    for _ in 0..3 {
        cluster.cli(&["restart", "api:01"]).ok();
    }
    let health = || cluster.sh("curl -sS --unix-socket /run/project-cluster/api.sock http://x/v1/health").ok();
    cluster.wait_until("it says that it is not written", SOON, || health().contains("`df "));
    assert!(cluster.journal_of(MASTER).contains("what happens is not written down"), "{}", cluster.journal_of(MASTER));
    let told = cluster.cli(&["history"]);
    assert!(told.stderr.contains("`df "), "{} {}", told.stdout, told.stderr);

    cluster.sh(&format!("rm {state}/fill")).ok();
    cluster.cli(&["reset", "api"]).ok();
    let entries = history(&cluster, &[]);
    assert!(entries.iter().any(|entry| entry["verb"] == "reset" && entry["end"] == "done"), "{entries:#?}");
    assert!(
        entries.iter().any(|entry| entry["verb"] == "history" && text(entry).contains("times something could not be written")),
        "{entries:#?}"
    );
    assert!(serde_json::from_str::<Value>(&health()).unwrap()["history"].is_null());
}
