//! Draining from outside, on a real systemd: plain servers lose nothing in a reload; who cannot be drained is told; no stop waits
//! longer than it may.

use serde_json::Value;

use super::cluster::{ADDRESS, Cluster, SOON, cluster, drained as app, installed, rootless};

const HANDLE: &str = "project-cluster@api.service";

/// A client with one connection, which it keeps: it asks for the paths of its arguments and prints each answer's first word. Its
/// servers are asyncio's: Node ends a connection by itself that is idle for 5 s.
const KEEPS: &str = "import http.client, sys, time\n\
client = http.client.HTTPConnection('127.0.0.1', 3000, timeout=60)\n\
for path in sys.argv[1:]:\n    client.request('GET', path)\n    print(client.getresponse().read().decode().split()[0], flush=True)\n\
time.sleep(300)\n";

/// Where the record of a worker lies.
fn place(cluster: &Cluster, app: &str, instance: &str) -> String {
    let run = if cluster.exists("/run/project-cluster/drained") { "/run" } else { "/run/user/1500" };
    format!("{run}/project-cluster/drained/{app}/{instance}.json")
}

/// The record of a worker, once its drain has ended.
#[track_caller]
fn drained(cluster: &Cluster, app: &str, instance: &str) -> Value {
    let read = || -> Option<Value> {
        let place = place(cluster, app, instance);
        serde_json::from_str(&cluster.exists(&place).then(|| cluster.read(&place))?).ok()
    };
    cluster.wait_until(&format!("{app} {instance} was drained"), SOON, || read().is_some_and(|record| record["end"].is_string()));
    read().unwrap()
}

#[test]
pub fn plain_node_go_and_asyncio_lose_no_connection_in_reloads() {
    let cluster = installed(&format!(
        "{}{}{}",
        app("node", 2, "node /srv/apps/hello.js 3000", "listen = 3000"),
        app("go", 2, "hello-go 3001", "listen = 3001"),
        app("py", 2, "python3 /srv/apps/hello_asyncio.py 3002", "listen = \"0.0.0.0:3002\""),
    ));
    cluster.cli(&["install", "--now"]).ok();
    let apps = [("node", 3000), ("go", 3001), ("py", 3002)];
    let loads: Vec<_> = apps
        .iter()
        .flat_map(|(_, port)| ["/", "/sleep/20"].map(|path| cluster.load(&format!("127.0.0.1:{port}")).path(path).connections(3).start()))
        .collect();
    loads.iter().for_each(|load| load.wait_for_answers(50));
    for release in ["v2", "v3"] {
        cluster.release(release);
        cluster.cli(&["reload", "all"]).ok();
    }
    loads.iter().for_each(|load| load.wait_for_answers(50));
    for (name, _) in apps {
        for slot in [1, 2] {
            let record = drained(&cluster, name, &format!("{slot}.1.1"));
            println!("{name}, slot {slot}: {record}");
            assert_eq!(
                (&record["how"], &record["end"], &record["open"]),
                (&"epoll".into(), &"empty".into(), &0.into()),
                "{name}: {record}"
            );
        }
    }
    for load in loads {
        let report = load.stop();
        println!("{report}");
        report.none_failed(100);
    }
}

#[test]
fn one_that_hides_itself_and_one_on_a_path_are_drained_as_well() {
    let cluster = cluster(
        &(app("hidden", 1, "python3 /srv/apps/undumpable.py", "listen = \"127.0.0.1:3001\"")
            + &app("path", 1, "python3 /srv/apps/hello_asyncio.py /run/path.sock", "listen = \"/run/path.sock\"")),
    );
    let load = cluster.load("127.0.0.1:3001").connections(2).start();
    let slow = cluster.spawn(&["curl", "-s", "--unix-socket", "/run/path.sock", "http://x/sleep/1500"]);
    let connected = || cluster.sh("ss -Hxn state connected src /run/path.sock | wc -l").ok().trim() != "0";
    cluster.wait_until("the slow one is on its way", SOON, connected);
    load.wait_for_answers(20);
    cluster.cli(&["reload", "all"]).ok();
    assert!(slow.wait(SOON).ok().starts_with("v1 "));
    load.wait_for_answers(20);
    for name in ["hidden", "path"] {
        let record = drained(&cluster, name, "1.1.1");
        println!("{name}: {record}");
        assert_eq!((&record["how"], &record["end"]), (&"epoll".into(), &"empty".into()), "{name}: {record}");
    }
    load.stop().none_failed(40);
}

