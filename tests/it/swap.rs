//! Any server, as it is, behind sockets that systemd holds: what `worker exec` and its bind supervisor do in units.
//! `tests/worker/swap.rs` has the finer cases, without systemd.

use std::collections::BTreeSet;

use super::cluster::{Cluster, SOON, app, cluster, installed};

/// The small servers of the worker's own tests, each with a habit of its own.
const ODD: &str = include_str!("../worker/apps/servers.py");

/// The main processes of an app's workers.
fn main_pids(cluster: &Cluster, app: &str) -> BTreeSet<String> {
    cluster.workers(app).iter().map(|unit| cluster.main_pid(unit).expect("it is active").to_string()).collect()
}

/// Asks, several at once, until each worker has answered; nothing fails meanwhile.
#[track_caller]
fn every_worker_answers(cluster: &Cluster, app: &str, address: &str, workers: usize) {
    let pids = main_pids(cluster, app);
    assert_eq!(pids.len(), workers, "{app}: {pids:?}");
    let load = cluster.load(address).connections(16).path("/sleep/20").start();
    cluster.wait_until("each worker has answered", SOON, || pids.iter().all(|pid| load.so_far().pids().contains_key(pid)));
    let report = load.stop();
    assert_eq!(report.failed(), 0, "{report}");
    assert_eq!(report.pids().into_keys().collect::<BTreeSet<_>>(), pids, "{app} alone listens there");
}

/// `Send-Q` of the listening socket: the length of its accept queue.
#[track_caller]
fn backlog(cluster: &Cluster, port: u16) -> String {
    cluster.sh(&format!("ss -Hltn 'sport = :{port}' | awk '{{ print $3 }}'")).ok()
}

/// Processes of a unit by this name.
fn named(cluster: &Cluster, unit: &str, name: &str) -> Vec<i32> {
    let mut pids = cluster.pids_of_unit(unit);
    pids.retain(|pid| cluster.run(&["cat", &format!("/proc/{pid}/comm")]).stdout.trim() == name);
    pids
}

#[test]
pub fn node_go_and_asyncio_share_one_socket_as_they_are() {
    let toml = [
        app("node", 4, "node /srv/apps/hello.js 3000", "listen = { address = 3000, backlog = 1000 }"),
        app("go", 4, "hello-go 3001", "listen = \"127.0.0.1:3001\""),
        app("asyncio", 4, "python3 /srv/apps/hello_asyncio.py 3002", "listen = { address = \"0.0.0.0:3002\", backlog = 1001 }"),
    ];
    let cluster = cluster(&toml.concat());
    let apps = [("node", 3000_u16), ("go", 3001), ("asyncio", 3002)];
    let before: Vec<String> = apps.iter().map(|(_, port)| cluster.socket_inode(*port)).collect();
    let old: Vec<BTreeSet<String>> = apps.iter().map(|(app, _)| main_pids(&cluster, app)).collect();
    for (app, port) in apps {
        every_worker_answers(&cluster, app, &format!("127.0.0.1:{port}"), 4);
    }
    // Node listens with a backlog of 511 and asyncio with 100, each on the socket of all.
    assert_eq!((backlog(&cluster, 3000), backlog(&cluster, 3002)), ("1000".into(), "1001".into()));
    // A crash, and a whole new generation.
    cluster.crash("project-cluster-node@1.1.1.service");
    every_worker_answers(&cluster, "node", "127.0.0.1:3000", 4);
    cluster.systemctl(&["reload", "project-cluster@node", "project-cluster@go", "project-cluster@asyncio"]).ok();
    for ((app, port), old) in apps.iter().zip(&old) {
        cluster.wait_until("the old ones are gone", SOON, || cluster.generations(app) == [2]);
        every_worker_answers(&cluster, app, &format!("127.0.0.1:{port}"), 4);
        assert!(main_pids(&cluster, app).is_disjoint(old));
    }
    assert_eq!(apps.iter().map(|(_, port)| cluster.socket_inode(*port)).collect::<Vec<_>>(), before);
    assert_eq!((backlog(&cluster, 3000), backlog(&cluster, 3002)), ("1000".into(), "1001".into()));
}

