//! The master may die at any time: workers do not notice, and what it was doing goes on.

use std::time::Duration;

use super::cluster::{ADDRESS, Cluster, HELLO, SOON, cluster, node, shop};
use super::support::Running;

const MASTER: &str = "project-cluster.service";

/// Kills the master as `kill -9` does; waits until another one is there.
#[track_caller]
fn kill_master(cluster: &Cluster) {
    let pid = cluster.main_pid(MASTER).expect("a master");
    cluster.kill(pid, "KILL");
    cluster.wait_until("another master is there", SOON, || cluster.main_pid(MASTER).is_some_and(|new| new != pid));
    cluster.wait_for_state(MASTER, "active", SOON);
}

#[test]
pub fn killed_under_load_nobody_notices_and_the_next_one_adopts_all() {
    let cluster = shop(4, "");
    let (inode, pids) = (cluster.socket_inode(3000), cluster.pids("api"));
    let load = cluster.load(ADDRESS).connections(8).start();
    load.wait_for_answers(100);
    for _ in 0..3 {
        kill_master(&cluster);
        load.wait_for_answers(50);
    }
    let report = load.stop();
    println!("the master killed three times under load: {report}");
    report.none_failed(250);
    assert_eq!((cluster.pids("api"), cluster.socket_inode(3000)), (pids.clone(), inode));
    let rows = cluster.ls();
    let mut listed: Vec<i32> = rows.iter().map(|row| row.pid()).collect();
    listed.sort_unstable();
    assert_eq!(listed, pids);
    assert!(rows.iter().all(|row| row.state() == "online" && row.generation() == 1));
    // It rolls what it adopted.
    cluster.cli(&["reload", "api"]).ok();
    assert_eq!(cluster.generations("api"), [2]);
}

#[test]
fn what_a_newer_version_wrote_is_left_alone_and_said_while_workers_serve() {
    let memory = "/var/lib/project-cluster/state/apps.json";
    let cluster = cluster(&node(2));
    cluster.systemctl(&["stop", MASTER]).ok();
    let (ours, pids) = (cluster.read(memory), cluster.pids("api"));
    cluster.write(memory, "{\"format\":99,\"workers\":[]}");
    cluster.sh("systemctl start --no-block project-cluster.service").ok();
    let told = "apps.json was written by a newer project-cluster (format 99, this one knows 2): install that version again";
    cluster.wait_until("the master says why it does not start", SOON, || cluster.journal_of(MASTER).contains(told));
    // What root has not written keeps nobody from installing a mended version; root's own ledger does.
    cluster.cli(&["install"]).ok();
    let ledger = "/var/lib/project-cluster/pins/installed.json";
    let kept = cluster.read(ledger);
    cluster.write(ledger, kept.replacen("\"format\": 2", "\"format\": 99", 1));
    let refused = cluster.cli(&["install"]);
    let told = "installed.json was written by a newer project-cluster (format 99, this one knows 2): install that version again";
    assert!(!refused.success() && refused.stderr.contains("nothing was changed") && refused.stderr.contains(told), "{refused:?}");
    cluster.write(ledger, kept);
    assert_eq!(cluster.read(memory), "{\"format\":99,\"workers\":[]}");
    assert!(!cluster.exists(format!("{memory}.damaged-1")));
    assert_eq!(cluster.pids("api"), pids);
    assert!(cluster.sh(&format!("curl -sS -m 20 http://{ADDRESS}/")).ok().contains("v1"));
    // The version that wrote it is back.
    cluster.write(memory, ours);
    cluster.wait_for_state(MASTER, "active", SOON);
    assert_eq!((cluster.ls().len(), cluster.pids("api")), (2, pids));
}

/// A reload that waits, once its first new worker is ready.
#[track_caller]
fn reload_half_way(cluster: &Cluster) -> Running {
    let reload = cluster.spawn(&["project-cluster", "reload", "api"]);
    cluster.wait_until("a new worker is ready", SOON, || reload.stdout().contains("is ready"));
    reload
}

