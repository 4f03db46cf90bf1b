//! What clients that mean ill cost those who do not: `make bench`. As root. With names behind it (`-- early readers`) these alone.
//!
//! A cluster of 32 workers, and its API on TCP under each abuse of `tests/apps/abuse.py` for some seconds. Meanwhile `ls` is
//! run over and over on the unix socket, the whole process of it, and must not once take longer than it may; behind each the
//! master's memory and descriptors are read. Then what 200 readers of events cost that have nothing to read.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use support::sandbox::Options;
use support::{Sandbox, apps};

const WORKERS: usize = 32;
/// How long each abuse goes on at its height.
const SECONDS: u64 = 5;
/// The slowest `ls` meanwhile.
const BOUND: Duration = Duration::from_millis(50);
/// Rolls of all workers cost `ls` more than that by themselves; with unread streams beside them its median is at most so many
/// times as long.
const BESIDE: f64 = 1.5;
/// Readers of events that are idle, and for how long the master is looked at: two heartbeats.
const READERS: (u64, u64) = (200, 40);
/// What they may cost in that time beside what it takes without them, clock ticks of 10 ms.
const TICKS: u64 = 5;
const ABUSES: [&str; 14] = [
    "nothing",
    "half-open",
    "slow-head",
    "slow-body",
    "slow-reader",
    "wrong-tokens",
    "streams",
    "rolls",
    "streams-in-rolls",
    "pipelined",
    "pipelined-workers",
    "strange",
    "early",
    "flood",
];

fn main() -> Result<(), String> {
    let sandbox = Sandbox::start_with(Options { shown: vec![apps::go()], ..Options::default() });
    let config = format!(
        "[apps.api]\nworkers = {WORKERS}\ncommand = \"/usr/local/bin/hello-go 3000\"\nlisten = 3000\nreload = {{ min_ready = \"10ms\", max_surge = \"50%\" }}\n"
    );
    sandbox.write("/etc/project-cluster/cluster.toml", config);
    sandbox.run_within(Duration::from_secs(120), &["project-cluster", "install", "--now"]).ok();
    let master = sandbox.main_pid("project-cluster.service").ok_or("no master")?;
    println!(
        "| abuse | `ls` runs | median | worst | at most {BOUND:?} | what the abuser saw | master's own memory behind it | descriptors |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let only: Vec<String> = std::env::args().skip(1).collect();
    let asked = |name: &str| only.is_empty() || only.iter().any(|word| word == name);
    let mut rolls: Option<Duration> = None;
    for name in ABUSES.into_iter().filter(|name| asked(name)) {
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
        let judged = |met: bool| if met { "met" } else { "**missed**" };
        let verdict = match name {
            "rolls" => {
                rolls = Some(median);
                "told"
            }
            "streams-in-rolls" => rolls.map_or("told", |rolls| judged(median.as_secs_f64() <= BESIDE * rolls.as_secs_f64())),
            _ => judged(worst <= BOUND),
        };
        let descriptors = sandbox.sh(&format!("ls /proc/{master}/fd | wc -l")).ok();
        println!(
            "| {name} | {} | {median:.1?} | {worst:.1?} | {} | {} | {} KiB | {descriptors} |",
            times.len(),
            verdict,
            said.lines().last().unwrap_or_default().replace('|', " "),
            memory(&sandbox, master)
        );
    }
    if asked("readers") {
        println!("\n{}", idle(&sandbox, master)?);
    }
    Ok(())
}

/// What readers cost that have nothing to read: the processor's time and the memory of the master, with them and without.
fn idle(sandbox: &Sandbox, master: i32) -> Result<String, String> {
    let (count, seconds) = READERS;
    let look = || {
        let before = ticks(sandbox, master);
        std::thread::sleep(Duration::from_secs(seconds));
        (ticks(sandbox, master) - before, memory(sandbox, master))
    };
    let without = look();
    let mut readers = sandbox.spawn(&["python3", "/srv/apps/abuse.py", "readers", &(seconds + 10).to_string()]);
    let begun = Instant::now();
    while !readers.stdout().contains("begun") && readers.runs() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let with = look();
    readers.try_wait(Duration::from_secs(60)).ok_or("the readers do not end")?.ok();
    let verdict = if with.0 <= without.0 + TICKS { "met" } else { "**missed**" };
    Ok(format!(
        "{count} readers of events for {seconds} s in which nothing happens: {} clock ticks of the master, {} without them (at most {TICKS} more) {verdict}; its own memory {} KiB, {} KiB without",
        with.0, without.0, with.1, without.1
    ))
}

/// Clock ticks of the processor that a process has used.
fn ticks(sandbox: &Sandbox, process: i32) -> u64 {
    let stat = sandbox.read(format!("/proc/{process}/stat"));
    // Behind the name, which may hold blanks: its fields from the third on.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum()
}

/// A process's own memory, KiB.
fn memory(sandbox: &Sandbox, process: i32) -> u64 {
    let rollup = sandbox.read(format!("/proc/{process}/smaps_rollup"));
    let line = rollup.lines().find(|line| line.starts_with("Private_Dirty:"));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|text| text.parse().ok()).unwrap_or(0)
}
