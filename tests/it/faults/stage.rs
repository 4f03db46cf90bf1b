//! Where a fault happens: an app under load in the middle of a reload, and a bystander. And how it ends: what is asserted of
//! every end, and the row that it leaves for `docs/faults.md`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::super::cluster::{ADDRESS, Cluster, SOON, drained as app, installed, instance};
use super::super::support::{Load, Output, Report, Running, Sandbox, evidence};

pub const HANDLE: &str = "project-cluster@api.service";
pub const MASTER: &str = "project-cluster.service";
pub const SOCKET: &str = "project-cluster-api-:::3000.socket";
pub const TARGET: &str = "project-cluster.target";

/// The ends that a roll may have. `mixed` names who is left, in the message of who waits.
pub const ALL_NEW: &str = "all new";
pub const HELD: &str = "all old, held";
pub const MIXED: &str = "mixed, held";
pub const STOPPED: &str = "stopped";

/// How many clients ask, each on a new connection a request.
const CLIENTS: usize = 4;

/// What they ask for: in flight most of the time, so that whoever is cut loses some.
const PATH: &str = "/sleep/20";

/// What `app.sh` of a release does where nothing else is said: plain Go, which SIGTERM ends at once.
pub const SERVES: &str = "exec hello-go 3000";

/// The same server, which ends what it has begun when SIGTERM comes.
pub const GRACEFUL: &str = "GRACEFUL=0 exec hello-go 3000";

