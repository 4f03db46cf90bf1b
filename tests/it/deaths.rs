//! `kill -9` of the master at every single point of a roll: before and after each writing of its files, before and after
//! each request to systemd, at the end of each job. The debug build of the master counts them (`src/points.rs`).
//!
//! What systemd said meanwhile is played back: neither the floor of ready workers nor the ceiling of standing ones is crossed.
//!
//! The default profile meets every sixth to eighth of them, `make faults` all, under load.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::{Cluster, HELLO, SOON, app, installed};

const MASTER: &str = "project-cluster.service";
const STATE: &str = "/run/project-cluster/state";
/// "Starting a unit", the message of systemd with that number in its catalogue, and "its restart is scheduled".
const STARTING: &str = "7d4958e842da4a758f6c1cdc7b36dcc5";
const RESTARTING: &str = "5eb03494b6584870a536b337290809b3";
/// The second worker fails.
const SECOND: &str = "if (process.env.PROJECT_CLUSTER_SLOT === '2') throw new Error('not on the second'); ";

/// What is asked for at each point, and how it must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Good,
    Failing,
    Single,
    Up,
    Down,
}

/// A cluster whose master is back at once.
fn stage() -> Cluster {
    stage_of(HELLO, "")
}

/// The same with this as the `app.js` of each release, which a second worker that fails has, too, and with these keys.
pub fn stage_of(program: &str, more: &str) -> Cluster {
    let cluster = installed(&app("api", 2, "node app.js 3000", &format!("listen = 3000\nreload.min_ready = \"100ms\"\n{more}")));
    cluster.program("v1", program);
    cluster.cli(&["install", "--now"]).ok();
    cluster.write(format!("/etc/systemd/system/{MASTER}.d/quick.conf"), "[Service]\nRestartSec=20ms\n");
    cluster.systemctl(&["daemon-reload"]).ok();
    cluster.program("broken", &format!("{SECOND}{program}"));
    cluster.program("v2", program);
    cluster
}

/// How often each worker was started by a request, since a moment.
fn starts(cluster: &Cluster, since: &str) -> BTreeMap<String, i64> {
    let mut starts = BTreeMap::new();
    for (message, sign) in [(STARTING, 1), (RESTARTING, -1)] {
        let lines = cluster.journal(&["--since", since, &format!("MESSAGE_ID={message}"), "-o", "json", "--output-fields=UNIT"]);
        for line in lines.lines() {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            let unit = entry["UNIT"].as_str().unwrap_or_default();
            if unit.starts_with("project-cluster-api@") {
                *starts.entry(unit.to_owned()).or_default() += sign;
            }
        }
    }
    starts
}

/// What systemd says of a unit, by the messages' numbers in its catalogue: "starting" and its other steps.
const STARTED: &str = "39f53479d3a045ac8e11786248231fbf";
const STOPPING: &str = "de5b426a63be47a7b6ac3eaac82e2f6f";
const STOPPED: &str = "9d1aaa27d60140bd96365438aad20286";
const FAILED: &str = "d9b373ed55a64feb8242e02dbe79a49c";

/// A stop and a start that are asked for at once may begin in either order.
const AT_ONCE_US: u64 = 50_000;

