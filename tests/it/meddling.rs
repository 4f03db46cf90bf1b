//! Somebody else's hands on our units, at rest and in a roll: `systemctl stop`, `kill`, `restart`, `mask` of workers, the
//! handle, the trigger, a socket, the master. It is seen and shown, nothing of it is undone, and no roll starts while a
//! socket is down.

use super::cluster::{ADDRESS, Cluster, HELLO, SOON, shop};
use super::support::Running;

const HANDLE: &str = "project-cluster@api";
const MASTER: &str = "project-cluster.service";
const SOCKET: &str = "project-cluster-api-:::3000.socket";

fn worker(slot: u16, generation: u64) -> String {
    format!("project-cluster-api@{slot}.{generation}.1.service")
}

/// `01 online` of each row.
fn rows(cluster: &Cluster) -> Vec<String> {
    cluster.ls().iter().map(|row| format!("{} {}", row.uid().trim_start_matches("api:"), row.state())).collect()
}

/// A reload whose first new worker is ready.
#[track_caller]
fn half_way(cluster: &Cluster) -> Running {
    let reload = cluster.spawn(&["project-cluster", "reload", "api"]);
    cluster.wait_until("a new worker is ready", SOON, || reload.stdout().contains("is ready"));
    reload
}

#[test]
pub fn workers_that_somebody_stops_kills_restarts_or_masks() {
    let cluster = shop(3, "");
    // Killed: systemd brings it back, and the crash is counted.
    cluster.systemctl(&["kill", "-s", "KILL", &worker(1, 1)]).ok();
    let crashed = || cluster.ls()[0].0["restarts"].as_u64() == Some(1) && rows(&cluster) == ["01 online", "02 online", "03 online"];
    cluster.wait_until("its crash shows", SOON, crashed);
    // Restarted: another process, no crash.
    let pid = cluster.ls()[1].pid();
    cluster.systemctl(&["restart", &worker(2, 1)]).ok();
    let row = &cluster.ls()[1];
    assert!(row.pid() != pid && row.state() == "online" && row.0["restarts"] == 0, "{}", row.0);
    // Stopped, and another one masked: they stay down, whatever happens to the master.
    cluster.systemctl(&["stop", &worker(2, 1)]).ok();
    cluster.systemctl(&["mask", "--runtime", "--now", &worker(3, 1)]).ok();
    let down = |cluster: &Cluster| {
        let rows = rows(cluster);
        rows[0] == "01 online" && rows[1..].iter().all(|row| row.ends_with("offline") || row.ends_with("stopped"))
    };
    assert!(down(&cluster), "{:?}", rows(&cluster));
    let master = cluster.main_pid(MASTER).expect("a master");
    cluster.kill(master, "KILL");
    cluster.wait_until("another master is there", SOON, || cluster.main_pid(MASTER).is_some_and(|new| new != master));
    cluster.wait_for_state(MASTER, "active", SOON);
    assert!(down(&cluster), "{:?}", rows(&cluster));
    cluster.systemctl(&["daemon-reload"]).ok();
    assert!(down(&cluster), "{:?}", rows(&cluster));
    assert!(cluster.get(ADDRESS, "/").is_ok());
    // A person's start brings them back; that of the masked one says what mends it.
    let refused = cluster.cli(&["start", "api:03"]).exits(1);
    let mend = format!("systemctl unmask {0} && systemctl unmask --runtime {0}", worker(3, 1));
    assert!(refused.stderr.contains(&format!("`{mend}`")), "{}", refused.stderr);
    cluster.sh(&mend).ok();
    cluster.cli(&["start", "api"]).ok();
    assert_eq!(rows(&cluster), ["01 online", "02 online", "03 online"]);
    assert_eq!(cluster.generations("api"), [1]);
}

#[test]
pub fn a_socket_that_is_down_is_shown_with_what_mends_it_and_nothing_rolls_meanwhile() {
    let cluster = shop(3, "reload.min_ready = \"500ms\"");
    const MEND: &str = "`systemctl stop project-cluster@api.service && systemctl start project-cluster@api.service`";
    // Held: what is on disk does not start.
    cluster.deploy("v2", "process.exit(1)");
    cluster.cli(&["reload", "api"]).exits(1);
    let pids = cluster.pids("api");
    cluster.systemctl(&["stop", SOCKET]).ok();
    let listed = cluster.cli(&["ls"]).ok();
    assert!(listed.contains("api: held since ") && listed.contains(MEND), "{listed}");
    assert!(cluster.cli(&["show", "api"]).ok().contains("down"), "{}", cluster.cli(&["show", "api"]).ok());
    for verb in [&["reload", "api"][..], &["restart", "api:02"], &["scale", "api", "4"], &["add", "api"]] {
        let refused = cluster.cli(verb).exits(1);
        assert!(refused.stderr.contains(MEND), "{verb:?}: {}", refused.stderr);
    }
    assert_ne!(cluster.systemctl(&["reload", HANDLE]).code, 0);
    assert_eq!(cluster.pids("api"), pids, "nobody was touched");
    cluster.cli(&["scale", "api", "3"]).ok();
    cluster.sh(MEND.trim_matches('`')).ok();
    assert_eq!(rows(&cluster), ["01 online", "02 online", "03 online"]);
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v1 "), "it mends, and deploys nothing");
    assert_eq!(cluster.generations("api"), [1]);
    cluster.deploy("v3", HELLO);

    // In a roll: it turns back, and says why.
    let before = cluster.generations("api");
    let reload = half_way(&cluster);
    cluster.systemctl(&["stop", SOCKET]).ok();
    let failed = reload.wait(3 * SOON).exits(1);
    assert!(failed.stderr.contains("its socket") && failed.stderr.contains(MEND), "{}", failed.stderr);
    cluster.wait_until("all is settled", SOON, || cluster.units("project-cluster-api@*", &["activating", "deactivating"]).is_empty());
    assert_eq!(cluster.generations("api"), before);
    assert_eq!(cluster.state(SOCKET), "inactive", "it is not opened again");
    cluster.sh(MEND.trim_matches('`')).ok();
    assert!(cluster.get(ADDRESS, "/").is_ok());
    assert_eq!(rows(&cluster), ["01 online", "02 online", "03 online"]);
}

