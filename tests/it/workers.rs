//! Single workers and their number: what a person asks for is done new before old, and remembered.

use super::cluster::{ADDRESS, Cluster, HELLO, SOON, app, cluster, installed, node, shop};

const HANDLE: &str = "project-cluster@api";

/// `uid state` of each row.
fn rows(cluster: &Cluster) -> Vec<String> {
    cluster.ls().iter().map(|row| format!("{} {}", row.uid(), row.state())).collect()
}

fn pid(cluster: &Cluster, uid: &str) -> i32 {
    cluster.ls().iter().find(|row| row.uid() == uid && row.state() == "online").map_or(0, super::cluster::Row::pid)
}

#[test]
pub fn add_scale_and_remove_change_how_many_run_and_touch_no_other() {
    let cluster = cluster(&node(2));
    let (inode, first) = (cluster.socket_inode(3000), pid(&cluster, "api:01"));
    let load = cluster.load(ADDRESS).connections(4).start();
    load.wait_for_answers(50);
    let said = cluster.cli(&["add", "api", "2"]).ok();
    assert!(said.contains("api:03 (generation 1) is ready") && said.contains("done: api:03, api:04 ready"), "{said}");
    assert_eq!(rows(&cluster), ["api:01 online", "api:02 online", "api:03 online", "api:04 online"]);
    let said = cluster.cli(&["remove", "api:02"]).ok();
    assert!(said.ends_with("done: api:02 stopped"), "{said}");
    // Its past is still there.
    assert!(cluster.cli(&["events", "api:02"]).ok().contains("api:02"));
    assert!(cluster.cli(&["logs", "api:02"]).ok().contains("project-cluster-api@2.1.1.service"));
    assert_eq!(rows(&cluster), ["api:01 online", "api:03 online", "api:04 online"]);
    // The lowest free place, as ever.
    cluster.cli(&["add", "api"]).ok();
    assert_eq!(rows(&cluster), ["api:01 online", "api:02 online", "api:03 online", "api:04 online"]);
    cluster.cli(&["scale", "api", "1"]).ok();
    assert_eq!(rows(&cluster), ["api:01 online"]);
    assert_eq!((pid(&cluster, "api:01"), cluster.socket_inode(3000)), (first, inode));
    let report = load.stop();
    println!("from 2 workers to 4, 3, 4 and 1 under load: {report}");
    assert_eq!(report.failed_by_kind.get("refused"), None, "{report}");
    // A reload and a restart of the whole keep the number.
    cluster.cli(&["scale", "api", "3"]).ok();
    cluster.cli(&["reload", "api"]).ok();
    assert_eq!((cluster.workers("api").len(), cluster.generations("api")), (3, vec![2]));
    cluster.systemctl(&["restart", HANDLE]).ok();
    assert_eq!((cluster.workers("api").len(), cluster.generations("api")), (3, vec![3]));
    assert!(cluster.cli(&["scale", "api", "2000"]).exits(2).stderr.contains("1024"));
    let none = cluster.cli(&["remove", "api:09"]).exits(2);
    assert!(none.stderr.contains("there is no worker `api:09`"), "{}", none.stderr);
}

#[test]
pub fn behind_a_restart_that_was_not_whole_all_is_of_its_generation() {
    let cluster = shop(3, "");
    cluster.deploy("v2", &format!("if (process.env.PROJECT_CLUSTER_SLOT == 2) process.exit(1);\n{HELLO}"));
    cluster.systemctl(&["restart", HANDLE]).ok();
    assert_eq!(cluster.app("api")["generation"], 2);
    cluster.cli(&["add", "api"]).ok();
    cluster.cli(&["restart", "api:01"]).ok();
    assert_eq!((cluster.generations("api"), cluster.app("api")["generation"].as_u64()), (vec![2], Some(2)));
}

#[test]
pub fn what_did_not_start_is_asked_for_again_with_the_same_words() {
    let cluster = installed(&app("api", 2, "node app.js 3000", "listen = 3000"));
    let broken = "process.env.PROJECT_CLUSTER_SLOT == 3 && !require('fs').existsSync('/srv/shop/mended')";
    cluster.program("v1", &format!("if ({broken}) process.exit(1);\n{HELLO}"));
    cluster.cli(&["install", "--now"]).ok();
    for _ in 0..2 {
        let said = cluster.cli(&["scale", "api", "3"]).exits(1).stderr;
        assert!(said.contains("`project-cluster start api:03` tries again"), "{said}");
    }
    assert_eq!(rows(&cluster), ["api:01 online", "api:02 online", "api:03 stopped"]);
    cluster.write("/srv/shop/mended", "");
    cluster.cli(&["scale", "api", "3"]).ok();
    assert_eq!(rows(&cluster), ["api:01 online", "api:02 online", "api:03 online"]);
}

