//! The sandboxes as systemd itself scores them, and the master's filter of system calls against what it calls.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::cluster::{Cluster, app, installed, node};
use super::threats::documented;

/// The units, and the most that systemd's scale from 0 to 10 may give each.
const UNITS: [(&str, &str, f64); 6] = [
    ("master", "project-cluster.service", 1.5),
    ("handle", "project-cluster@.service", 1.5),
    ("trigger", "project-cluster-first@.service", 1.5),
    ("worker", "project-cluster-api@.service", 2.5),
    ("worker with `user`", "project-cluster-own@.service", 2.5),
    ("hook", "project-cluster-api:before@.service", 2.5),
];

/// Why a point stays. A setting that is not here may not cost one.
const WHY: &[(&str, &str)] = &[
    ("DeviceAllow=", "`ProtectClock=` itself lets the real-time clock be read; nothing writes it"),
    (
        "IPAddressDeny=",
        "a worker serves whoever the firewall lets through; `systemd = { IPAddressAllow = ..., IPAddressDeny = \"any\" }` of an app narrows it",
    ),
    ("MemoryDenyWriteExecute=", "Node, Java and every other just-in-time compiler write code and run it"),
    (
        "PrivateNetwork=",
        "a worker talks to its database; our own processes have no address family but AF_UNIX, and read in /proc/net how full accept queues are",
    ),
    (
        "PrivateUsers=",
        "the master sees workers' memory and CPU; a worker with it is hidden from the step that sees whether it is ready (`users` in `[apps.X.sandbox]`)",
    ),
    ("ProcSubset=", "runtimes size themselves by /proc/meminfo and /proc/cpuinfo; the master tells memory and CPU"),
    ("ProtectKernelModules=", "a worker has no capability and no call for it"),
    (
        "ProtectKernelTunables=",
        "a worker has no capability and is not root: /proc/sys and /sys are not writable for it; what it would add costs a worker's start time",
    ),
    ("ProtectProc=", "the master sees workers' memory and CPU in /proc; of what is private to a process it sees nothing"),
    ("RemoveIPC=", "of a written user it would take away what her other processes share, whenever one worker ends"),
    (
        "ProtectSystem=",
        "`full`, as most units have it: a written user's own files lie anywhere, and are the app's to write; `/usr`, `/boot`, `/etc` are not",
    ),
    ("RestrictAddressFamilies=~AF_(INET|INET6)", "a worker is a server"),
    ("RestrictAddressFamilies=~AF_NETLINK", "`getaddrinfo` and every runtime's list of interfaces ask by it"),
    ("RestrictAddressFamilies=~AF_UNIX", "D-Bus, the journal, the API and many databases are reached by unix sockets"),
    ("RootDirectory=/RootImage=", "programs, libraries and releases lie in the system's own tree, read-only for all of these"),
    ("SupplementaryGroups=", "`systemd-journal`: the master shows a failed worker's last lines"),
    (
        "SystemCallFilter=~@debug",
        "`process_vm_readv`, `pidfd_getfd`: the supervisor of the swap at bind reads its own app's addresses; without rights over others they reach no other process",
    ),
    (
        "SystemCallFilter=~@privileged",
        "`chown` and its like, which servers call on their own files; without capabilities they give nothing away",
    ),
    ("SystemCallFilter=~@resources", "runtimes set priorities and affinity of their own threads"),
    ("UMask=", "what a worker creates is the app's business: `systemd = { UMask = \"0077\" }` of the app"),
    (
        "User=/DynamicUser=",
        "the trigger asks PID 1's own socket with polkit and the bus dead, which root alone may; it has no capability, and no input but an app's name",
    ),
];

