//! Two clusters on one machine.

use super::{Tries, Try, leave};
use crate::cluster::{app, cluster};

#[test]
fn two_clusters_cannot_touch_each_other() {
    let cluster = cluster(&app("api", 1, "node /srv/apps/worker.js", "ready = \"none\""));
    let second = |name: &str, app_name: &str, port: u16| {
        let app = app(app_name, 1, "node /srv/apps/worker.js", "ready = \"none\"\nenv = { KEY = \"a-secret\" }");
        cluster.write("/srv/second.toml", format!("name = \"{name}\"\napi.port = {port}\n{app}"));
        cluster.run(&["project-cluster", "--config", "/srv/second.toml", "install", "--now"])
    };
    second("shop", "api", 8888).ok();
    let before = (cluster.pids("api"), cluster.main_pid("shop-api@1.1.1.service"), cluster.main_pid("shop.service"));
    let mut by = Tries::by("the user of another cluster's master");
    let tries: Vec<Try> = vec![
        ("starts a worker of its own cluster", "(it may: the try itself works)", "manager('StartUnit', 'ss', 'project-cluster-api@1.1.1.service', 'replace')".into(), "o \"*"),
        ("starts, stops, restarts the other's workers, handle, trigger, master, target", "refused by polkit", "'+'.join({manager(verb, 'ss', unit, 'replace') for verb in ('StartUnit', 'StopUnit') for unit in ('shop-api@1.1.1.service', 'shop@api.service', 'shop-first@api.service', 'shop.service', 'shop.target')})".into(), "denied"),
        ("connects to the other's API", "EACCES", "unix('/run/shop/api.sock')".into(), "EACCES"),
        ("reads the other's settings, state, pins, token, copies of pins", "EACCES", "each(\"read('/var/lib/shop/settings.json')\", \"read('/var/lib/shop/state/apps.json')\", \"read('/var/lib/shop/pins/settings.json')\", \"read('/var/lib/shop/operators/token')\", \"read('/run/shop-api/1.1.1/pin.json')\")".into(), "EACCES"),
        ("writes into the other's directories", "EACCES", "each(\"write('/run/shop/x')\", \"write('/run/shop/state/x')\", \"write('/var/lib/shop/x')\", \"write('/var/lib/shop/state/x')\", \"write('/run/shop-api/x')\")".into(), "EACCES"),
        ("signals the other's master and workers", "EPERM", format!("each('os.kill({}, 9)', 'os.kill({}, 9)')", before.1.unwrap(), before.2.unwrap()), "EPERM"),
    ];
    let path = leave(&cluster, &tries);
    let printed = cluster.run_as("project-cluster", &["python3", "/srv/apps/hostile.py", path.to_str().unwrap()]).ok();
    by.script(&tries, &printed);
    let token = "curl -sS -m 20 -o /dev/null -w '%{http_code}' -H \"Authorization: Bearer $(cat /var/lib/project-cluster/operators/token)\" http://127.0.0.1";
    let codes = [8887, 8888].map(|port| cluster.sh(&format!("{token}:{port}/v1/apps")).ok());
    by.row("shows the token of its own cluster to the other's API", "401; its own takes it", codes == ["200", "401"], codes);
    for (name, app_name, what) in [
        ("project-cluster-api", "x", "is called as the units and the user of the other's app"),
        ("project", "cluster-api", "has an app whose units would be called as the other's"),
        ("shop-api", "x", "is called as the user that the other's workers run as"),
    ] {
        let said = second(name, app_name, 8889);
        let refused = said.code == 1 && said.stderr.contains("nothing was changed") && said.stderr.contains("rename");
        by.row(&format!("a cluster that {what} is installed"), "`install` refuses and changes nothing", refused, said);
    }
    assert_eq!((cluster.pids("api"), cluster.main_pid("shop-api@1.1.1.service"), cluster.main_pid("shop.service")), before);
    by.end();
}
