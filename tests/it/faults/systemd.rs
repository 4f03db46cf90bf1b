//! What systemd, its buses and its operators do in a roll.

use std::time::Duration;

use super::super::cluster::{ADDRESS, SOON};
use super::stage::{ALL_NEW, HANDLE, HELD, Lost, SOCKET, STOPPED, TARGET, record, stage};

const TEMPLATE: &str = "/etc/systemd/system/project-cluster-api@.service";

fn worker(slot: u16, generation: u64) -> String {
    format!("project-cluster-api@{slot}.{generation}.1.service")
}

/// A command in the middle of a roll that goes on to its end.
#[track_caller]
fn all_new_in_spite_of(fault: &str, command: &str) {
    let stage = stage("");
    let reload = stage.half_way();
    stage.sh(command);
    stage.ends(fault, reload, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn daemon_reload() {
    all_new_in_spite_of("`daemon-reload`, three times", "for i in 1 2 3; do systemctl daemon-reload; done");
}

#[test]
fn daemon_reexec() {
    all_new_in_spite_of("`daemon-reexec`", "systemctl daemon-reexec");
}

#[test]
fn dbus_restarted() {
    all_new_in_spite_of("`systemctl restart dbus`", "systemctl restart dbus.service");
}

#[test]
fn dbus_killed() {
    all_new_in_spite_of("`kill -9` of dbus", "systemctl kill -s KILL dbus.service");
}

#[test]
fn polkit_restarted() {
    all_new_in_spite_of("`systemctl restart polkit`", "systemctl restart polkit.service");
}

#[test]
fn journald_restarted() {
    all_new_in_spite_of("`systemctl restart systemd-journald`", "systemctl restart systemd-journald.service");
}

#[test]
fn journald_killed() {
    all_new_in_spite_of("`kill -9` of journald", "systemctl kill -s KILL systemd-journald.service");
}

#[test]
fn polkit_masked() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.systemctl(&["mask", "--runtime", "--now", "polkit.service"]).ok();
    let said = stage.ended(reload).exits(1);
    assert!(said.stderr.contains("refused"), "{}", said.stderr);
    assert!(stage.workers("api").len() >= 3, "nobody is missing");
    // Nobody may start or stop anything: it stays as it is until polkit is back, and the next reload mends it.
    stage.systemctl(&["unmask", "--runtime", "polkit.service"]).ok();
    let stage = stage;
    stage.cli(&["reload", "api"]).ok();
    stage.settles("polkit masked, back later, and a reload", "exit 1, naming who is left; 0", ALL_NEW, Lost::Nothing);
}

#[test]
fn a_worker_to_come_is_masked() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.systemctl(&["mask", "--runtime", &worker(3, 2)]).ok();
    let said = stage.ends("a worker to come masked", reload, 1, HELD, Lost::Nothing);
    assert!(said.stderr.contains("masked"), "{}", said.stderr);
}

/// The workers' unit is no use any more when the first new worker is ready. The first old one has gone by then and could not
/// come back: who is left is named, and serves. Mended, a reload makes all new.
#[track_caller]
fn mixed_by(fault: &str, breaks: &str, words: &str) {
    let stage = stage("");
    stage.run(&["cp", TEMPLATE, "/srv/template"]).ok();
    let reload = stage.half_way();
    stage.sh(&format!("{breaks}; systemctl daemon-reload")).ok();
    let said = stage.ended(reload).exits(1);
    assert!(said.stderr.contains("Left in a mix: ") && said.stderr.contains(words), "{}", said.stderr);
    assert!(stage.generations("api").len() == 2, "{:?}", stage.workers("api"));
    stage.sh(&format!("rm -f {TEMPLATE}; cp /srv/template {TEMPLATE}; systemctl daemon-reload")).ok();
    stage.cli(&["reload", "api"]).ok();
    stage.settles(fault, "exit 1, naming who is left; mended, 0", ALL_NEW, Lost::Nothing);
}

#[test]
fn the_template_is_masked() {
    mixed_by("the workers' unit masked, mended, and a reload", &format!("ln -sf /dev/null {TEMPLATE}"), "masked");
}

#[test]
fn the_template_is_edited() {
    all_new_in_spite_of(
        "the workers' unit edited",
        &format!("sed -i 's/^TimeoutStopSec=.*/TimeoutStopSec=7s/' {TEMPLATE}; systemctl daemon-reload"),
    );
}

#[test]
fn the_template_is_broken_by_an_edit() {
    let breaks = format!("sed -i '/^ExecStart=/i ExecStartPre=/bin/false' {TEMPLATE}");
    mixed_by("the workers' unit edited so that no start succeeds, mended, and a reload", &breaks, "");
}

#[test]
fn the_template_is_deleted() {
    mixed_by("the workers' unit deleted, restored, and a reload", &format!("rm {TEMPLATE}"), "not found");
}

#[test]
fn an_old_one_is_stopped() {
    let stage = stage("reload.min_ready = \"300ms\"");
    let reload = stage.half_way();
    stage.systemctl(&["stop", &worker(3, 1)]).ok();
    stage.ended(reload).exits(0);
    // Who stops a worker has said that its slot is to be empty.
    stage.now(2).settles("`systemctl stop` of an old worker", "exit 0; its slot is left empty", ALL_NEW, Lost::Nothing);
}

