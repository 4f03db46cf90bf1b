//! What a sandbox cannot show, on a kernel of one's own: memory and task limits, Yama, a true reboot, a power cut, the clock.
//! `.config/nextest.toml` leaves this module out of the default profile; `make proof` runs it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use super::cluster::{Cluster, app};
use super::faults::stage::row;
use super::support::{Ground, Machine, Running, ordinary, process, wait_for};

/// Long enough for anything that happens at all, on processors ten times slower than this machine's.
const SOON: Duration = Duration::from_secs(90);

/// A machine with this configuration installed and everything started.
#[track_caller]
fn cluster(toml: &str) -> Cluster<Machine> {
    let cluster = Cluster::on(Machine::start(), toml);
    for release in ["v1", "v2", "v3"] {
        cluster.write(format!("/srv/shop/{release}/app.py"), APP);
    }
    cluster.cli(&["install", "--now"]).ok();
    cluster
}

/// A plain server, which on request eats memory or forks without end; meanwhile it accepts nothing.
const APP: &str = r#"
import os, select, socket, sys
BODY = f"{open('VERSION').read().strip()} {os.getpid()}\n".encode()
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY)
listener = socket.create_server(("0.0.0.0", int(sys.argv[1])))
listener.setblocking(False)
poll = select.epoll()
poll.register(listener, select.EPOLLIN)

def eat():
    eaten = []
    while True:
        eaten.append(b"x" * (1 << 20))

def fork():
    while True:
        try:
            os.fork()
        except OSError:
            os.read(os.pipe()[0], 1)

while True:
    poll.poll()
    try:
        client, _ = listener.accept()
    except BlockingIOError:
        continue
    with client:
        client.setblocking(True)
        path = client.recv(9999).split(b" ")[1]
        {b"/eat": eat, b"/fork": fork}.get(path, lambda: None)()
        client.sendall(HEAD + BODY)
"#;

/// Asks a port again and again, over a new connection each time; SIGTERM makes it tell what came of it.
const CLIENT: &str = r#"
import signal, socket, sys, time
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
answered = failed = 0
slowest = 0.0
print("asks", flush=True)
while not stopped:
    began = time.monotonic()
    try:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            if not client.recv(999).startswith(b"HTTP/1."):
                raise OSError("no answer")
        answered += 1
    except OSError as error:
        failed += 1
        print("failed:", error, flush=True)
    slowest = max(slowest, time.monotonic() - began)
    time.sleep(0.02)
print(f"answered={answered} failed={failed} slowest={slowest:.1f}")
"#;

/// A client that asks a port until it is stopped.
struct Client(Running);

impl Client {
    #[track_caller]
    fn start(cluster: &Cluster<Machine>, port: u16) -> Self {
        let client = Self(cluster.spawn(&["python3", "-c", CLIENT, &port.to_string()]));
        cluster.wait_until("the client asks", SOON, || client.0.stdout().contains("asks"));
        client
    }

    /// How many requests were answered; panics unless some were, and none failed.
    #[track_caller]
    fn none_failed(self, what: &str) -> u32 {
        self.0.signal(libc::SIGTERM);
        let said = self.0.wait(SOON).ok();
        let line = said.lines().last().unwrap_or_default();
        println!("{what}: {line}");
        let answered = line.split(' ').find_map(|word| word.strip_prefix("answered=")?.parse().ok()).unwrap_or(0);
        assert!(answered > 10 && line.contains("failed=0 "), "{what}: {said}");
        answered
    }
}

/// An app of `APP`s.
fn python(name: &str, workers: u16, port: u16, more: &str) -> String {
    app(name, workers, &format!("python3 app.py {port}"), &format!("listen = {port}\n{more}"))
}

/// An app of Go workers on port 3000.
fn go(workers: u16, more: &str) -> String {
    app("api", workers, "hello-go 3000", &format!("listen = 3000\n{more}"))
}

