//! The sandbox itself: what every other test here stands on.

use std::path::PathBuf;
use std::time::Duration;

use super::support::sandbox::Options;
use super::support::{Sandbox, apps, wait_until};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn boots_a_whole_systemd_that_owes_nothing_to_the_machine() {
    let sandbox = Sandbox::start();
    assert_eq!(sandbox.run(&["systemctl", "is-system-running"]).ok(), "running");
    assert_eq!(sandbox.state("multi-user.target"), "active");
    assert!(sandbox.run(&["test", "-x", "/usr/bin/project-cluster"]).success(), "the binary under test is there");
    // The machine's settings and data are hidden, a lower root's as well.
    assert_eq!(
        sandbox.sh("find /etc/systemd ! -type d | sort").ok(),
        "/etc/systemd/system/console-getty.service\n/etc/systemd/system/getty.target"
    );
    assert_eq!(sandbox.sh("find /home /root /mnt /etc/polkit-1 ! -type d").ok(), "");
    assert_eq!(sandbox.sh("cat /etc/hostname; hostname").ok(), "sandbox\nsandbox");
    // Loopback is all the network there is.
    assert_eq!(sandbox.sh("ls /sys/class/net; tail -n +2 /proc/net/route").ok(), "lo");
    assert_eq!(sandbox.sh("find /tmp /var/tmp ! -type d").ok(), "");
}

#[test]
fn commands_say_all_about_their_end() {
    let sandbox = Sandbox::start();
    let output = sandbox.sh("echo out; echo err >&2; exit 7").exits(7);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(sandbox.sh("kill -KILL $$").code, 128 + libc::SIGKILL);
    assert_eq!(sandbox.run_as("nobody", &["id", "-un"]).ok(), "nobody");
    assert_eq!(sandbox.run_with_input(&["cat"], b"given").ok(), "given");
    sandbox.write("/srv/a/b/c", "text\n");
    assert_eq!(sandbox.read("/srv/a/b/c"), "text\n");
    assert_eq!(sandbox.sh("stat -c %a:%U /srv/a/b/c").ok(), "644:root");
    assert!(sandbox.exists("/srv/a") && !sandbox.exists("/srv/x"));
    // A command belongs to the system, so systemd may judge it by its control group.
    assert_eq!(sandbox.sh("grep ^0:: /proc/self/cgroup").ok(), "0::/init.scope");

    let running = sandbox.spawn(&["sh", "-c", "echo begun; exec sleep 1000"]);
    wait_until("the command speaks", SOON, || running.stdout() == "begun\n");
    let pid = running.pid();
    assert!(sandbox.exists(format!("/proc/{pid}")));
    drop(running);
    wait_until("the command is gone", SOON, || !sandbox.exists(format!("/proc/{pid}")));
}

#[test]
fn two_at_once_share_nothing() {
    let (one, two) = (Sandbox::start(), Sandbox::start());
    assert_ne!(one.read("/etc/machine-id"), two.read("/etc/machine-id"));
    for (sandbox, version) in [(&one, "first"), (&two, "second")] {
        sandbox.sh(&format!("systemd-run -q -u hello -p DynamicUser=yes -E VERSION={version} node /srv/apps/hello.js 3000")).ok();
    }
    assert!(one.wait_for_http("127.0.0.1:3000").body.starts_with("first "));
    assert!(two.wait_for_http("127.0.0.1:3000").body.starts_with("second "));
    one.systemctl(&["stop", "hello"]).ok();
    assert_eq!((one.state("hello"), two.state("hello")), ("inactive".into(), "active".into()));
}

