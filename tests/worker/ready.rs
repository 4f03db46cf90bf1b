//! Readiness seen from outside.

use std::process::Output;
use std::time::{Duration, Instant};

use project_cluster::config::settings::{Ready, Spawn};

use crate::support::{BINARY, Held, LIMIT, Worker, World, app, text, until};

fn start(world: &World, kind: &str, arguments: &[&str], held: &[&Held], swap: bool) -> Worker {
    let script = app("servers.py");
    let words: Vec<_> = ["python3", script.as_str(), kind].into_iter().chain(arguments.iter().copied()).collect();
    let mut copy = world.copy(&words, held);
    copy.pin.swap = swap;
    world.start(&copy, held)
}

fn succeeded(world: &World, output: &Output) {
    assert!(output.status.success() && world.marked(), "{}", text(output));
    assert_eq!(text(output), "");
}

fn failed(world: &World, output: &Output) -> String {
    let text = text(output);
    assert!(!output.status.success() && !world.marked(), "{text}");
    assert!(text.starts_with("<3>") && text.lines().count() == 1, "one line of priority 3: {text:?}");
    text
}

/// No bind and no listen of these is seen: they take the inherited descriptor as it is.
fn is_seen(kind: &str) {
    let (world, held) = (World::unprivileged(), Held::tcp("127.0.0.1:0"));
    let worker = start(&world, kind, &[], &[&held], false);
    succeeded(&world, &world.ready(&worker, LIMIT).output().unwrap());
    assert_eq!(held.get(), format!("{kind} {}", worker.pid()));
}

#[test]
fn an_epoll_server_is_seen() {
    is_seen("epoll");
}
#[test]
fn a_poll_server_is_seen() {
    is_seen("poll");
}
#[test]
fn a_select_server_is_seen() {
    is_seen("select");
}
#[test]
fn a_server_blocked_in_accept_is_seen() {
    is_seen("accept");
}
#[test]
fn a_server_that_is_not_dumpable_is_seen() {
    is_seen("undumpable");
}

#[test]
fn a_swapped_server_is_ready_when_it_listens() {
    let (world, held) = (World::unprivileged(), Held::tcp("[::]:0"));
    let port = held.port().to_string();
    let worker = world.start(&world.copy(&["node", &app("http.js"), &port], &[&held]), &[&held]);
    succeeded(&world, &world.ready(&worker, LIMIT).output().unwrap());
    assert_eq!(held.get(), format!("node {}", worker.pid()));
    // Learned for the next start.
    let mark = std::fs::read_to_string(world.path("var/lib/shop/pins/api/1.ready")).unwrap();
    assert_eq!(mark, "ready\nnonblocking\n");
}

#[test]
fn nothing_is_ready_before_it_accepts_and_the_wait_has_no_rights() {
    let (world, held) = (World::unprivileged(), Held::tcp("127.0.0.1:0"));
    let worker = start(&world, "late", &[world.path("go").to_str().unwrap()], &[&held], true);
    let mut wait = world.ready(&worker, LIMIT).spawn().unwrap();
    worker.sockets();
    let status = || std::fs::read_to_string(format!("/proc/{}/status", wait.id())).unwrap();
    if world.wrapper.is_empty() {
        until("it waits", || status().contains("State:\tS"));
    } else {
        until("it gave up root", || status().contains("Uid:\t65534\t65534\t65534\t65534") && status().contains("NoNewPrivs:\t1"));
        let status = status();
        // CAP_SYS_PTRACE is bit 19.
        assert!(status.contains("CapEff:\t0000000000080000") && status.contains("CapPrm:\t0000000000080000"), "{status}");
        assert!(status.contains("Groups:\t \n") || status.contains("Groups:\t\n"), "{status}");
    }
    assert!(wait.try_wait().unwrap().is_none() && !world.marked());
    world.touch("go");
    assert!(wait.wait().unwrap().success() && world.marked());
}

#[test]
fn a_worker_that_ends_is_noticed_at_once() {
    let (world, held) = (World::new(), Held::tcp("127.0.0.1:0"));
    let mut worker = start(&world, "exit", &[world.path("go").to_str().unwrap()], &[&held], true);
    let began = Instant::now();
    let wait = world.ready(&worker, Duration::from_secs(600)).stderr(std::process::Stdio::piped()).spawn().unwrap();
    worker.sockets();
    world.touch("go");
    worker.child.wait().unwrap();
    let text = failed(&world, &wait.wait_with_output().unwrap());
    assert!(text.contains("ended before it was ready") && text.contains("journalctl -u shop-api@1.1.1.service"), "{text}");
    assert!(began.elapsed() < LIMIT);
}

#[test]
fn listening_elsewhere_is_told_apart() {
    let (world, held) = (World::new(), Held::tcp("127.0.0.1:0"));
    let worker = start(&world, "bind", &["0"], &[&held], true);
    let text = failed(&world, &world.ready(&worker, Duration::from_secs(2)).output().unwrap());
    assert!(text.contains("listens on 127.0.0.1:") && text.contains(&format!("declared was {}", held.address)), "{text}");
}

#[test]
fn not_listening_at_all_is_told_apart() {
    let (world, held) = (World::new(), Held::tcp("127.0.0.1:0"));
    let worker = start(&world, "sleep", &[], &[&held], true);
    let text = failed(&world, &world.ready(&worker, Duration::from_secs(1)).output().unwrap());
    assert!(text.contains("does not listen at all after 1s"), "{text}");
}