/// PID and number of restarts of each worker of each app.
fn census(cluster: &Cluster<Machine>) -> BTreeMap<String, (i32, u64)> {
    cluster.ls().into_iter().map(|row| (row.uid().to_owned(), (row.pid(), row.0["restarts"].as_u64().unwrap()))).collect()
}

#[test]
fn a_worker_that_eats_memory_is_killed_at_its_limit_and_nobody_else() {
    // A limit of each worker, and one of all workers of an app together.
    let own = python("api", 3, 3000, "systemd.MemoryMax = \"48M\"");
    let common = python("web", 2, 3001, "limits.MemoryMax = \"96M\"");
    let cluster = cluster(&format!("{own}{common}{}", app("bg", 1, "hello-go 3002", "listen = 3002")));
    let first = census(&cluster);
    let fixed = ["project-cluster.service", "project-cluster@api.service", "project-cluster@web.service"];
    let runs = fixed.map(|unit| cluster.property(unit, "InvocationID"));
    let mut answered = 0;
    for (app, port) in [("api", 3000), ("web", 3001)] {
        let before = census(&cluster);
        let client = Client::start(&cluster, port);
        // 52: the connection ended without an answer.
        cluster.run_within(SOON, &["curl", "-sS", &format!("127.0.0.1:{port}/eat")]).exits(52);
        let is_back = || cluster.ls().iter().all(|row| row.state() == "online") && census(&cluster) != before;
        cluster.wait_until(&format!("the worker of {app} is back"), SOON, is_back);
        answered += client.none_failed(&format!("{app}, while a worker of it was out of memory"));
        let after = census(&cluster);
        let struck: Vec<&String> = before.keys().filter(|uid| before[*uid] != after[*uid]).collect();
        let [uid] = struck[..] else { panic!("one worker and no other: {before:?} {after:?}") };
        assert!(uid.starts_with(app) && after[uid].1 == 1, "{uid}: {after:?}");
        // Why it ended is told where people look.
        let told = cluster.cli(&["logs", uid]).ok();
        assert!(told.contains("killed by the OOM killer") && told.contains("Failed with result 'oom-kill'"), "{told}");
    }
    assert_eq!(first["bg:01"], census(&cluster)["bg:01"]);
    assert_eq!(fixed.map(|unit| cluster.property(unit, "InvocationID")), runs);
    assert_eq!(cluster.systemctl(&["is-system-running"]).stdout.trim(), "running");
    let fault = "`MemoryMax=` of a worker, and of an app, reached at rest: killed (virtual machine)";
    row(fault, u64::from(answered) + 2, 2, "those that ate it", "the worker is back, no other was touched", "nobody");
}

#[test]
fn a_worker_that_forks_without_end_stops_at_its_limit_and_can_be_replaced() {
    let bystander = app("bg", 1, "hello-go 3002", "listen = 3002");
    let cluster = cluster(&format!("{}{bystander}", python("api", 3, 3000, "systemd.TasksMax = 40")));
    let before = census(&cluster);
    let bomb = cluster.spawn(&["curl", "-sS", "127.0.0.1:3000/fork"]);
    let full = || cluster.workers("api").into_iter().find(|unit| cluster.property(unit, "TasksCurrent") == "40");
    let unit = wait_for("a worker is at its limit", SOON, full);
    let client = Client::start(&cluster, 3000);
    assert_eq!(census(&cluster), before, "no worker has ended");
    assert_eq!(cluster.state("project-cluster@api.service"), "active");
    // A person's way out: the bomb goes as any other old worker does, and nothing of it stays.
    cluster.cli(&["reload", "api"]).ok();
    let answered = client.none_failed("while one of three workers was a fork bomb and was replaced");
    assert_eq!((cluster.generations("api"), cluster.workers("api").len()), (vec![2], 3));
    cluster.wait_until("the bomb is gone", SOON, || cluster.pids_of_unit(&unit).is_empty());
    bomb.wait(SOON).exits(52);
    assert_eq!(before["bg:01"], census(&cluster)["bg:01"]);
    let fault = "`TasksMax=` reached by a fork bomb among the old ones (virtual machine)";
    row(fault, u64::from(answered) + 1, 1, "the one that asked for the bomb", "all new", "exit 0");
}