#[test]
fn a_new_one_is_stopped() {
    let stage = stage("reload.min_ready = \"500ms\"");
    let reload = stage.half_way();
    stage.systemctl(&["stop", &worker(1, 2)]).ok();
    stage.ends("`systemctl stop` of a new worker", reload, 1, HELD, Lost::Nothing);
}

#[test]
fn an_old_one_is_restarted() {
    all_new_in_spite_of("`systemctl restart` of an old worker", &format!("systemctl restart {}", worker(3, 1)));
}

#[test]
fn a_new_one_is_restarted() {
    let stage = stage("reload.min_ready = \"500ms\"");
    let reload = stage.half_way();
    stage.systemctl(&["restart", &worker(1, 2)]);
    stage.ends("`systemctl restart` of a new worker", reload, 1, HELD, Lost::Nothing);
}

#[test]
fn an_old_one_is_asked_to_end() {
    let stage = stage("");
    let reload = stage.half_way();
    // Not a stop: no step comes before it.
    stage.systemctl(&["kill", &worker(3, 1)]).ok();
    stage.ends("`systemctl kill` (SIGTERM) of an old worker", reload, 0, ALL_NEW, Lost::Cut(4, "in that one, which ends at once"));
}

#[test]
fn a_worker_is_asked_to_reload() {
    all_new_in_spite_of("`systemctl reload` of workers, which they have not", "systemctl reload 'project-cluster-api@*.service'");
}

#[test]
fn the_handle_is_stopped() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.systemctl(&["stop", HANDLE]).ok();
    let said = stage.ends("`systemctl stop` of the handle", reload, 1, STOPPED, Lost::Closed("the app was stopped"));
    assert!(said.stderr.contains("was stopped or restarted meanwhile"), "{}", said.stderr);
}

#[test]
fn the_handle_is_restarted() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.systemctl(&["restart", HANDLE]).ok();
    stage.ends("`systemctl restart` of the handle", reload, 1, ALL_NEW, Lost::Nothing);
}

#[test]
fn the_handle_is_reloaded() {
    let stage = stage("");
    let reload = stage.half_way();
    let second = stage.spawn(&["systemctl", "reload", HANDLE]);
    let first = stage.ended(reload).exits(0);
    assert!(first.stdout.contains("done: generation 2"), "{}", first.stdout);
    stage.ends("`systemctl reload` of the handle", second, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn the_handle_is_killed() {
    all_new_in_spite_of("`systemctl kill` of the handle, which has no process", "systemctl kill project-cluster@api.service");
}

#[test]
fn a_reload_by_systemctl_is_killed() {
    let stage = stage("");
    stage.release("v2");
    let reload = stage.spawn(&["systemctl", "reload", HANDLE]);
    let begun = || !stage.units("project-cluster-api@*.2.1.service", &["active"]).is_empty();
    stage.wait_until("a new worker is ready", SOON, begun);
    // The one who waits in the handle's reload, not the roll.
    stage.systemctl(&["kill", HANDLE]).ok();
    let told = format!("exit {}", stage.ended(reload).code);
    stage.settles("`systemctl kill` of the handle in its own reload", &told, ALL_NEW, Lost::Nothing);
}

/// Without its socket no worker can be started: the roll turns back, and who serves goes on. What the message says mends it.
#[track_caller]
fn socket_down_by(fault: &str, verb: &str) {
    let stage = stage("");
    let reload = stage.half_way();
    stage.systemctl(&[verb, SOCKET]);
    assert_ne!(stage.state(SOCKET), "active");
    let said = stage.ended(reload).exits(1);
    let mend = "systemctl stop project-cluster@api.service && systemctl start project-cluster@api.service";
    assert!(said.stderr.contains(&format!("`{mend}`")), "{}", said.stderr);
    assert!(stage.get(ADDRESS, "/").is_ok(), "those that are left serve");
    stage.sh(mend).ok();
    stage.settles(fault, "exit 1, with what mends it", HELD, Lost::Closed("the app was stopped and started, to mend it"));
}

#[test]
fn the_socket_is_stopped() {
    socket_down_by("`systemctl stop` of the socket, and then what the message says", "stop");
}

#[test]
fn the_socket_is_restarted() {
    socket_down_by("`systemctl restart` of the socket, which closes it, and then what the message says", "restart");
}

#[test]
fn the_socket_is_reloaded_or_killed() {
    all_new_in_spite_of(
        "`systemctl reload` and `kill` of the socket, which has neither",
        &format!("systemctl reload {SOCKET}; systemctl kill {SOCKET}"),
    );
}

#[test]
fn the_socket_of_the_api_is_stopped() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.systemctl(&["stop", "project-cluster.socket"]).ok();
    // The master goes with it, and nobody starts it by asking.
    stage.wait_until("time passes or it ends", SOON, || !reload.runs() || stage.state("project-cluster.service") == "inactive");
    stage.systemctl(&["start", "project-cluster.socket", "project-cluster.service"]).ok();
    let output = stage.ended(reload);
    println!("{}{}", output.stdout, output.stderr);
    stage.settles("`systemctl stop` of the API's socket, and a start of both", &format!("exit {}", output.code), ALL_NEW, Lost::Nothing);
}

#[test]
fn the_target_is_stopped() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.systemctl(&["stop", TARGET]).ok();
    stage.wait_for_state(HANDLE, "inactive", SOON);
    let output = stage.ended(reload);
    println!("{}{}", output.stdout, output.stderr);
    assert_ne!(output.code, 0);
    assert!(stage.workers("api").is_empty() && stage.workers("other").is_empty());
    // And all is there again.
    stage.systemctl(&["start", TARGET]).ok();
    stage.wait_for_state(HANDLE, "active", SOON);
    let (cluster, load) = stage.into_parts();
    assert_eq!((cluster.workers("api").len(), cluster.generations("api").len()), (3, 1));
    load.wait_for_answers(20);
    let lost = Lost::Closed("all was stopped");
    record(
        "`systemctl stop` of the target, and a start",
        &load.stop(),
        &lost,
        "stopped, then one generation",
        &format!("exit {}", output.code),
    );
}

