//! The demo: a cluster in a throw-away systemd, under load, through a deploy, the master's death and a broken deploy.
//! `make demo`, as root; `make demo KEEP=1` leaves it running.

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use support::load::Load;
use support::sandbox::{Options, keep_wanted};
use support::{Output, Report, Sandbox, wait_for};

const SHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/shop");
const ADDRESS: &str = "127.0.0.1:3000";

/// Answers that must have come in before an act goes on: enough to see the load, a fraction of a second's worth.
const ANSWERS: u64 = 500;

/// Reports that are being written when the deploy begins.
const SLOW: usize = 8;

/// For a reload of four workers, each watched for a second before the next.
const RELOAD_LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let started = Instant::now();
    let mut sandbox = Sandbox::start_with(Options::default());
    title(format_args!("A throw-away systemd {} is up in {:.0?}", version(&sandbox), sandbox.boot_took()));
    let result = play(&sandbox);
    let code = match &result {
        Ok(()) => {
            title(format_args!("Done in {:.0?}", started.elapsed()));
            ExitCode::SUCCESS
        }
        Err(why) => {
            support::evidence::gather(&sandbox);
            title(format_args!("The demo failed: {why}"));
            ExitCode::FAILURE
        }
    };
    if keep_wanted() {
        println!("It lives on.\n{}", sandbox.keep());
    }
    code
}

fn play(sandbox: &Sandbox) -> Result<(), String> {
    install(sandbox)?;
    let load = sandbox.load(ADDRESS).connections(8).pause(Duration::from_millis(2)).start();
    load.wait_for_answers(ANSWERS);
    deploy(sandbox, &load)?;
    kill_the_master(sandbox, &load)?;
    break_a_deploy(sandbox, &load)?;
    show(sandbox, &["project-cluster", "ls"])?;
    let report = load.stop();
    println!("\n  {report}");
    Ok(())
}

/// Act 1: one file, one command.
fn install(sandbox: &Sandbox) -> Result<(), String> {
    title("One file describes the cluster, one command starts it");
    copy(sandbox, Path::new(SHOP), "/srv/shop").map_err(|error| format!("cannot copy the shop: {error}"))?;
    release(sandbox, "1");
    let config =
        std::fs::read_to_string(format!("{SHOP}/cluster.toml")).map_err(|error| format!("cannot read the shop's cluster.toml: {error}"))?;
    println!("{}", indent(&config));
    sandbox.write("/etc/project-cluster/cluster.toml", config);
    show(sandbox, &["project-cluster", "install", "--now"])?;
    let answer = sandbox.wait_for_http(ADDRESS);
    println!("  GET / says {:?}", answer.body.trim());
    show(sandbox, &["project-cluster", "ls"]).map(drop)
}

/// Act 2: version 2 under load, and while reports are written that take three seconds each.
fn deploy(sandbox: &Sandbox, load: &Load) -> Result<(), String> {
    title("Deploy version 2 with `systemctl reload`, under load");
    let socket = listener(sandbox)?;
    let old = workers(sandbox);
    release(sandbox, "2");
    let slow = sandbox.load(ADDRESS).connections(SLOW).path("/report").start();
    wait_for("all reports are asked for", Duration::from_secs(30), || (slow.so_far().connections >= SLOW as u64).then_some(()));
    println!("  {SLOW} clients have asked for /report, which takes 3 s, and the reload begins:");
    reload(sandbox, load).success().then_some(()).ok_or("the reload failed")?;
    load.wait_for_body("v2 ");
    slow.wait_for_body("v2 ");
    let after = listener(sandbox)?;
    println!("  the listening socket's inode: {socket} before, {after} after");
    if socket != after {
        return Err("the listening socket is not the same".into());
    }
    let slow = slow.stop();
    let by_old: u64 = slow.pids().iter().filter(|(pid, _)| old.values().any(|old| old.to_string() == **pid)).map(|(_, count)| count).sum();
    println!(
        "  reports: {} asked for, {} answered, {by_old} of them by version 1, whose workers have left; {} failed",
        slow.sent,
        slow.ok,
        slow.failed()
    );
    println!("  the others: {}", load.so_far());
    unharmed(&slow, 0)?;
    unharmed(&load.so_far(), 0)
}

/// Act 3: the master is not needed.
fn kill_the_master(sandbox: &Sandbox, load: &Load) -> Result<(), String> {
    title("Kill the master");
    let master = "project-cluster.service";
    let (workers, failed) = (workers(sandbox), load.so_far().failed());
    let before = sandbox.main_pid(master).ok_or("the master does not run")?;
    sandbox.kill(before, "KILL");
    let after = wait_for("another master runs", Duration::from_secs(30), || {
        sandbox.main_pid(master).filter(|&pid| pid != before && sandbox.state(master) == "active")
    });
    load.wait_for_answers(ANSWERS);
    println!("  the master was {before}, is {after}; the workers' processes are {:?}", workers.values().collect::<Vec<_>>());
    if self::workers(sandbox) != workers {
        return Err("the workers are not the same".into());
    }
    show(sandbox, &["project-cluster", "ls"])?;
    unharmed(&load.so_far(), failed)
}

