//! Commands inside a sandbox: children of this process that live in the sandbox's namespaces, so they end with it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::process::PidFd;
use super::running::{ENVIRONMENT, Pipe, Process, Running};

/// Where a command runs.
pub enum Place<'a> {
    /// In the booted system, its process 1 held by this, as a member of this control group (an open `cgroup.procs`).
    Up(&'a PidFd, &'a File),
    /// In the root of a system that is down, seen from the holder's mount namespace.
    Down(&'a PidFd),
}

/// A child of this process.
struct Local {
    child: Child,
    pidfd: PidFd,
}

impl Process for Local {
    fn pid(&self) -> Option<i32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_whitespace().last()?.parse().ok()
    }

    fn signal(&self, signal: i32) {
        self.pidfd.signal(signal);
    }

    fn ended_within(&self, limit: Duration) -> bool {
        self.pidfd.ended_within(limit)
    }

    fn code(&mut self) -> Option<i32> {
        let status = self.child.wait().ok()?;
        Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
    }

    fn discard(&mut self) {
        // Reaps as well; both fail only when it was reaped before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a command in its place, with an environment of its own that owes nothing to this process.
pub fn spawn<S: AsRef<OsStr>>(place: &Place<'_>, arguments: &[S], input: Option<&[u8]>) -> io::Result<Running> {
    let words: Vec<String> = arguments.iter().map(|word| word.as_ref().to_string_lossy().into_owned()).collect();
    let (program, rest) = arguments.split_first().ok_or_else(|| io::Error::other("an empty command"))?;
    let mut command = Command::new(program);
    command
        .args(rest)
        .env_clear()
        .envs(ENVIRONMENT)
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
    Ok(Running::new(words.join(" "), Box::new(Local { child, pidfd }), stdout, stderr, started))
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
