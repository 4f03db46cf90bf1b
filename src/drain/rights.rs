//! Who a worker's processes are, and what it takes to look into them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Instant;

use super::look::LONGEST;
use crate::worker::procfs;
use crate::worker::ready::members::members;

/// Whether the kernel would let the worker's own user look into each of its processes: none is of another user, has
/// capabilities, hides itself or has a user namespace, and Yama is off.
pub(super) fn needs_no_capability(main: u32, ours: &[u32]) -> bool {
    let yama = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").map_or(0, |text| text.trim().parse().unwrap_or(3));
    let namespace = fs::read_link("/proc/self/ns/user").ok();
    let identity = |pid: u32| procfs::identity(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?);
    let Some(of_main) = identity(main).filter(|_| yama == 0) else { return false };
    let plain = |pid: u32| {
        let owner = fs::metadata(format!("/proc/{pid}/mem")).ok().map(|metadata| metadata.uid());
        identity(pid).is_none_or(|identity| {
            let one = [identity.uids, identity.gids].iter().all(|ids| ids.iter().all(|id| *id == ids[0]));
            let same = (identity.uids, identity.gids) == (of_main.uids, of_main.gids);
            let dumpable = owner == Some(identity.uids[0]) && identity.uids[0] != 0;
            one && same && dumpable && identity.permitted == 0 && fs::read_link(format!("/proc/{pid}/ns/user")).ok() == namespace
        })
    };
    // Of more than there is time for it is not known.
    let end = Instant::now() + LONGEST;
    members(main).into_iter().filter(|pid| !ours.contains(pid)).all(|pid| Instant::now() < end && plain(pid))
}

/// The user and group of a process.
pub(super) fn owner(pid: u32) -> Option<(u32, u32)> {
    let identity = procfs::identity(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)?;
    Some((identity.uids[1], identity.gids[1]))
}
