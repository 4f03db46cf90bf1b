//! What happens to the host, its files and the configuration in a roll.

use super::super::cluster::{SOON, drained as app, installed};
use super::super::support::Output;
use super::stage::{ALL_NEW, HELD, Lost, MASTER, MIXED, SERVES, STOPPED, Stage, record, stage, toml};

/// Where what outlives a reboot is kept.
const STATE: &str = "/var/lib/project-cluster";

/// A file system of its own, small, in this place, with what was there.
fn small(stage: &Stage, place: &str, size: &str) {
    stage.sh(&format!(
        "mkdir -p /srv/aside; cp -a {place} /srv/aside/; mount -t tmpfs -o size={size},mode=0755 tmpfs {place}; cp -a /srv/aside/$(basename {place})/. {place}/; rm -rf /srv/aside"
    )).ok();
    // Its own mounts are of before.
    stage.systemctl(&["restart", MASTER]).ok();
    stage.wait_until("the master answers", SOON, || stage.run(&["project-cluster", "ls"]).success());
}

fn fill(stage: &Stage, place: &str) {
    stage.sh(&format!("dd if=/dev/zero of={place}/ballast bs=4k 2>/dev/null || :; for i in $(seq 2000); do : > {place}/ballast.$i || break; done 2>/dev/null")).ok();
}

fn free(stage: &Stage, place: &str) {
    stage.sh(&format!("rm -f {place}/ballast*")).ok();
}

/// What was said, for the row and for who reads the test's output.
fn told(output: &Output) -> String {
    println!("{}{}", output.stdout, output.stderr);
    format!("exit {}", output.code)
}

#[test]
fn run_is_full() {
    // Full before the first old one is to go: that is to be written down first.
    let stage = stage("reload.min_ready = \"4s\"");
    let reload = stage.half_way();
    // The file system of the machine's own /run, as large as what is in it.
    stage.sh("used=$(df --output=used -k /run | tail -n 1); mount -o remount,size=$((used + 64))k /run").ok();
    fill(&stage, "/run");
    let output = stage.ended(reload);
    stage.sh("rm -f /run/ballast*; mount -o remount,size=64m /run").ok();
    let told = told(&output.exits(1));
    stage.settles("/run full until the roll has ended", &told, HELD, Lost::Nothing);
}

#[test]
fn run_is_full_before_it() {
    let stage = stage("");
    stage.sh("used=$(df --output=used -k /run | tail -n 1); mount -o remount,size=$((used + 64))k /run").ok();
    fill(&stage, "/run");
    stage.release("v2");
    let output = stage.cli(&["reload", "api"]);
    println!("{}{}", output.stdout, output.stderr);
    assert_eq!((output.code, stage.generations("api"), stage.workers("api").len()), (1, vec![1], 3), "nothing begins");
    stage.sh("rm -f /run/ballast*; mount -o remount,size=64m /run").ok();
    let reload = stage.begun();
    stage.ends("/run full before the roll, free again, and one more reload", reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn the_state_directory_is_full() {
    let stage = stage("");
    small(&stage, STATE, "1m");
    let reload = stage.half_way();
    fill(&stage, STATE);
    let said = stage.ended(reload).exits(1);
    assert!(said.stderr.contains("generation 2 serves, but is not remembered") && said.stderr.contains("`df "), "{}", said.stderr);
    free(&stage, STATE);
    stage.settles("state directory full", "exit 1: it serves, but is not remembered", ALL_NEW, Lost::Nothing);
}

#[test]
fn the_state_directory_is_read_only() {
    let stage = stage("");
    // The history would be open for writing while a roll goes on, and a file system with such a file does not become read-only.
    stage.sh(&format!("rm -f {STATE}/state/store.sqlite*; mkdir {STATE}/state/store.sqlite")).ok();
    small(&stage, STATE, "4m");
    let reload = stage.half_way();
    stage.sh(&format!("mount -o remount,ro {STATE}")).ok();
    let said = stage.ended(reload).exits(1);
    assert!(said.stderr.contains("Read-only file system"), "{}", said.stderr);
    stage.sh(&format!("mount -o remount,rw {STATE}")).ok();
    // The old one of the first slot has gone, and could not come back: until now.
    stage.settles("state directory read-only", "exit 1, naming who is left", MIXED, Lost::Nothing);
}

#[test]
fn the_directory_of_the_new_release_is_deleted() {
    let stage = stage("reload.min_ready = \"300ms\"");
    let reload = stage.half_way();
    stage.sh("rm -r /srv/shop/v2").ok();
    let said = stage.ends("the new release's directory deleted", reload, 1, HELD, Lost::Nothing);
    assert!(said.stderr.contains("/srv/shop/v2"), "{}", said.stderr);
}

#[test]
fn the_directory_of_the_old_release_is_deleted() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.sh("rm -r /srv/shop/v1").ok();
    stage.ends("the old release's directory deleted", reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn the_user_is_deleted() {
    let cluster = installed(&toml(3, "user = \"shop\""));
    cluster.sh("useradd --system shop").ok();
    ["v1", "v2"].iter().for_each(|release| cluster.write(format!("/srv/shop/{release}/app.sh"), SERVES));
    cluster.cli(&["install", "--now"]).ok();
    let stage = Stage::on(cluster, 3, "127.0.0.1:3000");
    let reload = stage.half_way();
    stage.sh("sed -i '/^shop:/d' /etc/passwd /etc/shadow /etc/group").ok();
    // What runs goes on; nobody can be started, so that the one that has gone stays away.
    // No step can be run for its workers either, so that none is drained.
    stage.ends("the app's user deleted", reload, 1, MIXED, Lost::Cut(8, "in plain workers: systemd runs no step without the user"));
}

#[test]
fn the_release_flips() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.release("v3");
    stage.wait_until("the reload has ended", 3 * SOON, || !reload.runs());
    // All are of the release that the roll began with.
    for unit in stage.workers("api") {
        let pid = stage.main_pid(&unit).unwrap();
        assert_eq!(stage.run(&["readlink", &format!("/proc/{pid}/cwd")]).ok(), "/srv/shop/v2", "{unit}");
    }
    stage.ends("the release flips once more", reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn install() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.config(&toml(3, "reload.max_surge = 2"));
    stage.cli(&["install"]).ok();
    stage.ends("`install` of a changed configuration", reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn apply() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.config(&toml(3, "env = { COLOUR = \"green\" }"));
    let applied = stage.cli(&["apply"]);
    println!("{}{}", applied.stdout, applied.stderr);
    applied.ok();
    stage.ends("`apply` of a changed environment", reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn apply_of_fewer_workers() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.config(&toml(2, ""));
    stage.cli(&["apply"]).ok();
    stage.now(2).ends("`apply` of fewer workers", reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn the_app_is_removed() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.config(&app("other", 1, "hello-go 3001", "listen = 3001"));
    let applied = stage.cli(&["apply"]);
    println!("{}{}", applied.stdout, applied.stderr);
    let output = stage.ended(reload);
    let said = told(&output);
    assert_ne!(output.code, 0);
    let (cluster, load) = stage.into_parts();
    cluster.wait_until("nothing of it is left", SOON, || {
        cluster.units("project-cluster-api*", &["active", "activating", "deactivating", "failed"]).is_empty()
    });
    assert_eq!(cluster.workers("other").len(), 1);
    record("`apply` without the app", &load.stop(), &Lost::Closed("the app was removed"), STOPPED, &said);
}