#[test]
fn every_kind_of_address() {
    let unix = "listen = { path = \"/run/shop-unix.sock\", mode = \"0660\", group = \"adm\" }";
    let toml = [
        app("both", 1, "node /srv/apps/hello.js 3000", "listen = 3000"),
        app("four", 1, "python3 /srv/apps/hello_asyncio.py 3001", "listen = \"127.0.0.1:3001\""),
        app("six", 1, "python3 /srv/apps/hello_asyncio.py 3002", "listen = \"[::1]:3002\"\nenv = { HOST = \"::1\" }"),
        app("unix", 2, "node /srv/apps/hello.js /run/shop-unix.sock", unix),
        app("path", 1, "python3 /srv/apps/hello_asyncio.py /run/shop-path.sock", "listen = \"/run/shop-path.sock\""),
        // Not in the order of their numbers or names.
        app("fds", 2, "node /srv/apps/two_fds.js", "listen = [\"127.0.0.1:3005\", \"127.0.0.1:3004\"]"),
        app("ports", 1, "node /srv/apps/two_ports.js 3006 3007", "listen = 3006"),
    ];
    let cluster = cluster(&toml.concat());
    let answered = |address: &str, app: &str| {
        let body = cluster.get(address, "/").unwrap_or_else(|why| panic!("{address}: {why}")).body;
        let pid = body.split_whitespace().last().unwrap_or_default().to_owned();
        assert!(main_pids(&cluster, app).contains(&pid), "{address} is answered by {body}, not by {app}");
        body
    };
    for address in ["127.0.0.1:3000", "[::1]:3000"] {
        answered(address, "both");
    }
    answered("127.0.0.1:3001", "four");
    answered("[::1]:3002", "six");
    let file = || cluster.sh("stat -c '%i %a %U:%G' /run/shop-unix.sock").ok();
    let before = file();
    assert!(before.ends_with(" 660 root:adm"), "{before}");
    answered("/run/shop-unix.sock", "unix");
    answered("/run/shop-path.sock", "path");
    // Node removes its path when it ends in an orderly way, asyncio before it binds: neither reaches systemd's.
    cluster.cli(&["reload", "unix", "path"]).ok();
    assert_eq!(file(), before);
    answered("/run/shop-unix.sock", "unix");
    answered("/run/shop-path.sock", "path");
    // The order of `listen`, whatever systemd's is: in the first worker and in one that came by itself.
    for _ in 0..2 {
        assert!(answered("127.0.0.1:3005", "fds").starts_with("3 "));
        assert!(answered("127.0.0.1:3004", "fds").starts_with("4 "));
        cluster.cli(&["reload", "fds"]).ok();
    }
    // An undeclared port of the same process is its own.
    answered("127.0.0.1:3006", "ports");
    answered("127.0.0.1:3007", "ports");
    let owner = cluster.sh("ss -Hltnp 'sport = :3007'").ok();
    assert!(owner.contains("node") && !owner.contains("systemd"), "{owner}");
}

#[test]
pub fn children_of_the_app_get_the_socket_too() {
    let toml = [
        app("forks", 2, "node /srv/apps/forks.js 3000", "listen = 3000"),
        app("cluster", 2, "node /srv/apps/cluster.js 3001", "listen = 3001"),
        app("waits", 1, "python3 /srv/odd.py waits-for-all 3002", "listen = \"127.0.0.1:3002\""),
        app("fds", 2, "node /srv/apps/hello_fds.js", "listen = \"127.0.0.1:3003\"\nswap = false"),
    ];
    let cluster = installed(&toml.concat());
    cluster.write("/srv/odd.py", ODD);
    cluster.cli(&["install", "--now"]).ok();
    for (app, port) in [("forks", 3000), ("cluster", 3001)] {
        let inode = cluster.socket_inode(port);
        let children = || -> BTreeSet<String> {
            let workers = cluster.workers(app);
            let nodes = workers.iter().flat_map(|unit| {
                let main = cluster.main_pid(unit);
                cluster.pids_of_unit(unit).into_iter().filter(move |pid| Some(*pid) != main)
            });
            nodes
                .filter(|pid| cluster.run(&["cat", &format!("/proc/{pid}/comm")]).stdout.trim() == "node")
                .map(|pid| pid.to_string())
                .collect()
        };
        cluster.wait_until("each of two workers has two children", SOON, || children().len() == 4);
        let children = children();
        let load = cluster.load(&format!("127.0.0.1:{port}")).connections(16).path("/sleep/20").start();
        cluster.wait_until("each child has answered", SOON, || children.iter().all(|pid| load.so_far().pids().contains_key(pid)));
        let report = load.stop();
        assert_eq!(report.failed(), 0, "{report}");
        assert_eq!(cluster.socket_inode(port), inode);
    }
    // It returned from waiting for all its children: the supervisor is not among them.
    let unit = &cluster.workers("waits")[0];
    assert!(cluster.journal_of(unit).contains("no child left"));
    assert_eq!(named(&cluster, unit, "pc-swap").len(), 1);
    assert!(cluster.get("127.0.0.1:3002", "/").unwrap().body.starts_with("waits-for-all "));
    // `swap = false`: no filter and no supervisor; inherited descriptors work as ever.
    every_worker_answers(&cluster, "fds", "127.0.0.1:3003", 2);
    for unit in cluster.workers("fds") {
        assert_eq!(cluster.pids_of_unit(&unit), [cluster.main_pid(&unit).unwrap()]);
    }
}

