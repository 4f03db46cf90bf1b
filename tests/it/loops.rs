//! Crash loops on the real systemd: how workers come back, what people see, and that nobody else is harmed.

use std::time::Duration;

use serde_json::Value;

use super::cluster::{ADDRESS, Cluster, HELLO, SOON, app, cluster, installed, node, shop};

const FIRST: &str = "project-cluster-api@1.1.1.service";
const LISTEN: &str = "listen = 3000";
/// Makes slot 1 of [`fragile`] end at once.
const CRASH: &str = "/srv/shop/crash";

const SECOND: Duration = Duration::from_secs(1);
/// Asks systemd for more time as soon as it is to end.
const CLINGS: &str = "
import signal, socket, time
def more(*_):
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.sendto(b'EXTEND_TIMEOUT_USEC=60000000', '/run/systemd/notify')
        time.sleep(0.2)
signal.signal(signal.SIGTERM, more)
while True: time.sleep(1)
";

/// Three workers, of which the first ends at once while [`CRASH`] is there.
fn fragile(more: &str) -> String {
    let script = format!(
        "if [ $PROJECT_CLUSTER_SLOT = 1 ] && [ -e {CRASH} ]; then echo Error: no database >&2; exit 1; fi; exec node /srv/apps/hello.js 3000"
    );
    app("api", 3, &format!("sh -c '{script}'"), &format!("{LISTEN}\n{more}"))
}

/// Root's count of a worker: ends in a row, and when the last or next start is (microseconds).
fn count(cluster: &Cluster, app: &str, instance: &str) -> Option<(u64, u64)> {
    let file = cluster.run(&["cat", &format!("/run/project-cluster/crashes/{app}/{instance}.json")]);
    let value: Value = serde_json::from_str(&file.stdout).ok()?;
    Some((value["ends"].as_u64().unwrap(), value["start_us"].as_u64().unwrap()))
}

/// Waits until a worker has ended so many times in a row.
#[track_caller]
fn wait_for_ends(cluster: &Cluster, app: &str, instance: &str, ends: u64) {
    let limit = SOON * 3;
    cluster.wait_until(&format!("{app} {instance} has ended {ends} times"), limit, || {
        count(cluster, app, instance).is_some_and(|count| count.0 >= ends)
    });
}

#[track_caller]
fn break_first(cluster: &Cluster) {
    cluster.write(CRASH, "");
    cluster.kill(cluster.main_pid(FIRST).unwrap(), "KILL");
}

#[test]
pub fn each_start_waits_longer_siblings_serve_and_a_person_s_restart_begins_anew() {
    let cluster = cluster(&fragile(""));
    let others = || ["2", "3"].map(|slot| cluster.main_pid(&format!("project-cluster-api@{slot}.1.1.service")).unwrap());
    let inode = cluster.socket_inode(3000);
    assert_eq!(count(&cluster, "api", "1.1.1").map(|count| count.0), Some(0));
    let before = others();
    // What the worker held when it was killed is lost; what comes later is not its any more.
    break_first(&cluster);
    let load = cluster.load(ADDRESS).connections(2).start();
    let mut starts = std::collections::BTreeMap::new();
    cluster.wait_until("its seventh end", SOON * 3, || {
        starts.extend(count(&cluster, "api", "1.1.1"));
        starts.contains_key(&7)
    });
    // The start behind each end lies so far behind the start before it. What the counter's reader missed is not compared.
    for (ends, ms) in [(3, 200), (4, 400), (5, 800), (6, 1600), (7, 3200)] {
        if let (Some(last), Some(start)) = (starts.get(&(ends - 1)), starts.get(&ends)) {
            assert!(start - last >= ms * 1000, "the start behind end {ends} came {} us after the last: {starts:?}", start - last);
        }
    }
    assert!(starts.contains_key(&6), "{starts:?}");

    let row = cluster.ls().remove(0);
    assert_eq!((row.uid(), row.state()), ("api:01", "crash-loop"), "{}", row.0);
    let crash = &row.0["crash_loop"];
    let next = crash["next_start_ms"].as_u64().unwrap();
    assert!(crash["ends"].as_u64().unwrap() >= 7 && (1..=6400).contains(&next), "{}", row.0);
    assert!((3000..60_000).contains(&crash["looping_ms"].as_u64().unwrap()), "{}", row.0);
    let shown = cluster.cli(&["ls"]).ok();
    let line = shown.lines().last().unwrap();
    assert!(line.starts_with("api: 1 worker is in a crash loop, ") && line.contains(" ends in a row, next try in "), "{shown}");
    assert!(line.contains(": Error: no database. `project-cluster logs api:01`"), "{shown}");
    let shown = cluster.cli(&["show", "api"]).ok();
    assert!(shown.matches("Error: no database").count() > 3, "{shown}");
    assert!(shown.contains("`project-cluster reset api` tries all of them at once"), "{shown}");

    // Stopped while it waits: at once. Started: at once, and from the beginning.
    let took = cluster.systemctl(&["stop", FIRST]).exits(0).took;
    assert!(took < Duration::from_millis(1500), "the stop of a waiting worker took {took:?}");
    assert_eq!(cluster.state(FIRST), "inactive");
    let again = cluster.systemctl(&["start", FIRST]);
    assert_ne!(again.code, 0, "it still crashes");
    wait_for_ends(&cluster, "api", "1.1.1", 1);
    assert!(count(&cluster, "api", "1.1.1").unwrap().0 < 6, "it was counted anew");
    // Mended while it waits: a restart of it counts anew, and so does not wait.
    wait_for_ends(&cluster, "api", "1.1.1", 5);
    cluster.run(&["rm", CRASH]).ok();
    cluster.systemctl(&["restart", FIRST]).ok();
    assert_eq!((cluster.state(FIRST).as_str(), count(&cluster, "api", "1.1.1").unwrap().0), ("active", 0));
    assert_eq!(cluster.ls()[0].state(), "online");

    let report = load.stop();
    assert_eq!((report.failed(), others(), cluster.socket_inode(3000)), (0, before, inode), "{report}");
}

