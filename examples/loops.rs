//! What 32 workers in a crash loop cost, and whether anybody else notices: `make bench`. As root.
//!
//! Beside four healthy workers of the same socket under load, twice half a minute: once our workers, which back off, and once
//! plain units with `Restart=always` and `RestartSec=100ms` on that same socket, which do not.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use support::sandbox::Options;
use support::{Sandbox, apps};

const LOOPING: usize = 32;
const WINDOW: Duration = Duration::from_secs(30);
const ADDRESS: &str = "127.0.0.1:3000";
const UNITS: &str = "project-cluster-api@";

fn main() -> Result<(), String> {
    println!(
        "| {LOOPING} looping | seconds | starts | CPU of PID 1 | of the master | of bus and journal | requests | failed | `ls`, median | slowest |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let sandbox = cluster(LOOPING + 4);
    let inode = inode(&sandbox);
    sandbox.write("/srv/crash", "");
    sandbox.sh(&format!("for slot in $(seq 5 {}); do systemctl kill -s KILL {UNITS}$slot.1.1.service; done", LOOPING + 4)).ok();
    // While the waits are still short, and when they are half a minute.
    measure(&sandbox, "ours", UNITS)?;
    measure(&sandbox, "ours", UNITS)?;
    same(&sandbox, &inode)?;
    let shown = sandbox.run(&["project-cluster", "ls"]).ok();
    let mut times: Vec<Duration> = (0..20).map(|_| sandbox.run(&["project-cluster", "ls"]).took).collect();
    times.sort_unstable();
    drop(sandbox);

    let sandbox = cluster(4);
    let unit = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=exec\nSockets=project-cluster-api-:::3000.socket\n\
        ExecStart=/bin/sh -c 'echo Error: no database >&2; exit 1'\nRestart=always\nRestartSec=100ms\n";
    sandbox.unit("plain@.service", unit);
    sandbox.sh(&format!("for slot in $(seq {LOOPING}); do systemctl start --no-block plain@$slot; done")).ok();
    measure(&sandbox, "plain units", "plain@")?;
    println!("\n`ls` of ours without load, 20 in a row: median {:.1?}, slowest {:.1?}", times[times.len() / 2], times[times.len() - 1]);
    println!("`ls` of ours said: {}", shown.lines().last().unwrap_or_default());
    Ok(())
}

/// Go servers on one socket; those of the slots from 5 on end at once when there is a file.
fn cluster(workers: usize) -> Sandbox {
    let sandbox = Sandbox::start_with(Options { shown: vec![apps::go()], ..Options::default() });
    let script = "if [ $PROJECT_CLUSTER_SLOT -gt 4 ] && [ -e /srv/crash ]; then echo Error: no database >&2; exit 1; fi; exec /usr/local/bin/hello-go 3000";
    let config = format!("[apps.api]\nworkers = {workers}\ncommand = [\"sh\", \"-c\", \"{script}\"]\nlisten = 3000\n");
    sandbox.write("/etc/project-cluster/cluster.toml", config);
    sandbox.run_within(Duration::from_secs(120), &["project-cluster", "install", "--now"]).ok();
    sandbox
}

fn inode(sandbox: &Sandbox) -> String {
    sandbox.sh("ss -Hltne 'sport = :3000' | grep -o 'ino:[0-9]*'").ok()
}

fn same(sandbox: &Sandbox, before: &str) -> Result<(), String> {
    let after = inode(sandbox);
    if after == before { Ok(()) } else { Err(format!("the socket was {before} and is {after}")) }
}

fn measure(sandbox: &Sandbox, name: &str, units: &str) -> Result<(), String> {
    let pid = |unit: &str| sandbox.main_pid(unit).ok_or_else(|| format!("{unit} does not run"));
    let mut others = vec![pid("systemd-journald.service")?];
    others.extend(sandbox.main_pid("dbus.service"));
    let groups = [vec![1], vec![pid("project-cluster.service")?], others];
    let used = || -> Result<Vec<f64>, String> {
        groups.iter().map(|pids| pids.iter().map(|pid| cpu(sandbox, *pid)).sum::<Result<f64, String>>()).collect()
    };
    let (begun, starts) = (Instant::now(), restarts(sandbox, units)?);
    let load = sandbox.load(ADDRESS).connections(2).start();
    let before = used()?;
    let mut times = Vec::new();
    while begun.elapsed() < WINDOW {
        times.push(sandbox.run(&["project-cluster", "ls"]).exits(0).took);
        // Not the list's own cost is asked for: twice a second, as a person's `watch` would.
        std::thread::sleep(Duration::from_millis(500));
    }
    let after = used()?;
    let seconds = begun.elapsed().as_secs_f64();
    let starts = restarts(sandbox, units)?.saturating_sub(starts);
    let report = load.stop();
    times.sort_unstable();
    let used: Vec<String> = after.iter().zip(&before).map(|(after, before)| format!("{:.2} s", after - before)).collect();
    println!(
        "| {name} | {seconds:.0} | {starts} | {} | {} | {} | {} | {} | {:.0?} | {:.0?} |",
        used[0],
        used[1],
        used[2],
        report.ok,
        report.failed(),
        times[times.len() / 2],
        times[times.len() - 1]
    );
    Ok(())
}

/// Automatic restarts of all units of this prefix.
fn restarts(sandbox: &Sandbox, units: &str) -> Result<u64, String> {
    let text = sandbox.sh(&format!("systemctl show -p NRestarts --value '{units}*.service' | grep .")).ok();
    text.lines().map(|line| line.parse::<u64>().map_err(|why| format!("NRestarts is `{line}`: {why}"))).sum()
}

/// CPU seconds of a process so far (`proc(5)`, `stat`): fields 14 and 15, in ticks of 10 ms.
fn cpu(sandbox: &Sandbox, pid: i32) -> Result<f64, String> {
    let text = sandbox.read(format!("/proc/{pid}/stat"));
    let fields: Vec<&str> = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok((user + system) / 100.0),
        _ => Err(format!("/proc/{pid}/stat says `{text}`")),
    }
}
