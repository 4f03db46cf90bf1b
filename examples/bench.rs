//! Figures: `make bench`. As root.
//!
//! Of the ground that the tests stand on: how long a throw-away systemd takes to boot, and whether the tests' load generator
//! keeps up with `wrk`. Of the product: what `worker prepare` and `worker exec` add to the start of a plain unit, how long a
//! start takes until `worker ready` has seen the app listen, and the memory of a bind supervisor. `figures` has the rest.

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::Command;
use std::time::Duration;

use support::Sandbox;

const BOOTS: usize = 10;
const SECONDS: u64 = 5;

fn main() -> Result<(), String> {
    ground()?;
    starts()
}

fn ground() -> Result<(), String> {
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

/// Starts of each kind that a median is taken of.
const STARTS: usize = 20;

/// Two apps: one that ends at once, so that its end is the end of what comes before it, and a server that starts quickly.
const CLUSTER: &str = r#"
[apps.ends]
command = "/bin/true"
listen = "127.0.0.1:3000"
workers = 0

[apps.serves]
command = "hello-go 3001"
listen = 3001
workers = 0
"#;

/// The worker's unit as one that systemd itself sees to the end of.
const ONESHOT: &str = "[Service]\nType=oneshot\nRemainAfterExit=yes\nRestart=no\nExecStartPost=\n";

/// What a worker's start costs, its units started by turns with plain ones in one sandbox. All times are systemd's own.
fn starts() -> Result<(), String> {
    let sandbox = Sandbox::start_with(support::sandbox::Options { shown: vec![support::apps::go()], ..Default::default() });
    sandbox.write("/etc/project-cluster/cluster.toml", CLUSTER);
    sandbox.run(&["project-cluster", "install"]).ok();
    let text = sandbox.read("/etc/systemd/system/project-cluster-ends@.service");
    // The same unit without us; and with a first step that does nothing, which systemd takes its time for as well.
    let directives = |pre: &str| -> String {
        let own = ["ExecStart", "Type=", "Restart=", "RuntimeDirectory="];
        let kept = text.lines().filter(|line| !own.iter().any(|own| line.starts_with(own)));
        let kept = kept.collect::<Vec<_>>().join("\n");
        format!("{kept}\n[Service]\nType=oneshot\nRemainAfterExit=yes\nRuntimeDirectory=plain/%i\n{pre}ExecStart=/bin/true\n")
    };
    sandbox.write("/etc/systemd/system/plain@.service", directives(""));
    sandbox.write("/etc/systemd/system/step@.service", directives("ExecStartPre=+/bin/true\n"));
    sandbox.write("/etc/systemd/system/project-cluster-ends@.service.d/oneshot.conf", ONESHOT);
    // The server in a plain unit, which is active as soon as the program runs, with a last step that does nothing.
    let text = sandbox.read("/etc/systemd/system/project-cluster-serves@.service");
    let kept = text.lines().filter(|line| !["ExecStart", "RuntimeDirectory="].iter().any(|own| line.starts_with(own)));
    let kept = kept.collect::<Vec<_>>().join("\n");
    let more = "[Service]\nRuntimeDirectory=served/%i\nExecStart=/usr/local/bin/hello-go 3002\nExecStartPost=+/bin/true\n";
    sandbox.write("/etc/systemd/system/served@.service", format!("{kept}\n{more}"));
    sandbox.systemctl(&["daemon-reload"]).ok();
    sandbox.systemctl(&["start", "project-cluster-ends-127.0.0.1:3000.socket", "project-cluster-serves-:::3001.socket"]).ok();
    let took = |unit: &str, end: &str| -> Result<Duration, String> {
        sandbox.systemctl(&["start", unit]).ok();
        let stamp = |property: &str| sandbox.property(unit, property).parse::<u64>().map_err(|why| format!("{unit}, {property}: {why}"));
        let took = stamp(end)?.checked_sub(stamp("InactiveExitTimestampMonotonic")?).ok_or("it ended before it began")?;
        sandbox.systemctl(&["stop", unit]).ok();
        Ok(Duration::from_micros(took))
    };
    let kinds = ["plain@", "step@", "project-cluster-ends@"];
    let mut times = kinds.map(|_| Vec::new());
    let (mut ready, mut active) = (Vec::new(), Vec::new());
    // The first of a generation makes its pin; those that count find it, as nearly all do.
    for number in 0..=STARTS {
        for (times, kind) in times.iter_mut().zip(kinds) {
            let time = took(&format!("{kind}1.1.{}.service", number + 1), "ExecMainExitTimestampMonotonic")?;
            if number > 0 {
                times.push(time);
            }
        }
        let end = "ActiveEnterTimestampMonotonic";
        ready.push(took(&format!("project-cluster-serves@1.1.{}.service", number + 1), end)?);
        active.push(took(&format!("served@1.1.{}.service", number + 1), end)?);
    }
    // Differences turn by turn, since a busy machine changes its speed between turns.
    let more = |kind: usize| times[kind].iter().zip(&times[0]).map(|(time, plain)| time.saturating_sub(*plain)).collect::<Vec<_>>();
    let (step, worker) = (median(more(1)), median(more(2)));
    let fastest = times.each_ref().map(|times| times.iter().min().copied().unwrap_or_default());
    println!("start of a plain unit, {STARTS} by turns: median {:?}, fastest {:?}", median(times[0].clone()), fastest[0]);
    println!("an empty root step before it costs: median {step:?}; fastest start {:?}", fastest[1]);
    println!("prepare and exec cost: median {worker:?} (at most 12 ms); fastest start {:?}", fastest[2]);
    println!(
        "start of a Go server until it is seen to listen: median {:?}; plain, until its program runs, and an empty root step: {:?}",
        median(ready),
        median(active)
    );
    // Four share the pages of our program, as in any cluster; what is anonymous is each one's own.
    let units: Vec<String> = (1..=4).map(|slot| format!("project-cluster-serves@{slot}.1.1.service")).collect();
    let mut memory = [("Pss:", Vec::new()), ("Pss_Anon:", Vec::new())];
    for unit in &units {
        sandbox.systemctl(&["start", unit]).ok();
    }
    for pid in units.iter().flat_map(|unit| sandbox.pids_of_unit(unit)) {
        if sandbox.read(format!("/proc/{pid}/comm")).starts_with("pc-swap") {
            let text = sandbox.read(format!("/proc/{pid}/smaps_rollup"));
            for (key, values) in &mut memory {
                let value = text.lines().find_map(|line| line.strip_prefix(*key)).ok_or_else(|| format!("no {key} in smaps_rollup"))?;
                values.push(value.trim().to_owned());
            }
        }
    }
    for (key, values) in memory {
        println!("bind supervisors of 4 workers and their watchers, {key} {}", values.join(", "));
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2
}
