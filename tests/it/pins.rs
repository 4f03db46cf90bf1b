//! A worker comes back as what its generation was, whatever became of symlinks, configuration and memory meanwhile; and
//! `prepare` starts nothing that root has not pinned.

use super::cluster::{ADDRESS, Cluster, SOON, app, cluster, installed};

const HANDLE: &str = "project-cluster@api";
const PINS: &str = "/var/lib/project-cluster/pins/api";
const MEMORY: &str = "/var/lib/project-cluster/state/apps.json";

fn unit(instance: &str) -> String {
    format!("project-cluster-api@{instance}.service")
}

/// Working directory, command line and one variable of a worker's main process, as the kernel has them.
#[track_caller]
fn became(cluster: &Cluster, instance: &str) -> (String, String, Option<String>) {
    let pid = cluster.main_pid(&unit(instance)).unwrap();
    let directory = cluster.run(&["readlink", &format!("/proc/{pid}/cwd")]).ok();
    let command = cluster.read(format!("/proc/{pid}/cmdline")).replace('\0', " ");
    let environment = cluster.read(format!("/proc/{pid}/environ"));
    let colour = environment.split('\0').find_map(|line| line.strip_prefix("COLOUR=").map(str::to_owned));
    (directory, command.trim().to_owned(), colour)
}

/// The versions that answer, each of them, over some dozens of requests.
#[track_caller]
fn versions(cluster: &Cluster) -> Vec<String> {
    let load = cluster.load(ADDRESS).connections(8).path("/sleep/10").start();
    load.wait_for_answers(60);
    let report = load.stop();
    assert_eq!(report.failed(), 0, "{report}");
    report.versions().into_keys().collect()
}

#[test]
pub fn a_crashed_worker_and_a_reboot_bring_back_the_old_release_command_and_environment() {
    let toml = |colour: &str, more: &str| {
        app("api", 2, &format!("node /srv/apps/hello.js 3000{more}"), &format!("listen = 3000\nenv = {{ COLOUR = \"{colour}\" }}"))
    };
    let mut cluster = cluster(&toml("blue", ""));
    let old = ("/srv/shop/v1".to_owned(), "node /srv/apps/hello.js 3000".to_owned(), Some("blue".to_owned()));
    assert_eq!(became(&cluster, "1.1.1"), old);
    // The symlink flips, then the configuration changes and is installed: neither is a deploy.
    cluster.release("v2");
    cluster.crash(&unit("1.1.1"));
    assert_eq!(became(&cluster, "1.1.1"), old);
    cluster.config(&toml("green", " new"));
    cluster.cli(&["install"]).ok();
    cluster.crash(&unit("1.1.1"));
    cluster.crash(&unit("2.1.1"));
    assert_eq!((became(&cluster, "1.1.1"), became(&cluster, "2.1.1")), (old.clone(), old.clone()));
    assert_eq!(versions(&cluster), ["v1"]);
    cluster.reboot();
    cluster.wait_for_state(HANDLE, "active", SOON);
    assert_eq!(cluster.generations("api"), [1]);
    assert_eq!((became(&cluster, "1.1.1"), became(&cluster, "2.1.1")), (old.clone(), old));
    assert_eq!(versions(&cluster), ["v1"]);
    // A roll is.
    cluster.cli(&["reload", "api"]).ok();
    let new = ("/srv/shop/v2".to_owned(), "node /srv/apps/hello.js 3000 new".to_owned(), Some("green".to_owned()));
    assert_eq!((became(&cluster, "1.2.1"), became(&cluster, "2.2.1")), (new.clone(), new.clone()));
    cluster.wait_until("the old ones are gone", SOON, || cluster.generations("api") == [2]);
    assert_eq!(versions(&cluster), ["v2"]);
    // And it is what a reboot starts from then on.
    cluster.reboot();
    cluster.wait_for_state(HANDLE, "active", SOON);
    assert_eq!(cluster.generations("api"), [2]);
    assert_eq!(became(&cluster, "1.2.1"), new);
    let rows = cluster.ls();
    assert_eq!(rows.iter().map(|row| row.uid()).collect::<Vec<_>>(), ["api:01", "api:02"]);
    for (row, instance) in rows.iter().zip(["1.2.1", "2.2.1"]) {
        assert_eq!((row.state(), row.generation(), Some(row.pid())), ("online", 2, cluster.main_pid(&unit(instance))), "{}", row.0);
    }
}

