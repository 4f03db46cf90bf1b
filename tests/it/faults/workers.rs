//! What workers do, and what is done to them, in a roll.

use super::super::cluster::{Cluster, SOON, drained as app, installed};
use super::stage::{ALL_NEW, HELD, Lost, SERVES, Stage, stage, stage_of};

fn worker(slot: u16, generation: u64) -> String {
    format!("project-cluster-api@{slot}.{generation}.1.service")
}

fn pid(stage: &Stage, slot: u16, generation: u64) -> i32 {
    stage.main_pid(&worker(slot, generation)).unwrap()
}

/// A graceful Node server of one's own, with this in its last line.
fn node(then: &str) -> String {
    format!(
        "exec node -e \"const version = require('fs').readFileSync('VERSION', 'utf8').trim();
        const server = require('http').createServer((_, answer) => answer.setHeader('Connection', 'close').end(version + ' ' + process.pid));
        process.on('SIGTERM', () => server.close(() => process.exit(0)));
        {then}\""
    )
}

#[test]
fn new_ones_die_before_they_are_ready() {
    let stage = stage("");
    let reload = stage.deploys("echo no bread today >&2; exit 1");
    let said = stage.ends("new ones die before they are ready", reload, 1, HELD, Lost::Nothing);
    assert!(said.stderr.contains("no bread today"), "{}", said.stderr);
}

#[test]
fn new_ones_die_within_min_ready() {
    let stage = stage("reload.min_ready = \"1s\"");
    let reload = stage.deploys("(sleep 0.4; kill $$) & export GRACEFUL=3; exec hello-go 3000");
    let said = stage.ends("new ones end with 3 within `min_ready`", reload, 1, HELD, Lost::Nothing);
    assert!(said.stderr.contains("api:01 (generation 2) left"), "{}", said.stderr);
}

#[test]
fn new_ones_end_with_0_right_after_they_are_ready() {
    let stage = stage("reload.min_ready = \"1s\"");
    let reload = stage.deploys("(sleep 0.2; kill $$) & export GRACEFUL=0; exec hello-go 3000");
    stage.ends("new ones end with 0 right after they are ready", reload, 1, HELD, Lost::Nothing);
}

#[test]
fn half_of_the_new_ones_crash() {
    let stage = stage_of(4, "", SERVES);
    let reload = stage.deploys("[ $((PROJECT_CLUSTER_SLOT % 2)) = 1 ] || { echo not an even one >&2; exit 1; }; exec hello-go 3000");
    let said = stage.ends("half of the new ones crash at their start", reload, 1, HELD, Lost::Nothing);
    assert!(said.stderr.contains("not an even one"), "{}", said.stderr);
}

#[test]
fn new_ones_start_slower_than_they_may() {
    let stage = stage("timeout.start = \"1s\"");
    let reload = stage.deploys("sleep 30; exec hello-go 3000");
    let said = stage.ends("new ones start slower than `timeout.start`", reload, 1, HELD, Lost::Nothing);
    assert!(said.stderr.contains("timeout.start"), "{}", said.stderr);
}

#[test]
fn new_ones_halt_before_they_are_ready() {
    let stage = stage("timeout.start = \"1s\"");
    let reload = stage.deploys("kill -STOP $$; exec hello-go 3000");
    stage.ends("SIGSTOP of new ones before they are ready", reload, 1, HELD, Lost::Nothing);
}

#[test]
fn new_ones_listen_elsewhere() {
    let stage = stage("timeout.start = \"1s\"");
    let reload = stage.deploys("exec hello-go 3002");
    stage.ends("new ones listen on another port", reload, 1, HELD, Lost::Nothing);
}

#[test]
fn new_ones_find_their_own_port_taken() {
    let stage = stage("");
    stage.sh("systemd-run -q -u foreign hello-go 4000").ok();
    stage.wait_for_http("127.0.0.1:4000");
    let reload = stage.deploys(&node("server.listen(3000); require('http').createServer().listen(4000);"));
    let said = stage.ends("a port of their own is taken", reload, 1, HELD, Lost::Nothing);
    assert!(said.stderr.contains("EADDRINUSE"), "{}", said.stderr);
}

#[test]
fn the_extra_port_of_a_roll_is_taken() {
    let child = "spawn = \"child\"\nport = 3000\nports = \"4100-4100\"";
    let other = app("other", 1, "hello-go 3010", "listen = 3010");
    let cluster = installed(&format!("{}{other}", app("api", 2, "hello-go", child)));
    cluster.cli(&["install", "--now"]).ok();
    cluster.sh("systemd-run -q -u foreign hello-go 4100").ok();
    cluster.wait_for_http("127.0.0.1:4100");
    let stage = Stage::on(cluster, 2, "127.0.0.1:3000");
    let reload = stage.begun();
    let said = stage.ends("`spawn = \"child\"`: the extra port of the roll is taken", reload, 1, HELD, Lost::Nothing);
    assert!(said.stderr.contains("4100"), "{}", said.stderr);
}

#[test]
fn an_old_one_is_killed_on_its_way_down() {
    // It takes a second for its end.
    let stage = stage_of(3, "", "GRACEFUL=0 LINGERS=1000 exec hello-go 3000");
    let reload = stage.half_way();
    stage.wait_until("it retires", SOON, || stage.state(&worker(1, 1)) == "deactivating");
    stage.systemctl(&["kill", "-s", "KILL", &worker(1, 1)]).ok();
    stage.ends("`kill -9` of an old one on its way down", reload, 0, ALL_NEW, Lost::Cut(4, "in the killed one"));
}

