//! Validated settings: what the rest of the program knows of a configuration.
//!
//! Pure data. Every value here has passed validation (`config::validate`), so no other room checks again. The
//! same types, as JSON, are what `install` leaves for the master (without `env`) and for `prepare` (with it).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::revision::Revision;
use crate::formats;
use crate::names::{Address, AppName, ClusterName, HookKind};

/// Format of the JSON that `install` writes; raised when an older program could misread it.
///
/// 2: what is changed back has its revision's number again ([`Revision`]); a program that knows 1 would give such a number
/// to other settings.
pub const FORMAT: u32 = 2;

/// Where a program without a slash is looked up, and the `PATH` of workers; an app's own `env.PATH` wins in both.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Settings {
    /// [`FORMAT`] at the time of writing.
    pub format: u32,
    /// The cluster's name.
    pub name: ClusterName,
    /// The REST API.
    pub api: Api,
    /// The app types by name.
    pub apps: BTreeMap<AppName, App>,
}

impl Settings {
    /// The same without any `env`, nor what was installed earlier: all that the unprivileged master is told.
    pub fn without_env(&self) -> Self {
        let mut settings = self.clone();
        for app in settings.apps.values_mut() {
            app.env.clear();
            app.earlier.clear();
        }
        settings
    }
}

/// Where the REST API listens beside its unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "ApiSettings"))]
pub struct Api {
    /// Whether there is a TCP listener at all; the unix socket is always there. Default true.
    pub enabled: bool,
    /// Default 127.0.0.1.
    pub host: IpAddr,
    /// Default 8887, as in the original.
    pub port: u16,
    /// Who may use the TCP listener. Default [`Auth::Token`].
    #[serde(default)]
    pub auth: Auth,
}

/// Who may use the API over TCP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// Who sends a token that `install` or `project-cluster token add` made.
    #[default]
    Token,
    /// Whoever can connect; `host` is loopback then.
    None,
}

formats::numbered!(Settings, FORMAT);

/// One app type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "AppSettings"))]
pub struct App {
    /// Which of all that its workers were ever to become this is; the configuration does not know it.
    #[serde(default, skip_serializing_if = "Revision::is_first")]
    pub revision: Revision,
    /// What was installed before and makes other workers, the last one last, each under its number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<App>,
    /// How many workers.
    pub workers: Workers,
    /// Program and arguments; never empty.
    pub command: Vec<String>,
    /// Working directory; symlinks in it are resolved when a generation is pinned. `/` where none is written.
    pub cwd: PathBuf,
    /// Who the workers run as.
    pub user: User,
    /// Environment of the workers, beside what `exec` adds. The master never learns it.
    pub env: BTreeMap<String, String>,
    /// The shared listen addresses, in the order written: the order of `LISTEN_FDS`.
    pub listen: Vec<Listen>,
    /// Whether workers share sockets or have a port of their own.
    pub spawn: Spawn,
    /// Whether a `bind` of a declared address gets the inherited socket. Default true.
    pub swap: bool,
    /// What makes a worker ready.
    pub ready: Ready,
    /// Started by the first connection rather than at boot. Default false.
    pub on_demand: bool,
    /// Exit codes that mean success beside 0 and SIGTERM's 143.
    pub success_exit_codes: Vec<u8>,
    /// Time limits.
    pub timeout: Timeouts,
    /// How a roll goes.
    pub reload: Reload,
    /// How many generations that were current are kept to be rolled back to, beside the current one. Default 5. It is a key of
    /// `[reload]`.
    #[serde(default = "App::keep")]
    pub keep: u16,
    /// What runs beside the workers when a new generation comes.
    #[serde(default, skip_serializing_if = "Hooks::is_default")]
    pub hooks: Hooks,
    /// The sandbox's switches.
    pub sandbox: Sandbox,
    /// Directives of the worker's `[Service]` section taken verbatim, after all others.
    pub systemd: BTreeMap<String, Vec<String>>,
    /// Directives of the slice that holds all workers of the app, verbatim (`MemoryMax=`, ...).
    pub limits: BTreeMap<String, Vec<String>>,
}

impl App {
    /// [`App::keep`] where nothing is written, and of settings of a program that had no such key.
    pub const fn keep() -> u16 {
        5
    }
}

/// A number of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Workers {
    /// One per core that the cluster may use.
    PerCore,
    /// So many; 0 is an app that is declared and not started.
    Count(u16),
}

impl Workers {
    /// The number on a machine with so many cores, at most [`Slot::MAX`](crate::names::Slot::MAX).
    pub fn count(self, cores: usize) -> u16 {
        match self {
            Self::Count(count) => count,
            Self::PerCore => u16::try_from(cores).unwrap_or(u16::MAX).clamp(1, crate::names::Slot::MAX),
        }
    }
}

/// Who workers run as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum User {
    /// Who runs the cluster: in a user's own systemd nobody else can be had.
    Own,
    /// systemd's `DynamicUser=` under this explicit name, which collides with no account.
    Dynamic(String),
    /// An account of the system, and its group where another one than its own is written. `root` only when written.
    Named {
        /// The account.
        user: String,
        /// Its group, where not the account's own.
        group: Option<String>,
    },
}

