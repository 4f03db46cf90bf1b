//! The command line against a real cluster: what it prints, what it refuses, how it exits.

use serde_json::Value;

use super::cluster::{ADDRESS, Cluster, HELLO, SOON, app, cluster, installed, node, shop};

/// A worker with a child that holds 80 MB and has used 400 ms of CPU.
const FAMILY: &str = "
const child = 'const b = Buffer.alloc(80e6, 1); while (process.cpuUsage().user < 4e5); console.log(\"the child is there\"); setInterval(() => b, 1e6)';
require('child_process').spawn(process.execPath, ['-e', child], { stdio: 'inherit' });
require('/srv/apps/hello.js');";

fn two_apps() -> String {
    node(2) + &app("bg", 1, "node /srv/apps/worker.js", "")
}

#[test]
pub fn ls_and_show_tell_of_the_whole_control_group() {
    let cluster = installed(&(app("api", 1, "node app.js 3000", "listen = 3000") + &app("bg", 2, "node /srv/apps/worker.js", "")));
    cluster.program("v1", FAMILY);
    let table = cluster.cli(&["install", "--now"]).ok();
    assert!(!table.contains("starting") && table.matches("online").count() == 3, "install --now shows what is: {table}");
    cluster.wait_until("the child is there", SOON, || cluster.journal_of("project-cluster-api@*").contains("the child is there"));
    let rows = cluster.ls();
    let uids: Vec<&str> = rows.iter().map(|row| row.uid()).collect();
    assert_eq!(uids, ["api:01", "bg:01", "bg:02"]);
    let Value::Object(row) = &rows[0].0 else { panic!("an object") };
    let keys: Vec<&str> = row.keys().map(String::as_str).collect();
    for key in "uid app slot generation pin release unit state pid uptime_ms restarts errors warnings memory_bytes cpu_ms".split(' ') {
        assert!(keys.contains(&key), "{key} of {keys:?}");
    }
    assert_eq!((&row["app"], &row["slot"], &row["generation"], &row["restarts"]), (&"api".into(), &1.into(), &1.into(), &0.into()));
    assert_eq!((row["unit"].as_str(), rows[0].pid()), (Some("project-cluster-api@1.1.1.service"), cluster.pids("api")[0]));
    assert!(row["memory_bytes"].as_u64().unwrap() > 110_000_000, "two Nodes and 80 MB: {row:?}");
    assert!(row["cpu_ms"].as_u64().unwrap() >= 400, "the child's too: {row:?}");
    assert!(row["uptime_ms"].as_u64().unwrap() < 120_000, "{row:?}");

    let table = cluster.cli(&["ls"]).ok();
    let heading: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heading, ["uid", "pid", "state", "gen", "release", "crash", "err", "warn", "memory", "cpu", "uptime"]);
    assert_eq!(table.lines().filter(|line| line.contains("online")).count(), 3, "{table}");
    assert_eq!(cluster.cli(&["ls", "bg:02"]).ok().lines().count(), 2);
    let shown = cluster.cli(&["show", "api"]).ok();
    for said in
        ["api  running  1 of 1 ready, generation 1", "node app.js 3000", "/srv/shop/current", "project-cluster@api.service", "[::]:3000"]
    {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    for said in ["/srv/shop/v1", "connections, 0 of at most", "(listen), within 30 s", "SIGTERM at once", "TasksMax"] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    // On no terminal there are no colours, and a reader that goes away is no error.
    assert!(!table.contains('\u{1b}') && !shown.contains('\u{1b}'));
    let head =
        cluster.sh("project-cluster ls | head -1; project-cluster show all | true; project-cluster ls --json >/dev/full || echo full");
    assert_eq!((head.code, head.stderr.contains("panicked")), (0, false), "{}", head.stderr);
    let on_terminal = |env: &str| cluster.sh(&format!("script -qec 'env {env} project-cluster ls' /dev/null")).ok();
    assert!(on_terminal("TERM=xterm").contains("\u{1b}[32monline"));
    assert!(!on_terminal("NO_COLOR=1 TERM=xterm").contains("\u{1b}["));
}

