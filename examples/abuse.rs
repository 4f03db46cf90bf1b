//! What clients that mean ill cost those who do not: `make bench`. As root.
//!
//! A cluster of 32 workers, and its API on TCP under each abuse of `tests/apps/abuse.py` for some seconds. Meanwhile `ls` is
//! run over and over on the unix socket, the whole process of it; behind each the master's memory and descriptors are read.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use support::sandbox::Options;
use support::{Sandbox, apps};

const WORKERS: usize = 32;
/// How long each abuse goes on at its height.
const SECONDS: u64 = 5;
const ABUSES: [&str; 11] = [
    "nothing",
    "half-open",
    "slow-head",
    "slow-body",
    "slow-reader",
    "streams",
    "pipelined",
    "pipelined-workers",
    "strange",
    "early",
    "flood",
];

fn main() -> Result<(), String> {
    let sandbox = Sandbox::start_with(Options { shown: vec![apps::go()], ..Options::default() });
    let config = format!("[apps.api]\nworkers = {WORKERS}\ncommand = \"/usr/local/bin/hello-go 3000\"\nlisten = 3000\n");
    sandbox.write("/etc/project-cluster/cluster.toml", config);
    sandbox.run_within(Duration::from_secs(120), &["project-cluster", "install", "--now"]).ok();
    let master = sandbox.main_pid("project-cluster.service").ok_or("no master")?;
    println!("| abuse | `ls` runs | median | worst | what the abuser saw | master's own memory behind it | descriptors |");
    println!("|---|---|---|---|---|---|---|");
    for name in ABUSES {
        let mut abuser = sandbox.spawn(&["python3", "/srv/apps/abuse.py", name, &SECONDS.to_string()]);
        let begun = Instant::now();
        while !abuser.stdout().contains("begun") && abuser.runs() && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut times = Vec::new();
        let end = Instant::now() + Duration::from_secs(SECONDS);
        while Instant::now() < end {
            let output = sandbox.run(&["project-cluster", "ls"]);
            if output.code != 0 {
                return Err(format!("{name}: {output:?}"));
            }
            times.push(output.took);
        }
        let said = abuser.try_wait(Duration::from_secs(120)).ok_or(format!("{name} does not end"))?.ok();
        times.sort_unstable();
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        let rollup = sandbox.read(format!("/proc/{master}/smaps_rollup"));
        let memory = rollup.lines().find(|line| line.starts_with("Private_Dirty:")).and_then(|line| line.split_whitespace().nth(1));
        let descriptors = sandbox.sh(&format!("ls /proc/{master}/fd | wc -l")).ok();
        println!(
            "| {name} | {} | {median:.1?} | {worst:.1?} | {} | {} KiB | {descriptors} |",
            times.len(),
            said.lines().last().unwrap_or_default().replace('|', " "),
            memory.unwrap_or_default()
        );
    }
    Ok(())
}
