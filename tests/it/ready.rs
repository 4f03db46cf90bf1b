//! When systemd calls a worker active: every kind of `ready`, every kind of server, and what is said of one that is not.

use super::cluster::{SOON, app, installed};

/// The small servers of the worker's own tests, each with a habit of its own.
const ODD: &str = include_str!("../worker/apps/servers.py");

#[test]
pub fn epoll_poll_select_and_accept_servers_get_ready() {
    let mut toml = app("epoll", 1, "python3 /srv/apps/hello_asyncio.py 3001", "listen = \"0.0.0.0:3001\"");
    let modes = [("poll", 3002), ("select", 3003), ("accept", 3004), ("threading", 3005)];
    for (mode, port) in modes {
        let command = format!("python3 /srv/apps/hello_sync.py {mode} {port}");
        toml += &app(mode, 1, &command, &format!("listen = \"0.0.0.0:{port}\""));
        // The same without swap: the inherited descriptor, where only looking at the process can tell.
        if mode != "threading" {
            let command = format!("python3 /srv/odd.py {mode}");
            toml += &app(&format!("fd-{mode}"), 1, &command, &format!("swap = false\nlisten = \"127.0.0.1:{}\"", port + 100));
        }
    }
    toml += &app("fd-epoll", 1, "python3 /srv/odd.py epoll", "swap = false\nlisten = \"127.0.0.1:3101\"");
    let cluster = installed(&toml);
    cluster.write("/srv/odd.py", ODD);
    cluster.cli(&["install", "--now"]).ok();
    for row in cluster.ls() {
        assert_eq!(row.state(), "online", "{}", row.0);
    }
    for port in (3001..=3005).chain(3101..=3104) {
        // The start has returned: it answers, without any waiting.
        cluster.get(&format!("127.0.0.1:{port}"), "/").unwrap_or_else(|why| panic!("{port}: {why}"));
    }
}

#[test]
pub fn active_means_ready_for_a_worker_that_systemctl_starts() {
    let cluster = installed(&app("api", 1, "node /srv/apps/gate.js 3000 /srv/gate", "listen = 3000"));
    cluster.cli(&["install"]).ok();
    let unit = "project-cluster-api@1.1.1.service";
    let start = cluster.spawn(&["systemctl", "start", unit]);
    cluster.wait_until("it waits at the gate", SOON, || cluster.journal_of(unit).contains("waiting at the gate"));
    assert_eq!(cluster.state(unit), "activating");
    assert!(start.runs());
    assert!(
        !cluster.exists("/var/lib/project-cluster/pins/api/1.ready")
            || cluster.read("/var/lib/project-cluster/pins/api/1.ready").is_empty()
    );
    cluster.write("/srv/gate", "");
    start.wait(SOON).ok();
    assert_eq!(cluster.state(unit), "active");
    assert!(cluster.get("127.0.0.1:3000", "/").is_ok());
    assert!(cluster.read("/var/lib/project-cluster/pins/api/1.ready").starts_with("ready\n"));
}

#[test]
pub fn notify_http_exec_and_none() {
    let toml = [
        app("notify", 1, "python3 /srv/apps/notify.py /srv/gate", "ready = \"notify\""),
        app(
            "http",
            1,
            "python3 /srv/odd.py health /srv/gate",
            "spawn = \"child\"\nport = 4000\nports = \"4100-4100\"\nready = { http = \"/healthz\" }",
        ),
        app(
            "exec",
            1,
            "node /srv/apps/worker.js",
            "ready = { exec = [\"sh\", \"-c\", \"test $PROJECT_CLUSTER_UID = exec:01 && test -e /srv/gate\"] }",
        ),
        app("none", 1, "node /srv/apps/worker.js", "ready = \"none\"\nreload.min_ready = \"300ms\""),
        app("slow", 1, "node /srv/apps/broken/slow.js 3000", "listen = 3000\nenv = { STARTS_AFTER = 700 }"),
    ];
    let cluster = installed(&toml.concat());
    cluster.write("/srv/odd.py", ODD);
    cluster.cli(&["install"]).ok();
    let unit = |app: &str| format!("project-cluster-{app}@1.1.1.service");
    let starts = ["notify", "http", "exec"].map(|app| (app, cluster.spawn(&["systemctl", "start", &format!("project-cluster@{app}")])));
    // Those that wait for nothing but themselves.
    cluster.systemctl(&["start", "project-cluster@none", "project-cluster@slow"]).ok();
    assert_eq!((cluster.state(&unit("none")), cluster.state(&unit("slow"))), ("active".into(), "active".into()));
    assert!(cluster.get("127.0.0.1:3000", "/").is_ok());
    // The http worker listens and answers 503; the others run.
    cluster.wait_until("it answers 503", SOON, || cluster.get("127.0.0.1:4000", "/").is_ok_and(|response| response.status == 503));
    for (app, start) in &starts {
        cluster.wait_until("its main process runs", SOON, || cluster.main_pid(&unit(app)).is_some());
        assert_eq!(cluster.state(&unit(app)), "activating", "{app}");
        assert!(start.runs(), "{app}");
    }
    cluster.write("/srv/gate", "");
    for (app, start) in starts {
        start.wait(SOON).ok();
        assert_eq!(cluster.state(&unit(app)), "active", "{app}");
        assert!(cluster.read(format!("/var/lib/project-cluster/pins/{app}/1.ready")).starts_with("ready\n"));
    }
}

