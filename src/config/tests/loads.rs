//! What loads, and to which settings.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::fragment;
use super::super::key::KeyDoc;
use super::super::settings::{Amount, FORMAT, OnFailure, Ready, Sandbox, Spawn, User, Workers};
use super::super::{cluster_name, load};
use super::{Few, load_files, load_text};

fn settings(text: &str) -> super::super::settings::Settings {
    load_text(text).unwrap_or_else(|problems| panic!("{problems}")).settings
}

const DESIGN: &str = r#"
name = "project-cluster"
[api]
enabled = true
host = "127.0.0.1"
port = 8887
[timeout]              # milliseconds as in the original, or "5s"; also [apps.X.timeout]
start = "30s"
kill = "5s"
restart = "100ms"      # then back-off
[reload]               # defaults for all apps; also [apps.X.reload]
max_surge = 1
[apps.api]
workers = 4            # -1 or "auto": one per core
command = "node apps/api.js"     # split like a shell would, run without one; an array is taken as it is
cwd = "/srv/shop"
user = "shop"
listen = ["0.0.0.0:3000", { path = "/run/shop/api.sock", mode = "0660", group = "www-data" }]
env = { NODE_ENV = "production" }
[apps.bg]
workers = 2
command = "node apps/bg.js"
"#;

#[test]
fn the_example_of_the_design() {
    let settings = settings(DESIGN);
    assert_eq!((settings.format, settings.name.as_str()), (FORMAT, "project-cluster"));
    assert_eq!((settings.api.enabled, settings.api.host, settings.api.port), (true, IpAddr::V4(Ipv4Addr::LOCALHOST), 8887));
    let [api, bg] = ["api", "bg"].map(|name| &settings.apps[&name.parse().unwrap()]);
    assert_eq!(api.workers, Workers::Count(4));
    assert_eq!(api.command, ["node", "apps/api.js"]);
    assert_eq!(api.cwd, Path::new("/srv/shop"));
    assert_eq!(api.user, User::Named { user: "shop".into(), group: None });
    assert_eq!(api.env, BTreeMap::from([("NODE_ENV".into(), "production".into())]));
    let listen: Vec<_> = api.listen.iter().map(|l| (l.address.to_string(), l.mode, l.group.as_deref(), l.backlog)).collect();
    assert_eq!(listen, [("0.0.0.0:3000".into(), None, None, 4096), ("/run/shop/api.sock".into(), Some(0o660), Some("www-data"), 4096)]);
    assert_eq!((&api.spawn, &api.ready, api.swap, api.on_demand), (&Spawn::Cluster, &Ready::Listen, true, false));
    assert_eq!((bg.workers, &bg.ready, &bg.cwd), (Workers::Count(2), &Ready::None, &PathBuf::from("/")));
    assert_eq!(bg.user, User::Dynamic("project-cluster-bg".into()));
    assert_eq!(bg.sandbox, Sandbox::default());
    assert_eq!(bg.timeout.kill, Duration::from_secs(5));
}

#[test]
fn the_short_form() {
    let settings = settings("command = \"node 'my apps/{type}.js'\"\n[apps]\napi = 4\n\"b.g\" = \"auto\"\n[apps.more]\nworkers = 0\n");
    let app = |name: &str| &settings.apps[&name.parse().unwrap()];
    assert_eq!((app("api").workers, &app("api").command), (Workers::Count(4), &vec!["node".into(), "my apps/api.js".into()]));
    assert_eq!((app("b.g").workers, app("b.g").command[1].as_str()), (Workers::PerCore, "my apps/b.g.js"));
    assert_eq!((app("more").workers, app("more").command[1].as_str()), (Workers::Count(0), "my apps/more.js"));
}

