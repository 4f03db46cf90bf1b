//! Rolls that a person steers, on a real systemd: canaries, `pause`, `resume`, `abort`, `on_failure`, `max_live`, holds.

use super::cluster::{ADDRESS, Cluster, HELLO, SOON, shop};

const HANDLE: &str = "project-cluster@api.service";
const MASTER: &str = "project-cluster.service";
/// Serves, and is gone a second later: within any bake.
const DIES: &str = "require('/srv/apps/hello.js'); setTimeout(() => process.exit(7), 1000);";
/// Serves, and does not mind SIGTERM: it ends by SIGKILL alone.
const STAYS: &str = "process.on('SIGTERM', () => {}); require('/srv/apps/hello.js');";
/// The second worker does not start as long as this file is there.
const BROKEN: &str = "if (process.env.PROJECT_CLUSTER_SLOT === '2' && require('fs').existsSync('/srv/shop/broken')) throw new Error('the database is away'); require('/srv/apps/hello.js');";

/// What the app's roll is: its state and how it ended.
fn roll(cluster: &Cluster) -> (String, String) {
    let roll = &cluster.app("api")["roll"];
    (roll["state"].as_str().unwrap_or_default().to_owned(), roll["end"].as_str().unwrap_or_default().to_owned())
}

fn status(cluster: &Cluster) -> String {
    cluster.property(HANDLE, "StatusText")
}

#[test]
pub fn a_canary_that_dies_leaves_the_others_untouched_and_one_that_does_not_is_followed() {
    let cluster = shop(3, "reload.canary = 1\nreload.bake = \"2s\"");
    let (old, inode) = (cluster.pids("api"), cluster.socket_inode(3000));
    cluster.deploy("v2", DIES);
    let failed = cluster.cli(&["reload", "api"]).exits(1);
    assert!(failed.stderr.contains("the canary api:01 (generation 2) ended once before it had been ready for 2 s"), "{}", failed.stderr);
    assert!(failed.stderr.contains("The old workers serve as before"), "{}", failed.stderr);
    assert_eq!((cluster.pids("api"), cluster.socket_inode(3000)), (old.clone(), inode.clone()), "no old worker was touched");
    assert!(!failed.stdout.contains("(generation 1)"), "{}", failed.stdout);
    // Held, and said so where people look; `reset` ends it there as well.
    let held = cluster.cli(&["ls"]).ok();
    assert!(held.contains("api: held since ") && held.contains("the canary api:01"), "{held}");
    cluster.wait_until("systemctl tells of the hold", SOON, || status(&cluster).starts_with("held since "));
    assert!(status(&cluster).contains(", because generation 2 failed: the canary api:01"), "{}", status(&cluster));
    cluster.cli(&["reset", "api"]).ok();
    cluster.wait_until("systemctl tells no more of it", SOON, || status(&cluster).starts_with("up; "));
    assert!(!cluster.cli(&["ls"]).ok().contains("held"));

    // Two for once, though max_surge is one: both beside all old ones until they have passed.
    cluster.deploy("v3", HELLO);
    let load = cluster.load(ADDRESS).connections(2).start();
    load.wait_for_answers(20);
    let reload = cluster.spawn(&["project-cluster", "reload", "api", "--canary", "2", "--bake", "1500ms"]);
    cluster.wait_until("they are watched", SOON, || reload.stdout().contains("2 canaries are ready, and watched until ready for 2 s"));
    let up = cluster.pids("api");
    assert!(up.len() == 5 && old.iter().all(|pid| up.contains(pid)), "{up:?} of {old:?}");
    let said = reload.wait(SOON).ok();
    let (passed, retires) = (said.find("2 canaries have passed, the rest follows").unwrap(), said.find("(generation 1) retires").unwrap());
    assert!(passed < retires, "{said}");
    assert_eq!((cluster.generations("api"), cluster.socket_inode(3000)), (vec![3], inode));
    let report = load.stop();
    assert_eq!(report.failed_by_kind.get("refused"), None, "{report}");
    cluster.cli(&["reload", "api:01", "--canary", "1"]).exits(2);
}

