//! The processes of a worker: those of its control group, or, where it has none of its own, the main process and all it begot.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::worker::procfs;

/// Most processes that are looked at. A worker with more is judged by those; the diagnosis would say what is missing.
const MAX_PROCESSES: usize = 1024;
/// Most groups below a worker's own, where it delegates.
const MAX_GROUPS: usize = 64;

/// The worker's processes, without this one: `ExecStartPost=` runs in the same control group.
pub fn members(main: u32) -> BTreeSet<u32> {
    let text = fs::read_to_string(format!("/proc/{main}/cgroup")).unwrap_or_default();
    let (unified, named) = procfs::cgroups(&text);
    let roots = [("/sys/fs/cgroup", unified), ("/sys/fs/cgroup/unified", unified), ("/sys/fs/cgroup/systemd", named)];
    let groups = roots.into_iter().filter_map(|(root, group)| directory(root, group?));
    // On a hybrid host only one of them is a cgroup tree with this process in it.
    let found = groups.map(|group| processes(&group)).find(|found| found.contains(&main));
    let mut found = found.unwrap_or_else(|| descendants(main));
    found.remove(&std::process::id());
    found
}

/// Where a group lies; none for the root group, which holds other units' processes too, and for one outside of our namespace.
pub(in crate::worker) fn directory(root: &str, group: &str) -> Option<PathBuf> {
    let below = group.strip_prefix('/').filter(|below| !below.is_empty() && !below.split('/').any(|part| matches!(part, "" | "..")))?;
    Some(Path::new(root).join(below))
}

fn processes(group: &Path) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut groups = vec![group.to_owned()];
    let mut seen = 0;
    while let Some(group) = groups.pop() {
        let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).take(MAX_PROCESSES));
        seen += 1;
        if seen + groups.len() < MAX_GROUPS {
            let below =
                fs::read_dir(&group).into_iter().flatten().flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            groups.extend(below.map(|entry| entry.path()).take(MAX_GROUPS - seen));
        }
    }
    found
}

fn descendants(main: u32) -> BTreeSet<u32> {
    let (mut found, mut next) = (BTreeSet::from([main]), vec![main]);
    while let Some(process) = next.pop() {
        for task in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children = children.split_ascii_whitespace().filter_map(|child| child.parse().ok());
            next.extend(children.filter(|child| found.len() < MAX_PROCESSES && found.insert(*child)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_are_not_the_workers_own_are_not_used() {
        assert_eq!(directory("/sys/fs/cgroup", "/"), None);
        assert_eq!(directory("/sys/fs/cgroup", "/../../x"), None);
        // An absolute path behind the slash would take the place of the root.
        assert_eq!(directory("/sys/fs/cgroup", "//x"), None);
        assert_eq!(directory("/sys/fs/cgroup", "/system.slice/a.service"), Some("/sys/fs/cgroup/system.slice/a.service".into()));
    }

    #[test]
    fn a_process_and_its_children_are_members() {
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 30 & wait"]).spawn().unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while descendants(child.id()).len() < 2 && std::time::Instant::now() < end {
            std::thread::yield_now();
        }
        let found = descendants(child.id());
        for process in &found {
            let _ = std::process::Command::new("kill").arg(process.to_string()).status();
        }
        child.wait().unwrap();
        assert!(found.len() == 2 && found.contains(&child.id()), "{found:?}");
    }
}
