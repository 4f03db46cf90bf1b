//! What the systemd inside tells: properties, processes of a unit, the journal.

use std::time::Duration;

use serde_json::Value;

use super::ground::Ground;
use super::wait;

impl dyn Ground + '_ {
    /// `journalctl` with these arguments (`["-u", "api@1", "-o", "cat"]`), after a sync so that nothing written before is
    /// missing.
    #[track_caller]
    pub fn journal(&self, arguments: &[&str]) -> String {
        self.root("journalctl --sync").ok();
        let mut command = vec!["journalctl", "--no-pager", "--quiet"];
        command.extend(arguments);
        // It exits with 1 where nothing matches.
        self.run(&command).stdout
    }

    /// Messages of one unit since the first boot, a line each.
    #[track_caller]
    pub fn journal_of(&self, unit: &str) -> String {
        self.journal(&["-u", unit, "-o", "cat"])
    }

    /// What processes of this identifier have written by standard output for these units, in order. With what journald knows no unit
    /// of: it reads a line behind its writer, and of a user's service that has ended by then it cannot tell.
    #[track_caller]
    pub fn written(&self, identifier: &str, units: &[String]) -> String {
        let json = self.journal(&[
            "-t",
            identifier,
            "-o",
            "json",
            "--output-fields=MESSAGE,_SYSTEMD_UNIT,_SYSTEMD_USER_UNIT",
            "_TRANSPORT=stdout",
        ]);
        let entries = json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|why| panic!("{line}: {why}")));
        let unit = |entry: &Value| {
            let known = |field: &str| entry[field].as_str().filter(|unit| !unit.starts_with("user@")).map(str::to_owned);
            known("_SYSTEMD_USER_UNIT").or_else(|| known("_SYSTEMD_UNIT"))
        };
        let mine = entries.filter(|entry| unit(entry).is_none_or(|unit| units.contains(&unit)));
        mine.map(|entry| match &entry["MESSAGE"] {
            Value::String(text) => format!("{text}\n"),
            // Bytes, where they are not all to be printed.
            bytes => format!("{}\n", String::from_utf8_lossy(&serde_json::from_value::<Vec<u8>>(bytes.clone()).unwrap())),
        })
        .collect()
    }

    /// Now, for `["--since", mark]`: what is written after this call, and nothing that was there before. Not a cursor, since
    /// journalctl 252 swallows the first match after a cursor whose own entry does not match.
    #[track_caller]
    pub fn journal_mark(&self) -> String {
        self.root("journalctl --sync").ok();
        self.run(&["date", "+@%s.%6N"]).ok()
    }

    /// `systemctl` with these arguments.
    #[track_caller]
    pub fn systemctl(&self, arguments: &[&str]) -> super::Output {
        let mut command = vec!["systemctl", "--no-pager"];
        command.extend(arguments);
        self.run(&command)
    }

    /// Writes a unit of the administrator's and lets systemd read it.
    #[track_caller]
    pub fn unit(&self, name: &str, text: &str) {
        self.write(format!("/etc/systemd/system/{name}"), text);
        self.systemctl(&["daemon-reload"]).ok();
    }

    /// One property of a unit, as `systemctl show` writes it.
    #[track_caller]
    pub fn property(&self, unit: &str, property: &str) -> String {
        self.systemctl(&["show", "--value", "-p", property, "--", unit]).ok()
    }

    /// `ActiveState` of a unit; `inactive` for one that is not there.
    #[track_caller]
    pub fn state(&self, unit: &str) -> String {
        self.property(unit, "ActiveState")
    }

    /// Waits until a unit is in this state.
    #[track_caller]
    pub fn wait_for_state(&self, unit: &str, state: &str, limit: Duration) {
        wait::wait_until(&format!("{unit} is {state}"), limit, || self.state(unit) == state);
    }

    /// The main process of a unit, its number inside; none where none runs.
    #[track_caller]
    pub fn main_pid(&self, unit: &str) -> Option<i32> {
        self.property(unit, "MainPID").parse().ok().filter(|&pid| pid != 0)
    }

    /// All processes of a unit's control group and the groups below, their numbers inside, ascending.
    #[track_caller]
    pub fn pids_of_unit(&self, unit: &str) -> Vec<i32> {
        let group = self.property(unit, "ControlGroup");
        if group.is_empty() {
            return Vec::new();
        }
        // The group may vanish meanwhile: then it holds no process.
        let script = r#"find "/sys/fs/cgroup$1" -name cgroup.procs -exec cat {} + 2>/dev/null || :"#;
        let found = self.run(&["sh", "-c", script, "pids", &group]).ok();
        let mut pids: Vec<i32> = found.lines().filter_map(|line| line.parse().ok()).collect();
        pids.sort_unstable();
        pids
    }

    /// Names of the loaded units that match this glob, in any of these states where some are given (`active`, `failed`).
    #[track_caller]
    pub fn units(&self, pattern: &str, states: &[&str]) -> Vec<String> {
        let states = if states.is_empty() { String::from("--all") } else { format!("--state={}", states.join(",")) };
        let listed = self.systemctl(&["list-units", "--all", "--plain", "--no-legend", "--full", &states, "--", pattern]).ok();
        listed.lines().filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
    }
}
