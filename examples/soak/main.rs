//! The soak: plain Node, Go, asyncio and axum servers that are reloaded again and again under load, one fault every half a
//! minute. `make soak`, as root; SOAK_SECONDS, REPLACEMENTS and REQUESTS are how long at least.
//!
//! It fails when a request fails, is executed twice or is answered with anything but its own answer, when a reload fails, or
//! when descriptors, memory and units are not at the end what they were at the start.

#[path = "../../tests/support/mod.rs"]
mod support;

mod clients;
mod faults;
mod report;
mod resources;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clients::Clients;
use resources::Resources;
use support::evidence;
use support::sandbox::Options;
use support::{Sandbox, apps};

/// What is reloaded: name, port, command.
const APPS: [(&str, u16, &str); 4] = [
    ("node", 3000, "node /srv/apps/echo/echo.js 3000"),
    ("go", 3001, "hello-go 3001"),
    ("asyncio", 3002, "python3 /srv/apps/echo/echo_asyncio.py 3002"),
    ("axum", 3003, "echo-axum 3003"),
];

/// Of each app.
const WORKERS: u64 = 4;

/// How long a reload may take before it counts as failed: four starts and drains on a busy machine, and a fault.
const RELOAD_LIMIT: Duration = Duration::from_secs(180);

/// How long at least.
#[derive(Clone, Copy)]
struct Length {
    time: Duration,
    replacements: u64,
    requests: u64,
}

impl Length {
    /// What the environment says; a committed report wants the default.
    fn wanted() -> Result<Self, String> {
        let number = |name: &str| match std::env::var(name) {
            Ok(text) if !text.is_empty() => text.parse::<u64>().map(Some).map_err(|why| format!("{name}={text}: {why}")),
            _ => Ok(None),
        };
        let [seconds, replacements, requests] = [number("SOAK_SECONDS")?, number("REPLACEMENTS")?, number("REQUESTS")?];
        let full = seconds.is_none() && replacements.is_none() && requests.is_none();
        let or = |given: Option<u64>, default: u64| given.unwrap_or(if full { default } else { 0 });
        Ok(Self {
            time: Duration::from_secs(seconds.unwrap_or(0)),
            replacements: or(replacements, 1_000),
            requests: or(requests, 5_000_000),
        })
    }
}

fn main() -> ExitCode {
    let length = match Length::wanted() {
        Ok(length) => length,
        Err(why) => {
            eprintln!("soak: {why}");
            return ExitCode::from(2);
        }
    };
    let sandbox = Sandbox::start_with(Options { shown: vec![apps::go(), axum()], ..Options::default() });
    let told = soak(&sandbox, length);
    println!("{}", told.text());
    let wrong = told.wrong();
    if wrong.is_empty() {
        return ExitCode::SUCCESS;
    }
    evidence::gather(&sandbox);
    wrong.iter().for_each(|line| eprintln!("soak: {line}"));
    ExitCode::FAILURE
}

/// The axum server of `examples/`, and where it lies inside.
fn axum() -> (std::path::PathBuf, std::path::PathBuf) {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    (evidence::target().join(profile).join("examples/echo_axum"), "/usr/local/bin/echo-axum".into())
}

fn configuration() -> String {
    let app = |(name, port, command): (&str, u16, &str)| {
        format!(
            "[apps.{name}]\nworkers = {WORKERS}\ncommand = \"{command}\"\ncwd = \"/srv\"\nlisten = {{ address = {port}, backlog = 4096 }}\nreload.min_ready = \"200ms\"\n"
        )
    };
    APPS.map(app).concat()
}

fn soak(sandbox: &Sandbox, length: Length) -> report::Told {
    sandbox.write("/etc/project-cluster/cluster.toml", configuration());
    sandbox.run_within(RELOAD_LIMIT, &["project-cluster", "install", "--now"]).ok();
    let mut told = report::Told::new(APPS.map(|(name, ..)| name));
    // Before the count: what is allocated for the first time is no leak, and neither are the releases that are kept.
    let warm = Clients::start(sandbox);
    (0..7).for_each(|_| APPS.iter().for_each(|(name, ..)| reload(sandbox, name, &mut told)));
    // Processes count on from there.
    let warm = warm.stop();
    told.replaced = 0;
    let before = Resources::of(sandbox);
    let begun = Instant::now();
    let (clients, over) = (Clients::start(sandbox), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let faults = scope.spawn(|| faults::play(sandbox, &over, begun));
        let mut told_at = Instant::now();
        let enough = |told: &report::Told| {
            begun.elapsed() >= length.time && told.replaced >= length.replacements && clients.sent() >= length.requests
        };
        while !enough(&told) && told.failed_reloads.is_empty() {
            APPS.iter().for_each(|(name, ..)| reload(sandbox, name, &mut told));
            if told_at.elapsed() > Duration::from_secs(30) {
                told_at = Instant::now();
                eprintln!("soak: {:.0} s, {} workers replaced, {}", begun.elapsed().as_secs_f64(), told.replaced, clients.so_far());
            }
        }
        over.store(true, Ordering::Relaxed);
        told.faults = faults.join().unwrap_or_else(|_| vec!["the faults' thread panicked: see above".to_owned()]);
    });
    told.sums = clients.stop();
    told.sums.iter_mut().zip(&warm).for_each(|(sum, more)| sum.add(more));
    told.took = begun.elapsed();
    // The last old workers are on their way.
    support::wait_until("nobody is on the way down", RELOAD_LIMIT, || {
        sandbox.units("project-cluster-*@*.service", &["deactivating", "activating"]).is_empty()
    });
    told.resources = Some((before, Resources::settled(sandbox, &before)));
    told
}

/// One reload of an app, from its begin to its end.
fn reload(sandbox: &Sandbox, app: &str, told: &mut report::Told) {
    let output = sandbox.spawn(&["project-cluster", "reload", app]).try_wait(RELOAD_LIMIT);
    match output {
        Some(output) if output.code == 0 => told.replaced += WORKERS,
        Some(output) => told.failed_reloads.push(format!("{app}: exit {}: {}", output.code, output.stderr.trim())),
        None => told.failed_reloads.push(format!("{app}: it did not end within {RELOAD_LIMIT:?}")),
    }
}