#[test]
fn under_yama_workers_share_their_socket_get_ready_and_are_replaced() {
    let inherits = app("web", 2, "python3 /srv/apps/hello_asyncio.py fds", "listen = 3001");
    let cluster = cluster(&format!("{}{inherits}", go(2, "")));
    let inodes = [3000, 3001].map(|port| cluster.socket_inode(port));
    let set = |scope: &str| cluster.run(&["sysctl", "-w", &format!("kernel.yama.ptrace_scope={scope}")]).ok();
    let well = |app: &str, generation: u64, how: &str| {
        assert_eq!((cluster.generations(app), cluster.workers(app).len()), (vec![generation], 2), "{app}, {how}");
        assert_eq!([3000, 3001].map(|port| cluster.socket_inode(port)), inodes, "{how}");
    };

    // 1: a process may look into its children alone, and into who allows it. The bind of an app is seen and swapped.
    set("1");
    cluster.cli(&["reload", "all"]).ok();
    ["api", "web"].iter().for_each(|app| well(app, 2, "reloaded under ptrace_scope 1"));
    cluster.systemctl(&["restart", "project-cluster@api", "project-cluster@web"]).ok();
    ["api", "web"].iter().for_each(|app| well(app, 3, "restarted under ptrace_scope 1"));

    // 2: root alone. Whoever takes the sockets that it inherits does not notice.
    set("2");
    cluster.cli(&["reload", "web"]).ok();
    well("web", 4, "reloaded under ptrace_scope 2");
    cluster.systemctl(&["restart", "project-cluster@web"]).ok();
    well("web", 5, "restarted under ptrace_scope 2");
    // Nobody sees what an app binds: the new one fails and says what to do, the old ones serve.
    let failed = cluster.cli(&["reload", "api"]).exits(1);
    assert!(failed.stderr.contains("kernel.yama.ptrace_scope is 2"), "{}", failed.stderr);
    assert!(failed.stderr.contains("sysctl -w kernel.yama.ptrace_scope=1"), "{}", failed.stderr);
    well("api", 3, "held under ptrace_scope 2");
    set("1");
    cluster.cli(&["reload", "api"]).ok();
    well("api", 5, "under ptrace_scope 1 again");
}

/// A machine where commands are those of an ordinary user with a systemd of their own.
struct Theirs(Machine);

impl Ground for Theirs {
    fn launch(&self, command: &[&OsStr], input: Option<&[u8]>) -> io::Result<Running> {
        let words = ordinary::command(command);
        let words: Vec<&OsStr> = words.iter().map(AsRef::as_ref).collect();
        Ok(self.0.launch(&words, input)?.translated(ordinary::said))
    }

    fn launch_as_root(&self, command: &[&OsStr], input: Option<&[u8]>) -> io::Result<Running> {
        self.0.launch(command, input)
    }

    fn is_up(&self) -> bool {
        self.0.is_up()
    }

    fn console(&self) -> String {
        self.0.console()
    }

    fn journal_files(&self) -> Option<PathBuf> {
        None
    }
}

impl Deref for Theirs {
    type Target = dyn Ground;

    fn deref(&self) -> &Self::Target {
        self
    }
}

/// Requests of twenty seconds, as many as surely reach both workers of an app, all of them accepted.
fn slow_requests<G: Deref<Target = dyn Ground>>(ground: &Cluster<G>, port: u16) -> Vec<Running> {
    let url = format!("127.0.0.1:{port}/sleep/20000");
    let asked: Vec<Running> = (0..8).map(|_| ground.spawn(&["curl", "-sS", "--max-time", "110", &url])).collect();
    let open = || ground.root(&format!("ss -Htn state established 'sport = :{port}' | grep -c .")).stdout.trim() == "8";
    ground.wait_until("all requests are there", SOON, open);
    asked
}

/// How many of them were answered.
fn answered(asked: Vec<Running>) -> usize {
    asked.into_iter().map(|curl| curl.wait(2 * SOON)).filter(|end| end.success() && end.stdout.starts_with("v1")).count()
}

