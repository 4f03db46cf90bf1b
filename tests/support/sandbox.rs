//! The sandbox as tests use it.

use std::ffi::OsStr;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::boot::{Booted, Holder};
use super::evidence;
use super::ground::Ground;
use super::inside::{self, Place};
use super::ordinary;
use super::running::Running;

/// How a sandbox is made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The root that is laid under the throw-away one; else what `PROJECT_CLUSTER_TEST_ROOT` names; else the machine's own.
    pub root: Option<PathBuf>,
    /// The program to put at /usr/bin/project-cluster; else what `PROJECT_CLUSTER_BIN` names; else [`Options::built`].
    pub binary: Option<PathBuf>,
    /// More files or directories to show inside, read-only: theirs, and where.
    pub shown: Vec<(PathBuf, PathBuf)>,
    /// More arguments for process 1 (`systemd.unit=basic.target`).
    pub init: Vec<String>,
    /// The root is a bare distribution: all of it is seen, /var too, and it gets no program. A package brings that.
    pub bare: bool,
    /// Leave it down; [`Sandbox::boot`] boots it.
    pub down: bool,
    /// Commands are those of an [ordinary user](super::ordinary) with a systemd of their own.
    pub ordinary: bool,
}

impl Options {
    /// The binary that cargo built along with this program.
    pub fn built() -> PathBuf {
        // Cargo says where it is to integration tests alone; beside an example it lies one directory up.
        match option_env!("CARGO_BIN_EXE_project-cluster") {
            Some(path) => PathBuf::from(path),
            None => evidence::target().join(if cfg!(debug_assertions) { "debug" } else { "release" }).join("project-cluster"),
        }
    }
}

/// A real systemd in a throw-away root and in namespaces of its own. It ends when this value is dropped, and when this
/// process ends, however that happens.
pub struct Sandbox {
    // Before the holder, so that it is dropped first.
    booted: Option<Booted>,
    holder: Holder,
    arguments: Vec<String>,
    ordinary: bool,
    boot_took: Duration,
}

impl Sandbox {
    /// Boots one as the environment says.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Boots one as told.
    #[track_caller]
    pub fn start_with(options: Options) -> Self {
        let started = Instant::now();
        let lower = options.root.or_else(|| std::env::var_os("PROJECT_CLUSTER_TEST_ROOT").map(PathBuf::from)).unwrap_or_else(|| "/".into());
        let mut shown = Vec::new();
        if !options.bare {
            let binary =
                options.binary.or_else(|| std::env::var_os("PROJECT_CLUSTER_BIN").map(PathBuf::from)).unwrap_or_else(Options::built);
            let binary = binary.canonicalize().unwrap_or_else(|error| panic!("{}: {error}; `cargo build` makes it", binary.display()));
            shown.push((binary, PathBuf::from("/usr/bin/project-cluster")));
        }
        shown.extend(node_from_elsewhere(&lower).map(|node| (node, PathBuf::from("/usr/local/bin/node"))));
        shown.extend(options.shown);
        let mut arguments: Vec<String> = shown.iter().map(|(from, to)| format!("--bind-ro={}:{}", from.display(), to.display())).collect();
        arguments.extend(options.init);
        let apps = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps");
        let holder = Holder::start(&lower, options.bare, &apps).unwrap_or_else(|error| panic!("no sandbox: {error}"));
        let mut sandbox = Self { booted: None, holder, arguments, ordinary: options.ordinary, boot_took: Duration::ZERO };
        if !options.down {
            sandbox.boot();
        }
        sandbox.boot_took = started.elapsed();
        sandbox
    }

    /// How long the start took, holder, root and boot.
    pub fn boot_took(&self) -> Duration {
        self.boot_took
    }

    /// Name of its control group, unique on the machine.
    pub fn name(&self) -> &str {
        self.holder.name()
    }

