//! The configuration as a person may write it: every key of every table, with its meaning, shape and default.
//!
//! Pure. Nothing here is checked against another key, an account or the machine: that is validation's matter. The
//! documentation's tables and the JSON Schema are generated from these definitions.

use std::collections::BTreeMap;

use schemars::json_schema;

use super::choices::{AddressText, Auth, DrainBy, Hook, Listens, Mode, OnFailure, Ports, Ready, Spawn};
use super::finding::Findings;
use super::key::{At, KeyDoc, Shape, shape_table, table, wrong_type};
use super::settings::Workers;
use super::tree::{Kind, Node};
use super::values::{Command, Count, Directive, EnvValue, List, Map, Number, Port, Share, Time, inline_schema};

/// A millisecond limit of one day.
const DAY: u64 = 86_400_000;
/// Of one hour.
const HOUR: u64 = 3_600_000;

shape_table! {
    /// A whole cluster: the file's top level.
    pub struct Cluster = "" {
        /// The cluster's name: prefix of its units and system user of its master. Of a-z, 0-9 and -, at most 31, beginning with a letter, not ending in a dash.
        name: String = "\"project-cluster\"";
        /// The REST API's TCP listener. The unix socket `/run/NAME/api.sock` is always there.
        api: Api = "";
        /// Time limits of all apps; an app's own table overrides single keys.
        timeout: Timeout = "";
        /// How a roll goes, for all apps; an app's own table overrides single keys.
        reload: Reload = "";
        /// The command of every app that has none of its own. `{type}` stands for the app's name.
        command: Command = "";
        /// The app types by name: letters, digits, `_`, `.` and `-`, at most 64 bytes. A bare number (`api = 4`) is the short form of a table with `workers`.
        apps: Apps = "";
    }
}

shape_table! {
    /// The REST API's TCP listener.
    pub struct Api = "api" {
        /// Whether there is a TCP listener beside the unix socket.
        enabled: bool = "true";
        /// The IP address that it listens on. What travels is not encrypted: beyond loopback put a proxy with TLS before it.
        host: String = "\"127.0.0.1\"";
        /// Its TCP port.
        port: Port = "8887";
        /// Who may use it: `"token"`, who sends a bearer token that `install` or `project-cluster token add` made; `"none"`, whoever can connect, which is every program and user of this machine. Only with a loopback `host`.
        auth: Auth = "\"token\"";
    }
}

shape_table! {
    /// Time limits: a number of milliseconds, or a string of numbers with `ms`, `s`, `m`, `h` such as `"1m30s"`.
    pub struct Timeout = "timeout" {
        /// Until a started worker must be ready.
        start: Time<1, DAY> = "\"30s\"";
        /// From SIGTERM to SIGKILL; 2 s at least where `reload.drain` holds.
        kill: Time<1, HOUR> = "\"5s\"";
        /// From a worker's unexpected end to its next start; doubled from the third end in a row on, up to 30 s.
        restart: Time<0, HOUR> = "\"100ms\"";
    }
}

shape_table! {
    /// How a roll goes.
    pub struct Reload = "reload" {
        /// How many workers beyond the target may run meanwhile; a share is rounded up.
        max_surge: Share = "1";
        /// How many workers short of the target may be ready meanwhile; a share is rounded down. Not 0 together with `max_surge`.
        max_unavailable: Share = "0";
        /// How long a new worker must have been ready before an old one is touched.
        min_ready: Time<0, HOUR> = "\"1s\"";
        /// Of one whole roll, without the time for which it is paused; longer than `min_ready`, and than `bake` where there are canaries. What runs before its first worker has a time of its own.
        deadline: Time<1000, DAY> = "\"10m\"";
        /// How many new workers are started first, beside all old ones, and watched for `bake` before the rest follows; a share is rounded up. They count as surge: until then `max_surge` is at least their number. 0 means none; not with `max_surge = 0`.
        canary: Share = "0";
        /// How long each canary must have been ready without a break, and at least `min_ready`. One that ends is a failure.
        bake: Time<0, DAY> = "\"30s\"";
        /// When a new worker fails, or the deadline has passed: `"abort"`, the new ones go, the old ones stay and the app is held; `"pause"`, all stay as they are until a person says `resume` or `abort`.
        on_failure: OnFailure = "\"abort\"";
        /// How many workers may live at once, those on their way down too: a roll waits for their end before it starts more. At least the workers and `max_surge` (or `canary`) together.
        max_live: Share<1000> = "\"200%\"";
        /// How long a worker that is to stop may take to end its connections, before SIGTERM: it gets no new ones meanwhile. 0 is SIGTERM at once. When the whole app stops it is `timeout.kill` at most.
        drain: Time<0, HOUR> = "\"30s\"";
        /// `"outside"`: we see to it that a worker gets no new connections, whatever its app; `"self"`: the app ends gracefully at SIGTERM, within `timeout.kill`.
        drain_by: DrainBy = "\"outside\"";
        /// How many generations that were current are kept to be rolled back to, beside the current one.
        keep: Number<0, 50> = "5";
        /// What runs once beside the workers when a new generation comes, a migration for example.
        hooks: Hooks = "";
    }
}