#[test]
fn every_key_of_an_app() {
    let settings = settings(
        r#"
        reload = { max_surge = "50%", min_ready = 1500 }
        timeout.kill = "1m30s"
        [apps.api]
        workers = -1
        command = ['/bin/a', "%n $HOME 'q' \"x\"", "zwei\nZeilen", "ü"]
        cwd = "/srv/ä b"
        user = "shop"
        group = "www-data"
        env = { A = "x", B = 3, C = true }
        spawn = "child"
        port = 4000
        ports = [4100, 5100]
        swap = false
        ready = { http = "/up?x=1" }
        success_exit_codes = [3, 255]
        timeout = { start = 500 }
        reload = { max_unavailable = 2, deadline = "1h", canary = "10%", bake = "1m", on_failure = "pause", max_live = "300%" }
        sandbox = { home = false, tmp = false, users = true }
        systemd = { LimitNOFILE = 5000, MemoryDenyWriteExecute = true, ReadWritePaths = ["/a", "/b"], SystemCallFilter = "" }
        limits.MemoryHigh = "1G"
        [apps.web]
        command = "web"
        listen = { address = 80, backlog = 10 }
        ready = { exec = "curl -f 'http://[::1]/'" }
        on_demand = true
        [apps.note]
        command = "note"
        listen = { path = "/run/x/n.sock", owner = "shop" }
        ready = "notify"
        "#,
    );
    let app = |name: &str| &settings.apps[&name.parse().unwrap()];
    let api = app("api");
    assert_eq!(api.workers, Workers::PerCore);
    assert_eq!(api.command, ["/bin/a", "%n $HOME 'q' \"x\"", "zwei\nZeilen", "ü"]);
    assert_eq!(api.user, User::Named { user: "shop".into(), group: Some("www-data".into()) });
    assert_eq!(api.env.values().collect::<Vec<_>>(), ["x", "3", "true"]);
    assert_eq!(api.spawn, Spawn::Child { port: Some(4000), ports: Some((4100, 5100)) });
    assert_eq!((&api.ready, api.swap, api.success_exit_codes.as_slice()), (&Ready::Http("/up?x=1".into()), false, [3, 255].as_slice()));
    assert_eq!((api.timeout.start, api.timeout.kill), (Duration::from_millis(500), Duration::from_secs(90)));
    assert_eq!((api.reload.max_surge, api.reload.max_unavailable), (Amount::Percent(50), Amount::Count(2)));
    assert_eq!((api.reload.min_ready, api.reload.deadline), (Duration::from_millis(1500), Duration::from_secs(3600)));
    assert_eq!((api.reload.canary, api.reload.bake), (Amount::Percent(10), Duration::from_secs(60)));
    assert_eq!((api.reload.on_failure, api.reload.max_live), (OnFailure::Pause, Some(Amount::Percent(300))));
    assert_eq!(api.sandbox, Sandbox { home: false, tmp: false, users: true, ..Sandbox::default() });
    assert_eq!(api.systemd["LimitNOFILE"], ["5000"]);
    assert_eq!(api.systemd["MemoryDenyWriteExecute"], ["yes"]);
    assert_eq!(api.systemd["ReadWritePaths"], ["/a", "/b"]);
    assert_eq!(api.systemd["SystemCallFilter"], [""]);
    assert_eq!(api.limits["MemoryHigh"], ["1G"]);
    let web = app("web");
    assert_eq!((web.listen[0].address.to_string(), web.listen[0].backlog, web.on_demand), ("[::]:80".into(), 10, true));
    assert_eq!(web.ready, Ready::Exec(["curl", "-f", "http://[::1]/"].map(String::from).to_vec()));
    let note = app("note");
    assert_eq!((note.listen[0].mode, note.listen[0].owner.as_deref()), (Some(0o666), Some("shop")));
    assert_eq!(note.ready, Ready::Notify);
}

#[test]
fn settings_survive_their_json() {
    let settings = settings(DESIGN);
    let json = serde_json::to_string(&settings).unwrap();
    assert_eq!(serde_json::from_str::<super::super::settings::Settings>(&json).unwrap(), settings);
}

#[test]
fn fragments_are_laid_together_in_the_order_of_their_names() {
    let loaded = load_files(&[
        ("main.toml", b"[apps.api]\ncommand = \"x\"\n[apps.api.env]\nA = 1\n"),
        ("20-b.toml", b"[apps.api.env]\nB = 2\n"),
        ("10-a.toml", b"[apps.bg]\ncommand = \"y\"\n"),
        (".hidden.toml", b"nonsense"),
        ("README", b"nonsense"),
    ]);
    let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.settings.apps.len(), 2);
    assert_eq!(loaded.settings.apps[&"api".parse().unwrap()].env.len(), 2);
    let names: Vec<_> = loaded.files.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["main.toml", "10-a.toml", "20-b.toml"]);
}

#[test]
fn the_clusters_name_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cluster.toml");
    let name = |text: &str| {
        std::fs::write(&path, text).unwrap();
        cluster_name(&path).map(|name| name.to_string())
    };
    assert_eq!(cluster_name(&path), None);
    assert_eq!(name("").as_deref(), Some("project-cluster"));
    // It need not be in order otherwise.
    assert_eq!(name("name = \"shop\"\nnonsense = 1\n").as_deref(), Some("shop"));
    assert_eq!(name("name = \"Shop\"").as_deref(), None);
    assert_eq!(name("name = 5").as_deref(), None);
    assert_eq!(name("name = ").as_deref(), None);
}

