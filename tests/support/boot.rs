//! The holder of a sandbox and what boots in it: the processes, not what tests do with them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::process::{self, PidFd, readable_within};
use super::running::Pipe;

const SCRIPT: &str = include_str!("holder.sh");

/// For each step on the way up or down. A boot takes a third of a second on an idle machine; loaded ones are slower.
const LIMIT: Duration = Duration::from_secs(60);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The processes that keep a sandbox's root and namespaces alive, booted or not.
pub struct Holder {
    outer: Child,
    outer_fd: PidFd,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// What `stdout` gave beyond its last whole line.
    partial: Vec<u8>,
    complaints: Pipe,
    kept: bool,
    /// What systemd-nspawn tells while it boots.
    notify: Option<UnixDatagram>,
    inner: i32,
    inner_fd: PidFd,
    name: String,
}

/// A booted system.
pub struct Booted {
    /// Its process 1, as this process sees it.
    pub pid: i32,
    /// A hold on it.
    pub first: PidFd,
    /// `cgroup.procs` of its `init.scope`.
    pub group: File,
}

/// What the holder or systemd-nspawn says.
enum Event {
    Line(String),
    Notify(String),
}

impl Holder {
    /// Builds the throw-away root over `lower`, all of it where that is `bare`; `apps` is copied to /srv/apps.
    pub fn start(lower: &Path, bare: bool, apps: &Path) -> io::Result<Self> {
        // SAFETY: no arguments, no memory.
        if unsafe { libc::geteuid() } != 0 {
            return Err(io::Error::other("a sandbox needs root: run the tests as root (`sudo -E make test`)"));
        }
        let name = format!("project-cluster-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new("unshare");
        command
            // By way of the environment, so that `ps` stays readable.
            .args(["--mount", "sh", "-c", "eval \"$SANDBOX_SCRIPT\"", "holder", "outer"])
            .env_clear()
            .envs([("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")])
            .env("SANDBOX_SCRIPT", SCRIPT)
            .env("SANDBOX_NAME", &name)
            .env("SANDBOX_LOWER", lower)
            .env("SANDBOX_BARE", if bare { "yes" } else { "" })
            .env("SANDBOX_APPS", apps)
            .env("NOTIFY_SOCKET", format!("@{name}"))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let session = || {
            // SAFETY: no arguments, no memory; async-signal-safe.
            if unsafe { libc::setsid() } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        };
        // SAFETY: the closure makes one system call and allocates nothing.
        unsafe { command.pre_exec(session) };
        let mut outer = command.spawn()?;
        let pid = i32::try_from(outer.id()).map_err(io::Error::other)?;
        let stdin = outer.stdin.take();
        let stdout = outer.stdout.take().ok_or_else(|| io::Error::other("no stdout"))?;
        let stderr = outer.stderr.take().ok_or_else(|| io::Error::other("no stderr"))?;
        let mut holder = Self {
            outer_fd: PidFd::open(pid)?,
            inner_fd: PidFd::open(pid)?,
            outer,
            stdin,
            stdout,
            partial: Vec::new(),
            complaints: Pipe::gather(stderr),
            kept: false,
            notify: None,
            inner: 0,
            name,
        };
        let end = Instant::now() + LIMIT;
        match holder.event(end)? {
            Event::Line(line) if line == "ready" => {}
            Event::Line(text) | Event::Notify(text) => return Err(io::Error::other(format!("the holder says `{text}`, not `ready`"))),
        }
        let inner = process::descendants(pid).into_iter().find(|row| row.numbers.last() == Some(&1));
        holder.inner = inner.ok_or_else(|| io::Error::other("the holder's PID namespace has no process 1"))?.pid;
        holder.inner_fd = PidFd::open(holder.inner)?;
        Ok(holder)
    }

    /// Name of the sandbox's control group, unique on the machine.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A process in the mount namespace where the root lies at [`root`](Self::root), booted or not.
    pub fn pid(&self) -> i32 {
        self.inner
    }

    /// A hold on it.
    pub fn pidfd(&self) -> &PidFd {
        &self.inner_fd
    }

    /// The throw-away root, as this process can reach it. Absolute symlinks in it lead to the machine's own files.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/run/sandbox/root", self.inner))
    }