    /// Its process 1, as this process sees it. Panics while it is down.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.up().pid
    }

    /// The file that stands for its network namespace. A boot makes a new one.
    #[track_caller]
    pub fn netns(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.pid()))
    }

    #[track_caller]
    fn up(&self) -> &Booted {
        self.booted.as_ref().expect("the sandbox is down")
    }

    fn place(&self) -> Place<'_> {
        match &self.booted {
            Some(booted) => Place::Up(&booted.first, &booted.group),
            None => Place::Down(self.holder.pidfd()),
        }
    }

    /// Boots it again on the same files, as they are now.
    #[track_caller]
    pub fn boot(&mut self) {
        assert!(self.booted.is_none(), "the sandbox is already up");
        match self.holder.boot(&self.arguments) {
            Ok(booted) => {
                self.booted = Some(booted);
                if self.ordinary {
                    self.root(ordinary::SETUP).ok();
                }
            }
            Err(error) => panic!("the sandbox does not boot: {error}\n--- console\n{}", self.holder.console()),
        }
    }

    /// `systemctl reboot`, and the next boot. Files stay, /run and /tmp do not. The duration is that of the way down.
    #[track_caller]
    pub fn reboot(&mut self) -> Duration {
        let took = self.goes_down("RTMIN+5", 133);
        self.boot();
        took
    }

    /// A clean power off; how long it took.
    #[track_caller]
    pub fn shutdown(&mut self) -> Duration {
        self.goes_down("RTMIN+4", 0)
    }

    #[track_caller]
    fn goes_down(&mut self, signal: &str, code: i32) -> Duration {
        let started = Instant::now();
        self.up();
        // What `systemctl poweroff` and `reboot` ask for; systemd(1). Asked of process 1 itself, it works without D-Bus.
        self.root(&format!("exec bash -c 'kill -s {signal} 1'")).ok();
        let ended = self.holder.ended().unwrap_or_else(|error| panic!("the sandbox did not go down: {error}"));
        assert!(ended == code, "systemd-nspawn ended with {ended}, expected {code}\n--- console\n{}", self.holder.console());
        self.booted = None;
        started.elapsed()
    }

    /// Power loss: everything inside is gone at once. [`boot`](Self::boot) boots what was left on its file system.
    #[track_caller]
    pub fn power_off_hard(&mut self) {
        self.up().first.signal(libc::SIGKILL);
        self.holder.ended().unwrap_or_else(|error| panic!("the sandbox did not end: {error}"));
        self.booted = None;
    }

    /// Lets it live on after this process, and says how to get in and how to end it.
    pub fn keep(&mut self) -> String {
        if let Err(error) = self.holder.keep() {
            return format!("it cannot be kept: {error}");
        }
        let inside = self.booted.as_ref().map_or_else(
            || format!("nsenter -m -t {} chroot /run/sandbox/root bash", self.holder.pid()),
            |booted| format!("nsenter -a -t {} env -i TERM=$TERM PATH=/usr/sbin:/usr/bin:/sbin:/bin bash -l", booted.pid),
        );
        format!("a shell inside:  {inside}\nend it:          kill -9 {}", self.holder.pid())
    }
}

impl Ground for Sandbox {
    /// While it is down the command runs in its root alone.
    fn launch(&self, command: &[&OsStr], input: Option<&[u8]>) -> io::Result<Running> {
        if !self.ordinary {
            return self.launch_as_root(command, input);
        }
        let words = if self.booted.is_some() { ordinary::command(command) } else { ordinary::places(command) };
        let words: Vec<&OsStr> = words.iter().map(AsRef::as_ref).collect();
        Ok(self.launch_as_root(&words, input)?.translated(ordinary::said))
    }

    fn launch_as_root(&self, command: &[&OsStr], input: Option<&[u8]>) -> io::Result<Running> {
        inside::spawn(&self.place(), command, input)
    }

    fn is_up(&self) -> bool {
        self.booted.as_ref().is_some_and(|booted| !booted.first.ended_within(Duration::ZERO))
    }

    fn console(&self) -> String {
        self.holder.console()
    }

    fn journal_files(&self) -> Option<PathBuf> {
        Some(self.holder.root().join("var/log/journal"))
    }
}

impl Deref for Sandbox {
    type Target = dyn Ground;

    fn deref(&self) -> &Self::Target {
        self
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        evidence::gather(self);
        if keep_wanted() {
            let how = self.keep();
            eprintln!("KEEP: the sandbox lives on\n{how}");
        }
    }
}

/// Whether `KEEP=1` asks for sandboxes that outlive this program.
pub fn keep_wanted() -> bool {
    std::env::var_os("KEEP").is_some_and(|keep| !keep.is_empty() && keep != "0")
}

/// The machine's node where it lies in a home, which the throw-away root does not show.
fn node_from_elsewhere(lower: &Path) -> Option<PathBuf> {
    if lower != Path::new("/") {
        return None;
    }
    let path = std::env::var_os("PATH")?;
    let node = std::env::split_paths(&path).map(|directory| directory.join("node")).find(|node| node.is_file())?;
    let node = node.canonicalize().ok()?;
    let seen = ["/usr", "/bin", "/opt", "/lib"].iter().any(|root| node.starts_with(root));
    (!seen).then_some(node)
}
