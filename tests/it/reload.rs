//! The rolling reload on a real systemd, under load: what it replaces, what it refuses, what a broken version changes.

use super::cluster::{ADDRESS, Cluster, HELLO, SOON, app, cluster, installed, shop};
use super::support::Running;

const HANDLE: &str = "project-cluster@api";

/// How many workers of an app are up, read over and over until a command ends: the fewest and the most.
#[track_caller]
fn up_while(cluster: &Cluster, app: &str, command: &Running) -> (usize, usize) {
    let (mut fewest, mut most) = (usize::MAX, 0);
    cluster.wait_until("the command has ended", 3 * SOON, || {
        let up = cluster.workers(app).len();
        (fewest, most) = (fewest.min(up), most.max(up));
        !command.runs()
    });
    (fewest, most)
}

#[test]
pub fn systemctl_reload_under_load_replaces_all_new_before_old() {
    let cluster = shop(4, "");
    let (inode, old) = (cluster.socket_inode(3000), cluster.pids("api"));
    cluster.deploy("v2", HELLO);
    let mark = cluster.journal_mark();
    let load = cluster.load(ADDRESS).connections(8).start();
    load.wait_for_answers(100);
    let reload = cluster.spawn(&["systemctl", "reload", HANDLE]);
    let (fewest, most) = up_while(&cluster, "api", &reload);
    let took = reload.wait(SOON).exits(0).took;
    load.wait_for_body("v2 ");
    let report = load.stop();
    println!("systemctl reload of 4 Node workers took {took:?}, {fewest} to {most} were up; {report}");
    assert!(fewest >= 4 && most <= 5, "{fewest} to {most} were up");
    assert_eq!((cluster.generations("api"), cluster.workers("api").len()), (vec![2], 4));
    assert!(cluster.pids("api").iter().all(|pid| !old.contains(pid)));
    assert_eq!(cluster.socket_inode(3000), inode);
    assert_eq!(report.failed_by_kind.get("refused"), None, "{report}");
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v2 "));
    // A reload that goes well warns of nothing, and leaves the master's status as it was.
    assert_eq!(cluster.journal(&["-u", "project-cluster", "-p", "warning", "--since", &mark, "-o", "cat"]), "");
    assert!(
        cluster.journal(&["-u", "project-cluster", "-p", "notice", "--since", &mark, "-o", "cat"]).contains("roll to generation 2 done")
    );
    cluster.wait_until("the status is that of rest", SOON, || cluster.property("project-cluster.service", "StatusText") == "watches 1 app");
}

#[test]
pub fn three_reloads_in_a_row_of_node_go_and_asyncio() {
    let cluster = installed(&format!(
        "{}{}{}",
        app("node", 4, "node /srv/apps/hello.js 3000", "listen = 3000"),
        app("go", 4, "hello-go 3001", "listen = 3001"),
        app("py", 4, "python3 /srv/apps/hello_asyncio.py 3002", "listen = \"0.0.0.0:3002\""),
    ));
    cluster.cli(&["install", "--now"]).ok();
    let ports = [("node", 3000), ("go", 3001), ("py", 3002)];
    let inodes = ports.map(|(_, port)| cluster.socket_inode(port));
    let loads = ports.map(|(_, port)| cluster.load(&format!("127.0.0.1:{port}")).connections(4).start());
    loads.iter().for_each(|load| load.wait_for_answers(100));
    for release in ["v2", "v3", "v1"] {
        cluster.release(release);
        cluster.cli(&["reload", "all"]).ok();
    }
    loads.iter().for_each(|load| load.wait_for_answers(50));
    for ((name, _), load) in ports.iter().zip(loads) {
        let report = load.stop();
        println!("{name}, 4 workers replaced 3 times without a drain: {report}");
        assert_eq!(report.failed_by_kind.get("refused"), None, "{name}: {report}");
        assert_eq!(report.versions().into_keys().filter(|version| version.starts_with('v')).count(), 3, "{name}: {report}");
        assert_eq!((cluster.generations(name), cluster.workers(name).len()), (vec![4], 4), "{name}");
    }
    assert_eq!(ports.map(|(_, port)| cluster.socket_inode(port)), inodes);
}