#[test]
pub fn poll_select_and_accept_drain_by_themselves_and_it_is_told() {
    let modes = [("poll", 3000), ("select", 3001), ("accept", 3002), ("threading", 3003)];
    let one = |(mode, port): (&str, u16)| {
        app(mode, 1, &format!("python3 /srv/apps/hello_sync.py {mode} {port}"), &format!("listen = \"0.0.0.0:{port}\""))
    };
    let cluster = cluster(&modes.map(one).concat());
    cluster.cli(&["reload", "all"]).ok();
    for ((mode, _), how) in modes.iter().zip(["poll", "select", "accept", "poll"]) {
        let record = drained(&cluster, mode, "1.1.1");
        assert_eq!((&record["how"], &record["end"]), (&how.into(), &"at_once".into()), "{mode}: {record}");
    }
    let unit = "project-cluster-poll@1.1.1.service";
    cluster.wait_until("it is in the journal", SOON, || {
        cluster
            .written("project-cluster-poll", &[unit.into()])
            .contains("poll:01 (generation 1) drains by itself only: poll; it gets SIGTERM at once")
    });
}

#[test]
pub fn a_drain_lasts_as_long_as_a_connection_and_no_longer_than_its_limit() {
    let cluster = cluster(&app("api", 1, "python3 /srv/apps/hello_asyncio.py 3000", "listen = \"0.0.0.0:3000\"\nreload.drain = \"4s\""));
    cluster.write("/srv/keeps.py", KEEPS);
    let slow = cluster.spawn(&["python3", "/srv/keeps.py", "/", "/sleep/2500"]);
    cluster.wait_until("it is connected", SOON, || slow.stdout().contains("v1"));
    cluster.cli(&["reload", "api"]).ok();
    // The answer that was on its way comes; the connection, kept open by the client, is cut at the end.
    cluster.wait_until("it is answered", SOON, || slow.stdout().lines().count() == 2);
    let record = drained(&cluster, "api", "1.1.1");
    assert_eq!((&record["how"], &record["end"], &record["open"]), (&"epoll".into(), &"cut".into(), &1.into()), "{record}");
    let journal = cluster.written("project-cluster-api", &["project-cluster-api@1.1.1.service".into()]);
    assert!(journal.contains("api:01 (generation 1): 1 connection was still open after 4."), "{journal}");
    // This one ends by itself, long before the limit.
    let quick = cluster.spawn(&["curl", "-s", "-H", "Connection: close", "http://127.0.0.1:3000/sleep/1000"]);
    cluster.wait_until("it is on its way", SOON, || cluster.sh("ss -Htn state established '( sport = :3000 )' | wc -l").ok().trim() == "1");
    cluster.cli(&["restart", "api:01"]).ok();
    assert!(quick.wait(SOON).ok().starts_with("v1 "));
    let record = drained(&cluster, "api", "1.2.1");
    assert_eq!((&record["end"], &record["open"]), (&"empty".into(), &0.into()), "{record}");
    drop(slow);
}

#[test]
pub fn a_stop_of_the_whole_app_is_not_held_up_by_a_drain() {
    let cluster = cluster(&app("api", 1, "python3 /srv/apps/hello_asyncio.py 3000", "listen = \"0.0.0.0:3000\"\nreload.drain = \"10m\""));
    cluster.write("/srv/keeps.py", KEEPS);
    let first = cluster.spawn(&["python3", "/srv/keeps.py", "/"]);
    cluster.wait_until("it is connected", SOON, || first.stdout().contains("v1"));
    // One drains already when the stop begins.
    cluster.cli(&["reload", "api"]).ok();
    let second = cluster.spawn(&["python3", "/srv/keeps.py", "/"]);
    cluster.wait_until("it is connected", SOON, || second.stdout().contains("v1"));
    assert_eq!(cluster.state("project-cluster-api@1.1.1.service"), "deactivating");
    cluster.spawn(&["systemctl", "stop", HANDLE]).wait(SOON).ok();
    for instance in ["1.1.1", "1.2.1"] {
        let record = drained(&cluster, "api", instance);
        assert_eq!((&record["end"], &record["open"]), (&"hurried".into(), &1.into()), "{instance}: {record}");
    }
    assert_eq!(cluster.units("project-cluster-api@*", &["active", "activating", "deactivating", "failed"]), Vec::<String>::new());
}

