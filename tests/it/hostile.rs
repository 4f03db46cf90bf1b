//! Hostile workers against who drains them from outside: `tests/apps/hostile_drain.py`. Seen from without: the stop of the worker's
//! unit, the processes that come into its control group meanwhile, what clients get, and who else is touched.
//!
//! The quick ones are here, the others in `proof/hostile.rs`.

use std::time::Duration;

use serde_json::Value;

use super::cluster::{ADDRESS, Cluster, SOON, app, installed};
use super::support::{Running, wait_for};

/// The worker under test.
pub const UNIT: &str = "project-cluster-api@1.1.1.service";
/// How long its drain may last, and how long SIGTERM is waited for.
const DRAIN: Duration = Duration::from_secs(3);
const KILL: Duration = Duration::from_secs(2);
/// What a stop may take beside these two: systemd leaves a helper behind that has not asked for more time for ten seconds.
const SLACK: Duration = Duration::from_secs(10);
/// What a helper may take of memory, KiB. The tests' build of it begins with some six thousand.
const MEMORY: u64 = 64 * 1024;

/// What the helper keeps of root's capabilities where the worker's own user may not look into the worker: CAP_DAC_READ_SEARCH,
/// CAP_KILL and CAP_SYS_PTRACE.
pub const RIGHTS: u64 = 1 << 2 | 1 << 5 | 1 << 19;

/// Tells of each process that runs our program in a unit's control group: its peak of memory, KiB, and how long it was there.
/// Those that are there at its start are not meant.
const WATCHER: &str = r#"
import json, os, sys, time
group = "/sys/fs/cgroup" + sys.argv[1]
known, helpers = None, {}
def members():
    for place, _, files in os.walk(group):
        try:
            with open(place + "/cgroup.procs") as file:
                yield from file.read().split()
        except OSError:
            pass
while True:
    now, pids = time.monotonic(), set(members())
    if known is None:
        known = {pid: now + 1e9 for pid in pids}
        print("watches", flush=True)
    for pid in pids:
        # A number of a short-lived process may be another's soon.
        if known.get(pid, 0) > now:
            continue
        try:
            if os.readlink(f"/proc/{pid}/exe") != "/usr/bin/project-cluster":
                known[pid] = now + 0.2
                continue
            with open(f"/proc/{pid}/status") as file:
                status = dict(line.split(":", 1) for line in file if ":" in line)
            one = helpers.setdefault(pid, {"from": now, "peak": 0, "fds": 0, "caps": ""})
            one["to"] = now
            one["peak"] = max(one["peak"], int(status.get("VmHWM", "0 kB").split()[0]))
            # The last of them: it begins with all that root has.
            one["name"], one["caps"] = status["Name"].strip(), int(status["CapEff"], 16)
            one["fds"] = max(one["fds"], len(os.listdir(f"/proc/{pid}/fd")))
            if len(helpers) == 1 and one["from"] == now:
                print("helper", pid, flush=True)
        except OSError:
            pass
    if known and helpers and not pids:
        break
    time.sleep(0.002)
print("SEEN " + json.dumps([{**one, "ms": round((one["to"] - one["from"]) * 1000)} for one in helpers.values()]), flush=True)
"#;

/// An app `api` of two workers, the first of which is hostile, and an app `other` of one.
#[track_caller]
pub fn stage(kind: &str, more: &str) -> Cluster {
    let keys = format!("listen = 3000\nreload.drain = \"{}s\"\ntimeout.kill = \"{}s\"\n{more}", DRAIN.as_secs(), KILL.as_secs());
    let hostile = app("api", 2, &format!("/usr/bin/python3 /srv/apps/hostile_drain.py {kind}"), &keys);
    let cluster = installed(&format!("{hostile}{}", app("other", 1, "node /srv/apps/hello.js 3001", "listen = 3001")));
    cluster.cli(&["install", "--now"]).ok();
    cluster
}