shape_table! {
    /// Commands that run once for each new generation: as the app's user, in its sandbox, in the release of that generation, with `env`. No shell runs them; they may start programs of their own, which end with them. `[]` is none, for an app that is not to have the one of `[reload.hooks]`.
    pub struct Hooks = "reload.hooks" {
        /// Runs before the first worker of a new generation starts, at most once; where it fails, none is started, and what serves goes on. `{type}` stands for the app's name in `[reload]`.
        before: Hook = "";
        /// Runs once the new generation serves; that it failed is told and changes nothing.
        after: Hook = "";
        /// Runs when the new generation does not serve: a roll failed, or a start.
        failed: Hook = "";
        /// How long each of them may take.
        timeout: Time<1000, DAY> = "\"5m\"";
    }
}

shape_table! {
    /// One app type.
    pub struct App = "apps.X" {
        /// How many workers; 0 declares an app without starting it.
        workers: Count = "1";
        /// Program and arguments. A string is split as a shell would, and no shell runs: nothing is expanded. An array is taken as it is.
        command: Command = "";
        /// Working directory, absolute; symlinks in it are resolved anew by each reload. Without it `/`.
        cwd: String = "";
        /// The account that workers run as. Without it systemd makes a user for them (`DynamicUser=`).
        user: String = "";
        /// Their group, instead of the account's own; needs `user`.
        group: String = "";
        /// Environment of the workers. Kept out of unit files, so secrets are safe here if the file is mode 0600.
        env: Map<EnvValue> = "{}";
        /// The addresses that all workers share: a port (`3000`), `"127.0.0.1:3000"`, `"[::1]:3000"`, an absolute path, or a table; one, or an array of them. systemd holds the sockets.
        listen: Listens = "[]";
        /// `"cluster"`: workers share the sockets of `listen`. `"child"`: each has its own `PORT`.
        spawn: Spawn = "\"cluster\"";
        /// With `spawn = "child"`: slot 1's port; slot N starts with this + N - 1.
        port: Port = "";
        /// With `port`: first and last port for the extra workers of a roll, `"4100-4101"` or `[4100, 4101]`; at least `max_surge` of them. After a roll a slot may have one of these, or one that a retired worker of another slot left: ask `PORT`.
        ports: Ports = "";
        /// Whether a worker that opens a declared address by itself gets the shared socket instead.
        swap: bool = "true";
        /// What makes a worker ready. `"listen"`: it accepts from its sockets, the default where it has any; `"notify"`: it sends `READY=1`; `"none"`: it stays up for `min_ready`; `{ http = "/path" }`: its own port answers 2xx or 3xx; `{ exec = "command" }`: the command exits 0.
        ready: Ready = "";
        /// Started by the first connection instead of at boot; needs `listen`.
        on_demand: bool = "false";
        /// Exit codes that mean success, beside 0 and SIGTERM's 143.
        success_exit_codes: List<Number<0, 255>> = "[]";
        /// Time limits of this app.
        timeout: Timeout = "";
        /// How a roll of this app goes.
        reload: Reload = "";
        /// The sandbox's switches.
        sandbox: Sandbox = "";
        /// Directives of the worker's `[Service]` section, taken verbatim, after all others (`systemd.exec(5)`). Those that this program needs itself are refused, with the key to use instead.
        systemd: Map<Directive> = "{}";
        /// Limits of all workers of the app together: directives of `systemd.resource-control(5)` such as `MemoryHigh = "1G"`.
        limits: Map<Directive> = "{}";
    }
}