#[test]
pub fn a_worker_that_is_not_ready_says_what_it_does_instead() {
    let short = "timeout.start = \"1s\"\n";
    let toml = [
        app("exits", 1, "node /srv/apps/broken/exits.js", "listen = 3000"),
        app("throws", 1, "node /srv/apps/broken/throws.js", "listen = 3010"),
        app(
            "wrong",
            1,
            "node /srv/apps/broken/wrong_port.js 3020",
            &format!("{short}listen = \"0.0.0.0:3020\"\nenv = {{ HOST = \"0.0.0.0\" }}"),
        ),
        app("never", 1, "node /srv/apps/broken/never.js", &format!("{short}listen = 3030")),
        app("half", 1, "node /srv/apps/hello.js 3040", &format!("{short}listen = [3040, 3041]")),
        app("lost", 1, "node /srv/apps/hello.js 9999", &format!("{short}spawn = \"child\"\nport = 4000\nports = \"4100-4100\"")),
        app(
            "sick",
            1,
            "python3 /srv/odd.py health /srv/gate",
            &format!("{short}spawn = \"child\"\nport = 4010\nports = \"4110-4110\"\nready = {{ http = \"/up\" }}"),
        ),
        app("probe", 1, "node /srv/apps/worker.js", &format!("{short}ready = {{ exec = \"/bin/false\" }}")),
        app("gone", 1, "node /srv/apps/broken/exits.js", "ready = \"none\"\nreload.min_ready = \"20s\""),
    ];
    let cluster = installed(&toml.concat());
    cluster.write("/srv/odd.py", ODD);
    cluster.cli(&["install"]).ok();
    cluster.systemctl(&["start", "project-cluster.socket"]).ok();
    let cases: [(&str, &[&str]); 9] = [
        ("exits", &["it exited with code 0 before it was ready", "nothing to do"]),
        ("throws", &["it exited with code 1 before it was ready", "Error: the broken version cannot start"]),
        ("wrong", &["listens on 0.0.0.0:3021; declared was 0.0.0.0:3020"]),
        ("never", &["does not listen at all after 1s; declared was [::]:3030", "still thinking"]),
        ("half", &["listens on 1 of 2 declared addresses after 1s: missing [::]:3041"]),
        ("lost", &["listens on [::]:9999; its PORT is 4000"]),
        ("sick", &["http://127.0.0.1:4010/up gave no 2xx or 3xx within 1s: it answers 503"]),
        ("probe", &["the `ready` command `/bin/false` of probe did not succeed within 1s, the last time: exit status: 1"]),
        ("gone", &["it exited with code 0 before it was ready", "nothing to do"]),
    ];
    let starts = cases.map(|(app, parts)| (app, parts, cluster.spawn(&["project-cluster", "start", app])));
    for (app, parts, start) in starts {
        let output = start.wait(SOON);
        assert_ne!(output.code, 0, "{output:?}");
        let handle = format!("project-cluster@{app}");
        assert_eq!(cluster.state(&handle), "failed");
        let journal = cluster.journal_of(&handle);
        for part in ["none of 1 workers got ready"].iter().chain(parts) {
            assert!(output.stderr.contains(part), "{app}, `{part}`, the command line: {}", output.stderr);
            assert!(journal.contains(part), "{app}, `{part}`, the journal: {journal}");
        }
        // What systemd did to a worker because of our own step is not its fault.
        assert!(!output.stderr.contains("killed by signal"), "{app}: {}", output.stderr);
        assert_eq!(cluster.units(&format!("project-cluster-{app}@*"), &["active", "activating"]), Vec::<String>::new(), "{app}");
    }
}

#[test]
pub fn a_deploy_that_listens_elsewhere_fails_and_says_where() {
    let cluster = installed(&app("api", 1, "node app.js 3000", "listen = 3000\ntimeout.start = \"2s\""));
    cluster.sh("cp /srv/apps/common.js /srv/shop/v1/; cp /srv/apps/hello.js /srv/shop/v1/app.js").ok();
    cluster.sh("cp /srv/apps/common.js /srv/shop/; cp /srv/apps/broken/wrong_port.js /srv/shop/v2/app.js").ok();
    cluster.cli(&["install", "--now"]).ok();
    cluster.release("v2");
    let reload = cluster.cli(&["reload", "api"]);
    assert_ne!(reload.code, 0);
    let words = "listens on [::]:3001; declared was [::]:3000";
    assert!(reload.stderr.contains(words), "{}", reload.stderr);
    assert!(cluster.journal_of("project-cluster.service").contains(words));
    assert!(cluster.get("127.0.0.1:3000", "/").unwrap().body.starts_with("v1 "));
}

#[test]
fn capabilities_and_processes_that_cannot_be_dumped_hide_nothing() {
    let toml = app("caps", 2, "node /srv/apps/hello.js 3000", "listen = 3000\nsandbox.privileges = false")
        + "[apps.caps.systemd]\nAmbientCapabilities = \"CAP_NET_BIND_SERVICE\"\n"
        + &app("hidden", 2, "python3 /srv/apps/undumpable.py", "listen = \"127.0.0.1:3001\"");
    let cluster = installed(&toml);
    cluster.cli(&["install", "--now"]).ok();
    for (app, address) in [("caps", "127.0.0.1:3000"), ("hidden", "127.0.0.1:3001")] {
        assert_eq!(cluster.workers(app).len(), 2, "{app}");
        assert!(cluster.get(address, "/").is_ok(), "{app}");
    }
    let status = |app: &str| cluster.read(format!("/proc/{}/status", cluster.main_pid(&cluster.workers(app)[0]).unwrap()));
    assert!(status("caps").contains("CapEff:\t0000000000000400"), "{}", status("caps"));
    // Of a process that cannot be dumped root owns the files below /proc.
    let owner = |app: &str| cluster.sh(&format!("stat -c %U /proc/{}/fd", cluster.main_pid(&cluster.workers(app)[0]).unwrap())).ok();
    assert_eq!((owner("hidden").as_str(), owner("caps") == "root"), ("root", false));
}
