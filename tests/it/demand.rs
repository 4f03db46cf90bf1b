//! `on_demand`: the first connection starts the app, and a broken one does not start for ever.

use std::time::Duration;

use super::cluster::{ADDRESS, Cluster, SOON, app, cluster, installed};

const HANDLE: &str = "project-cluster@api.service";
const SOCKET: &str = "project-cluster-api-127.0.0.1:3000.socket";
const TRIGGER: &str = "project-cluster-first@api.service";

fn demand(workers: u16, command: &str, more: &str) -> String {
    app("api", workers, command, &format!("listen = \"127.0.0.1:3000\"\non_demand = true\n{more}"))
}

/// Worker units that systemd knows, in whatever state.
fn loaded(cluster: &Cluster) -> Vec<String> {
    cluster.units("project-cluster-api@*", &[])
}

/// How often systemd was asked to start a unit, by its own words.
fn starts(cluster: &Cluster, unit: &str) -> usize {
    let pattern = format!("UNIT={unit}");
    // `Starting`, the same id in every language.
    cluster.journal(&[&pattern, "MESSAGE_ID=7d4958e842da4a758f6c1cdc7b36dcc5", "-o", "cat"]).lines().count()
}

/// 60 clients that connect at the same time, one connection each; how many were answered.
fn sixty_at_once(cluster: &Cluster) -> usize {
    let script = r#"
import socket, threading
ok, gate = [], threading.Barrier(60)
def ask():
    gate.wait()
    with socket.create_connection(("127.0.0.1", 3000), 60) as client:
        client.settimeout(60)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        if client.recv(4096).startswith(b"HTTP/1.1 200"):
            ok.append(1)
threads = [threading.Thread(target=ask) for _ in range(60)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(ok))
"#;
    cluster.run_within(Duration::from_secs(90), &["python3", "-c", script]).ok().parse().unwrap()
}

#[test]
pub fn the_first_connection_is_answered_and_sleep_brings_it_back_to_that() {
    let mut cluster = cluster(&demand(2, "node /srv/apps/hello.js 3000", "env = { HOST = \"127.0.0.1\" }"));
    let asleep = |cluster: &Cluster, why: &str| {
        assert_eq!(loaded(cluster), Vec::<String>::new(), "{why}");
        assert_eq!((cluster.state(SOCKET), cluster.state(HANDLE)), ("active".into(), "inactive".into()), "{why}");
    };
    asleep(&cluster, "installed");
    let inode = cluster.socket_inode(3000);
    assert_eq!(cluster.get(ADDRESS, "/").unwrap().status, 200);
    cluster.wait_for_state(HANDLE, "active", SOON);
    assert_eq!(cluster.workers("api").len(), 2);
    // Trap 17: an end of a worker arms the socket, so the next connection triggers again; that is harmless.
    for unit in cluster.workers("api") {
        cluster.crash(&unit);
        assert!(cluster.get(ADDRESS, "/").is_ok());
    }
    cluster.load(ADDRESS).connections(8).start().wait_for_answers(200);
    assert_eq!((starts(&cluster, HANDLE), starts(&cluster, TRIGGER)), (1, 1), "one start each");
    assert_eq!(cluster.workers("api").len(), 2);
    // Asleep, and woken by 60 at once.
    cluster.cli(&["sleep", "api"]).ok();
    asleep(&cluster, "sleep");
    assert_eq!(cluster.socket_inode(3000), inode, "the socket is the same one");
    assert_eq!(sixty_at_once(&cluster), 60);
    cluster.wait_for_state(HANDLE, "active", SOON);
    assert_eq!(cluster.workers("api").len(), 2);
    assert_eq!((starts(&cluster, HANDLE), starts(&cluster, TRIGGER)), (2, 2), "one start each");
    assert_eq!(cluster.generations("api"), [1], "waking up is no deploy");
    // A reboot: only the sockets.
    cluster.reboot();
    cluster.wait_for_state(SOCKET, "active", SOON);
    cluster.wait_for_state("project-cluster.target", "active", SOON);
    asleep(&cluster, "reboot");
    assert_eq!(cluster.get(ADDRESS, "/").unwrap().status, 200);
    cluster.wait_for_state(HANDLE, "active", SOON);
    assert_eq!(cluster.generations("api"), [1]);
    // A stop is a stop.
    cluster.systemctl(&["stop", HANDLE]).ok();
    assert_eq!(cluster.state(SOCKET), "inactive");
    assert!(cluster.get(ADDRESS, "/").is_err());
}