#[test]
fn one_of_two_addresses_is_told_apart() {
    let (world, first, second) = (World::new(), Held::tcp("127.0.0.1:0"), Held::tcp("127.0.0.1:0"));
    let worker = start(&world, "one-of-two", &[], &[&first, &second], true);
    let text = failed(&world, &world.ready(&worker, Duration::from_secs(2)).output().unwrap());
    assert!(text.contains("listens on 1 of 2 declared addresses") && text.contains(&format!("missing {}", second.address)), "{text}");
}

/// A worker with a port of its own that is free now.
fn with_port(world: &World, kind: &str, arguments: &[&str], ready: Ready) -> (Worker, u16) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (script, number) = (app("servers.py"), port.to_string());
    let mut words = vec!["python3", script.as_str(), kind];
    words.extend(arguments);
    if kind == "bind" {
        words.push(&number);
    }
    let mut copy = world.copy(&words, &[]);
    copy.port = Some(port);
    copy.pin.spawn = Spawn::Child { port: Some(port), ports: None };
    copy.pin.ready = ready;
    (world.start(&copy, &[]), port)
}

#[test]
fn an_own_port_is_ready_when_it_listens() {
    let world = World::unprivileged();
    let (worker, _) = with_port(&world, "bind", &[], Ready::Listen);
    succeeded(&world, &world.ready(&worker, LIMIT).output().unwrap());
    let world = World::new();
    let (worker, port) = with_port(&world, "sleep", &[], Ready::Listen);
    let text = failed(&world, &world.ready(&worker, Duration::from_secs(1)).output().unwrap());
    assert!(text.contains(&format!("its PORT is {port}")), "{text}");
}

#[test]
fn http_waits_for_a_good_answer() {
    let world = World::unprivileged();
    let go = world.path("go");
    let (worker, _) = with_port(&world, "health", &[go.to_str().unwrap()], Ready::Http("/health".into()));
    let text = failed(&world, &world.ready(&worker, Duration::from_secs(2)).output().unwrap());
    assert!(text.contains("/health gave no 2xx or 3xx") && text.contains("it answers 503"), "{text}");
    world.touch("go");
    succeeded(&world, &world.ready(&worker, LIMIT).output().unwrap());
}

#[test]
fn none_stays_up_for_min_ready() {
    let world = World::new();
    let script = app("servers.py");
    let mut copy = world.copy(&["python3", &script, "sleep"], &[]);
    copy.pin.ready = Ready::None;
    copy.pin.min_ready = Duration::from_millis(700);
    let worker = world.start(&copy, &[]);
    let began = Instant::now();
    succeeded(&world, &world.ready(&worker, LIMIT).output().unwrap());
    assert!(began.elapsed() >= Duration::from_millis(700));
    let world = World::new();
    let mut copy = world.copy(&["true"], &[]);
    copy.pin.ready = Ready::None;
    copy.pin.min_ready = Duration::from_secs(10);
    let worker = world.start(&copy, &[]);
    assert!(failed(&world, &world.ready(&worker, LIMIT).output().unwrap()).contains("ended before it was ready"));
}

#[test]
fn notify_is_systemds_to_wait_for() {
    let world = World::new();
    let script = app("servers.py");
    let mut copy = world.copy(&["python3", &script, "sleep"], &[]);
    copy.pin.ready = Ready::Notify;
    let worker = world.start(&copy, &[]);
    succeeded(&world, &world.ready(&worker, LIMIT).output().unwrap());
}

/// `worker probe` with this command in a shell.
fn probe(world: &World, script: &str) -> (Worker, std::process::Command) {
    let servers = app("servers.py");
    let mut copy = world.copy(&["python3", &servers, "sleep"], &[]);
    copy.pin.ready = Ready::Exec(["sh", "-c", script].map(String::from).to_vec());
    let worker = world.start(&copy, &[]);
    let mut command = std::process::Command::new(BINARY);
    command.args(["worker", "probe", "--timeout-ms"]);
    command.env("RUNTIME_DIRECTORY", &worker.directory).env("MAINPID", worker.pid().to_string());
    (worker, command)
}

#[test]
fn a_probe_is_repeated_until_it_succeeds() {
    let world = World::new();
    let (worker, mut command) = probe(&world, "echo x >> runs; test -e go && test \"$WORKER_TYPE\" = api");
    let mut wait = command.arg("20000").spawn().unwrap();
    let runs = || std::fs::read_to_string(world.path("runs")).unwrap_or_default().lines().count();
    until("three runs", || runs() >= 3);
    assert!(wait.try_wait().unwrap().is_none());
    world.touch("go");
    assert!(wait.wait().unwrap().success());
    succeeded(&world, &world.ready(&worker, LIMIT).output().unwrap());
}

#[test]
fn a_probe_that_hangs_is_killed_with_all_it_started() {
    let world = World::new();
    let (_worker, mut command) = probe(&world, "sleep 1000 & echo $! > hung; wait");
    let output = command.arg("1500").output().unwrap();
    let text = text(&output);
    assert!(!output.status.success() && text.contains("it was killed after") && text.contains("within 1.5s"), "{text}");
    let hung = std::fs::read_to_string(world.path("hung")).unwrap();
    let gone = || std::fs::read_to_string(format!("/proc/{}/status", hung.trim())).map_or(true, |status| status.contains("State:\tZ"));
    until("its child is gone", gone);
}

#[test]
fn a_probe_ends_with_the_worker() {
    let world = World::new();
    let (mut worker, mut command) = probe(&world, "touch ran; exit 1");
    let wait = command.arg("600000").stderr(std::process::Stdio::piped()).spawn().unwrap();
    until("it runs", || world.path("ran").exists());
    worker.kill();
    let output = wait.wait_with_output().unwrap();
    assert!(!output.status.success() && text(&output).contains("ended before it was ready"));
}
