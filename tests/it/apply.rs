//! `apply`: what differs is done, all at once, and nothing else is touched.

use serde_json::Value;

use super::cluster::{ADDRESS, Cluster, HELLO, SOON, app, cluster, installed, node};
use super::tree::{same, tree, tree_with_times};

const SECRET: &str = "hunter2-of-apply";

fn web(more: &str) -> String {
    app("web", 2, "node /srv/apps/hello.js 3001", &format!("listen = 3001\n{more}"))
}

fn bg(workers: u16) -> String {
    app("bg", workers, "node /srv/apps/worker.js", "")
}

/// `uid state` of each row of an app.
fn rows(cluster: &Cluster, app: &str) -> Vec<String> {
    let of = |row: &super::cluster::Row| row.0["app"] == app;
    cluster.ls().iter().filter(|row| of(row)).map(|row| format!("{} {}", row.uid(), row.state())).collect()
}

#[track_caller]
fn has_lines(said: &str, lines: &[&str]) {
    for line in lines {
        assert!(said.lines().any(|said| said == *line), "`{line}` is not said:\n{said}");
    }
}

#[test]
pub fn one_apply_starts_stops_scales_and_reloads_and_leaves_the_rest_alone() {
    let old = app("old", 1, "node /srv/apps/hello.js 3002", "listen = 3002");
    let cluster = cluster(&[node(2), bg(1), old, web("")].concat());
    let (web_pids, bg_pids, inodes) = (cluster.pids("web"), cluster.pids("bg"), [3000, 3001].map(|port| cluster.socket_inode(port)));
    let master = cluster.main_pid("project-cluster.service");
    let new = app("new", 1, "node /srv/apps/hello.js 3003", "listen = 3003");
    let lazy = app("lazy", 1, "node /srv/apps/hello.js 3004", "listen = 3004\non_demand = true");
    let api = app("api", 2, "node /srv/apps/hello.js 3000", "listen = 3000\nenv = { VERSION = \"v2\" }");
    cluster.config(&[api, bg(3), lazy, new, web("")].concat());
    let listed = cluster.cli(&["ls"]).ok();
    has_lines(
        &listed,
        &[
            "api: changed on disk (env): `sudo project-cluster apply`",
            "bg: changed on disk (workers): `sudo project-cluster apply`",
            "old: changed on disk (gone): `sudo project-cluster apply`",
            "new: new on disk: `sudo project-cluster apply`",
        ],
    );
    assert!(!listed.contains("web: "), "{listed}");
    assert!(cluster.cli(&["show", "api"]).ok().contains("config   changed on disk (env): `sudo project-cluster apply`"));

    // What it would do, and nothing of it.
    let before = tree_with_times(&cluster);
    let plan = [
        "api: reload, its env changed",
        "bg: 1 -> 3 workers",
        "lazy: new, listens; the first connection starts it",
        "new: new, starts",
        "old: gone, stops",
        "web: unchanged",
    ];
    let diff = cluster.cli(&["apply", "--diff"]).ok();
    has_lines(&diff, &plan);
    assert!(diff.contains("+++ /etc/systemd/system/project-cluster-new@.service"), "{diff}");
    same("apply --diff", &before, &tree_with_times(&cluster));
    assert_eq!((cluster.generations("api"), cluster.workers("bg").len(), cluster.workers("old").len()), (vec![1], 1, 1));

    let loads = [ADDRESS, "127.0.0.1:3001"].map(|address| cluster.load(address).connections(4).start());
    loads.iter().for_each(|load| load.wait_for_answers(50));
    let said = cluster.cli(&["apply"]).ok();
    has_lines(&said, &plan);
    assert!(!said.contains("note: running workers") && !said.contains("note: another number"), "it does that itself: {said}");
    loads[0].wait_for_body("v2 ");
    let [api_load, web_load] = loads.map(|load| load.stop());
    println!("five things at once under load: api {api_load}; web {web_load}");
    assert_eq!(api_load.failed_by_kind.get("refused"), None, "{api_load}");
    web_load.none_failed(50);
    assert_eq!(cluster.generations("api"), [2]);
    assert_eq!((cluster.pids("web"), [3000, 3001].map(|port| cluster.socket_inode(port))), (web_pids, inodes), "untouched");
    assert!(bg_pids.iter().all(|pid| cluster.pids("bg").contains(pid)) && cluster.pids("bg").len() == 3, "one stays, two come");
    assert!(cluster.get("127.0.0.1:3003", "/").is_ok() && cluster.get("127.0.0.1:3002", "/").is_err());
    assert_eq!(cluster.workers("lazy"), Vec::<String>::new());
    assert!(cluster.get("127.0.0.1:3004", "/").is_ok(), "the first connection starts it");
    assert!(!cluster.exists("/etc/systemd/system/project-cluster-old@.service"));
    assert_eq!(cluster.main_pid("project-cluster.service"), master);

    // Again: nothing. What was done before is written down by then.
    cluster.wait_until("the history is closed", SOON, || !cluster.exists("/var/lib/project-cluster/state/store.sqlite-wal"));
    let (before, api) = (tree_with_times(&cluster), cluster.pids("api"));
    let again = cluster.cli(&["apply"]).ok();
    assert!(again.lines().all(|line| line.ends_with(": unchanged")) && again.lines().count() == 5, "{again}");
    same("a second apply", &before, &tree_with_times(&cluster));
    assert_eq!(cluster.pids("api"), api);
    assert!(!cluster.cli(&["ls"]).ok().contains("on disk"));

    // What systemd takes for workers that run needs no new ones.
    let web = |more: &str| app("web", 2, "node /srv/apps/hello.js 3001", &format!("listen = 3001\n{more}"));
    let text = cluster.read("/etc/project-cluster/cluster.toml");
    let (rest, _) = text.split_once("[apps.web]").unwrap();
    let (pids, unit) = (cluster.pids("web"), cluster.workers("web").remove(0));
    cluster.config(&(rest.to_owned() + &web("timeout.kill = \"3s\"\nsuccess_exit_codes = [9]\nlimits = { CPUWeight = 77 }")));
    has_lines(&cluster.cli(&["apply"]).ok(), &["web: its workers go on; changed: success_exit_codes, timeout, limits"]);
    assert_eq!((cluster.pids("web"), cluster.property(&unit, "TimeoutStopUSec").as_str()), (pids, "3s"));
    assert!(cluster.property(&unit, "SuccessExitStatus").starts_with("9 143 "));
    assert_eq!(cluster.property(r"system-project\x2dcluster\x2dweb.slice", "CPUWeight"), "77");
    assert!(!cluster.cli(&["ls"]).ok().contains("on disk"));
}