/// A default that the documentation gives is the one that validation takes.
#[test]
fn documented_defaults_are_the_real_ones() {
    // What an app needs so that the key may be written at all.
    let base = |key: &str| match key {
        "port" | "ports" => "spawn = \"child\"\n",
        _ => "listen = { address = 3000 }\n",
    };
    let mut checked = 0;
    let mut check = |table: &str, keys: &[KeyDoc]| {
        for key in keys.iter().filter(|key| !key.default.is_empty()) {
            let (top, app) = match table {
                "" => (format!("{} = {}\n", key.name, key.default), String::new()),
                "api" | "timeout" | "reload" | "reload.hooks" => (format!("{table}.{} = {}\n", key.name, key.default), String::new()),
                "listen" => (String::new(), format!("listen.{} = {}\n", key.name, key.default)),
                "app" => (String::new(), format!("{} = {}\n", key.name, key.default)),
                table => (String::new(), format!("{table}.{} = {}\n", key.name, key.default)),
            };
            let base = match (table, key.name) {
                ("app", "listen") => "",
                ("listen", _) => "listen.address = 3000\n",
                _ => base(key.name),
            };
            let plain = settings(&format!("[apps.x]\ncommand = \"/a\"\n{base}"));
            let written = settings(&format!("{top}[apps.x]\ncommand = \"/a\"\n{base}{app}"));
            assert_eq!(plain, written, "{table}.{}", key.name);
            checked += 1;
        }
    };
    check("", fragment::Cluster::KEYS);
    check("api", fragment::Api::KEYS);
    check("timeout", fragment::Timeout::KEYS);
    check("reload", fragment::Reload::KEYS);
    check("reload.hooks", fragment::Hooks::KEYS);
    check("app", fragment::App::KEYS);
    check("sandbox", fragment::Sandbox::KEYS);
    check("listen", fragment::ListenTable::KEYS);
    assert_eq!(checked, 1 + 4 + 3 + 11 + 1 + 9 + 11 + 1);
}

#[test]
fn this_machines_accounts_serve_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cluster.toml");
    std::fs::write(&path, "[apps.api]\ncommand = \"x\"\nuser = \"root\"\n").unwrap();
    let loaded = load(&path, &super::super::SystemAccounts).unwrap();
    assert_eq!(loaded.warnings.list[0].code, "runs-as-root");
    assert!(load(&path, &Few).is_ok());
}

#[test]
fn what_is_not_used_is_free() {
    let loaded = settings(
        "api.enabled = false\n[apps.a]\ncommand = \"x\"\nlisten = [8887, \"/run/a\"]\n[apps.b]\ncommand = \"x\"\nlisten = \"/run/b\"\n",
    );
    assert!(!loaded.api.enabled);
    // Two hosts of one port, and both families one by one, are different addresses.
    settings("[apps.a]\ncommand = \"x\"\nlisten = [\"127.0.0.2:8887\", \"127.0.0.1:80\", \"[::1]:80\", \"0.0.0.0:81\", \"[::1]:81\"]\n");
    // A worker without a port, and one that rolls by going down first.
    settings("[apps.a]\ncommand = \"x\"\nspawn = \"child\"\n");
    settings("[apps.a]\ncommand = \"x\"\nspawn = \"child\"\nport = 4000\nreload = { max_surge = 0, max_unavailable = 1 }\n");
}

#[test]
fn other_line_breaks_and_a_byte_order_mark() {
    let text = "\u{feff}name = \"x\"\r\n[apps.api]\r\ncommand = \"a\"\r\n";
    assert_eq!(settings(text).name.as_str(), "x");
    let problems = load_text(&format!("{text}workers = 'x'\r\n")).unwrap_err();
    assert_eq!((problems.list[0].line, problems.list[0].column), (4, 11));
    assert!(problems.to_string().contains(" 4 │ workers = 'x'\n"), "{problems}");
    let problems = load_text(&text.replace("\"x\"", "5")).unwrap_err();
    assert_eq!((problems.list[0].code, problems.list[0].line), ("wrong-type", 1));
}

#[test]
fn an_app_can_be_without_a_hook_that_all_others_have() {
    let shared = "[reload.hooks]\nbefore = \"/bin/migrate {type}\"\nafter = \"/bin/tell\"\n[apps.api]\ncommand = \"/bin/api\"\n";
    let hooks = |own: &str| settings(&format!("{shared}{own}")).apps[&"api".parse().unwrap()].hooks.clone();
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    assert_eq!((hooks("").before, hooks("").after), (words(&["/bin/migrate", "api"]), words(&["/bin/tell"])));
    let off = hooks("reload.hooks.before = []\n");
    assert_eq!((off.before, off.after), (None, words(&["/bin/tell"])), "that one alone");
    assert_eq!(hooks("reload.hooks = { before = [], after = [], timeout = \"5m\" }\n").kinds().count(), 0);
    // An empty line is still a mistake: it looks like a command that somebody forgot.
    let wrong = load_text(&format!("{shared}reload.hooks.before = \"\"\n")).unwrap_err().to_string();
    assert!(wrong.contains("names no program") && wrong.contains("before = []"), "{wrong}");
}
