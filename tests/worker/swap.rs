//! Swap at bind with real servers.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use crate::support::{Held, LIMIT, Worker, World, app, ask, get, until};

fn python<'a>(kind: &'a str, arguments: &[&'a str]) -> Vec<String> {
    ["python3", &app("servers.py"), kind].into_iter().chain(arguments.iter().copied()).map(String::from).collect()
}

/// Starts one worker of `command` with one held socket.
fn one(world: &World, command: &[String], held: &Held) -> Worker {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    world.start(&world.copy(&words, &[held]), &[held])
}

fn has_answered(held: &Held, kind: &str, worker: &Worker) {
    assert_eq!(held.get(), format!("{kind} {}", worker.pid()));
}

#[test]
fn four_node_workers_listen_on_one_port() {
    let (world, held) = (World::unprivileged(), Held::tcp("[::]:0"));
    let port = held.port().to_string();
    let mut workers: Vec<_> = (1..=4)
        .map(|slot| {
            let mut copy = world.copy(&["node", &app("http.js"), &port], &[&held]);
            copy.instance = format!("{slot}.1.1").parse().unwrap();
            world.start(&copy, &[&held])
        })
        .collect();
    workers.iter().for_each(|worker| worker.is_given(&held));
    // A loop that blocked in accept after a lost race would hang: Node asks for it in socket(), before bind.
    assert!(workers[0].is_nonblocking());
    // One after another alone: each of them answers, over both families.
    while let Some(worker) = workers.pop() {
        workers.iter_mut().for_each(Worker::kill);
        has_answered(&held, "node", &worker);
        assert_eq!(get(SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, held.port()))), format!("node {}", worker.pid()));
        for slot in 1..=workers.len() {
            let mut copy = world.copy(&["node", &app("http.js"), &port], &[&held]);
            copy.instance = format!("{slot}.1.1").parse().unwrap();
            workers[slot - 1] = world.start(&copy, &[&held]);
        }
        workers.iter().for_each(|worker| worker.is_given(&held));
    }
}

#[test]
fn asyncio_gets_the_socket() {
    let (world, held) = (World::unprivileged(), Held::tcp("127.0.0.1:0"));
    let worker = one(&world, &["python3".into(), app("asyncio_server.py"), "127.0.0.1".into(), held.port().to_string()], &held);
    worker.is_given(&held);
    has_answered(&held, "asyncio", &worker);
}

#[test]
fn an_app_that_opens_each_family_by_itself_gets_it_twice() {
    let (world, held) = (World::new(), Held::tcp("[::]:0"));
    let worker = one(&world, &["python3".into(), app("asyncio_server.py"), String::new(), held.port().to_string()], &held);
    until("two swapped descriptors beside the inherited one", || Worker::holds(worker.pid(), held.inode) == 3);
    has_answered(&held, "asyncio", &worker);
}

#[test]
fn a_static_go_server_gets_the_socket() {
    let target = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let binary = target.join("go-server");
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&binary).arg(app("server.go"));
    go.env("CGO_ENABLED", "0").env("GOCACHE", target.join("go-cache")).env("GOPATH", target.join("go-path")).env("HOME", target);
    assert!(go.status().unwrap().success());
    let (world, held) = (World::new(), Held::tcp("0.0.0.0:0"));
    let worker = one(&world, &[binary.to_str().unwrap().into(), held.port().to_string()], &held);
    worker.is_given(&held);
    has_answered(&held, "go", &worker);
}

#[test]
fn a_unix_socket_survives_an_app_that_removes_it_first() {
    let world = World::new();
    let path = world.path("api.sock");
    let held = Held::unix(&path);
    let before = std::fs::metadata(&path).unwrap().ino();
    // Relative, as apps write it too.
    for command in
        [python("unix", &[path.to_str().unwrap()]), python("unix", &["./api.sock"]), vec!["node".into(), app("http.js"), "api.sock".into()]]
    {
        let mut worker = one(&world, &command, &held);
        worker.is_given(&held);
        let body = ask(&mut UnixStream::connect(&path).unwrap());
        assert!(body.ends_with(&worker.pid().to_string()), "{body}");
        // Node removes the path when it ends in an orderly way.
        Command::new("kill").arg(worker.pid().to_string()).status().unwrap();
        worker.child.wait().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), before, "{command:?}");
    }
}

