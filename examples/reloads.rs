//! Reloads under wrk: plain Node, Go, asyncio and axum with handlers of 0, 20 and 200 ms, 64 connections, a new one a request.
//! `make bench`, as root; `RELOADS` in the environment says how many reloads each lives through, names as arguments which servers.
//!
//! Nothing of these servers handles SIGTERM. Beside each stands the same with `drain = 0`, which gets SIGTERM at once: what it
//! loses under the same load is what the other does not. Then servers that are graceful by themselves, under busy keep-alive, which
//! is told and not judged.
//! With neither reloads nor names said it writes its part of docs/benchmarks.md; it fails when a drained server lost a request.

#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::sandbox::Options;
use support::{Sandbox, apps, documents};

/// A server: its name, its command with `PORT` where its port belongs, and what else its app says.
type Server = (&'static str, &'static str, &'static str);

const PLAIN: [Server; 4] = [
    ("Node", "node /srv/apps/hello.js PORT", ""),
    ("Go net/http", "/usr/local/bin/hello-go PORT", ""),
    ("asyncio", "python3 /srv/apps/hello_asyncio.py PORT", ""),
    ("axum", "/usr/local/bin/hello-axum PORT", ""),
];
const GRACEFUL: [Server; 2] = [
    ("Go, Shutdown", "/usr/local/bin/hello-go PORT", "env = { GRACEFUL = \"0\" }"),
    (
        "uvicorn",
        "python3 -m uvicorn --app-dir /srv/apps hello_asgi:app --host 0.0.0.0 --port PORT --no-access-log",
        "env = { PYTHONPATH = \"/usr/local/lib/uvicorn\" }",
    ),
];
/// Whose the losses of the graceful ones are.
const OWN: &str = "\
Graceful by themselves (`drain_by = \"self\"`), under the same load on connections that stay busy. Beside each the same server
alone, without this program, that gets SIGTERM under that load, nine times. What fails is a request that a client sends as its connection is
closed: Go's `Shutdown` closes connections that are idle at that moment and announces no end to them, uvicorn closes behind an answer without
`Connection: close`. Clients repeat such requests where they may; wrk does not.";

const HANDLERS_MS: [u32; 3] = [0, 20, 200];
const CONNECTIONS: u32 = 64;
const WORKERS: usize = 2;
const RELOADS: u32 = 50;
/// How often a graceful server ends alone: how many connections it breaks differs a lot from time to time.
const ALONE: u32 = 9;
const LIMIT: Duration = Duration::from_secs(120);

/// The two apps of a sandbox, by their ports.
const DRAINED: u16 = 3000;
const NAIVE: u16 = 3001;

fn main() -> Result<(), String> {
    let told = std::env::var("RELOADS").ok().filter(|text| !text.is_empty());
    let reloads = match &told {
        Some(text) => text.parse().map_err(|why| format!("RELOADS is `{text}`: {why}"))?,
        None => RELOADS,
    };
    // Enough to show what is lost.
    let naive_reloads = reloads.div_ceil(5);
    let only: Vec<String> = std::env::args().skip(1).collect();
    let asked = |name: &str| only.is_empty() || only.iter().any(|word| name.starts_with(word.as_str()));
    let mut page = String::new();
    let mut lost = Vec::new();
    let mut tell = |line: String| {
        println!("{line}");
        // Writing to a string cannot fail.
        let _ = writeln!(page, "{line}");
    };
    tell(format!(
        "{} of `{}`: {WORKERS} workers, all replaced in each of {reloads} reloads (the naive one with `drain = 0`: {naive_reloads}), `wrk -t1 \
         -c{CONNECTIONS}`, a new connection a request.",
        said("date", &["-u", "+%F %H:%M"]),
        said("git", &["rev-parse", "--short", "HEAD"]),
    ));
    tell(String::new());
    tell("| server | handler | drained: sent | failed | a reload took | naive: sent | failed | a reload took | same socket |".into());
    tell("|---|---|---|---|---|---|---|---|---|".into());
    for server in PLAIN.iter().filter(|server| asked(server.0)) {
        for ms in HANDLERS_MS {
            let sandbox = cluster(server, "drain = \"30s\"", "drain = \"0s\"")?;
            let path = if ms == 0 { "/".to_owned() } else { format!("/sleep/{ms}") };
            let drained = reloaded(&sandbox, "api", DRAINED, &path, "close", reloads)?;
            let naive = reloaded(&sandbox, "naive", NAIVE, &path, "close", naive_reloads)?;
            let same = if drained.same_socket && naive.same_socket { "yes" } else { "**no**" };
            tell(format!("| {} | {ms} ms | {} | {} | {same} |", server.0, drained.cells(), naive.cells()));
            if drained.failed > 0 || !drained.same_socket {
                lost.push(format!("{}, {ms} ms: {}\n{}", server.0, drained.cells(), drained.said));
            }
        }
    }
    tell(String::new());
    tell(OWN.into());
    tell(String::new());
    tell(
        "| server | handler | sent | failed | a reload took | of what kind | for each reload and connection | alone, for each SIGTERM and connection |"
            .into(),
    );
    tell("|---|---|---|---|---|---|---|---|".into());
    for server in GRACEFUL.iter().filter(|server| asked(server.0)) {
        for ms in [0, 20] {
            let sandbox = cluster(server, "drain_by = \"self\"", "drain_by = \"self\"")?;
            let path = if ms == 0 { "/".to_owned() } else { format!("/sleep/{ms}") };
            let end = reloaded(&sandbox, "api", DRAINED, &path, "keep-alive", reloads)?;
            let broken = (0..ALONE).map(|_| alone(&sandbox, server, &path)).collect::<Result<Vec<_>, _>>()?;
            let share = end.failed as f64 / f64::from(reloads * CONNECTIONS);
            let alone = broken.iter().sum::<u64>() as f64 / f64::from(ALONE * CONNECTIONS);
            let (least, most) = (broken.iter().min().unwrap_or(&0), broken.iter().max().unwrap_or(&0));
            let alone = format!("{alone:.2} ({least} to {most} of {CONNECTIONS})");
            tell(format!("| {} | {ms} ms | {} | {} | {share:.2} | {alone} |", server.0, end.cells(), end.kinds));
        }
    }
    if told.is_none() && only.is_empty() {
        documents::replace("docs/benchmarks.md", "reloads", &page)?;
    }
    if lost.is_empty() { Ok(()) } else { Err(format!("requests were lost:\n{}", lost.join("\n"))) }
}

/// The first line of what a program says.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map_or_else(|_| "?".to_owned(), |output| String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or("?").to_owned())
}

