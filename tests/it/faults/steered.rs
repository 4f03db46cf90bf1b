//! What happens while a roll waits for something other than its workers: for a person, for its canaries, for a hook.

use super::super::cluster::SOON;
use super::super::support::Running;
use super::stage::{ALL_NEW, HELD, Lost, MASTER, Stage, stage};

const CANARY: &str = "reload.canary = 1\nreload.bake = \"2s\"";
const HOOK: &str = "project-cluster-api:before@2.service";

fn worker(slot: u16, generation: u64) -> String {
    format!("project-cluster-api@{slot}.{generation}.1.service")
}

/// A migration that does what the release's file `does` says, a shell's words.
fn hooked(timeout: &str) -> Stage {
    let before = r#"before = ["sh", "-c", "if [ -e does ]; then . ./does; fi"]"#;
    stage(&format!("reload.hooks = {{ {before}, timeout = \"{timeout}\" }}"))
}

/// A reload whose migration does this, and runs.
#[track_caller]
fn migrates(stage: &Stage, does: &str) -> Running {
    stage.write("/srv/shop/v2/does", does);
    let reload = stage.begun();
    stage.wait_until("the hook runs", SOON, || stage.state(HOOK) == "activating");
    reload
}

/// A reload that a person has paused half way; who waited for it was told.
#[track_caller]
fn paused(stage: &Stage) {
    let reload = stage.half_way();
    stage.cli(&["pause", "api"]).ok();
    let told = stage.ended(reload).exits(1);
    assert!(told.stderr.contains("`project-cluster resume api`"), "{}", told.stderr);
}

/// A reload whose canary is watched.
#[track_caller]
fn baking() -> (Stage, Running) {
    let stage = stage(CANARY);
    let reload = stage.begun();
    stage.wait_until("the canary is watched", SOON, || reload.stdout().contains("watched until ready for 2 s") || !reload.runs());
    (stage, reload)
}

/// It is as it was paused, and goes on when somebody says so.
#[track_caller]
fn resumes(stage: Stage, fault: &str) {
    stage.wait_until("it is known as paused", SOON, || {
        stage.run(&["project-cluster", "ls"]).success() && stage.app("api")["roll"]["state"] == "paused"
    });
    assert_eq!(stage.generations("api"), [1, 2], "both serve");
    let resume = stage.spawn(&["project-cluster", "resume", "api"]);
    let said = stage.ends(fault, resume, 0, ALL_NEW, Lost::Nothing);
    assert!(said.stdout.contains("done: generation 2, 3 of 3 ready"), "{}", said.stdout);
}

fn crash(stage: &Stage) {
    let master = stage.main_pid(MASTER);
    stage.kill(master.unwrap(), "KILL");
    stage.wait_until("another master is there", 2 * SOON, || stage.main_pid(MASTER).is_some_and(|new| Some(new) != master));
}

#[test]
fn the_master_is_killed_while_it_is_paused() {
    let stage = stage("reload.min_ready = \"500ms\"");
    paused(&stage);
    crash(&stage);
    resumes(stage, "`kill -9` of the master while the roll is paused, and `resume`");
}

#[test]
fn daemon_reexec_while_it_is_paused() {
    let stage = stage("reload.min_ready = \"500ms\"");
    paused(&stage);
    stage.systemctl(&["daemon-reexec"]).ok();
    resumes(stage, "`daemon-reexec` while the roll is paused, and `resume`");
}

#[test]
fn the_master_is_killed_while_a_canary_bakes() {
    let (stage, reload) = baking();
    crash(&stage);
    let said = stage.ends("`kill -9` of the master while a canary is watched", reload, 0, ALL_NEW, Lost::Nothing);
    let (passed, retires) = (said.stdout.find("1 canary has passed"), said.stdout.find("(generation 1) retires"));
    assert!(passed.is_some() && passed < retires, "{}", said.stdout);
}

#[test]
fn dbus_is_restarted_while_a_canary_bakes() {
    let (stage, reload) = baking();
    stage.systemctl(&["restart", "dbus.service"]).ok();
    let said = stage.ends("`systemctl restart dbus` while a canary is watched", reload, 0, ALL_NEW, Lost::Nothing);
    assert!(said.stdout.contains("1 canary has passed"), "{}", said.stdout);
}

