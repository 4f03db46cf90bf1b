//! The traps of systemd that units can step into, by their numbers, on the real systemd: `docs/testing.md` has the table.
//! What a trap does to units that step into it is known from trying; here is what ours do.

use std::time::Duration;

use super::cluster::{ADDRESS, Cluster, SOON, app, cluster, installed, node};

const SOCKET: &str = "project-cluster-api-:::3000.socket";
const HANDLE: &str = "project-cluster@api.service";
const FIRST: &str = "project-cluster-api@1.1.1.service";
const LISTEN: &str = "listen = 3000";

/// Node's hello server, or an end with 1 at once when this holds.
fn unless(test: &str) -> String {
    app("api", 3, &format!("sh -c 'if {test}; then echo crashing >&2; exit 1; fi; exec node /srv/apps/hello.js 3000'"), LISTEN)
}

fn restarts(cluster: &Cluster, unit: &str) -> u32 {
    cluster.property(unit, "NRestarts").parse().unwrap()
}

#[test]
pub fn trap_01_a_crash_looping_worker_leaves_the_shared_socket_and_its_siblings_alone() {
    let cluster = cluster(&unless("[ $PROJECT_CLUSTER_SLOT = 1 ] && [ -e /srv/shop/crash ]"));
    let others = ["2", "3"].map(|slot| cluster.main_pid(&format!("project-cluster-api@{slot}.1.1.service")).unwrap());
    let inode = cluster.socket_inode(3000);
    let load = cluster.load(ADDRESS).connections(2).start();
    cluster.write("/srv/shop/crash", "");
    cluster.kill(cluster.main_pid(FIRST).unwrap(), "KILL");
    // systemd's default start limit, five in ten seconds, and one more.
    cluster.wait_until("it has crashed six times", SOON * 3, || restarts(&cluster, FIRST) >= 6);
    assert_eq!((cluster.state(SOCKET).as_str(), cluster.property(SOCKET, "Result").as_str()), ("active", "success"));
    assert_eq!(cluster.socket_inode(3000), inode);
    let served = load.so_far().ok;
    cluster.wait_until("the others serve", SOON, || load.so_far().ok > served + 50);
    drop(load);
    assert_eq!(["2", "3"].map(|slot| cluster.main_pid(&format!("project-cluster-api@{slot}.1.1.service")).unwrap()), others);
    // Mended, it is back with the socket, by itself.
    cluster.run(&["rm", "/srv/shop/crash"]).ok();
    cluster.wait_for_state(FIRST, "active", SOON);
    cluster.kill(others[0], "KILL");
    cluster.kill(others[1], "KILL");
    assert!(cluster.get(ADDRESS, "/").is_ok());
    cluster.wait_until("all are back", SOON, || cluster.workers("api").len() == 3);
}

#[test]
pub fn trap_02_and_15_deaths_under_traffic_neither_close_the_socket_nor_make_the_trigger_spin() {
    // Go, which is back in no time; waits of 0, so that it is.
    let cluster = cluster(&app("api", 2, "/usr/local/bin/hello-go 3000", "listen = 3000\ntimeout.restart = 0"));
    let inode = cluster.socket_inode(3000);
    let load = cluster.load(ADDRESS).connections(4).start();
    load.wait_for_answers(50);
    // All at once, so that connections wait and PID 1 sees them: each is a trigger. Its own limit is 20 in 2 s. Reset, so
    // that it is no crash loop and nobody waits.
    let death = "systemctl kill -s KILL 'project-cluster-api@*.service'; systemctl reset-failed 'project-cluster-api@*.service'";
    let deaths = cluster.sh(&format!("for i in $(seq 50); do {death}; done")).exits(0);
    println!("50 times all workers killed, in {:?}", deaths.took);
    let served = load.so_far().ok;
    cluster.wait_until("it serves", SOON, || load.so_far().ok > served + 50 && cluster.workers("api").len() == 2);
    drop(load);
    assert_eq!((cluster.state(SOCKET).as_str(), cluster.property(SOCKET, "Result").as_str()), ("active", "success"));
    assert_eq!(cluster.socket_inode(3000), inode);
    // The trigger ran at most once and stays.
    let triggered = cluster.journal(&["-u", "project-cluster-first@api.service", "-o", "cat"]).matches("Finished ").count();
    assert!(triggered <= 1, "the trigger ran {triggered} times");
    assert_eq!(cluster.state(HANDLE), "active");
    assert_eq!(cluster.generations("api"), [1]);
}