/// The server twice, as `api` and as `naive`, with this of `[reload]` each.
fn cluster(server: &Server, api: &str, naive: &str) -> Result<Sandbox, String> {
    let mut shown = vec![apps::go(), apps::axum()];
    if server.2.contains("uvicorn") {
        shown.push(apps::uvicorn());
    }
    let sandbox = Sandbox::start_with(Options { shown, ..Options::default() });
    let app = |name: &str, port: u16, more: &str| {
        let (command, env) = (server.1.replace("PORT", &port.to_string()), server.2);
        format!(
            "[apps.{name}]\nworkers = {WORKERS}\ncommand = \"{command}\"\nlisten = {port}\n{env}\ntimeout.kill = \"5s\"\n\
             reload = {{ min_ready = \"100ms\", max_surge = \"100%\", {more} }}\n"
        )
    };
    sandbox.write("/etc/project-cluster/cluster.toml", app("api", DRAINED, api) + &app("naive", NAIVE, naive));
    sandbox.run_within(LIMIT, &["project-cluster", "install", "--now"]).ok();
    for port in [DRAINED, NAIVE] {
        sandbox.wait_for_http(&format!("127.0.0.1:{port}"));
    }
    Ok(sandbox)
}

/// What came of some reloads under load.
struct End {
    sent: u64,
    failed: u64,
    /// The failures, by what wrk calls them.
    kinds: String,
    /// The median of a reload.
    took: Duration,
    same_socket: bool,
    /// All that wrk said.
    said: String,
}

impl End {
    fn cells(&self) -> String {
        format!("{} | {} | {:.1} s", self.sent, self.failed, self.took.as_secs_f64())
    }
}

