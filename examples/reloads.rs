//! Reloads under wrk: plain Node, static Go and Python asyncio, 4 workers each on one port, a new connection a request.
//! `make bench`. As root. Prints a table: requests, failed, the listening socket before and after.
//!
//! Nothing of these servers handles SIGTERM, so what is in flight in a worker when it goes is lost: that figure is shown
//! and not judged. That the socket stays the same and no connection is refused is judged.

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use support::sandbox::Options;
use support::{Sandbox, apps};

const SERVERS: [(&str, &str); 3] = [
    ("Node, listen(3000)", "node /srv/apps/hello.js 3000"),
    ("Go net/http, static", "/usr/local/bin/hello-go 3000"),
    ("Python asyncio", "python3 /srv/apps/hello_asyncio.py 3000"),
];
const RELOADS: u32 = 3;
const CONNECTIONS: u32 = 32;

fn main() -> Result<(), String> {
    println!("| server | reloads | each took | requests | failed to connect | other failures | socket before | after |");
    println!("|---|---|---|---|---|---|---|---|");
    for (name, command) in SERVERS {
        let sandbox = Sandbox::start_with(Options { shown: vec![apps::go()], ..Options::default() });
        let config = format!("[apps.api]\nworkers = 4\ncommand = \"{command}\"\nlisten = 3000\n");
        sandbox.write("/etc/project-cluster/cluster.toml", config);
        sandbox.run_within(Duration::from_secs(120), &["project-cluster", "install", "--now"]).ok();
        sandbox.wait_for_http("127.0.0.1:3000");
        let inode = || sandbox.sh("ss -Hltne 'sport = :3000' | grep -o 'ino:[0-9]*'").ok();
        let before = inode();
        // Ended by SIGINT after the last reload: then it prints its sums.
        let netns = format!("--net={}", sandbox.netns().display());
        let connections = format!("-c{CONNECTIONS}");
        let wrk = Command::new("nsenter")
            .args([&netns, "wrk", "-t1", &connections, "-d600", "-H", "Connection: close", "http://127.0.0.1:3000/"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .map_err(|why| format!("cannot run nsenter: {why}"))?;
        let mut took = Vec::new();
        for _ in 0..RELOADS {
            let begin = Instant::now();
            sandbox.run_within(Duration::from_secs(120), &["systemctl", "reload", "project-cluster@api"]).ok();
            took.push(begin.elapsed());
        }
        let after = inode();
        // nsenter has become wrk: its PID is the one to interrupt.
        let pid = i32::try_from(wrk.id()).map_err(|why| why.to_string())?;
        Command::new("kill").args(["-INT", &pid.to_string()]).status().map_err(|why| why.to_string())?;
        let output = wrk.wait_with_output().map_err(|why| why.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let requests = text.lines().find_map(|line| line.split_once(" requests in ")).map_or("?", |(count, _)| count.trim());
        // `Socket errors: connect 0, read 12, write 0, timeout 0`; no such line when there was none.
        let errors =
            text.lines().find_map(|line| line.trim().strip_prefix("Socket errors: ")).unwrap_or("connect 0, read 0, write 0, timeout 0");
        let (refused, others) = errors.split_once(", ").unwrap_or((errors, ""));
        took.sort_unstable();
        println!(
            "| {name} | {RELOADS} | {:.1} s | {requests} | {refused} | {others} | {before} | {after} |",
            took[took.len() / 2].as_secs_f64()
        );
        if before != after || refused != "connect 0" {
            return Err(format!("{name}: the port was not the same all the while:\n{text}"));
        }
    }
    Ok(())
}