/// Whether an account of this name is root: its id where that is written, or the name; validation refuses other names of it.
pub fn is_root(account: &str) -> bool {
    account == "root" || account.parse() == Ok(0_u32)
}

/// One shared listen address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Listen {
    /// Where.
    pub address: Address,
    /// Mode of a unix socket, default 0660 where a group is written, else 0666 as systemd's own default; none for TCP.
    pub mode: Option<u32>,
    /// Owner of a unix socket; default root.
    pub owner: Option<String>,
    /// Group of a unix socket; default root.
    pub group: Option<String>,
    /// Length of the accept queue. Default 4096; the kernel caps it at `net.core.somaxconn`.
    pub backlog: u32,
}

/// How workers get their port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Spawn {
    /// All workers share the sockets of `listen`.
    Cluster,
    /// Each worker has a `PORT` of its own, where `port` is written.
    Child {
        /// Slot 1's port; slot N has `port + N - 1`.
        port: Option<u16>,
        /// First and last port for the extra workers of a roll, inclusive.
        ports: Option<(u16, u16)>,
    },
}

/// What makes a worker ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// Some process of it accepts from every inherited socket (spawn "child": listens on its port).
    Listen,
    /// The app sends `READY=1` (`sd_notify(3)`).
    Notify,
    /// Its own port answers a GET of this path with 2xx or 3xx.
    Http(String),
    /// This command, run as the worker's user in its sandbox, exits 0; repeated until then.
    Exec(Vec<String>),
    /// It stays up for `min_ready`.
    None,
}

/// Time limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Timeouts {
    /// Until a started worker must be ready. Default 30 s.
    pub start: Duration,
    /// From SIGTERM to SIGKILL. Default 5 s.
    pub kill: Duration,
    /// From a worker's unexpected end to its next start; doubled from the third end in a row on, up to 30 s. Default 100 ms.
    pub restart: Duration,
}

/// How a roll goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reload {
    /// How many workers beyond the target may run meanwhile. Default 1.
    pub max_surge: Amount,
    /// How many workers short of the target may be ready meanwhile. Default 0.
    pub max_unavailable: Amount,
    /// How long a new worker must have been ready before an old one is touched. Default 1 s.
    pub min_ready: Duration,
    /// Of one roll, without the time for which it is paused. Default 10 min.
    pub deadline: Duration,
    /// How long a worker that is stopped may take to end its connections before SIGTERM. Default 30 s; 0: SIGTERM at once.
    #[serde(default = "drain")]
    pub drain: Duration,
    /// Who sees to it that they end. Default [`DrainBy::Outside`].
    #[serde(default)]
    pub drain_by: DrainBy,
    /// How many new workers stand trial beside all old ones before the rest follows. Default 0.
    #[serde(default = "Reload::no_canary")]
    pub canary: Amount,
    /// How long each of them must have been ready. Default 30 s.
    #[serde(default = "Reload::some_bake")]
    pub bake: Duration,
    /// What comes of a failure before the roll has turned back. Default `Abort`.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// How many workers may live at once, those on their way down too. Default twice the target, and never fewer than a roll
    /// needs.
    #[serde(default)]
    pub max_live: Option<Amount>,
}

impl Reload {
    fn no_canary() -> Amount {
        Amount::Count(0)
    }
    fn some_bake() -> Duration {
        Duration::from_secs(30)
    }
    /// How many workers may live at once, of so many wanted.
    pub fn live(&self, target: u16) -> u16 {
        self.max_live.unwrap_or(Self::TWICE).up(target)
    }
    /// `max_live` where nobody says otherwise.
    pub const TWICE: Amount = Amount::Percent(200);
}

impl Default for Reload {
    fn default() -> Self {
        Self {
            max_surge: Amount::Count(1),
            max_unavailable: Amount::Count(0),
            min_ready: Duration::from_secs(1),
            deadline: Duration::from_secs(600),
            drain: DRAIN,
            drain_by: DrainBy::Outside,
            canary: Self::no_canary(),
            bake: Self::some_bake(),
            on_failure: OnFailure::default(),
            max_live: None,
        }
    }
}

/// Where settings of an older program do not say; its units drain nothing until the next `install`.
fn drain() -> Duration {
    DRAIN
}

/// The default of `drain`.
pub const DRAIN: Duration = Duration::from_secs(30);

/// Who drains a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DrainBy {
    /// We: its shared sockets are taken out of its epoll sets before SIGTERM.
    #[default]
    Outside,
    /// The app itself, at SIGTERM, within `timeout.kill`.
    #[serde(rename = "self")]
    Itself,
}

impl App {
    /// How long its workers are drained before SIGTERM; none where they are not.
    pub fn drain(&self) -> Option<Duration> {
        let drained = self.reload.drain_by == DrainBy::Outside && !self.listen.is_empty();
        Some(self.reload.drain).filter(|drain| drained && !drain.is_zero())
    }

