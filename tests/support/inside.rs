//! Commands inside a sandbox: children of this process that live in the sandbox's namespaces, so they end with it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::process::PidFd;

/// How long a command may take where the caller says nothing else: far more than any job of a test, far less than the
/// time after which nextest ends a test.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Where a command runs.
pub enum Place<'a> {
    /// In the booted system, its process 1 held by this, as a member of this control group (an open `cgroup.procs`).
    Up(&'a PidFd, &'a File),
    /// In the root of a system that is down, seen from the holder's mount namespace.
    Down(&'a PidFd),
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command, for messages.
    pub command: String,
    /// Its exit code; 128 and the signal's number where a signal ended it.
    pub code: i32,
    /// What it wrote, each broken character replaced.
    pub stdout: String,
    /// What it wrote as errors, likewise.
    pub stderr: String,
    /// From its start to its end.
    pub took: Duration,
}

impl Output {
    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.code == 0
    }

    /// Panics with all that is known unless it exited with 0; its standard output without blanks around it.
    #[track_caller]
    pub fn ok(self) -> String {
        self.exits(0).stdout.trim().to_owned()
    }

    /// Panics with all that is known unless it exited with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert!(
            self.code == code,
            "`{}` exited with {} (expected {code}) after {:?}\n--- stdout\n{}--- stderr\n{}",
            self.command,
            self.code,
            self.took,
            self.stdout,
            self.stderr
        );
        self
    }
}

/// A command that runs inside; killed when dropped.
pub struct Running {
    command: String,
    child: Child,
    pidfd: PidFd,
    started: Instant,
    stdout: Pipe,
    stderr: Pipe,
}

/// A stream that a thread gathers.
pub(super) struct Pipe {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Pipe {
    /// Starts the thread.
    pub fn gather(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(count @ 1..) = stream.read(&mut chunk) {
                into.lock().expect("no holder panics").extend_from_slice(&chunk[..count]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    /// What came so far, each broken character replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no holder panics")).into_owned()
    }

    /// What a process that ended wrote. A grandchild may hold the stream open for ever: then what there is.
    pub fn finish(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            let end = Instant::now() + Duration::from_secs(1);
            while !reader.is_finished() && Instant::now() < end {
                thread::sleep(Duration::from_millis(1));
            }
        }
        self.text()
    }
}

impl Running {
    /// Its number inside the sandbox.
    pub fn pid(&self) -> i32 {
        let host = self.child.id();
        let status = std::fs::read_to_string(format!("/proc/{host}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        numbers.split_whitespace().last().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("`{}` has ended", self.command))
    }

    /// Sends it a signal (`libc::SIGINT`).
    pub fn signal(&self, signal: i32) {
        self.pidfd.signal(signal);
    }

    /// What it wrote so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it wrote as errors so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        !self.pidfd.ended_within(Duration::ZERO)
    }

    /// Waits for its end; panics with what it wrote when that lasts longer than `limit`.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Output {
        match self.try_wait(limit) {
            Some(output) => output,
            None => panic!(
                "`{}` did not end within {limit:?}\n--- stdout\n{}--- stderr\n{}",
                self.command,
                self.stdout.text(),
                self.stderr.text()
            ),
        }
    }

    /// Waits for its end; nothing when that lasts longer than `limit`.
    pub fn try_wait(&mut self, limit: Duration) -> Option<Output> {
        if !self.pidfd.ended_within(limit) {
            return None;
        }
        let took = self.started.elapsed();
        let status = self.child.wait().ok()?;
        Some(Output { command: self.command.clone(), code: code(status), stdout: self.stdout.finish(), stderr: self.stderr.finish(), took })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Reaps as well; both fail only when it was reaped before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// Starts a command in its place, with an environment of its own that owes nothing to this process.
pub fn spawn<S: AsRef<OsStr>>(place: &Place<'_>, arguments: &[S], input: Option<&[u8]>) -> io::Result<Running> {
    let words: Vec<String> = arguments.iter().map(|word| word.as_ref().to_string_lossy().into_owned()).collect();
    let (program, rest) = arguments.split_first().ok_or_else(|| io::Error::other("an empty command"))?;
    let mut command = Command::new(program);
    command
        .args(rest)
        .env_clear()
        .envs([("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/root"), ("LANG", "C.UTF-8")])
        .envs([("TERM", "dumb"), ("SYSTEMD_PAGER", "cat"), ("SYSTEMD_COLORS", "0"), ("SYSTEMD_URLIFY", "0")])
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let started = Instant::now();
    let mut child = match place {
        Place::Up(first, group) => spawn_up(&mut command, first.raw(), group.as_raw_fd())?,
        Place::Down(holder) => spawn_down(&mut command, holder.raw())?,
    };
    let pidfd = PidFd::open(i32::try_from(child.id()).map_err(io::Error::other)?)?;
    if let (Some(mut stdin), Some(bytes)) = (child.stdin.take(), input.map(<[u8]>::to_vec)) {
        // In a thread, since the command may write before it has read all. One that does not read at all breaks the
        // pipe, and what it then says is what counts.
        thread::spawn(move || stdin.write_all(&bytes));
    }
    let stdout = Pipe::gather(child.stdout.take().ok_or_else(|| io::Error::other("no stdout"))?);
    let stderr = Pipe::gather(child.stderr.take().ok_or_else(|| io::Error::other("no stderr"))?);
    Ok(Running { command: words.join(" "), child, pidfd, started, stdout, stderr })
}

fn spawn_up(command: &mut Command, first: i32, group: i32) -> io::Result<Child> {
    let enter = move || {
        // Into the control group of the sandbox's process 1, before the namespaces hide the way there.
        // SAFETY: a write of one byte that lives as long as the program.
        let moved = unsafe { libc::write(group, b"0".as_ptr().cast(), 1) };
        check(i32::from(moved == 1) - 1)?;
        let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWNET | libc::CLONE_NEWCGROUP;
        // SAFETY: system calls with integers and a constant string; async-signal-safe, as needed after fork.
        unsafe {
            check(libc::setns(first, namespaces))?;
            check(libc::setsid().min(0))?;
            check(libc::chdir(c"/".as_ptr()))
        }
    };
    // SAFETY: the closure makes system calls only and allocates nothing.
    unsafe { command.pre_exec(enter) };
    // The PID namespace is that of the children to come, and of this thread alone: hence a thread that ends after it.
    thread::scope(|scope| {
        scope
            .spawn(|| {
                // SAFETY: integers only; changes nothing but where this thread's children are born.
                check(unsafe { libc::setns(first, libc::CLONE_NEWPID) })?;
                command.spawn()
            })
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the spawning thread panicked")))
    })
}

fn spawn_down(command: &mut Command, holder: i32) -> io::Result<Child> {
    let enter = move || {
        // SAFETY: as in `spawn_up`.
        unsafe {
            check(libc::setns(holder, libc::CLONE_NEWNS))?;
            check(libc::chroot(c"/run/sandbox/root".as_ptr()))?;
            check(libc::chdir(c"/".as_ptr()))
        }
    };
    // SAFETY: the closure makes system calls only and allocates nothing.
    unsafe { command.pre_exec(enter) };
    command.spawn()
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