/// Which requests may fail, and whose they are.
pub enum Lost {
    Nothing,
    /// Those that were in flight in what was killed: so many at most, none refused.
    Cut(u64, &'static str),
    /// The port was closed by who had the right to.
    Closed(&'static str),
}

/// An app `api` on port 3000, another app, and the load.
pub struct Stage {
    pub cluster: Cluster,
    load: Load,
    inode: String,
    other: Vec<i32>,
    target: usize,
    most: Cell<u32>,
}

impl std::ops::Deref for Stage {
    type Target = Cluster;
    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

/// What the app is: so many workers that run `app.sh` of their release.
pub fn toml(workers: u16, more: &str) -> String {
    let soak = if more.contains("min_ready") { "" } else { "\nreload.min_ready = \"100ms\"" };
    let api = app("api", workers, "sh app.sh", &format!("listen = 3000{soak}\n{more}"));
    format!("{api}{}", app("other", 1, "hello-go 3001", "listen = 3001"))
}

/// Three workers.
#[track_caller]
pub fn stage(more: &str) -> Stage {
    stage_of(3, more, SERVES)
}

/// So many workers whose first release does this; the second, which the reload is to, serves.
#[track_caller]
pub fn stage_of(workers: u16, more: &str, program: &str) -> Stage {
    let cluster = installed(&toml(workers, more));
    cluster.write("/srv/shop/v1/app.sh", program);
    cluster.write("/srv/shop/v2/app.sh", SERVES);
    cluster.write("/srv/shop/v3/app.sh", SERVES);
    cluster.cli(&["install", "--now"]).ok();
    Stage::on(cluster, usize::from(workers), ADDRESS)
}

impl Stage {
    /// A cluster that is up, with so many workers of `api`, and the load on this address.
    #[track_caller]
    pub fn on(cluster: Cluster, target: usize, address: &str) -> Self {
        let load = cluster.load(address).path(PATH).connections(CLIENTS).pause(Duration::from_millis(1)).start();
        load.wait_for_answers(20);
        let (inode, other) = (socket(&cluster), cluster.pids("other"));
        Self { load, inode, other, target, most: Cell::new(0), cluster }
    }

    /// A reload to the second release has begun, and its first new worker is ready.
    #[track_caller]
    pub fn half_way(&self) -> Running {
        let reload = self.begun();
        self.wait_until("a new worker is ready", SOON, || reload.stdout().contains("is ready") || !reload.runs());
        reload
    }

    /// A reload to the second release has begun.
    #[track_caller]
    pub fn begun(&self) -> Running {
        self.release("v2");
        let reload = self.spawn(&["project-cluster", "reload", "api"]);
        self.wait_until("the roll has begun", SOON, || reload.stdout().contains("starts") || !reload.runs());
        reload
    }

    /// A reload to a second release that does this, from its begin to its end.
    #[track_caller]
    pub fn deploys(&self, program: &str) -> Running {
        self.write("/srv/shop/v2/app.sh", program);
        self.begun()
    }

    /// The app has another number of workers from now on.
    pub fn now(mut self, target: usize) -> Self {
        self.target = target;
        self
    }

    /// Whoever stands in a slot, whatever the bus does: by the control groups alone. Two in a slot are the old one and the
    /// new one, a third is the old one's next, on the way back.
    #[track_caller]
    pub fn not_doubled(&self) {
        let found = self.sandbox.root("find /sys/fs/cgroup -type d -name 'project-cluster-api@*' 2>/dev/null || :").ok();
        let units: Vec<&str> = found.lines().filter_map(|line| line.rsplit('/').next()).collect();
        let mut slots = BTreeMap::<&str, u32>::new();
        units.iter().for_each(|unit| *slots.entry(instance(unit).split('.').next().unwrap()).or_default() += 1);
        let most = slots.values().copied().max().unwrap_or(0);
        assert!(most <= 3, "doubled: {units:?}");
        self.most.set(self.most.get().max(most));
    }

    /// Waits for the end of a command, and looks meanwhile that nobody is doubled.
    #[track_caller]
    pub fn ended(&self, command: Running) -> Output {
        self.wait_until("the command has ended", 4 * SOON, || {
            self.not_doubled();
            std::thread::sleep(Duration::from_millis(40));
            !command.runs()
        });
        command.wait(SOON)
    }

    /// The fault's end: the reload ends with this code, the app in this state, and no other request failed than may. Leaves
    /// the row; what the reload said.
    #[track_caller]
    pub fn ends(self, fault: &str, reload: Running, code: i32, end: &str, lost: Lost) -> Output {
        let output = self.ended(reload);
        assert_eq!(output.code, code, "{fault}: the reload exits with {}\n{}{}", output.code, output.stdout, output.stderr);
        if code == 1 {
            // Who waits is told more than that.
            assert!(!output.stderr.trim().is_empty(), "{fault}: it says nothing");
        }
        if end == ALL_NEW {
            assert!(self.most.get() <= 2, "{fault}: nobody came back, and yet three stood in a slot");
        }
        if end == MIXED {
            assert!(output.stderr.contains("Left in a mix: "), "{fault}: who is left is named: {}", output.stderr);
        }
        let told = format!("exit {code}");
        self.settles(fault, &told, end, lost);
        output
    }

    /// The same, where several were told how it ended, or nobody.
    #[track_caller]
    pub fn settles(self, fault: &str, told: &str, end: &str, lost: Lost) {
        self.wait_until(&format!("{fault}: nothing rolls any more"), 2 * SOON, || {
            self.cli_answers() && self.app("api")["roll"]["state"] != "running"
        });
        // Who cannot start is tried again and again, in a mix.
        let on_the_way: &[&str] = if end == MIXED { &["deactivating"] } else { &["activating", "deactivating"] };
        self.wait_until(&format!("{fault}: nobody is on the way"), 2 * SOON, || self.units("project-cluster-api@*", on_the_way).is_empty());
        let (state, workers) = (self.state(HANDLE), self.workers("api"));
        let held = !self.app("api")["held"].is_null();
        let generations = self.generations("api");
        let seen = match generations[..] {
            [] if state == "inactive" => STOPPED.to_owned(),
            [one] => format!("all {}{}", if one == 1 { "old" } else { "new" }, if held { ", held" } else { "" }),
            _ => format!("mixed{}", if held { ", held" } else { "" }),
        };
        assert_eq!(seen, end, "{fault}: {workers:?}\n{}", self.cli(&["show", "api"]).stdout);
        if end != STOPPED {
            assert_eq!(state, "active", "{fault}");
            let mut slots: Vec<&str> = workers.iter().map(|unit| instance(unit).split('.').next().unwrap()).collect();
            slots.sort_unstable();
            slots.dedup();
            assert_eq!(slots.len(), self.target, "{fault}: each slot is served: {workers:?}");
            // In a mix one may stand beside the one that was to replace it.
            assert!(workers.len() == self.target || end == MIXED, "{fault}: {workers:?}");
            if end != MIXED {
                assert_eq!(self.units("project-cluster-api@*", &["failed"]), Vec::<String>::new(), "{fault}");
            }
            self.load.wait_for_answers(10);
            if !matches!(lost, Lost::Closed(_)) {
                assert_eq!(socket(&self.cluster), self.inode, "{fault}: the socket is the same");
            }
        }
        assert_eq!(self.cluster.pids("other"), self.other, "{fault}: the other app has not noticed");
        let report = self.load.stop();
        judge(fault, &report, &lost);
        record(fault, &report, &lost, &seen, told);
    }

    /// Whether the master answers.
    fn cli_answers(&self) -> bool {
        self.run(&["project-cluster", "ls"]).success()
    }

    /// For a fault that takes the network, or the app, with it.
    pub fn into_parts(self) -> (Cluster, Load) {
        (self.cluster, self.load)
    }
}

/// The inode of the app's listening socket.
fn socket(cluster: &Sandbox) -> String {
    cluster.sh("ss -Hltne 'sport = :3000' | grep -o 'ino:[0-9]*' || :; ss -Hlx | awk '$5 ~ \"^/run/shop/\" { print $5, $6 }'").ok()
}

/// No request failed but those that may.
#[track_caller]
fn judge(fault: &str, report: &Report, lost: &Lost) {
    let only = |kinds: &[&str]| report.failed_by_kind.keys().all(|kind| kinds.contains(kind));
    match lost {
        Lost::Nothing => assert_eq!(report.failed(), 0, "{fault}: {report}\n{:#?}", report.samples),
        Lost::Cut(most, whose) => {
            assert!(
                only(&["eof", "reset"]) && report.failed() <= *most,
                "{fault}: {most} of {whose} at most: {report}\n{:#?}",
                report.samples
            );
        }
        Lost::Closed(whose) => assert!(only(&["eof", "reset", "refused"]), "{fault}: of {whose}: {report}\n{:#?}", report.samples),
    }
    assert!(report.ok >= 20 && report.sent == report.ok + report.failed(), "{fault}: {report}");
}

/// Leaves the row of this test below `target/faults`, where `tests/faults.sh` finds it.
pub fn record(fault: &str, report: &Report, lost: &Lost, end: &str, told: &str) {
    let whose = match lost {
        _ if report.failed() == 0 => "",
        Lost::Nothing => unreachable!("it was judged"),
        Lost::Cut(_, whose) | Lost::Closed(whose) => whose,
    };
    row(fault, report.sent, report.failed(), whose, end, told);
}

/// The same from figures.
pub fn row(fault: &str, sent: u64, failed: u64, whose: &str, end: &str, told: &str) {
    let whose = if whose.is_empty() { String::new() } else { format!(" ({whose})") };
    let name = evidence::test_name();
    let line = format!("| {fault} | {sent} | {failed}{whose} | {end} | {told} | `{}` |\n", name.replace('.', "::"));
    print!("{line}");
    let directory = evidence::target().join("faults");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join(name), line).unwrap();
}
