//! Hooks on a real systemd: a migration ahead of a roll, and what comes behind one.

use serde_json::Value;

use super::cluster::{ADDRESS, Cluster, HELLO, SOON, app, installed, shop};

const HANDLE: &str = "project-cluster@api";
const MASTER: &str = "project-cluster.service";

/// A migration that says where and as whom it runs, and does what the release's file `does` says, a shell's words.
const MIGRATE: &str = r#"reload.hooks.before = ["sh", "-c", "echo migration of $PROJECT_CLUSTER_GENERATION in $PWD as $(id -u), $COLOUR; if [ -e does ]; then . ./does; fi"]
env = { COLOUR = "blue" }
"#;

/// What a hook's units have written, in order.
fn said(cluster: &Cluster, kind: &str) -> String {
    let units: Vec<String> = (1..10).map(|made| format!("project-cluster-api:{kind}@{made}.service")).collect();
    cluster.written("project-cluster-api", &units)
}

/// Units of hooks that are still loaded.
fn loaded(cluster: &Cluster) -> Vec<String> {
    cluster.units("project-cluster-api:*", &[])
}

/// The hooks of the last roll, as JSON tells them.
fn hooks(cluster: &Cluster) -> Vec<Value> {
    cluster.app("api")["roll"]["hooks"].as_array().unwrap().clone()
}

/// Deploys a release whose migration does this.
fn deploy(cluster: &Cluster, release: &str, does: &str) {
    cluster.deploy(release, HELLO);
    cluster.write(format!("/srv/shop/{release}/does"), does);
}

#[test]
pub fn a_migration_that_fails_starts_nothing_and_one_that_does_not_runs_ahead_of_the_new_workers() {
    let cluster = shop(2, MIGRATE);
    let uid = cluster.sh(&format!("stat -c %u /proc/{}", cluster.pids("api")[0])).ok();
    assert_eq!(
        said(&cluster, "before").trim(),
        format!("migration of 1 in /srv/shop/v1 as {uid}, blue"),
        "the first start is a deploy too"
    );
    let (old, inode) = (cluster.pids("api"), cluster.socket_inode(3000));
    deploy(&cluster, "v2", "echo 'the table \x1b[2Jusers is locked'; exit 3");
    let failed = cluster.cli(&["reload", "api"]).exits(1);
    for words in [
        "the roll to generation 2 failed: hook before failed: it exited with 3; no worker was started. The old workers serve as before",
        "the table [2Jusers is locked",
        "`journalctl -u project-cluster-api:before@2.service` has all of it",
    ] {
        assert!(failed.stderr.contains(words), "{words}: {}", failed.stderr);
    }
    assert!(failed.stdout.contains("hook before starts") && !failed.stdout.contains("api:01"), "{}", failed.stdout);
    assert_eq!((cluster.pids("api"), cluster.generations("api"), cluster.socket_inode(3000)), (old, vec![1], inode));
    assert_eq!(cluster.journal(&["-o", "cat", "UNIT=project-cluster-api@1.2.1.service"]), "", "not even tried");
    assert_eq!(loaded(&cluster), Vec::<String>::new());
    let listed = cluster.cli(&["ls"]).ok();
    assert!(listed.contains("when generation 2 failed: hook before failed: it exited with 3"), "{listed}");
    let shown = cluster.cli(&["show", "api"]).ok();
    assert!(shown.contains("before: failed, ") && shown.contains("users is locked"), "{shown}");
    let logs = cluster.cli(&["logs", "api"]).ok();
    assert!(logs.contains("api:before  the table users is locked"), "{logs}");

    // systemctl's own verb fails alike, and the next one that is mended goes through, in its own release.
    assert_ne!(cluster.systemctl(&["reload", HANDLE]).code, 0);
    cluster.write("/srv/shop/v2/does", "echo all tables are new");
    let done = cluster.cli(&["reload", "api"]).ok();
    let order = ["hook before starts", "hook before is done", "api:01 (generation 4) starts", "done: generation 4, 2 of 2 ready"];
    let places: Vec<_> = order.iter().map(|words| done.find(words).unwrap_or_else(|| panic!("{words}: {done}"))).collect();
    assert!(places.is_sorted(), "{done}");
    assert!(said(&cluster, "before").ends_with(&format!("migration of 4 in /srv/shop/v2 as {uid}, blue\nall tables are new\n")));
    assert_eq!((cluster.generations("api"), hooks(&cluster)[0]["state"].as_str()), (vec![4], Some("done")));
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v2 "));
    // One worker's restart is no deploy.
    cluster.cli(&["restart", "api:01"]).ok();
    assert_eq!((hooks(&cluster), said(&cluster, "before").matches("migration").count()), (vec![], 4));
}

