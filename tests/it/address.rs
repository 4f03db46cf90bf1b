//! A changed `listen`: the new socket beside the old one, the old one as long as somebody needs it.

use super::cluster::{ADDRESS, Cluster, SOON, app, cluster, node};

const HANDLE: &str = "project-cluster@api.service";
const FIRST: &str = "project-cluster-api@1.1.1.service";
const OLD: &str = "project-cluster-api-:::3000.socket";
const NEW: &str = "project-cluster-api-:::3010.socket";
const NEW_ADDRESS: &str = "127.0.0.1:3010";

/// Who listens on a port, in the kernel's own table.
fn listeners(cluster: &Cluster, port: u16) -> String {
    cluster.sh(&format!("ss -Hltn 'sport = :{port}'")).ok()
}

#[test]
pub fn a_changed_address_comes_by_a_reload_and_an_old_worker_comes_back_where_it_was() {
    let mut cluster = cluster(&node(2));
    let inode = cluster.socket_inode(3000);
    cluster.config(&app("api", 2, "node /srv/apps/hello.js 3010", "listen = 3010"));
    let said = cluster.cli(&["install"]).ok();
    for told in [format!("started {NEW}"), format!("{OLD} stays as long as generation 1 of api is in use. `systemctl reload")] {
        assert!(said.contains(&told), "{told}: {said}");
    }
    assert_eq!(cluster.cli(&["install", "--diff"]).ok(), "nothing would change");
    assert!(cluster.cli(&["install"]).ok().starts_with("nothing to change"));
    // An old worker that crashes is what it was, and holds nothing of the new address.
    cluster.crash(FIRST);
    assert_eq!(cluster.socket_inode(3000), inode);
    assert!(cluster.get(ADDRESS, "/").is_ok());
    let pid = cluster.main_pid(FIRST).unwrap();
    let new = cluster.sh("ss -Hltne 'sport = :3010' | grep -o 'ino:[0-9]*'").ok().replace("ino:", "socket:[") + "]";
    assert_eq!(cluster.sh(&format!("readlink /proc/{pid}/fd/* | grep -cF '{new}' || :")).ok(), "0");
    // So is the whole generation after a reboot.
    cluster.reboot();
    cluster.wait_for_state(HANDLE, "active", SOON);
    assert_eq!(cluster.generations("api"), [1]);
    assert!(cluster.get(ADDRESS, "/").is_ok());

    cluster.systemctl(&["reload", HANDLE]).ok();
    assert_eq!(cluster.generations("api"), [2]);
    assert!(cluster.get(NEW_ADDRESS, "/").is_ok());
    let said = cluster.cli(&["install"]).ok();
    assert!(said.contains(&format!("removed /etc/systemd/system/{OLD}")) && !said.contains("systemctl reload"), "{said}");
    assert_eq!(listeners(&cluster, 3000), "", "the old port is closed, by the workers too");
    cluster.crash(&cluster.workers("api")[0]);
    assert!(cluster.get(NEW_ADDRESS, "/").is_ok());
    assert!(cluster.cli(&["install"]).ok().starts_with("nothing to change"));
}

#[test]
pub fn an_address_that_overlaps_with_the_old_one_comes_by_a_restart() {
    let cluster = cluster(&node(1));
    cluster.config(&app("api", 1, "node /srv/apps/hello.js 3000", "listen = \"127.0.0.1:3000\"\nenv = { HOST = \"127.0.0.1\" }"));
    let said = cluster.cli(&["install"]).ok();
    assert!(said.contains("project-cluster-api-127.0.0.1:3000.socket cannot listen"), "{said}");
    assert!(said.contains("systemctl restart project-cluster@api.service"), "what works: {said}");
    cluster.systemctl(&["restart", HANDLE]).ok();
    assert!(cluster.get(ADDRESS, "/").is_ok());
    assert_eq!(listeners(&cluster, 3000).lines().count(), 1);
}

#[test]
pub fn a_sleeping_app_wakes_at_its_old_address_until_a_reload() {
    let sleepy = |port: u16| app("api", 1, &format!("node /srv/apps/hello.js {port}"), &format!("listen = {port}\non_demand = true"));
    let cluster = cluster(&sleepy(3000));
    assert!(cluster.get(ADDRESS, "/").is_ok());
    cluster.cli(&["sleep", "api"]).ok();
    cluster.config(&sleepy(3010));
    let said = cluster.cli(&["install"]).ok();
    assert!(said.contains(&format!("started {NEW}")) && said.contains(&format!("{OLD} stays")), "{said}");
    assert!(cluster.get(ADDRESS, "/").is_ok(), "a start is no deploy");
    cluster.cli(&["reload", "api"]).ok();
    assert!(cluster.get(NEW_ADDRESS, "/").is_ok());
    cluster.cli(&["install"]).ok();
    assert_eq!(listeners(&cluster, 3000), "");
    cluster.cli(&["sleep", "api"]).ok();
    assert!(cluster.get(NEW_ADDRESS, "/").is_ok());
    assert_eq!(cluster.generations("api"), [2]);
}
