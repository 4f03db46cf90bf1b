//! A cluster in a sandbox: what most tests here begin with.

use std::cell::Cell;
use std::time::Duration;

use serde_json::Value;

use super::support::sandbox::Options;
use super::support::{Ground, Output, Running, Sandbox, apps};

/// Long enough for anything that happens at all, on a machine under load.
pub const SOON: Duration = Duration::from_secs(20);

/// The address that the tests' app listens on.
pub const ADDRESS: &str = "127.0.0.1:3000";

/// A sandbox with this configuration installed and everything started.
#[track_caller]
pub fn cluster(toml: &str) -> Cluster {
    let cluster = installed(toml);
    cluster.cli(&["install", "--now"]).ok();
    cluster
}

/// A sandbox with this configuration in place and nothing installed yet.
#[track_caller]
pub fn installed(toml: &str) -> Cluster {
    let ordinary = ROOTLESS.get();
    let sandbox = Sandbox::start_with(Options { shown: vec![apps::go()], ordinary, ..Options::default() });
    Cluster::on(sandbox, toml)
}

thread_local! {
    /// Whether clusters are an ordinary user's: the test runs as one of `rootless`.
    static ROOTLESS: Cell<bool> = const { Cell::new(false) };
}

/// Runs a test's clusters as an ordinary user's, in a systemd of their own.
pub fn rootless(test: fn()) {
    ROOTLESS.set(true);
    test();
    ROOTLESS.set(false);
}

/// An app of four plain Node workers on port 3000 in `/srv/shop/current`.
pub fn node(workers: u16) -> String {
    app("api", workers, "node /srv/apps/hello.js 3000", "listen = 3000")
}

/// One app.
pub fn app(name: &str, workers: u16, command: &str, more: &str) -> String {
    let soak = if more.contains("min_ready") { "" } else { "reload.min_ready = \"200ms\"\n" };
    let kill = if more.contains("timeout.kill") { "" } else { "timeout.kill = \"2s\"\n" };
    // Old workers are gone when a roll is over, where a test is not about how they go.
    let drain = if more.contains("drain") { "" } else { "reload.drain = 0\n" };
    format!("[apps.{name}]\nworkers = {workers}\ncommand = \"{command}\"\ncwd = \"/srv/shop/current\"\n{kill}{soak}{drain}{more}\n")
}

/// One app whose workers are drained before they stop, for 2 s at most where nothing else is said: clients that keep their
/// connections would hold each for half a minute.
pub fn drained(name: &str, workers: u16, command: &str, more: &str) -> String {
    let drain = if more.contains("drain") { "" } else { "reload.drain = \"2s\"\n" };
    app(name, workers, command, &format!("{drain}{more}"))
}

/// Plain Node workers on port 3000 that run `app.js` of the release: [`HELLO`] in v1.
#[track_caller]
pub fn shop(workers: u16, more: &str) -> Cluster {
    let cluster = installed(&app("api", workers, "node app.js 3000", &format!("listen = 3000\n{more}")));
    cluster.program("v1", HELLO);
    cluster.cli(&["install", "--now"]).ok();
    cluster
}

/// An `app.js` that answers with its release.
pub const HELLO: &str = "require('/srv/apps/hello.js');";

/// Some ground, a sandbox where nothing else is said, with a cluster.
pub struct Cluster<G = Sandbox> {
    pub sandbox: G,
}

impl<G> std::ops::Deref for Cluster<G> {
    type Target = G;
    fn deref(&self) -> &G {
        &self.sandbox
    }
}

impl<G> std::ops::DerefMut for Cluster<G> {
    fn deref_mut(&mut self) -> &mut G {
        &mut self.sandbox
    }
}

impl<G: std::ops::Deref<Target = dyn Ground>> Cluster<G> {
    /// Puts this configuration in place there, and installs nothing.
    #[track_caller]
    pub fn on(ground: G, toml: &str) -> Self {
        let cluster = Self { sandbox: ground };
        cluster.config(toml);
        // What a deploy looks like: a symlink to the release.
        for release in ["v1", "v2", "v3"] {
            cluster.write(format!("/srv/shop/{release}/VERSION"), release);
        }
        cluster.release("v1");
        cluster
    }

    /// Writes the configuration.
    pub fn config(&self, toml: &str) {
        self.write("/etc/project-cluster/cluster.toml", toml);
    }