#[test]
fn the_first_apply_installs_and_starts_and_a_wrong_configuration_changes_nothing() {
    let cluster = installed(&node(2));
    assert!(cluster.cli(&["apply"]).ok().contains("api: new, starts"));
    assert!(cluster.get(ADDRESS, "/").is_ok());
    assert_eq!(cluster.state("project-cluster.target"), "active");
    let before = tree_with_times(&cluster);
    cluster.config("[apps.api]\nworkers = 2\ncomand = \"node app.js\"\n");
    for arguments in [&["apply"][..], &["apply", "--diff"]] {
        let refused = cluster.cli(arguments).exits(2);
        assert!(refused.stderr.contains("did you mean `command`?"), "{}", refused.stderr);
    }
    // It is no trouble of who only looks.
    assert!(!cluster.cli(&["ls"]).ok().contains("on disk"));
    cluster.config(&node(2));
    let changed = |path: &str| before.get(path) != tree_with_times(&cluster).get(path);
    assert!(!changed("/var/lib/project-cluster/settings.json") && !changed("/etc/systemd/system/project-cluster-api@.service"));
    // A whole cluster that is down, with a change: a start is no deploy, an apply is one.
    cluster.systemctl(&["stop", "project-cluster.target", "project-cluster.socket", "project-cluster.service"]).ok();
    cluster.config(&app("api", 2, "node /srv/apps/hello.js 3000", "listen = 3000\nenv = { VERSION = \"v2\" }"));
    assert!(cluster.cli(&["apply"]).ok().contains("api: starts with the cluster"));
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v2 "));
    assert_eq!(cluster.generations("api"), [2]);
    // And down again: who does not wait is told that it has begun.
    cluster.systemctl(&["stop", "project-cluster.target", "project-cluster.socket", "project-cluster.service"]).ok();
    let begun: Value = serde_json::from_str(&cluster.cli(&["apply", "--json", "--no-wait"]).ok()).unwrap();
    assert_eq!((&begun["apps"][0]["app"], &begun["apps"][0]["outcome"]), (&"api".into(), &"begun".into()), "{begun}");
    cluster.wait_until("it has started", SOON, || cluster.workers("api").len() == 2);
}

