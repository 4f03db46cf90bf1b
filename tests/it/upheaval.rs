//! What else happens to a machine in the middle of a roll: systemd re-executed or reloaded, D-Bus or polkit restarted,
//! gone or hanging, the handle stopped, restarted or reloaded. The roll ends as it should or says why not, workers are
//! never doubled, another app does not notice.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cluster::{ADDRESS, Cluster, SOON, app, cluster, instance};
use super::support::{Output, Running};

const HANDLE: &str = "project-cluster@api";
const MASTER: &str = "project-cluster.service";

/// An app of three that rolls for some seconds, and another one.
fn stage() -> Cluster {
    let api = app("api", 3, "node /srv/apps/hello.js 3000", "listen = 3000\nreload.min_ready = \"300ms\"");
    cluster(&format!("{api}{}", app("other", 1, "node /srv/apps/hello.js 3001", "listen = 3001")))
}

/// What a command said, for a report.
fn said(output: &Output) -> String {
    let last = |text: &str| text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned();
    format!("exit {}: {}", output.code, if output.code == 0 { last(&output.stdout) } else { last(&output.stderr) })
}

/// Who of the app's workers stands, whatever the bus does: by the control groups alone.
fn standing(cluster: &Cluster) -> Vec<String> {
    let found = cluster.sh("find /sys/fs/cgroup -type d -name 'project-cluster-api@*' 2>/dev/null || :").ok();
    found.lines().filter_map(|line| line.rsplit('/').next().map(str::to_owned)).collect()
}

/// Looks at the workers until all of these have ended: never more than one too many, in the whole and in a slot two at
/// most.
#[track_caller]
fn not_doubled_while(cluster: &Cluster, commands: &[&Running], limit: Duration) {
    cluster.wait_until("the commands have ended", limit, || {
        let units = standing(cluster);
        let mut slots = BTreeMap::<&str, u32>::new();
        units.iter().for_each(|unit| *slots.entry(instance(unit).split('.').next().unwrap()).or_default() += 1);
        // One that was asked to stop may still be on its way while the next one starts.
        assert!(units.len() <= 5 && slots.values().all(|count| *count <= 2), "doubled: {units:?}");
        commands.iter().all(|command| !command.runs())
    });
}

/// A reload, and another one by systemctl that waits behind it; `what` happens when the first new worker is ready. How
/// both ended.
#[track_caller]
fn in_a_roll(cluster: &Cluster, name: &str, limit: Duration, what: impl FnOnce()) -> (Output, Output) {
    let other = cluster.pids("other");
    let first = cluster.spawn(&["project-cluster", "reload", "api"]);
    cluster.wait_until("a new worker is ready", SOON, || first.stdout().contains("is ready"));
    let behind = cluster.spawn(&["systemctl", "reload", HANDLE]);
    // Behind the job that shows the roll of the first.
    cluster.wait_until("it waits", SOON, || {
        cluster.systemctl(&["list-jobs"]).stdout.lines().any(|job| job.contains(HANDLE) && job.contains("waiting"))
    });
    assert!(standing(cluster).len() >= 3, "they are seen");
    what();
    not_doubled_while(cluster, &[&first, &behind], limit);
    let (first, behind) = (first.wait(SOON), behind.wait(SOON));
    println!("{name}: the command line: {}; systemctl reload: {}", said(&first), said(&behind));
    assert_eq!(cluster.pids("other"), other, "{name}");
    (first, behind)
}

/// Three workers of that generation and nothing else.
#[track_caller]
fn all_are(cluster: &Cluster, generation: u64) {
    assert_eq!((cluster.workers("api").len(), cluster.generations("api")), (3, vec![generation]));
    assert_eq!(cluster.units("project-cluster-api@*", &["activating", "failed", "deactivating"]), Vec::<String>::new());
    assert_eq!(cluster.state(HANDLE), "active");
}

/// With `systemctl reload` waiting behind each: for `make proof`. `faults::systemd` has them one by one.
pub fn a_daemon_reload_and_new_buses_in_a_roll_change_nothing() {
    let cluster = stage();
    let (master, inode) = (cluster.main_pid(MASTER), cluster.socket_inode(3000));
    let mut generation = 1;
    for what in
        [&["systemctl", "daemon-reload"][..], &["systemctl", "restart", "dbus.service"], &["systemctl", "restart", "polkit.service"]]
    {
        let (first, behind) = in_a_roll(&cluster, &what.join(" "), 3 * SOON, || drop(cluster.run(what).ok()));
        assert!(first.ok().contains(&format!("done: generation {}, 3 of 3 ready", generation + 1)));
        behind.ok();
        generation += 2;
        all_are(&cluster, generation);
    }
    assert_eq!((cluster.main_pid(MASTER), cluster.socket_inode(3000)), (master, inode));
}