#[test]
pub fn the_command_line_tells_each_step_and_restart_rolls_as_well() {
    let cluster = shop(2, "");
    let said = cluster.cli(&["reload", "api"]).ok();
    let steps: Vec<&str> = said.lines().filter_map(|line| line.split_once("  api").map(|(_, step)| step)).collect();
    assert_eq!(steps[..3], [":01 (generation 2) starts", ":01 (generation 2) is ready", ":01 (generation 1) retires"], "{said}");
    assert!(said.lines().last().unwrap().ends_with("done: generation 2, 2 of 2 ready"), "{said}");
    let rolled: serde_json::Value = serde_json::from_str(&cluster.cli(&["restart", "api", "--json"]).ok()).unwrap();
    let rolled = (&rolled[0]["message"], &rolled[0]["roll"]);
    assert_eq!((rolled.0, &rolled.1["state"], &rolled.1["generation"]), (&"done".into(), &"done".into(), &3.into()), "{rolled:?}");
    assert_eq!(cluster.generations("api"), [3]);

    // Who does not wait, or no longer, stops nothing.
    assert!(cluster.cli(&["reload", "api", "--no-wait"]).ok().contains("has begun"));
    // This one stands behind the one that has begun, so it takes longer than that.
    let late = cluster.cli(&["reload", "api", "--timeout", "500ms"]).exits(1);
    assert!(late.stderr.contains("goes on. `project-cluster show api`"), "{}", late.stderr);
    // What was begun can be found again.
    let late = cluster.cli(&["reload", "api", "--json", "--timeout", "300ms"]);
    let begun: serde_json::Value = serde_json::from_str(&late.stdout).unwrap();
    assert_eq!((late.code, begun[0]["outcome"].as_str(), begun[0]["code"].as_str()), (1, Some("begun"), None), "{begun}");
    assert!(begun[0]["roll"]["id"].is_u64(), "{begun}");
    cluster.wait_until("all of these have ended", SOON, || cluster.app("api")["state"] == "running");
    let waiting = cluster.spawn(&["project-cluster", "reload", "api", "--json"]);
    cluster.wait_until("it has begun", SOON, || cluster.app("api")["state"] == "rolling");
    waiting.signal(libc::SIGINT);
    let interrupted: serde_json::Value = serde_json::from_str(&waiting.wait(SOON).exits(1).stdout).unwrap();
    assert!(interrupted[0]["roll"]["id"].as_u64() > begun[0]["roll"]["id"].as_u64(), "{interrupted}");
    let waiting = cluster.spawn(&["project-cluster", "reload", "api"]);
    cluster.wait_until("it says a step", SOON, || waiting.stdout().contains("starts"));
    waiting.signal(libc::SIGINT);
    let interrupted = waiting.wait(SOON).exits(1);
    assert!(interrupted.stderr.contains("goes on. `project-cluster show api`"), "{}", interrupted.stderr);
    cluster.wait_until("all rolls have ended", SOON, || cluster.app("api")["state"] == "running");
    assert_eq!(cluster.app("api")["roll"]["state"], "done");
    let shown = cluster.cli(&["show", "api"]).ok();
    assert!(shown.contains("done: generation ") && shown.contains("2 of 2 ready"), "{shown}");
}

