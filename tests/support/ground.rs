//! The ground that a test stands on: a booted systemd, be it in a [sandbox](super::Sandbox) or in a [machine](super::Machine).
//!
//! A kind of ground starts commands, and that is all it has to be able to do: files are read and written, and systemd is
//! asked, by commands inside. What tests do with any of them stands here, in `systemd.rs` and nowhere twice.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::running::{COMMAND_LIMIT, Output, Running};
use super::wait;

/// A kind of ground.
pub trait Ground {
    /// Starts a command as root, with this as its standard input.
    fn launch(&self, command: &[&OsStr], input: Option<&[u8]>) -> io::Result<Running>;

    /// The same as root, where [`launch`](Self::launch) is somebody else's.
    fn launch_as_root(&self, command: &[&OsStr], input: Option<&[u8]>) -> io::Result<Running> {
        self.launch(command, input)
    }

    /// Whether it is booted.
    fn is_up(&self) -> bool;

    /// What the systems booted in it wrote to their console.
    fn console(&self) -> String;

    /// The journal's files, where they can be read while it is down.
    fn journal_files(&self) -> Option<PathBuf>;
}

impl dyn Ground + '_ {
    /// Runs a command as root, at most a minute. While a sandbox is down it runs in its root alone; a machine that is down runs none.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, command: &[S]) -> Output {
        self.spawn(command).wait(COMMAND_LIMIT)
    }

    /// Runs a shell script as root, also where commands are an ordinary user's; it stops at the first error.
    #[track_caller]
    pub fn root(&self, script: &str) -> Output {
        let command = ["sh", "-euc", script].map(OsStr::new);
        self.launch_as_root(&command, None).unwrap_or_else(|error| panic!("cannot run it there: {error}")).wait(COMMAND_LIMIT)
    }

    /// Runs a command as root, at most so long.
    #[track_caller]
    pub fn run_within<S: AsRef<OsStr>>(&self, limit: Duration, command: &[S]) -> Output {
        self.spawn(command).wait(limit)
    }

    /// Runs a command as root with this as its standard input.
    #[track_caller]
    pub fn run_with_input<S: AsRef<OsStr>>(&self, command: &[S], input: &[u8]) -> Output {
        self.started(command, Some(input)).wait(COMMAND_LIMIT)
    }

    /// As [`run`](Self::run), as this user (a name or a number) and its groups.
    #[track_caller]
    pub fn run_as<S: AsRef<OsStr>>(&self, user: &str, command: &[S]) -> Output {
        const SWITCH: &str = r#"user=$1; shift; exec setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups -- "$@""#;
        let mut switched: Vec<&OsStr> = ["sh", "-c", SWITCH, "run_as", user].map(OsStr::new).to_vec();
        switched.extend(command.iter().map(AsRef::as_ref));
        self.run(&switched)
    }

    /// Runs a shell script as root; it stops at the first error.
    #[track_caller]
    pub fn sh(&self, script: &str) -> Output {
        self.run(&["sh", "-euc", script])
    }

    /// Starts a command as root in the background; it ends with its handle.
    #[track_caller]
    pub fn spawn<S: AsRef<OsStr>>(&self, command: &[S]) -> Running {
        self.started(command, None)
    }

    /// As [`run`](Self::run), without a panic where it cannot run or takes too long.
    pub fn try_run<S: AsRef<OsStr>>(&self, command: &[S]) -> Option<Output> {
        self.launch(&words(command), None).ok()?.try_wait(COMMAND_LIMIT)
    }

    #[track_caller]
    fn started<S: AsRef<OsStr>>(&self, command: &[S], input: Option<&[u8]>) -> Running {
        self.launch(&words(command), input).unwrap_or_else(|error| panic!("cannot run it there: {error}"))
    }

    /// Writes a file, with its directories where they are missing; mode 0644 where it is new.
    #[track_caller]
    pub fn write(&self, path: impl AsRef<Path>, contents: impl AsRef<[u8]>) {
        // By a process inside, where symlinks lead to the files there and not to those of this machine.
        const WRITE: &str = r#"umask 022; mkdir -p "$(dirname "$1")"; cat > "$1""#;
        let command = ["sh".as_ref(), "-euc".as_ref(), WRITE.as_ref(), "write".as_ref(), path.as_ref().as_os_str()];
        self.run_with_input::<&OsStr>(&command, contents.as_ref()).ok();
    }

    /// Reads a file; broken characters are replaced.
    #[track_caller]
    pub fn read(&self, path: impl AsRef<Path>) -> String {
        self.run::<&OsStr>(&["cat".as_ref(), path.as_ref().as_os_str()]).exits(0).stdout
    }

    /// Whether the path exists, itself or what a symlink leads to.
    #[track_caller]
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.run::<&OsStr>(&["test".as_ref(), "-e".as_ref(), path.as_ref().as_os_str()]).success()
    }

    /// Sends a signal (`KILL`, `RTMIN+4`) to a process by its number inside.
    #[track_caller]
    pub fn kill(&self, pid: i32, signal: &str) {
        self.run(&["bash", "-c", r#"kill -s "$1" "$2""#, "kill", signal, &pid.to_string()]).ok();
    }

    /// Waits until this holds; on expiry panics with `what`, and what the ground knows is gathered as for any panic.
    #[track_caller]
    pub fn wait_until(&self, what: &str, limit: Duration, holds: impl FnMut() -> bool) {
        wait::wait_until(what, limit, holds);
    }
}

fn words<S: AsRef<OsStr>>(command: &[S]) -> Vec<&OsStr> {
    command.iter().map(AsRef::as_ref).collect()
}