#[test]
fn a_reboot_keeps_files_and_journal_and_drops_run() {
    let mut sandbox = Sandbox::start();
    sandbox.unit(
        "marks.service",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'echo start >> /var/lib/marks'\nExecStop=/bin/sh -c 'echo stop >> /var/lib/marks'\n[Install]\nWantedBy=multi-user.target\n",
    );
    sandbox.systemctl(&["enable", "--now", "marks.service"]).ok();
    sandbox.sh("logger -t before said before the reboot; touch /run/gone /tmp/gone").ok();
    let machine = sandbox.read("/etc/machine-id");
    sandbox.run(&["journalctl", "--sync"]).ok();

    sandbox.reboot();
    assert_eq!(sandbox.read("/etc/machine-id"), machine);
    assert!(!sandbox.exists("/run/gone") && !sandbox.exists("/tmp/gone"));
    assert_eq!(sandbox.read("/var/lib/marks"), "start\nstop\nstart\n", "a clean way down, and what is enabled comes up again");
    assert_eq!(sandbox.journal(&["-b", "-1", "-t", "before", "-o", "cat"]), "said before the reboot\n");
    assert_eq!(sandbox.journal(&["-b", "0", "-t", "before", "-o", "cat"]), "");

    // Power loss runs no stop step; between two boots the files can be seen and changed.
    sandbox.power_off_hard();
    assert!(!sandbox.is_up());
    assert_eq!(sandbox.read("/var/lib/marks"), "start\nstop\nstart\n");
    sandbox.write("/var/lib/marks", "");
    sandbox.boot();
    assert_eq!(sandbox.read("/var/lib/marks"), "start\n");
    let took = sandbox.shutdown();
    assert_eq!(sandbox.read("/var/lib/marks"), "start\nstop\n");
    assert!(took < SOON, "a clean power off waits for no time-out, but took {took:?}");
}

#[test]
fn an_unprivileged_user_is_refused_by_polkit_and_allowed_by_a_rule() {
    let sandbox = Sandbox::start();
    for unit in ["mine.service", "other.service"] {
        sandbox.unit(unit, "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n");
    }
    let start = |unit: &str| {
        let manager = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"];
        sandbox.run_as("nobody", &["busctl", "call", manager[0], manager[1], manager[2], "StartUnit", "ss", unit, "replace"])
    };
    let refused = start("mine.service").exits(1);
    assert!(refused.stderr.contains("authentication required") || refused.stderr.contains("Access denied"), "{}", refused.stderr);
    sandbox.write(
        "/etc/polkit-1/rules.d/50-mine.rules",
        r#"polkit.addRule(function (action, subject) {
            if (action.id == "org.freedesktop.systemd1.manage-units" && action.lookup("unit") == "mine.service" && subject.user == "nobody")
                return polkit.Result.YES;
        });"#,
    );
    // polkit notices new rules by itself, some time later; a restart is done when it returns.
    sandbox.systemctl(&["restart", "polkit"]).ok();
    start("mine.service").ok();
    start("other.service").exits(1);
    sandbox.wait_for_state("mine.service", "active", SOON);
    assert_eq!(sandbox.state("other.service"), "inactive");
}

/// Every system call that the swap and the drain stand on, as a DynamicUser service.
#[test]
fn a_dynamic_user_may_use_seccomp_notifications_pidfds_and_foreign_memory() {
    const PROBE: &str = r#"
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *arguments):
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    print(name, "ok" if result >= 0 else os.strerror(ctypes.get_errno()), flush=True)
    return result
source, target = ctypes.create_string_buffer(b"hello"), ctypes.create_string_buffer(5)
child = os.fork()
if child == 0:
    import time; time.sleep(1000)
pidfd = call("pidfd_open", 434, child, 0)
call("pidfd_getfd", 438, pidfd, 1, 0)
call("kcmp", 312, os.getpid(), child, 0, 1, 1)
class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
there, here = Piece(ctypes.addressof(source), 5), Piece(ctypes.addressof(target), 5)
call("process_vm_readv", 310, child, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
print("read", target.raw.decode())
os.listdir(f"/proc/{child}/fdinfo"); os.readlink(f"/proc/{child}/fd/1"); print("fdinfo ok")
class Line(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("lines", ctypes.POINTER(Line))]
lines = (Line * 4)(Line(0x20, 0, 0, 0), Line(0x15, 0, 1, 49), Line(6, 0, 0, 0x7FC00000), Line(6, 0, 0, 0x7FFF0000))
assert libc.prctl(38, 1, 0, 0, 0) == 0
call("seccomp", 317, 1, 8, ctypes.byref(Program(4, lines)))
os.kill(child, 9)
"#;
    let sandbox = Sandbox::start();
    sandbox.write("/srv/probe.py", PROBE);
    let output = sandbox.run(&["systemd-run", "--wait", "--pipe", "-q", "-p", "DynamicUser=yes", "/usr/bin/python3", "/srv/probe.py"]).ok();
    let expected = "pidfd_open ok\npidfd_getfd ok\nkcmp ok\nprocess_vm_readv ok\nread hello\nfdinfo ok\nseccomp ok";
    assert_eq!(output, expected);
}