#[test]
pub fn a_reset_in_the_wait_begins_anew_with_the_next_end_and_ours_at_once() {
    let cluster = cluster(&fragile(""));
    break_first(&cluster);
    wait_for_ends(&cluster, "api", "1.1.1", 5);
    cluster.systemctl(&["reset-failed", FIRST]).ok();
    cluster.wait_until("it is counted anew", SOON, || count(&cluster, "api", "1.1.1").is_some_and(|count| count.0 < 5));
    wait_for_ends(&cluster, "api", "1.1.1", 6);
    // Our own, by the unprivileged master, does not leave it waiting either.
    cluster.run(&["rm", CRASH]).ok();
    cluster.cli(&["reset", "api:01"]).ok();
    cluster.wait_for_state(FIRST, "active", SOON);
    assert_eq!((count(&cluster, "api", "1.1.1").unwrap().0, cluster.ls()[0].state()), (0, "online"));
}

#[test]
pub fn a_reset_leaves_alone_what_starts() {
    let cluster = shop(2, "");
    cluster.deploy("v2", "setTimeout(() => require('/srv/apps/hello.js'), 1000)");
    let starts = |unit: &'static str| {
        cluster.wait_until("a worker starts", SOON, || cluster.state(unit) == "activating" && cluster.main_pid(unit).is_some());
        cluster.main_pid(unit)
    };
    // Those of a roll, and one that somebody starts.
    let reload = cluster.spawn(&["project-cluster", "reload", "api"]);
    let pid = starts("project-cluster-api@1.2.1.service");
    assert_eq!(cluster.cli(&["reset", "api"]).ok().trim(), "api: reset");
    assert!(reload.wait(SOON).ok().contains("done: generation 2, 2 of 2 ready"));
    assert_eq!(cluster.main_pid("project-cluster-api@1.2.1.service"), pid);
    cluster.systemctl(&["restart", "--no-block", "project-cluster-api@2.2.1.service"]).ok();
    let pid = starts("project-cluster-api@2.2.1.service");
    cluster.cli(&["reset", "api"]).ok();
    cluster.wait_for_state("project-cluster-api@2.2.1.service", "active", SOON);
    assert_eq!(cluster.main_pid("project-cluster-api@2.2.1.service"), pid);
}

#[test]
pub fn a_healthy_run_is_forgiven_here_and_never_by_systemd() {
    let cluster = cluster(&fragile(""));
    break_first(&cluster);
    wait_for_ends(&cluster, "api", "1.1.1", 3);
    cluster.run(&["rm", CRASH]).ok();
    cluster.wait_for_state(FIRST, "active", SOON);
    assert_eq!(cluster.ls()[0].state(), "crash-loop", "it is believed when it has been ready for long");
    let shown = cluster.cli(&["ls"]).ok();
    assert!(shown.contains(", up for ") && shown.contains(", believed after 10 s"), "{shown}");
    cluster.wait_until("it is believed", SOON, || cluster.ls()[0].state() == "online");
    let restarts: u32 = cluster.property(FIRST, "NRestarts").parse().unwrap();
    assert!(restarts >= 3);
    // By the time of its next start that has been ten seconds and more.
    cluster.crash(FIRST);
    assert_eq!(count(&cluster, "api", "1.1.1").unwrap().0, 0);
    assert_eq!(cluster.property(FIRST, "NRestarts"), (restarts + 1).to_string(), "systemd's own count goes on");
    assert_eq!(cluster.ls()[0].state(), "online");
}