#[test]
fn show_tells_apart_what_runs_and_what_is_installed() {
    let cluster = shop(1, "");
    cluster.config(&app("api", 1, "node app.js 3000 --later", "listen = 3000\nuser = \"games\""));
    cluster.cli(&["install"]).ok();
    cluster.sh("usermod -aG project-cluster games").ok();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (now, next) = ("  command  node app.js 3000", "           command  node app.js 3000 --later");
    for selector in ["api", "api:01"] {
        let shown = lines(&cluster.cli(&["show", selector]).ok());
        let at = |line: &str| shown.iter().position(|shown| shown == line).unwrap_or_else(|| panic!("`{line}`: {shown:#?}"));
        assert!(at(now) < at("  next     what its next start takes:") && at("           user     games") > at(next));
        assert!(!shown.iter().any(|line| line.starts_with("  user") && line.contains("games")), "{shown:#?}");
    }
    let facts = |text: &str| serde_json::from_str::<Value>(text).unwrap()[0]["facts"].clone();
    let root = facts(&cluster.cli(&["show", "api", "--json"]).ok());
    assert_eq!((&root["in_effect"], &root["command"]), (&false.into(), &serde_json::json!(["node", "app.js", "3000"])));
    // Who may not read what runs is not told that it is what is installed.
    let member = facts(&cluster.run_as("games", &["project-cluster", "show", "api", "--json"]).ok());
    assert_eq!((&member["in_effect"], &member["command"], &member["release"]), (&false.into(), &Value::Null, &"/srv/shop/v1".into()));
    cluster.cli(&["reload", "api"]).ok();
    let shown = lines(&cluster.cli(&["show", "api"]).ok());
    assert!(shown.contains(&"  command  node app.js 3000 --later".into()) && shown.contains(&"  user     games".into()), "{shown:#?}");
}

#[test]
pub fn start_and_stop_take_several_apps_and_wait_as_told() {
    let cluster = cluster(&two_apps());
    let all_in = |state: &str| {
        let apps: Value = serde_json::from_str(&cluster.cli(&["show", "all", "--json"]).ok()).unwrap();
        apps.as_array().unwrap().iter().all(|app| app["state"] == state)
    };
    cluster.cli(&["stop", "api", "bg"]).ok();
    assert!(all_in("stopped"));
    let listed = cluster.cli(&["ls"]).ok();
    assert!(listed.contains("api: stopped. Start it: `project-cluster start api`"), "{listed}");
    let said = cluster.cli(&["start", "all"]).ok();
    assert!(said.contains("api: 2 of 2 ready") && said.contains("bg: 1 of 1 ready"), "{said}");
    assert!(all_in("running"));
    cluster.cli(&["start", "all"]).ok();
    assert!(cluster.cli(&["stop", "all", "--no-wait"]).ok().contains("ordered"));
    cluster.wait_until("all are stopped", SOON, || all_in("stopped"));
    assert!(cluster.cli(&["stop", "all"]).ok().contains("stopped"), "again is no error");
    // One time for all of it: too little to hear which apps there are, and nothing is asked for.
    let late = cluster.cli(&["start", "api", "--timeout", "1ms"]).exits(1);
    assert!(late.stderr.contains("`--timeout` (1 ms) was over") && late.stderr.contains("nothing was asked of it"), "{}", late.stderr);
    assert_eq!(cluster.workers("api"), Vec::<String>::new());
    cluster.cli(&["start", "api"]).ok();
    let refused = cluster.cli(&["sleep", "api"]).exits(1);
    assert!(refused.stderr.contains("not on_demand") && refused.stderr.contains("`project-cluster stop api`"), "{}", refused.stderr);
    assert_eq!(cluster.workers("api").len(), 2);

    // What is wrong with the words themselves is 2, and the nearest is named.
    for verb in ["start", "stop", "reload", "restart", "remove", "reset", "add", "sleep", "show"] {
        let typo = cluster.cli(&[verb, "apj"]).exits(2);
        assert!(typo.stderr.contains("Did you mean `api`?") && typo.stderr.contains("Apps: api, bg"), "{}", typo.stderr);
    }
    for verb in ["add", "sleep"] {
        let uid = cluster.cli(&[verb, "api:01"]).exits(2);
        assert!(uid.stderr.contains("Write `api`"), "{}", uid.stderr);
    }
    assert!(cluster.cli(&["ls", "api:09"]).exits(2).stderr.contains("`project-cluster ls api`"));
    assert!(cluster.cli(&["relaod", "api"]).exits(2).stderr.contains("reload"));
    // Of another program's words it is said what they are called here.
    let list = cluster.cli(&["list"]).exits(2).stderr;
    assert_eq!(list, "project-cluster: there is no verb `list` here: `project-cluster ls` lists the workers\n");
    assert!(cluster.cli(&["delete", "api", "--json"]).exits(2).stderr.contains("`project-cluster apply`"));
    cluster.cli(&["start"]).exits(2);
    for wrong in ["soon", "30", "0s"] {
        cluster.cli(&["reload", "api", "--timeout", wrong]).exits(2);
    }
}

