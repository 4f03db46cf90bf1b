//! What `make proof` shows and `make test` has no time for: runtimes that start slowly, what takes long.
//! `.config/nextest.toml` leaves this module out of the default profile; the profile `proof` runs it and nothing else.

mod hostile;
mod rootless;

use std::collections::BTreeSet;

use super::cluster::{SOON, app, installed};

#[test]
fn a_daemon_reload_and_new_buses_in_a_roll_change_nothing() {
    super::upheaval::a_daemon_reload_and_new_buses_in_a_roll_change_nothing();
}

#[test]
fn hands_on_workers_in_a_roll() {
    super::meddling::hands_on_workers_in_a_roll();
}

#[test]
fn a_bus_that_hangs_for_longer_than_a_call_may_take() {
    super::upheaval::a_bus_that_hangs();
}

#[test]
fn a_hundred_thousand_starts_in_directories_of_others_who_race() {
    let through = super::threats::deploy::race(100_000);
    println!("{through} of 100,000 starts got through");
    assert!(through > 0);
}

#[test]
fn a_worker_whose_user_is_gone_is_tried_until_the_user_is_back() {
    let cluster = installed(&app("api", 1, "node /srv/apps/hello.js 3000", "listen = 3000\nuser = \"shop\""));
    cluster.sh("useradd --system shop").ok();
    cluster.cli(&["install", "--now"]).ok();
    let (unit, inode) = ("project-cluster-api@1.1.1.service", cluster.socket_inode(3000));
    cluster.sh("cp -a /etc/passwd /etc/shadow /etc/group /srv/; sed -i '/^shop:/d' /etc/passwd /etc/shadow /etc/group").ok();
    cluster.kill(cluster.main_pid(unit).unwrap(), "KILL");
    // No step can be run, so nobody counts and nobody waits.
    cluster.wait_until("it is tried again and again", SOON, || {
        cluster.property(unit, "NRestarts").parse::<u32>().is_ok_and(|tried| tried >= 10)
    });
    let client = cluster.client();
    cluster
        .wait_until("who asks is told why", SOON, || cluster.cli(&["show", "api"]).stdout.contains("Failed to determine user credentials"));
    let state = cluster.ls()[0].state().to_owned();
    assert!(["restarting", "starting"].contains(&&*state), "{state}");
    cluster.sh("cp -a /srv/passwd /srv/shadow /srv/group /etc/").ok();
    assert_eq!(client.wait(SOON).code, 0, "who waited is answered");
    assert_eq!((cluster.socket_inode(3000), cluster.generations("api")), (inode, vec![1]));
}

#[test]
fn ruby_and_java_share_their_sockets_in_the_default_sandbox() {
    let servers = [("ruby", "/usr/bin/ruby /srv/apps/hello.rb 3000"), ("java", "/usr/bin/java -cp /srv/java Hello 3001")];
    let slow = "timeout.start = \"90s\"";
    let apps =
        servers.iter().enumerate().map(|(index, (name, command))| app(name, 4, command, &format!("listen = {}\n{slow}", 3000 + index)));
    let cluster = installed(&apps.collect::<String>());
    cluster.sh("mkdir -p /srv/java && javac -d /srv/java /srv/apps/Hello.java").ok();
    cluster.cli(&["install", "--now"]).ok();
    for (index, (name, _)) in servers.iter().enumerate() {
        assert_eq!(cluster.workers(name).len(), 4, "{name}");
        let port = u16::try_from(3000 + index).unwrap();
        let inode = cluster.socket_inode(port);
        // Four copies on one socket, and each of them answers.
        let mut answered = BTreeSet::new();
        cluster.wait_until("all four have answered", SOON, || {
            let answer = cluster.get(&format!("127.0.0.1:{port}"), "/").unwrap();
            assert!(answer.body.starts_with("v1 "), "{name}: {answer:?}");
            answered.insert(answer.body);
            answered.len() == 4
        });
        assert_eq!(cluster.socket_inode(port), inode, "{name}");
        for worker in cluster.workers(name) {
            assert_eq!(cluster.property(&worker, "NRestarts"), "0", "{worker}");
        }
    }
    cluster.cli(&["reload", "all"]).ok();
    for (name, _) in servers {
        assert_eq!(cluster.generations(name), [2], "{name}");
    }
}
