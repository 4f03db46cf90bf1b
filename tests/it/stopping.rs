//! A stop is a stop, whatever is in its way; and no port stays open with nobody behind it.

use super::cluster::{SOON, app, cluster};

const HANDLE: &str = "project-cluster@api.service";
const SOCKET: &str = "project-cluster-api-:::3000.socket";

#[test]
fn a_stop_behind_a_roll_whose_old_worker_takes_its_time_stops_the_others_meanwhile() {
    let slow = "listen = 3000\ntimeout.kill = \"8s\"";
    let cluster = cluster(&app("api", 1, "node /srv/apps/broken/stubborn.js 3000", slow));
    let reload = cluster.spawn(&["project-cluster", "reload", "api"]);
    cluster.wait_until("the old worker retires", SOON, || cluster.state("project-cluster-api@1.1.1.service") == "deactivating");
    // systemd closes the socket only when the old one is gone. The new one is told to end before that.
    let stop = cluster.spawn(&["project-cluster", "stop", "api"]);
    cluster.wait_until("both are on their way down", SOON, || cluster.units("project-cluster-api@*", &["deactivating"]).len() == 2);
    stop.wait(SOON).ok();
    reload.wait(SOON);
    assert_eq!([HANDLE, SOCKET].map(|unit| cluster.state(unit)), ["inactive", "inactive"]);
    assert_eq!(cluster.units("project-cluster-api@*", &["active", "activating", "deactivating"]), Vec::<String>::new());
}
