//! Who workers run as, what their sandbox lets them do, which exits are success.

use super::cluster::{Cluster, SOON, app, cluster};

fn status(cluster: &Cluster, unit: &str) -> String {
    cluster.read(format!("/proc/{}/status", cluster.main_pid(unit).unwrap()))
}

#[test]
fn workers_run_as_written_dynamic_by_default_and_root_only_when_written() {
    let home = "[apps.home]\ncommand = \"node /home/games/hello.js 3003\"\ncwd = \"/home/games\"\nuser = \"games\"\nlisten = 3003\nsandbox.home = false\n";
    let hidden = "[apps.hidden]\ncommand = \"node /srv/apps/worker.js\"\ncwd = \"/home/games\"\nuser = \"games\"\n";
    let apps = [
        app("dynamic", 1, "node /srv/apps/hello.js 3000", "listen = 3000"),
        app(
            "named",
            1,
            "node /srv/apps/hello.js 3001",
            "listen = 3001\nuser = \"games\"\ngroup = \"mail\"\nsystemd = { LimitNOFILE = \"1234\", Nice = 7, ReadWritePaths = [\"/srv/shop\", \"/var/tmp\"] }\nlimits = { CPUWeight = 77, TasksMax = 321 }",
        ),
        app("boss", 1, "node /srv/apps/hello.js 3002", "listen = 3002\nuser = \"root\""),
        home.into(),
    ];
    let cluster = super::cluster::installed(&(apps.concat() + hidden));
    cluster.sh("mkdir -p /home/games; cp /srv/apps/hello.js /srv/apps/common.js /home/games; chown -R games: /home/games; chmod 700 /home/games").ok();
    let said = cluster.cli(&["install", "--now"]).exits(1);
    // Where the sandbox hides the directory, it is said before and after.
    assert!(said.stderr.contains("is hidden from the workers by the sandbox"), "{}", said.stderr);
    assert!(said.stderr.contains("hidden did not start") && said.stderr.contains("home = false"), "{}", said.stderr);
    for port in [3000, 3001, 3002, 3003] {
        assert_eq!(cluster.get(&format!("127.0.0.1:{port}"), "/").map(|response| response.status), Ok(200), "{port}");
    }
    let unit = |app: &str| format!("project-cluster-{app}@1.1.1.service");
    let owner = |app: &str| cluster.run(&["stat", "-c", "%U:%G", &format!("/proc/{}", cluster.main_pid(&unit(app)).unwrap())]).ok();
    assert_eq!(owner("dynamic"), "project-cluster-dynamic:project-cluster-dynamic");
    let uid = cluster.sh("id -u project-cluster-dynamic").ok().parse::<u32>().unwrap();
    assert!((61184..=65519).contains(&uid), "{uid} is of DynamicUser's range");
    assert_eq!(owner("named"), "games:mail");
    assert_eq!(owner("boss"), "root:root");
    assert_eq!(owner("home"), "games:games");
    for app in ["dynamic", "named", "home", "boss"] {
        let status = status(&cluster, &unit(app));
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t0000000000000000", "CapEff:\t0000000000000000"] {
            assert!(status.contains(line), "{app}: {line} in {status}");
        }
    }
    // Verbatim directives, and limits of all workers together.
    let text = cluster.systemctl(&["cat", &unit("named")]).ok();
    assert!(text.contains("LimitNOFILE=1234\nNice=7\nReadWritePaths=/srv/shop\nReadWritePaths=/var/tmp"), "{text}");
    let named = cluster.main_pid(&unit("named")).unwrap();
    let limits = cluster.read(format!("/proc/{named}/limits"));
    assert!(limits.lines().any(|line| line.starts_with("Max open files") && line.contains("1234")), "{limits}");
    assert_eq!(cluster.run(&["ps", "-o", "ni=", "-p", &named.to_string()]).ok(), "7");
    let slice = r"system-project\x2dcluster\x2dnamed.slice";
    assert_eq!(cluster.property(&unit("named"), "Slice"), slice);
    assert_eq!((cluster.property(slice, "CPUWeight").as_str(), cluster.property(slice, "TasksMax").as_str()), ("77", "321"));
}

#[test]
fn node_python_and_go_run_in_the_default_sandbox() {
    let servers = [
        ("node", "node /srv/apps/hello.js 3000"),
        ("asyncio", "/usr/bin/python3 /srv/apps/hello_asyncio.py 3001"),
        ("threads", "/usr/bin/python3 /srv/apps/hello_sync.py threading 3002"),
        ("go", "/usr/local/bin/hello-go 3003"),
    ];
    let apps = servers.iter().enumerate().map(|(index, (name, command))| app(name, 2, command, &format!("listen = {}", 3000 + index)));
    let cluster = cluster(&apps.collect::<String>());
    for (index, (name, _)) in servers.iter().enumerate() {
        assert_eq!(cluster.workers(name).len(), 2, "{name}");
        let answer = cluster.get(&format!("127.0.0.1:{}", 3000 + index), "/").unwrap();
        assert!(answer.body.starts_with("v1 "), "{name}: {answer:?}");
        for worker in cluster.workers(name) {
            assert_eq!(cluster.property(&worker, "NRestarts"), "0", "{worker}");
        }
    }
    cluster.cli(&["reload", "all"]).ok();
    for (name, _) in servers {
        assert_eq!(cluster.generations(name), [2], "{name}");
    }
}

#[test]
fn exits_143_and_success_exit_codes_are_no_failure() {
    let ends_with = |name: &str, code: u8, more: &str| {
        let script = format!("trap 'exit {code}' TERM; while :; do sleep 0.05; done");
        format!("[apps.{name}]\ncommand = [\"sh\", \"-c\", \"{script}\"]\nready = \"none\"\nreload.min_ready = \"10ms\"\n{more}\n")
    };
    let cluster = cluster(
        &[
            ends_with("usual", 143, ""),
            ends_with("told", 7, "success_exit_codes = [7, 0]"),
            ends_with("untold", 7, ""),
            // Dies of the signal itself.
            app("plain", 1, "node /srv/apps/worker.js", ""),
        ]
        .concat(),
    );
    for (app, state, result) in [
        ("usual", "inactive", "success"),
        ("told", "inactive", "success"),
        ("plain", "inactive", "success"),
        ("untold", "failed", "exit-code"),
    ] {
        let unit = format!("project-cluster-{app}@1.1.1.service");
        // A reference keeps what is known of a unit that ended.
        cluster.wait_for_state(&unit, "active", SOON);
        cluster.systemctl(&["stop", &unit]).ok();
        assert_eq!((cluster.state(&unit).as_str(), cluster.property(&unit, "Result").as_str()), (state, result), "{app}");
        let journal = cluster.journal(&["-u", &unit, "-o", "cat"]);
        assert_eq!(journal.contains("Failed with result"), state == "failed", "{journal}");
    }
}
