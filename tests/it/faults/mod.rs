//! Faults in the middle of a reload, under load, on the real systemd: a test each. `make faults` runs them all and writes
//! `docs/faults.md` of what they saw; the default profile has the quickest (`.config/nextest.toml` names them).
//!
//! Each ends in the state that is written here, with no request lost but those that somebody else's hand has cut.

pub mod stage;

mod api;
mod drain;
mod host;
mod master;
mod steered;
mod systemd;
mod workers;

use std::collections::BTreeSet;

#[test]
fn the_document_has_a_row_for_each_fault() {
    let listed = std::process::Command::new(std::env::current_exe().unwrap()).args(["--list", "--format", "terse"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let tests: BTreeSet<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let faults: BTreeSet<&str> =
        tests.iter().copied().filter(|name| name.starts_with("faults::") && name.matches("::").count() > 1).collect();
    let document = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md")).unwrap();
    let rows: BTreeSet<&str> = document.lines().filter_map(|line| line.strip_suffix("` |")?.rsplit('`').next()).collect();
    let (on_a_machine, rows): (BTreeSet<&str>, BTreeSet<&str>) = rows.iter().partition(|name| name.starts_with("machine::"));
    assert_eq!(rows, faults, "`make faults` writes docs/faults.md");
    assert!(on_a_machine.iter().all(|name| tests.contains(name)), "`make faults` writes docs/faults.md: {on_a_machine:?}");
    assert!(faults.len() >= 45);
}
