//! The sandboxes: a strict one for our own processes, and the worker's, each group of it one switch.
//!
//! Pure. Whatever is added to the worker's must be tried with Node, Python, Ruby, Go and Java first.

use crate::config::settings::{App, User, is_root};
use crate::units::model::Host;

use super::ini::Ini;

/// What all processes of our own bear: none of them needs a capability, a device, or the network (they speak over
/// unix sockets, and an inherited TCP listener works without). No `PrivateNetwork=`: it would hold for the `+` steps
/// too, and the master is to see accept queues.
const OURS: &[(&str, &str)] = &[
    ("CapabilityBoundingSet", ""),
    ("DevicePolicy", "closed"),
    ("IPAddressDeny", "any"),
    ("KeyringMode", "private"),
    ("LockPersonality", "yes"),
    ("MemoryDenyWriteExecute", "yes"),
    ("NoNewPrivileges", "yes"),
    ("PrivateDevices", "yes"),
    ("PrivateMounts", "yes"),
    ("PrivateTmp", "yes"),
    ("ProtectClock", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectHome", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("ProtectSystem", "strict"),
    ("RemoveIPC", "yes"),
    ("RestrictAddressFamilies", "AF_UNIX"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallErrorNumber", "EPERM"),
    ("UMask", "0077"),
];

/// The system calls of our own processes but the master: of short life, and one of them is `systemctl`.
pub(super) const CALLS: &[(&str, &str)] = &[("SystemCallFilter", "@system-service"), ("SystemCallFilter", "~@privileged @resources")];

/// The system calls of the master and of `journalctl`, which it runs: the fewest groups that hold what `strace` sees of both,
/// single calls beside them, and less what a group has that neither makes. `it::security` measures it.
pub(super) const MASTER_CALLS: &[(&str, &str)] = &[
    ("SystemCallFilter", "@default @basic-io @file-system @io-event @network-io @signal"),
    ("SystemCallFilter", "clone clone3 fork vfork wait4 waitid kill tgkill pidfd_open pidfd_send_signal prctl pipe2"),
    ("SystemCallFilter", "fsync fdatasync ioctl madvise mremap sysinfo timerfd_create timerfd_settime umask uname"),
    ("SystemCallFilter", "~bind listen link linkat symlink symlinkat mknod mknodat"),
    ("SystemCallFilter", "~setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr"),
];

/// Those of [`OURS`] that work here. A user's systemd has no capability to take away and no right to mount or to attach a
/// program to a control group; some keys are ignored there (252), others fail the start, and later versions bring a user
/// namespace for them, in which the readiness of workers could not be seen.
pub(super) fn ours(host: &Host) -> Vec<(&'static str, &'static str)> {
    OURS.iter().copied().filter(|(key, _)| !host.is_user() || ROOTLESS.contains(key)).collect()
}

/// What needs no right but to filter one's own calls.
const ROOTLESS: [&str; 11] = [
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "NoNewPrivileges",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "SystemCallArchitectures",
    "SystemCallErrorNumber",
    "SystemCallFilter",
    "UMask",
];

/// The worker's sandbox, switch by switch.
pub(super) fn worker(ini: &mut Ini, app: &App) {
    let switches = &app.sandbox;
    let strict = if matches!(app.user, User::Dynamic(_)) { "strict" } else { "full" };
    ini.say("The sandbox: each group is one key of [apps.X.sandbox] and is left out where that is false.");
    if switches.privileges {
        ini.set("NoNewPrivileges", "yes");
        if app.user != User::Own {
            ini.set("CapabilityBoundingSet", "");
        }
    }
    if switches.system {
        ini.all(&[("ProtectSystem", strict), ("PrivateMounts", "yes")]);
    }
    if switches.home {
        ini.set("ProtectHome", "yes");
    }
    if switches.tmp {
        ini.set("PrivateTmp", "yes");
    }
    if switches.devices {
        ini.set("PrivateDevices", "yes");
    }
    if switches.kernel {
        if may_try(app) {
            ini.all(&[("ProtectKernelTunables", "yes"), ("ProtectKernelModules", "yes")]);
        }
        ini.all(&[("ProtectKernelLogs", "yes"), ("ProtectControlGroups", "yes"), ("ProtectClock", "yes"), ("ProtectHostname", "yes")]);
    }
    if switches.proc {
        ini.set("ProtectProc", "invisible");
    }
    if switches.namespaces {
        ini.set("RestrictNamespaces", "yes");
    }
    if switches.families {
        ini.set("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX AF_NETLINK");
    }
    if switches.syscalls {
        ini.say("Beside the usual set: what the swap at bind uses, and @pkey, which Node asks for; a call outside gets EPERM, not a kill.")
            .all(&[
                ("SystemCallFilter", "@system-service seccomp pidfd_open pidfd_getfd process_vm_readv @pkey"),
                ("SystemCallErrorNumber", "EPERM"),
                ("SystemCallArchitectures", "native"),
                ("LockPersonality", "yes"),
                ("RestrictRealtime", "yes"),
                ("RestrictSUIDSGID", "yes"),
            ]);
    }
    if switches.users {
        ini.set("PrivateUsers", "yes");
    }
}

/// Whether plain permissions alone do not keep it from kernel tunables and modules. /proc/sys and /sys are root's to write, and
/// modules take a capability and system calls of a set that is not allowed: an unprivileged worker has none of these, and the
/// fourteen mounts of `ProtectKernelTunables=` alone would be a third of what its sandbox costs at each start (docs/benchmarks.md).
fn may_try(app: &App) -> bool {
    let root = matches!(&app.user, User::Named { user, .. } if is_root(user));
    root || !app.sandbox.privileges || !app.sandbox.syscalls
}
