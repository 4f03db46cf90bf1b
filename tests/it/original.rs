//! The first version's own command line, and its routes, against ours: beside its own master, which is right by definition.
//!
//! `tests/original` has the package's version, a master of it, and the session, which is the same for both.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::cluster::{Cluster, HELLO, SOON, app, installed};
use super::support::sandbox::Options;
use super::support::{Sandbox, evidence};

/// A whole session takes that long at most.
const SESSION: Duration = Duration::from_secs(100);
const OURS: &str = "8887";
const THEIRS: &str = "8899";

/// Plain Node workers as those of the first version's master; none starts while there is a file /srv/broken.
const APP: &str = "if (require('fs').existsSync('/srv/broken')) { console.log('\\x1b[31mred'); process.exit(1); }\n";

/// `api` with two workers, `bg` with one, the first version's package at /srv/original.
#[track_caller]
fn cluster() -> Cluster {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/original");
    let installed = evidence::target().join("original/node_modules");
    assert!(installed.is_dir(), "{} is missing: tests/setup.sh installs it", installed.display());
    let inside = |name: &str| PathBuf::from("/srv/original").join(name);
    let mut shown = vec![(installed, inside("node_modules"))];
    shown.extend(["master.js", "session.js"].map(|name| (files.join(name), inside(name))));
    let toml = [
        "[api]\nauth = \"none\"\n".into(),
        app("api", 2, "node api.js 3000", "listen = 3000"),
        app("bg", 1, "node bg.js", "ready = \"none\""),
    ]
    .join("");
    let cluster = Cluster::on(Sandbox::start_with(Options { shown, ..Options::default() }), &toml);
    cluster.write("/srv/shop/v1/api.js", format!("{APP}require('/srv/apps/hello.js');"));
    cluster.write("/srv/shop/v1/bg.js", format!("{APP}require('/srv/apps/worker.js');"));
    cluster.cli(&["install", "--now"]).ok();
    cluster
}

#[track_caller]
fn listens(cluster: &Cluster, port: &str) {
    let there = || !cluster.sh(&format!("ss -Hltn 'sport = :{port}'")).ok().is_empty();
    cluster.wait_until(&format!("something listens on {port}"), SOON, there);
}

#[track_caller]
fn session(cluster: &Cluster, port: &str, part: &str) -> String {
    cluster.run_within(SESSION, &["node", "/srv/original/session.js", port, part]).exits(0).stdout
}

/// Compares step by step, so that a difference is seen with what was asked.
#[track_caller]
fn same(ours: &str, theirs: &str) {
    let steps = |text: &str| text.split("\n$ ").flat_map(|part| part.split("\n> ")).map(String::from).collect::<Vec<_>>();
    let (ours, theirs) = (steps(ours), steps(theirs));
    for (our, their) in ours.iter().zip(&theirs) {
        assert!(our == their, "--- ours\n{our}\n--- theirs\n{their}\n--- as it is written\n{our:?}\n{their:?}");
    }
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn its_own_client_cannot_tell_us_from_the_first_version() {
    let cluster = cluster();
    let theirs = {
        let mut master = cluster.spawn(&["node", "/srv/original/master.js", THEIRS]);
        listens(&cluster, THEIRS);
        let session = session(&cluster, THEIRS, "up");
        master.signal(libc::SIGTERM);
        assert!(master.try_wait(SOON).is_some(), "it ends");
        session
    };
    listens(&cluster, OURS);
    let session_here = session(&cluster, OURS, "up");
    same(&session_here, &theirs);
    // It was a session, and not the same failure twice.
    for said in [
        "UPTIME",
        "offline",
        "No results",
        "Invalid id: no process found",
        "Worker bg:02 failed to start",
        "error: missing required argument `selector'",
        "<pre>Cannot PUT /api/stop</pre>",
    ] {
        assert!(theirs.contains(said), "{said}: {theirs}");
    }
    // Nobody there.
    cluster.systemctl(&["stop", "project-cluster-tcp.socket", "project-cluster.socket", "project-cluster.service"]).ok();
    same(&session(&cluster, OURS, "away"), &session(&cluster, THEIRS, "away"));
    println!("{session_here}");
}

/// Status and text of a request of the first version's.
#[track_caller]
fn ask(cluster: &Cluster, method: &str, path: &str) -> (String, String) {
    let script = format!("curl -sS -X {method} -w '\\n%{{http_code}}' --unix-socket /run/project-cluster/api.sock 'http://x{path}'");
    let text = cluster.sh(&script).ok();
    let (text, status) = text.rsplit_once('\n').unwrap_or(("", &text));
    (status.into(), text.into())
}

/// The uids of an answer, those that are offline in brackets.
#[track_caller]
fn uids((status, text): (String, String)) -> Vec<String> {
    assert_eq!(status, "200", "{text}");
    let stats: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}"));
    let name = |stat: &Value| stat["uid"].as_str().unwrap().to_owned();
    stats.iter().map(|stat| if stat["status"] == "online" { name(stat) } else { format!("({})", name(stat)) }).collect()
}

