//! Memory and CPU of a control group, read from the kernel's own files.
//!
//! `cpu.stat` is always there on cgroup v2; `memory.current` only where the memory controller is, else the
//! resident sets of its processes are added up. Reads at most 1024 of them. It must not know workers.

use std::fs;
use std::path::{Path, PathBuf};

/// More processes than a worker has in practice; a fork bomb must not make `ls` slow.
const PROCESSES: usize = 1024;

/// What a control group uses; a figure that cannot be read is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes.
    pub memory: Option<u64>,
    /// Milliseconds.
    pub cpu_ms: Option<u64>,
}

/// Of the group at this path below the cgroup root, as systemd's `ControlGroup=` says it.
pub fn of(group: &str) -> Usage {
    if group.is_empty() || group.split('/').any(|part| part == "..") {
        return Usage::default();
    }
    // The unified hierarchy, or beside v1 (`systemd.unified_cgroup_hierarchy=0`, hybrid).
    let directory = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .iter()
        .map(|root| PathBuf::from(format!("{root}{group}")))
        .find(|path| path.join("cgroup.procs").exists());
    directory.map_or_else(Usage::default, |directory| Usage { memory: memory(&directory), cpu_ms: cpu(&directory) })
}

fn cpu(directory: &Path) -> Option<u64> {
    let stat = fs::read_to_string(directory.join("cpu.stat")).ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    line.parse::<u64>().ok().map(|us| us / 1000)
}

fn memory(directory: &Path) -> Option<u64> {
    if let Some(bytes) = fs::read_to_string(directory.join("memory.current")).ok().and_then(|text| text.trim().parse().ok()) {
        return Some(bytes);
    }
    let pids = fs::read_to_string(directory.join("cgroup.procs")).ok()?;
    // SAFETY: sysconf has no preconditions.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    let resident = |pid: &str| -> Option<u64> {
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        statm.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    Some(pids.lines().take(PROCESSES).filter_map(resident).sum::<u64>() * page)
}