    /// The longest that a worker takes from being asked to stop to its SIGKILL.
    pub fn stop_limit(&self) -> Duration {
        self.drain().unwrap_or_default().saturating_add(self.kill_limit())
    }

    /// From SIGTERM to SIGKILL as its unit has it: systemd's one limit covers the start of the step that drains, too, before
    /// that has asked for more.
    pub fn kill_limit(&self) -> Duration {
        if self.drain().is_some() { self.timeout.kill.max(LEAST_KILL) } else { self.timeout.kill }
    }
}

/// A program starts within that, on a machine that has other things to do.
const LEAST_KILL: Duration = Duration::from_secs(2);
/// What runs once for each new generation: program and arguments of each, never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Hooks {
    /// Before its first worker starts.
    pub before: Option<Vec<String>>,
    /// Once it serves.
    pub after: Option<Vec<String>>,
    /// When it does not.
    pub failed: Option<Vec<String>>,
    /// How long each may take. Default 5 min.
    pub timeout: Duration,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { before: None, after: None, failed: None, timeout: Duration::from_secs(300) }
    }
}

impl Hooks {
    /// Whether there is nothing to write down.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
    /// The command of a hook, where there is one.
    pub fn command(&self, kind: HookKind) -> Option<&[String]> {
        match kind {
            HookKind::Before => &self.before,
            HookKind::After => &self.after,
            HookKind::Failed => &self.failed,
        }
        .as_deref()
    }
    /// The hooks that there are.
    pub fn kinds(&self) -> impl Iterator<Item = HookKind> {
        HookKind::ALL.into_iter().filter(|kind| self.command(*kind).is_some())
    }
}

/// What comes of a failure before a roll has turned back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The new workers go, the old ones stay, and the app is held.
    #[default]
    Abort,
    /// All stay as they are until a person decides.
    Pause,
}

/// A number of workers, or a share of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// So many.
    Count(u16),
    /// So many percent of the target.
    Percent(u16),
}

impl Amount {
    /// `2` or `10%`, without needless zeros, at most so many workers and so many percent.
    pub fn parse(text: &str, workers: u16, percent: u16) -> Option<Self> {
        let number = |text: &str| text.parse::<u16>().ok().filter(|number| number.to_string() == text);
        match text.strip_suffix('%') {
            Some(text) => number(text).filter(|share| *share <= percent).map(Self::Percent),
            None => number(text).filter(|count| *count <= workers).map(Self::Count),
        }
    }
    /// Of `target`, a share rounded up (`max_surge`, as Kubernetes does).
    pub fn up(self, target: u16) -> u16 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => u16::try_from((u32::from(target) * u32::from(percent)).div_ceil(100)).unwrap_or(u16::MAX),
        }
    }
    /// Of `target`, a share rounded down (`max_unavailable`).
    pub fn down(self, target: u16) -> u16 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => u16::try_from(u32::from(target) * u32::from(percent) / 100).unwrap_or(u16::MAX),
        }
    }
}

/// The sandbox of a worker: what an ordinary app does not notice is on by default; each switch is one key.
/// True means that the restriction holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[allow(clippy::struct_excessive_bools, reason = "switches of systemd.exec(5), independent of each other")]
pub struct Sandbox {
    /// `NoNewPrivileges=` and an empty `CapabilityBoundingSet=`: setuid programs gain nothing. Needed by swap.
    pub privileges: bool,
    /// `ProtectSystem=`: `strict` under a dynamic user, else `full`.
    pub system: bool,
    /// `ProtectHome=`: /home, /root and /run/user are empty.
    pub home: bool,
    /// `PrivateTmp=`: a /tmp of its own.
    pub tmp: bool,
    /// `PrivateDevices=`: only pseudo devices.
    pub devices: bool,
    /// `ProtectKernelLogs=`, `ProtectControlGroups=`, `ProtectClock=`, `ProtectHostname=`; of root, or where `privileges` or
    /// `syscalls` is off, `ProtectKernelTunables=` and `Modules=` too: others have no right to what these close.
    pub kernel: bool,
    /// `ProtectProc=invisible`: processes of other users are hidden.
    pub proc: bool,
    /// `RestrictNamespaces=`: no new namespaces (headless browsers want them).
    pub namespaces: bool,
    /// `RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK`.
    pub families: bool,
    /// `SystemCallFilter=@system-service` and what the swap needs, `SystemCallArchitectures=native`, `LockPersonality=`, `RestrictRealtime=`, `RestrictSUIDSGID=`.
    pub syscalls: bool,
    /// `PrivateUsers=`: a user namespace of its own. Default false.
    pub users: bool,
}

impl Sandbox {
    /// What holds in a user's own systemd: what a process may do to itself, without a mount or a namespace.
    pub fn rootless() -> Self {
        let none = Self { system: false, home: false, tmp: false, devices: false, kernel: false, proc: false, ..Self::default() };
        Self { privileges: true, namespaces: true, families: true, syscalls: true, ..none }
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            privileges: true,
            system: true,
            home: true,
            tmp: true,
            devices: true,
            kernel: true,
            proc: true,
            namespaces: true,
            families: true,
            syscalls: true,
            users: false,
        }
    }
}