#[test]
fn units_are_read_as_systemd_tells_them() {
    let sandbox = Sandbox::start();
    sandbox.unit("pair.service", "[Service]\nExecStart=/bin/sh -c 'sleep 1000 & echo I am here; wait'\nKillMode=mixed\n");
    sandbox.systemctl(&["start", "pair"]).ok();
    wait_until("both processes run", SOON, || sandbox.pids_of_unit("pair.service").len() == 2);
    let main = sandbox.main_pid("pair.service").expect("it runs");
    assert!(sandbox.pids_of_unit("pair.service").contains(&main));
    wait_until("the journal has its line", SOON, || sandbox.journal_of("pair.service").contains("I am here\n"));
    assert_eq!(sandbox.units("pai*", &["active"]), ["pair.service"]);
    let mark = sandbox.journal_mark();
    sandbox.sh("logger -t after later").ok();
    assert_eq!(sandbox.journal(&["--since", &mark, "-t", "after", "-o", "cat"]), "later\n");
    assert_eq!(sandbox.journal(&["--since", &mark, "-u", "pair", "-o", "cat"]), "");
    sandbox.kill(main, "KILL");
    sandbox.wait_for_state("pair.service", "failed", SOON);
    assert_eq!(sandbox.property("pair.service", "Result"), "signal");
    assert_eq!((sandbox.main_pid("pair.service"), sandbox.pids_of_unit("pair.service")), (None, Vec::new()));
}

#[test]
fn every_server_of_the_tests_answers() {
    let sandbox = Sandbox::start_with(Options { shown: vec![apps::go()], ..Options::default() });
    let servers = [
        "node /srv/apps/hello.js",
        "python3 /srv/apps/hello_asyncio.py",
        "python3 /srv/apps/hello_sync.py poll",
        "python3 /srv/apps/hello_sync.py select",
        "python3 /srv/apps/hello_sync.py accept",
        "python3 /srv/apps/hello_sync.py threading",
        "/usr/local/bin/hello-go",
        "node /srv/apps/broken/stubborn.js",
        "node /srv/apps/broken/slow.js",
    ];
    for (index, server) in servers.iter().enumerate() {
        let script = format!(
            "systemd-run -q -u s{index} -p DynamicUser=yes -E VERSION=v{index} -E STARTS_AFTER=10 /usr/bin/env {server} {}",
            3000 + index
        );
        sandbox.sh(&script).ok();
    }
    for (index, server) in servers.iter().enumerate() {
        let body = sandbox.wait_for_http(&format!("127.0.0.1:{}", 3000 + index)).body;
        let main = sandbox.main_pid(&format!("s{index}.service")).expect("it runs");
        assert_eq!(body, format!("v{index} {main}\n"), "{server}");
    }
    // The users of inherited sockets, over TCP and a unix socket.
    for (name, address, command) in
        [("fds", "127.0.0.1:4000", "node /srv/apps/hello_fds.js"), ("pyfds", "/run/pyfds.sock", "python3 /srv/apps/hello_asyncio.py fds")]
    {
        sandbox.write(format!("/etc/systemd/system/{name}.socket"), format!("[Socket]\nListenStream={address}\n"));
        sandbox.unit(&format!("{name}.service"), &format!("[Service]\nDynamicUser=yes\nExecStart=/usr/bin/env {command}\n"));
        sandbox.systemctl(&["start", &format!("{name}.socket")]).ok();
        let body = sandbox.wait_for_http(address).body;
        let main = sandbox.main_pid(&format!("{name}.service")).expect("it runs");
        assert_eq!(body, format!("v1 {main}\n"));
    }
}