#[test]
pub fn apply_returns_to_the_configuration_whatever_a_person_had_asked_for() {
    let cluster = cluster(&(node(3) + &web("")));
    cluster.cli(&["scale", "api", "4"]).ok();
    cluster.cli(&["stop", "api:02"]).ok();
    cluster.cli(&["scale", "web", "5"]).ok();
    cluster.cli(&["stop", "web"]).ok();
    assert!(!cluster.cli(&["ls"]).ok().contains("on disk"), "a person asked for it");
    let said = cluster.cli(&["apply"]).ok();
    has_lines(&said, &["api: api:02 come, api:04 go", "web: stopped, stays so; next start: 5 -> 2 workers"]);
    assert!(rows(&cluster, "web").len() == 2, "{:?}", rows(&cluster, "web"));
    assert_eq!(rows(&cluster, "api"), ["api:01 online", "api:02 online", "api:03 online"]);
    assert_eq!((cluster.generations("api"), cluster.state("project-cluster@web")), (vec![1], "inactive".into()));
    // One that is stopped takes a change with its next start.
    cluster.config(&(node(0) + &web("env = { VERSION = \"v2\" }")));
    let said = cluster.cli(&["apply"]).ok();
    has_lines(&said, &["api: 0 workers, stops", "web: stopped, stays so; its next start takes what changed (env)"]);
    assert!(cluster.get(ADDRESS, "/").is_err() && cluster.get("127.0.0.1:3001", "/").is_err());
    cluster.cli(&["start", "web"]).ok();
    assert!(cluster.get("127.0.0.1:3001", "/").unwrap().body.starts_with("v2 "));
    // What the configuration had stopped, it starts.
    cluster.config(&(node(1) + &web("env = { VERSION = \"v2\" }")));
    has_lines(&cluster.cli(&["apply"]).ok(), &["api: 0 -> 1 workers, starts", "web: unchanged"]);
    assert_eq!(rows(&cluster, "api"), ["api:01 online"]);

    // Whoever comes second waits for the same roll, not for one more.
    cluster.config(&(node(1) + &web("env = { VERSION = \"v3\" }\nreload.min_ready = \"2s\"")));
    let begun = cluster.cli(&["apply", "--no-wait"]).ok();
    assert!(begun.contains("the roll to generation 3 has begun"), "{begun}");
    let joined = cluster.cli(&["apply"]).ok();
    assert!(joined.contains("web: a roll to it is under way") && joined.contains("done: generation 3, 2 of 2 ready"), "{joined}");
    assert!(cluster.get("127.0.0.1:3001", "/").unwrap().body.starts_with("v3 "));
    assert_eq!(cluster.app("web")["latest"], 3);
}