#[test]
pub fn logs_are_those_of_the_chosen_workers() {
    let cluster = installed(&(app("api", 2, "node app.js 3000", "listen = 3000") + &app("bg", 1, "node /srv/apps/worker.js", "")));
    cluster.program("v1", &format!("console.log('hello from', process.env.PROJECT_CLUSTER_UID); {HELLO}"));
    cluster.cli(&["install", "--now"]).ok();
    cluster.root("journalctl --sync").ok();
    let logs = cluster.cli(&["logs", "api"]).ok();
    assert!(logs.contains("hello from api:01") && logs.contains("hello from api:02"), "{logs}");
    let one = cluster.cli(&["logs", "api:02"]).ok();
    assert!(one.contains("hello from api:02") && !one.contains("hello from api:01"), "{one}");
    let entries = |arguments: &[&str]| -> Vec<Value> {
        let text = cluster.cli(&[&["logs", "--json"], arguments].concat()).ok();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {text}"))).collect()
    };
    let told = entries(&["api:01"]);
    let hello = told.iter().find(|entry| entry["message"] == "hello from api:01").unwrap_or_else(|| panic!("{told:?}"));
    assert_eq!((&hello["uid"], &hello["app"], &hello["systemd"]), (&"api:01".into(), &"api".into(), &false.into()));
    assert!(hello["time_us"].as_u64() > Some(1 << 50) && hello["pid"].is_u64() && told.iter().any(|entry| entry["systemd"] == true));
    assert_eq!(entries(&["--grep", "^hello from", "-n", "2"]).len(), 2);
    assert_eq!(entries(&["--grep", "nobody wrote this"]).len(), 0);
    assert_eq!((entries(&["--since", "1h", "api"]).is_empty(), entries(&["--until", "1h"]).len()), (false, 0));
    let wrong = cluster.cli(&["logs", "--since", "long ago"]).exits(2);
    assert!(wrong.stderr.contains("project-cluster logs --help"), "{}", wrong.stderr);
    let follow = cluster.spawn(&["project-cluster", "logs", "api", "-f"]);
    cluster.wait_until("it shows what was", SOON, || follow.stdout().contains("hello from api:01"));
    let before = follow.stdout().matches("hello from api:01").count();
    cluster.cli(&["reload", "api"]).ok();
    cluster.wait_until("it shows what comes", SOON, || follow.stdout().matches("hello from api:01").count() > before);
    // Of one worker, also its successors.
    let one = cluster.spawn(&["project-cluster", "logs", "api:02", "-f", "-n", "1"]);
    cluster.cli(&["reload", "api"]).ok();
    cluster.wait_until("it follows the worker into the next generation", SOON, || one.stdout().contains("hello from api:02"));
    assert!(!one.stdout().contains("hello from api:01"), "{}", one.stdout());
    assert!(cluster.cli(&["logs", "apo"]).exits(2).stderr.contains("Did you mean `api`?"));
    assert!(cluster.cli(&["logs", "--grep", "("]).exits(2).stderr.contains("project-cluster logs --help"));
    // That journalctl cannot be run, or cannot read, is no matter of how it was asked.
    let none = cluster.sh("program=$(command -v project-cluster); PATH=/nowhere $program logs api 2>&1 || echo $?").ok();
    assert!(none.contains("journalctl cannot be run") && none.ends_with("\n1"), "{none}");
}

#[test]
fn what_is_written_behind_a_first_reading_that_found_nothing_is_followed() {
    let cluster = shop(1, "");
    cluster.program("v1", &format!("process.on('SIGUSR2', () => console.log('written between')); {HELLO}"));
    cluster.cli(&["reload", "api"]).ok();
    let worker = cluster.pids("api")[0];
    // Between the two readings the worker writes its first line, and journald has it.
    let between = format!(
        "#!/bin/sh\ncase \"$*\" in\n*--follow*--grep=between*) exec /usr/bin/journalctl \"$@\" ;;\n*--grep=between*) /usr/bin/journalctl \"$@\"\n\
         kill -USR2 {worker}; until /usr/bin/journalctl --quiet | grep -q 'written between'; do sleep 0.05; done ;;\n\
         *) exec /usr/bin/journalctl \"$@\" ;;\nesac\n"
    );
    cluster.write("/usr/local/sbin/journalctl", &between);
    cluster.run(&["chmod", "755", "/usr/local/sbin/journalctl"]).ok();
    let follow = cluster.spawn(&["project-cluster", "logs", "api", "-f", "--grep", "between"]);
    cluster.wait_until("it shows the line", SOON, || follow.stdout().contains("api:01  written between"));
}