#[test]
fn scores_stay_below_their_bounds_and_every_point_has_its_reason() {
    let own = app("own", 1, "sleep infinity", "user = \"games\"\nready = \"none\"");
    let cluster = installed(&format!("{}reload.hooks.before = \"true\"\n{own}", node(1)));
    cluster.cli(&["install"]).ok();
    let mut points: BTreeMap<String, BTreeMap<&str, String>> = BTreeMap::new();
    let mut scores = Vec::new();
    for (name, unit, bound) in UNITS {
        let command = format!("cd /etc/systemd/system; systemd-analyze security --offline=true --no-pager {unit}");
        let text = cluster.sh(&command).ok();
        let score = text
            .lines()
            .find(|line| line.contains("Overall exposure level"))
            .and_then(|line| line.rsplit(": ").next()?.split(' ').next()?.parse::<f64>().ok());
        let score = score.unwrap_or_else(|| panic!("no score in {text}"));
        assert!(score <= bound, "{unit}: {score}, and {bound} is the most:\n{text}");
        scores.push(format!("{name} {score}"));
        let rows: Vec<Value> = serde_json::from_str(&cluster.sh(&format!("{command} --json=short")).ok()).unwrap();
        let costs = rows.iter().filter(|row| row["set"] == false);
        for (setting, exposure) in costs.filter_map(|row| Some((row["name"].as_str()?, row["exposure"].as_str()?))) {
            // By itself, or as one of a family that has a reason together.
            points.entry(setting.to_owned()).or_default().insert(name, exposure.to_owned());
        }
    }
    let mut table = format!("Exposure by `systemd-analyze security`, from 0 to 10: {}.\n\n| what costs points |", scores.join(", "));
    UNITS.iter().for_each(|(name, ..)| table.push_str(&format!(" {name} |")));
    table.push_str(" why it stays |\n|---|---|---|---|---|---|---|---|\n");
    for (setting, costs) in &points {
        let why = WHY
            .iter()
            .find(|(known, _)| known == setting)
            .unwrap_or_else(|| panic!("{setting} costs {costs:?}: take it away, or say why not"));
        let cells: String = UNITS.iter().map(|(name, ..)| format!(" {} |", costs.get(name).map_or("", String::as_str))).collect();
        table.push_str(&format!("| `{}` |{cells} {} |\n", setting.replace('|', "\\|"), why.1));
    }
    documented("scores", &table);
}

/// The calls of a trace by strace.
fn calls(trace: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let line = line.split_once(' ').filter(|(pid, _)| pid.bytes().all(|byte| byte.is_ascii_digit())).map_or(line, |(_, rest)| rest);
        let name = line.trim_start().split_once('(')?.0;
        (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')).then(|| name.to_owned())
    };
    trace.lines().filter_map(name).collect()
}

/// The calls of a group of systemd's, and of the groups in it.
fn group(cluster: &Cluster, name: &str) -> BTreeSet<String> {
    let text = cluster.run(&["systemd-analyze", "syscall-filter", name]).ok();
    let words = text.lines().skip(1).map(str::trim).filter(|line| !line.starts_with('#') && !line.is_empty());
    words.flat_map(|word| if word.starts_with('@') { group(cluster, word) } else { BTreeSet::from([word.to_owned()]) }).collect()
}

#[test]
fn the_master_s_filter_is_what_it_calls() {
    let cluster = installed(&app("api", 2, "node app.js 3000", "listen = 3000\ntimeout.start = \"5s\""));
    cluster.program("v1", super::cluster::HELLO);
    cluster.program("v2", "throw new Error('broken')");
    cluster.cli(&["install"]).ok();
    let trace = "/run/project-cluster/state/calls";
    // The same master without its filter, with strace beside it; `-D` leaves the master the main process.
    let drop_in = format!(
        "[Service]\nSystemCallFilter=\nExecStart=\nExecStart=/usr/bin/strace -D -A -f -qq -o {trace} /usr/bin/project-cluster master --cluster project-cluster\n"
    );
    cluster.write("/etc/systemd/system/project-cluster.service.d/trace.conf", drop_in);
    cluster.systemctl(&["daemon-reload"]).ok();
    cluster.cli(&["install", "--now"]).ok();
    // All that a master does: rolls, one that fails and its words (journalctl), orders of every kind, questions, events, TCP.
    cluster.cli(&["reload", "api"]).ok();
    cluster.release("v2");
    assert_ne!(cluster.cli(&["reload", "api"]).code, 0);
    cluster.release("v1");
    for order in
        [&["restart", "api:01"][..], &["stop", "api:01"], &["start", "api:01"], &["scale", "api", "3"], &["reset", "api"], &["apply"]]
    {
        cluster.cli(order).ok();
    }
    let events = cluster.spawn(&["project-cluster", "events", "-f"]);
    cluster.sh("curl -sS -m 20 -o /dev/null -H \"Authorization: Bearer $(cat /var/lib/project-cluster/operators/token)\" http://127.0.0.1:8887/v1/apps").ok();
    for question in [&["ls"][..], &["show", "all"], &["logs", "api"]] {
        cluster.cli(question).ok();
    }
    cluster.systemctl(&["reload", "project-cluster@api"]).ok();
    cluster.crash(&cluster.workers("api")[0]);
    drop(events);
    cluster.cli(&["stop", "api"]).ok();
    cluster.systemctl(&["restart", "project-cluster"]).ok();
    let called = calls(&cluster.read(trace));
    let text = cluster.read("/etc/systemd/system/project-cluster.service");
    let lines = text.lines().filter_map(|line| line.strip_prefix("SystemCallFilter="));
    let (mut allowed, mut single, mut groups) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    for line in lines {
        let (denied, words) = line.strip_prefix('~').map_or((false, line), |line| (true, line));
        for word in words.split(' ') {
            let names = if word.starts_with('@') { group(&cluster, word) } else { BTreeSet::from([word.to_owned()]) };
            match (denied, word.starts_with('@')) {
                (true, _) => allowed.retain(|name| !names.contains(name)),
                (false, true) => drop(groups.insert(word.to_owned(), names.clone())),
                (false, false) => drop(single.insert(word.to_owned())),
            }
            if !denied {
                allowed.extend(names);
            }
        }
    }
    let outside: Vec<&String> = called.difference(&allowed).collect();
    assert!(outside.is_empty(), "it calls what its filter has not: {outside:?}");
    assert!(called.len() > 40, "{called:?}");
    for (name, calls) in &groups {
        assert!(called.intersection(calls).count() >= 2, "{name} is hardly used: {:?}", called.intersection(calls).collect::<Vec<_>>());
    }
    let mut table = "| call | used by |\n|---|---|\n".to_owned();
    for name in &single {
        let by = UNSEEN.iter().find(|(call, _)| call == name).map_or("measured", |(_, why)| why);
        assert!(by != "measured" || called.contains(name), "{name} is allowed for nothing: {called:?}");
        table.push_str(&format!("| `{name}` | {by} |\n"));
    }
    documented("calls", &table);
}