/// What the helper says of its drains, since then.
fn told<G: Deref<Target = dyn Ground>>(ground: &Cluster<G>, mark: &str) -> String {
    let journal = ground.root(&format!("journalctl --sync; journalctl -q --no-pager -o cat --since {mark} | grep -i drain || true")).stdout;
    let mut lines: Vec<&str> = journal.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    lines.join(" / ")
}

#[test]
fn under_yama_requests_in_flight_cross_a_reload() {
    let inherits = app("web", 2, "python3 /srv/apps/hello_asyncio.py fds", "listen = 3001\nreload.drain = \"120s\"");
    let cluster = cluster(&format!("{}{inherits}", go(2, "reload.drain = \"120s\"")));
    for scope in ["0", "1", "2"] {
        cluster.run(&["sysctl", "-w", &format!("kernel.yama.ptrace_scope={scope}")]).ok();
        // Under 2 nobody sees what an app binds, so an app that binds by itself has no new workers.
        for (name, port) in [("api", 3000), ("web", 3001)].into_iter().filter(|(name, _)| scope != "2" || *name == "web") {
            let mark = cluster.journal_mark();
            let asked = slow_requests(&cluster, port);
            cluster.cli(&["reload", name]).ok();
            let answered = answered(asked);
            println!("ptrace_scope {scope}, {name}: {answered} of 8 requests of 20 s crossed a reload; {}", told(&cluster, &mark));
            assert_eq!(answered, 8, "{name} under ptrace_scope {scope}");
        }
    }
    let asked = slow_requests(&cluster, 3000);
    let mark = cluster.journal_mark();
    cluster.cli(&["stop", "api:01"]).ok();
    let answered = answered(asked);
    println!("ptrace_scope 2, api: {answered} of 8 requests of 20 s crossed a stop of one of two workers; {}", told(&cluster, &mark));
    assert_eq!(answered, 8);
}

#[test]
fn under_yama_a_user_s_own_workers_drain_where_the_kernel_lets_them() {
    let machine = Theirs(Machine::start());
    machine.root(ordinary::SETUP).ok();
    let set = |scope: &str| machine.root(&format!("sysctl -w kernel.yama.ptrace_scope={scope}")).ok();
    set("0");
    let cluster = Cluster::on(machine, &app("api", 2, "python3 /srv/apps/hello_asyncio.py fds", "listen = 3000\nreload.drain = \"120s\""));
    cluster.cli(&["install", "--now"]).ok();
    for scope in ["0", "1", "2"] {
        cluster.root(&format!("sysctl -w kernel.yama.ptrace_scope={scope}")).ok();
        let mark = cluster.root("journalctl --sync; date +@%s.%6N").ok();
        let asked = slow_requests(&cluster, 3000);
        // It succeeds whatever becomes of the requests: SIGTERM is what an app gets at last.
        cluster.cli(&["reload", "api"]).ok();
        let answered = answered(asked);
        let told = told(&cluster, mark.trim());
        println!("--user, ptrace_scope {scope}: {answered} of 8 requests of 20 s crossed a reload; {told}");
        if scope == "0" {
            assert_eq!(answered, 8, "{told}");
        } else {
            assert!(answered < 8 && told.contains("the kernel lets nobody look into it"), "what falls back says so: {told}");
        }
    }
}

/// What a reboot has to bring back: generations and number of workers of an app, why it is held, what it answers.
fn standing(cluster: &Cluster<Machine>, app: &str, port: u16) -> (Vec<u64>, usize, String, String) {
    let version = cluster.run(&["curl", "-sS", &format!("127.0.0.1:{port}/")]).ok();
    let version = version.split(' ').next().unwrap_or_default().to_owned();
    (cluster.generations(app), cluster.workers(app).len(), cluster.app(app)["held"].to_string(), version)
}