#[test]
pub fn a_deleted_release_is_named_and_its_return_or_a_reload_mends_it() {
    let cluster = cluster(&app("api", 2, "node /srv/apps/hello.js 3000", "listen = 3000"));
    cluster.release("v2");
    cluster.sh("mv /srv/shop/v1 /srv/shop/away").ok();
    let pid = cluster.main_pid(&unit("1.1.1")).unwrap();
    cluster.kill(pid, "KILL");
    let said = || cluster.journal_of(&unit("1.1.1"));
    cluster.wait_until("it says why it cannot come back", SOON, || said().contains("the release of generation 1 was deleted"));
    let line = said().lines().find(|line| line.contains("was deleted")).unwrap().to_owned();
    for part in ["/srv/shop/v1", "put it back", "`project-cluster reload api`"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert_eq!(versions(&cluster), ["v1"], "the other one serves on");
    cluster.sh("mv /srv/shop/away /srv/shop/v1").ok();
    cluster.wait_for_state(&unit("1.1.1"), "active", SOON);
    // Gone for good: a reload brings what is there now, though a slot has nobody to replace.
    cluster.sh("rm -r /srv/shop/v1").ok();
    let pid = cluster.main_pid(&unit("1.1.1")).unwrap();
    cluster.kill(pid, "KILL");
    cluster.wait_until("it failed again", SOON, || said().matches("was deleted").count() > 1);
    cluster.cli(&["reload", "api"]).ok();
    cluster.wait_until("the old ones are gone", SOON, || cluster.generations("api") == [2]);
    assert_eq!(versions(&cluster), ["v2"]);
    let left = cluster.units("project-cluster-api@*", &[]);
    assert!(left.iter().all(|unit| !unit.contains("@1.1.") && !unit.contains("@2.1.")), "nothing goes on trying: {left:?}");
}

#[test]
pub fn a_lost_memory_boots_the_last_generation_that_got_ready() {
    let mut cluster = installed(&app("api", 2, "node app.js 3000", "listen = 3000\ntimeout.start = \"10s\""));
    for release in ["v1", "v2"] {
        cluster.sh(&format!("cp /srv/apps/common.js /srv/shop/{release}/; cp /srv/apps/hello.js /srv/shop/{release}/app.js")).ok();
    }
    cluster.sh("cp /srv/apps/broken/throws.js /srv/shop/v3/app.js").ok();
    cluster.cli(&["install", "--now"]).ok();
    cluster.release("v2");
    cluster.cli(&["reload", "api"]).ok();
    // A generation that never got ready does not count.
    cluster.release("v3");
    assert_ne!(cluster.cli(&["reload", "api"]).code, 0);
    assert!(cluster.exists(format!("{PINS}/3.json")));
    cluster.wait_until("the old ones serve", SOON, || cluster.generations("api") == [2]);
    cluster.shutdown();
    cluster.sh("rm -r /var/lib/project-cluster/state").ok();
    cluster.boot();
    cluster.wait_for_state(HANDLE, "active", SOON);
    assert_eq!(cluster.generations("api"), [2]);
    assert_eq!(versions(&cluster), ["v2"]);
    // A number is never given twice: the failed one keeps its own.
    cluster.release("v1");
    cluster.cli(&["reload", "api"]).ok();
    cluster.wait_until("the old ones are gone", SOON, || cluster.generations("api") == [4]);
    assert_eq!(versions(&cluster), ["v1"]);
}

#[test]
pub fn a_damaged_memory_is_moved_aside_and_said() {
    let mut cluster = cluster(&app("api", 2, "node /srv/apps/hello.js 3000", "listen = 3000"));
    cluster.release("v2");
    cluster.cli(&["reload", "api"]).ok();
    cluster.wait_until("the old ones are gone", SOON, || cluster.generations("api") == [2]);
    cluster.shutdown();
    cluster.write(MEMORY, "{\"format\": 1, \"apps\": {\"api\": {\"gener");
    // The master, which moves it, comes behind the handle.
    cluster.write("/etc/systemd/system/project-cluster.service.d/late.conf", "[Service]\nExecStartPre=+/bin/sleep 3\n");
    cluster.boot();
    cluster.wait_for_state(HANDLE, "active", SOON);
    // The handle does not need it, and does not touch it.
    assert_eq!(cluster.generations("api"), [2]);
    let said = cluster.journal_of(HANDLE);
    assert!(said.contains("what the master remembers cannot be read") && said.contains("is damaged"), "{said}");
    // The master keeps it for a person to look at, and goes by what runs.
    cluster.wait_until("the master is up", SOON, || cluster.state("project-cluster.service") == "active");
    let said = cluster.journal_of("project-cluster.service");
    assert!(said.contains(&format!("{MEMORY} is damaged")) && said.contains("moved to"), "{said}");
    assert_eq!(cluster.read(format!("{MEMORY}.damaged-1")), "{\"format\": 1, \"apps\": {\"api\": {\"gener");
    assert_eq!(cluster.app("api")["generation"], 2);
    cluster.cli(&["reload", "api"]).ok();
    assert_eq!(cluster.app("api")["generation"], 3);
}

#[test]
fn prepare_refuses_what_a_rogue_master_could_ask_for() {
    let cluster = cluster(&app("api", 1, "node /srv/apps/hello.js 3000", "listen = 3000"));
    let before = cluster.sh(&format!("ls -A {PINS}; cat {PINS}/counter.json")).ok();
    // Whether polkit lets the master ask, by the looks of the name alone; and what `prepare` says to whoever may.
    let cases = [
        ("1.99.1", true, "generation 99 of api cannot be made: the last one is 1, so the next is 2"),
        ("1025.1.1", true, "`1025.1.1` is no worker of api"),
        ("1.1-5.1", true, "`1.1-5.1` is no worker of api"),
        ("1.9-5.1", true, "the pin of generation 5 of api is not kept"),
        ("1.3-1.1", true, "generation 3 of api cannot be made: the last one is 1, so the next is 2"),
        ("0.1.1", false, "`0.1.1` is no worker of api"),
        ("1.0.1", false, "`1.0.1` is no worker of api"),
        ("1.1.10000", false, "`1.1.10000` is no worker of api"),
        ("1.01.1", false, "`1.01.1` is no worker of api"),
        ("etc", false, "`etc` is no worker of api"),
    ];
    for (instance, allowed, words) in cases {
        let unit = unit(instance);
        let asked = cluster.run_as("project-cluster", &["systemctl", "start", &unit]);
        assert_ne!(asked.code, 0, "{instance}: {asked:?}");
        if !allowed {
            assert_eq!(cluster.journal_of(&unit), "", "polkit refuses {instance}: {asked:?}");
            assert_ne!(cluster.systemctl(&["start", &unit]).code, 0, "{instance}, asked by root");
        }
        let journal = cluster.journal_of(&unit);
        assert!(journal.contains(words), "{instance}: {journal}");
        assert!(cluster.journal(&["-u", &unit, "-o", "cat", "_COMM=node"]).is_empty(), "{instance} became the app");
        cluster.systemctl(&["stop", &unit]).ok();
    }
    assert_eq!(cluster.sh(&format!("ls -A {PINS}; cat {PINS}/counter.json")).ok(), before, "nothing was pinned");
    // The next generation is one that it may make, and a try more of the present one.
    for fine in ["1.1.2", "1.2.1"] {
        cluster.run_as("project-cluster", &["systemctl", "start", &unit(fine)]).ok();
        assert_eq!(cluster.state(&unit(fine)), "active");
    }
}
