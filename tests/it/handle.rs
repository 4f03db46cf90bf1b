//! The handle: `systemctl start`, `stop`, `restart`, `reload` of an app do what they say, also with the master dead.
//! The cases that a first design failed are named after what happened.

use std::time::{Duration, Instant};

use super::cluster::{ADDRESS, SOON, app, cluster, installed, node};

const HANDLE: &str = "project-cluster@api";
const SOCKET: &str = "project-cluster-api-:::3000.socket";

#[test]
fn start_stop_and_restart_without_a_master() {
    let cluster = cluster(&node(2));
    let inode = cluster.socket_inode(3000);
    // Neither the master nor its socket, and no D-Bus.
    cluster.systemctl(&["mask", "--runtime", "--now", "project-cluster.socket", "project-cluster.service"]).ok();
    cluster.systemctl(&["stop", "dbus.socket", "dbus.service"]).ok();
    // Rolling is the master's: without one it fails, says so and changes nothing.
    let workers = cluster.workers("api");
    assert_ne!(cluster.systemctl(&["reload", HANDLE]).code, 0);
    assert_eq!((cluster.state(HANDLE).as_str(), cluster.workers("api")), ("active", workers));
    assert!(cluster.journal_of(HANDLE).contains("systemctl start project-cluster.socket"));
    cluster.systemctl(&["restart", HANDLE]).ok();
    assert_eq!(cluster.workers("api").len(), 2);
    assert_eq!(cluster.socket_inode(3000), inode, "the socket stays");
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v1 "));
    cluster.systemctl(&["stop", HANDLE]).ok();
    assert_eq!(cluster.units("project-cluster-api@*", &[]), Vec::<String>::new(), "nothing is left, not even a failed unit");
    assert!(cluster.get(ADDRESS, "/").is_err());
    cluster.systemctl(&["start", HANDLE]).ok();
    assert_eq!(cluster.workers("api").len(), 2);
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v1 "));
}

#[test]
pub fn power_off_under_load_waits_for_no_time_out() {
    let mut cluster = cluster(&node(4));
    let load = cluster.load(ADDRESS).connections(8).start();
    load.wait_for_answers(200);
    let took = cluster.shutdown();
    drop(load);
    assert!(took < Duration::from_secs(10), "{took:?}");
    cluster.boot();
    cluster.wait_until("the app is back", SOON, || cluster.workers("api").len() == 4);
    assert_eq!(cluster.generations("api"), [1], "a reboot is no deploy");
}

#[test]
pub fn stop_with_all_workers_stopped_by_hand_and_a_client_waiting() {
    let cluster = cluster(&node(2));
    cluster.systemctl(&["stop", "project-cluster-api@*.service"]).ok();
    let client = cluster.client();
    cluster.wait_for_state("project-cluster-first@api.service", "active", SOON);
    for _ in 0..3 {
        cluster.systemctl(&["stop", HANDLE]).ok();
        assert_eq!(cluster.state(HANDLE), "inactive");
        assert_eq!(cluster.state(SOCKET), "inactive");
        cluster.systemctl(&["start", HANDLE]).ok();
        cluster.systemctl(&["stop", "project-cluster-api@*.service"]).ok();
    }
    drop(client);
}

#[test]
pub fn six_stops_and_starts_in_ten_seconds() {
    let cluster = cluster(&node(1));
    let begin = Instant::now();
    for _ in 0..6 {
        cluster.systemctl(&["stop", HANDLE]).ok();
        cluster.systemctl(&["start", HANDLE]).ok();
    }
    println!("six stops and starts took {:?}", begin.elapsed());
    assert_eq!(cluster.state(HANDLE), "active");
    assert!(cluster.get(ADDRESS, "/").is_ok());
}