/// Panics unless all files that outlive a reboot are whole: those of JSON and the numbers; marks and locks may be empty.
#[track_caller]
fn files_are_whole(cluster: &Cluster<Machine>) {
    let listed = cluster.sh("cd /var/lib/project-cluster; find * -type f").ok();
    let whole = listed.lines().filter(|path| path.ends_with(".json") || path.starts_with("generations/"));
    assert!(whole.clone().count() >= 10, "{listed}");
    for path in whole {
        let text = cluster.read(format!("/var/lib/project-cluster/{path}"));
        // Lines of numbers, `format 4`, `started 1` or `1 0`, and of pins; the others are JSON.
        let number = |word: &str| matches!(word, "started" | "format") || word.parse::<u64>().is_ok();
        let lines = || {
            text.ends_with('\n')
                && text.lines().all(|line| {
                    line.split(' ').count() == 2 && line.split(' ').all(number) || line.starts_with("pin ") && line.ends_with('"')
                })
        };
        let whole = if path.starts_with("generations/") { lines() } else { serde_json::from_str::<serde_json::Value>(&text).is_ok() };
        assert!(whole, "{path} is torn: {text}");
    }
    let beside = listed.lines().find(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with('.')));
    assert_eq!(beside, None, "a file half written stays for ever:\n{listed}");
}

#[test]
fn a_reboot_and_power_cuts_bring_back_what_was() {
    let mut cluster = cluster(&format!("{}{}", go(3, ""), python("web", 2, 3001, "")));
    cluster.cli(&["reload", "api"]).ok();
    // What a person asked for: a slot that is to stay empty, a count that is not the configuration's.
    cluster.cli(&["stop", "api:02"]).ok();
    cluster.cli(&["scale", "web", "3"]).ok();
    // A broken deploy of one app, and a release that the other has not been told to take.
    cluster.write("/srv/shop/v2/app.py", "raise SystemExit('no bread today')");
    cluster.release("v2");
    cluster.cli(&["reload", "web"]).exits(1);
    let before = [standing(&cluster, "api", 3000), standing(&cluster, "web", 3001)];
    assert_eq!((before[0].0.as_slice(), before[0].1, before[0].3.as_str()), ([2].as_slice(), 2, "v1"));
    assert!(before[1].1 == 3 && before[1].2.contains("no bread today"), "{before:?}");

    println!("down in {:?}", cluster.reboot());
    assert_eq!([standing(&cluster, "api", 3000), standing(&cluster, "web", 3001)], before, "a reboot is no deploy");

    // Right after a reload has said that it is done.
    cluster.cli(&["reload", "api"]).ok();
    cluster.power_off_hard();
    cluster.boot();
    files_are_whole(&cluster);
    assert_eq!(standing(&cluster, "api", 3000), (vec![3], 2, "null".to_owned(), "v2".to_owned()));
    assert_eq!(standing(&cluster, "web", 3001), before[1]);

    // In the midst of one.
    let reload = cluster.spawn(&["project-cluster", "reload", "api"]);
    cluster.wait_until("a new worker is ready", SOON, || reload.stdout().contains("is ready"));
    cluster.power_off_hard();
    drop(reload);
    cluster.boot();
    files_are_whole(&cluster);
    let after = standing(&cluster, "api", 3000);
    assert!(after.0.len() == 1 && after.1 == 2, "one generation, all of it: {after:?}");
    println!("cut in the midst of the roll to generation 4: {after:?}");
    cluster.cli(&["reload", "api"]).ok();
    cluster.cli(&["start", "api:02"]).ok();
    assert_eq!((cluster.generations("api").len(), cluster.workers("api").len()), (1, 3));
}