#[test]
pub fn a_pause_outlives_the_master_and_resume_finishes_the_roll() {
    let cluster = shop(3, "reload.min_ready = \"1s\"");
    cluster.deploy("v2", HELLO);
    let reload = cluster.spawn(&["systemctl", "reload", HANDLE]);
    cluster.wait_until("it rolls", SOON, || cluster.app("api")["state"] == "rolling");
    let said = cluster.cli(&["pause", "api"]).ok();
    assert!(said.contains("paused. `project-cluster resume api` goes on"), "{said}");
    // A pause ends the waiting of systemctl, and says how to go on.
    let waited = reload.wait(SOON).exits(1);
    assert!(!waited.stderr.is_empty(), "systemctl says that it failed");
    cluster.wait_for_state(HANDLE, "active", SOON);
    assert!(status(&cluster).starts_with("paused: user 0 asked for it; `project-cluster resume api`"), "{}", status(&cluster));
    let journal = cluster.journal_of(HANDLE);
    assert!(journal.contains("is paused: user 0 asked for it; `project-cluster resume api` goes on"), "{journal}");
    // A worker that was on its way gets ready; then all stays as it is, whoever dies.
    let quiet = || {
        let busy = |state: &str| matches!(state, "starting" | "stopping" | "retiring");
        !cluster.ls().iter().any(|row| busy(row.state()))
    };
    cluster.wait_until("nothing is on its way", SOON, quiet);
    let up = cluster.pids("api");
    let master = cluster.main_pid(MASTER).unwrap();
    cluster.kill(master, "KILL");
    cluster.wait_until("there is another master", SOON, || cluster.main_pid(MASTER).is_some_and(|pid| pid != master));
    cluster.wait_until("it knows the roll", SOON, || roll(&cluster).0 == "paused");
    let listed = cluster.cli(&["ls"]).ok();
    assert!(listed.contains("is paused: user 0 asked for it") && listed.contains("`project-cluster abort api`"), "{listed}");
    for order in [&["reload", "api"][..], &["scale", "api", "5"], &["apply"], &["restart", "api:01"]] {
        let refused = cluster.cli(order).exits(1);
        assert!(refused.stderr.contains("is paused: user 0 asked for it. `project-cluster resume api`"), "{order:?}: {}", refused.stderr);
    }
    let refused = cluster.cli(&["reload", "api", "--json"]);
    assert!(refused.stdout.contains("\"paused\""), "{}", refused.stdout);
    assert_eq!(cluster.pids("api"), up, "nothing was started or retired");
    let said = cluster.cli(&["resume", "api"]).ok();
    assert!(said.contains("goes on") && said.contains("done: generation 2, 3 of 3 ready"), "{said}");
    assert_eq!((cluster.generations("api"), roll(&cluster)), (vec![2], ("done".into(), "all-new".into())));
    cluster.wait_until("systemctl tells of it", SOON, || status(&cluster).starts_with("up; "));
    let none = cluster.cli(&["pause", "api"]).exits(1);
    assert!(none.stderr.contains("no roll is under way, so there is none to pause"), "{}", none.stderr);
}

#[test]
pub fn a_failure_waits_for_a_person_where_the_app_says_so() {
    let cluster = shop(2, "reload.on_failure = \"pause\"");
    let old = cluster.workers("api");
    cluster.write("/srv/shop/broken", "");
    cluster.deploy("v2", BROKEN);
    let waited = cluster.systemctl(&["reload", HANDLE]);
    assert_eq!(waited.code, 1, "{waited:?}");
    assert!(status(&cluster).starts_with("paused: api:02 (generation 2) failed: it exited with 1"), "{}", status(&cluster));
    // Old and new serve.
    assert_eq!(cluster.generations("api"), [1, 2]);
    assert!(cluster.workers("api").contains(&old[1]));
    let still = cluster.cli(&["resume", "api"]).exits(1);
    assert!(still.stderr.contains("is paused: api:02 (generation 2) failed"), "{}", still.stderr);
    cluster.sh("rm /srv/shop/broken").ok();
    let said = cluster.cli(&["resume", "api"]).ok();
    assert!(said.contains("done: generation 2, 2 of 2 ready"), "{said}");
    assert_eq!(cluster.generations("api"), [2]);
    assert!(cluster.app("api")["held"].is_null());
}

