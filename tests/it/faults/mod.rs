//! Faults in the middle of a reload, under load, on the real systemd: a test each. `make faults` runs them all and writes
//! `docs/faults.md` of what they saw; the default profile has the quickest (`.config/nextest.toml` names them).
//!
//! Each ends in the state that is written here, with no request lost but those that somebody else's hand has cut.

pub mod stage;

mod api;
mod host;
mod master;
mod systemd;
mod workers;

use std::collections::BTreeSet;

/// Faults that need a kernel of one's own are tests of `machine`.
const ON_A_MACHINE: [&str; 3] = [
    "machine::a_worker_that_eats_memory_is_killed_at_its_limit_and_nobody_else",
    "machine::a_worker_that_forks_without_end_stops_at_its_limit_and_can_be_replaced",
    "machine::the_clock_an_hour_back_and_forth",
];

#[test]
fn the_document_has_a_row_for_each_fault() {
    let listed = std::process::Command::new(std::env::current_exe().unwrap()).args(["--list", "--format", "terse"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let tests = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    let tests: BTreeSet<&str> =
        tests.filter(|name| (name.starts_with("faults::") && name.matches("::").count() > 1) || ON_A_MACHINE.contains(name)).collect();
    let document = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md")).unwrap();
    let rows: BTreeSet<&str> = document.lines().filter_map(|line| line.strip_suffix("` |")?.rsplit('`').next()).collect();
    assert_eq!(rows, tests, "`make faults` writes docs/faults.md");
    assert!(tests.len() >= 45);
}
