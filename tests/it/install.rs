//! `init`, `check`, `schema`, `install`, `uninstall` by the real binary on a real systemd.

use serde_json::Value;

use super::cluster::{ADDRESS, Cluster, SOON, app, cluster, installed, instance, node};
use super::support::Sandbox;
use super::tree::{differences, same, tree, tree_with_times};

const UNITS: &str = "/etc/systemd/system";

/// The PIDs of an app's workers by their units, without the master's help.
fn pids(cluster: &Cluster, name: &str) -> Vec<(String, i32)> {
    let workers = cluster.units(&format!("{name}@*.service"), &["active"]);
    workers.into_iter().map(|unit| (instance(&unit).to_owned(), cluster.main_pid(&unit).unwrap())).collect()
}

/// What is loaded of a cluster, in whatever state; its slices are systemd's.
fn loaded(sandbox: &Sandbox, name: &str) -> Vec<String> {
    let patterns = [format!("{name}.*"), format!("{name}@*"), format!("{name}-*"), format!("system-{}*", name.replace('-', "\\\\x2d"))];
    patterns.iter().flat_map(|pattern| sandbox.units(pattern, &["active", "activating", "deactivating", "reloading", "failed"])).collect()
}

#[test]
fn a_second_install_a_diff_and_a_refused_install_change_nothing() {
    let cluster = installed(&(node(2) + "env = { TOKEN = \"first-secret\" }\n"));
    let before = tree(&cluster);
    let said = cluster.cli(&["install"]).ok();
    let after = tree_with_times(&cluster);
    for line in differences(&before, &tree(&cluster)) {
        let path = line.split(' ').nth(1).unwrap();
        let told = said.contains(&format!("created {path}\n")) || path.ends_with("shadow") || path == "/etc/passwd" || path == "/etc/group";
        // The directory of a file that is told, and what `install` keeps for `uninstall`.
        let beside = said.contains(&format!("created {path}/")) || path.ends_with("/pins/installed.json");
        assert!(told || beside, "`{line}` was not told in:\n{said}");
    }
    assert!(said.contains("Start it: systemctl enable --now project-cluster.target"), "{said}");
    assert!(loaded(&cluster, "project-cluster").is_empty(), "nothing was started");

    let again = cluster.cli(&["install"]).ok();
    assert_eq!(again, "nothing to change for cluster project-cluster");
    assert_eq!(cluster.cli(&["install", "--diff"]).ok(), "nothing would change");
    same("a second install", &after, &tree_with_times(&cluster));

    cluster.config(&(node(3) + "env = { TOKEN = \"second-secret\" }\n"));
    let changed = tree_with_times(&cluster);
    let diff = cluster.cli(&["install", "--diff"]).ok();
    for expected in [
        "--- /etc/systemd/system/project-cluster@api.service.d/50-app.conf",
        "+++ ",
        "@@ ",
        "\n-# Workers:   2 workers",
        "\n+# Workers:   3 workers",
    ] {
        assert!(diff.contains(expected), "{expected} in:\n{diff}");
    }
    assert!(diff.contains("pins/settings.json changes; it may hold secrets"), "{diff}");
    assert!(!diff.contains("-secret"), "{diff}");
    same("--diff", &changed, &tree_with_times(&cluster));

    // An error in the configuration: where, with a caret.
    cluster.config("[apps.api]\nworkers = 2\ncomand = \"node app.js\"\nlisten = 3000\n");
    let wrong = tree_with_times(&cluster);
    for arguments in [&["install"][..], &["install", "--now"], &["install", "--diff"]] {
        let refused = cluster.cli(arguments).exits(2);
        assert!(refused.stderr.contains("/etc/project-cluster/cluster.toml:3:1"), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("comand = \"node app.js\"") && refused.stderr.contains("did you mean `command`?"),
            "{}",
            refused.stderr
        );
        assert!(refused.stderr.lines().any(|line| line.contains('^') || line.contains('─')), "a caret: {}", refused.stderr);
    }
    same("a refused configuration", &wrong, &tree_with_times(&cluster));

    // A file of somebody else's at one of our paths.
    let foreign = format!("{UNITS}/project-cluster-web@.service");
    cluster.write(&foreign, "[Service]\nExecStart=/bin/true\n");
    cluster.config(&(node(2) + &app("web", 1, "node /srv/apps/hello.js 3001", "listen = 3001")));
    let theirs = tree_with_times(&cluster);
    for arguments in [&["install"][..], &["install", "--now"], &["install", "--diff"]] {
        let refused = cluster.cli(arguments).exits(1);
        assert!((refused.stdout.clone() + &refused.stderr).contains(&format!("{foreign} is not ours")), "{refused:?}");
    }
    same("a foreign file", &theirs, &tree_with_times(&cluster));
}