#[test]
fn undeclared_ports_and_datagrams_bind_as_usual() {
    let (world, held) = (World::new(), Held::tcp("127.0.0.1:0"));
    let worker = one(&world, &python("undeclared", &[&held.port().to_string()]), &held);
    worker.says(&format!("udp {}", held.port()));
    let line = worker.says("port ");
    let port: u16 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert_ne!(port, held.port());
    assert_eq!(get(SocketAddr::from(([127, 0, 0, 1], port))), format!("undeclared {}", worker.pid()));
    assert_eq!(Worker::holds(worker.pid(), held.inode), 1);
}

#[test]
fn a_socket_that_is_in_an_epoll_set_before_it_binds_stays_there() {
    let (world, held) = (World::unprivileged(), Held::tcp("127.0.0.1:0"));
    let worker = one(&world, &python("epoll-first", &[&held.port().to_string()]), &held);
    worker.is_given(&held);
    has_answered(&held, "epoll-first", &worker);
    assert!(!worker.log().contains("<4>"), "{}", worker.log());
}

#[test]
fn the_apps_children_get_it_too() {
    let (world, held) = (World::new(), Held::tcp("127.0.0.1:0"));
    let worker = one(&world, &python("children", &[&held.port().to_string()]), &held);
    worker.says("forked");
    let children = || std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", worker.pid())).unwrap();
    until("both children have it", || {
        children().split_whitespace().filter(|child| Worker::holds(child.parse().unwrap(), held.inode) == 2).count() == 2
    });
    let body = held.get();
    assert!(children().split_whitespace().any(|child| body.ends_with(child)), "{body}");
}

#[test]
fn an_app_that_waits_for_all_its_children_does_not_hang() {
    let (world, held) = (World::new(), Held::tcp("127.0.0.1:0"));
    let worker = one(&world, &python("waits-for-all", &[&held.port().to_string()]), &held);
    worker.says("no child left");
    worker.is_given(&held);
    has_answered(&held, "waits-for-all", &worker);
    // Python's accept blocks, and so must the socket of an app that never asked for anything else.
    assert!(!worker.is_nonblocking());
}

#[test]
fn an_app_that_uses_listen_fds_is_served_as_well() {
    let (world, held) = (World::new(), Held::tcp("[::]:0"));
    let worker = one(&world, &["node".into(), app("http.js"), "fd:3".into()], &held);
    has_answered(&held, "node", &worker);
    assert_eq!(Worker::holds(worker.pid(), held.inode), 1);
}

#[test]
fn the_apps_backlog_does_not_shrink_the_shared_queue() {
    let (world, mut held) = (World::new(), Held::tcp("127.0.0.1:0"));
    held.backlog = 64;
    let worker = one(&world, &python("short-queue", &[&held.port().to_string()]), &held);
    worker.says("listens");
    let address = SocketAddr::from(([127, 0, 0, 1], held.port()));
    // With the app's own backlog of 0 the second or third would wait for ever.
    let queued: Vec<_> = (0..40).map(|_| TcpStream::connect_timeout(&address, Duration::from_secs(3)).unwrap()).collect();
    assert_eq!(queued.len(), 40);
}

#[test]
fn close_on_exec_stays_what_the_app_chose() {
    let (world, held) = (World::new(), Held::tcp("127.0.0.1:0"));
    let worker = one(&world, &python("flags", &[&held.port().to_string()]), &held);
    worker.says(&format!("inheritable False is False inode {}", held.inode));
    worker.says(&format!("inheritable True is True inode {}", held.inode));
}