#[test]
fn trap_03_10_and_22_a_reload_of_an_app_with_a_dashed_name_ends_and_its_limits_are_its_own() {
    let limits = "limits = { CPUWeight = 50 }";
    let apps = [
        app("api", 1, "node /srv/apps/hello.js 3000", &format!("{LISTEN}\n{limits}")),
        app("api-v2", 1, "node /srv/apps/hello.js 3001", "listen = 3001"),
        app("\"a.b_c-d\"", 1, "node /srv/apps/hello.js /run/odd/a.sock", "listen = \"/run/odd/a.sock\""),
    ];
    let cluster = cluster(&apps.concat());
    for name in ["api", "api-v2", "a.b_c-d"] {
        // A worker ordered after handle or master would wait here for the job that waits for it.
        cluster.systemctl(&["reload", &format!("project-cluster@{name}")]).ok();
        assert_eq!(cluster.generations(name), [2], "{name}");
        cluster.systemctl(&["restart", &format!("project-cluster@{name}")]).ok();
        assert_eq!(cluster.generations(name), [3], "{name}");
    }
    assert!(cluster.get("/run/odd/a.sock", "/").is_ok());
    let weight = |name: &str| cluster.property(&format!(r"system-project\x2dcluster\x2d{name}.slice"), "CPUWeight");
    assert_eq!((weight("api").as_str(), weight(r"api\x2dv2").as_str()), ("50", "[not set]"));
    let group = cluster.property("project-cluster-api-v2@1.3.1.service", "ControlGroup");
    assert!(!group.contains(r"api.slice"), "it lies in no other app's slice: {group}");
    let user = cluster.run(&["stat", "-c", "%U", &format!("/proc/{}", cluster.main_pid("project-cluster-api-v2@1.3.1.service").unwrap())]);
    assert_eq!(user.ok(), "project-cluster-api-v2");
}

#[test]
pub fn trap_04_workers_outlive_whatever_happens_to_the_master() {
    let cluster = cluster(&node(2));
    let pids = || ["1", "2"].map(|slot| cluster.main_pid(&format!("project-cluster-api@{slot}.1.1.service")));
    let before = pids();
    cluster.kill(cluster.main_pid("project-cluster.service").unwrap(), "KILL");
    assert_eq!(pids(), before);
    for verb in ["restart", "stop", "start"] {
        cluster.systemctl(&[verb, "project-cluster.service"]).ok();
        assert_eq!(pids(), before, "{verb}");
    }
    cluster.systemctl(&["daemon-reload"]).ok();
    cluster.systemctl(&["daemon-reexec"]).ok();
    assert_eq!(pids(), before);
    assert!(cluster.get(ADDRESS, "/").is_ok());
}

#[test]
pub fn trap_06_7_and_8_a_changed_address_is_another_socket_and_a_lost_one_is_mended_by_restart() {
    let cluster = cluster(&node(2));
    let first = cluster.main_pid(FIRST).unwrap();
    let inode = cluster.socket_inode(3000);
    // 6: an option of a live socket, then another address: what runs goes on, a fresh worker gets its socket.
    cluster.config(&app("api", 2, "node /srv/apps/hello.js 3000", "listen = { address = 3000, backlog = 100 }"));
    let said = cluster.cli(&["install"]).ok();
    assert!(said.contains(&format!("{SOCKET} changed")), "{said}");
    assert_eq!(cluster.socket_inode(3000), inode);
    cluster.kill(first, "KILL");
    cluster.wait_until("it is back", SOON, || cluster.main_pid(FIRST).is_some_and(|pid| pid != first) && cluster.workers("api").len() == 2);
    assert!(cluster.get(ADDRESS, "/").is_ok());
    assert_eq!(cluster.socket_inode(3000), inode);
    // 7: stopped from outside. Workers go on; it cannot come back beside them; restart of the handle mends it.
    cluster.systemctl(&["stop", SOCKET]).ok();
    assert_ne!(cluster.systemctl(&["start", SOCKET]).code, 0);
    assert_eq!(cluster.workers("api").len(), 2);
    // 8: the trigger that a connection left active would keep the socket from starting.
    cluster.systemctl(&["start", "project-cluster-first@api.service"]).ok();
    cluster.systemctl(&["restart", HANDLE]).ok();
    assert_eq!(cluster.state(SOCKET), "active");
    assert!(cluster.get(ADDRESS, "/").is_ok());
    assert_ne!(cluster.socket_inode(3000), inode);
    // Another address is another socket; the old one goes with the install behind the restart.
    cluster.config(&app("api", 2, "node /srv/apps/hello.js 3010", "listen = 3010"));
    cluster.cli(&["install"]).ok();
    cluster.systemctl(&["restart", HANDLE]).ok();
    assert!(cluster.get("127.0.0.1:3010", "/").is_ok());
    cluster.cli(&["install"]).ok();
    assert_eq!(cluster.units(SOCKET, &["active", "failed"]), Vec::<String>::new());
}