#[test]
pub fn a_worker_that_gets_ready_each_time_is_in_a_loop_too() {
    let cluster = shop(1, "");
    // Longer than the 200 ms that a roll watches it.
    cluster
        .deploy("v2", "require('/srv/apps/hello.js'); setTimeout(() => { console.error('fatal: lost the queue'); process.exit(3) }, 1200)");
    cluster.cli(&["reload", "api"]).ok();
    let row = || cluster.ls().remove(0);
    cluster.wait_until("it is shown as a loop while it is up", SOON * 2, || {
        let row = row();
        row.state() == "crash-loop" && row.pid() > 0 && row.0["uptime_ms"].is_u64()
    });
    cluster.wait_until("and while it waits", SOON * 2, || {
        let row = row();
        row.state() == "crash-loop" && row.0["crash_loop"]["next_start_ms"].is_u64()
    });
    let shown = cluster.cli(&["ls"]).ok();
    assert!(shown.contains("fatal: lost the queue"), "{shown}");
    // What mends it is a deploy, and that does not wait for the loop.
    wait_for_ends(&cluster, "api", "1.2.1", 6);
    cluster.deploy("v3", HELLO);
    let took = cluster.cli(&["reload", "api"]).exits(0).took;
    assert!(took < Duration::from_secs(10), "the reload took {took:?}");
    cluster.wait_until("the old one is gone", SOON, || cluster.generations("api") == [3] && cluster.ls().len() == 1);
    let row = row();
    assert!(row.state() == "online" && row.0["crash_loop"].is_null(), "{}", row.0);
}

#[test]
pub fn a_first_step_that_fails_each_time_is_counted_and_waits() {
    let cluster = cluster(&node(2));
    let pin = "/var/lib/project-cluster/pins/api/1.json";
    let text = cluster.read(pin);
    cluster.write(pin, "{");
    cluster.kill(cluster.main_pid(FIRST).unwrap(), "KILL");
    wait_for_ends(&cluster, "api", "1.1.1", 5);
    let shown = cluster.cli(&["ls"]).ok();
    assert!(shown.contains("in a crash loop") && shown.contains("1.json is damaged"), "{shown}");
    cluster.write(pin, text);
    cluster.systemctl(&["restart", FIRST]).ok();
    assert_eq!(cluster.workers("api").len(), 2);
}

#[test]
pub fn a_wait_is_longer_than_the_start_may_take_and_only_apps_that_speak_are_told_where_to() {
    let script = format!("if [ -e {CRASH} ]; then exit 1; fi; exec python3 /srv/apps/notify.py /srv/shop");
    let apps = [
        app("says", 1, &format!("sh -c '{script}'"), "ready = \"notify\"\ntimeout.start = \"2s\""),
        node(1),
        app("clings", 1, "python3 /srv/shop/clings.py", "ready = \"none\""),
        app("dog", 1, "sleep infinity", "ready = \"none\"\nsystemd = { WatchdogSec = \"60s\" }"),
    ];
    let cluster = installed(&apps.concat());
    cluster.write("/srv/shop/clings.py", CLINGS);
    cluster.cli(&["install", "--now"]).ok();
    let told = |app: &str| cluster.read(format!("/proc/{}/environ", cluster.pids(app)[0])).contains("NOTIFY_SOCKET=");
    assert_eq!((told("says"), told("api"), told("dog")), (true, false, true));
    // Seven ends: a wait of 3.1 s, beyond the 2 s of its start.
    let unit = "project-cluster-says@1.1.1.service";
    cluster.write(CRASH, "");
    cluster.kill(cluster.main_pid(unit).unwrap(), "KILL");
    wait_for_ends(&cluster, "says", "1.1.1", 7);
    cluster.run(&["rm", CRASH]).ok();
    cluster.wait_for_state(unit, "active", SOON);
    assert_eq!(count(&cluster, "says", "1.1.1").unwrap().0, 7);
    // An app that is not heard cannot put off its end, wherever systemd listens.
    let took = cluster.systemctl(&["stop", "project-cluster-clings@1.1.1.service"]).exits(0).took;
    assert!((SECOND..SECOND * 8).contains(&took), "the stop took {took:?}");
    let journal = cluster.journal(&["-u", unit, "-o", "cat"]);
    assert!(!journal.contains("timed out"), "{journal}");
    assert_eq!(cluster.property(unit, "StatusText"), "", "what it waits for is no news any more");
}