/// Reloads an app so often while wrk asks it.
fn reloaded(sandbox: &Sandbox, app: &str, port: u16, path: &str, connection: &str, reloads: u32) -> Result<End, String> {
    let inode = || sandbox.sh(&format!("ss -Hltne 'sport = :{port}' | grep -o 'ino:[0-9]*'")).ok();
    let before = inode();
    let wrk = wrk(sandbox, port, path, connection)?;
    let mut took = Vec::new();
    for _ in 0..reloads {
        let begin = Instant::now();
        sandbox.run_within(LIMIT, &["systemctl", "reload", &format!("project-cluster@{app}")]).ok();
        took.push(begin.elapsed());
    }
    // What retires behind the last reload belongs to it.
    sandbox.wait_until("the old ones are gone", LIMIT, || {
        let standing = sandbox.units(&format!("project-cluster-{app}@*.service"), &["active", "deactivating"]);
        standing.len() == WORKERS
    });
    let same_socket = inode() == before;
    let said = interrupted(wrk)?;
    let count = |begin: &str, line: &str| -> Option<u64> {
        let (_, rest) = line.split_once(begin)?;
        rest.trim_start_matches([' ', ':']).split(|ch: char| !ch.is_ascii_digit()).next()?.parse().ok()
    };
    let answered = said.lines().find_map(|line| line.split_once(" requests in ")?.0.trim().parse::<u64>().ok());
    let answered = answered.filter(|&count| count > 0).ok_or_else(|| format!("wrk got no answer: {said}"))?;
    let mut failed = 0;
    let mut kinds = Vec::new();
    // `Socket errors: connect 0, read 12, write 0, timeout 0`; no such line when there was none.
    for kind in ["connect", "read", "write", "timeout", "Non-2xx or 3xx responses"] {
        let line = said.lines().find(|line| line.contains("Socket errors:") == kind.starts_with(char::is_lowercase) && line.contains(kind));
        let some = line.and_then(|line| count(kind, line)).unwrap_or(0);
        if some > 0 {
            failed += some;
            kinds.push(format!("{kind} {some}"));
        }
    }
    took.sort_unstable();
    let kinds = if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") };
    // What is no 2xx is among the answers that wrk counts.
    Ok(End { sent: answered + failed, failed, kinds, took: took[took.len() / 2], same_socket, said })
}

/// How many of wrk's connections a server breaks that gets SIGTERM and is nobody's worker.
fn alone(sandbox: &Sandbox, server: &Server, path: &str) -> Result<u64, String> {
    const PORT: u16 = 3002;
    let command = server.1.replace("PORT", &PORT.to_string());
    sandbox.sh(&format!("systemd-run -q -u alone -p Environment='GRACEFUL=0 PYTHONPATH=/usr/local/lib/uvicorn' {command}")).ok();
    sandbox.wait_for_http(&format!("127.0.0.1:{PORT}"));
    let wrk = wrk(sandbox, PORT, path, "keep-alive")?;
    let open = || sandbox.sh(&format!("ss -Htn state established 'sport = :{PORT}' | wc -l")).ok().trim() == CONNECTIONS.to_string();
    sandbox.wait_until("all connections are there", LIMIT, open);
    sandbox.run_within(LIMIT, &["systemctl", "stop", "alone"]).ok();
    let said = interrupted(wrk)?;
    let line = said.lines().find(|line| line.contains("Socket errors:")).unwrap_or_default();
    Ok(line.split_once("read ").and_then(|(_, rest)| rest.split(',').next()?.parse().ok()).unwrap_or(0))
}

/// wrk lies on the machine: of the sandbox it gets the network alone.
fn wrk(sandbox: &Sandbox, port: u16, path: &str, connection: &str) -> Result<Child, String> {
    let netns = format!("--net={}", sandbox.netns().display());
    let (connections, header) = (format!("-c{CONNECTIONS}"), format!("Connection: {connection}"));
    let url = format!("http://127.0.0.1:{port}{path}");
    Command::new("nsenter")
        .args([&netns, "wrk", "-t1", &connections, "-d3600", "--timeout", "10s", "-H", &header, &url])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|why| format!("cannot run nsenter: {why}"))
}

/// Ended by SIGINT it prints its sums; nsenter has become wrk, so its PID is the one.
fn interrupted(wrk: Child) -> Result<String, String> {
    Command::new("kill").args(["-INT", &wrk.id().to_string()]).status().map_err(|why| why.to_string())?;
    let output = wrk.wait_with_output().map_err(|why| why.to_string())?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