#[test]
pub fn one_worker_is_restarted_new_before_old_and_stopped_and_started_alone() {
    let cluster = shop(3, "");
    let before = ["api:01", "api:02", "api:03"].map(|uid| pid(&cluster, uid));
    // What lies on disk now is for the next generation, not for a single worker of this one.
    cluster.deploy("v2", HELLO);
    let said = cluster.cli(&["restart", "api:02"]).ok();
    let starts = said.find("api:02 (generation 1) starts").expect("it starts");
    assert!(said.find("api:02 (generation 1) retires").is_some_and(|retires| starts < retires), "{said}");
    let after = ["api:01", "api:02", "api:03"].map(|uid| pid(&cluster, uid));
    assert!(after[0] == before[0] && after[1] != before[1] && after[2] == before[2], "{before:?} {after:?}");
    assert!((0..20).all(|_| cluster.get(ADDRESS, "/").unwrap().body.starts_with("v1 ")));

    cluster.cli(&["stop", "api:02"]).ok();
    assert_eq!(rows(&cluster), ["api:01 online", "api:02 stopped", "api:03 online"]);
    assert_eq!(cluster.app("api")["state"], "running", "what a person stopped is not missing");
    // Neither a reload nor a restart of the whole starts it, only a person.
    cluster.cli(&["reload", "api"]).ok();
    cluster.systemctl(&["restart", HANDLE]).ok();
    assert_eq!(rows(&cluster), ["api:01 online", "api:02 stopped", "api:03 online"]);
    let refused = cluster.cli(&["restart", "api:02"]).exits(1);
    assert!(refused.stderr.contains("`project-cluster start api:02`"), "{}", refused.stderr);
    cluster.cli(&["start", "api:02"]).ok();
    assert_eq!(rows(&cluster), ["api:01 online", "api:02 online", "api:03 online"]);

    // The last ones: the port closes with them, and nobody hangs.
    let said = cluster.cli(&["stop", "api:01", "api:02", "api:03"]).ok();
    assert!(said.contains("no worker is left to answer, so api is stopped") && said.contains("`project-cluster start api`"), "{said}");
    assert_eq!(cluster.state(HANDLE), "inactive");
    assert!(cluster.get(ADDRESS, "/").is_err());
    // One of them alone, then all.
    cluster.cli(&["start", "api:03"]).ok();
    assert_eq!(rows(&cluster), ["api:01 stopped", "api:02 stopped", "api:03 online"]);
    cluster.cli(&["start", "api"]).ok();
    assert_eq!(rows(&cluster), ["api:01 online", "api:02 online", "api:03 online"]);
}

#[test]
pub fn a_worker_that_does_not_start_leaves_the_others_and_stays_down() {
    let third = format!("if (process.env.PROJECT_CLUSTER_SLOT === '3') throw new Error('not the third'); {HELLO}");
    let cluster = shop(2, "");
    cluster.deploy("v2", &third);
    cluster.cli(&["reload", "api"]).ok();
    let failed = cluster.cli(&["add", "api"]).exits(1);
    assert!(failed.stderr.contains("the roll of api:03 failed") && failed.stderr.contains("not the third"), "{}", failed.stderr);
    assert_eq!(rows(&cluster), ["api:01 online", "api:02 online", "api:03 stopped"]);
    assert!(cluster.app("api")["held"].is_null(), "what serves is as it was");
    cluster.cli(&["remove", "api:03"]).ok();
    assert_eq!(rows(&cluster), ["api:01 online", "api:02 online"]);
}

#[test]
pub fn what_a_person_asked_for_survives_a_reboot() {
    let mut cluster = shop(2, "");
    cluster.cli(&["scale", "api", "4"]).ok();
    cluster.cli(&["stop", "api:02"]).ok();
    cluster.cli(&["reload", "api"]).ok();
    cluster.deploy("v2", "throw new Error('broken')");
    cluster.cli(&["reload", "api"]).exits(1);
    let (before, held) = (rows(&cluster), cluster.app("api")["held"].clone());
    assert!(held["reason"].as_str().is_some_and(|reason| reason.contains("broken")), "{held}");
    cluster.shutdown();
    cluster.boot();
    cluster.wait_until("the app is back", SOON, || cluster.workers("api").len() == 3);
    cluster.wait_until("all is as before", SOON, || rows(&cluster) == before);
    assert_eq!((cluster.generations("api"), &cluster.app("api")["held"]), (vec![2], &held));
    // A person ends the hold.
    cluster.cli(&["reset", "api"]).ok();
    assert!(cluster.app("api")["held"].is_null());
}
