//! What `exec` becomes, and how it fails.

use std::process::ExitStatus;

use crate::support::{Held, World, app, until};

fn servers(kind: &str) -> [String; 3] {
    ["python3".into(), app("servers.py"), kind.into()]
}

#[test]
fn arguments_and_environment_arrive_byte_by_byte() {
    let world = World::new();
    let odd = ["", " a  b ", "%i $HOME ${X} `x`", "\"'\\", "é\u{1f600}", "line\nbreak\ttab", "\u{1}\u{7f}"];
    let script = app("servers.py");
    let mut words = vec!["python3", script.as_str(), "sleep"];
    words.extend(odd);
    let mut copy = world.copy(&words, &[]);
    for (at, value) in odd.iter().enumerate() {
        copy.pin.env.insert(format!("ODD_{at}"), (*value).into());
    }
    copy.port = Some(4321);
    let worker = world.start(&copy, &[]);
    let read = |name: &str| std::fs::read(format!("/proc/{}/{name}", worker.pid())).unwrap();
    until("it is the app", || read("cmdline").starts_with(b"python3\0"));
    let split = |bytes: Vec<u8>| bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let mut arguments = split(read("cmdline"));
    arguments.pop();
    assert_eq!(arguments, words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>());
    let environment = split(read("environ"));
    for (at, value) in odd.iter().enumerate() {
        assert!(environment.contains(&format!("ODD_{at}={value}").into_bytes()), "{value:?}");
    }
    for wanted in ["PORT=4321", "WORKER_TYPE=api", "PROJECT_CLUSTER_UID=api:01", "PROJECT_CLUSTER_GENERATION=1", "LISTEN_FDS=0"] {
        assert!(environment.contains(&wanted.as_bytes().to_vec()), "{wanted}");
    }
    assert!(environment.contains(&format!("PATH={}", project_cluster::config::settings::DEFAULT_PATH).into_bytes()));
    assert_eq!(std::fs::read_link(format!("/proc/{}/cwd", worker.pid())).unwrap(), world.root.path());
}

#[test]
fn descriptors_stand_in_the_order_of_listen() {
    let (world, first, second) = (World::new(), Held::tcp("127.0.0.1:0"), Held::tcp("127.0.0.1:0"));
    let words = servers("descriptors");
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    // systemd passes them in another order than they are declared.
    let worker = world.start(&world.copy(&words, &[&first, &second]), &[&second, &first]);
    worker.says("end of descriptors");
    worker.says(&format!("3 ('127.0.0.1', {})", first.port()));
    worker.says(&format!("4 ('127.0.0.1', {})", second.port()));
    let sockets = worker.sockets();
    assert_eq!(sockets.sockets.iter().map(|socket| socket.inode).collect::<Vec<_>>(), [first.inode, second.inode]);
    assert_eq!(sockets.pid, worker.pid());
}

#[test]
fn sigpipe_is_what_it_was() {
    let ignored = |trap: &str| {
        let mut world = World::new();
        world.wrapper = ["sh", "-c", &format!("{trap} exec \"$@\""), "sh"].map(String::from).to_vec();
        let copy = world.copy(&["sh", "-c", "grep SigIgn /proc/self/status >&2; echo end of status >&2"], &[]);
        let worker = world.start(&copy, &[]);
        worker.says("end of status");
        let line = worker.says("SigIgn");
        u64::from_str_radix(line.rsplit('\t').next().unwrap(), 16).unwrap() & (1 << (libc::SIGPIPE - 1)) != 0
    };
    assert!(ignored("trap '' PIPE;"), "as systemd has it");
    assert!(!ignored(""), "IgnoreSIGPIPE=no");
}

fn fails(world: &World, copy: &project_cluster::worker::pin::Copy, held: &[&Held]) -> (ExitStatus, String) {
    let mut worker = world.start(copy, held);
    let status = worker.child.wait().unwrap();
    let log = worker.log();
    assert!(log.starts_with("<3>") && log.lines().count() == 1, "one line of priority 3: {log:?}");
    (status, log)
}

#[test]
fn siblings_of_event_loops_keep_the_sockets_non_blocking() {
    let (world, held) = (World::new(), Held::tcp("127.0.0.1:0"));
    let script = app("servers.py");
    let mut copy = world.copy(&["python3", &script, "sleep"], &[&held]);
    copy.nonblocking = Some(true);
    let worker = world.start(&copy, &[&held]);
    worker.sockets();
    assert!(worker.is_nonblocking());
}

#[test]
fn failures_are_told_apart() {
    let world = World::new();
    let (status, log) = fails(&world, &world.copy(&["no-such-program"], &[]), &[]);
    assert!(status.code() == Some(203) && log.contains("`no-such-program` was not found in /usr/local/sbin:"), "{log}");

    std::fs::write(world.path("script"), "#!/no/such/interpreter\n").unwrap();
    let (status, log) = fails(&world, &world.copy(&["./script"], &[]), &[]);
    assert!(status.code() == Some(203) && log.contains("may not be executed") && log.contains("chmod +x"), "{log}");
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(world.path("script"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (_, log) = fails(&world, &world.copy(&["./script"], &[]), &[]);
    assert!(log.contains("/no/such/interpreter"), "{log}");

    let mut copy = world.copy(&["true"], &[]);
    copy.pin.cwd = "/srv/no/such/release".into();
    let (status, log) = fails(&world, &copy, &[]);
    assert!(status.code() == Some(200) && log.contains("was deleted"), "{log}");

    let held = Held::tcp("127.0.0.1:0");
    let (_, log) = fails(&world, &world.copy(&["true"], &[&held]), &[]);
    assert!(log.contains("should get 1 sockets and systemd passed none") && log.contains("systemctl restart shop@api.service"), "{log}");
}

#[test]
fn a_missing_pin_is_said() {
    let world = World::new();
    let mut command = std::process::Command::new(crate::support::BINARY);
    let output = command.args(["worker", "exec"]).env("RUNTIME_DIRECTORY", world.root.path()).output().unwrap();
    let text = crate::support::text(&output);
    assert!(!output.status.success() && text.starts_with("<3>") && text.contains("pin.json is missing"), "{text}");
}

#[test]
fn prepare_makes_what_exec_reads() {
    let world = World::new();
    let directory = world.path("run/shop-api/1.1.1");
    std::fs::create_dir_all(&directory).unwrap();
    let mut command = std::process::Command::new(crate::support::BINARY);
    command.args(["worker", "prepare", "--cluster", "shop", "--app", "api", "--root"]).arg(world.root.path()).arg("1.1.1");
    let output = command.env("RUNTIME_DIRECTORY", &directory).output().unwrap();
    let text = crate::support::text(&output);
    assert!(output.status.code() == Some(1) && text.contains("settings.json is missing"), "{text}");
    let output = command.args(["--odd"]).output().unwrap();
    assert!(output.status.code() == Some(2) && crate::support::text(&output).contains("`--odd` is not understood"));
}
