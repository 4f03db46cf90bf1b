//! Back to an earlier generation: what comes of it, what survives it, what is refused, what is kept for it.

use super::cluster::{ADDRESS, Cluster, HELLO, SOON, cluster, drained as app, installed, shop};

const HANDLE: &str = "project-cluster@api";
const PINS: &str = "/var/lib/project-cluster/pins/api";

fn unit(instance: &str) -> String {
    format!("project-cluster-api@{instance}.service")
}

/// Working directory, command line and one variable of a worker's main process, as the kernel has them.
#[track_caller]
fn became(cluster: &Cluster, instance: &str) -> (String, String, String) {
    let pid = cluster.main_pid(&unit(instance)).unwrap_or_else(|| panic!("{instance} does not run"));
    let directory = cluster.run(&["readlink", &format!("/proc/{pid}/cwd")]).ok();
    let command = cluster.read(format!("/proc/{pid}/cmdline")).replace('\0', " ");
    let environment = cluster.read(format!("/proc/{pid}/environ"));
    let colour = environment.split('\0').find_map(|line| line.strip_prefix("COLOUR=")).unwrap_or_default();
    (directory, command.trim().to_owned(), colour.to_owned())
}

/// Waits until the workers that are up are of this generation alone.
#[track_caller]
fn settles(cluster: &Cluster, generation: u64) {
    cluster.wait_until("the old ones are gone", SOON, || cluster.generations("api") == [generation]);
}

/// The numbers of the pins on disk.
fn pins(cluster: &Cluster) -> Vec<u64> {
    let listed = cluster.sh(&format!("ls {PINS}")).ok();
    let mut pins: Vec<u64> = listed.lines().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect();
    pins.sort_unstable();
    pins
}

#[test]
pub fn two_generations_back_under_load_also_after_a_reboot_and_an_apply_does_not_undo_it() {
    let toml = |colour: &str, more: &str| {
        app("api", 2, &format!("node /srv/apps/hello.js 3000{more}"), &format!("listen = 3000\nenv = {{ COLOUR = \"{colour}\" }}"))
    };
    let mut cluster = cluster(&toml("blue", ""));
    let first = ("/srv/shop/v1".to_owned(), "node /srv/apps/hello.js 3000".to_owned(), "blue".to_owned());
    assert_eq!(became(&cluster, "1.1.1"), first);
    cluster.release("v2");
    cluster.config(&toml("green", " new"));
    cluster.cli(&["apply"]).ok();
    cluster.release("v3");
    cluster.cli(&["reload", "api"]).ok();
    settles(&cluster, 3);
    let inode = cluster.socket_inode(3000);
    let load = cluster.load(ADDRESS).connections(4).start();
    load.wait_for_answers(50);
    let said = cluster.cli(&["rollback", "api", "--to", "1"]).ok();
    assert!(said.contains("api:01 (generation 4-1) starts") && said.trim_end().ends_with("done: generation 4-1, 2 of 2 ready"), "{said}");
    load.wait_for_body("v1 ");
    let report = load.stop();
    println!("a rollback of 2 Node workers under load: {report}");
    assert_eq!(report.failed_by_kind.get("refused"), None, "{report}");
    assert_eq!(cluster.socket_inode(3000), inode);
    settles(&cluster, 4);
    assert_eq!((became(&cluster, "1.4-1.1"), became(&cluster, "2.4-1.1")), (first.clone(), first.clone()));
    cluster.crash(&unit("1.4-1.1"));
    assert_eq!(became(&cluster, "1.4-1.1"), first);

    // What people see: generation, pin and release of each worker, and where it can go back to.
    for row in cluster.ls() {
        assert_eq!((row.generation(), &row.0["pin"], &row.0["release"]), (4, &1.into(), &"/srv/shop/v1".into()));
    }
    let listed = cluster.cli(&["ls"]).ok();
    assert!(listed.contains("4-1") && listed.contains("/srv/shop/v1") && listed.contains("rolled back to generation 1 at "), "{listed}");
    let shown = cluster.app("api");
    let past: Vec<_> = shown["past"].as_array().unwrap().iter().map(|one| (one["generation"].as_u64(), one["release"].as_str())).collect();
    assert_eq!(past, [(Some(3), Some("/srv/shop/v3")), (Some(2), Some("/srv/shop/v2"))]);
    let shown = cluster.cli(&["show", "api"]).ok();
    assert!(shown.contains("generation 4-1") && shown.contains("3  /srv/shop/v3, revision 1, current from "), "{shown}");

    let stays = "rolled back to generation 1, and stays so. `project-cluster reload api`";
    for booted in [false, true] {
        if booted {
            cluster.reboot();
            cluster.wait_for_state(HANDLE, "active", SOON);
            assert_eq!(became(&cluster, "1.4-1.1"), first);
        }
        let said = cluster.cli(&["apply"]).ok();
        assert!(said.contains(stays), "booted {booted}: {said}");
        assert_eq!(cluster.generations("api"), [4]);
        assert_eq!((&cluster.app("api")["generation"], &cluster.app("api")["rolled_back"]["to"]), (&4.into(), &1.into()));
    }
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v1 "));

    // Without a number it is what was current before; a changed configuration is a deploy again.
    cluster.cli(&["rollback", "api"]).ok();
    settles(&cluster, 5);
    assert_eq!(became(&cluster, "1.5-3.1"), ("/srv/shop/v3".to_owned(), "node /srv/apps/hello.js 3000 new".to_owned(), "green".to_owned()));
    cluster.config(&toml("red", ""));
    let said = cluster.cli(&["apply"]).ok();
    assert!(said.contains("api: reload, "), "{said}");
    settles(&cluster, 6);
    assert_eq!(became(&cluster, "1.6.1").2, "red");
    assert!(cluster.app("api")["rolled_back"].is_null() && !cluster.cli(&["ls"]).ok().contains("rolled back"));
}

