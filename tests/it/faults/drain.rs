//! What happens in a roll to the helper that drains a retiring worker: at its steps, which are its system calls. strace puts the
//! signal there.

use super::super::cluster::SOON;
use super::stage::{ALL_NEW, GRACEFUL, Lost, Stage, stage, stage_of};

/// At which system call, ever more apart.
const CALLS: [u32; 12] = [1, 4, 12, 30, 50, 70, 100, 130, 180, 260, 400, 700];

/// From now on each helper gets this signal at this system call of its own.
#[track_caller]
fn at_call(stage: &Stage, signal: &str, call: u32) {
    let line = stage.sh("sed -n 's/^ExecStop=-+//p' '/etc/systemd/system/project-cluster-api@.service'").ok();
    assert_eq!(line.lines().count(), 1, "one step: {line}");
    let strace = format!("strace -D -f -qq -o /dev/null -e inject=all:signal={signal}:when={call}");
    let text = format!("[Service]\nExecStop=\nExecStop=-+/usr/bin/{strace} {line}\n");
    stage.write("/run/systemd/system/project-cluster-api@.service.d/99-struck.conf", text);
    stage.systemctl(&["daemon-reload"]).ok();
}

/// A reload for each of the places, under one load.
#[track_caller]
fn struck(fault: &str, signal: &str, more: &str) {
    let stage = stage_of(2, more, GRACEFUL);
    stage.write("/srv/shop/v2/app.sh", GRACEFUL);
    for (index, call) in CALLS.iter().enumerate() {
        at_call(&stage, signal, *call);
        // The old ones of before may still be on their way: nobody waits for them.
        let output = stage.cli(&["reload", "api"]).exits(0);
        let generation = index + 2;
        assert!(output.stdout.contains(&format!("done: generation {generation}, 2 of 2 ready")), "{call}: {}", output.stdout);
    }
    // It was struck: who was killed has nothing to say of its drain, and systemd says so of who hangs.
    stage.wait_until("the old ones have gone", 3 * SOON, || stage.units("project-cluster-api@*", &["deactivating"]).is_empty());
    let said = stage.journal(&["-o", "cat"]);
    let times = match signal {
        "KILL" => 2 * CALLS.len() - said.matches("): drained after ").count(),
        _ => said.matches("Stopping timed out. Terminating.").count(),
    };
    println!("{times} helpers of {} were struck", 2 * CALLS.len());
    assert!(times >= CALLS.len(), "{times}");
    let last = CALLS.last().unwrap();
    let fault = format!("{fault} at {} of its system calls, from the first to the {last}th", CALLS.len());
    stage.settles(&fault, "exit 0, each time", ALL_NEW, Lost::Nothing);
}

#[test]
fn the_helper_is_killed_at_each_step() {
    struck("`kill -9` of the helper", "KILL", "reload.drain = \"5s\"");
}

#[test]
fn the_helper_is_halted_at_each_step() {
    // It hangs until systemd's own limit for the whole stop is over.
    struck("SIGSTOP of the helper", "STOP", "reload.drain = \"500ms\"\ntimeout.kill = \"500ms\"");
}

/// The helper of a retiring worker that waits for its connections: its number.
#[track_caller]
fn waits(stage: &Stage) -> i32 {
    let unit = "project-cluster-api@1.1.1.service";
    stage.wait_until("it drains", SOON, || stage.property(unit, "SubState") == "stop");
    stage.property(unit, "ControlPID").parse().unwrap()
}

/// A request that takes longer than a roll, on a worker of the first generation.
const LONG: &str = "import http.client\nclient = http.client.HTTPConnection('127.0.0.1', 3000)\nclient.request('GET', '/sleep/4000')\nprint('asked', flush=True)\nprint(client.getresponse().read().decode())";

#[test]
fn the_helper_of_a_plain_worker_is_killed_while_it_waits() {
    let stage = stage_of(1, "reload.drain = \"10s\"", super::stage::SERVES);
    let long = stage.spawn(&["python3", "-c", LONG]);
    stage.wait_until("it is asked", SOON, || long.stdout().contains("asked"));
    let reload = stage.half_way();
    let helper = waits(&stage);
    stage.kill(helper, "KILL");
    // SIGTERM follows, and the one long request is cut; those that were new have their answers.
    assert_ne!(long.wait(SOON).code, 0);
    stage.ends("`kill -9` of the helper that waits for one long request, which is cut", reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn the_helper_of_a_plain_worker_is_halted_for_a_while() {
    let stage = stage_of(1, "reload.drain = \"10s\"", super::stage::SERVES);
    let long = stage.spawn(&["python3", "-c", LONG]);
    stage.wait_until("it is asked", SOON, || long.stdout().contains("asked"));
    let reload = stage.half_way();
    let helper = waits(&stage);
    stage.kill(helper, "STOP");
    assert!(long.wait(SOON).ok().contains("v1 "), "its answer comes");
    stage.kill(helper, "CONT");
    stage.ends("SIGSTOP of the helper that waits for one long request, which is answered", reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn the_helper_is_not_there() {
    let stage = stage("");
    let line = "ExecStop=\nExecStop=-+/usr/bin/project-cluster-gone drain\n";
    stage.write("/run/systemd/system/project-cluster-api@.service.d/99-struck.conf", format!("[Service]\n{line}"));
    stage.systemctl(&["daemon-reload"]).ok();
    let reload = stage.half_way();
    let whose = "in plain workers without a helper: SIGTERM comes at once";
    stage.ends("the helper's program is gone", reload, 0, ALL_NEW, Lost::Cut(12, whose));
}