#[test]
pub fn an_app_that_drains_by_itself_is_left_to_that_and_a_crash_drains_nothing() {
    let apps = [("own", "reload.drain_by = \"self\""), ("none", "reload.drain = 0"), ("ours", "")];
    let one = |(at, (name, more)): (usize, &(&str, &str))| {
        let port = 3000 + at;
        app(name, 1, &format!("node /srv/apps/hello.js {port}"), &format!("listen = {port}\n{more}"))
    };
    let cluster = cluster(&apps.iter().enumerate().map(one).collect::<String>());
    let step = |name: &str| cluster.property(&format!("project-cluster-{name}@1.1.1.service"), "ExecStop");
    assert_eq!([step("own"), step("none")], ["", ""]);
    assert!(step("ours").contains("drain-ms"), "{}", step("ours"));
    cluster.crash("project-cluster-ours@1.1.1.service");
    let record: Value = serde_json::from_str(&cluster.read(place(&cluster, "ours", "1.1.1"))).unwrap();
    assert_eq!((&record["how"], &record["end"]), (&"epoll".into(), &Value::Null), "{record}");
}

#[test]
pub fn a_helper_that_is_killed_or_stopped_holds_nothing_up() {
    let cluster = cluster(&app("api", 1, "python3 /srv/apps/hello_asyncio.py 3000", "listen = \"0.0.0.0:3000\"\nreload.drain = \"10m\""));
    cluster.write("/srv/keeps.py", KEEPS);
    for (generation, signal) in [(1, "KILL"), (2, "STOP")] {
        let client = cluster.spawn(&["python3", "/srv/keeps.py", "/"]);
        cluster.wait_until("it is connected", SOON, || client.stdout().contains("v1"));
        cluster.cli(&["reload", "api"]).ok();
        let unit = format!("project-cluster-api@1.{generation}.1.service");
        let helper = || cluster.property(&unit, "ControlPID").parse::<i32>().unwrap_or_default();
        cluster.wait_until("it drains", SOON, || helper() > 0);
        cluster.kill(helper(), signal);
        // Its last word to systemd was good for ten seconds. One that systemd has given up counts as failed until it is reset.
        cluster.wait_until("the worker is gone", 2 * SOON, || ["inactive", "failed"].contains(&&*cluster.state(&unit)));
    }
    assert!(cluster.get(ADDRESS, "/").is_ok());
}

/// Sixty clients at once, each with one request that takes 2.5 s.
const CROWD: &str = "import http.client, threading\nanswered = []\n\
def asks():\n    client = http.client.HTTPConnection('127.0.0.1', 3000, timeout=90)\n\
    \x20   client.request('GET', '/sleep/2500', headers={'Connection': 'close'})\n    answered.append(client.getresponse().read())\n\
all = [threading.Thread(target=asks) for _ in range(60)]\nfor one in all: one.start()\nfor one in all: one.join()\n\
print(len(answered), 'answered', flush=True)\n";

#[test]
fn a_worker_that_has_no_room_for_another_connection_is_drained_all_the_same() {
    // With nothing left of its descriptors asyncio takes its socket out of its set, a second at a time.
    let keys = "listen = \"0.0.0.0:3000\"\nreload.drain = \"60s\"\nsystemd.LimitNOFILE = 24";
    let cluster = cluster(&app("api", 2, "python3 /srv/apps/hello_asyncio.py 3000", keys));
    cluster.write("/srv/crowd.py", CROWD);
    let pids = cluster.pids("api");
    let crowd = cluster.spawn(&["python3", "/srv/crowd.py"]);
    let full = format!("for pid in {} {}; do test $(ls /proc/$pid/fd | wc -l) = 24; done", pids[0], pids[1]);
    let queue = "test $(ss -Hltn 'sport = :3000' | awk '{print $2}') -ge 10";
    cluster.wait_until("both are full and others wait", SOON, || cluster.sh(&format!("{full}; {queue}")).success());
    cluster.spawn(&["systemctl", "stop", "project-cluster-api@1.1.1.service"]).wait(2 * SOON).ok();
    let record = drained(&cluster, "api", "1.1.1");
    assert_eq!((&record["how"], &record["end"], &record["open"]), (&"epoll".into(), &"empty".into(), &0.into()), "{record}");
    assert_eq!(crowd.wait(2 * SOON).ok().trim(), "60 answered");
}