#[test]
fn a_deleted_release_is_named_before_anything_of_it_starts() {
    let cluster = installed(&app("api", 2, "node /srv/apps/hello.js 3000", "listen = 3000\nuser = \"games\""));
    // Where the master may not look.
    cluster
        .sh("mkdir /srv/closed && cp -r /srv/shop/v1 /srv/shop/v2 /srv/closed && chown -R games /srv/closed && chmod 700 /srv/closed")
        .ok();
    let release = |path: &str| cluster.run(&["ln", "-sfn", path, "/srv/shop/current"]).ok();
    release("/srv/closed/v1");
    cluster.cli(&["install", "--now"]).ok();
    release("/srv/closed/v2");
    cluster.cli(&["reload", "api"]).ok();
    settles(&cluster, 2);
    let old = cluster.pids("api");
    cluster.sh("rm -r /srv/closed/v1").ok();
    let failed = cluster.cli(&["rollback", "api"]).exits(1);
    let words = "the release of generation 1 of api, /srv/closed/v1, was deleted: put it back";
    assert!(failed.stderr.contains(words) && failed.stderr.contains("The old workers serve as before"), "{}", failed.stderr);
    assert_eq!((cluster.pids("api"), pins(&cluster)), (old.clone(), vec![1, 2]), "nothing was touched, and nothing pinned");
    assert_eq!(cluster.journal(&["-u", &unit("1.3-1.1"), "-o", "cat", "_COMM=node"]), "", "nothing of it ran");
    // Where it may: then not even a roll begins.
    release("/srv/shop/v3");
    cluster.cli(&["reload", "api"]).ok();
    release("/srv/shop/v1");
    cluster.cli(&["reload", "api"]).ok();
    settles(&cluster, 4);
    let (old, last) = (cluster.pids("api"), cluster.app("api")["roll"]["id"].clone());
    cluster.sh("mv /srv/shop/v3 /srv/shop/away").ok();
    let refused = cluster.cli(&["rollback", "api", "--to", "3"]).exits(1);
    let words = "the release of generation 3, /srv/shop/v3, was deleted, so nothing was begun";
    assert!(refused.stderr.contains(words) && refused.stderr.contains("There are: 2 (/srv/closed/v2)"), "{}", refused.stderr);
    assert_eq!((cluster.pids("api"), &cluster.app("api")["roll"]["id"]), (old.clone(), &last));
    // Another one in its place is not the release: no generation mixes two.
    cluster.sh("ln -s /srv/shop/v2 /srv/shop/v3").ok();
    let failed = cluster.cli(&["rollback", "api", "--to", "3"]).exits(1);
    assert!(failed.stderr.contains("/srv/shop/v3, leads to /srv/shop/v2 now"), "{}", failed.stderr);
    assert_eq!(cluster.pids("api"), old);
    cluster.sh("rm /srv/shop/v3 && mv /srv/shop/away /srv/shop/v3").ok();
    cluster.cli(&["rollback", "api", "--to", "3"]).ok();
    assert!(cluster.get(ADDRESS, "/").unwrap().body.starts_with("v3 "));
}