#[test]
pub fn what_failed_is_left_alone_until_its_configuration_changes() {
    let api = |script: &str| app("api", 2, &format!("node {script} 3000"), "listen = 3000");
    let cluster = cluster(&(api("/srv/apps/hello.js") + &bg(1)));
    let pids = cluster.pids("api");
    cluster.config(&(api("/srv/apps/broken/throws.js") + &bg(2)));
    let failed = cluster.cli(&["apply"]).exits(1);
    assert!(failed.stderr.contains("api: the roll to generation 2 failed") && failed.stderr.contains("cannot start"), "{}", failed.stderr);
    assert_eq!((cluster.pids("api"), cluster.workers("bg").len()), (pids.clone(), 2), "the others go on");
    let again = cluster.cli(&["apply"]).exits(1);
    assert!(again.stdout.contains("api: held, left alone: it failed with just this configuration"), "{}", again.stdout);
    assert!(again.stderr.contains("`project-cluster reload api`"), "{}", again.stderr);
    assert_eq!(cluster.pids("api"), pids);
    let listed = cluster.cli(&["ls"]).ok();
    assert!(listed.contains("api: held since") && listed.contains("generation 2 failed") && !listed.contains("on disk"), "{listed}");
    cluster.config(&(api("/srv/apps/hello.js") + &bg(2)));
    assert!(cluster.cli(&["ls"]).ok().contains("api: changed on disk (command): `sudo project-cluster apply`"));
    has_lines(&cluster.cli(&["apply"]).ok(), &["api: unchanged; no longer held: what serves is what is configured", "bg: unchanged"]);
    assert_eq!((cluster.pids("api"), cluster.app("api")["held"].clone()), (pids, Value::Null));

    // A new one that does not start, and its second try.
    let fresh = |script: &str| app("fresh", 1, &format!("node {script} 3005"), "listen = 3005");
    cluster.config(&(api("/srv/apps/hello.js") + &bg(2) + &fresh("/srv/apps/broken/throws.js")));
    let failed = cluster.cli(&["apply"]).exits(1);
    assert!(failed.stdout.contains("fresh: new, starts") && failed.stderr.contains("fresh: "), "{failed:?}");
    assert!(cluster.cli(&["apply"]).exits(1).stderr.contains("`project-cluster start fresh`"));
    cluster.config(&(api("/srv/apps/hello.js") + &bg(2) + &fresh("/srv/apps/hello.js")));
    has_lines(&cluster.cli(&["apply"]).ok(), &["fresh: starts again: its start failed, and its command changed"]);
    assert!(cluster.get("127.0.0.1:3005", "/").is_ok());
}