#[test]
pub fn trap_15_a_broken_app_is_held_with_its_port_closed() {
    let cluster = cluster(&demand(2, "node /srv/apps/broken/throws.js", ""));
    assert_eq!(cluster.state(SOCKET), "active");
    let client = cluster.client();
    let output = client.wait(SOON);
    assert_ne!(output.code, 0, "{output:?}");
    assert_ne!(output.code, 28, "it fails, it does not hang: {output:?}");
    cluster.wait_for_state(HANDLE, "failed", SOON);
    assert_eq!(cluster.state(SOCKET), "inactive", "closed, and not failed");
    let held = |cluster: &Cluster| {
        assert_eq!(cluster.get(ADDRESS, "/").map(|response| response.status), Err(super::support::http::Failure::Refused));
        assert_eq!((starts(cluster, HANDLE), starts(cluster, TRIGGER)), (1, 1), "no loop");
        assert_eq!(cluster.units("project-cluster-api@*", &["active", "activating"]), Vec::<String>::new());
    };
    // systemd may have begun to restart one before the stop came.
    let tried = |cluster: &Cluster| ["1.1.1", "2.1.1"].map(|worker| starts(cluster, &format!("project-cluster-api@{worker}.service")));
    let before = tried(&cluster);
    assert!(before.iter().all(|starts| (1..=5).contains(starts)), "{before:?}");
    // Clients that insist change nothing, nor does time: nothing is queued, and no job or timer is pending.
    for _ in 0..20 {
        held(&cluster);
    }
    assert_eq!(tried(&cluster), before);
    assert!(cluster.systemctl(&["list-jobs", "--no-legend"]).ok().is_empty());
    let row = &cluster.ls()[0];
    assert_ne!(row.state(), "online");
    assert!(cluster.journal_of(HANDLE).contains("Error: the broken version cannot start"));
    // A person mends it.
    cluster.config(&demand(2, "node /srv/apps/hello.js 3000", ""));
    cluster.cli(&["install"]).ok();
    cluster.systemctl(&["start", HANDLE]).ok();
    assert_eq!(cluster.get(ADDRESS, "/").unwrap().status, 200);
}

#[test]
pub fn a_broken_wake_up_after_sleep_is_held_too() {
    let cluster = installed(&demand(1, "node app.js 3000", ""));
    cluster.sh("cp /srv/apps/common.js /srv/shop/v1/; cp /srv/apps/hello.js /srv/shop/v1/app.js").ok();
    cluster.cli(&["install", "--now"]).ok();
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v1 "));
    cluster.wait_for_state(HANDLE, "active", SOON);
    cluster.cli(&["sleep", "api"]).ok();
    cluster.sh("cp /srv/apps/broken/throws.js /srv/shop/v1/app.js").ok();
    assert!(cluster.get(ADDRESS, "/").is_err());
    cluster.wait_for_state(HANDLE, "failed", SOON);
    assert_eq!(cluster.state(SOCKET), "inactive");
    assert_eq!(starts(&cluster, HANDLE), 2);
    // `sleep` of what is not running says so and opens nothing.
    let output = cluster.cli(&["sleep", "api"]);
    assert_eq!(cluster.state(SOCKET), "inactive", "{output:?}");
}

#[test]
pub fn a_sleeping_app_is_stopped_when_asked_to_and_what_does_not_run_cannot_sleep() {
    let cluster = installed(&demand(1, "node app.js 3000", ""));
    cluster.sh("cp /srv/apps/common.js /srv/shop/v1/; cp /srv/apps/hello.js /srv/shop/v1/app.js").ok();
    cluster.cli(&["install", "--now"]).ok();
    assert!(cluster.cli(&["sleep", "api"]).ok().contains("asleep already"));
    cluster.cli(&["stop", "api"]).ok();
    assert_eq!(cluster.state(SOCKET), "inactive", "stopped is stopped, from sleep as well");
    assert_eq!(cluster.get(ADDRESS, "/").map(|response| response.status), Err(super::support::http::Failure::Refused));
    let refused = cluster.cli(&["sleep", "api"]).exits(1);
    assert!(refused.stderr.contains("project-cluster start api"), "{}", refused.stderr);
    // A start that fails, a sleep that is refused: neither leaves anything that would keep a port open at the next stop.
    cluster.sh("cp /srv/apps/broken/throws.js /srv/shop/v1/app.js").ok();
    cluster.cli(&["start", "api"]).exits(1);
    cluster.cli(&["sleep", "api"]).exits(1);
    cluster.sh("cp /srv/apps/hello.js /srv/shop/v1/app.js").ok();
    cluster.cli(&["start", "api"]).ok();
    assert_eq!(cluster.get(ADDRESS, "/").unwrap().status, 200);
    cluster.systemctl(&["stop", HANDLE]).ok();
    assert_eq!(cluster.state(SOCKET), "inactive");
}