#[test]
fn where_its_rules_meet_what_it_never_had() {
    let cluster = installed(&app("api", 2, "node app.js 3000", "listen = 3000\ntimeout.restart = \"1m\""));
    cluster.program("v1", &format!("{APP}{HELLO}"));
    cluster.cli(&["install", "--now"]).ok();
    assert_eq!(ask(&cluster, "GET", "/healthz"), ("200".into(), "ok".into()));

    // Each of two at once gets its own.
    let add = "curl -sS -X POST --unix-socket /run/project-cluster/api.sock http://x/api/add";
    let added = cluster.sh(&format!("{add} > /tmp/one & {add} > /tmp/two; wait; cat /tmp/one /tmp/two")).ok();
    assert!(["api:03", "api:04"].iter().all(|uid| added.contains(uid)), "{added}");

    // Carried out, though nobody waits for the answer.
    let before = cluster.pids("api");
    let command = "curl -sS -m 0.3 -X POST --unix-socket /run/project-cluster/api.sock http://x/api/restart";
    assert_eq!(cluster.sh(command).code, 28, "it takes longer than that");
    let replaced = || cluster.pids("api").iter().all(|pid| !before.contains(pid)) && cluster.workers("api").len() == 4;
    cluster.wait_until("all are replaced", SOON, replaced);

    // A worker that waits to be started again is offline, as it was; it can be started at once, or be forgotten.
    let crash = |slot: usize| {
        let unit = cluster.workers("api").into_iter().find(|unit| unit.contains(&format!("@{slot}."))).unwrap();
        cluster.kill(cluster.main_pid(&unit).unwrap(), "KILL");
        let offline = || uids(ask(&cluster, "GET", "/stat")).contains(&format!("(api:{slot:02})"));
        cluster.wait_until("it is offline", SOON, offline);
    };
    crash(1);
    assert_eq!(ask(&cluster, "POST", "/api:01/stop"), ("400".into(), "Process is not running".into()));
    assert_eq!(ask(&cluster, "POST", "/api:01/start").0, "200");
    crash(1);
    assert_eq!(uids(ask(&cluster, "POST", "/api/start")), ["api:01"]);
    crash(4);
    assert_eq!(uids(ask(&cluster, "POST", "/api:04/remove")), ["api:01", "api:02", "api:03"]);

    // It said 200 of a restart that failed. The old ones serve on.
    cluster.write("/srv/broken", "");
    let before = cluster.pids("api");
    let (status, text) = ask(&cluster, "POST", "/all/restart");
    assert!(status == "500" && text.contains("api:01"), "{status} {text}");
    assert!(text.contains("red") && !text.contains('\u{1b}'), "its last words, harmless: {text:?}");
    assert_eq!(cluster.pids("api"), before);
    // What did not start is not there, and takes nobody's place.
    for _ in 0..2 {
        assert_eq!(ask(&cluster, "POST", "/api/add"), ("400".into(), "Worker api:04 failed to start".into()));
    }
    assert_eq!(uids(ask(&cluster, "GET", "/stat")), ["api:01", "api:02", "api:03"]);
    assert_eq!(uids(ask(&cluster, "POST", "/api/stop")), ["(api:01)", "(api:02)", "(api:03)"]);
    assert_eq!(ask(&cluster, "POST", "/api/start"), ("500".into(), "Worker api:01 failed to start".into()));
    assert_eq!(ask(&cluster, "POST", "/api/add"), ("400".into(), "Worker api:04 failed to start".into()));
    cluster.run(&["rm", "/srv/broken"]).ok();
    assert_eq!(uids(ask(&cluster, "POST", "/api/start")), ["api:01", "api:02", "api:03"]);

    // Their names are no types, and what is under /v1 is not theirs.
    let (status, text) = ask(&cluster, "POST", "/v1/stop");
    assert!(status == "404" && text.contains("\"not-found\""), "{status} {text}");
    let bus = cluster.main_pid("dbus.service").unwrap();
    cluster.kill(bus, "STOP");
    let (status, text) = ask(&cluster, "GET", "/healthz");
    assert!(status == "503" && text.contains("systemd does not answer"), "{status} {text}");
    cluster.kill(bus, "CONT");
    cluster.wait_until("it answers again", SOON, || ask(&cluster, "GET", "/healthz").0 == "200");
}
