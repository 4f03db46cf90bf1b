//! A stop is a stop, whatever is in its way; and no port stays open with nobody behind it.

use super::cluster::{ADDRESS, HELLO, SOON, app, cluster, installed, shop};

const HANDLE: &str = "project-cluster@api.service";
const SOCKET: &str = "project-cluster-api-:::3000.socket";

#[test]
pub fn a_stop_behind_a_roll_whose_old_worker_takes_its_time_stops_the_others_meanwhile() {
    let slow = "listen = 3000\ntimeout.kill = \"8s\"";
    let cluster = cluster(&app("api", 1, "node /srv/apps/broken/stubborn.js 3000", slow));
    let reload = cluster.spawn(&["project-cluster", "reload", "api"]);
    cluster.wait_until("the old worker retires", SOON, || cluster.state("project-cluster-api@1.1.1.service") == "deactivating");
    // systemd closes the socket only when the old one is gone. The new one is told to end before that.
    let stop = cluster.spawn(&["project-cluster", "stop", "api"]);
    cluster.wait_until("both are on their way down", SOON, || cluster.units("project-cluster-api@*", &["deactivating"]).len() == 2);
    stop.wait(SOON).ok();
    reload.wait(SOON);
    assert_eq!([HANDLE, SOCKET].map(|unit| cluster.state(unit)), ["inactive", "inactive"]);
    assert_eq!(cluster.units("project-cluster-api@*", &["active", "activating", "deactivating"]), Vec::<String>::new());
}

#[test]
pub fn workers_under_a_masked_handle_are_marked_stopped_and_in_nobody_s_way() {
    let cluster = shop(2, "");
    let masked_and_stopped = || {
        cluster.systemctl(&["mask", "--runtime", HANDLE]).ok();
        cluster.systemctl(&["stop", HANDLE]).ok();
    };
    masked_and_stopped();
    let marked = || cluster.cli(&["ls"]).stdout.contains("api: its handle is not active and 2 workers run: `project-cluster stop api`");
    cluster.wait_until("ls says so", SOON, marked);
    cluster.cli(&["stop", "api"]).ok();
    assert_eq!(cluster.units("project-cluster-api@*", &["active", "activating", "deactivating"]), Vec::<String>::new());
    assert!(cluster.get(ADDRESS, "/").is_err());
    // The same, and nobody stops them: a start finds their address taken by them.
    cluster.systemctl(&["unmask", "--runtime", HANDLE]).ok();
    cluster.cli(&["start", "api"]).ok();
    masked_and_stopped();
    cluster.systemctl(&["stop", SOCKET]).ok();
    cluster.systemctl(&["unmask", "--runtime", HANDLE]).ok();
    cluster.cli(&["start", "api"]).ok();
    assert_eq!(cluster.workers("api").len(), 2);
    assert!(cluster.get(ADDRESS, "/").is_ok());
}

#[test]
pub fn the_last_worker_that_answers_takes_the_port_with_it_though_others_crash() {
    let cluster = installed(&app("api", 2, "node app.js 3000", "listen = 3000"));
    cluster.program("v1", &format!("if (process.env.PROJECT_CLUSTER_SLOT === '2') throw new Error('not the second'); {HELLO}"));
    cluster.cli(&["install", "--now"]).ok();
    assert!(cluster.get(ADDRESS, "/").is_ok());
    let said = cluster.cli(&["stop", "api:01"]).ok();
    assert!(said.contains("no worker is left to answer, so api is stopped and its port closed"), "{said}");
    assert_eq!([HANDLE, SOCKET].map(|unit| cluster.state(unit)), ["inactive", "inactive"]);
    assert!(cluster.get(ADDRESS, "/").is_err());
}