#[test]
fn a_changed_configuration_restarts_nothing_and_removes_what_is_gone() {
    let gone = app("gone", 1, "node /srv/apps/hello.js 3001", "listen = 3001");
    let cluster = cluster(&(node(2) + &gone));
    for path in [
        "project-cluster-api@.service.d/99-admin.conf",
        "project-cluster@gone.service.d/99-admin.conf",
        "project-cluster-gone@.service.d/99-admin.conf",
    ] {
        cluster.write(format!("{UNITS}/{path}"), "# An administrator's.\n[Unit]\nDocumentation=man:admin(8)\n");
    }
    let api = pids(&cluster, "project-cluster-api");
    let master = cluster.main_pid("project-cluster.service");
    let before = tree(&cluster);

    let web = app("web", 1, "node /srv/apps/hello.js 3002", "listen = 3002");
    cluster.config(&(app("api", 2, "node /srv/apps/hello.js 3000", "listen = 3000\nsystemd = { Nice = 5 }") + &web));
    let said = cluster.cli(&["install"]).ok();
    assert!(said.contains("systemctl reload project-cluster@api"), "what needs a reload is said: {said}");
    assert!(said.contains("stopped project-cluster@gone.service"), "{said}");
    assert_eq!(pids(&cluster, "project-cluster-api"), api, "no worker was restarted");
    assert_eq!(cluster.main_pid("project-cluster.service"), master);
    assert!(cluster.get("127.0.0.1:3001", "/").is_err());
    assert_eq!(loaded(&cluster, "project-cluster-gone"), Vec::<String>::new());
    assert_eq!(cluster.state("project-cluster@gone.service"), "inactive");

    let after = tree(&cluster);
    let mut removed: Vec<&str> =
        before.keys().filter(|path| path.starts_with(UNITS) && !after.contains_key(*path)).map(String::as_str).collect();
    removed.sort_unstable();
    let units = ["project-cluster-gone-:::3001.socket", "project-cluster-gone@.service", "project-cluster@gone.service.d/50-app.conf"];
    assert_eq!(removed, units.map(|name| format!("{UNITS}/{name}")), "exactly its units, and no drop-in of others");
    assert!(cluster.property("project-cluster-api@1.1.1.service", "Documentation").contains("man:admin(8)"), "the drop-in still counts");

    // The master has read its settings again.
    cluster.wait_until("the master knows the new app", SOON, || {
        let rows = cluster.ls();
        rows.iter().any(|row| row.uid() == "web:01" && row.state() == "offline") && rows.iter().all(|row| row.0["app"] != "gone")
    });
    assert_eq!(cluster.app("web")["target"], 1);
    cluster.cli(&["start", "web"]).ok();
    assert!(cluster.get("127.0.0.1:3002", "/").is_ok());
    cluster.cli(&["reload", "api"]).ok();
    assert!(cluster.get(ADDRESS, "/").is_ok());
    assert_eq!(cluster.cli(&["install"]).ok(), "nothing to change for cluster project-cluster");
}

#[test]
fn install_now_with_an_app_that_fails_exits_1_and_says_why() {
    let bad = app("bad", 2, "node /srv/apps/broken/throws.js 3001", "listen = 3001");
    let cluster = installed(&(node(1) + &bad));
    let failed = cluster.cli(&["install", "--now"]).exits(1);
    assert!(failed.stderr.contains("bad did not start"), "{}", failed.stderr);
    assert!(failed.stderr.contains("Error: the broken version cannot start"), "the app's own words: {}", failed.stderr);
    assert!(!failed.stderr.contains("api did not start"), "{}", failed.stderr);
    assert!(cluster.get(ADDRESS, "/").is_ok(), "the other one serves");
    // The same again once mended.
    cluster.config(&(node(1) + &app("bad", 2, "node /srv/apps/hello.js 3001", "listen = 3001")));
    cluster.cli(&["install", "--now"]).ok();
    assert!(cluster.get("127.0.0.1:3001", "/").is_ok());
}

