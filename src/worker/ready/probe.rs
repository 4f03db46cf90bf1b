//! `ready = { exec = ... }`: an `ExecStartPost=` of its own, as the worker's user inside its sandbox, that repeats a command
//! until it exits 0.

use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::config::settings::Ready;
use crate::worker::error::Error;
use crate::worker::exec;
use crate::worker::inherited::read_copy;
use crate::worker::sys::process;

/// How long one run may take before it is killed, with all it started.
const ONE_RUN: Duration = Duration::from_secs(5);
/// First pause between two runs; doubled up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(50);
/// A program start a second harms nobody.
const LONGEST: Duration = Duration::from_secs(1);
/// How much earlier than systemd's own limit the last run ends.
const MARGIN: Duration = Duration::from_millis(500);

/// Repeats the pin's command until it exits 0, at most a little less than `timeout`; ends at once when `main`, the worker's
/// main process, does. With any other `ready` there is nothing to do.
///
/// The command has the app's environment and directory. What it writes goes to the worker's journal.
pub fn run_probe(main: u32, timeout: Duration) -> Result<(), Error> {
    let end = Instant::now() + timeout.saturating_sub(MARGIN.min(timeout / 10));
    let copy = read_copy(&exec::runtime_directory()?)?;
    let Ready::Exec(command) = &copy.pin.ready else { return Ok(()) };
    let [program, arguments @ ..] = &command[..] else { return Err(Error::new("`ready` has no command: write one in `exec`")) };
    let gone = || Error::new(format!("the main process ({main}) of {} {} {}", copy.app, copy.instance, super::ENDED));
    let pidfd = process::pidfd_open(main).map_err(|_| gone())?;
    exec::enter(&copy)?;
    let environment = exec::environment(std::env::vars_os(), &copy);
    let mut pause = SHORTEST;
    loop {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&environment).stdin(Stdio::null()).process_group(0);
        let mut child = command.spawn().map_err(|error| {
            Error::new(format!("the `ready` command `{program}` of {} cannot be run: {error}; correct it and reload", copy.app))
        })?;
        let limit = ONE_RUN.min(end.saturating_duration_since(Instant::now()));
        let last = match watch(&mut child, &pidfd, limit)
            .map_err(|error| Error::new(format!("the `ready` command cannot be waited for: {error}")))?
        {
            Outcome::Ended(status) if status.success() => return Ok(()),
            Outcome::Ended(status) => status.to_string(),
            Outcome::Hung => format!("it was killed after {limit:?}"),
            Outcome::MainEnded => return Err(gone()),
        };
        let pausing = pause.min(end.saturating_duration_since(Instant::now()));
        if process::poll([pidfd.as_fd()], Some(pausing)).is_ok_and(|[events]| events != 0) {
            return Err(gone());
        }
        if Instant::now() >= end {
            return Err(Error::new(format!(
                "the `ready` command `{}` of {} did not succeed within {timeout:?}, the last time: {last}; run it by hand as the app's user, or raise `timeout.start`",
                command_line(program, arguments),
                copy.app
            )));
        }
        pause = (pause * 2).min(LONGEST);
    }
}

fn command_line(program: &str, arguments: &[String]) -> String {
    std::iter::once(program).chain(arguments.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

enum Outcome {
    Ended(ExitStatus),
    Hung,
    MainEnded,
}

/// Waits for a run; kills its whole process group when it hangs or the worker has ended.
fn watch(child: &mut Child, main: &std::os::fd::OwnedFd, limit: Duration) -> std::io::Result<Outcome> {
    let end = Instant::now() + limit;
    let own = process::pidfd_open(child.id())?;
    let outcome = loop {
        let remaining = end.saturating_duration_since(Instant::now());
        let [child_events, main_events] = process::poll([own.as_fd(), main.as_fd()], Some(remaining))?;
        if child_events != 0 {
            return child.wait().map(Outcome::Ended);
        }
        if main_events != 0 {
            break Outcome::MainEnded;
        }
        if remaining.is_zero() {
            break Outcome::Hung;
        }
    };
    process::kill_group(child.id(), libc::SIGKILL);
    child.wait()?;
    Ok(outcome)
}
