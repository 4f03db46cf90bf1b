//! Parses, dispatches, gives the exit code.
//!
//! `worker`, `drain`, `handle` and `master` are for systemd's unit files, not for people: they come before the command line's
//! own parser, because a worker's start should not pay for it.

use std::ffi::OsString;
use std::process::ExitCode;

use project_cluster::{cli, drain, handle, master, panics, place, say, worker};

fn main() -> ExitCode {
    panics::abort_on_all_others();
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut args = &args[..];
    // As units say it: in front of everything. A person may write it anywhere, and the command line sees to that.
    if let [user, verb, ..] = args
        && user == "--user"
        && ["worker", "drain", "handle", "master"].iter().any(|step| verb == step)
    {
        match place::Place::own() {
            Ok(own) => place::enter(own),
            Err(why) => {
                say::line(say::Priority::Error, &why);
                return ExitCode::from(2);
            }
        }
        args = &args[1..];
    }
    match args.first().and_then(|verb| verb.to_str()) {
        Some("worker") => worker::main(&args[1..]),
        Some("drain") => drain::main(&args[1..]),
        Some("handle") => handle::main(&args[1..]),
        Some("master") => master::main(&args[1..]),
        _ => cli::main(),
    }
}
