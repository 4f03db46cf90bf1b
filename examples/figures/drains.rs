//! Reloads and drains: what a reload takes beside what it has to wait for, and how soon a worker is quiet.

use std::time::{Duration, Instant};

use super::report::{Bound, Line};
use super::support::Sandbox;
use super::support::sandbox::Options;
use super::{LIMIT, ms};
use crate::support::apps;

const ROUNDS: u32 = 5;
/// How long each new worker is watched, ms.
const MIN_READY: u64 = 1000;
const CONNECTIONS: usize = 1000;

fn go(more: &str) -> Sandbox {
    let sandbox = Sandbox::start_with(Options { shown: vec![apps::go()], ..Options::default() });
    let config = format!("[apps.api]\ncommand = \"/usr/local/bin/hello-go 3000\"\nlisten = 3000\n{more}\n");
    sandbox.write("/etc/project-cluster/cluster.toml", config);
    sandbox.run_within(LIMIT, &["project-cluster", "install", "--now"]).ok();
    sandbox.wait_for_http("127.0.0.1:3000");
    sandbox
}

fn workers(sandbox: &Sandbox) -> Vec<String> {
    sandbox.units("project-cluster-api@*.service", &["active"])
}

/// Both.
pub fn drains(lines: &mut Vec<Line>) -> Result<(), String> {
    lines.push(reload()?);
    lines.push(quiet()?);
    Ok(())
}

/// Four workers, one after the other, while each has requests of a second: a drain of a second each, which nobody waits for.
fn reload() -> Result<Line, String> {
    let sandbox = go(&format!("workers = 4\nreload = {{ min_ready = \"{MIN_READY}ms\", max_surge = 1 }}"));
    let load = sandbox.load("127.0.0.1:3000").connections(16).path("/sleep/1000").start();
    load.wait_for_answers(16);
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let old = workers(&sandbox);
        let begun = Instant::now();
        sandbox.run_within(LIMIT, &["project-cluster", "reload", "api"]).ok();
        let took = begun.elapsed().as_secs_f64() * 1e6;
        let mut waits = 0.0;
        let new: Vec<String> = workers(&sandbox).into_iter().filter(|unit| !old.contains(unit)).collect();
        if new.len() != 4 {
            return Err(format!("{old:?} became {new:?}"));
        }
        for unit in &new {
            let stamp = |name: &str| sandbox.property(unit, name).parse::<f64>().map_err(|why| format!("{unit}, {name}: {why}"));
            waits += stamp("ActiveEnterTimestampMonotonic")? - stamp("InactiveExitTimestampMonotonic")?;
            waits += Duration::from_millis(MIN_READY).as_secs_f64() * 1e6;
        }
        ratios.push((took / waits, took, waits));
        sandbox.wait_until("the old ones are gone", LIMIT, || {
            sandbox.units("project-cluster-api@*.service", &["active", "deactivating"]).len() == 4
        });
    }
    let report = load.stop();
    ratios.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    let (ratio, took, waits) = ratios[ratios.len() / 2];
    Ok(Line {
        what: "reload of 4 Go workers, one after the other : their starts and `min_ready`".into(),
        measured: format!(
            "{} : {}; each of them drained for a second meanwhile: {} requests of 1 s, {} failed",
            ms(took),
            ms(waits),
            report.sent,
            report.failed()
        ),
        figure: ratio,
        unit: "",
        bound: Bound::Most(1.2),
        why: "the pin of the new generation, the orders to systemd and their ends.".into(),
    })
}

/// A worker with a thousand idle connections, until it gets no new ones. The helper tells.
fn quiet() -> Result<Line, String> {
    let sandbox = go("workers = 1\nreload = { min_ready = \"10ms\", drain = \"200ms\" }\nsystemd.LimitNOFILE = 10000");
    let client = "import socket, sys, time\nheld = []\nfor _ in range(int(sys.argv[1])):\n    held.append(socket.create_connection(('127.0.0.1', 3000)))\n    held[-1].sendall(b'GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')\n    held[-1].recv(999)\nprint('holds', flush=True)\ntime.sleep(600)";
    let mut times = Vec::new();
    let mut open = Vec::new();
    for _ in 0..ROUNDS {
        let unit = workers(&sandbox).pop().ok_or("no worker")?;
        let held = sandbox.spawn(&["sh", "-c", "ulimit -n 4096; exec python3 -c \"$@\"", "sh", client, &CONNECTIONS.to_string()]);
        sandbox.wait_until("all are open", LIMIT, || held.stdout().contains("holds"));
        sandbox.run_within(LIMIT, &["project-cluster", "restart", "api:01"]).ok();
        sandbox.wait_until("the old one is gone", LIMIT, || sandbox.state(&unit) == "inactive");
        let instance = unit.split_once('@').map_or("", |(_, rest)| rest).trim_end_matches(".service");
        let record = sandbox.read(format!("/run/project-cluster/drained/api/{instance}.json"));
        let record: serde_json::Value = serde_json::from_str(&record).map_err(|why| format!("{record}: {why}"))?;
        times.push(record["quiet_us"].as_f64().ok_or_else(|| format!("it was not quiet: {record}"))?);
        open.push(record["open"].as_u64().unwrap_or(0));
    }
    times.sort_unstable_by(f64::total_cmp);
    Ok(Line {
        what: format!("a Go worker of {CONNECTIONS} connections until it gets no new ones"),
        measured: format!("{ROUNDS} times, the slowest {}; open meanwhile: {open:?}", ms(times[times.len() - 1])),
        figure: times[times.len() / 2] / 1000.0,
        unit: "ms",
        bound: Bound::Most(20.0),
        why: "its processes, descriptors, sets and threads are read from /proc.".into(),
    })
}
