//! Memory and CPU of control groups, read from the kernel's own files when somebody asks.
//!
//! `cpu.stat` is always there on cgroup v2; `memory.current` only where the memory controller is, else the
//! resident sets of its processes are added up, at most 1024 of them. Most of the time of `ls` would go into these files, so
//! each is read in one go, and what was read is good for a second. It must not know workers.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

/// More processes than a worker has in practice; a fork bomb must not make `ls` slow.
const PROCESSES: usize = 1024;
/// A number of that many digits is in any of the files, and 1024 numbers of processes are.
const FILE: usize = 8 * PROCESSES;
/// How old a figure may be.
pub const FRESH: Duration = Duration::from_secs(1);

/// What a control group uses; a figure that cannot be read is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes.
    pub memory: Option<u64>,
    /// Milliseconds.
    pub cpu_ms: Option<u64>,
}

/// What was read in the last second.
#[derive(Debug, Default)]
pub struct Usages {
    read: HashMap<String, Usage>,
    since: Option<Instant>,
}

impl Usages {
    /// Of the group at this path below the cgroup root, as systemd's `ControlGroup=` says it; at most [`FRESH`] old.
    pub fn of(&mut self, group: &str) -> Usage {
        if self.since.is_none_or(|since| since.elapsed() >= FRESH) {
            // Also those of groups that are gone.
            self.read.clear();
            self.since = Some(Instant::now());
        }
        if let Some(usage) = self.read.get(group) {
            return *usage;
        }
        let usage = read(group);
        self.read.insert(group.to_owned(), usage);
        usage
    }
}

fn read(group: &str) -> Usage {
    if group.is_empty() || group.split('/').any(|part| part == "..") {
        return Usage::default();
    }
    let mut buffer = [0; FILE];
    // The unified hierarchy, or beside v1 (`systemd.unified_cgroup_hierarchy=0`, hybrid).
    for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let directory = format!("{root}{group}");
        if let Some(stat) = text(format!("{directory}/cpu.stat"), &mut buffer) {
            let cpu_ms = cpu(stat);
            return Usage { memory: memory(&directory, &mut buffer), cpu_ms };
        }
    }
    Usage::default()
}

/// The beginning of a file, all of it where it fits.
fn text(path: impl AsRef<Path>, buffer: &mut [u8]) -> Option<&str> {
    let count = File::open(path).ok()?.read(buffer).ok()?;
    str::from_utf8(&buffer[..count]).ok()
}

fn cpu(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    line.parse::<u64>().ok().map(|us| us / 1000)
}

fn memory(directory: &str, buffer: &mut [u8]) -> Option<u64> {
    if let Some(bytes) = text(format!("{directory}/memory.current"), buffer).and_then(|text| text.trim().parse().ok()) {
        return Some(bytes);
    }
    let pids = text(format!("{directory}/cgroup.procs"), buffer)?;
    // SAFETY: sysconf has no preconditions.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    let resident = |pid: &str| -> Option<u64> {
        let mut buffer = [0; 128];
        text(format!("/proc/{pid}/statm"), &mut buffer)?.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    Some(pids.lines().take(PROCESSES).filter_map(resident).sum::<u64>() * page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_figure_is_good_for_a_second_and_one_that_cannot_be_read_is_absent() {
        let mut usages = Usages::default();
        for group in ["", "/../etc", "/no.slice/such.service"] {
            assert_eq!(usages.of(group), Usage::default(), "{group}");
        }
        let known = Usage { memory: Some(1), cpu_ms: Some(2) };
        usages.read.insert("/a.service".into(), known);
        tokio::time::advance(FRESH - Duration::from_millis(1)).await;
        assert_eq!(usages.of("/a.service"), known);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(usages.of("/a.service"), Usage::default());
    }

    #[test]
    fn the_kernel_s_own_words() {
        assert_eq!(cpu("usage_usec 55850\nuser_usec 16426\n"), Some(55));
        assert_eq!(cpu("user_usec 1\n"), None);
        let group = tempfile::tempdir().unwrap();
        let path = group.path().to_str().unwrap();
        std::fs::write(group.path().join("cgroup.procs"), format!("{}\n999999999\n", std::process::id())).unwrap();
        assert!(memory(path, &mut [0; FILE]).unwrap() > 100_000, "this process");
        std::fs::write(group.path().join("memory.current"), "4096\n").unwrap();
        assert_eq!(memory(path, &mut [0; FILE]), Some(4096));
    }
}
