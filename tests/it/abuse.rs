//! Clients over TCP that mean ill: the command line goes on meanwhile, nothing is carried out that was not asked for, and
//! the master gives all back. `make bench` measures it; here is no time that a test could miss.

use project_cluster::api::limits::TCP;
use serde_json::{Value, json};

use super::cluster::{Cluster, SOON, app, cluster};

const MASTER: &str = "project-cluster.service";

fn descriptors(cluster: &Cluster, master: i32) -> usize {
    cluster.sh(&format!("ls /proc/{master}/fd | wc -l")).ok().parse().unwrap()
}

/// Its own memory, KiB.
fn memory(cluster: &Cluster, master: i32) -> u64 {
    let rollup = cluster.read(format!("/proc/{master}/smaps_rollup"));
    let line = rollup.lines().find(|line| line.starts_with("Private_Dirty:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// One abuse, during which `ls` answers; what the abuser saw.
#[track_caller]
fn abuse(cluster: &Cluster, name: &str) -> Value {
    let abuser = cluster.spawn(&["python3", "/srv/apps/abuse.py", name, "1"]);
    cluster.wait_until(&format!("{name} has begun"), 2 * SOON, || abuser.stdout().contains("begun") || !abuser.runs());
    for _ in 0..3 {
        // In a roll there is one more for a while.
        assert!((2..=3).contains(&cluster.ls().len()), "{name}");
    }
    let said = abuser.wait(3 * SOON).ok();
    let saw = said.lines().last().and_then(|line| serde_json::from_str(line).ok());
    saw.unwrap_or_else(|| panic!("{name}: {said}"))
}

#[test]
fn none_of_it_keeps_operators_out_or_stays_behind() {
    let cluster = cluster(&app("api", 2, "node /srv/apps/hello.js 3000", "listen = 3000"));
    let (master, workers) = (cluster.main_pid(MASTER).unwrap(), cluster.pids("api"));
    cluster.ls();
    let before = descriptors(&cluster, master);
    let saw = |name: &str| abuse(&cluster, name);
    let back = |what: &str| {
        cluster.wait_until(&format!("its descriptors are back behind {what}"), SOON, || descriptors(&cluster, master) <= before);
        memory(&cluster, master)
    };
    assert_eq!(saw("half-open"), json!({ "nothing": 250 }));
    assert_eq!(saw("slow-head"), json!({ "nothing": 250 }));
    assert_eq!(saw("slow-body"), json!({ "nothing": 32 }));
    // All at once they are too many requests as well.
    let streams = saw("streams");
    let (open, refused) = (streams["200"].as_u64().unwrap_or(0), streams["503"].as_u64().unwrap_or(0));
    assert!(open + refused == 100 && (1..=TCP.streams as u64).contains(&open), "{streams}");
    // Answered later and later, and said together.
    let wrong = saw("wrong-tokens");
    assert!(
        wrong["401"].as_u64() >= Some(4) && wrong.as_object().unwrap().keys().all(|what| what == "401" || what == "nothing"),
        "{wrong}"
    );
    let lines = cluster.journal_of(MASTER).matches("with a wrong token from 127.0.0.1").count();
    assert!((1..=3).contains(&lines), "{lines} lines");
    saw("early");
    let strange = saw("strange");
    assert_eq!(strange.as_object().map(|found| found.keys().map(String::as_str).collect()), Some(vec!["as expected"]), "{strange}");
    // What takes most memory, twice: it is given back, or used again.
    let heavy = || {
        assert_eq!(saw("flood"), json!({ "nothing": TCP.connections, "503": 2_000 - TCP.connections }));
        saw("slow-reader");
        let pipelined = saw("pipelined");
        assert_eq!(pipelined.as_object().map(|found| found.keys().map(String::as_str).collect()), Some(vec!["200"]), "{pipelined}");
        assert_eq!(pipelined["200"].as_u64().map(|count| count % 10_000), Some(0), "each is answered: {pipelined}");
        back("it all")
    };
    let (first, second) = (heavy(), heavy());
    println!("the master's own memory behind the first round {first} KiB, behind the second {second} KiB");
    assert!(second <= first + 4096, "{first} KiB, then {second} KiB");
    assert_eq!((cluster.main_pid(MASTER), cluster.pids("api")), (Some(master), workers), "nobody was ended, and no order carried out");
    assert!(!cluster.journal_of(MASTER).contains(" orders "), "no order came through");
    // Readers of events that read nothing of it slow no roll down.
    let rolled = saw("streams-in-rolls");
    let (open, refused) = (rolled["200"].as_u64().unwrap_or(0), rolled["503"].as_u64().unwrap_or(0));
    assert!(open + refused == 48 && open > 0 && rolled["rolled"].as_u64() >= Some(1) && rolled.get("failed").is_none(), "{rolled}");
    assert!(cluster.journal_of(MASTER).contains(" orders POST /v1/apps/api/rolls"), "the line that was missing above");
    assert_eq!(saw("readers"), json!({ "readers": 200 }));
    back("the readers");
}

#[test]
fn without_a_free_descriptor_it_waits_for_one() {
    let cluster = cluster(&app("api", 2, "node /srv/apps/hello.js 3000", "listen = 3000"));
    cluster.ls();
    // Some for connections, and for what the master itself opens for its answer.
    let limit = descriptors(&cluster, cluster.main_pid(MASTER).unwrap()) + 8;
    cluster.write("/etc/systemd/system/project-cluster.service.d/limit.conf", format!("[Service]\nLimitNOFILE={limit}\n"));
    cluster.systemctl(&["daemon-reload"]).ok();
    cluster.systemctl(&["restart", MASTER]).ok();
    let master = cluster.main_pid(MASTER).unwrap();
    let abuser = cluster.spawn(&["python3", "/srv/apps/abuse.py", "half-open", "5"]);
    cluster.wait_until("it says so", SOON, || cluster.journal_of(MASTER).contains("cannot accept connections"));
    abuser.wait(3 * SOON).ok();
    cluster.wait_until("it answers again", SOON, || cluster.cli(&["ls"]).success());
    assert_eq!(cluster.main_pid(MASTER), Some(master));
    let said = cluster.journal_of(MASTER).matches("cannot accept connections").count();
    assert!(said <= 2, "once a minute for each listener, not {said} times");
}