/// What came of a stop.
pub struct End {
    /// How long it took.
    pub took: Duration,
    /// The helper's peak of memory, KiB.
    pub peak: u64,
    /// How long the helper was seen.
    pub helper: Duration,
    /// The most descriptors that it had at once.
    pub fds: u64,
    /// The capabilities that it looked into the worker with; none where it was too quick to be seen.
    pub rights: Option<u64>,
    /// Those of who speaks with systemd.
    pub herald: Option<u64>,
    /// What the journal has of the unit since the stop began.
    pub journal: String,
}

/// Who serves beside the worker that is stopped: all of this is the same behind it.
#[derive(Debug, PartialEq)]
struct Bystanders {
    sibling: Option<i32>,
    other: Option<i32>,
    master: Option<i32>,
    sockets: [String; 2],
    flags: String,
}

/// As `Cluster::socket_inode`, asked again where the kernel's list of a busy machine comes without it: once was seen, of a socket that
/// systemd had open all the while. One that is made anew has another inode.
fn inode(cluster: &Cluster, port: u16) -> String {
    let list = format!("ss -Hltne 'sport = :{port}' | grep -o 'ino:[0-9]*' | sort -u");
    wait_for(&format!("one socket listens on {port}"), SOON, || Some(cluster.sh(&list).ok()).filter(|text| text.lines().count() == 1))
}

fn bystanders(cluster: &Cluster) -> Bystanders {
    let other = cluster.main_pid("project-cluster-other@1.1.1.service");
    // Flags live on what all processes share: `O_NONBLOCK` of the other app's socket.
    let flags = cluster.sh(&format!(
        "cd /proc/{}; for fd in fd/*; do case $(readlink $fd) in socket*) grep ^flags fdinfo/${{fd#fd/}};; esac; done | sort -u",
        other.unwrap_or(0)
    ));
    Bystanders {
        sibling: cluster.main_pid("project-cluster-api@2.1.1.service"),
        other,
        master: cluster.main_pid("project-cluster.service"),
        sockets: [3000, 3001].map(|port| inode(cluster, port)),
        flags: flags.ok(),
    }
}

/// Stops the worker, does something meanwhile, and asserts what must be so of every hostile one.
#[track_caller]
pub fn stop(cluster: &Cluster, meanwhile: impl FnOnce(&Running)) -> End {
    let before = bystanders(cluster);
    assert!(before.sibling.is_some() && before.other.is_some(), "{before:?}");
    let group = cluster.property(UNIT, "ControlGroup");
    let mark = cluster.journal_mark();
    let watcher = cluster.spawn(&["python3", "-c", WATCHER, &group]);
    cluster.wait_until("the watcher watches", SOON, || watcher.stdout().contains("watches"));
    let stops = cluster.spawn(&["systemctl", "stop", UNIT]);
    cluster.wait_until("the helper is seen", SOON, || watcher.stdout().contains("helper"));
    meanwhile(&watcher);
    let stopped = stops.wait(DRAIN + KILL + SLACK + SOON);
    let journal = cluster.journal(&["--since", &mark, "-u", UNIT, "-o", "cat"]);
    assert!(stopped.success(), "{stopped:?}\n{journal}");
    assert!(stopped.took < DRAIN + KILL + SLACK, "the stop took {:?}\n{journal}", stopped.took);
    // Its end is the helper's own doing, and not systemd's.
    assert!(!journal.contains("Stopping timed out") && !journal.contains("Control process exited"), "{journal}");
    let seen = watcher.wait(SOON).ok();
    let line = seen.lines().find_map(|line| line.strip_prefix("SEEN ")).unwrap_or_else(|| panic!("{seen}"));
    let helpers: Vec<Value> = serde_json::from_str(line).unwrap();
    let most = |key: &str| helpers.iter().filter_map(|helper| helper[key].as_u64()).max().unwrap_or(0);
    let of = |name: &str| helpers.iter().find(|helper| helper["name"] == name).and_then(|helper| helper["caps"].as_u64());
    let (rights, herald) = (of("pc-drain"), of("pc-drain-herald"));
    let (peak, helper, fds) = (most("peak"), Duration::from_millis(most("ms")), most("fds"));
    let end = End { took: stopped.took, peak, helper, fds, rights, herald, journal };
    println!(
        "stop {:.2} s, helper {:.2} s, {} KiB, {} descriptors at most, capabilities {:x?}; {}",
        end.took.as_secs_f64(),
        end.helper.as_secs_f64(),
        end.peak,
        end.fds,
        end.rights,
        told(&end.journal)
    );
    assert!(end.peak > 0 && end.peak < MEMORY, "{line}");
    // A duplicate of each set, which are bounded, and of the shared socket, and its own.
    assert!(end.fds < 4096 + 64, "{line}");
    assert!(end.rights.is_none_or(|rights| rights == 0 || rights == RIGHTS), "{line}");
    assert_eq!(end.herald.unwrap_or(0), 0, "{line}");
    // Nobody else was harmed: the same processes, the same sockets, and both apps answer, the sibling for itself.
    assert_eq!(bystanders(cluster), before);
    assert!(cluster.pids_of_unit(UNIT).is_empty());
    for (address, pid) in [(ADDRESS, before.sibling), ("127.0.0.1:3001", before.other)] {
        for _ in 0..3 {
            let answer = cluster.get(address, "/").unwrap_or_else(|why| panic!("{address}: {why}")).body;
            assert_eq!(answer.split_whitespace().last().map(str::to_owned), pid.map(|pid| pid.to_string()), "{address}");
        }
    }
    end
}

