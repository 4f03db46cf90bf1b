//! Every operation of `docs/openapi.json`, asked of the real master by schemathesis: requests that the document allows and
//! such as it does not, and answers held against it. All of them over the unix socket, where there are no tokens; some over TCP
//! as well, with the operators' token, without one and with wrong ones, which it makes up.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::cluster::{Cluster, SOON, app, installed};

/// The API for a client that speaks TCP alone.
const BRIDGE: &str = r"
import asyncio
async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()
async def bridge(reader, writer):
    there = await asyncio.open_unix_connection('/run/project-cluster/api.sock')
    await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))
async def main():
    await (await asyncio.start_server(bridge, '127.0.0.1', 9999)).serve_forever()
asyncio.run(main())
";

/// How many operations the document has.
fn operations() -> usize {
    let document: Value = serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap();
    document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum()
}

/// Outside, but in the sandbox's network: another root may have another Python. What it told, where it found nothing wrong.
#[track_caller]
fn run(cluster: &Cluster, directory: &Path, more: &[String]) -> String {
    let program = super::support::evidence::target().join("schemathesis/bin/schemathesis");
    assert!(program.exists(), "{} is missing; tests/setup.sh installs it", program.display());
    let run = Command::new("timeout")
        .args(["--kill-after=5", "100", "nsenter"])
        .arg(format!("--net={}", cluster.netns().display()))
        .arg(&program)
        .args(["run", "--seed=1", "--checks=all", "--continue-on-failure", "--no-color", "--no-shrink", "--request-timeout=30"])
        .arg("--generation-database=none")
        .args(more)
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(directory)
        .output()
        .expect("coreutils and util-linux");
    let told = String::from_utf8_lossy(&run.stdout).into_owned();
    println!("{told}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{}: see above", run.status);
    told
}

#[test]
fn the_master_answers_as_its_document_says() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let toml = [
        app("api", 2, "/usr/local/bin/hello-go 3000", "listen = 3000\nuser = \"root\"\nreload.min_ready = \"0s\""),
        app("bg", 1, "/usr/bin/sleep infinity", "user = \"root\"\nreload.min_ready = \"0s\"\nready = \"none\""),
        app("rare", 1, "/usr/local/bin/hello-go 3001", "listen = 3001\nuser = \"root\"\non_demand = true\nreload.min_ready = \"0s\""),
    ];
    let cluster = installed(&toml.concat());
    cluster.cli(&["install", "--now"]).ok();
    let bridge = cluster.spawn(&["python3", "-c", BRIDGE]);
    cluster.wait_until("the bridge is there", SOON, || cluster.sh("ss -Hltn 'sport = :9999'").stdout.contains("9999"));
    let notes = tempfile::tempdir().unwrap();
    let mut document: Value = serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap();
    // Of whoever asks there; the kernel has asked already.
    for operation in document["paths"].as_object_mut().unwrap().values_mut().flat_map(|path| path.as_object_mut().unwrap().values_mut()) {
        operation.as_object_mut().unwrap().remove("security");
    }
    std::fs::write(notes.path().join("openapi.json"), document.to_string()).unwrap();
    let unix =
        ["--url=http://127.0.0.1:9999", "--max-examples=12", "--phases=examples,coverage,fuzzing", "openapi.json"].map(str::to_owned);
    let told = run(&cluster, notes.path(), &unix);
    assert!(told.contains(&format!("Tested: {}", operations())), "every operation");
    bridge.signal(libc::SIGTERM);
    let tcp = [
        "--url=http://127.0.0.1:8887".to_owned(),
        format!("--header=Authorization: Bearer {}", cluster.read("/var/lib/project-cluster/operators/token").trim_end()),
        "--include-path-regex=^(/healthz|/v1/health|/v1/apps/[^/]*/reset)$".to_owned(),
        "--max-examples=3".to_owned(),
        "--phases=examples,fuzzing".to_owned(),
        here.join("docs/openapi.json").to_str().unwrap().to_owned(),
    ];
    assert!(run(&cluster, notes.path(), &tcp).contains("Tested: 3"), "three operations");
    cluster
        .wait_until("wrong tokens were among them", SOON, || cluster.journal_of("project-cluster.service").contains("with a wrong token"));
    // It is as it was: all of it can be had, behind what returns from whatever was asked for, 0 workers too.
    cluster.cli(&["apply"]).ok();
    for app in ["api", "bg", "rare"] {
        cluster.cli(&["start", app]).ok();
        cluster.cli(&["reload", app]).ok();
    }
    assert_eq!(cluster.property("project-cluster.service", "NRestarts"), "0");
}
