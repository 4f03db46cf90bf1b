//! Figures of the ground that the tests stand on: `make bench`. As root.
//!
//! How long a throw-away systemd takes to boot, and whether the tests' load generator keeps up with `wrk`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::Command;
use std::time::Duration;

use support::Sandbox;

const BOOTS: usize = 10;
const SECONDS: u64 = 5;

fn main() -> Result<(), String> {
    let mut boots: Vec<Duration> = (0..BOOTS).map(|_| Sandbox::start().boot_took()).collect();
    boots.sort_unstable();
    println!("boot of a sandbox, {BOOTS} times: median {:?}, slowest {:?}", (boots[4] + boots[5]) / 2, boots[BOOTS - 1]);

    let sandbox = Sandbox::start();
    sandbox.sh("systemd-run -q -u hello node /srv/apps/hello.js 3000").ok();
    sandbox.wait_for_http("127.0.0.1:3000");
    for (name, keep, header) in [("a new connection a request", false, "Connection: close"), ("keep-alive", true, "Connection: keep-alive")]
    {
        let load = sandbox.load("127.0.0.1:3000").connections(8);
        let load = if keep { load.keep_alive() } else { load }.start();
        std::thread::sleep(Duration::from_secs(SECONDS));
        let report = load.stop();
        println!("load, {name}: {:.0} requests a second; {report}", rate(report.ok));
        // wrk lies on the machine: of the sandbox it gets the network alone.
        let netns = format!("--net={}", sandbox.netns().display());
        let wrk = Command::new("nsenter")
            .args([&netns, "wrk", "-t1", "-c8", &format!("-d{SECONDS}s"), "-H", header, "http://127.0.0.1:3000/"])
            .output()
            .map_err(|error| format!("cannot run nsenter: {error}"))?;
        let text = String::from_utf8_lossy(&wrk.stdout).into_owned();
        let line = text.lines().find(|line| line.starts_with("Requests/sec")).ok_or_else(|| format!("wrk says: {text}"))?;
        println!("wrk -c8, {name}: {} requests a second", line.trim_start_matches("Requests/sec:").trim());
    }
    Ok(())
}

fn rate(answers: u64) -> f64 {
    let answers = u32::try_from(answers).unwrap_or(u32::MAX);
    f64::from(answers) / Duration::from_secs(SECONDS).as_secs_f64()
}