#[test]
fn without_swap_the_address_is_in_use() {
    let (world, held) = (World::new(), Held::tcp("127.0.0.1:0"));
    let port = held.port().to_string();
    let words = python("bind-fails", &[&port]);
    let mut copy = world.copy(&words.iter().map(String::as_str).collect::<Vec<_>>(), &[&held]);
    copy.pin.swap = false;
    let worker = world.start(&copy, &[&held]);
    worker.says("bind: EADDRINUSE");
    assert_eq!(worker.sockets().supervisor, None);
}

#[test]
fn an_app_with_a_seccomp_listener_of_its_own_is_told_once() {
    let (world, held) = (World::new(), Held::tcp("127.0.0.1:0"));
    let worker = one(&world, &python("own-listener", &[&held.port().to_string()]), &held);
    worker.says("own listener: -1 EBUSY");
    worker.is_given(&held);
    has_answered(&held, "own-listener", &worker);
    let log = worker.log();
    let lines: Vec<_> = log.lines().filter(|line| line.starts_with("<4>")).collect();
    assert!(lines.len() == 1 && lines[0].contains("`swap = false`"), "{log}");
}

#[test]
fn the_supervisor_outlives_signals_and_leaves_with_the_app() {
    let (world, held) = (World::new(), Held::tcp("127.0.0.1:0"));
    let go = world.path("go");
    let mut worker = one(&world, &python("bind-late", &[&held.port().to_string(), go.to_str().unwrap()]), &held);
    let supervisor = worker.sockets().supervisor.unwrap();
    let status = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    until("it has its name", || status(supervisor).starts_with("Name:\tpc-swap"));
    assert!(!status(supervisor).contains(&format!("PPid:\t{}", worker.pid())), "it is no child of the app");
    for signal in ["-TERM", "-INT", "-HUP"] {
        Command::new("kill").args([signal, &supervisor.to_string()]).status().unwrap();
    }
    world.touch("go");
    worker.is_given(&held);
    has_answered(&held, "bind-late", &worker);
    worker.kill();
    until("it leaves", || status(supervisor).is_empty() || status(supervisor).contains("State:\tZ"));
}

#[test]
fn without_its_supervisor_a_bind_fails_and_nothing_hangs() {
    let (world, held) = (World::new(), Held::tcp("127.0.0.1:0"));
    let go = world.path("go");
    let worker = one(&world, &python("bind-late", &[&held.port().to_string(), go.to_str().unwrap()]), &held);
    let supervisor = worker.sockets().supervisor.unwrap();
    Command::new("kill").args(["-9", &supervisor.to_string()]).status().unwrap();
    let output = world.ready(&worker, LIMIT).output().unwrap();
    let text = crate::support::text(&output);
    assert!(!output.status.success() && text.starts_with("<3>") && text.contains("supervisor") && text.contains("was killed"), "{text}");
    assert!(!world.marked());
    world.touch("go");
    worker.says("bind: ENOSYS");
}

#[test]
fn a_supervisor_that_is_killed_later_is_told_once_and_the_app_goes_on() {
    let (world, held) = (World::new(), Held::tcp("127.0.0.1:0"));
    let worker = one(&world, &python("bind", &[&held.port().to_string()]), &held);
    worker.is_given(&held);
    let supervisor = worker.sockets().supervisor.unwrap();
    Command::new("kill").args(["-9", &supervisor.to_string()]).status().unwrap();
    worker.says("was killed (signal 9)");
    has_answered(&held, "bind", &worker);
    assert_eq!(worker.log().matches("supervisor").count(), 1, "{}", worker.log());
}

#[test]
fn the_end_of_a_worker_is_no_news_of_its_supervisor() {
    let (world, held) = (World::new(), Held::tcp("127.0.0.1:0"));
    let mut worker = one(&world, &python("bind", &[&held.port().to_string()]), &held);
    worker.is_given(&held);
    let supervisor = worker.sockets().supervisor.unwrap();
    worker.kill();
    let status = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    until("it leaves", || status(supervisor).is_empty() || status(supervisor).contains("State:\tZ"));
    assert!(!worker.log().contains("supervisor"), "{}", worker.log());
}