#[test]
pub fn killed_in_a_roll_the_next_one_ends_it_and_who_waits_hears_the_true_end() {
    let cluster = shop(3, "reload.min_ready = \"500ms\"");
    let load = cluster.load(ADDRESS).connections(4).pause(Duration::from_millis(2)).start();
    load.wait_for_answers(50);
    // kill -9 half way, and a reload that waits behind it.
    cluster.deploy("v2", HELLO);
    let reload = reload_half_way(&cluster);
    let behind = cluster.spawn(&["project-cluster", "reload", "api"]);
    cluster.wait_until("it waits", SOON, || cluster.exists("/run/project-cluster/state/roll-api.next"));
    kill_master(&cluster);
    let said = reload.wait(3 * SOON).ok();
    assert!(said.contains("taken up by a new master") && said.contains("done: generation 2, 3 of 3 ready"), "{said}");
    for slot in 1..=3 {
        let step = format!("api:0{slot} (generation 2) starts");
        assert_eq!(said.matches(&step).count(), 1, "no worker is started twice: {said}");
    }
    let said = behind.wait(3 * SOON).ok();
    assert!(said.contains("done: generation 3, 3 of 3 ready"), "{said}");
    assert_eq!((cluster.generations("api"), cluster.workers("api").len()), (vec![3], 3));
    // A new master still knows how the last roll ended.
    kill_master(&cluster);
    assert_eq!(cluster.app("api")["roll"]["state"], "done");

    // An orderly restart of it.
    let reload = reload_half_way(&cluster);
    cluster.systemctl(&["restart", "project-cluster"]).ok();
    let said = reload.wait(3 * SOON).ok();
    assert!(said.contains("done: generation 4, 3 of 3 ready"), "{said}");

    // kill -9 in a roll that fails later: all is old again, who waits exits with 1 and the app's own words.
    cluster.deploy("v3", &format!("if (process.env.PROJECT_CLUSTER_SLOT === '3') throw new Error('not on the third'); {HELLO}"));
    let reload = reload_half_way(&cluster);
    kill_master(&cluster);
    let failed = reload.wait(3 * SOON).exits(1);
    assert!(failed.stderr.contains("not on the third"), "{}", failed.stderr);
    assert_eq!((cluster.generations("api"), cluster.workers("api").len()), (vec![4], 3));
    assert!(cluster.app("api")["held"]["reason"].as_str().unwrap().contains("not on the third"));
    let report = load.stop();
    println!("four rolls, the master killed or restarted in each: {report}");
    assert_eq!(report.failed_by_kind.get("refused"), None, "{report}");
}

#[test]
fn what_it_shows_is_true_through_reexec_reload_and_a_new_bus() {
    let cluster = cluster(&node(2));
    let master = cluster.main_pid(MASTER);
    for upheaval in [&["systemctl", "daemon-reexec"][..], &["systemctl", "daemon-reload"], &["systemctl", "restart", "dbus.service"]] {
        let before = cluster.ls().iter().map(|row| (row.pid(), row.0["restarts"].as_u64().unwrap())).max_by_key(|row| row.1).unwrap();
        cluster.run(upheaval).ok();
        // A worker killed by hand comes back as another process, and its crash is counted.
        cluster.kill(before.0, "KILL");
        cluster.wait_until(&format!("the crash after {upheaval:?} shows"), SOON, || {
            let rows = cluster.ls();
            rows.iter().all(|row| row.state() == "online" && row.pid() != before.0)
                && rows.iter().any(|row| row.0["restarts"].as_u64() == Some(before.1 + 1))
        });
        let listed: Vec<i32> = cluster.ls().iter().map(|row| row.pid()).collect();
        let mut sorted = listed.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, cluster.pids("api"), "after {upheaval:?}");
    }
    assert_eq!(cluster.main_pid(MASTER), master, "the master lived through it");
    // One that a person stops is left so, by a roll too, until a person starts it.
    let stopped = cluster.workers("api").remove(0);
    let uid = format!("api:0{}", super::cluster::instance(&stopped).split('.').next().unwrap());
    cluster.systemctl(&["stop", &stopped]).ok();
    let state = |uid: &str| cluster.ls().iter().find(|row| row.uid() == uid).map(|row| row.state().to_owned());
    cluster.wait_until("it shows", SOON, || state(&uid).as_deref() == Some("stopped"));
    // It still rolls: jobs and their ends arrive.
    cluster.cli(&["reload", "api"]).ok();
    assert_eq!((cluster.generations("api"), cluster.workers("api").len()), (vec![2], 1));
    cluster.cli(&["start", &uid]).ok();
    assert_eq!((cluster.generations("api"), cluster.workers("api").len()), (vec![2], 2));
}