/// Act 4: a version that cannot start.
fn break_a_deploy(sandbox: &Sandbox, load: &Load) -> Result<(), String> {
    title("Deploy a version that cannot start");
    let (workers, failed, mark) = (workers(sandbox), load.so_far().failed(), sandbox.journal_mark());
    release(sandbox, "broken");
    let output = reload(sandbox, load);
    if output.success() {
        return Err("the reload of a version that cannot start succeeded".into());
    }
    println!("  systemctl exits with {}; why:", output.code);
    println!("{}", indent(&sandbox.journal(&["--since", &mark, "-u", "project-cluster@api", "-n", "20", "-o", "cat"])));
    load.wait_for_answers(ANSWERS);
    if self::workers(sandbox) != workers {
        return Err("the old workers were touched".into());
    }
    unharmed(&load.so_far(), failed)
}

/// Points the shop at a release in one step.
fn release(sandbox: &Sandbox, name: &str) {
    sandbox.sh(&format!("cd /srv/shop; ln -sfn releases/{name} current.new; mv -T current.new current")).ok();
}

/// Reloads as an administrator would, and tells what changes meanwhile.
fn reload(sandbox: &Sandbox, load: &Load) -> Output {
    println!("  # systemctl reload project-cluster@api");
    let started = Instant::now();
    let mut running = sandbox.spawn(&["systemctl", "reload", "project-cluster@api"]);
    let mut shown = String::new();
    loop {
        let ended = running.try_wait(Duration::from_millis(100));
        let states = states(sandbox);
        if states != shown {
            let counts: Vec<String> = load.so_far().versions().iter().map(|(version, count)| format!("{version} {count}")).collect();
            println!("  {:>5.1} s  {states:60}  answered: {}", started.elapsed().as_secs_f64(), counts.join(", "));
            shown = states;
        }
        if let Some(output) = ended {
            println!("  it returned {} after {:.1} s", output.code, output.took.as_secs_f64());
            return output;
        }
        assert!(started.elapsed() < RELOAD_LIMIT, "the reload did not end within {RELOAD_LIMIT:?}");
    }
}

/// The workers and what systemd says of each: `1.1.1 active, 1.2.1 activating`.
fn states(sandbox: &Sandbox) -> String {
    let listed = sandbox.systemctl(&["list-units", "--all", "--plain", "--no-legend", "--full", "project-cluster-api@*.service"]).ok();
    let one = |line: &str| {
        let mut words = line.split_whitespace();
        let instance = words.next()?.split_once('@')?.1.strip_suffix(".service")?.to_owned();
        Some(format!("{instance} {}", words.nth(1)?))
    };
    listed.lines().filter_map(one).collect::<Vec<_>>().join(", ")
}

/// The active workers and their main processes.
fn workers(sandbox: &Sandbox) -> BTreeMap<String, i32> {
    let units = sandbox.units("project-cluster-api@*.service", &["active"]);
    units.into_iter().filter_map(|unit| sandbox.main_pid(&unit).map(|pid| (unit, pid))).collect()
}

/// Inode of the socket that listens on the shop's port.
fn listener(sandbox: &Sandbox) -> Result<String, String> {
    const LISTENS: &str = "0A";
    let table = sandbox.read("/proc/net/tcp");
    // The columns of /proc/net/tcp: number, local address, remote address, state, ..., inode the tenth.
    let columns = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found = columns.into_iter().find(|row| row.len() > 9 && row[1].ends_with(":0BB8") && row[3] == LISTENS);
    found.map(|row| row[9].to_owned()).ok_or_else(|| "nobody listens on port 3000".into())
}

/// Whether no more requests failed than had before.
fn unharmed(report: &Report, before: u64) -> Result<(), String> {
    if report.failed() == before { Ok(()) } else { Err(format!("requests failed: {report}; the first ones: {:?}", report.samples)) }
}

/// Runs a command and shows it with what it wrote.
fn show(sandbox: &Sandbox, command: &[&str]) -> Result<Output, String> {
    println!("  # {}", command.join(" "));
    let output = sandbox.run(command);
    print!("{}", indent(&output.stdout));
    if output.success() { Ok(output) } else { Err(format!("`{}` exited with {}:\n{}", output.command, output.code, output.stderr)) }
}

fn copy(sandbox: &Sandbox, from: &Path, to: &str) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = format!("{to}/{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(sandbox, &entry.path(), &to)?;
        } else if kind.is_file() {
            sandbox.write(&to, std::fs::read(entry.path())?);
        }
    }
    Ok(())
}

fn version(sandbox: &Sandbox) -> String {
    let text = sandbox.systemctl(&["--version"]).ok();
    text.split_whitespace().nth(1).unwrap_or("of unknown version").to_owned()
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

fn title(text: impl Display) {
    println!("\n== {text}");
}