#[test]
fn an_old_one_is_killed_before_its_turn() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.kill(pid(&stage, 3, 1), "KILL");
    stage.ends("`kill -9` of an old one", reload, 0, ALL_NEW, Lost::Cut(4, "in the killed one"));
}

#[test]
fn all_old_ones_die_in_the_middle() {
    let stage = stage("reload.min_ready = \"500ms\"");
    let reload = stage.half_way();
    for unit in stage.workers("api").iter().filter(|unit| unit.contains(".1.1.")) {
        stage.systemctl(&["kill", "-s", "KILL", unit]);
    }
    stage.ends("`kill -9` of all old ones at once", reload, 0, ALL_NEW, Lost::Cut(12, "in the killed ones"));
}

#[test]
fn a_new_one_is_killed() {
    let stage = stage("reload.min_ready = \"1s\"");
    let reload = stage.half_way();
    stage.kill(pid(&stage, 1, 2), "KILL");
    stage.ends("`kill -9` of a new one within `min_ready`", reload, 1, HELD, Lost::Cut(4, "in the killed one"));
}

#[test]
fn old_ones_ignore_sigterm() {
    let stage = stage_of(3, "timeout.kill = \"500ms\"", "exec node /srv/apps/broken/stubborn.js 3000");
    let reload = stage.half_way();
    stage.ends("old ones ignore SIGTERM until `timeout.kill`", reload, 0, ALL_NEW, Lost::Cut(12, "in those that had to be killed"));
}

#[test]
fn an_old_one_is_halted() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.kill(pid(&stage, 3, 1), "STOP");
    stage.ends("SIGSTOP of an old one", reload, 0, ALL_NEW, Lost::Cut(4, "in the halted one"));
}

#[test]
fn a_new_one_is_halted_when_it_is_ready() {
    let stage = stage("reload.min_ready = \"500ms\"");
    let reload = stage.half_way();
    let halted = pid(&stage, 1, 2);
    // Asleep it holds no request: what it has accepted it has answered.
    stage.kill(halted, "STOP");
    let output = stage.ended(reload);
    // What it held meanwhile waits, and is answered.
    stage.kill(halted, "CONT");
    stage.settles("SIGSTOP of a new one that is ready", &format!("exit {}", output.clone().exits(0).code), ALL_NEW, Lost::Nothing);
}

#[test]
fn old_ones_leave_children_that_hold_the_socket() {
    let stage = stage_of(3, "", "(trap '' TERM; exec sleep 1000) & exec hello-go 3000");
    assert!(stage.sh("pgrep -c sleep").ok().parse::<u32>().unwrap() >= 3);
    let reload = stage.half_way();
    let cluster = &stage.cluster;
    let children = |cluster: &Cluster| cluster.run(&["pgrep", "-c", "-x", "sleep"]).stdout.trim().to_owned();
    stage.wait_until("the reload has ended", 3 * SOON, || !reload.runs());
    stage.wait_until("the children are gone", SOON, || children(cluster) == "0");
    stage.ends("old ones leave children that hold the socket and ignore SIGTERM", reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn a_new_one_closes_the_socket() {
    let stage = stage("");
    let closes = node(
        "server.listen(3000); if (process.env.PROJECT_CLUSTER_SLOT === '2') setTimeout(() => server.close(() => setInterval(() => {}, 1000)), 50);",
    );
    let reload = stage.deploys(&closes);
    stage.ends("a new one closes the inherited socket and lives on", reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn all_new_ones_close_the_socket() {
    let stage = stage("");
    let closes = node("server.listen(3000); setTimeout(() => server.close(() => setInterval(() => {}, 1000)), 20);");
    let reload = stage.deploys(&closes);
    // They were ready and live on, which is all that anybody sees of them. The port stays open, so who asks waits.
    stage.ended(reload).exits(0);
    let back = stage.spawn(&["project-cluster", "rollback", "api"]);
    let fault = "all new ones close the inherited socket behind ready and live on: the reload ends as if all were well, nobody is served \
                 until a rollback, which serves all who waited";
    stage.ends(fault, back, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn new_ones_unlink_the_socket() {
    let path = "/run/shop/api.sock";
    let other = app("other", 1, "hello-go 3001", "listen = 3001");
    let cluster = installed(&format!("{}{other}", app("api", 3, "sh app.sh", &format!("listen = \"{path}\""))));
    // `close` of Node's server unlinks the path, too.
    let unlinks = node(&format!(
        "try {{ require('fs').unlinkSync('{path}'); }} catch (why) {{ console.log(String(why)); }} server.listen('{path}');"
    ));
    ["v1", "v2"].iter().for_each(|release| cluster.write(format!("/srv/shop/{release}/app.sh"), &unlinks));
    cluster.cli(&["install", "--now"]).ok();
    let file = cluster.sh(&format!("stat -c %i {path}")).ok();
    let stage = Stage::on(cluster, 3, path);
    let reload = stage.half_way();
    stage.wait_until("the reload has ended", 3 * SOON, || !reload.runs());
    assert_eq!(stage.sh(&format!("stat -c %i {path}")).ok(), file, "the file is the same");
    stage.ends("workers unlink the inherited unix socket, at their start and at their end", reload, 0, ALL_NEW, Lost::Nothing);
}