#[test]
pub fn without_swap_a_bind_of_the_declared_port_fails_in_the_apps_own_words() {
    let cluster = installed(&app("api", 1, "node /srv/apps/hello.js 3000", "listen = 3000\nswap = false"));
    cluster.cli(&["install"]).ok();
    assert_ne!(cluster.systemctl(&["start", "project-cluster@api"]).code, 0);
    assert_eq!(cluster.state("project-cluster@api"), "failed");
    let journal = cluster.journal_of("project-cluster@api");
    assert!(journal.contains("EADDRINUSE"), "{journal}");
}

#[test]
pub fn a_supervisor_killed_before_the_bind_fails_the_start_and_the_worker_comes_back() {
    let cluster = installed(&app("api", 2, "node /srv/apps/gate.js 3000 /srv/gate", "listen = 3000"));
    cluster.write("/srv/gate", "");
    cluster.cli(&["install", "--now"]).ok();
    cluster.sh("rm /srv/gate").ok();
    let unit = "project-cluster-api@1.1.1.service";
    let (pid, old) = (cluster.main_pid(unit).unwrap(), named(&cluster, unit, "pc-swap"));
    let mark = cluster.journal_mark();
    cluster.kill(pid, "KILL");
    let journal = || cluster.journal(&["-u", unit, "-o", "cat", "--since", &mark]);
    cluster.wait_until("it waits at the gate", SOON, || journal().contains("waiting at the gate"));
    let supervisor = named(&cluster, unit, "pc-swap");
    assert!(supervisor.len() == 1 && supervisor != old, "{supervisor:?} {old:?}: one, and the first went with its worker");
    cluster.kill(supervisor[0], "KILL");
    cluster.wait_until("systemd starts it again", SOON, || cluster.property(unit, "NRestarts") == "2");
    // By the identifier: who said it has ended at once, and of a user's services that ended journald may not know the unit.
    let journal = cluster.journal(&["-t", "project-cluster-api", "-o", "cat", "--since", &mark]);
    assert!(journal.contains("the bind supervisor of project-cluster-api@1.1.1.service was killed"), "{journal}");
    cluster.write("/srv/gate", "");
    cluster.wait_for_state(unit, "active", SOON);
    every_worker_answers(&cluster, "api", "127.0.0.1:3000", 2);
}

#[test]
pub fn an_app_with_a_seccomp_listener_of_its_own_is_told_so_once() {
    let cluster = installed(&app("api", 1, "python3 /srv/odd.py own-listener 3000", "listen = \"127.0.0.1:3000\""));
    cluster.write("/srv/odd.py", ODD);
    cluster.cli(&["install", "--now"]).ok();
    let journal = cluster.journal_of("project-cluster-api@*.service");
    let lines: Vec<&str> = journal.lines().filter(|line| line.contains("seccomp listener")).collect();
    assert!(lines.len() == 1 && lines[0].contains("`swap = false`"), "{journal}");
    assert!(cluster.get("127.0.0.1:3000", "/").unwrap().body.starts_with("own-listener "));
}