/// Plays back all that PID 1 has said of the workers since a moment, when these were ready: never fewer ready than `floor`,
/// never more standing that nobody asked to stop than `ceiling`. No state lasts too short to be seen, and a load that
/// delays a look has no say in it.
#[track_caller]
fn bounds_were_kept(cluster: &Cluster, since: &str, before: &[String], floor: usize, ceiling: usize, all: &str) {
    let messages = [STARTING, STARTED, STOPPING, STOPPED, FAILED].map(|message| format!("MESSAGE_ID={message}"));
    let mut query = vec!["--since", since, "-o", "json", "--output-fields=UNIT,MESSAGE_ID,JOB_RESULT,_PID"];
    query.extend(messages.iter().map(String::as_str));
    let told = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let of_workers = text("_PID") == "1" && text("UNIT").starts_with("project-cluster-api@");
        of_workers.then(|| (text("__MONOTONIC_TIMESTAMP").parse::<u64>().unwrap(), text("UNIT"), text("MESSAGE_ID"), text("JOB_RESULT")))
    };
    let told: Vec<_> = cluster.journal(&query).lines().filter_map(told).collect();
    let (mut ready, mut standing): (BTreeSet<&str>, BTreeSet<&str>) = (before.iter().map(String::as_str).collect(), BTreeSet::new());
    standing.extend(&ready);
    for (at, unit, message, result) in &told {
        match (message.as_str(), result.as_str()) {
            (STARTING, _) => drop(standing.insert(unit)),
            (STARTED, "done" | "") => drop(ready.insert(unit)),
            (STOPPING | STOPPED, _) => drop((ready.remove(unit.as_str()), standing.remove(unit.as_str()))),
            // A crash: it comes back.
            (FAILED, _) => drop(ready.remove(unit.as_str())),
            _ => {}
        }
        let about_to_stop = |unit: &&&str| {
            told.iter().any(|(then, other, what, _)| {
                other == **unit && matches!(what.as_str(), STOPPING | STOPPED) && then >= at && *then <= at + AT_ONCE_US
            })
        };
        let surplus = standing.len() - standing.iter().filter(about_to_stop).count();
        assert!(ready.len() >= floor, "invariant 1: {ready:?} are ready at {at}: {all}\n{told:#?}");
        assert!(surplus <= ceiling, "invariant 2: {standing:?} stand at {at}: {all}\n{told:#?}");
    }
    let now: Vec<String> = cluster.workers("api");
    assert!(ready.iter().eq(now.iter()) && !told.is_empty(), "played back, {ready:?} are ready, and systemd has {now:?}: {all}\n{told:#?}");
}