#[test]
pub fn three_reloads_at_once_are_two_rolls() {
    let cluster = shop(2, "reload.min_ready = \"1s\"");
    let first = cluster.spawn(&["project-cluster", "reload", "api"]);
    cluster.wait_until("the roll has begun", SOON, || first.stdout().contains("starts"));
    let others = [(); 2].map(|()| cluster.spawn(&["project-cluster", "reload", "api"]));
    let said = first.wait(3 * SOON).ok();
    assert!(said.contains("done: generation 2, "), "{said}");
    for other in others {
        let said = other.wait(3 * SOON).ok();
        assert!(said.contains("done: generation 3, "), "{said}");
    }
    assert_eq!(cluster.generations("api"), [3]);
}

#[test]
pub fn a_version_that_throws_changes_nothing_and_holds_the_app() {
    let cluster = shop(4, "");
    let (inode, old) = (cluster.socket_inode(3000), cluster.pids("api"));
    let load = cluster.load(ADDRESS).connections(8).expect(|body| body.starts_with("v1 ")).start();
    load.wait_for_answers(100);
    // Its words would clear the screen of who reads them.
    cluster.deploy("v2", "throw new Error('\\x1b[2J\\x1b]0;pwned\\x07the broken version cannot start');");
    let failed = cluster.cli(&["reload", "api"]).exits(1);
    for said in
        ["the roll to generation 2 failed", "it exited with 1", "The old workers serve as before", "the broken version cannot start"]
    {
        assert!(failed.stderr.contains(said), "{said}: {}", failed.stderr);
    }
    let listed = cluster.cli(&["ls"]).ok();
    assert!(listed.contains("api: held since ") && listed.contains(" ago), when generation 2 failed"), "{listed}");
    let shown = cluster.cli(&["show", "api"]).ok();
    assert!(shown.contains("the broken version cannot start") && shown.contains("`project-cluster reload api`"), "{shown}");
    for said in [&failed.stderr, &failed.stdout, &listed, &shown] {
        assert!(!said.contains(['\u{1b}', '\u{7}']), "control characters reach the terminal: {said:?}");
    }
    assert_ne!(cluster.systemctl(&["reload", HANDLE]).code, 0);
    assert_eq!(cluster.state(HANDLE), "active", "a failed reload leaves the handle as it was");
    assert_eq!(cluster.pids("api"), old);
    assert_eq!(cluster.units("project-cluster-api@*", &[]).len(), 4, "nothing of the new ones is left");
    let report = load.stop();
    println!("two reloads into a version that throws: {report}");
    report.none_failed(100);
    assert!(cluster.journal(&["-u", "project-cluster", "-p", "err", "-o", "cat"]).contains("the broken version cannot start"));

    // The next good one ends the hold.
    cluster.deploy("v3", HELLO);
    cluster.cli(&["reload", "api"]).ok();
    assert_eq!(cluster.app("api")["held"], serde_json::Value::Null);
    assert!(!cluster.cli(&["ls"]).ok().contains("held"));
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v3 "));
    assert_eq!(cluster.socket_inode(3000), inode);
}

/// Deploys it, reloads, and expects all old: how the reload failed.
#[track_caller]
fn fails_and_all_is_old(cluster: &Cluster, release: &str, javascript: &str) -> String {
    let (inode, old) = (cluster.socket_inode(3000), cluster.generations("api"));
    cluster.deploy(release, javascript);
    let failed = cluster.cli(&["reload", "api"]).exits(1);
    assert_eq!((cluster.generations("api"), cluster.workers("api").len()), (old, 4), "{}", failed.stderr);
    assert_eq!(cluster.units("project-cluster-api@*", &["activating", "failed"]), Vec::<String>::new());
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v1 "));
    assert_eq!(cluster.socket_inode(3000), inode);
    assert!(!cluster.app("api")["held"]["reason"].as_str().unwrap().is_empty());
    failed.stdout + &failed.stderr
}

