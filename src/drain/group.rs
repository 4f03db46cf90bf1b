//! Which processes are the worker's: those of the helper's own control group, which is the worker's too.

use std::fs;

/// Our own control groups, which are the worker's. Where it may make groups of its own, its steps are in `.control` below it.
pub(super) fn own_group() -> Vec<u8> {
    without_control(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default())
}

fn without_control(text: &str) -> Vec<u8> {
    text.lines().flat_map(|line| [line.strip_suffix("/.control").unwrap_or(line), "\n"]).collect::<String>().into_bytes()
}

/// Whether a process lives in this control group, or below it.
pub(super) fn is_member(pid: u32, group: &[u8]) -> bool {
    is_below(&fs::read(format!("/proc/{pid}/cgroup")).unwrap_or_default(), group)
}

/// Whether a process's control groups are these, or lie below them: those of systemd. On a host of cgroup v1 somebody may have
/// put a process into another group of processors, say, and it is of its unit all the same.
fn is_below(text: &[u8], group: &[u8]) -> bool {
    let is_systemd_s = |line: &&str| line.split(':').nth(1).is_some_and(|name| matches!(name, "" | "name=systemd"));
    let lines = |text: &[u8]| String::from_utf8_lossy(text).lines().filter(is_systemd_s).map(str::to_owned).collect::<Vec<_>>();
    let (theirs, ours) = (lines(text), lines(group));
    !ours.is_empty()
        && ours.len() == theirs.len()
        && ours
            .iter()
            .zip(&theirs)
            .all(|(ours, theirs)| theirs.strip_prefix(ours.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_of_the_worker_s_own_count() {
        let main = b"0::/system.slice/a.service\n";
        for (text, is) in [
            (&b"0::/system.slice/a.service\n"[..], true),
            (b"0::/system.slice/a.service/below\n", true),
            (b"0::/system.slice/a.service2\n", false),
            (b"0::/system.slice\n", false),
            (b"", false),
            (b"1:name=systemd:/x\n0::/system.slice/a.service\n", false),
            (b"2:cpuset:/x\n0::/system.slice/a.service\n", true),
            (b"2:cpuset:/system.slice/a.service\n0::/\n", false),
        ] {
            assert_eq!(is_below(text, main), is, "{}", String::from_utf8_lossy(text));
        }
        assert!(!is_below(b"", b""));
    }

    #[test]
    fn a_step_in_a_group_of_its_own_knows_the_worker_s() {
        let group = without_control("1:name=systemd:/system.slice/a.service/.control\n0::/system.slice/a.service/.control\n");
        assert_eq!(group, b"1:name=systemd:/system.slice/a.service\n0::/system.slice/a.service\n");
        assert!(is_below(b"1:name=systemd:/system.slice/a.service\n0::/system.slice/a.service/own\n", &group));
        assert!(!is_below(b"1:name=systemd:/system.slice/b.service\n0::/system.slice/b.service\n", &group));
        assert!(is_member(std::process::id(), &own_group()));
    }
}