#[test]
fn the_clock_an_hour_back_and_forth() {
    let more = "reload.min_ready = \"2s\"\ntimeout.start = \"20s\"";
    let cluster = cluster(&python("api", 2, 3000, more));
    let master = cluster.property("project-cluster.service", "InvocationID");
    let set = |by: &str| cluster.run(&["date", "-s", by]).ok();
    let up = std::time::Instant::now();
    let sane = |how: &str| {
        for row in cluster.ls() {
            let uptime = row.0["uptime_ms"].as_u64().unwrap();
            // This machine's clock beside the other's: what was up before `up` may be older by the time of the start.
            let most = up.elapsed() + Duration::from_secs(60);
            assert!(row.state() == "online" && Duration::from_millis(uptime) < most, "{how}: {:?}", row.0);
        }
    };

    // At rest.
    for by in ["-1 hour", "+1 hour", "+1 hour", "-1 hour"] {
        set(by);
        sane(by);
    }
    assert!(cluster.ls().iter().all(|row| row.0["restarts"] == 0), "nobody has ended");
    let unit = cluster.workers("api").remove(0);
    set("-1 hour");
    let pid = cluster.main_pid(&unit).unwrap();
    cluster.kill(pid, "KILL");
    cluster.wait_until("it comes back", SOON, || cluster.main_pid(&unit).is_some_and(|new| new != pid) && cluster.state(&unit) == "active");
    sane("a crash while the clock is behind");

    // During a roll: each soak of two seconds is one, and no limit is over.
    let client = Client::start(&cluster, 3000);
    for (by, generation) in [("+1 hour", 2), ("-1 hour", 3)] {
        let reload = cluster.spawn(&["project-cluster", "reload", "api"]);
        cluster.wait_until("the first worker is ready", SOON, || reload.stdout().contains("is ready"));
        set(by);
        reload.wait(SOON).ok();
        assert_eq!((cluster.generations("api"), cluster.workers("api").len()), (vec![generation], 2), "{by}");
        sane(by);
        let roll = cluster.app("api")["roll"].clone();
        let took = roll["took_ms"].as_u64().unwrap();
        assert!((4000..90_000).contains(&took), "{by}: {roll}");
        let steps: Vec<u64> = roll["steps"].as_array().unwrap().iter().map(|step| step["at_ms"].as_u64().unwrap()).collect();
        assert!(steps.is_sorted() && steps.iter().all(|&at| at <= took), "{by}: {roll}");
    }

    // A start that never gets ready ends at its limit, whatever the clock says, and its words are shown.
    cluster.write("/srv/shop/v2/app.py", "import time\nprint('waits for the moon', flush=True)\ntime.sleep(999)");
    cluster.release("v2");
    for by in ["+1 hour", "-1 hour"] {
        let reload = cluster.spawn(&["project-cluster", "reload", "api"]);
        cluster.wait_until("it waits", SOON, || cluster.journal(&["-o", "cat", "-n", "20"]).contains("waits for the moon"));
        set(by);
        let failed = reload.wait(SOON).exits(1);
        assert!(failed.took > Duration::from_secs(20) && failed.took < Duration::from_secs(50), "{by}: {:?}", failed.took);
        assert!(failed.stderr.contains("waits for the moon"), "{by}: {}", failed.stderr);
        assert_eq!((cluster.generations("api"), cluster.workers("api").len()), (vec![3], 2), "{by}");
    }
    assert_eq!(cluster.property("project-cluster.service", "InvocationID"), master, "the master has lived through it");
    let answered = client.none_failed("while the clock went back and forth in rolls");
    let end = "all new where the version is good, all old and held where it never gets ready";
    row("the clock an hour forth and back, in a roll each (virtual machine)", u64::from(answered), 0, "", end, "0, and 1 where it fails");
}

#[test]
fn the_machine_is_gone_however_the_test_process_ends() {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/machine");
    assert!(program.exists(), "{} is missing: `cargo build --example machine`", program.display());
    let mut child = std::process::Command::new(program)
        .args(["sh", "-c", "echo inside; exec sleep 1000"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    assert_eq!(line, "inside\n");
    let pid = i32::try_from(child.id()).unwrap();
    let family = process::descendants(pid);
    assert_eq!(family.len(), 1, "QEMU: {family:?}");
    let qemu = process::PidFd::open(family[0].pid).unwrap();
    process::PidFd::open(pid).unwrap().signal(libc::SIGKILL);
    child.wait().unwrap();
    assert!(qemu.ended_within(SOON), "QEMU outlives its test process");
}
