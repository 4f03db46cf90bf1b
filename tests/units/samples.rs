//! The clusters of the golden trees, as the configuration would make them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use project_cluster::config::settings::{
    Amount, Api, App, Auth, FORMAT, Listen, Ready, Reload, Revision, Sandbox, Settings, Spawn, Timeouts, User, Workers,
};

pub fn cluster(name: &str, apps: &[(&str, App)]) -> Settings {
    Settings {
        format: FORMAT,
        name: name.parse().unwrap(),
        api: Api { enabled: true, host: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 8887, auth: Auth::Token },
        apps: apps.iter().map(|(name, app)| (name.parse().unwrap(), app.clone())).collect(),
    }
}

/// All defaults.
pub fn app(command: &str) -> App {
    App {
        revision: Revision::default(),
        earlier: Vec::new(),
        workers: Workers::Count(1),
        command: command.split(' ').map(String::from).collect(),
        cwd: "/".into(),
        user: User::Dynamic("project-cluster-app".into()),
        env: BTreeMap::new(),
        listen: Vec::new(),
        spawn: Spawn::Cluster,
        swap: true,
        ready: Ready::None,
        on_demand: false,
        success_exit_codes: Vec::new(),
        timeout: Timeouts { start: Duration::from_secs(30), kill: Duration::from_secs(5), restart: Duration::from_millis(100) },
        reload: Reload {
            max_surge: Amount::Count(1),
            max_unavailable: Amount::Count(0),
            min_ready: Duration::from_secs(1),
            deadline: Duration::from_secs(600),
            ..Reload::default()
        },
        sandbox: Sandbox::default(),
        systemd: BTreeMap::new(),
        limits: BTreeMap::new(),
    }
}

pub fn listen(address: &str) -> Listen {
    Listen { address: address.parse().unwrap(), mode: None, owner: None, group: None, backlog: 4096 }
}

/// An app with sockets: ready when it listens.
pub fn server(command: &str, addresses: &[&str]) -> App {
    App { listen: addresses.iter().map(|address| listen(address)).collect(), ready: Ready::Listen, ..app(command) }
}

pub fn named(user: &str) -> User {
    User::Named { user: user.into(), group: None }
}

pub fn directives(of: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    of.iter().map(|(key, values)| ((*key).to_owned(), values.iter().map(|value| (*value).to_owned()).collect())).collect()
}

pub fn shop() -> Settings {
    let shop = |app: App| App { cwd: "/srv/shop".into(), user: named("shop"), ..app };
    let api = App {
        workers: Workers::Count(4),
        env: [("NODE_ENV".to_owned(), "production".to_owned())].into(),
        ..server("node apps/api.js", &["0.0.0.0:3000"])
    };
    cluster("project-cluster", &[("api", shop(api)), ("bg", shop(App { workers: Workers::Count(2), ..app("node apps/bg.js") }))])
}

pub fn minimal() -> Settings {
    cluster("project-cluster", &[("web", server("/usr/bin/python3 /srv/web.py", &["8080"]))])
}

pub fn every_option() -> Settings {
    let off = Sandbox {
        privileges: false,
        system: false,
        home: false,
        tmp: false,
        devices: false,
        kernel: false,
        proc: false,
        namespaces: false,
        families: false,
        syscalls: false,
        users: false,
    };
    let api = App {
        workers: Workers::PerCore,
        cwd: "/srv/shop/current".into(),
        user: User::Named { user: "shop".into(), group: Some("www-data".into()) },
        env: [("TOKEN".to_owned(), "only-in-the-pin".to_owned())].into(),
        listen: vec![
            listen("0.0.0.0:3000"),
            Listen { backlog: 128, ..listen("[2001:db8::1]:3001") },
            Listen { mode: Some(0o600), owner: Some("shop".into()), group: Some("www-data".into()), ..listen("/run/shop/api.sock") },
        ],
        swap: false,
        ready: Ready::Exec(vec!["/usr/bin/curl".into(), "-f".into(), "http://127.0.0.1:3000/healthz".into()]),
        success_exit_codes: vec![0, 3, 143],
        timeout: Timeouts { start: Duration::from_millis(2500), kill: Duration::from_secs(60), restart: Duration::from_secs(1) },
        sandbox: Sandbox { users: true, ..Sandbox::default() },
        systemd: directives(&[("LimitNOFILE", &["65536"]), ("LoadCredential", &["a:/etc/a", "b:/etc/b"])]),
        limits: directives(&[("MemoryHigh", &["1G"]), ("MemoryMax", &["1200M"]), ("TasksMax", &["512"])]),
        ..server("node apps/api.js --name \"é %i $HOME\"", &[])
    };
    let bare = App { user: named("root"), sandbox: off, ..app("/usr/local/bin/agent --once") };
    let speaks = App { ready: Ready::Notify, ..app("/usr/local/bin/speaks") };
    cluster("full", &[("api", api), ("bare", bare), ("speaks", speaks), ("idle", App { workers: Workers::Count(0), ..app("/bin/true") })])
}

pub fn child_spawn() -> Settings {
    let web = App {
        workers: Workers::Count(3),
        spawn: Spawn::Child { port: Some(4000), ports: Some((4100, 4110)) },
        ready: Ready::Http("/healthz".into()),
        ..app("node apps/web.js")
    };
    cluster("fleet", &[("web", web)])
}

pub fn on_demand() -> Settings {
    let api = App { on_demand: true, workers: Workers::Count(2), ..server("/srv/api/server", &["127.0.0.1:3000", "/run/rare-api.sock"]) };
    cluster("rare", &[("api", api), ("always", app("/srv/always"))])
}

/// `shop` and `shop-eu` beside each other: their prefixes overlap, their units do not.
pub fn two_clusters() -> [Settings; 2] {
    [
        cluster("shop", &[("api", server("/srv/shop/api", &["127.0.0.1:3000"]))]),
        cluster("shop-eu", &[("api", server("/srv/shop-eu/api", &["127.0.0.1:3001"]))]),
    ]
}

/// `api` is a prefix of `api-v2`; so would its slice be.
pub fn dashes() -> Settings {
    let limited = |address: &str, max: &str| App { limits: directives(&[("MemoryMax", &[max])]), ..server("/srv/api", &[address]) };
    cluster("my-shop", &[("api", limited("127.0.0.1:3000", "1G")), ("api-v2", limited("/run/a-b/c.sock", "2G"))])
}

/// Of an ordinary user.
pub fn rootless() -> Settings {
    let own = |app: App| App { user: User::Own, sandbox: Sandbox::rootless(), ..app };
    let limited = App { limits: directives(&[("MemoryMax", &["1G"])]), ..server("node apps/api.js", &["127.0.0.1:3000"]) };
    let rare = App { on_demand: true, ready: Ready::Notify, ..server("/home/ada/rare", &["/run/user/1500/sockets/rare.sock"]) };
    cluster("shop", &[("api", own(limited)), ("rare", own(rare))])
}

/// Each golden tree: its name, and the clusters in it.
pub fn all() -> Vec<(&'static str, Vec<Settings>)> {
    vec![
        ("shop", vec![shop()]),
        ("minimal", vec![minimal()]),
        ("every-option", vec![every_option()]),
        ("child-spawn", vec![child_spawn()]),
        ("on-demand", vec![on_demand()]),
        ("two-clusters", two_clusters().into()),
        ("dashes", vec![dashes()]),
    ]
}