#[test]
fn without_its_socket_it_says_so_and_without_the_group_nobody_may_use_it() {
    let cluster = cluster(&node(1));
    let alone = cluster.run(&["project-cluster", "master", "--cluster", "project-cluster"]);
    assert_ne!(alone.code, 0);
    assert!(alone.stderr.contains("systemctl start project-cluster.socket"), "{}", alone.stderr);

    cluster.run(&["useradd", "mallory"]).ok();
    cluster.run(&["useradd", "-G", "project-cluster", "alice"]).ok();
    for verb in [&["ls"][..], &["stop", "api"], &["reload", "api"]] {
        let words: Vec<&str> = [&["project-cluster"], verb].concat();
        let refused = cluster.run_as("mallory", &words).exits(3);
        assert!(refused.stderr.contains("join the group `project-cluster`"), "{}", refused.stderr);
        assert!(refused.stderr.contains("usermod -aG project-cluster"), "{}", refused.stderr);
    }
    assert_eq!(cluster.workers("api").len(), 1);
    cluster.run_as("alice", &["project-cluster", "reload", "api"]).ok();
    assert!(cluster.run_as("alice", &["project-cluster", "ls"]).ok().contains("api:01"));
    assert_eq!(cluster.generations("api"), [2]);

    // Its memory at rest, for the report; in a debug build a figure without meaning.
    let pid = cluster.main_pid(MASTER).unwrap();
    let rollup = cluster.read(format!("/proc/{pid}/smaps_rollup"));
    let figures: Vec<&str> = rollup.lines().filter(|line| line.starts_with("Rss:") || line.starts_with("Pss:")).collect();
    assert_eq!(figures.len(), 2, "{rollup}");
    println!("the idle master: {figures:?}");

    // The socket down: nobody can be reached, and who asks learns how to mend it.
    cluster.systemctl(&["stop", "project-cluster.socket", MASTER]).ok();
    let unreachable = cluster.cli(&["ls"]).exits(3);
    assert!(unreachable.stderr.contains("`systemctl start project-cluster.socket`"), "{}", unreachable.stderr);
    cluster.wait_until("the app is served all the while", Duration::from_secs(5), || cluster.get(ADDRESS, "/").is_ok());
}

#[test]
fn a_journal_that_goes_away_takes_neither_the_master_nor_a_roll_with_it() {
    let cluster = shop(2, "");
    let master = cluster.main_pid(MASTER);
    // Stopped, not restarted: then systemd forgets the streams, and whoever writes to one is told that nobody reads.
    let units = ["systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald-audit.socket"];
    cluster.systemctl(&[&["stop"], &units[..]].concat()).ok();
    cluster.systemctl(&["start", "systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald.service"]).ok();
    let said = cluster.cli(&["reload", "api"]).ok();
    assert!(said.contains("done: generation 2, 2 of 2 ready"), "{said}");
    assert_eq!(cluster.main_pid(MASTER), master);
    // The same where nobody reads the command line: a pipe whose other end is closed.
    const UNREAD: &str =
        "import os, subprocess, sys; r, w = os.pipe(); os.close(r); sys.exit(subprocess.run(sys.argv[1:], stdout=w, stderr=w).returncode)";
    cluster.run(&["python3", "-c", UNREAD, "project-cluster", "show", "nobody"]).exits(2);
    cluster.run(&["python3", "-c", UNREAD, "project-cluster", "reload", "api"]).exits(0);
}

#[test]
pub fn held_up_while_the_app_is_stopped_or_restarted_in_a_roll_it_starts_nothing_more() {
    let cluster = shop(3, "reload.min_ready = \"500ms\"");
    let (handle, socket) = ("project-cluster@api", "project-cluster-api-:::3000.socket");
    for verb in ["stop", "restart"] {
        let reload = reload_half_way(&cluster);
        let master = cluster.main_pid(MASTER).expect("a master");
        cluster.kill(master, "STOP");
        cluster.systemctl(&[verb, handle]).ok();
        let workers = cluster.workers("api");
        cluster.kill(master, "CONT");
        let failed = reload.wait(SOON).exits(1);
        assert!(failed.stderr.contains("was stopped or restarted meanwhile"), "{verb}: {}", failed.stderr);
        assert_eq!(cluster.units("project-cluster-api@*", &["active", "activating", "deactivating"]), workers, "{verb}");
        assert_eq!((workers.len(), cluster.state(socket).as_str()), if verb == "stop" { (0, "inactive") } else { (3, "active") });
        assert_eq!(cluster.main_pid(MASTER), Some(master), "it is the same master");
        cluster.systemctl(&["start", handle]).ok();
    }
}