#[test]
pub fn trap_14_and_15_a_broken_on_demand_app_is_tried_once_and_its_port_closes() {
    let cluster = installed(&app("api", 2, "node app.js 3000", "listen = 3000\non_demand = true"));
    cluster.sh("cp /srv/apps/broken/throws.js /srv/shop/v1/app.js; cp /srv/apps/hello.js /srv/apps/common.js /srv/shop/v2").ok();
    cluster.sh("mv /srv/shop/v2/hello.js /srv/shop/v2/app.js").ok();
    cluster.cli(&["install", "--now"]).ok();
    assert_eq!(cluster.workers("api"), Vec::<String>::new());
    // Several clients, who wait and ask again.
    let clients = cluster.spawn(&["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do curl -s --max-time 20 http://127.0.0.1:3000/ & done; wait"]);
    cluster.wait_for_state(HANDLE, "failed", SOON);
    clients.wait(SOON * 2);
    assert_eq!(cluster.state(SOCKET), "inactive");
    assert_ne!(cluster.run(&["curl", "-s", "http://127.0.0.1:3000/"]).code, 0, "the port is closed");
    let starts = cluster.journal(&["-o", "cat"]).matches("Starting project-cluster@api.service").count();
    assert_eq!(starts, 1, "held, and not tried again and again");
    // 14: its stop waits for nobody, and a person's start of the mended one serves.
    cluster.systemctl(&["stop", HANDLE]).ok();
    cluster.release("v2");
    cluster.systemctl(&["start", HANDLE]).ok();
    assert!(cluster.get(ADDRESS, "/").is_ok());
}

#[test]
pub fn trap_16_a_master_that_crashes_again_and_again_keeps_its_socket() {
    let cluster = cluster(&node(1));
    // As fast as systemd can, with requests that would trigger it.
    cluster.write("/run/systemd/system/project-cluster.service.d/fast.conf", "[Service]\nRestartSec=0\n");
    cluster.systemctl(&["daemon-reload"]).ok();
    let asks = cluster.spawn(&[
        "sh",
        "-c",
        "while :; do curl -s --max-time 5 --unix-socket /run/project-cluster/api.sock http://x/v1/health; done",
    ]);
    let mut last = None;
    for _ in 0..12 {
        let pid = super::support::wait_for("the master runs", SOON, || {
            cluster.main_pid("project-cluster.service").filter(|pid| last != Some(*pid))
        });
        cluster.run(&["kill", "-9", &pid.to_string()]).ok();
        last = Some(pid);
    }
    cluster.wait_for_state("project-cluster.service", "active", SOON);
    drop(asks);
    assert_eq!(
        (cluster.state("project-cluster.socket").as_str(), cluster.property("project-cluster.socket", "Result").as_str()),
        ("active", "success")
    );
    assert_eq!(cluster.ls().len(), 1);
}

#[test]
pub fn trap_17_sixty_connections_at_once_to_a_sleeping_app_are_answered() {
    let cluster = cluster(&app("api", 2, "node /srv/apps/hello.js 3000", "listen = 3000\non_demand = true"));
    let script = "seq 60 | xargs -P 60 -I{} curl -s --max-time 30 -o /dev/null -w '%{http_code}\\n' http://127.0.0.1:3000/";
    let codes = cluster.sh(script).ok();
    assert_eq!(codes.lines().filter(|code| *code == "200").count(), 60, "{codes}");
    // A worker's end lets the next connection trigger again: nothing happens.
    let worker = cluster.workers("api").remove(0);
    cluster.kill(cluster.main_pid(&worker).unwrap(), "KILL");
    assert!(cluster.get(ADDRESS, "/").is_ok());
    cluster.wait_until("it is back", SOON, || cluster.workers("api").len() == 2);
    assert_eq!(cluster.generations("api"), [1]);
    assert_eq!(cluster.journal(&["-o", "cat"]).matches("Starting project-cluster@api.service").count(), 1);
    cluster.cli(&["sleep", "api"]).ok();
    assert_eq!(cluster.workers("api"), Vec::<String>::new());
    assert!(cluster.get(ADDRESS, "/").is_ok(), "and awake again");
}

#[test]
fn trap_18_readiness_sees_workers_with_capabilities_and_private_users_are_refused() {
    let more = "user = \"games\"\nsandbox.privileges = false\nsystemd = { AmbientCapabilities = \"CAP_NET_BIND_SERVICE\" }";
    let cluster = cluster(&app("api", 1, "node /srv/apps/hello.js 3000", &format!("{LISTEN}\n{more}")));
    let status = cluster.read(format!("/proc/{}/status", cluster.main_pid(FIRST).unwrap()));
    assert!(status.contains("CapEff:\t0000000000000400"), "{status}");
    assert_eq!(cluster.property(FIRST, "ProtectProc"), "invisible");
    cluster.config(&app("api", 1, "node /srv/apps/hello.js 3000", &format!("{LISTEN}\nsandbox.users = true")));
    assert!(cluster.cli(&["check"]).exits(2).stderr.contains("users"));
}

#[test]
pub fn trap_19_a_start_fails_as_soon_as_the_main_process_dies() {
    let cluster = installed(&app("api", 2, "node /srv/apps/broken/throws.js 3000", &format!("{LISTEN}\ntimeout.start = \"10m\"")));
    let failed = cluster.cli(&["install", "--now"]).exits(1);
    assert!(failed.stderr.contains("the broken version cannot start"), "{}", failed.stderr);
    // Anything is far below the ten minutes that a worker has to get ready.
    assert!(failed.took < Duration::from_secs(60), "{:?}", failed.took);
}