#[test]
pub fn whenever_a_version_fails_all_is_old_again() {
    let cluster = shop(4, "timeout.start = \"2s\"\nreload.min_ready = \"1s\"");
    let old = cluster.pids("api");
    // Ready, and gone before it counts.
    let said = fails_and_all_is_old(
        &cluster,
        "v2",
        &format!("{HELLO} setTimeout(() => {{ console.error('out of ideas'); process.exit(3) }}, 300);"),
    );
    assert!(said.contains("out of ideas") && said.contains("going back"), "{said}");
    assert_eq!(cluster.pids("api"), old, "no old one was touched");
    // Never ready.
    let said = fails_and_all_is_old(&cluster, "v3", "console.log('still thinking'); setInterval(() => {}, 1000);");
    assert!(said.contains("timeout.start") && said.contains("still thinking"), "{said}");
    assert!(said.contains("it was not ready") && !said.contains("exited with"), "{said}");
    assert_eq!(cluster.pids("api"), old, "no old one was touched");
    // At the third of four: two old ones were replaced already and come back.
    let third = format!("if (process.env.PROJECT_CLUSTER_SLOT === '3') throw new Error('not on the third'); {HELLO}");
    let said = fails_and_all_is_old(&cluster, "v4", &third);
    assert!(said.contains("api:02 (generation 4) is ready") && said.contains("not on the third"), "{said}");
}

/// An app that closes what it has begun before it ends; `{then}` is what else it does.
fn graceful(then: &str) -> String {
    format!(
        "const version = require('fs').readFileSync('VERSION', 'utf8').trim();
        const server = require('http').createServer((_, answer) => answer.setHeader('Connection', 'close').end(version + ' '));
        const end = code => server.close(() => process.exit(code));
        process.on('SIGTERM', () => end(0));
        {then}
        server.listen(3000);"
    )
}

#[test]
pub fn a_broken_deploy_under_load_fails_no_request_and_both_commands_say_so() {
    let cluster = installed(&app("api", 4, "node app.js", "listen = 3000\ntimeout.start = \"1s\"\nreload.min_ready = \"400ms\""));
    cluster.program("v1", &graceful(""));
    cluster.cli(&["install", "--now"]).ok();
    let (inode, mut old) = (cluster.socket_inode(3000), cluster.pids("api"));
    let breakages = [
        ("throws at its start", "throw new Error('out of luck');".to_owned(), "out of luck"),
        ("is never ready", "console.log('still thinking'); setInterval(() => {}, 1000);".to_owned(), "still thinking"),
        ("ends when it was ready", graceful("setTimeout(() => { console.error('out of ideas'); end(3) }, 200);"), "out of ideas"),
        (
            "throws in the third of four",
            graceful("if (process.env.PROJECT_CLUSTER_SLOT === '3') throw new Error('not on the third');"),
            "not on the third",
        ),
    ];
    for (index, (how, program, words)) in breakages.iter().enumerate() {
        let load = cluster.load(ADDRESS).connections(4).pause(std::time::Duration::from_millis(1)).start();
        load.wait_for_answers(50);
        cluster.deploy(&format!("b{index}"), program);
        let failed = cluster.cli(&["reload", "api"]).exits(1);
        assert!(failed.stderr.contains(words) && failed.stderr.contains("The old workers serve as before"), "{how}: {}", failed.stderr);
        let mark = cluster.journal_mark();
        cluster.systemctl(&["reload", HANDLE]).exits(1);
        assert!(cluster.journal(&["-u", HANDLE, "--since", &mark, "-o", "cat"]).contains(words), "{how}");
        let report = load.stop();
        println!("a version that {how}, by both commands: exits 1 and 1; {report}");
        report.none_failed(100);
        assert!(cluster.app("api")["held"]["reason"].as_str().is_some_and(|why| why.contains(words)), "{how}");
        assert_eq!((cluster.generations("api"), cluster.workers("api").len(), cluster.socket_inode(3000)), (vec![1], 4, inode.clone()));
        assert_eq!(cluster.units("project-cluster-api@*", &["activating", "failed", "deactivating"]), Vec::<String>::new());
        let now = cluster.pids("api");
        let kept = now.iter().filter(|pid| old.contains(pid)).count();
        // Two old ones were replaced before the third failed, and came back as others.
        assert!(kept == if index == 3 { 2 } else { 4 }, "{how}: {old:?} {now:?}");
        old = now;
    }
}

