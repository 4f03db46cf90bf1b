//! What is open, kept and loaded: it must be at the end what it was at the start.

use std::time::{Duration, Instant};

use crate::support::Sandbox;

/// More than that is a leak, kilobytes. Allocators keep some of what a busy minute needed.
const SLACK_KIB: u64 = 6 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    pub units: u64,
    pub processes: u64,
    pub files: u64,
    pub descriptors_master: u64,
    pub descriptors_first: u64,
    pub memory_master: u64,
    pub memory_first: u64,
}

impl Resources {
    pub fn of(sandbox: &Sandbox) -> Self {
        let number = |script: &str| sandbox.sh(script).ok().parse().unwrap_or(u64::MAX);
        // Its own connection, to each.
        sandbox.sh("project-cluster ls > /dev/null; journalctl --sync").ok();
        let memory = |pid: &str| number(&format!("awk '/^Private_/ {{ sum += $2 }} END {{ print sum }}' /proc/{pid}/smaps_rollup"));
        let descriptors = |pid: &str| number(&format!("ls /proc/{pid}/fd | wc -l"));
        const MASTER: &str = "$(systemctl show --value -p MainPID project-cluster.service)";
        Self {
            units: number("systemctl list-units --all --plain --no-legend 'project-cluster*' | wc -l"),
            processes: number("ls -d /proc/[0-9]* | wc -l"),
            files: number("find /run/project-cluster /run/project-cluster-* /var/lib/project-cluster -type f | wc -l"),
            descriptors_master: descriptors(MASTER),
            descriptors_first: descriptors("1"),
            memory_master: memory(MASTER),
            memory_first: memory("1"),
        }
    }

    /// Those of now, once they are what they were or half a minute is over: what was asked last is on its way.
    pub fn settled(sandbox: &Sandbox, before: &Self) -> Self {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let now = Self::of(sandbox);
            if now.wrong(before).is_empty() || Instant::now() > end {
                return now;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Each, then and now, and whether it is well.
    pub fn rows(&self, before: &Self) -> [(&'static str, u64, u64, bool); 7] {
        let same = |what, then: u64, now: u64, slack: u64| (what, then, now, now <= then.saturating_add(slack));
        [
            same("units of the cluster", before.units, self.units, 0),
            // A kernel's or journald's helper may be there for a moment.
            same("processes", before.processes, self.processes, 3),
            // One roll and its generation of each app is kept, the histories of crashes are not there.
            same("files below /run and /var/lib", before.files, self.files, 8),
            same("descriptors of the master", before.descriptors_master, self.descriptors_master, 2),
            same("descriptors of process 1", before.descriptors_first, self.descriptors_first, 8),
            same("own memory of the master, KiB", before.memory_master, self.memory_master, SLACK_KIB),
            same("own memory of process 1, KiB", before.memory_first, self.memory_first, SLACK_KIB),
        ]
    }

    pub fn wrong(&self, before: &Self) -> Vec<String> {
        let bad = self.rows(before).into_iter().filter(|(.., well)| !well);
        bad.map(|(what, then, now, _)| format!("{what}: {then} before, {now} at the end")).collect()
    }
}
