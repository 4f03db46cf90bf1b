//! A shell in a throw-away systemd with the built `project-cluster` in it, as the tests have it:
//! `cargo run --example sandbox`, or with a command to run there. As root. It ends with the shell.

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let sandbox = support::Sandbox::start();
    eprintln!("{} is up after {:?}, its process 1 is {} here", sandbox.name(), sandbox.boot_took(), sandbox.pid());
    let mut command: Vec<String> = std::env::args().skip(1).collect();
    if command.is_empty() {
        command = ["bash", "-l"].map(String::from).to_vec();
    }
    let terminal = std::env::var("TERM").unwrap_or_else(|_| "dumb".into());
    // nsenter rather than `Sandbox::run`: a shell wants the terminal.
    let status = Command::new("nsenter")
        .args(["--all", "--target", &sandbox.pid().to_string(), "env", "--ignore-environment", &format!("TERM={terminal}"), "HOME=/root"])
        .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .args(command)
        .status();
    match status {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("cannot run nsenter: {error}");
            ExitCode::FAILURE
        }
    }
}