#[test]
pub fn restart_into_a_broken_version_closes_the_port_and_holds() {
    let cluster = installed(&app("api", 2, "node app.js 3000", "listen = 3000"));
    // The first release has no app.js: nothing gets ready, and the install says so.
    let failed = cluster.cli(&["install", "--now"]).exits(1);
    assert!(failed.stderr.contains("api did not start"), "{}", failed.stderr);
    assert_eq!(cluster.state(HANDLE), "failed");
    cluster.sh("cp -r /srv/apps/*.js /srv/shop/v1/; mv /srv/shop/v1/hello.js /srv/shop/v1/app.js").ok();
    cluster.sh("mkdir -p /srv/shop/v2; cp /srv/apps/broken/throws.js /srv/shop/v2/app.js").ok();
    cluster.systemctl(&["start", HANDLE]).ok();
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v1 "));
    cluster.release("v2");
    let restart = cluster.systemctl(&["restart", HANDLE]);
    assert_ne!(restart.code, 0);
    assert_eq!(cluster.state(HANDLE), "failed");
    assert_eq!(cluster.state(SOCKET), "inactive");
    assert!(cluster.get(ADDRESS, "/").is_err());
    let journal = cluster.journal_of(HANDLE);
    assert!(journal.contains("Error: "), "the app's own error: {journal}");
    // Held: neither a connection nor time starts it again.
    assert_eq!(cluster.units("project-cluster-api@*", &["active", "activating"]), Vec::<String>::new());
    // And says so, with the app's own words.
    cluster
        .wait_until("the hold is told", SOON, || cluster.cli(&["show", "api"]).stdout.contains("Error: the broken version cannot start"));
    assert!(cluster.cli(&["ls"]).stdout.contains("), its start failed and its port is closed: api: none of 2 workers got ready"));
    // What is mended meanwhile is what the next start takes, not what failed and not what served before.
    cluster.sh("cp /srv/shop/v1/*.js /srv/shop/v2/").ok();
    cluster.systemctl(&["restart", HANDLE]).ok();
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v2 "));
    assert!(cluster.app("api")["held"].is_null(), "{}", cluster.app("api"));
}

#[test]
pub fn a_worker_on_its_way_back_does_not_open_the_port_again() {
    // Each start of a worker wants its sockets, systemd's own restart of it too. One socket takes its time to close, so
    // that workers restart after the other one is closed.
    let cluster = installed(&app("api", 2, "/bin/false", "listen = [3000, 3001]\ntimeout.restart = \"20ms\""));
    let slow = "project-cluster-api-:::3001.socket";
    cluster.write(format!("/etc/systemd/system/{slow}.d/slow.conf"), "[Socket]\nExecStopPre=/bin/sleep 0.5\n");
    cluster.cli(&["install", "--now"]).exits(1);
    assert_eq!([HANDLE, SOCKET, slow].map(|unit| cluster.state(unit)), ["failed", "inactive", "inactive"]);
    assert_eq!(cluster.units("project-cluster-api@*", &["active", "activating", "failed"]), Vec::<String>::new());
    assert!(cluster.get(ADDRESS, "/").is_err());
}

#[test]
pub fn two_people_start_the_same_app_at_once() {
    let cluster = cluster(&app("api", 1, "node /srv/apps/broken/slow.js 3000", "listen = 3000\nenv = { STARTS_AFTER = \"1500\" }"));
    cluster.systemctl(&["stop", HANDLE]).ok();
    let master = cluster.main_pid("project-cluster.service");
    // systemd makes one job of both.
    let both = [(); 2].map(|()| cluster.spawn(&["project-cluster", "start", "api"]));
    for start in both {
        start.wait(SOON).ok();
    }
    assert_eq!(cluster.main_pid("project-cluster.service"), master);
}

#[test]
pub fn a_stop_with_damaged_settings_stops_all_the_same() {
    let cluster = cluster(&node(2));
    cluster.write("/var/lib/project-cluster/pins/settings.json", "{");
    cluster.systemctl(&["stop", HANDLE]).ok();
    assert_eq!(cluster.units("project-cluster-api@*", &["active", "activating", "deactivating"]), Vec::<String>::new());
    assert_eq!(cluster.state(SOCKET), "inactive");
}

