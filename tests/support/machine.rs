//! A virtual machine as tests use it: a kernel of its own, for what a [sandbox](super::Sandbox) cannot show.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::ground::Ground;
use super::qemu::{self, Qemu};
use super::running::Running;
use super::sandbox::Options;
use super::{apps, evidence, wait};

/// For a boot and for a way down. A boot takes five seconds on an idle machine, and minutes beside a dozen compilers.
const LIMIT: Duration = Duration::from_secs(400);

/// A virtual machine with a root of its own. It ends when this value is dropped, and when this process ends, however that
/// happens; a test's thread must not hand it to one that lives longer.
pub struct Machine {
    up: Option<Qemu>,
    files: PathBuf,
    disk: File,
    console: File,
}

impl Machine {
    /// Boots one, with the binary that was just built at /usr/bin/project-cluster, `tests/apps` at [`apps::INSIDE`] and the Go
    /// server.
    #[track_caller]
    pub fn start() -> Self {
        let how = "run `make proof-machine`, or PROJECT_CLUSTER_TEST_MACHINE=$(tests/machine.sh) cargo nextest run --profile proof";
        let files = std::env::var_os("PROJECT_CLUSTER_TEST_MACHINE");
        let files = PathBuf::from(files.unwrap_or_else(|| panic!("PROJECT_CLUSTER_TEST_MACHINE names no machine: {how}")));
        let size =
            fs::metadata(files.join("root.ext4")).unwrap_or_else(|error| panic!("{}/root.ext4: {error}: {how}", files.display())).len();
        let disk = qemu::overlay(size).expect("memory for an empty disk");
        let console = qemu::nameless(c"machine-console").expect("memory for an empty file");
        let mut machine = Self { up: None, files, disk, console };
        machine.boot();
        // Once: the disk keeps it.
        machine.run_with_input(&["tar", "-xf", "-", "-C", "/"], &brought()).ok();
        machine
    }

    /// Switches it on, with its disk as it is now; returns when all jobs of the boot are done.
    #[track_caller]
    pub fn boot(&mut self) {
        assert!(self.up.is_none(), "the machine is already up");
        let qemu = Qemu::start(&self.files, &self.disk, &self.console).unwrap_or_else(|error| panic!("no machine: {error}"));
        let there = qemu.channel.is_there_within(LIMIT);
        self.up = Some(qemu);
        assert!(there, "the machine does not boot\n--- console\n{}", self.console());
        wait::wait_until("all jobs of the boot are done", LIMIT, || {
            // It fails while systemd's bus is not there yet.
            let state = self.run(&["systemctl", "is-system-running", "--wait"]).stdout;
            matches!(state.trim(), "running" | "degraded")
        });
    }

    /// `systemctl reboot`, and the next boot. The duration is that of the way down.
    #[track_caller]
    pub fn reboot(&mut self) -> Duration {
        let took = self.goes_down("reboot");
        self.boot();
        took
    }

    /// `systemctl poweroff`; how long it took.
    #[track_caller]
    pub fn shutdown(&mut self) -> Duration {
        self.goes_down("poweroff")
    }

    #[track_caller]
    fn goes_down(&mut self, verb: &str) -> Duration {
        let started = Instant::now();
        // Its end is no news: it may be told, or the machine is gone before.
        let _asked = self.spawn(&["systemctl", verb]);
        assert!(self.up().ended_within(LIMIT), "the machine did not go down\n--- console\n{}", self.console());
        self.up = None;
        started.elapsed()
    }

    /// Power loss. What the machine had written to its disk is there at the next [`boot`](Self::boot), what it only meant to
    /// write is not.
    #[track_caller]
    pub fn power_off_hard(&mut self) {
        self.up();
        self.up = None;
    }

    #[track_caller]
    fn up(&self) -> &Qemu {
        self.up.as_ref().expect("the machine is down")
    }
}

impl Ground for Machine {
    fn launch(&self, command: &[&OsStr], input: Option<&[u8]>) -> io::Result<Running> {
        self.up.as_ref().ok_or_else(|| io::Error::other("the machine is down"))?.channel.spawn(command, input)
    }

    fn is_up(&self) -> bool {
        self.up.as_ref().is_some_and(|qemu| !qemu.ended_within(Duration::ZERO))
    }

    fn console(&self) -> String {
        // Not by this descriptor, whose position is where QEMU writes.
        let bytes = fs::read(format!("/proc/self/fd/{}", self.console.as_raw_fd())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn journal_files(&self) -> Option<PathBuf> {
        None
    }
}

impl Deref for Machine {
    type Target = dyn Ground;

    fn deref(&self) -> &Self::Target {
        self
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            evidence::gather(self);
        }
    }
}

/// What comes into every machine, as a tar.
#[track_caller]
fn brought() -> Vec<u8> {
    let binary = std::env::var_os("PROJECT_CLUSTER_BIN").map_or_else(Options::built, PathBuf::from);
    let binary = binary.canonicalize().unwrap_or_else(|error| panic!("{}: {error}; `cargo build` makes it", binary.display()));
    let (go, go_inside) = apps::go();
    let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps");
    let mut command = Command::new("tar");
    command.args(["--owner=0", "--group=0", "--mode=u=rwX,go=rX", "--absolute-names", "-c"]);
    for (from, to) in [(binary.as_path(), Path::new("/usr/bin/project-cluster")), (&go, &go_inside), (&servers, Path::new(apps::INSIDE))] {
        // No `|` is in any of them but by intent.
        command.arg(format!("--transform=s|^{}|{}|", from.display(), to.display()));
    }
    let packed = command.args([&binary, &go, &servers]).output().unwrap_or_else(|error| panic!("tar: {error}"));
    assert!(packed.status.success(), "tar: {}", String::from_utf8_lossy(&packed.stderr));
    packed.stdout
}