#[test]
fn the_target_is_restarted() {
    let stage = stage("");
    let reload = stage.half_way();
    stage.systemctl(&["restart", TARGET]).ok();
    let output = stage.ended(reload);
    println!("{}{}", output.stdout, output.stderr);
    let (cluster, load) = stage.into_parts();
    cluster.wait_until("one generation is there", 2 * SOON, || {
        cluster.state(HANDLE) == "active" && cluster.workers("api").len() == 3 && cluster.generations("api").len() == 1
    });
    cluster.wait_until("nothing rolls", SOON, || cluster.app("api")["roll"]["state"] != "running");
    assert_eq!((cluster.workers("api").len(), cluster.generations("api").len()), (3, 1));
    load.wait_for_answers(20);
    let lost = Lost::Closed("all was restarted");
    record("`systemctl restart` of the target", &load.stop(), &lost, "one generation", &format!("exit {}", output.code));
}

#[test]
fn the_target_is_reloaded_or_killed() {
    all_new_in_spite_of(
        "`systemctl reload` and `kill` of the target, which has neither",
        &format!("systemctl reload {TARGET}; systemctl kill {TARGET}"),
    );
}

/// Clients whose request is never over.
const LONG: &str = "
import socket, time
held = [socket.create_connection(('127.0.0.1', 3000)) for _ in range(200)]
for one in held: one.sendall(b'GET /sleep/600000 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
print('held', flush=True)
time.sleep(600)
";

#[test]
fn a_reboot_in_the_middle() {
    let stage = stage("reload.min_ready = \"500ms\"");
    stage.release("v2");
    // Not by a child of this process: the machine's last step would wait for us to take its end.
    stage.systemctl(&["reload", "--no-block", HANDLE]).ok();
    stage.wait_until("a new worker is ready", SOON, || !stage.units("project-cluster-api@*.2.1.service", &["active"]).is_empty());
    let (mut cluster, load) = stage.into_parts();
    let took = cluster.reboot();
    let report = load.stop();
    assert!(report.failed_by_kind.keys().all(|kind| ["eof", "reset", "refused"].contains(kind)), "{report}");
    // It comes back by itself, one generation of it, and serves.
    cluster.wait_for_http(ADDRESS);
    cluster.wait_until("all are back", SOON, || cluster.workers("api").len() == 3);
    assert_eq!(cluster.generations("api").len(), 1);
    let after = cluster.load(ADDRESS).connections(2).start();
    after.wait_for_answers(50);
    after.stop().none_failed(50);
    cluster.wait_until("nothing rolls", SOON, || cluster.app("api")["roll"]["state"] != "running");
    let end = format!(
        "one generation, {}; down within {:.1} s",
        if cluster.generations("api") == [1] { "the old one" } else { "the new one" },
        took.as_secs_f64()
    );
    record("a reboot", &report, &Lost::Closed("the machine went down"), &end, "nobody");
}

#[test]
fn a_reboot_under_long_connections() {
    let stage = stage("");
    stage.write("/srv/long.py", LONG);
    stage.sh("systemd-run -q -u long python3 /srv/long.py").ok();
    stage.wait_until("they are held", SOON, || stage.journal_of("long").contains("held"));
    let (mut cluster, load) = stage.into_parts();
    let took = cluster.reboot();
    // Twice `timeout.kill` of these apps, and the machine's own way down: nobody waits for who never ends.
    assert!(took < Duration::from_secs(15), "{took:?}");
    let report = load.stop();
    cluster.wait_for_http(ADDRESS);
    cluster.wait_until("all are back", SOON, || cluster.workers("api").len() == 3);
    assert_eq!(cluster.generations("api"), [1]);
    let end = format!("all back; down within {:.1} s", took.as_secs_f64());
    record("a reboot with 200 requests that never end", &report, &Lost::Closed("the machine went down"), &end, "nobody");
}