    /// Flips the symlink to a release; a broken one is named by a program of `/srv/apps/broken`.
    #[track_caller]
    pub fn release(&self, release: &str) {
        self.run(&["ln", "-sfn", &format!("/srv/shop/{release}"), "/srv/shop/current"]).ok();
    }

    /// Writes the `app.js` of a release.
    pub fn program(&self, release: &str, javascript: &str) {
        self.write(format!("/srv/shop/{release}/app.js"), javascript);
    }

    /// Deploys a release with this `app.js`, all but the reload.
    #[track_caller]
    pub fn deploy(&self, release: &str, javascript: &str) {
        self.program(release, javascript);
        self.write(format!("/srv/shop/{release}/VERSION"), release);
        self.release(release);
    }

    /// PIDs of the workers of an app that are up, ascending.
    pub fn pids(&self, app: &str) -> Vec<i32> {
        let mut pids: Vec<i32> = self.workers(app).iter().filter_map(|unit| self.main_pid(unit)).collect();
        pids.sort_unstable();
        pids
    }

    /// Runs the command line, at most two minutes.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = vec!["project-cluster"];
        command.extend(arguments);
        self.run_within(Duration::from_secs(120), &command)
    }

    /// The rows of `ls --json`.
    #[track_caller]
    pub fn ls(&self) -> Vec<Row> {
        let text = self.cli(&["ls", "--json"]).ok();
        let rows: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}"));
        rows.into_iter().map(Row).collect()
    }

    /// `show APP --json`.
    #[track_caller]
    pub fn app(&self, app: &str) -> Value {
        let text = self.cli(&["show", app, "--json"]).ok();
        serde_json::from_str::<Vec<Value>>(&text).unwrap_or_else(|why| panic!("{why}: {text}")).remove(0)
    }

    /// The worker units of an app that are up, without the master's help.
    pub fn workers(&self, app: &str) -> Vec<String> {
        self.units(&format!("project-cluster-{app}@*.service"), &["active"])
    }

    /// The generations of the workers of an app that are up, each once.
    pub fn generations(&self, app: &str) -> Vec<u64> {
        let mut generations: Vec<u64> =
            self.workers(app).iter().map(|unit| instance(unit).split(['.', '-']).nth(1).unwrap().parse().unwrap()).collect();
        generations.sort_unstable();
        generations.dedup();
        generations
    }

    /// Kills the main process of a worker and returns once systemd has brought it back.
    #[track_caller]
    pub fn crash(&self, unit: &str) {
        let pid = self.main_pid(unit).unwrap_or_else(|| panic!("{unit} does not run"));
        self.kill(pid, "KILL");
        // In this order: the state of before the crash must not count.
        let back = || self.main_pid(unit).is_some_and(|new| new != pid) && self.state(unit) == "active";
        self.wait_until(&format!("{unit} is back"), SOON, back);
    }

    /// A client that connects to the tests' app and waits for its answer: it exits with 0 when there is one, 1 when the
    /// connection ends without, 28 when nothing comes for a minute.
    pub fn client(&self) -> Running {
        let script = "import socket, sys\nclient = socket.create_connection(('127.0.0.1', 3000), 60)\ntry:\n    client.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')\n    sys.exit(0 if client.recv(99) else 1)\nexcept TimeoutError:\n    sys.exit(28)\n";
        self.spawn(&["python3", "-c", script])
    }

    /// The inode of the listening TCP socket on this port, by the kernel's own table.
    #[track_caller]
    pub fn socket_inode(&self, port: u16) -> String {
        let text = self.sh(&format!("ss -Hltne 'sport = :{port}' | grep -o 'ino:[0-9]*' | sort -u")).ok();
        assert_eq!(text.lines().count(), 1, "one listening socket on {port}, not: {text}");
        text
    }
}

/// `1.7.1` of `project-cluster-api@1.7.1.service`.
pub fn instance(unit: &str) -> &str {
    unit.split_once('@').unwrap().1.strip_suffix(".service").unwrap()
}

/// One row of `ls --json`.
pub struct Row(pub Value);

impl Row {
    pub fn uid(&self) -> &str {
        self.0["uid"].as_str().unwrap()
    }
    pub fn state(&self) -> &str {
        self.0["state"].as_str().unwrap()
    }
    pub fn pid(&self) -> i32 {
        self.0["pid"].as_i64().map_or(0, |pid| pid as i32)
    }
    pub fn generation(&self) -> u64 {
        self.0["generation"].as_u64().unwrap_or(0)
    }
}