#[test]
fn a_changed_secret_rolls_and_shows_nowhere_and_a_member_of_the_group_carries_out_what_is_installed() {
    let api =
        |token: &str, workers: u16| app("api", workers, "node app.js 3000", &format!("listen = 3000\nenv = {{ TOKEN = \"{token}\" }}"));
    let cluster = installed(&api("first", 2));
    cluster.program("v1", &format!("if (process.env.TOKEN === '{SECRET}') process.env.VERSION = 'told'; {HELLO}"));
    cluster.cli(&["apply"]).ok();
    cluster.sh("chmod 600 /etc/project-cluster/cluster.toml; usermod -aG project-cluster games").ok();
    let as_member = |arguments: &[&str]| cluster.run_as("games", &[&["project-cluster"], arguments].concat());
    let note = "note: only root installs a changed configuration (`sudo project-cluster apply`): this goes by what is installed";
    has_lines(&as_member(&["apply"]).ok(), &[note, "api: unchanged"]);
    let logs = as_member(&["logs", "api"]).exits(1);
    assert!(logs.stderr.contains("`sudo usermod -aG systemd-journal $USER`"), "{}", logs.stderr);
    cluster.config(&api(SECRET, 3));
    has_lines(&cluster.cli(&["ls"]).ok(), &["api: changed on disk (env, workers): `sudo project-cluster apply`"]);
    has_lines(&as_member(&["apply"]).ok(), &["api: unchanged"]);
    let said = cluster.cli(&["install"]).ok();
    assert!(said.contains("running workers of api stay as they are (env changed): `systemctl reload project-cluster@api`"), "{said}");
    // Installed, and not in effect.
    has_lines(&cluster.cli(&["ls"]).ok(), &["api: changed on disk (env, workers): `sudo project-cluster apply`"]);
    let changed = cluster.app("api")["changed"].clone();
    assert_eq!((&changed["becomes"], &changed["on_disk"]), (&true.into(), &false.into()), "{changed}");
    let before = tree(&cluster);
    has_lines(&as_member(&["apply", "--diff"]).ok(), &[note, "api: reload, its env changed, 2 -> 3 workers"]);
    same("--diff of a member", &before, &tree(&cluster));
    let answer: Value = serde_json::from_str(&as_member(&["apply", "--json"]).ok()).unwrap();
    assert_eq!((&answer["plan"][0]["step"], &answer["apps"][0]["roll"]["state"]), (&"reload".into(), &"done".into()), "{answer}");
    assert_eq!(rows(&cluster, "api"), ["api:01 online", "api:02 online", "api:03 online"]);
    assert!((0..20).all(|_| cluster.get(ADDRESS, "/").unwrap().body.starts_with("told ")));
    assert!(cluster.app("api")["changed"].is_null());

    cluster.wait_until("the old ones are gone", SOON, || cluster.generations("api") == [2]);
    let with = cluster.sh(&format!("grep -rlFs {SECRET} /etc /var/lib /run /tmp || :")).ok();
    let known = ["/etc/project-cluster/cluster.toml", "/var/lib/project-cluster/pins/", "/run/project-cluster-api/"];
    assert!(with.lines().count() >= 5 && with.lines().all(|file| known.iter().any(|known| file.starts_with(known))), "{with}");
    for user in ["nobody", "project-cluster"] {
        for file in with.lines() {
            assert!(cluster.run_as(user, &["cat", file]).stderr.contains("Permission denied"), "{user} reads {file}");
        }
    }
    assert!(!cluster.journal(&[]).contains(SECRET));
    assert_eq!(
        cluster.read("/var/lib/project-cluster/generations/api"),
        "format 4\nstarted 1\n1 0\n2 1\npin 1 1 1 \"/srv/shop/v1\"\npin 2 2 0 \"/srv/shop/v1\"\n"
    );
}

#[test]
pub fn a_changed_address_comes_with_its_roll_and_the_next_apply_closes_the_old_one() {
    let at = |port: u16| app("api", 2, &format!("node /srv/apps/hello.js {port}"), &format!("listen = {port}"));
    let cluster = cluster(&at(3000));
    cluster.config(&at(3010));
    let said = cluster.cli(&["apply"]).ok();
    has_lines(&said, &["api: reload, its command and listen changed"]);
    assert!(said.contains("project-cluster-api-:::3000.socket stays as long as generation 1 of api is in use"), "{said}");
    assert!(cluster.get("127.0.0.1:3010", "/").is_ok());
    cluster.wait_until("the old ones are gone", SOON, || cluster.workers("api").len() == 2 && cluster.generations("api") == [2]);
    let pids = cluster.pids("api");
    let said = cluster.cli(&["apply"]).ok();
    has_lines(&said, &["api: unchanged", "removed /etc/systemd/system/project-cluster-api-:::3000.socket"]);
    assert!(cluster.get("127.0.0.1:3010", "/").is_ok() && cluster.get(ADDRESS, "/").is_err());
    assert_eq!((cluster.pids("api"), cluster.cli(&["apply"]).ok()), (pids, "api: unchanged".to_owned()));
}

