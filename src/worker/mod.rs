//! A worker from its first step to its readiness: `prepare` (root), `exec` (becomes the app), `ready` (root, then the worker's
//! user). A hook goes the same way: `hook` (root), `exec`.
//!
//! These are programs that run once per start, so they are quick and small: std, libc and JSON, one thread, no runtime. They
//! must not know rolls or the master, and D-Bus only to ask PID 1 about a worker that keeps ending. What one hands the next lies in the worker's runtime directory:
//!
//! | file | written by | read by |
//! |---|---|---|
//! | `pin.json` | `prepare`, 0400 of the worker's user | `exec`, `ready`, `probe` |
//! | `sockets.json` | `exec` | `ready` |
//! | `listens.PID.N` | the bind supervisor, when the app listens on socket N | `ready` |
//! | `bell` | `ready`; a FIFO that `exec` and the supervisor ring after writing | `ready` |

mod again;
pub mod crashes;
pub mod error;
pub mod exec;
pub mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod hook;
pub mod inherited;
mod living;
pub mod paths;
pub mod pin;
pub mod ports;
pub mod prepare;
pub mod procfs;
pub mod published;
pub mod ready;
pub mod release;
pub mod store;
pub mod swap;
pub mod sys;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use error::{Error, Priority, say};
use paths::Paths;

/// Usage: `EXIT_INVALIDARGUMENT` of `systemd.exec(5)`; a unit was edited by hand.
const USAGE: u8 = 2;

/// Runs `project-cluster worker ...`; `args` are those behind `worker`. Only generated units call it:
///
/// - `prepare --cluster NAME --app APP --restart-ms N INSTANCE` (`ExecStartPre=+`)
/// - `hook --cluster NAME --app APP --kind KIND GEN` (`ExecStartPre=+` of a hook)
/// - `exec` (`ExecStart=`)
/// - `probe [--timeout-ms N]` (`ExecStartPost=`, where `ready` is a command)
/// - `ready --cluster NAME --app APP --timeout-ms N INSTANCE` (`ExecStartPost=+`)
///
/// `--root DIR` moves /var/lib and /run below another directory. Must be called with one thread and before any
/// descriptor is opened. Failures are said on stderr, one line with systemd's priority prefix.
pub fn main(args: &[OsString]) -> ExitCode {
    match dispatch(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(Priority::Error, &error.to_string());
            ExitCode::from(error.code())
        }
    }
}

fn dispatch(args: &[OsString]) -> Result<(), Error> {
    let mut words = args.iter().map(|word| word.to_str().ok_or_else(|| usage("an argument is not UTF-8")));
    let verb = words.next().transpose()?.unwrap_or_default();
    if verb == "exec" {
        return Err(exec::run());
    }
    let (mut cluster, mut app, mut instance, mut root, mut timeout, mut restart) = (None, None, None, None, None, None);
    let mut kind = None;
    while let Some(word) = words.next().transpose()? {
        let mut value = || words.next().transpose()?.ok_or_else(|| usage(&format!("`{word}` lacks its value")));
        match word {
            "--cluster" => cluster = Some(value()?.parse().map_err(|why| usage(&format!("--cluster: {why}")))?),
            "--app" => app = Some(value()?.parse().map_err(|why| usage(&format!("--app: {why}")))?),
            "--kind" => kind = Some(value()?.parse().map_err(|why| usage(&format!("--kind: {why}")))?),
            "--root" => root = Some(value()?),
            "--restart-ms" => restart = Some(value()?.parse().map_err(|why| usage(&format!("--restart-ms: {why}")))?),
            "--timeout-ms" => timeout = Some(value()?.parse().map_err(|why| usage(&format!("--timeout-ms: {why}")))?),
            _ if instance.is_none() && !word.starts_with('-') => instance = Some(word),
            _ => return Err(usage(&format!("`{word}` is not understood"))),
        }
    }
    let paths = root.map_or_else(|| crate::place::here().paths.clone(), |root| Paths::under(Path::new(root)));
    // The default of `timeout.start`.
    let timeout = timeout.map_or(Duration::from_secs(30), Duration::from_millis);
    if verb == "probe" {
        return ready::run_probe(main_pid()?, timeout);
    }
    let (Some(cluster), Some(app), Some(instance)) = (cluster, app, instance) else {
        return Err(usage("--cluster NAME --app APP INSTANCE are needed"));
    };
    match verb {
        "prepare" => {
            // The default of `timeout.restart`.
            let restart = restart.map_or(Duration::from_millis(100), Duration::from_millis);
            prepare::run(&cluster, &app, instance, &paths, restart)
        }
        "hook" => hook::prepare(&cluster, &app, kind.ok_or_else(|| usage("--kind KIND is needed"))?, instance, &paths),
        "ready" => ready::run(&cluster, &app, instance, &paths, main_pid()?, timeout),
        _ => Err(usage(&format!("`{verb}` is no step of a worker"))),
    }
}

/// `$MAINPID`, which systemd gives to `ExecStartPost=`.
fn main_pid() -> Result<u32, Error> {
    let pid = std::env::var("MAINPID").ok().and_then(|text| text.parse().ok());
    pid.ok_or_else(|| Error::new("MAINPID is not set: this step is a unit's `ExecStartPost=`; run `project-cluster install`"))
}

fn usage(why: &str) -> Error {
    Error::new(format!("project-cluster worker: {why}. Generated units call this with prepare, hook, exec, probe or ready; run `project-cluster install` to write them anew"))
        .with_code(USAGE)
}