#[test]
fn broken_servers_are_broken_as_told() {
    let sandbox = Sandbox::start();
    let end = |name: &str| sandbox.run_within(SOON, &["node", &format!("/srv/apps/broken/{name}.js"), "3000"]);
    let thrown = end("throws").exits(1);
    assert!(thrown.stderr.contains("Error: the broken version cannot start"), "{}", thrown.stderr);
    assert_eq!(end("exits").ok(), "nothing to do");
    sandbox.sh("systemd-run -q -u wrong node /srv/apps/broken/wrong_port.js 3000").ok();
    sandbox.wait_for_http("127.0.0.1:3001");
    sandbox.get("127.0.0.1:3000", "/").expect_err("it listens elsewhere");
    sandbox.sh("systemd-run -q -u dies -E DIES_AFTER=1 node /srv/apps/broken/dies.js 3002; ").ok();
    sandbox.wait_for_state("dies.service", "failed", SOON);
    assert_eq!(sandbox.property("dies.service", "ExecMainStatus"), "3");
    sandbox.sh("systemd-run -q -u stubborn -p TimeoutStopSec=300ms node /srv/apps/broken/stubborn.js 3003").ok();
    sandbox.wait_for_http("127.0.0.1:3003");
    sandbox.systemctl(&["stop", "stubborn"]).ok();
    assert!(sandbox.journal_of("stubborn").contains("SIGTERM ignored"));
    assert_eq!(sandbox.property("stubborn", "Result"), "timeout");
}

#[test]
fn a_test_that_panics_leaves_its_evidence() {
    let directory = super::support::evidence::target().join("sandbox-logs").join(super::support::evidence::test_name());
    let _ = std::fs::remove_dir_all(&directory);
    let mut name = String::new();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let sandbox = Sandbox::start();
        sandbox.name().clone_into(&mut name);
        sandbox.sh("logger -t test a last word; journalctl --sync; systemd-run -q --wait -u broken /bin/false || :").ok();
        panic!("meant to");
    }));
    assert!(panicked.is_err());
    let read = |file: &str| std::fs::read_to_string(directory.join(file)).unwrap();
    assert!(read("journal.txt").contains("a last word"));
    assert!(read("units.txt").contains("multi-user.target"));
    assert!(read("processes.txt").contains("systemd-journald"));
    assert!(!groups().contains(&name), "and the sandbox is gone");
    let _ = std::fs::remove_dir_all(&directory);
}

#[test]
fn nothing_is_left_however_the_test_process_ends() {
    for signal in [libc::SIGKILL, libc::SIGINT, libc::SIGTERM] {
        let tests = std::env::current_exe().unwrap();
        let program = tests.ancestors().nth(2).unwrap().join("examples/sandbox");
        assert!(program.exists(), "{} is missing: `cargo build --example sandbox`", program.display());
        let mut child = std::process::Command::new(program)
            .args(["sh", "-c", "echo inside; exec sleep 1000"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        assert_eq!(line, "inside\n");
        let pid = i32::try_from(child.id()).unwrap();
        let family = super::support::process::descendants(pid);
        assert!(family.len() >= 10, "holder, nspawn, systemd, journald, ...: {family:?}");
        let holds: Vec<_> = family.iter().filter_map(|row| super::support::process::PidFd::open(row.pid).ok()).collect();
        let prefix = format!("project-cluster-test-{pid}-");
        assert!(groups().contains(&prefix));

        super::support::process::PidFd::open(pid).unwrap().signal(signal);
        child.wait().unwrap();
        for hold in &holds {
            assert!(hold.ended_within(SOON), "a process of the sandbox outlives signal {signal} by 10 s");
        }
        wait_until("its control group is gone", SOON, || !groups().contains(&prefix));
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("/run/sandbox"), "a mount was left:\n{mounts}");
    assert!(!std::path::Path::new("/run/sandbox").exists(), "/run/sandbox was left");
}

/// The control groups at the machine's root, seen through a mount that ends with the command.
fn groups() -> String {
    let script = "mount -t cgroup2 cgroup2 /sys/fs/cgroup && ls /sys/fs/cgroup";
    let output = std::process::Command::new("unshare").args(["--mount", "sh", "-c", script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_missing_root_is_told_and_not_waited_for() {
    let message = std::panic::catch_unwind(|| {
        Sandbox::start_with(Options { root: Some(PathBuf::from("/nonexistent")), ..Options::default() }).name().len()
    });
    let message = message.expect_err("there is no such root");
    assert!(message.downcast_ref::<String>().is_some_and(|text| text.contains("no sandbox")));
}
