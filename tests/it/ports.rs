//! `spawn = "child"`: workers with a port of their own, and no two live ones with the same.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::{Cluster, SOON, app, cluster, installed, instance};

/// The environment's `PORT` of each worker of an app that runs.
fn ports(cluster: &Cluster, app: &str) -> BTreeMap<String, u16> {
    let read = |unit: String| {
        let pid = cluster.main_pid(&unit)?;
        let environment = cluster.run(&["cat", &format!("/proc/{pid}/environ")]).stdout;
        let port = environment.split('\0').find_map(|line| line.strip_prefix("PORT=")?.parse().ok())?;
        Some((instance(&unit).to_owned(), port))
    };
    cluster.workers(app).into_iter().filter_map(read).collect()
}

fn child(workers: u16, more: &str) -> String {
    app("web", workers, "node /srv/apps/hello.js", &format!("spawn = \"child\"\nport = 4000\n{more}"))
}

#[test]
pub fn each_worker_has_its_port_and_a_roll_takes_extra_ones() {
    let cluster = cluster(&child(3, "ports = \"4100-4100\""));
    let expected: BTreeMap<String, u16> = [("1.1.1", 4000), ("2.1.1", 4001), ("3.1.1", 4002)].map(|(i, p)| (i.to_owned(), p)).into();
    assert_eq!(ports(&cluster, "web"), expected);
    for port in 4000..=4002 {
        assert!(cluster.get(&format!("127.0.0.1:{port}"), "/").unwrap().body.starts_with("v1 "));
    }
    // A crash: the same port again.
    cluster.crash("project-cluster-web@2.1.1.service");
    assert_eq!(ports(&cluster, "web"), expected);
    // More workers than extra ports: those that retire make room.
    for release in ["v2", "v3"] {
        cluster.release(release);
        let reload = cluster.spawn(&["project-cluster", "reload", "web"]);
        while reload.runs() {
            let now = ports(&cluster, "web");
            let distinct: BTreeSet<u16> = now.values().copied().collect();
            assert_eq!(distinct.len(), now.len(), "shared by two: {now:?}");
            assert!(distinct.iter().all(|port| (4000..=4002).contains(port) || *port == 4100), "{now:?}");
        }
        reload.wait(SOON).ok();
        cluster.wait_until("the old ones are gone", SOON, || cluster.workers("web").len() == 3);
        let now = ports(&cluster, "web");
        assert_eq!(now.values().collect::<BTreeSet<_>>().len(), 3, "{now:?}");
        for port in now.values() {
            assert!(cluster.get(&format!("127.0.0.1:{port}"), "/").unwrap().body.starts_with(release), "{now:?}");
        }
    }
    // A fresh start gives each slot its own again.
    cluster.systemctl(&["restart", "project-cluster@web"]).ok();
    assert_eq!(ports(&cluster, "web").into_values().collect::<Vec<_>>(), [4000, 4001, 4002]);
}

#[test]
fn a_port_that_a_foreign_process_has_fails_the_start_and_is_named() {
    let cluster = installed(&child(1, "ports = \"4100-4100\"\ntimeout.start = \"5s\""));
    cluster.cli(&["install"]).ok();
    cluster.sh("systemd-run -q -u foreign node /srv/apps/hello.js 4000").ok();
    cluster.wait_for_http("127.0.0.1:4000");
    assert_ne!(cluster.systemctl(&["start", "project-cluster@web"]).code, 0);
    let journal = cluster.journal_of("project-cluster@web");
    assert!(journal.contains("EADDRINUSE") && journal.contains("4000"), "{journal}");
    // Nothing was taken from its owner.
    assert_eq!(cluster.state("foreign.service"), "active");
    cluster.systemctl(&["stop", "foreign"]).ok();
    cluster.systemctl(&["start", "project-cluster@web"]).ok();
    assert_eq!(ports(&cluster, "web").into_values().collect::<Vec<_>>(), [4000]);
}
