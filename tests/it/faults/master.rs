//! What happens to the master in a roll.

use super::super::cluster::{ADDRESS, SOON};
use super::super::deaths::{self, Kind};
use super::stage::{ALL_NEW, HELD, Lost, MASTER, MIXED, Stage, record, stage};

/// The master that is there, and the wait for another one.
fn another(stage: &Stage, master: Option<i32>) {
    stage.wait_until("another master is there", 2 * SOON, || stage.main_pid(MASTER).is_some_and(|new| Some(new) != master));
}

#[test]
fn killed_in_the_middle() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.kill(stage.main_pid(MASTER).unwrap(), "KILL");
    stage.ends("`kill -9`", reload, 0, ALL_NEW, Lost::Nothing);
}

/// The master dies at each of its points of such a roll, one roll a point, under one load.
#[track_caller]
fn killed_at_each_step(what: &str, kind: Kind, told: &str, end: &str) {
    // The file of each release, which the second worker's failure is put before.
    let cluster = deaths::stage_of("require('/srv/apps/hello.js');", "reload.drain = \"2s\"");
    let load = cluster.load(ADDRESS).path("/sleep/20").connections(2).start();
    let points = deaths::all(&cluster, kind);
    let report = load.stop();
    report.none_failed(100);
    record(&format!("`kill -9` at each of {points} steps of {what}"), &report, &Lost::Nothing, end, told);
}

#[test]
fn killed_at_each_step_of_a_reload() {
    killed_at_each_step("a reload", Kind::Good, "exit 0", ALL_NEW);
}

#[test]
fn killed_at_each_step_of_a_reload_that_fails() {
    killed_at_each_step("a reload that fails", Kind::Failing, "exit 1", HELD);
}

#[test]
fn killed_at_each_step_of_a_restart_of_one_worker() {
    killed_at_each_step("`restart api:02`", Kind::Single, "exit 0", "a fresh worker in slot 2");
}

#[test]
fn killed_at_each_step_of_a_scaling_up() {
    killed_at_each_step("`scale api 3`, of 2", Kind::Up, "exit 0", "as many as asked for");
}

#[test]
fn killed_at_each_step_of_a_scaling_down() {
    killed_at_each_step("`scale api 2`, of 3", Kind::Down, "exit 0", "as many as asked for");
}

#[test]
fn killed_again_and_again() {
    let stage = stage("");
    stage.write(format!("/run/systemd/system/{MASTER}.d/quick.conf"), "[Service]\nRestartSec=20ms\n");
    stage.systemctl(&["daemon-reload"]).ok();
    let reload = stage.half_way();
    for _ in 0..6 {
        let master = stage.main_pid(MASTER);
        if let Some(pid) = master {
            stage.run(&["kill", "-9", &pid.to_string()]);
        }
        another(&stage, master);
    }
    stage.ends("`kill -9`, six times in a row", reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn restarted() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.systemctl(&["restart", MASTER]).ok();
    stage.ends("`systemctl restart`", reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn stopped_and_started_by_who_asks() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.systemctl(&["stop", MASTER]).ok();
    stage.ends("`systemctl stop`", reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn halted_and_resumed() {
    let stage = stage("");
    let reload = stage.half_way();
    let (master, halted) = (stage.main_pid(MASTER).unwrap(), std::time::Instant::now());
    stage.kill(master, "STOP");
    stage.wait_until("3 s are over", SOON, || halted.elapsed().as_secs() >= 3);
    stage.kill(master, "CONT");
    stage.ends("SIGSTOP for 3 s", reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn halted_until_the_watchdog_bites() {
    let stage = stage("");
    stage.write(format!("/run/systemd/system/{MASTER}.d/quick.conf"), "[Service]\nWatchdogSec=2s\n");
    stage.systemctl(&["daemon-reload"]).ok();
    stage.systemctl(&["restart", MASTER]).ok();
    let reload = stage.half_way();
    let master = stage.main_pid(MASTER);
    stage.kill(master.unwrap(), "STOP");
    another(&stage, master);
    assert!(stage.journal_of(MASTER).contains("Watchdog timeout"), "{}", stage.journal_of(MASTER));
    stage.ends("SIGSTOP until its watchdog (2 s here) ends it", reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn without_a_free_descriptor() {
    let stage = stage("");
    let reload = stage.half_way();
    let master = stage.main_pid(MASTER).unwrap();
    // What is open stays so; nothing more can be opened. As its own user, since the sandbox's root may not set others' limits.
    let limit = |most: &str| {
        let user = "setpriv --reuid=project-cluster --regid=project-cluster --clear-groups";
        stage.sh(&format!("{user} prlimit --pid {master} --nofile={most}:")).ok();
    };
    limit(&stage.sh(&format!("ls /proc/{master}/fd | wc -l")).ok());
    stage.wait_until("it turns back", SOON, || reload.stdout().contains("going back: the state of the roll could not be written"));
    limit("1024");
    let said = stage.ends("no free descriptor", reload, 1, HELD, Lost::Nothing);
    assert!(said.stderr.contains("Too many open files"), "{}", said.stderr);
}

#[test]
fn replaced_and_restarted() {
    let stage = stage("");
    let reload = stage.half_way();
    let before = stage.sh("stat -c %i /usr/bin/project-cluster").ok();
    // What an upgrade does, where /usr/bin cannot be written: another file under the same name.
    stage.sh("cp /usr/bin/project-cluster /srv/next; mount --bind /srv/next /usr/bin/project-cluster").ok();
    assert_ne!(stage.sh("stat -c %i /usr/bin/project-cluster").ok(), before);
    stage.systemctl(&["restart", MASTER]).ok();
    stage.ends("its program replaced, and restarted", reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn killed_and_its_notes_torn() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.systemctl(&["kill", "-s", "STOP", MASTER]).ok();
    stage.sh("for file in /run/project-cluster/state/roll-*.json; do echo '{\"torn' > $file; done").ok();
    stage.systemctl(&["kill", "-s", "KILL", MASTER]).ok();
    // Nobody knows any more what was meant: it says so, and touches nothing.
    let said = stage.ended(reload).exits(1);
    assert!(said.stderr.contains("the master was restarted since"), "{}", said.stderr);
    let shown = stage.cli(&["show", "api"]).ok();
    assert!(shown.contains("roll-api.json is damaged") && shown.contains("`project-cluster reload api`"), "{shown}");
    stage.settles("`kill -9`, and its file of the roll torn", "exit 1", MIXED, Lost::Nothing);
}