#[test]
fn two_clusters_side_by_side_do_not_touch_each_other() {
    let cluster = cluster(&node(2));
    let first = pids(&cluster, "project-cluster-api");
    let alone = tree(&cluster);
    let other = |workers| format!("name = \"other\"\n{}", app("api", workers, "node /srv/apps/hello.js 4000", "listen = 4000"));
    cluster.write("/etc/other.toml", other(1));
    let with_file = tree(&cluster);
    cluster.cli(&["--config", "/etc/other.toml", "install", "--now"]).ok();
    assert!(cluster.get("127.0.0.1:4000", "/").is_ok());
    assert_eq!(pids(&cluster, "other-api").len(), 1);
    let both = tree(&cluster);
    let touched = differences(&alone, &both).into_iter().filter(|line| line.contains("project-cluster") && !line.starts_with('+'));
    assert_eq!(touched.collect::<Vec<_>>(), Vec::<String>::new(), "nothing of the first was changed");

    let rows = |arguments: &[&str]| -> Vec<Value> { serde_json::from_str(&cluster.cli(arguments).ok()).unwrap() };
    assert_eq!(rows(&["ls", "--json"]).len(), 2);
    assert_eq!(rows(&["--config", "/etc/other.toml", "ls", "--json"]).len(), 1);
    cluster.cli(&["--cluster", "other", "reload", "api"]).ok();
    assert_eq!(pids(&cluster, "project-cluster-api"), first);

    // By its name alone: the configuration may be gone by then.
    cluster.cli(&["--cluster", "other", "uninstall"]).ok();
    assert_eq!(loaded(&cluster, "other"), Vec::<String>::new());
    same("an uninstall of the second cluster", &with_file, &tree(&cluster));
    assert_eq!(pids(&cluster, "project-cluster-api"), first);
    assert!(cluster.get(ADDRESS, "/").is_ok());
    assert_eq!(cluster.cli(&["install"]).ok(), "nothing to change for cluster project-cluster");
}

#[test]
fn uninstall_leaves_the_tree_as_it_was_whatever_ran() {
    let listen = "listen = [3000, { path = \"/run/shop/api.sock\" }]";
    let apps = [
        // Serves its port and never opens its unix socket: a failed start.
        app("half", 1, "node /srv/apps/hello.js 3000", &format!("{listen}\ntimeout.start = \"1s\"")),
        app("bad", 1, "node /srv/apps/broken/throws.js 3001", "listen = 3001"),
        app("api", 2, "node /srv/apps/hello.js 3002", "listen = 3002\nlimits = { TasksMax = 500 }"),
        app("named", 1, "node /srv/apps/hello.js 3003", "listen = 3003\nuser = \"games\""),
        app("asleep", 1, "node /srv/apps/hello.js 3004", "listen = 3004\non_demand = true"),
        app("woken", 1, "node /srv/apps/hello.js 3005", "listen = 3005\non_demand = true"),
        app("own", 2, "node /srv/apps/hello.js", "spawn = \"child\"\nport = 4100\nports = \"4150-4151\"\nready = { http = \"/\" }"),
        app("stubborn", 1, "node /srv/apps/broken/stubborn.js 3006", "listen = 3006\ntimeout.kill = \"300ms\""),
        app("\"bg-job.v2\"", 1, "node /srv/apps/worker.js", ""),
    ];
    let cluster = installed(&apps.concat());
    // What an install brings up by itself and what is no file of ours: polkit and its state.
    cluster.systemctl(&["start", "polkit.service"]).ok();
    let before = tree(&cluster);
    cluster.cli(&["install", "--now"]).exits(1);
    assert!(cluster.get("127.0.0.1:3005", "/").is_ok());
    cluster.cli(&["reload", "api"]).ok();
    cluster.kill(pids(&cluster, "project-cluster-named")[0].1, "KILL");
    assert_eq!(cluster.state("project-cluster@bad.service"), "failed");
    assert!(differences(&before, &tree(&cluster)).len() > 40);
    // Which keeps `userdel` from removing the group.
    cluster.sh("usermod -aG project-cluster games").ok();

    let said = cluster.cli(&["uninstall"]).ok();
    assert!(said.contains("removed /etc/systemd/system/project-cluster.target"), "{said}");
    same("install and uninstall", &before, &tree(&cluster));
    assert_eq!(loaded(&cluster, "project-cluster"), Vec::<String>::new(), "no unit is loaded, running or failed");
    let processes = cluster.run(&["ps", "-eo", "args"]).ok();
    let ours = processes.lines().filter(|line| line.contains("project-cluster") || line.contains("node") || line.contains("pc-swap"));
    assert_eq!(ours.collect::<Vec<_>>(), Vec::<&str>::new());
    assert_eq!(cluster.sh("ls -d /sys/fs/cgroup/system.slice/*project* 2>/dev/null || :").ok(), "", "not even a control group");
    assert_eq!(cluster.sh("getent passwd project-cluster || :; getent group project-cluster || :").ok(), "");

    assert_eq!(cluster.cli(&["uninstall"]).ok(), "nothing to change for cluster project-cluster");
    same("a second uninstall", &before, &tree(&cluster));
    // And once more from the start.
    cluster.config(&node(1));
    cluster.cli(&["install", "--now"]).ok();
    assert!(cluster.get(ADDRESS, "/").is_ok());
}