#[test]
fn where_the_master_hangs_there_are_logs_and_no_order_is_said_to_go_on() {
    let cluster = shop(1, "");
    let master = cluster.main_pid("project-cluster.service").unwrap();
    cluster.program("v1", &format!("console.log('before it hung'); {HELLO}"));
    cluster.cli(&["reload", "api"]).ok();
    cluster.run(&["journalctl", "--sync"]).ok();
    cluster.kill(master, "STOP");
    // The lines are journald's.
    let logs = cluster.cli(&["logs", "api"]).exits(0);
    assert!(logs.stdout.contains("before it hung"), "{}", logs.stdout);
    assert!(logs.stderr.contains("no answer from the master") && logs.stderr.contains("last installed"), "{}", logs.stderr);
    assert_eq!(cluster.cli(&["logs", "api", "--json", "-n", "1"]).exits(0).stderr, "");
    let late = cluster.cli(&["stop", "api", "--timeout", "1s"]).exits(1);
    assert!(late.stderr.contains("nothing was asked of it"), "{}", late.stderr);
    cluster.kill(master, "CONT");
    cluster.cli(&["ls"]).ok();
}

#[track_caller]
fn fails_with_its_own_words(cluster: &Cluster, output: &super::support::Output) {
    for said in ["none of 2 workers got ready", "the database is not there", "Its port is closed"] {
        assert!(output.stderr.contains(said), "{said}: {}", output.stderr);
    }
    assert!(!output.stderr.contains('\u{1b}'), "{:?}", output.stderr);
    assert!(cluster.get(ADDRESS, "/").is_err());
}

#[test]
fn a_start_that_fails_says_the_apps_own_words_also_when_journald_is_late() {
    let cluster = shop(2, "");
    cluster.cli(&["stop", "api"]).ok();
    // A start is no deploy, so the version that served is broken in place.
    cluster.program("v1", "console.error('\\x1b[31mthe database is not there'); process.exit(1);");
    let failed = cluster.cli(&["start", "api"]).exits(1);
    fails_with_its_own_words(&cluster, &failed);
    let listed = cluster.cli(&["ls"]).ok();
    assert!(listed.contains("its start failed and its port is closed"), "{listed}");
    // journald stands still while the workers die.
    let journald = cluster.main_pid("systemd-journald.service").unwrap();
    cluster.kill(journald, "STOP");
    let start = cluster.spawn(&["project-cluster", "start", "api"]);
    let workers = || cluster.units("project-cluster-api@*", &["active", "activating", "deactivating", "failed"]);
    cluster.wait_until("the workers start", SOON, || !workers().is_empty());
    cluster.wait_until("the workers have died and are stopped", SOON, || workers().is_empty());
    cluster.kill(journald, "CONT");
    fails_with_its_own_words(&cluster, &start.wait(3 * SOON).exits(1));
    // Mended, it starts.
    cluster.program("v1", HELLO);
    cluster.cli(&["start", "api"]).ok();
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v1 "));
}

#[test]
pub fn with_json_every_answer_is_one_document_and_every_failure_an_error_object() {
    let cluster = installed(&two_apps());
    let json = |arguments: &[&str]| -> Value {
        let text = cluster.cli(&[arguments, &["--json"]].concat()).ok();
        serde_json::from_str(&text).unwrap_or_else(|why| panic!("{arguments:?}: {why}: {text}"))
    };
    assert!(json(&["--config", "/etc/other.toml", "init"])["created"] == "/etc/other.toml");
    assert!(json(&["install", "--diff"])["diff"].as_str().unwrap().contains("project-cluster.target"));
    let installed = json(&["install", "--now"]);
    assert!(installed["changed"].as_array().unwrap().iter().any(|one| one["action"] == "created"), "{installed}");
    assert_eq!(installed["workers"].as_array().unwrap().len(), 3, "{installed}");
    assert_eq!(json(&["install"])["changed"], serde_json::json!([]));
    for verb in ["stop", "start"] {
        assert_eq!(json(&[verb, "--no-wait", "bg"])[0]["app"], "bg", "{verb}");
        assert_eq!(json(&[verb, "bg"])[0]["app"], "bg", "{verb}");
    }
    let failed = |arguments: &[&str], code: i32| -> String {
        let output = cluster.cli(&[arguments, &["--json"]].concat()).exits(code);
        let error: Value = serde_json::from_str(&output.stderr).unwrap_or_else(|why| panic!("{arguments:?}: {why}: {output:?}"));
        assert_eq!(error["error"]["exit_code"], code, "{error}");
        error["error"]["message"].as_str().unwrap().to_owned()
    };
    assert!(failed(&["show", "nothing"], 2).contains("no app `nothing`"));
    assert!(failed(&["no-such-verb"], 2).contains("no-such-verb"));
    assert!(failed(&["--cluster", "nowhere", "ls"], 3).contains("nowhere"));
    assert!(failed(&["--config", "/etc/other.toml", "init"], 1).contains("exists"));
    let removed = json(&["uninstall"]);
    assert!(removed["changed"].as_array().unwrap().iter().all(|one| one["action"] == "removed"), "{removed}");
}