#[test]
pub fn an_abort_goes_back_and_ctrl_c_names_it() {
    let cluster = shop(3, "reload.min_ready = \"1500ms\"");
    let old = cluster.workers("api");
    cluster.deploy("v2", HELLO);
    let reload = cluster.spawn(&["project-cluster", "reload", "api"]);
    cluster.wait_until("the first one is replaced", SOON, || reload.stdout().contains(":02 (generation 2) starts"));
    reload.signal(libc::SIGINT);
    let interrupted = reload.wait(SOON).exits(1);
    assert!(interrupted.stderr.contains("`project-cluster abort api` goes back"), "{}", interrupted.stderr);
    let said = cluster.cli(&["abort", "api"]).ok();
    assert!(said.contains("going back: aborted by user 0"), "{said}");
    assert_eq!((cluster.generations("api"), roll(&cluster)), (vec![1], ("failed".into(), "all-old".into())));
    // Slots that were not emptied have their worker of before.
    let up = cluster.workers("api");
    assert!(up.len() == 3 && up.contains(&old[2]), "{up:?} of {old:?}");
    let held = cluster.cli(&["ls"]).ok();
    assert!(held.contains("api: held since ") && held.contains("aborted by user 0"), "{held}");
    // Also of a roll of one worker, and over REST.
    let again = cluster.spawn(&["project-cluster", "restart", "api:03"]);
    cluster.wait_until("it rolls", SOON, || cluster.app("api")["state"] == "rolling");
    let id = cluster.app("api")["roll"]["id"].as_u64().unwrap();
    let curl = |verb: &str| {
        let url = format!("http://localhost/v1/apps/api/rolls/{id}/{verb}?wait=30s");
        cluster.run(&["curl", "-sS", "-w", " %{http_code}", "-X", "POST", "--unix-socket", "/run/project-cluster/api.sock", &url]).ok()
    };
    let paused = curl("pause");
    assert!(paused.ends_with(" 200") && paused.contains("\"state\":\"paused\""), "{paused}");
    again.wait(SOON).exits(1);
    let aborted = curl("abort");
    assert!(aborted.ends_with(" 200") && aborted.contains("the old workers serve as before"), "{aborted}");
    let late = curl("resume");
    assert!(late.ends_with(" 409") && late.contains("\"code\":\"conflict\""), "{late}");
    assert_eq!(cluster.workers("api"), up);
}

/// Old workers that end by SIGKILL alone, and no more of them beside the new than may live.
#[test]
pub fn no_more_workers_live_than_max_live_says_those_on_their_way_down_too() {
    let cluster = shop(3, "reload.max_live = 4\ntimeout.kill = \"1500ms\"");
    cluster.deploy("v2", STAYS);
    cluster.cli(&["reload", "api"]).ok();
    cluster.deploy("v3", HELLO);
    let reload = cluster.spawn(&["project-cluster", "reload", "api"]);
    let mut most = 0;
    cluster.wait_until("the reload has ended", 3 * SOON, || {
        let alive = cluster.units("project-cluster-api@*.service", &["active", "activating", "deactivating", "reloading"]);
        most = most.max(alive.len());
        !reload.runs()
    });
    let said = reload.wait(SOON).ok();
    assert!(said.contains("waits: 4 workers live, those on their way down too, and `max_live` lets no more"), "{said}");
    assert_eq!((most, cluster.generations("api")), (4, vec![3]));
    // Another reload, while the last of the generation before the last may still be on its way down.
    let said = cluster.cli(&["reload", "api"]).ok();
    assert!(said.contains("done: generation 4, 3 of 3 ready"), "{said}");
    let refused =
        cluster.sh("sed -i 's/max_live = 4/max_live = 3/' /etc/project-cluster/cluster.toml; project-cluster check || exit 0").stderr;
    assert!(refused.contains("max_live lets 3 workers live, and a roll of 3 needs 4"), "{refused}");
}