#[test]
pub fn what_cannot_be_reloaded_is_refused_with_what_to_do() {
    let slow = "require('/srv/apps/broken/slow.js');";
    let cluster = shop(1, "env = { STARTS_AFTER = \"3000\" }");
    // A socket that is down.
    cluster.systemctl(&["stop", "project-cluster-api-:::3000.socket"]).ok();
    let refused = cluster.cli(&["reload", "api"]).exits(1);
    assert!(
        refused.stderr.contains("socket")
            && refused.stderr.contains("`systemctl stop project-cluster@api.service && systemctl start project-cluster@api.service`"),
        "{}",
        refused.stderr
    );
    assert!(
        cluster.cli(&["ls"]).ok().contains("`systemctl stop project-cluster@api.service && systemctl start project-cluster@api.service`")
    );
    cluster.sh("systemctl stop project-cluster@api.service && systemctl start project-cluster@api.service").ok();
    assert!(cluster.get(ADDRESS, "/").is_ok());
    // An app that is stopped.
    cluster.cli(&["stop", "api"]).ok();
    let refused = cluster.cli(&["reload", "api"]).exits(1);
    assert!(refused.stderr.contains("not running") && refused.stderr.contains("`project-cluster start api`"), "{}", refused.stderr);
    assert_ne!(cluster.systemctl(&["reload", HANDLE]).code, 0);
    assert_eq!(cluster.state(HANDLE), "inactive");
    // One that starts: not by us; systemd lets its own reload be the start.
    cluster.deploy("v2", slow);
    cluster.systemctl(&["restart", "--no-block", HANDLE]).ok();
    cluster.wait_for_state(HANDLE, "activating", SOON);
    let refused = cluster.cli(&["reload", "api"]).exits(1);
    assert!(refused.stderr.contains("is starting"), "{}", refused.stderr);
    cluster.systemctl(&["reload", HANDLE]).ok();
    assert_eq!((cluster.state(HANDLE), cluster.workers("api").len()), ("active".to_owned(), 1));
    cluster.wait_for_http(ADDRESS);
}

#[test]
pub fn surge_and_unavailable_bound_how_many_are_up() {
    let api = app("api", 4, "node /srv/apps/hello.js 3000", "listen = 3000\nreload.max_surge = 2");
    let lean = app("lean", 4, "node /srv/apps/hello.js 3001", "listen = 3001\nreload.max_surge = 0\nreload.max_unavailable = 1");
    let cluster = cluster(&format!("{api}{lean}"));
    let first_steps = |app: &str| -> Vec<String> {
        let app = cluster.app(app);
        app["roll"]["steps"].as_array().unwrap().iter().map(|step| step["text"].as_str().unwrap().to_owned()).take(3).collect()
    };
    let reload = cluster.spawn(&["project-cluster", "reload", "api"]);
    let (fewest, most) = up_while(&cluster, "api", &reload);
    reload.wait(SOON).ok();
    assert!(fewest >= 4 && most <= 6, "{fewest} to {most} were up");
    let steps = first_steps("api");
    assert_eq!(steps[..2], ["api:01 (generation 2) starts", "api:02 (generation 2) starts"], "two at once");
    let reload = cluster.spawn(&["project-cluster", "reload", "lean"]);
    let (fewest, most) = up_while(&cluster, "lean", &reload);
    reload.wait(SOON).ok();
    assert!(fewest >= 3 && most <= 4, "{fewest} to {most} were up");
    assert_eq!(first_steps("lean")[0], "lean:01 (generation 1) retires", "the old one first");
    assert_eq!((cluster.generations("api"), cluster.generations("lean")), (vec![2], vec![2]));
}