#[test]
pub fn what_cannot_be_gone_back_to_is_refused_with_what_can() {
    let cluster = shop(1, "reload.keep = 1\ntimeout.start = \"5s\"");
    let refused = |to: &str| cluster.cli(&["rollback", "api", "--to", to]).exits(1).stderr;
    let none = cluster.cli(&["rollback", "api"]).exits(1);
    assert!(none.stderr.contains("no earlier generation is kept"), "{}", none.stderr);
    cluster.deploy("v2", HELLO);
    cluster.cli(&["reload", "api"]).ok();
    cluster.deploy("broken", "throw new Error('out of luck');");
    cluster.cli(&["reload", "api"]).exits(1);
    for (to, words) in [("3", "generation 3 was never current: its roll failed"), ("9", "there never was a generation 9")] {
        let said = refused(to);
        assert!(said.contains(words) && said.contains("There are: 1 (/srv/shop/v1)"), "{to}: {said}");
    }
    for release in ["v4", "v5"] {
        cluster.deploy(release, HELLO);
        cluster.cli(&["reload", "api"]).ok();
    }
    settles(&cluster, 5);
    // One is kept beside the present one, and the one before until the next is made; the failed one has gone.
    assert_eq!(pins(&cluster), [2, 4, 5]);
    let marks = cluster.sh(&format!("cd {PINS}; ls *.ready")).ok();
    assert_eq!(marks.split_whitespace().collect::<Vec<_>>(), ["2.ready", "4.ready", "5.ready"]);
    for to in ["1", "2", "3"] {
        let said = refused(to);
        assert!(said.contains(&format!("generation {to} is not kept any more. There are: 4 (/srv/shop/v4)")), "{said}");
    }
    assert!(refused("5").contains("generation 5 is what serves"));
    let api =
        "curl -s -o /dev/null -w '%{http_code}' -X POST --unix-socket /run/project-cluster/api.sock http://localhost/v1/apps/api/rolls";
    for (query, status) in [("to=x", "400"), ("to=0", "400"), ("to=4&slots=1", "400"), ("to=77", "404"), ("to=5", "409")] {
        assert_eq!(cluster.sh(&format!("{api}'?{query}'")).ok(), status, "{query}");
    }
    assert_eq!(cluster.generations("api"), [5]);
    assert_eq!(cluster.sh(&format!("{api}'?to=previous&wait=60s'")).ok(), "200");
    assert_eq!(became(&cluster, "1.6-4.1").0, "/srv/shop/v4");
    assert_eq!(cluster.cli(&["rollback", "api", "--to", "0"]).code, 2);
}

#[test]
pub fn a_pin_stays_as_long_as_a_worker_names_it_and_nobody_uses_one_that_is_gone_or_another_app_s() {
    let slow = format!("process.on('SIGTERM', () => {{}}); {HELLO}");
    let bg = app("bg", 1, "node /srv/apps/hello.js 3001", "listen = 3001");
    let cluster = installed(&format!(
        "{}{bg}",
        app("api", 1, "node app.js 3000", "listen = 3000\ntimeout.kill = \"60s\"\nreload.keep = 0\nreload.max_live = 5")
    ));
    cluster.program("v1", &slow);
    cluster.cli(&["install", "--now"]).ok();
    let old = cluster.main_pid(&unit("1.1.1")).unwrap();
    for release in ["v2", "v3"] {
        cluster.deploy(release, HELLO);
        cluster.cli(&["reload", "api"]).ok();
    }
    settles(&cluster, 3);
    assert_eq!(cluster.state(&unit("1.1.1")), "deactivating");
    assert_eq!(pins(&cluster), [1, 2, 3], "the first is on its way down still");
    cluster.kill(old, "KILL");
    cluster.wait_until("it is gone", SOON, || cluster.units("project-cluster-api@*", &[]).len() == 1);
    cluster.deploy("v4", HELLO);
    cluster.cli(&["reload", "api"]).ok();
    settles(&cluster, 4);
    assert_eq!(pins(&cluster), [3, 4]);
    // Another app has a pin of that number. Who owns the master may ask for it.
    assert!(cluster.exists("/var/lib/project-cluster/pins/bg/1.json"));
    for (instance, words) in [
        ("2.5-1.1", "the pin of generation 1 of api is not kept"),
        ("2.5-2.1", "the pin of generation 2 of api is not kept"),
        ("2.4-3.1", "was made from the pin of generation 4, not of 3"),
        ("2.7-3.1", "generation 7 of api cannot be made"),
        ("2.3.1", ""),
    ] {
        let asked = cluster.run_as("project-cluster", &["systemctl", "start", &unit(instance)]);
        // What was current may be started again, as what it was.
        assert_eq!(asked.code == 0, words.is_empty(), "{instance}: {asked:?}");
        let journal = cluster.written("project-cluster-api", &[unit(instance)]);
        assert!(journal.contains(words), "{instance}: {journal}");
        let ran =
            !cluster.journal(&["-u", &unit(instance), "-o", "cat", "_COMM=node"]).is_empty() || cluster.main_pid(&unit(instance)).is_some();
        assert_eq!(ran, words.is_empty(), "{instance}");
        cluster.systemctl(&["stop", &unit(instance)]).ok();
    }
    assert_eq!(pins(&cluster), [3, 4], "nothing was pinned");
}