/// What the helper said, without systemd's own lines.
fn told(journal: &str) -> String {
    let systemd = ["Stopping", "Stopped", "Deactivated", "Consumed", "Sent signal", "Killing process"];
    let lines: Vec<&str> = journal.lines().filter(|line| !systemd.iter().any(|word| line.contains(word))).collect();
    if lines.is_empty() { "nothing told".into() } else { lines.join(" / ") }
}

/// The same under clients of whom none must notice: the worker serves, odd as it is, until the helper has taken it out.
#[track_caller]
pub fn stop_unnoticed(cluster: &Cluster, meanwhile: impl FnOnce(&Running)) -> End {
    let load = cluster.load(ADDRESS).connections(6).path("/sleep/50").start();
    // The stop is of one that serves.
    let mine = cluster.main_pid(UNIT).map_or_else(String::new, |pid| pid.to_string());
    let serves = |pids: std::collections::BTreeMap<String, u64>| {
        pids.len() > 1 && (pids.contains_key(&mine) || !cluster.exists(format!("/proc/{mine}/fd/0")))
    };
    cluster.wait_until("both workers have answered", SOON, || serves(load.so_far().pids()));
    let end = stop(cluster, meanwhile);
    load.wait_for_answers(20);
    load.stop().none_failed(40);
    end
}

/// The same of a worker that has more than is looked at in the time for it: on a slow machine the helper says so, and SIGTERM comes
/// before all connections have ended.
#[track_caller]
pub fn stop_unnoticed_or_told(cluster: &Cluster) {
    let load = cluster.load(ADDRESS).connections(6).path("/sleep/50").start();
    load.wait_for_answers(40);
    let end = stop(cluster, |_| {});
    load.wait_for_answers(20);
    let report = load.stop();
    println!("{report}");
    assert!(report.failed() == 0 || end.journal.contains("not all of it could be looked at"), "{report}\n{}", end.journal);
}

#[test]
fn plain_and_of_every_other_kind_of_descriptor() {
    let end = stop_unnoticed(&stage("other_kinds", ""), |_| {});
    // A datagram socket on the listener's port, as HTTP/3 has one, is no connection that is waited for.
    assert!(end.journal.contains("drained after"), "{}", end.journal);
    // One that anybody of its user may look into is looked into by such a one, who holds none of its descriptors but two.
    assert_eq!((end.rights, end.herald), (Some(0), Some(0)));
    assert!(end.fds < 64, "{} descriptors", end.fds);
}

#[test]
fn a_number_that_is_the_listener_and_is_not() {
    stop_unnoticed(&stage("flips", ""), |_| {});
}

#[test]
fn names_that_break_tables() {
    stop_unnoticed(&stage("comm", ""), |_| {});
}

#[test]
fn a_stopped_process_ends_all_the_same() {
    let cluster = stage("plain", "");
    let pid = cluster.main_pid(UNIT).unwrap();
    cluster.kill(pid, "STOP");
    stop(&cluster, |_| {});
}