    /// What the booted system wrote to its console.
    pub fn console(&self) -> String {
        let bytes = std::fs::read(format!("/proc/{}/root/run/sandbox/console", self.inner)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Boots, with more arguments for systemd-nspawn and its process 1; returns when all jobs of the boot are done.
    pub fn boot(&mut self, arguments: &[String]) -> io::Result<Booted> {
        if let Some(odd) = arguments.iter().find(|argument| argument.contains(char::is_whitespace)) {
            return Err(io::Error::other(format!("`{odd}` holds a blank: the holder splits arguments at blanks")));
        }
        // An abstract address: nothing is left in the file system, whatever happens.
        let notify = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&self.name)?)?;
        notify.set_nonblocking(true)?;
        self.notify = Some(notify);
        self.say(&format!("boot {}\n", arguments.join(" ")))?;
        let end = Instant::now() + LIMIT;
        let mut leader = None;
        loop {
            match self.event(end)? {
                Event::Line(line) => return Err(io::Error::other(format!("systemd-nspawn {line}"))),
                Event::Notify(text) => {
                    if let Some(pid) = text.lines().find_map(|line| line.strip_prefix("X_NSPAWN_LEADER_PID=")) {
                        leader = Some(self.host_pid(pid)?);
                    }
                    if text.lines().any(|line| line == "READY=1") {
                        break;
                    }
                }
            }
        }
        // Closed, and not just left: systemd-nspawn passes on each `STATUS=` of process 1, once for every five seconds that a job
        // takes, and would wait for room in a queue that nobody reads, and process 1 for systemd-nspawn.
        self.notify = None;
        let pid = leader.ok_or_else(|| io::Error::other("systemd-nspawn never named its process 1"))?;
        let group = File::options().write(true).open(format!("/proc/{pid}/root/sys/fs/cgroup/init.scope/cgroup.procs"))?;
        Ok(Booted { pid, first: PidFd::open(pid)?, group })
    }

    /// Waits until systemd-nspawn has ended, and returns its exit code: 0 after a power off, 133 after a reboot.
    pub fn ended(&mut self) -> io::Result<i32> {
        let end = Instant::now() + LIMIT;
        loop {
            if let Event::Line(line) = self.event(end)? {
                let code = line.strip_prefix("ended ").and_then(|code| code.parse().ok());
                return code.ok_or_else(|| io::Error::other(format!("the holder says `{line}`")));
            }
        }
    }

    /// Lets the sandbox outlive this process.
    pub fn keep(&mut self) -> io::Result<()> {
        self.say("keep\n")?;
        self.kept = true;
        Ok(())
    }

    fn say(&mut self, words: &str) -> io::Result<()> {
        self.stdin.as_mut().ok_or_else(|| io::Error::other("the holder is gone"))?.write_all(words.as_bytes())
    }

    /// This process's number of the holder's child that knows itself as `pid` among the holder's own.
    fn host_pid(&self, pid: &str) -> io::Result<i32> {
        let pid: i32 = pid.trim().parse().map_err(io::Error::other)?;
        let found = process::descendants(self.inner).into_iter().find(|row| row.numbers.iter().rev().nth(1) == Some(&pid));
        Ok(found.ok_or_else(|| io::Error::other(format!("systemd-nspawn's child {pid} is not there")))?.pid)
    }

    fn event(&mut self, end: Instant) -> io::Result<Event> {
        loop {
            if let Some(at) = self.partial.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.partial.drain(..=at).collect();
                return Ok(Event::Line(String::from_utf8_lossy(&line).trim().to_owned()));
            }
            let mut buffer = [0; 4096];
            let left = end.saturating_duration_since(Instant::now());
            let mut sources = vec![self.stdout.as_raw_fd()];
            sources.extend(self.notify.as_ref().map(AsRawFd::as_raw_fd));
            match (readable_within(&sources, left), &self.notify) {
                (Some(1), Some(notify)) => {
                    let count = notify.recv(&mut buffer)?;
                    return Ok(Event::Notify(String::from_utf8_lossy(&buffer[..count]).into_owned()));
                }
                (Some(_), _) => match self.stdout.read(&mut buffer)? {
                    0 => return Err(io::Error::other(format!("the holder ended by itself: {}", self.complaints.finish().trim()))),
                    count => self.partial.extend_from_slice(&buffer[..count]),
                },
                (None, _) => return Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing within {LIMIT:?}"))),
            }
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.stdin.take());
        if self.kept {
            return;
        }
        if !self.outer_fd.ended_within(Duration::from_secs(20)) {
            eprintln!("the holder of {} did not end; killing it", self.name);
            self.inner_fd.signal(libc::SIGKILL);
            self.outer_fd.signal(libc::SIGKILL);
        }
        let _ = self.outer.wait();
    }
}