#[test]
pub fn after_and_failed_tell_and_change_nothing() {
    // They stay for a moment: of a process that has ended when journald reads its line it may not know the unit.
    let more = "reload.hooks = { after = [\"sh\", \"-c\", \"echo $PROJECT_CLUSTER_HOOK $PROJECT_CLUSTER_GENERATION: $(cat VERSION); sleep 0.2; exit 7\"], \
                failed = [\"sh\", \"-c\", \"echo $PROJECT_CLUSTER_HOOK $PROJECT_CLUSTER_GENERATION: $(cat VERSION) of $PROJECT_CLUSTER_RELEASE_OF; sleep 0.2\"] }";
    let cluster = shop(2, more);
    assert_eq!(said(&cluster, "after").trim(), "after 1: v1");
    cluster.deploy("v2", HELLO);
    let done = cluster.cli(&["reload", "api"]).ok();
    for words in ["hook after failed after ", "it exited with 7", "after 2: v2", "done: generation 2, 2 of 2 ready"] {
        assert!(done.contains(words), "{words}: {done}");
    }
    assert_eq!((cluster.generations("api"), cluster.app("api")["held"].is_null()), (vec![2], true));
    // A version that does not start: told of from its own release.
    cluster.deploy("v3", "throw new Error('broken')");
    let failed = cluster.cli(&["reload", "api"]).exits(1);
    assert!(failed.stdout.contains("hook failed is done") && failed.stderr.contains("broken"), "{failed:?}");
    assert_eq!(said(&cluster, "failed").trim(), "failed 3: v3 of 3");
    // One that has no release at all: from that which serves.
    cluster.release("none");
    cluster.cli(&["reload", "api"]).exits(1);
    assert_eq!(said(&cluster, "failed").lines().last(), Some("failed 4: v2 of 2"));
    assert_eq!((cluster.generations("api"), loaded(&cluster)), (vec![2], vec![]));
    let kinds: Vec<String> = cluster
        .cli(&["events", "api"])
        .ok()
        .lines()
        .filter_map(|line| Some(line[line.find("hook.")?..].split(' ').next()?.to_owned()))
        .collect();
    assert_eq!(kinds, ["hook.begin", "hook.failed", "hook.begin", "hook.done", "hook.begin", "hook.done"]);
}

