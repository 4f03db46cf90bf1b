//! What is left of a sandbox or a machine whose test failed: `target/sandbox-logs/TEST/`.

use std::fs;
use std::path::{Path, PathBuf};

use super::ground::Ground;

/// How much of the journal is printed beside the panic; all of it is in the directory.
const PRINTED: usize = 40;

/// Cargo's target directory: this program lies in `TARGET/PROFILE/deps` or `TARGET/PROFILE/examples`.
pub fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.ancestors().nth(3).map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), Path::to_path_buf)
}

/// The running test, or the program.
pub fn test_name() -> String {
    // libtest names its threads after their tests, but runs a lone test in `main`; nextest gives `--exact NAME`.
    let thread = std::thread::current().name().unwrap_or("main").to_owned();
    let name = if thread == "main" { std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or(thread) } else { thread };
    name.replace("::", ".").replace('/', "_")
}

/// Gathers journal, units, failed units, jobs, processes and console; prints where they are and the last lines. It panics
/// never, since it runs during a panic.
pub fn gather(ground: &dyn Ground) {
    let directory = target().join("sandbox-logs").join(test_name());
    if let Err(error) = fs::create_dir_all(&directory) {
        eprintln!("cannot keep the logs in {}: {error}", directory.display());
        return;
    }
    let mut journal = String::new();
    if ground.is_up() {
        let failed = "systemctl --failed --all --plain --no-legend | while read -r unit rest; do systemctl status --full --no-pager -n 50 \"$unit\"; done";
        journal = output(ground, &["journalctl", "--no-pager", "--merge", "-o", "short-precise"]);
        keep(&directory, "units.txt", &output(ground, &["systemctl", "list-units", "--all", "--full", "--no-pager"]));
        keep(&directory, "jobs.txt", &output(ground, &["systemctl", "list-jobs", "--full", "--no-pager"]));
        keep(&directory, "failed.txt", &output(ground, &["sh", "-c", failed]));
        keep(&directory, "processes.txt", &output(ground, &["ps", "axfww", "-o", "pid,user:20,stat,etimes,cgroup:80,args"]));
    }
    if let Some(files) = ground.journal_files().filter(|_| journal.is_empty()) {
        let read =
            std::process::Command::new("journalctl").args(["--no-pager", "--merge", "-o", "short-precise", "-D"]).arg(files).output();
        journal = read.map(|read| String::from_utf8_lossy(&read.stdout).into_owned()).unwrap_or_default();
    }
    keep(&directory, "journal.txt", &journal);
    keep(&directory, "console.txt", &ground.console());
    let lines: Vec<&str> = journal.lines().collect();
    eprintln!("--- last lines of the journal inside; more in {}", directory.display());
    for line in &lines[lines.len().saturating_sub(PRINTED)..] {
        eprintln!("{line}");
    }
    eprintln!("---");
}

fn output(ground: &dyn Ground, command: &[&str]) -> String {
    ground.try_run(command).map(|output| output.stdout + &output.stderr).unwrap_or_default()
}

fn keep(directory: &Path, name: &str, text: &str) {
    if let Err(error) = fs::write(directory.join(name), text) {
        eprintln!("cannot write {}/{name}: {error}", directory.display());
    }
}