#[test]
fn a_worker_at_its_limit_of_processes_is_drained_all_the_same() {
    let keys = "listen = \"0.0.0.0:3000\"\nreload.drain = \"10m\"\ntimeout.kill = \"20s\"";
    let cluster = cluster(&app("api", 1, "python3 /srv/apps/hello_asyncio.py 3000", keys));
    // What `TasksMax=` says to the helper, which is in its worker's control group, by strace: the sandbox has no such controller.
    let line = cluster.sh("sed -n 's/^ExecStop=-+//p' '/etc/systemd/system/project-cluster-api@.service'").ok();
    let strace = "strace -D -f -qq -o /dev/null -e trace=clone,clone3 -e inject=clone,clone3:error=EAGAIN";
    let text = format!("[Service]\nExecStop=\nExecStop=-+/usr/bin/{strace} {line}\n");
    cluster.write("/run/systemd/system/project-cluster-api@.service.d/99-limit.conf", text);
    cluster.systemctl(&["daemon-reload"]).ok();
    let slow = cluster.spawn(&["curl", "-sS", "-H", "Connection: close", "http://127.0.0.1:3000/sleep/2500"]);
    cluster.wait_until("it is on its way", SOON, || cluster.sh("ss -Htn state established '( sport = :3000 )' | wc -l").ok().trim() == "1");
    cluster.cli(&["restart", "api:01"]).ok();
    assert!(slow.wait(SOON).ok().starts_with("v1 "));
    let journal = || cluster.journal_of("project-cluster-api@1.1.1.service");
    cluster.wait_until("it is told", SOON, || journal().contains("which lasts 20s at most (`timeout.kill`)"));
    cluster.wait_until("and that nothing was cut", SOON, || journal().contains("drained after"));
}

/// From now on the step of each worker that drains begins so much later.
#[track_caller]
fn begins_later(cluster: &Cluster, seconds: &str) {
    let line = cluster.sh("sed -n 's/^ExecStop=-+//p' '/etc/systemd/system/project-cluster-api@.service'").ok();
    assert_eq!(line.lines().count(), 1, "one step: {line}");
    let text = format!("[Service]\nExecStop=\nExecStop=-+/bin/sh -c 'sleep {seconds}; exec {line}'\n");
    cluster.write("/run/systemd/system/project-cluster-api@.service.d/99-later.conf", text);
    cluster.systemctl(&["daemon-reload"]).ok();
}

#[test]
fn what_an_old_worker_accepts_behind_the_end_of_a_reload_is_answered() {
    // Plain Go, which SIGTERM ends at once. Behind the reload both old ones accept for as long as their steps have not begun.
    let cluster = cluster(&app("api", 2, "hello-go 3000", "listen = 3000\nreload.max_unavailable = 1\nreload.drain = \"10s\""));
    begins_later(&cluster, "1.5");
    let load = cluster.load(ADDRESS).connections(8).path("/sleep/300").start();
    load.wait_for_answers(20);
    cluster.release("v2");
    cluster.cli(&["reload", "api"]).ok();
    let old = || load.so_far().versions().get("v1").copied().unwrap_or(0);
    let before = old();
    // More than were in flight: these came later.
    cluster.wait_until("old workers answer connections of behind the reload", SOON, || old() >= before + 10);
    cluster.wait_until("they have gone", SOON, || cluster.generations("api") == [2] && cluster.pids("api").len() == 2);
    cluster.wait_until("nobody is on the way down", SOON, || cluster.units("project-cluster-api@*", &["deactivating"]).is_empty());
    for slot in [1, 2] {
        let record = drained(&cluster, "api", &format!("{slot}.1.1"));
        assert_eq!((&record["how"], &record["end"], &record["open"]), (&"epoll".into(), &"empty".into(), &0.into()), "{record}");
    }
    let report = load.stop();
    println!("{report}");
    report.none_failed(40);
}