shape_table! {
    /// The sandbox's switches. True means that the restriction holds.
    pub struct Sandbox = "apps.X.sandbox" {
        /// `NoNewPrivileges=` and no capabilities: setuid programs gain nothing.
        privileges: bool = "true";
        /// `ProtectSystem=`: the system's files are read-only; all files (`strict`) without `user`, /usr, /boot and /etc (`full`) with it.
        system: bool = "true";
        /// `ProtectHome=`: /home, /root and /run/user are empty.
        home: bool = "true";
        /// `PrivateTmp=`: a /tmp and /var/tmp of its own. Without `user` systemd keeps it on whatever is written.
        tmp: bool = "true";
        /// `PrivateDevices=`: only pseudo devices such as /dev/null.
        devices: bool = "true";
        /// Kernel tunables, modules, logs, control groups, clock and host name are out of reach: by `Protect…=` what plain permissions leave open.
        kernel: bool = "true";
        /// `ProtectProc=invisible`: processes of other users are hidden.
        proc: bool = "true";
        /// `RestrictNamespaces=`: no new namespaces. Headless browsers want them: write false.
        namespaces: bool = "true";
        /// `RestrictAddressFamilies=`: IPv4, IPv6, unix and netlink sockets alone.
        families: bool = "true";
        /// `SystemCallFilter=@system-service` and what goes with it.
        syscalls: bool = "true";
        /// `PrivateUsers=`: a user namespace of its own. Not with `ready = "listen"`, which could not see into it.
        users: bool = "false";
    }
}

shape_table! {
    /// One listen address with options; one of `path` and `address`.
    pub struct ListenTable = "apps.X.listen" {
        /// Absolute path of a unix socket.
        path: String = "";
        /// A TCP address, or a port alone for both families.
        address: AddressText = "";
        /// Mode of a unix socket, octal in quotes; without it "0660" where `group` is written, else "0666".
        mode: Mode = "";
        /// Owner of a unix socket; without it root.
        owner: String = "";
        /// Group of a unix socket; without it root.
        group: String = "";
        /// Length of the accept queue; the kernel caps it at `net.core.somaxconn`.
        backlog: Number<1, 65535> = "4096";
    }
}

shape_table! {
    /// A readiness probe; one of `http` and `exec`.
    pub struct ReadyTable = "apps.X.ready" {
        /// Path of a GET to the worker's own port; needs `port`.
        http: String = "";
        /// A command that exits 0 when the worker is ready; runs as its user.
        exec: Command = "";
    }
}

/// Where a known key of another table belongs, in words.
pub fn home_of(key: &str) -> Option<String> {
    let tables: [(&str, &[KeyDoc]); 7] = [
        ("the top of the file", Cluster::KEYS),
        ("[api]", Api::KEYS),
        ("[timeout] or [apps.X.timeout]", Timeout::KEYS),
        ("[reload] or [apps.X.reload]", Reload::KEYS),
        ("[apps.X]", App::KEYS),
        ("[apps.X.sandbox]", Sandbox::KEYS),
        ("[reload.hooks] or [apps.X.reload.hooks]", Hooks::KEYS),
    ];
    tables.iter().find(|(_, keys)| keys.iter().any(|doc| doc.name == key)).map(|(home, _)| (*home).into())
}

/// The apps by name.
#[derive(Debug, Clone, Default)]
pub struct Apps(pub BTreeMap<String, At<AppEntry>>);

inline_schema!([] Apps, |generator| {
    let (app, count) = (generator.subschema_for::<App>(), generator.subschema_for::<Count>());
    json_schema!({ "type": "object", "additionalProperties": { "anyOf": [app, count] } })
});

impl Shape for Apps {
    fn type_name() -> String {
        "table of apps".into()
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let table = table::<Self>(node, findings)?;
        let mut apps = BTreeMap::new();
        for (name, entry) in &table.entries {
            findings.about(name.parse().ok());
            apps.extend(At::read(entry, findings).map(|entry| (name.clone(), entry)));
        }
        findings.about(None);
        Some(Self(apps))
    }
}

/// An app, in its long or its short form.
#[derive(Debug, Clone)]
pub enum AppEntry {
    /// `api = 4`.
    Short(Workers),
    /// `[apps.api]`.
    Full(Box<App>),
}

inline_schema!([] AppEntry, |generator| <App as schemars::JsonSchema>::json_schema(generator));

impl Shape for AppEntry {
    fn type_name() -> String {
        "table, number or \"auto\"".into()
    }
    fn expected() -> String {
        format!("a table such as [apps.api], or a number of workers: {}", Count::range())
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::Table(_) => App::read(node, findings).map(|app| Self::Full(Box::new(app))),
            Kind::Integer(_) | Kind::Text(_) => Count::read(node, findings).map(|count| Self::Short(count.0)),
            _ => {
                wrong_type::<Self>(node, findings);
                None
            }
        }
    }
}