#[test]
fn init_check_and_schema_need_no_rights_and_exit_as_told() {
    let sandbox = Sandbox::start();
    let config = "/home/games/cluster.toml";
    sandbox.sh("mkdir -p /home/games && chown games: /home/games").ok();
    let run = |arguments: &[&str]| {
        let mut command = vec!["project-cluster", "--config", config];
        command.extend(arguments);
        sandbox.run_as("games", &command)
    };
    let schema: Value = serde_json::from_str(&run(&["schema"]).ok()).unwrap();
    assert!(schema["properties"]["apps"].is_object());
    let missing = run(&["check"]).exits(2);
    assert!(missing.stderr.contains(config), "{}", missing.stderr);

    let said = run(&["init"]).ok();
    assert!(said.contains(config), "what to do next: {said}");
    assert_eq!(sandbox.run(&["stat", "-c", "%U %a", config]).ok(), "games 600");
    assert!(run(&["check"]).ok().contains("is in order"));
    assert!(run(&["init"]).exits(1).stderr.contains("exists"), "it never overwrites");

    sandbox.write(config, "[apps.api]\ncommand = \"npm start\"\ncwd = \"/home/games\"\n");
    let warned = run(&["check"]).exits(0);
    for word in ["SIGTERM", "home = false", ":2:", ":3:"] {
        assert!(warned.stderr.contains(word), "{word}: {}", warned.stderr);
    }
    let listed = |code| -> Vec<Value> { serde_json::from_str(&run(&["check", "--json"]).exits(code).stdout).unwrap() };
    let warnings = listed(0);
    assert!(warnings.len() >= 2 && warnings.iter().all(|one| one["severity"] == "warning"), "{warnings:?}");

    sandbox.write(config, "[apps.api]\nworkers = 2000\nlisten = \"udp:53\"\ncomand = \"x\"\n");
    let problems = listed(2);
    let mut lines: Vec<u64> = problems.iter().filter(|one| one["severity"] == "error").map(|one| one["line"].as_u64().unwrap()).collect();
    lines.sort_unstable();
    assert!([2, 3, 4].iter().all(|line| lines.contains(line)), "all at once: {problems:?}");
    let told = run(&["check"]).exits(2).stderr;
    assert!([":2:", ":3:", ":4:"].iter().all(|place| told.contains(&format!("{config}{place}"))), "{told}");

    sandbox.write(config, "[apps.api]\ncommand = \"/usr/bin/node /srv/apps/hello.js 3000\"\nlisten = 3000\n");
    let before = tree_with_times(&sandbox);
    for verb in ["install", "uninstall"] {
        let refused = run(&[verb]).exits(1);
        assert!(refused.stderr.contains("root"), "{}", refused.stderr);
    }
    // Some of what it compares is root's alone to read.
    assert!(run(&["install", "--diff"]).exits(1).stderr.contains("root"));
    same("all that an unprivileged user did", &before, &tree_with_times(&sandbox));
    // A tree elsewhere is anybody's to write.
    sandbox.run_as("games", &["mkdir", "/home/games/root"]).ok();
    run(&["install", "--root", "/home/games/root"]).ok();
    assert!(sandbox.exists("/home/games/root/etc/systemd/system/project-cluster.target"));

    for usage in [&["no-such-verb"][..], &["ls", "--no-such-option"], &[]] {
        run(usage).exits(2);
    }
    assert!(run(&["ls"]).exits(3).stderr.contains("install"), "what to do next");
    sandbox.run(&["project-cluster", "--config", config, "install", "--now"]).ok();
    let outside = run(&["ls"]).exits(3);
    assert!(outside.stderr.contains("group"), "who may: {}", outside.stderr);
    sandbox.run(&["project-cluster", "--config", config, "ls", "nothing"]).exits(2);
}
