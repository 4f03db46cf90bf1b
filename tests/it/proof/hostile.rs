//! Hostile workers that take longer: `crate::hostile` has what is asserted of all.

use std::time::Duration;

use crate::cluster::{Cluster, SOON};
use crate::hostile::{RIGHTS, UNIT, stage, stop, stop_unnoticed, stop_unnoticed_or_told};
use crate::support::wait_for;

/// Room for a hundred thousand descriptors.
const WIDE: &str = "systemd.LimitNOFILE = 220000";

#[test]
fn a_hundred_thousand_descriptors() {
    stop_unnoticed_or_told(&stage("descriptors", WIDE));
}

#[test]
fn an_epoll_set_of_a_hundred_thousand() {
    stop_unnoticed_or_told(&stage("megabytes", WIDE));
}

#[test]
fn thousands_of_epoll_sets_in_epoll_sets() {
    stop_unnoticed_or_told(&stage("nested", WIDE));
}

#[test]
fn thousands_of_epoll_sets_on_a_machine_that_opens_each_file_slowly() {
    let cluster = stage("nested", WIDE);
    // strace lets the helper wait at each file that it opens: some twenty seconds for all the sets, twice what systemd gives at once.
    let line = cluster.sh("sed -n 's/^ExecStop=-+//p' '/etc/systemd/system/project-cluster-api@.service'").ok();
    let strace = "strace -D -f -qq -o /dev/null -e trace=openat -e inject=openat:delay_enter=5000";
    let text = format!("[Service]\nExecStop=\nExecStop=-+/usr/bin/{strace} {line}\n");
    cluster.write("/run/systemd/system/project-cluster-api@.service.d/99-slow.conf", text);
    cluster.systemctl(&["daemon-reload"]).ok();
    let end = stop(&cluster, |_| {});
    assert!(end.journal.contains("not all of it could be looked at"), "{}", end.journal);
}

#[test]
fn a_listener_that_is_put_back_at_once() {
    let end = stop(&stage("readds", ""), |_| {});
    assert!(end.journal.contains("or taken out"), "it is told: {}", end.journal);
}

#[test]
fn forged_marks() {
    stop_unnoticed(&stage("marks", ""), |_| {});
}

#[test]
fn a_process_that_nobody_may_look_into() {
    let cluster = stage("undumpable", "");
    // Long enough for the watcher on a busy machine to see with what rights it is looked into.
    let held = hold(&cluster, 24);
    let end = stop_unnoticed(&cluster, |_| {});
    assert_eq!(end.rights, Some(RIGHTS));
    drop(held);
}

#[test]
fn a_thousand_threads_that_never_rest() {
    stop_unnoticed(&stage("threads", ""), |_| {});
}

#[test]
fn a_thread_that_cannot_be_stopped_and_a_process_that_becomes_another_all_the_time() {
    stop_unnoticed(&stage("blocks", ""), |_| {});
}

#[test]
fn a_user_namespace_and_a_pid_namespace() {
    stop_unnoticed(&stage("userns", "sandbox = { namespaces = false, privileges = false, syscalls = false }"), |_| {});
}

#[test]
fn a_process_whose_first_thread_is_gone() {
    stop(&stage("leaderless", "ready = \"none\""), |_| {});
}

#[test]
fn a_thread_with_descriptors_of_its_own() {
    stop(&stage("unshared_files", "ready = \"none\""), |_| {});
}

#[test]
fn no_room_for_another_descriptor() {
    stop_unnoticed(&stage("narrow", "systemd.LimitNOFILE = 24"), |_| {});
}

#[test]
fn a_fork_bomb_at_its_limit() {
    let cluster = stage("bomb", "systemd.LimitNPROC = 150");
    cluster.wait_until("the bomb is at its limit", 4 * SOON, || cluster.pids_of_unit(UNIT).len() > 60);
    stop(&cluster, |_| {});
}

#[test]
fn children_that_live_for_milliseconds() {
    stop(&stage("churn", ""), |_| {});
}

#[test]
fn the_process_ends_meanwhile() {
    let cluster = stage("plain", "");
    let pid = cluster.main_pid(UNIT).unwrap();
    let held = hold(&cluster, 24);
    let end = stop(&cluster, |_| cluster.kill(pid, "KILL"));
    assert!(end.took < Duration::from_secs(3), "its drain is over when there is nobody left: {:?}", end.took);
    drop(held);
}

#[test]
fn numbers_of_processes_that_become_others_outside() {
    let cluster = stage("children", "");
    let main = cluster.main_pid(UNIT).unwrap();
    cluster.wait_until("all children are there", SOON, || cluster.pids_of_unit(UNIT).len() > 60);
    let held = hold(&cluster, 24);
    let group = cluster.property(UNIT, "ControlGroup");
    let reuses = cluster.spawn(&["python3", "-c", REUSER, &group, &main.to_string()]);
    cluster.wait_until("numbers are used again", SOON, || reuses.stdout().contains("begun"));
    stop(&cluster, |_| {});
    cluster.wait_until("it has looked", 4 * SOON, || reuses.stdout().contains("lost"));
    let said = reuses.stdout();
    println!("{}", said.trim().replace('\n', "; "));
    assert!(said.contains("lost 0 of ") && !said.contains("lost 0 of 0 "), "{said}");
    drop(held);
}

