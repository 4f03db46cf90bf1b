//! What happens in a roll to the helper that drains a retiring worker: at its steps, which are its system calls. strace puts the
//! signal there.

use super::super::cluster::SOON;
use super::stage::{ALL_NEW, Lost, SERVES, Stage, stage, stage_of};

/// At which system call: few at the begin, where each is another step, and then ever more apart.
const CALLS: [u32; 12] = [1, 4, 12, 30, 50, 70, 100, 130, 180, 260, 400, 700];

/// From now on each helper gets this signal at this system call of its own.
#[track_caller]
fn at_call(stage: &Stage, signal: &str, call: u32) {
    let line = stage.sh("sed -n 's/^ExecStop=+//p' '/etc/systemd/system/project-cluster-api@.service'").ok();
    assert_eq!(line.lines().count(), 1, "one step: {line}");
    let strace = format!("strace -f -qq -o /dev/null -e inject=all:signal={signal}:when={call}");
    let text = format!("[Service]\nExecStop=\nExecStop=+/usr/bin/{strace} {line}\n");
    stage.write("/run/systemd/system/project-cluster-api@.service.d/99-struck.conf", text);
    stage.systemctl(&["daemon-reload"]).ok();
}

/// A reload for each of the places, under one load.
#[track_caller]
fn struck(fault: &str, signal: &str, more: &str) {
    let mut stage = stage_of(2, more, SERVES);
    for (index, call) in CALLS.iter().enumerate() {
        at_call(&stage, signal, *call);
        let reload = stage.spawn(&["project-cluster", "reload", "api"]);
        let output = stage.ended(reload).exits(0);
        let generation = index as u64 + 2;
        assert!(output.stdout.contains(&format!("done: generation {generation}, 2 of 2 ready")), "{call}: {}", output.stdout);
        stage.wait_until("the old ones have gone", 2 * SOON, || stage.units("project-cluster-api@*", &["deactivating"]).is_empty());
        stage.old_is(generation - 1);
    }
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