#[test]
fn what_a_unit_takes_from_its_app_is_not_taken_from_who_drains_it() {
    let takes = "Nice = 19, CPUSchedulingPolicy = \"idle\", IOSchedulingClass = \"idle\", CPUAffinity = \"0\", TimerSlackNSec = \"1s\", \
        OOMScoreAdjust = 900, UMask = \"0077\", LimitNOFILE = 24, LimitNPROC = 4321, LimitAS = \"512M\", LimitCPU = 60, LimitFSIZE = 4096";
    let keys = format!("listen = \"0.0.0.0:3000\"\nreload.drain = \"10m\"\nsystemd = {{ {takes} }}");
    let cluster = cluster(&app("api", 1, "python3 /srv/apps/hello_asyncio.py 3000", &keys));
    cluster.write("/srv/keeps.py", KEEPS);
    let place = place(&cluster, "api", "1.1.1");
    let modes = || cluster.sh(&format!("stat -c %a {place} $(dirname {place})")).ok();
    assert_eq!(modes(), "644\n755", "the master may read what `ready` left");
    let client = cluster.spawn(&["python3", "/srv/keeps.py", "/"]);
    cluster.wait_until("it is connected", SOON, || client.stdout().contains("v1"));
    let unit = "project-cluster-api@1.1.1.service";
    let how_it_runs = |pid: i32| {
        let script = format!(
            "echo $(ps -o cls= -p {pid}) $(cut -d ' ' -f 19 /proc/{pid}/stat) $(ionice -p {pid} | grep -o idle) $(cat /proc/{pid}/timerslack_ns /proc/{pid}/oom_score_adj) \
             $(sed -n 's/^Cpus_allowed_list:.//p' /proc/{pid}/status)"
        );
        cluster.sh(&script).ok()
    };
    let app_runs = how_it_runs(cluster.main_pid(unit).unwrap());
    assert_eq!(app_runs, "IDL 19 idle 1000000000 900 0", "the ground");
    cluster.cli(&["reload", "api"]).ok();
    let record = || cluster.exists(&place) && cluster.read(&place).contains("\"open\":1");
    cluster.wait_until("it drains", SOON, record);
    let helper: i32 = cluster.property(unit, "ControlPID").parse().unwrap();
    let herald: i32 = cluster.sh(&format!("pgrep -P {helper}")).ok().parse().unwrap();
    let anybody = cluster.sh("sed -n 's/^Cpus_allowed_list:.//p' /proc/1/status").ok();
    for pid in [helper, herald] {
        assert_eq!(how_it_runs(pid), format!("TS 0 50000 0 {anybody}"));
        let limits = cluster.read(format!("/proc/{pid}/limits"));
        for (limit, apps) in [("Max open files", "24"), ("Max processes", "4321"), ("Max cpu time", "60"), ("Max file size", "4096")] {
            let line = limits.lines().find(|line| line.starts_with(limit)).unwrap();
            assert_ne!(line.trim_start_matches(limit).split_whitespace().next(), Some(apps), "{line}");
        }
    }
    assert_eq!(modes(), "644\n755");
    drop(client);
    cluster.wait_until("it is gone", SOON, || cluster.state(unit) == "inactive");
    assert_eq!(drained(&cluster, "api", "1.1.1")["end"], "empty");
}

/// One that hides itself, of an ordinary user's cluster, where the kernel lets nobody look into it.
fn falls_back() {
    let keys = "listen = \"127.0.0.1:3001\"\nready = { exec = [\"curl\", \"-sfo\", \"/dev/null\", \"http://127.0.0.1:3001/\"] }";
    let cluster = cluster(&app("hidden", 2, "python3 /srv/apps/undumpable.py", keys));
    // Nobody may look into the app, but into our supervisor beside it: the next worker leaves the shared socket non-blocking, and
    // no event loop that runs hangs in accept.
    assert_eq!(cluster.read("/var/lib/project-cluster/pins/hidden/1.ready"), "ready\nnonblocking\n");
    // Before there was any drain.
    let shown = cluster.cli(&["show", "hidden"]).ok();
    assert!(shown.contains("by itself only (the kernel lets nobody look into it): SIGTERM at once"), "{shown}");
    for _ in 0..2 {
        cluster.cli(&["reload", "hidden"]).ok();
    }
    for instance in ["1.1.1", "2.1.1", "1.2.1", "2.2.1"] {
        let record = drained(&cluster, "hidden", instance);
        assert_eq!((&record["how"], &record["end"]), (&"refused".into(), &"at_once".into()), "{instance}: {record}");
    }
    let said = || cluster.journal(&["-o", "cat"]);
    let plain = "drains by itself only: the kernel lets nobody look into it";
    cluster.wait_until("each of the four says it", SOON, || said().matches(plain).count() >= 4);
    let advice = format!("{plain}; it gets SIGTERM at once. If its app ends gracefully by itself, `drain_by = \"self\"`");
    assert_eq!(said().matches(&advice).count(), 1, "what to do is said once: {}", said());
    let shown = cluster.cli(&["show", "hidden"]).ok();
    assert!(cluster.get("127.0.0.1:3001", "/").is_ok(), "{shown}");
}

#[test]
fn a_user_s_worker_that_nobody_may_look_into_falls_back_and_what_to_do_is_said_once() {
    rootless(falls_back);
}

#[test]
fn as_an_ordinary_user() {
    rootless(plain_node_go_and_asyncio_lose_no_connection_in_reloads);
}