/// Single calls that the filter has and a run on any system need not make.
const UNSEEN: &[(&str, &str)] = &[
    ("clone", "threads and processes of an older C library"),
    ("clone3", "threads and processes"),
    ("fdatasync", "other file systems' way to say fsync"),
    ("fork", "processes, where the C library has no better way"),
    ("kill", "ends a `journalctl` that does not answer"),
    ("madvise", "gives memory back"),
    ("mremap", "grows large buffers"),
    ("pidfd_open", "waits for `journalctl`"),
    ("pidfd_send_signal", "ends a `journalctl` that does not answer"),
    ("sysinfo", "`journalctl` sizes its caches by memory"),
    ("tgkill", "ends itself when it must not go on (abort)"),
    ("umask", "`journalctl`"),
    ("uname", "`journalctl` and the C library"),
    ("vfork", "processes"),
    ("wait4", "waits for `journalctl`"),
    ("waitid", "waits for `journalctl`"),
];

#[test]
fn the_master_works_under_its_filter() {
    let cluster = super::cluster::shop(2, "timeout.start = \"5s\"");
    let master = cluster.main_pid("project-cluster.service").unwrap();
    let status = cluster.read(format!("/proc/{master}/status"));
    assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"), "{status}");
    cluster.cli(&["reload", "api"]).ok();
    // What a broken release wrote is read by `journalctl`, which is under the same filter.
    cluster.deploy("v2", "throw new Error('the words of a broken release')");
    let said = cluster.cli(&["reload", "api"]).exits(1);
    assert!(said.stderr.contains("the words of a broken release"), "{}", said.stderr);
    for order in [&["scale", "api", "3"][..], &["restart", "api:01"], &["stop", "api"], &["start", "api"], &["ls"]] {
        cluster.cli(order);
    }
    assert_eq!(cluster.main_pid("project-cluster.service"), Some(master));
    // What a call outside of it comes to is among the tries of `threats::master`: EPERM. It makes none.
    let journal = cluster.journal_of("project-cluster.service");
    assert!(journal.contains("the words of a broken release"), "{journal}");
    assert!(!journal.contains("Operation not permitted") && !journal.contains("os error 1)"), "{journal}");
}

#[test]
fn an_app_s_umask_is_the_app_s_alone() {
    let cluster = super::cluster::cluster(&app("api", 1, "node /srv/apps/worker.js", "ready = \"none\"\nsystemd = { UMask = \"0077\" }"));
    let main = cluster.main_pid("project-cluster-api@1.1.1.service").unwrap();
    assert!(cluster.read(format!("/proc/{main}/status")).contains("Umask:\t0077"));
    let places = ["/run/project-cluster/crashes", "/run/project-cluster/crashes/api", "/var/lib/project-cluster/generations"];
    let modes = cluster.run(&[&["stat", "-c", "%a"][..], &places].concat()).ok();
    assert_eq!(modes, "755\n755\n755", "the master reads there");
}