#[test]
pub fn a_hook_has_its_time_and_ends_with_its_app() {
    let cluster = shop(2, MIGRATE);
    let limited = |limit: &str| {
        cluster.config(&app("api", 2, "node app.js 3000", &format!("listen = 3000\n{MIGRATE}reload.hooks.timeout = \"{limit}\"")));
        cluster.cli(&["install"]).ok();
    };
    limited("1s");
    let sleeps = || cluster.sh("pgrep -x sleep || :").ok();
    deploy(&cluster, "v2", "sleep 1000 & sleep 1001");
    let failed = cluster.cli(&["reload", "api"]).exits(1);
    assert!(
        failed.stderr.contains("hook before failed: it took longer than its `timeout` of 1s; no worker was started"),
        "{}",
        failed.stderr
    );
    assert_eq!((sleeps(), loaded(&cluster), cluster.generations("api")), (String::new(), vec![], vec![1]));

    // By hand it is told to be done with.
    limited("5m");
    let waits = cluster.spawn(&["project-cluster", "reload", "api"]);
    let unit = "project-cluster-api:before@3.service";
    let runs = || cluster.state(unit) == "activating" && sleeps().lines().count() == 2;
    cluster.wait_until("the hook runs", SOON, runs);
    let listed = cluster.cli(&["ls"]).ok();
    assert!(listed.contains("rolling to generation 3: hook before: running, ") && listed.contains("; 0 of 2 ready"), "{listed}");
    let status = cluster.property("project-cluster@api.service", "StatusText");
    assert!(status.starts_with("roll to generation 3: hook before: running, "), "{status}");
    cluster.systemctl(&["stop", unit]).ok();
    assert!(waits.wait(SOON).exits(1).stderr.contains("hook before failed: signal 15 ended it"));
    assert_eq!((sleeps(), cluster.generations("api")), (String::new(), vec![1]));

    // A stop of the app ends it, with a master and without one.
    for master in [true, false] {
        let waits = cluster.spawn(&["project-cluster", "reload", "api"]);
        cluster.wait_until("the hook runs", SOON, || sleeps().lines().count() == 2);
        if !master {
            cluster.systemctl(&["mask", "--runtime", "--now", "project-cluster.socket", MASTER]).ok();
        }
        cluster.systemctl(&["stop", HANDLE]).ok();
        assert_eq!((sleeps(), cluster.workers("api")), (String::new(), vec![]), "{master}");
        if master {
            assert!(waits.wait(SOON).exits(1).stderr.contains("was stopped or restarted meanwhile"));
        } else {
            cluster.systemctl(&["unmask", "--runtime", "project-cluster.socket", MASTER]).ok();
            cluster.systemctl(&["start", "project-cluster.socket"]).ok();
            waits.wait(SOON).exits(1);
        }
        cluster.wait_until("nothing of them is loaded", SOON, || loaded(&cluster).is_empty());
        cluster.systemctl(&["start", HANDLE]).ok();
        assert_eq!(cluster.generations("api"), [1], "a start is no deploy, and nothing came behind the stop");
    }
}

#[test]
pub fn a_migration_runs_once_whatever_becomes_of_the_master() {
    let cluster = shop(2, MIGRATE);
    let begun = |generation: u64| said(&cluster, "before").matches(&format!("migration of {generation} ")).count();
    let mark = cluster.journal_mark();
    deploy(&cluster, "v2", "while [ ! -e goes ]; do sleep 0.05; done; echo it ends");
    // Killed twice while it runs.
    let waits = cluster.spawn(&["project-cluster", "reload", "api"]);
    cluster.wait_until("the migration runs", SOON, || begun(2) == 1);
    for _ in 0..2 {
        cluster.crash(MASTER);
    }
    cluster.wait_until("it is taken up", SOON, || cluster.app("api")["roll"]["hooks"][0]["state"] == "running");
    cluster.write("/srv/shop/v2/goes", "");
    assert!(waits.wait(2 * SOON).ok().contains("done: generation 2, 2 of 2 ready"));
    assert_eq!((begun(2), cluster.generations("api")), (1, vec![2]));
    // It ends while no master looks, well and badly.
    for (generation, end, code) in [(3, "echo it ends", 0), (4, "echo it breaks; exit 5", 1)] {
        deploy(&cluster, "v3", &format!("while [ ! -e goes ]; do sleep 0.05; done; {end}"));
        let waits = cluster.spawn(&["project-cluster", "reload", "api"]);
        cluster.wait_until("the migration runs", SOON, || begun(generation) == 1);
        cluster.kill(cluster.main_pid(MASTER).unwrap(), "STOP");
        cluster.write("/srv/shop/v3/goes", "");
        let unit = format!("project-cluster-api:before@{generation}.service");
        cluster.wait_until("it has ended", SOON, || cluster.state(&unit) == if code == 0 { "active" } else { "failed" });
        cluster.crash(MASTER);
        let ended = waits.wait(2 * SOON).exits(code);
        assert!(code == 0 || ended.stderr.contains("it exited with 5") && ended.stderr.contains("it breaks"), "{}", ended.stderr);
        assert_eq!((begun(generation), cluster.generations("api"), loaded(&cluster)), (1, vec![3], vec![]));
        cluster.sh("rm /srv/shop/v3/goes").ok();
    }
    // Nor does anybody else begin it again.
    let unit = "project-cluster-api:before@4.service";
    assert_ne!(cluster.systemctl(&["start", unit]).code, 0);
    assert!(said(&cluster, "before").contains("the hook `before` of generation 4 of api has begun before, and runs once"));
    assert_eq!(begun(4), 1);
    assert_eq!(cluster.journal(&["-u", MASTER, "-p", "crit", "--since", &mark, "-o", "cat"]), "");
}