#[test]
pub fn a_daemon_reexec_in_a_roll_loses_systemctl_its_connection_and_nothing_else() {
    let cluster = stage();
    let (first, behind) = in_a_roll(&cluster, "daemon-reexec", 3 * SOON, || drop(cluster.systemctl(&["daemon-reexec"]).ok()));
    assert!(first.ok().contains("done: generation 2, 3 of 3 ready"));
    // systemctl itself may have lost PID 1, and says so; the job goes on.
    assert!(behind.code == 0 || behind.stderr.contains("onnection") || behind.stderr.contains("transport"), "{}", behind.stderr);
    cluster.wait_until("the job has ended", 2 * SOON, || cluster.property(&format!("{HANDLE}.service"), "Job").is_empty());
    cluster.wait_until("all are of generation 3", SOON, || cluster.generations("api") == [3]);
    cluster.wait_for_state(HANDLE, "active", SOON);
    all_are(&cluster, 3);
}

#[test]
fn without_polkit_a_roll_ends_says_so_and_touches_nothing_more() {
    let cluster = stage();
    let (first, behind) = in_a_roll(&cluster, "polkit masked", 3 * SOON, || {
        cluster.systemctl(&["mask", "--runtime", "--now", "polkit.service"]).ok();
    });
    let first = first.exits(1);
    assert!(first.stderr.contains("refused"), "{}", first.stderr);
    assert_ne!(behind.code, 0);
    let up = cluster.workers("api");
    assert!(up.len() >= 3, "nobody is missing: {up:?}");
    assert!(cluster.get(ADDRESS, "/").is_ok());
    // With polkit back a reload mends it.
    cluster.systemctl(&["unmask", "--runtime", "polkit.service"]).ok();
    cluster.cli(&["reload", "api"]).ok();
    assert_eq!((cluster.workers("api").len(), cluster.generations("api").len()), (3, 1));
}

#[test]
pub fn a_handle_that_is_stopped_or_restarted_in_a_roll_of_one_worker_ends_it() {
    let cluster = stage();
    for verb in ["stop", "restart", "reload"] {
        let roll = cluster.spawn(&["project-cluster", "restart", "api:02"]);
        cluster.wait_until("the new one is ready", SOON, || roll.stdout().contains("is ready"));
        let handle = cluster.spawn(&["systemctl", verb, HANDLE]);
        not_doubled_while(&cluster, &[&roll, &handle], 3 * SOON);
        let roll = roll.wait(SOON);
        handle.wait(SOON).ok();
        println!("systemctl {verb} of the handle in a restart of api:02: {}", said(&roll));
        cluster.wait_until("the roll has ended", SOON, || cluster.app("api")["roll"]["state"] != "running");
        match verb {
            "stop" => {
                assert!(roll.exits(1).stderr.contains("was stopped or restarted meanwhile"));
                assert_eq!(standing(&cluster), Vec::<String>::new());
                cluster.systemctl(&["start", HANDLE]).ok();
            }
            "restart" => {
                assert!(roll.exits(1).stderr.contains("was stopped or restarted meanwhile"));
                assert_eq!((standing(&cluster).len(), cluster.generations("api").len()), (3, 1));
            }
            _ => {
                roll.ok();
                assert_eq!((standing(&cluster).len(), cluster.generations("api").len()), (3, 1));
            }
        }
        assert!(cluster.app("api")["held"].is_null());
    }
}

#[test]
pub fn a_handle_that_is_stopped_or_restarted_in_a_roll_takes_the_reload_that_waits_with_it() {
    let cluster = stage();
    let (first, behind) = in_a_roll(&cluster, "stop of the handle", 3 * SOON, || drop(cluster.systemctl(&["stop", HANDLE]).ok()));
    assert!(first.exits(1).stderr.contains("was stopped or restarted meanwhile"));
    behind.exits(1);
    cluster.wait_until("nothing rolls any more", SOON, || cluster.app("api")["roll"]["state"] != "running");
    assert_eq!((standing(&cluster), cluster.state(HANDLE).as_str()), (Vec::new(), "inactive"));
    cluster.systemctl(&["start", HANDLE]).ok();

    let (first, behind) = in_a_roll(&cluster, "restart of the handle", 3 * SOON, || drop(cluster.systemctl(&["restart", HANDLE]).ok()));
    assert!(first.exits(1).stderr.contains("was stopped or restarted meanwhile"));
    // Its job was replaced by the restart's: for systemctl that is no failure.
    println!("systemctl reload behind it: {}", said(&behind));
    cluster.wait_until("nothing rolls any more", SOON, || cluster.app("api")["roll"]["state"] != "running");
    cluster.wait_until("one generation is left", SOON, || cluster.generations("api").len() == 1);
    assert_eq!(standing(&cluster).len(), 3);
}

/// A bus that hangs for longer than any call may take: for `make proof`.
pub fn a_bus_that_hangs() {
    let cluster = stage();
    let bus = cluster.main_pid("dbus.service").expect("a bus");
    let (first, behind) = in_a_roll(&cluster, "a bus that hangs for 30 s", 9 * SOON, || {
        cluster.kill(bus, "STOP");
        let stopped = std::time::Instant::now();
        cluster.wait_until("30 s are over", 2 * SOON, || stopped.elapsed() > Duration::from_secs(30));
        cluster.kill(bus, "CONT");
    });
    cluster.wait_until("nothing rolls any more", SOON, || cluster.app("api")["roll"]["state"] != "running");
    assert_eq!((standing(&cluster).len(), cluster.generations("api").len()), (3, 1), "{}", first.stderr);
    let (first, behind) = (first.code, behind.code);
    assert_eq!((first, behind), (0, 0));
}