/// Kills the master at each `stride`-th point of rolls of this kind, prints what came of each, and returns how many.
fn everywhere(cluster: &Cluster, kind: Kind, first: u32, stride: usize) -> usize {
    let mut met = 0;
    println!("{kind:?}");
    for at in (first..).step_by(stride) {
        let (slots, wanted) = if kind == Kind::Up { (2, 3) } else { (if kind == Kind::Down { 3 } else { 2 }, 2) };
        if cluster.workers("api").len() != slots {
            cluster.cli(&["scale", "api", &slots.to_string()]).ok();
        }
        let (pids, before, ready) = (cluster.pids("api"), cluster.generations("api"), cluster.workers("api"));
        cluster.release(if kind == Kind::Failing { "broken" } else { "v2" });
        let mark = cluster.journal_mark();
        cluster.sh(&format!("rm -f {STATE}/died-at; echo {at} > {STATE}/die-at")).ok();
        let verb: &[&str] = match kind {
            Kind::Good | Kind::Failing => &["project-cluster", "reload", "api"],
            Kind::Single => &["project-cluster", "restart", "api:02"],
            Kind::Up => &["project-cluster", "scale", "api", "3"],
            Kind::Down => &["project-cluster", "scale", "api", "2"],
        };
        let ended = cluster.spawn(verb).wait(3 * SOON);
        // The last points lie behind what the command line waits for.
        let quiet = || cluster.app("api")["roll"]["state"] != "running" && !cluster.exists(format!("{STATE}/roll-api.next"));
        cluster.wait_until("nothing rolls any more", SOON, quiet);
        let Some(place) = cluster.exists(format!("{STATE}/died-at")).then(|| cluster.read(format!("{STATE}/died-at"))) else {
            cluster.sh(&format!("rm {STATE}/die-at")).ok();
            break;
        };
        met += 1;
        // Who retires takes the time of its drain, behind the roll's end.
        let gone = || cluster.units("project-cluster-api@*", &["deactivating"]).is_empty();
        cluster.wait_until("the old ones have gone", SOON, gone);
        let starts = starts(cluster, &mark);
        let now = (cluster.generations("api"), cluster.workers("api"));
        // A request that was carried out and whose answer was lost is made again, and answered by one more roll.
        let once = match kind {
            Kind::Good => 2,
            // The old one that was replaced comes back.
            Kind::Failing => 3,
            Kind::Single | Kind::Up | Kind::Down => 1,
        };
        let repeated = if starts.len() > once { "; the request was made again" } else { "" };
        println!(
            "{at:4}  {place:62} exit {}, {:?}{repeated}",
            ended.code,
            now.1.iter().map(|unit| super::cluster::instance(unit)).collect::<Vec<_>>()
        );
        let all = format!("{kind:?}, point {at}, {place}: {now:?}, {starts:?}\n{}{}", ended.stdout, ended.stderr);
        assert!(starts.values().all(|count| *count <= 1), "a worker was started twice: {all}");
        // Two are wanted before or after, and one may stand beside the wanted ones.
        bounds_were_kept(cluster, &mark, &ready, 2, 3, &all);
        assert_eq!(cluster.units("project-cluster-api@*", &["activating", "failed", "deactivating"]), Vec::<String>::new(), "{all}");
        assert_eq!(cluster.state("project-cluster@api"), "active", "{all}");
        let after = cluster.pids("api");
        match kind {
            Kind::Good => {
                assert!(ended.code == 0 && ended.stdout.contains("2 of 2 ready"), "{all}");
                assert!(now.1.len() == 2 && now.0.len() == 1 && now.0 > before, "{all}");
                assert!(cluster.app("api")["held"].is_null(), "{all}");
            }
            Kind::Failing => {
                assert!(ended.code == 1 && ended.stderr.contains("not on the second"), "{all}");
                assert!(now.1.len() == 2 && now.0 == before, "{all}");
                assert!(after.iter().any(|pid| pids.contains(pid)), "the old second one was not touched: {all}");
                assert!(cluster.app("api")["held"]["reason"].as_str().is_some_and(|why| why.contains("not on the second")), "{all}");
            }
            Kind::Single => {
                assert!(ended.code == 0 && now.1.len() == 2 && now.0 == before, "{all}");
                assert_eq!(after.iter().filter(|pid| pids.contains(pid)).count(), 1, "one was replaced, the other not touched: {all}");
            }
            Kind::Up | Kind::Down => {
                assert!(ended.code == 0 && now.1.len() == wanted && now.0 == before, "{all}");
                assert_eq!(after.iter().filter(|pid| pids.contains(pid)).count(), 2, "the others were not touched: {all}");
            }
        }
    }
    met
}

#[test]
fn at_any_point_of_a_reload_all_is_new_and_who_waits_hears_so() {
    let met = everywhere(&stage(), Kind::Good, 2, 6);
    assert!(met >= 5, "only {met} points were met: is the program a debug build?");
}

#[test]
fn at_any_point_of_a_reload_that_fails_all_is_old() {
    let met = everywhere(&stage(), Kind::Failing, 3, 6);
    assert!(met >= 4, "only {met} points were met: is the program a debug build?");
}

#[test]
fn at_any_point_of_a_roll_of_single_workers() {
    let cluster = stage();
    let met = everywhere(&cluster, Kind::Single, 4, 6) + everywhere(&cluster, Kind::Up, 3, 8) + everywhere(&cluster, Kind::Down, 2, 8);
    assert!(met >= 5, "only {met} points were met: is the program a debug build?");
}

/// Every point of rolls of this kind, for `make faults`; how many.
pub fn all(cluster: &Cluster, kind: Kind) -> usize {
    let met = everywhere(cluster, kind, 1, 1);
    assert!(met > 10, "{kind:?}: only {met} points were met: is the program a debug build?");
    met
}