/// One roll after the other: for `make proof`. `faults::` has them one by one.
pub fn hands_on_workers_in_a_roll() {
    let cluster = shop(3, "reload.min_ready = \"500ms\"");
    // An old one that somebody stops: his word counts, so that its slot gets no new one either.
    let reload = half_way(&cluster);
    cluster.systemctl(&["stop", &worker(3, 1)]).ok();
    let said = reload.wait(3 * SOON).ok();
    assert!(said.contains("done: generation 2, 2 of 2 ready"), "{said}");
    assert_eq!((cluster.generations("api"), rows(&cluster)), (vec![2], ["01 online", "02 online", "03 stopped"].map(str::to_owned).into()));
    cluster.cli(&["start", "api:03"]).ok();
    assert_eq!((cluster.generations("api"), cluster.workers("api").len()), (vec![2], 3));
    // An old one that somebody kills: it comes back, and goes in its turn.
    let reload = half_way(&cluster);
    cluster.systemctl(&["kill", "-s", "KILL", &worker(3, 2)]).ok();
    assert!(reload.wait(3 * SOON).ok().contains("done: generation 3, 3 of 3 ready"));
    assert_eq!((cluster.generations("api"), cluster.workers("api").len()), (vec![3], 3));
    // A new one that somebody stops: nobody knows why, so all is old again.
    let reload = half_way(&cluster);
    cluster.systemctl(&["stop", &worker(1, 4)]).ok();
    let failed = reload.wait(3 * SOON).exits(1);
    assert!(failed.stderr.contains("api:01 (generation 4)") && failed.stderr.contains("stopped"), "{}", failed.stderr);
    assert_eq!((cluster.generations("api"), cluster.workers("api").len()), (vec![3], 3));
    // The same with one that somebody kills.
    let reload = half_way(&cluster);
    cluster.systemctl(&["kill", "-s", "KILL", &worker(1, 5)]).ok();
    let failed = reload.wait(3 * SOON).exits(1);
    assert!(failed.stderr.contains("api:01 (generation 5)"), "{}", failed.stderr);
    assert_eq!((cluster.generations("api"), cluster.workers("api").len()), (vec![3], 3));
    // The next worker masked: systemd refuses it, and all is old again.
    let reload = half_way(&cluster);
    cluster.systemctl(&["mask", "--runtime", &worker(3, 6)]).ok();
    let failed = reload.wait(3 * SOON).exits(1);
    assert!(failed.stderr.contains("api:03 (generation 6)") && failed.stderr.contains("masked"), "{}", failed.stderr);
    assert_eq!((cluster.generations("api"), cluster.workers("api").len()), (vec![3], 3));
    cluster.cli(&["reload", "api"]).ok();
    assert_eq!((cluster.generations("api"), cluster.workers("api").len()), (vec![7], 3));
}

#[test]
pub fn hands_on_the_handle_the_trigger_and_the_master() {
    let cluster = shop(2, "reload.min_ready = \"500ms\"");
    let pids = cluster.pids("api");
    // The trigger does nothing while the app is up.
    for verb in [&["stop"][..], &["restart"], &["mask", "--runtime", "--now"]] {
        cluster.systemctl(&[verb, &["project-cluster-first@api.service"]].concat());
        assert!(cluster.get(ADDRESS, "/").is_ok(), "{verb:?}");
    }
    cluster.systemctl(&["unmask", "--runtime", "project-cluster-first@api.service"]).ok();
    assert_eq!(cluster.pids("api"), pids);
    // A masked handle stays up, and so does the app; the command line rolls it all the same.
    cluster.systemctl(&["mask", "--runtime", HANDLE]).ok();
    cluster.deploy("v2", HELLO);
    cluster.cli(&["reload", "api"]).ok();
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v2 "));
    cluster.systemctl(&["unmask", "--runtime", HANDLE]).ok();
    // The handle killed: it has no process.
    cluster.systemctl(&["kill", HANDLE]);
    assert_eq!((cluster.state(HANDLE).as_str(), cluster.workers("api").len()), ("active", 2));
    // The master stopped: who asks starts it, by its socket.
    cluster.systemctl(&["stop", MASTER]).ok();
    assert_eq!(rows(&cluster), ["01 online", "02 online"]);
    // In a roll: whoever waits does not notice.
    let reload = half_way(&cluster);
    cluster.systemctl(&["stop", MASTER]).ok();
    assert!(reload.wait(3 * SOON).ok().contains("done: generation 3, 2 of 2 ready"));
    // Masked: nobody answers, and the message says what to type.
    cluster.systemctl(&["mask", "--runtime", "--now", MASTER, "project-cluster.socket"]).ok();
    let nobody = cluster.cli(&["ls"]).exits(3);
    assert!(nobody.stderr.contains("systemctl start project-cluster.socket"), "{}", nobody.stderr);
    assert!(cluster.get(ADDRESS, "/").is_ok());
}
