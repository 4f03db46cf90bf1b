//! The first version's own command line, and its routes, against ours: beside its own master, which is right by definition.
//!
//! `tests/original` has the package's version, a master of it, and the session, which is the same for both.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cluster::{Cluster, SOON, app};
use super::support::sandbox::Options;
use super::support::{Running, Sandbox, evidence};

/// A whole session takes that long at most.
const SESSION: Duration = Duration::from_secs(100);
const OURS: &str = "8887";
const THEIRS: &str = "8899";

/// Plain Node workers as those of the first version's master; none starts while there is a file /srv/broken.
const APP: &str = "if (require('fs').existsSync('/srv/broken')) process.exit(1);\n";

/// `api` with two workers, `bg` with one, the first version's package at /srv/original.
#[track_caller]
fn cluster() -> Cluster {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/original");
    let installed = evidence::target().join("original/node_modules");
    assert!(installed.is_dir(), "{} is missing: tests/setup.sh installs it", installed.display());
    let inside = |name: &str| PathBuf::from("/srv/original").join(name);
    let mut shown = vec![(installed, inside("node_modules"))];
    shown.extend(["master.js", "session.js"].map(|name| (files.join(name), inside(name))));
    let toml = [app("api", 2, "node api.js 3000", "listen = 3000"), app("bg", 1, "node bg.js", "ready = \"none\"")].join("");
    let cluster = Cluster::on(Sandbox::start_with(Options { shown, ..Options::default() }), &toml);
    cluster.write("/srv/shop/v1/api.js", format!("{APP}require('/srv/apps/hello.js');"));
    cluster.write("/srv/shop/v1/bg.js", format!("{APP}require('/srv/apps/worker.js');"));
    cluster.cli(&["install", "--now"]).ok();
    cluster
}

/// Our API on 127.0.0.1:8887.
fn bridge(cluster: &Cluster) -> Running {
    let script = "import asyncio
async def pass_on(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
async def client(reader, writer):
    theirs = await asyncio.open_unix_connection('/run/project-cluster/api.sock')
    await asyncio.gather(pass_on(reader, theirs[1]), pass_on(theirs[0], writer), return_exceptions=True)
async def main():
    await (await asyncio.start_server(client, '127.0.0.1', 8887)).serve_forever()
asyncio.run(main())";
    let bridge = cluster.spawn(&["python3", "-c", script]);
    listens(cluster, OURS);
    bridge
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
    let ours = bridge(&cluster);
    let session_here = session(&cluster, OURS, "up");
    same(&session_here, &theirs);
    // It was a session, and not the same failure twice.
    for said in [
        "UPTIME",
        "offline",
        "No results",
        "Invalid id: no process found",
        "Worker bg:02 failed to start",
        "<pre>Cannot PUT /api/stop</pre>",
    ] {
        assert!(theirs.contains(said), "{said}: {theirs}");
    }
    // The first line and the last of a life.
    drop(ours);
    same(&session(&cluster, OURS, "away"), &session(&cluster, THEIRS, "away"));
    println!("{session_here}");
}