#[test]
pub fn workers_stopped_by_hand_are_started_and_none_wanted_is_told_with_what_to_do() {
    let cluster = cluster(&node(2));
    for start in [&["project-cluster", "start", "api"], &["systemctl", "restart", HANDLE]] {
        cluster.systemctl(&["stop", "project-cluster-api@*.service"]).ok();
        cluster.run(start).ok();
        assert_eq!(cluster.workers("api").len(), 2);
    }
    cluster.config(&node(0));
    cluster.cli(&["install"]).ok();
    let reload = cluster.cli(&["reload", "api"]).exits(1);
    assert!(reload.stderr.contains("0 workers are wanted"), "{}", reload.stderr);
    cluster.systemctl(&["restart", HANDLE]).ok();
    assert_eq!(cluster.workers("api"), Vec::<String>::new());
}

#[test]
fn stop_with_polkit_masked() {
    let cluster = cluster(&node(2));
    cluster.systemctl(&["mask", "--runtime", "--now", "polkit.service"]).ok();
    cluster.systemctl(&["stop", HANDLE]).ok();
    assert_eq!(cluster.units("project-cluster-api@*", &["active", "activating", "deactivating"]), Vec::<String>::new());
    assert_eq!(cluster.state(SOCKET), "inactive");
}

#[test]
fn stop_with_dbus_down() {
    let cluster = cluster(&node(2));
    cluster.systemctl(&["mask", "--runtime", "dbus.socket", "dbus.service"]).ok();
    cluster.systemctl(&["stop", "dbus.socket", "dbus.service"]).ok();
    cluster.systemctl(&["stop", HANDLE]).ok();
    assert_eq!(cluster.units("project-cluster-api@*", &["active", "activating", "deactivating"]), Vec::<String>::new());
    assert_eq!(cluster.state(SOCKET), "inactive");
    // The master cannot know that, and says so rather than what was true before.
    let blind = cluster.cli(&["ls"]).exits(1);
    assert!(blind.stderr.contains("systemd") && blind.stderr.contains("D-Bus"), "{}", blind.stderr);
}

#[test]
pub fn restart_during_a_reload_leaves_one_set_of_workers() {
    let cluster = cluster(&app("api", 3, "node /srv/apps/hello.js 3000", "listen = 3000\nreload.min_ready = \"2s\""));
    let inode = cluster.socket_inode(3000);
    let load = cluster.load(ADDRESS).connections(4).start();
    load.wait_for_answers(50);
    let reload = cluster.spawn(&["systemctl", "reload", HANDLE]);
    cluster.wait_until("the roll has begun", SOON, || cluster.generations("api").len() == 2);
    cluster.systemctl(&["restart", HANDLE]).ok();
    reload.wait(SOON);
    assert_eq!(cluster.workers("api").len(), 3, "not doubled: {:?}", cluster.workers("api"));
    assert_eq!(cluster.generations("api").len(), 1);
    assert_eq!(cluster.socket_inode(3000), inode);
    let more = load.so_far().ok;
    cluster.wait_until("it answers again", SOON, || load.so_far().ok > more + 50);
    let report = load.stop();
    assert_eq!(report.failed_by_kind.get("refused"), None, "the port never closed: {report}");
}

#[test]
pub fn stop_during_a_reload_stops_all() {
    let cluster = cluster(&app("api", 3, "node /srv/apps/hello.js 3000", "listen = 3000\nreload.min_ready = \"2s\""));
    let load = cluster.load(ADDRESS).connections(4).start();
    load.wait_for_answers(50);
    let reload = cluster.spawn(&["systemctl", "reload", HANDLE]);
    cluster.wait_until("the roll has begun", SOON, || cluster.generations("api").len() == 2);
    cluster.systemctl(&["stop", HANDLE]).ok();
    reload.wait(SOON);
    assert_eq!(cluster.state(HANDLE), "inactive", "not failed");
    assert_eq!(cluster.state(SOCKET), "inactive");
    assert_eq!(cluster.units("project-cluster-api@*", &["active", "activating", "deactivating"]), Vec::<String>::new());
    // Nothing comes back: the roll knows that its handle left.
    cluster.wait_until("the roll ended", SOON, || cluster.app("api")["roll"]["state"] == "failed");
    assert_eq!(cluster.units("project-cluster-api@*", &["active", "activating", "deactivating"]), Vec::<String>::new());
}