#[test]
fn a_canary_is_killed_in_its_bake() {
    let (stage, reload) = baking();
    let old: Vec<String> = (1..=3).map(|slot| worker(slot, 1)).collect();
    stage.kill(stage.main_pid(&worker(1, 2)).unwrap(), "KILL");
    let said = stage.ended(reload).exits(1);
    assert!(said.stderr.contains("the canary api:01 (generation 2) ended once before it had been ready for 2 s"), "{}", said.stderr);
    assert_eq!(stage.workers("api"), old, "no old one was touched");
    stage.settles("`kill -9` of a canary that is watched", "exit 1", HELD, Lost::Cut(4, "in the canary"));
}

#[test]
fn a_canary_is_masked_in_its_bake() {
    let (stage, reload) = baking();
    // What runs goes on; it could not be started again.
    stage.systemctl(&["mask", "--runtime", &worker(1, 2)]).ok();
    stage.ends("a canary that is watched masked", reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn a_canary_to_come_is_masked() {
    let stage = stage(CANARY);
    stage.systemctl(&["mask", "--runtime", &worker(1, 2)]).ok();
    let reload = stage.begun();
    let old: Vec<String> = (1..=3).map(|slot| worker(slot, 1)).collect();
    let said = stage.ended(reload).exits(1);
    assert!(said.stderr.contains("masked"), "{}", said.stderr);
    assert_eq!(stage.workers("api"), old, "no old one was touched");
    stage.settles("a canary to come masked", "exit 1", HELD, Lost::Nothing);
}

#[test]
fn the_master_is_killed_while_a_hook_runs() {
    let stage = hooked("1m");
    let reload = migrates(&stage, "echo it begins; while [ ! -e goes ]; do sleep 0.05; done");
    crash(&stage);
    stage.wait_until("the next one waits for it", SOON, || {
        stage.run(&["project-cluster", "ls"]).success() && stage.app("api")["roll"]["hooks"][0]["state"] == "running"
    });
    stage.write("/srv/shop/v2/goes", "");
    let begun = stage.journal(&["-o", "cat", "_TRANSPORT=stdout", &format!("_SYSTEMD_UNIT={HOOK}")]);
    assert_eq!(begun.matches("it begins").count(), 1, "{begun}");
    stage.ends("`kill -9` of the master while the hook `before` runs", reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn a_hook_hangs_and_ignores_sigterm() {
    // Long enough for the first start of a busy machine, whose hook does nothing.
    let stage = hooked("8s");
    let reload = migrates(&stage, "trap '' TERM; while :; do sleep 0.1; done");
    let said = stage.ends("the hook `before` hangs and ignores SIGTERM", reload, 1, HELD, Lost::Nothing);
    assert!(said.stderr.contains("it took longer than its `timeout` of 8s; no worker was started"), "{}", said.stderr);
}

/// And what waits behind it is aborted by itself.
#[test]
fn an_abort_while_a_hook_runs() {
    let stage = hooked("10m");
    let reload = migrates(&stage, "sleep 1000");
    let waits = stage.spawn(&["project-cluster", "reload", "api"]);
    stage.wait_until("another one waits", SOON, || stage.cli(&["abort", "api", "--waiting"]).success() || !waits.runs());
    let never = waits.wait(SOON).exits(1);
    assert!(never.stderr.contains("aborted by user 0 before it began; nothing was done for it"), "{}", never.stderr);
    let none = stage.cli(&["abort", "api", "--waiting"]).exits(1);
    assert!(none.stderr.contains("no roll waits, so there is none to abort"), "{}", none.stderr);
    assert!(reload.runs() && stage.state(HOOK) == "activating", "what it waited for goes on");
    let said = stage.cli(&["abort", "api"]).ok();
    assert!(said.contains("hook before is stopped after ") && said.contains("aborted by user 0"), "{said}");
    assert_eq!(stage.units("project-cluster-api:*", &[]), Vec::<String>::new(), "nothing of it is left");
    let said = stage.ends("`abort` while the hook `before` runs", reload, 1, HELD, Lost::Nothing);
    assert!(said.stderr.contains("aborted by user 0 while hook before ran; no worker was started"), "{}", said.stderr);
}