#[test]
pub fn a_restart_is_a_deploy_and_a_start_or_a_boot_is_none() {
    let mut cluster = shop(2, MIGRATE);
    let begun = |cluster: &Cluster| said(cluster, "before").matches("migration of ").count();
    cluster.systemctl(&["stop", HANDLE]).ok();
    cluster.systemctl(&["start", HANDLE]).ok();
    cluster.reboot();
    cluster.wait_until("it is up", SOON, || cluster.workers("api").len() == 2);
    assert_eq!((begun(&cluster), cluster.generations("api")), (1, vec![1]));
    cluster.systemctl(&["restart", HANDLE]).ok();
    assert_eq!((begun(&cluster), cluster.generations("api")), (2, vec![2]));
    // One that fails: nothing of it starts, and why stands where a person looks. What is mended starts.
    cluster.write("/srv/shop/v1/does", "echo no such table; exit 4");
    assert_ne!(cluster.systemctl(&["restart", HANDLE]).code, 0);
    let log = cluster.journal(&["-u", HANDLE, "-o", "cat"]);
    for words in ["api: hook before failed: it exited with 4; nothing was started", "no such table", "Mend it, then: systemctl start"] {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert_eq!((cluster.workers("api"), loaded(&cluster)), (vec![], vec![]));
    assert!(cluster.get(ADDRESS, "/").is_err(), "its port is closed");
    cluster.sh("rm /srv/shop/v1/does").ok();
    cluster.systemctl(&["start", HANDLE]).ok();
    assert_eq!((begun(&cluster), cluster.generations("api")), (4, vec![4]));
}

#[test]
fn the_master_may_start_the_hooks_that_there_are_and_root_s_step_takes_generations_alone() {
    let cluster = installed(&app("api", 1, "node app.js 3000", &format!("listen = 3000\n{MIGRATE}")));
    cluster.program("v1", HELLO);
    cluster.cli(&["install", "--now"]).ok();
    let start = |unit: &str| {
        let call = [
            "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
            "StartUnit",
            "ss",
            unit,
            "replace",
        ];
        let command = [&["busctl", "--allow-interactive-authorization=false", "call"], &call[..]].concat();
        cluster.run_as("project-cluster", &command)
    };
    for unit in ["after@1", "before@x", "before@01", "before@0", "before@1-0", "before@1.1.1"] {
        let refused = start(&format!("project-cluster-api:{unit}.service"));
        assert_ne!(refused.code, 0, "{unit}");
        assert!(
            ["Access denied", "Interactive authentication required", "not valid", "Invalid"]
                .iter()
                .any(|words| refused.stderr.contains(words)),
            "{unit}: {refused:?}"
        );
    }
    // What polkit lets pass runs nothing that root has not made, and nothing twice.
    for (unit, why) in [
        ("before@1", "runs once"),
        ("before@7", "cannot be made: the last one is 1, so the next is 2"),
        ("before@3-2", "not kept any more"),
        ("before@1-2", "no generation of api"),
    ] {
        let unit = format!("project-cluster-api:{unit}.service");
        start(&unit).ok();
        cluster.wait_until(&format!("{unit} has failed"), SOON, || cluster.state(&unit) == "failed");
        assert!(cluster.journal(&["-u", &unit, "-o", "cat"]).contains(why), "{unit}");
    }
    assert_eq!(said(&cluster, "before").matches("migration of ").count(), 1);
    assert_eq!(cluster.generations("api"), [1]);
}