/// Kills the children of a worker one by one, and makes a process of each one's number outside of its control group, with the
/// worker's listener at the same place of an epoll set. When the group is empty it tells which of these have lost it.
const REUSER: &str = r#"
import array, ctypes, os, select, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
group, main = "/sys/fs/cgroup" + sys.argv[1] + "/cgroup.procs", int(sys.argv[2])
listener = call(438, call(434, main, 0), 3, 0)
os.dup2(listener, 3, True)
children = []
for pid in map(int, open(group).read().split()):
    if pid != main and "python3" in os.readlink(f"/proc/{pid}/exe"): children.append(pid)
mine = []
for pid in children:
    # The stop may have been quicker.
    try: os.kill(pid, signal.SIGKILL)
    except ProcessLookupError: continue
    while os.path.exists(f"/proc/{pid}"): time.sleep(0.0005)
    number = array.array("i", [pid])
    arguments = array.array("Q", [0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, number.buffer_info()[0], 1, 0])
    # The kernel lets go of a number a little later than of its directory.
    for _ in range(500):
        try: child = call(435, ctypes.c_void_p(arguments.buffer_info()[0]), ctypes.c_long(88))
        except FileExistsError: time.sleep(0.001)
        else: break
    else: continue
    if child == 0:
        poll = select.epoll()
        poll.register(3, select.EPOLLIN)
        signal.pause()
    mine.append(child)
    if len(mine) == 10: print("begun", flush=True)
    time.sleep(0.005)
try:
    while open(group).read(): time.sleep(0.01)
except OSError: pass
lost = 0
for pid in mine:
    tells = "".join(open(f"/proc/{pid}/fdinfo/{fd}").read() for fd in os.listdir(f"/proc/{pid}/fd") if "eventpoll" in os.readlink(f"/proc/{pid}/fd/{fd}"))
    lost += "tfd:        3 " not in tells
print("lost", lost, "of", len(mine), "processes", flush=True)
for pid in mine: os.kill(pid, signal.SIGKILL)
"#;

/// Connections that are open and stay so.
fn hold(cluster: &Cluster, count: usize) -> crate::support::Running {
    let script = "import resource, socket, sys, time\nresource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))\n\
        held = []\nfor _ in range(int(sys.argv[1])):\n    held.append(socket.create_connection(('127.0.0.1', 3000), 60))\n    held[-1].sendall(b'GET /sleep/600000 HTTP/1.1\\r\\n')\n\
        print('holds', flush=True)\ntime.sleep(600)";
    let held = cluster.spawn(&["python3", "-c", script, &count.to_string()]);
    cluster.wait_until("all are open", Duration::from_secs(60), || held.stdout().contains("holds"));
    held
}

#[test]
fn ten_thousand_connections_that_never_end() {
    let cluster = stage("plain", "systemd.LimitNOFILE = 20000");
    let held = hold(&cluster, 10_000);
    let accepted =
        || cluster.sh("ss -Htn state established 'sport = :3000' | wc -l").ok().trim().parse::<usize>().is_ok_and(|open| open >= 9_900);
    cluster.wait_until("the kernel has all of them", SOON, accepted);
    let end = stop(&cluster, |_| {});
    // On a slow machine so many are not looked at in time, and that is told.
    let told = ["still open", "not all of it could be looked at"];
    assert!(told.iter().any(|told| end.journal.contains(told)), "{}", end.journal);
    drop(held);
}

/// Holds a worker's listener in a process of its own, outside: it answers there as long as it has it in its set.
const OUTSIDER: &str = r#"
import ctypes, os, select, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
os.dup2(libc.syscall(438, libc.syscall(434, int(sys.argv[1]), 0), int(sys.argv[2]), 0), 3)
listener = socket.socket(fileno=3)
poll = select.epoll()
poll.register(listener, select.EPOLLIN)
print("listens", os.getpid(), flush=True)
while True:
    poll.poll()
    try: client = listener.accept()[0]
    except BlockingIOError: continue
    client.setblocking(True)
    client.recv(4096)
    client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\noutsider 1")
    client.close()
"#;