#[test]
pub fn an_app_on_demand_without_wanted_workers_hangs_no_client() {
    let cluster = cluster(&app("api", 1, "node /srv/apps/hello.js 3000", "listen = 3000\non_demand = true"));
    // It is asleep; its last worker is not to run.
    let said = cluster.cli(&["stop", "api:01"]).ok();
    assert!(said.contains("its port closed"), "{said}");
    assert_eq!(cluster.state(SOCKET), "inactive");
    // As at the next boot.
    cluster.systemctl(&["start", SOCKET]).ok();
    let code = cluster.client().wait(SOON).code;
    assert!(code != 0 && code != 28, "{code}");
    cluster.wait_for_state(SOCKET, "inactive", SOON);
    cluster.wait_for_state(HANDLE, "active", SOON);
    let status = cluster.systemctl(&["status", HANDLE]).stdout;
    assert!(status.contains("all of its 1 workers are to stay stopped"), "{status}");
    let listed = cluster.cli(&["ls"]).ok();
    assert!(listed.contains("api: all of its workers are stopped one by one. `project-cluster start api` starts them"), "{listed}");
    cluster.cli(&["start", "api"]).ok();
    assert!(cluster.get(ADDRESS, "/").is_ok());
}

#[test]
pub fn an_app_of_0_workers_is_listed_and_started_by_what_gives_it_one() {
    let cluster = shop(1, "");
    cluster.cli(&["scale", "api", "0"]).ok();
    let listed = cluster.cli(&["ls", "api"]).ok();
    assert!(listed.contains("api: has 0 workers. `project-cluster add api` gives it one"), "{listed}");
    assert!(cluster.get(ADDRESS, "/").is_err());
    cluster.cli(&["add", "api"]).ok();
    assert!(cluster.get(ADDRESS, "/").is_ok());
}

#[test]
pub fn what_somebody_stops_while_no_master_runs_is_left_so_by_the_next() {
    const MASTER: [&str; 2] = ["project-cluster.service", "project-cluster.socket"];
    let cluster = shop(3, "");
    let alone = |what: &[&str]| {
        cluster.systemctl(&[&["stop"], &MASTER[..]].concat()).ok();
        cluster.systemctl(what).ok();
        cluster.systemctl(&["start", MASTER[1]]).ok();
    };
    let rows = || cluster.ls().iter().map(|row| format!("{} {}", row.uid(), row.state())).collect::<Vec<_>>();
    let shown = |uid: &str| cluster.cli(&["ls"]).ok().contains(&format!("{uid}: stopped from outside at "));
    // A crash is no stop, and neither is a start or a stop of the whole.
    alone(&["kill", "--signal=KILL", "project-cluster-api@1.1.1.service"]);
    cluster.wait_until("it is back", SOON, || rows() == ["api:01 online", "api:02 online", "api:03 online"]);
    alone(&["stop", HANDLE]);
    assert_eq!(cluster.app("api")["outside"].as_array().map(Vec::len), Some(0));
    alone(&["start", HANDLE]);
    cluster.wait_until("all are back", SOON, || rows() == ["api:01 online", "api:02 online", "api:03 online"]);

    alone(&["stop", "project-cluster-api@2.1.1.service"]);
    cluster.wait_until("it is left so", SOON, || rows() == ["api:01 online", "api:02 stopped", "api:03 online"]);
    assert!(shown("api:02"), "{}", cluster.cli(&["ls"]).ok());
    assert!(cluster.cli(&["events", "api"]).ok().contains("api:02 (generation 1) was stopped from outside while no master ran"));
    cluster.cli(&["reload", "api"]).ok();
    assert_eq!(cluster.workers("api"), ["1", "3"].map(|slot| format!("project-cluster-api@{slot}.2.1.service")));
    // The next master shows it as well, and so the one that somebody starts meanwhile.
    cluster.systemctl(&["restart", MASTER[0]]).ok();
    assert!(shown("api:02"), "{}", cluster.cli(&["ls"]).ok());
    alone(&["start", "project-cluster-api@2.2.1.service"]);
    cluster.wait_until("it counts again", SOON, || cluster.app("api")["target"] == 3);
    assert!(!shown("api:02"), "{}", cluster.cli(&["ls"]).ok());

    // All of them: who does that has not said which are to stay down.
    alone(&["stop", "project-cluster-api@*.service"]);
    cluster.wait_until("it shows", SOON, || cluster.cli(&["ls"]).ok().contains("api: no worker answers, connections wait."));
    assert_eq!(cluster.app("api")["target"], 3);
    cluster.cli(&["start", "api"]).ok();
    assert_eq!(cluster.workers("api").len(), 3);
}