#[test]
pub fn a_sleeping_app_wakes_as_configured_and_a_stopped_one_keeps_its_port_closed() {
    let demand = |more: &str| app("api", 1, "node /srv/apps/hello.js 3000", &format!("listen = 3000\non_demand = true\n{more}"));
    let cluster = cluster(&demand(""));
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v1 "));
    cluster.wait_for_state("project-cluster@api", "active", SOON);
    cluster.cli(&["sleep", "api"]).ok();
    let inode = cluster.socket_inode(3000);
    cluster.config(&demand("env = { VERSION = \"v2\" }"));
    has_lines(&cluster.cli(&["apply"]).ok(), &["api: asleep, stays so; its next start takes what changed (env)"]);
    assert_eq!((cluster.workers("api").len(), cluster.socket_inode(3000)), (0, inode));
    assert!(!cluster.cli(&["ls"]).ok().contains("on disk"), "its next start takes it");
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v2 "));
    cluster.wait_for_state("project-cluster@api", "active", SOON);
    cluster.cli(&["stop", "api"]).ok();
    cluster.config(&demand("env = { VERSION = \"v3\" }"));
    has_lines(&cluster.cli(&["apply"]).ok(), &["api: stopped, stays so; its next start takes what changed (env)"]);
    assert!(cluster.get(ADDRESS, "/").is_err(), "no install opens what a person closed");
    cluster.cli(&["start", "api"]).ok();
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v3 "));
}

#[test]
pub fn what_is_changed_back_rolls_only_where_something_else_serves_and_ends_the_hold_of_what_failed() {
    let env = |version: &str| app("api", 2, "node /srv/apps/hello.js 3000", &format!("listen = 3000\nenv = {{ VERSION = \"{version}\" }}"));
    let cluster = cluster(&env("v1"));
    let pids = cluster.pids("api");
    // Before any roll: installed, seen, and taken back.
    cluster.config(&env("v2"));
    cluster.cli(&["install"]).ok();
    has_lines(&cluster.cli(&["ls"]).ok(), &["api: changed on disk (env): `sudo project-cluster apply`"]);
    cluster.config(&env("v1"));
    has_lines(&cluster.cli(&["apply", "--diff"]).ok(), &["api: unchanged"]);
    let said = cluster.cli(&["install"]).ok();
    assert!(!said.contains("stay as they are"), "nothing is to be reloaded: {said}");
    assert!(!cluster.cli(&["ls"]).ok().contains("on disk") && cluster.app("api")["changed"].is_null());
    assert_eq!(cluster.cli(&["apply"]).ok(), "api: unchanged");
    assert_eq!((cluster.pids("api"), cluster.generations("api")), (pids, vec![1]));
    // After one: the way back is a roll, of the revision that it had.
    cluster.config(&env("v2"));
    cluster.cli(&["apply"]).ok();
    cluster.config(&env("v1"));
    has_lines(&cluster.cli(&["apply"]).ok(), &["api: reload, its env changed"]);
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v1 "));
    let told = cluster.read("/var/lib/project-cluster/generations/api");
    assert!(told.starts_with("format 4\nstarted 1\n1 0\n2 1\n3 0\npin 1 1 1 "), "{told}");
    assert_eq!(cluster.cli(&["apply"]).ok(), "api: unchanged");
    // Held by what failed: what serves is what is configured again.
    cluster.wait_until("the old ones are gone", SOON, || cluster.generations("api") == [3]);
    let pids = cluster.pids("api");
    cluster.config(&app("api", 2, "node /srv/apps/broken/throws.js 3000", "listen = 3000"));
    cluster.cli(&["apply"]).exits(1);
    assert!(cluster.cli(&["ls"]).ok().contains("api: held since"));
    cluster.config(&env("v1"));
    has_lines(&cluster.cli(&["apply"]).ok(), &["api: unchanged; no longer held: what serves is what is configured"]);
    let listed = cluster.cli(&["ls"]).ok();
    assert!(!listed.contains("held") && !listed.contains("on disk"), "{listed}");
    assert_eq!((cluster.pids("api"), cluster.app("api")["held"].clone()), (pids, Value::Null));
    // What was installed earlier is root's as well.
    let earlier: Value = serde_json::from_str(&cluster.read("/var/lib/project-cluster/pins/settings.json")).unwrap();
    assert_eq!(earlier["apps"]["api"]["earlier"].as_array().map(Vec::len), Some(2));
    assert!(!cluster.read("/var/lib/project-cluster/settings.json").contains("earlier"));
}