#[test]
fn a_listener_that_is_held_outside() {
    let cluster = stage("plain", "");
    let pid = cluster.main_pid(UNIT).unwrap();
    let outsider = cluster.spawn(&["python3", "-c", OUTSIDER, &pid.to_string(), "3"]);
    cluster.wait_until("it listens", SOON, || outsider.stdout().contains("listens"));
    let load = cluster.load("127.0.0.1:3000").connections(6).path("/sleep/50").start();
    load.wait_for_body("outsider");
    // Not by `stop`: who answers behind it is the sibling or the outsider.
    let stopped = cluster.run(&["systemctl", "stop", UNIT]).ok();
    let count = || load.so_far().versions().get("outsider").copied().unwrap_or(0);
    let before = count();
    wait_for("the outsider still answers", SOON, || (count() > before + 20).then_some(()));
    load.stop().none_failed(40);
    assert!(stopped.is_empty());
}

#[test]
fn a_number_of_the_main_process_that_has_become_another_s_outside() {
    let cluster = stage("plain", "");
    let pid = cluster.main_pid(UNIT).unwrap();
    let outsider = cluster.spawn(&["python3", "-c", OUTSIDER, &pid.to_string(), "3"]);
    cluster.wait_until("it listens", SOON, || outsider.stdout().contains('\n'));
    let other = outsider.stdout().split_whitespace().last().unwrap().to_owned();
    // As if the main process had ended, and its number were the other's: so say systemd, and the worker's own file.
    let sockets = "/run/project-cluster-api/1.1.1/sockets.json";
    cluster.sh(&format!("sed -i 's/\"pid\":{pid}/\"pid\":{other}/' {sockets}; grep -q '\"pid\":{other}' {sockets}")).ok();
    let line = cluster.sh("sed -n 's/^ExecStop=-+//p' '/etc/systemd/system/project-cluster-api@.service'").ok();
    let text = format!("[Service]\nExecStop=\nExecStop=-+/bin/sh -c 'MAINPID={other} exec {line}'\n");
    cluster.write("/run/systemd/system/project-cluster-api@.service.d/99-another.conf", text);
    cluster.systemctl(&["daemon-reload"]).ok();
    let load = cluster.load("127.0.0.1:3000").connections(6).path("/sleep/50").start();
    load.wait_for_body("outsider");
    cluster.run(&["systemctl", "stop", UNIT]).ok();
    let journal = || cluster.journal_of(UNIT);
    cluster.wait_until("it is told", SOON, || journal().contains(&format!("process {other} is not of its control group")));
    let count = || load.so_far().versions().get("outsider").copied().unwrap_or(0);
    let before = count();
    wait_for("the outsider still answers", SOON, || (count() > before + 20).then_some(()));
    load.stop();
}

/// Hands another app's listener to the hostile worker.
const GIVER: &str = r#"
import array, ctypes, os, socket, stat, sys
libc = ctypes.CDLL(None, use_errno=True)
pid = int(sys.argv[1])
pidfd = libc.syscall(434, pid, 0)
for number in map(int, os.listdir(f"/proc/{pid}/fd")):
    if os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:"):
        taken = socket.socket(fileno=libc.syscall(438, pidfd, number, 0))
        if taken.family in (socket.AF_INET, socket.AF_INET6) and taken.getsockname()[1] == 3001: break
client = socket.socket(socket.AF_UNIX)
client.connect("\0hostile")
client.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [taken.fileno()]))])
client.recv(1)
print("given", flush=True)
"#;

#[test]
fn another_app_s_listener_in_its_set() {
    let cluster = stage("others_socket", "");
    let other = cluster.main_pid("project-cluster-other@1.1.1.service").unwrap();
    let given = cluster.run(&["python3", "-c", GIVER, &other.to_string()]).ok();
    assert!(given.contains("given"));
    let load = cluster.load("127.0.0.1:3001").connections(2).path("/sleep/20").start();
    load.wait_for_answers(20);
    stop_unnoticed(&cluster, |_| {});
    load.wait_for_answers(20);
    load.stop().none_failed(40);
}

#[test]
fn under_a_debugger() {
    let cluster = stage("plain", "");
    let pid = cluster.main_pid(UNIT).unwrap();
    let strace = cluster.spawn(&["strace", "-f", "-o", "/dev/null", "-p", &pid.to_string()]);
    cluster.wait_until("it is traced", SOON, || !cluster.read(format!("/proc/{pid}/status")).contains("TracerPid:\t0"));
    stop_unnoticed(&cluster, |_| {});
    drop(strace);
}

#[test]
fn held_by_a_debugger() {
    let cluster = stage("plain", "");
    let pid = cluster.main_pid(UNIT).unwrap();
    let script = "import ctypes, sys, time\nlibc = ctypes.CDLL(None)\npid = int(sys.argv[1])\n\
        assert libc.ptrace(0x4206, pid, 0, 0) == 0 and libc.ptrace(0x4207, pid, 0, 0) == 0\nprint('holds', flush=True)\ntime.sleep(600)";
    let holds = cluster.spawn(&["python3", "-c", script, &pid.to_string()]);
    cluster.wait_until("it is held", SOON, || cluster.read(format!("/proc/{pid}/status")).contains("tracing stop"));
    stop(&cluster, |_| {});
    drop(holds);
}
