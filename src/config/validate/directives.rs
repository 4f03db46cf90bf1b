//! Directives taken verbatim: each is one line of a unit file and nothing more, and none takes the machinery apart.

use std::collections::BTreeMap;

use crate::config::finding::Findings;
use crate::config::key::{Key, nearest};
use crate::config::values::{Directive, Map};

/// Directives that this program writes itself, or that would take a worker out of its hands, and what to use instead.
const OURS: &[(&str, &str)] = &[
    ("BusName", "workers are ready by `ready`"),
    ("Delegate", "the workers' control groups are read by this program"),
    ("DynamicUser", "leave `user` out"),
    ("Environment", "use [apps.X.env], which no other user can read"),
    ("EnvironmentFile", "use [apps.X.env]: what a generation becomes is fixed when it is made"),
    ("FileDescriptorStoreMax", "a worker's LISTEN_FDS are its sockets alone"),
    ("FinalKillSignal", "a worker's end is SIGTERM, `timeout.kill`, SIGKILL"),
    ("Group", "use `group`"),
    ("GuessMainPID", "the main process is known"),
    ("KillMode", "a worker's end is SIGTERM, `timeout.kill`, SIGKILL"),
    ("KillSignal", "a worker's end is SIGTERM, `timeout.kill`, SIGKILL"),
    ("LogExtraFields", "the app's lines are found by the fields written there"),
    ("LogNamespace", "the app's lines would be in a journal that nobody reads"),
    ("NonBlocking", "each program sets its own sockets"),
    ("NotifyAccess", "use `ready = \"notify\"`"),
    ("OpenFile", "a worker's LISTEN_FDS are its sockets alone"),
    ("PAMName", "a PAM session puts a process between systemd and the worker"),
    ("PIDFile", "the main process is known"),
    ("PassEnvironment", "use [apps.X.env]"),
    ("PrivatePIDs", "the worker would be hidden from the step that sees whether it is ready"),
    ("PrivateUsers", "use `users` in [apps.X.sandbox]"),
    ("RemainAfterExit", "a worker without a process is no worker"),
    ("Restart", "a worker that ends is started again after `timeout.restart`"),
    ("RestartForceExitStatus", "use `success_exit_codes`"),
    ("RestartKillSignal", "a worker's end is SIGTERM, `timeout.kill`, SIGKILL"),
    ("RestartMaxDelaySec", "use `timeout.restart`"),
    ("RestartPreventExitStatus", "use `success_exit_codes`"),
    ("RestartSec", "use `timeout.restart`"),
    ("RestartSteps", "use `timeout.restart`"),
    ("RootDirectory", "the worker could not find its own start step there; use `cwd`"),
    ("RootImage", "the worker could not find its own start step there; use `cwd`"),
    ("RuntimeDirectory", "the worker's own is made already; use StateDirectory or CacheDirectory"),
    ("RuntimeDirectoryMode", "the worker's own is made already"),
    ("RuntimeDirectoryPreserve", "the worker's own is made already"),
    ("SendSIGKILL", "a worker's end is SIGTERM, `timeout.kill`, SIGKILL"),
    ("Slice", "use [apps.X.limits] for limits of all workers together"),
    ("Sockets", "use `listen`"),
    ("StandardError", "the journal is where logs are read"),
    ("StandardInput", "a worker has no input"),
    ("StandardOutput", "the journal is where logs are read"),
    ("SuccessExitStatus", "use `success_exit_codes`"),
    ("TimeoutSec", "use `timeout.start` and `timeout.kill`"),
    ("TimeoutStartSec", "use `timeout.start`"),
    ("TimeoutStartFailureMode", "use `timeout.start`"),
    ("TimeoutStopSec", "use `timeout.kill`"),
    ("TimeoutStopFailureMode", "use `timeout.kill`"),
    ("Type", "use `ready`"),
    ("UnsetEnvironment", "use [apps.X.env]"),
    ("User", "use `user`"),
    ("WorkingDirectory", "use `cwd`"),
];

/// Directives of `[Unit]`, which systemd would ignore in `[Service]`.
const UNIT: &[&str] = &[
    "After",
    "Before",
    "BindsTo",
    "Conflicts",
    "DefaultDependencies",
    "Description",
    "Documentation",
    "JoinsNamespaceOf",
    "OnFailure",
    "OnSuccess",
    "PartOf",
    "RefuseManualStart",
    "RefuseManualStop",
    "Requires",
    "RequiresMountsFor",
    "Requisite",
    "StartLimitAction",
    "StartLimitBurst",
    "StartLimitIntervalSec",
    "StopWhenUnneeded",
    "Upholds",
    "Wants",
];

/// What a slice can limit, `systemd.resource-control(5)` and, from 258 on, `systemd.slice(5)`.
const LIMITS: &[&str] = &[
    "AllowedCPUs",
    "AllowedMemoryNodes",
    "BPFProgram",
    "CPUAccounting",
    "CPUQuota",
    "CPUQuotaPeriodSec",
    "CPUWeight",
    "ConcurrencyHardMax",
    "ConcurrencySoftMax",
    "DefaultMemoryLow",
    "DefaultMemoryMin",
    "DeviceAllow",
    "DevicePolicy",
    "IOAccounting",
    "IODeviceLatencyTargetSec",
    "IODeviceWeight",
    "IOReadBandwidthMax",
    "IOReadIOPSMax",
    "IOWeight",
    "IOWriteBandwidthMax",
    "IOWriteIOPSMax",
    "IPAccounting",
    "IPAddressAllow",
    "IPAddressDeny",
    "IPEgressFilterPath",
    "IPIngressFilterPath",
    "ManagedOOMMemoryPressure",
    "ManagedOOMMemoryPressureDurationSec",
    "ManagedOOMMemoryPressureLimit",
    "ManagedOOMPreference",
    "ManagedOOMSwap",
    "MemoryAccounting",
    "MemoryHigh",
    "MemoryLow",
    "MemoryMax",
    "MemoryMin",
    "MemorySwapMax",
    "MemoryZSwapMax",
    "MemoryZSwapWriteback",
    "RestrictNetworkInterfaces",
    "SocketBindAllow",
    "SocketBindDeny",
    "StartupAllowedCPUs",
    "StartupAllowedMemoryNodes",
    "StartupCPUWeight",
    "StartupIOWeight",
    "StartupMemoryHigh",
    "StartupMemoryLow",
    "StartupMemoryMax",
    "StartupMemorySwapMax",
    "StartupMemoryZSwapMax",
    "TasksAccounting",
    "TasksMax",
];

/// Directives for the worker's `[Service]` section.
pub(super) fn service(key: &Key<Map<Directive>>, findings: &mut Findings) -> BTreeMap<String, Vec<String>> {
    directives(key, findings, |name| {
        // systemd itself is particular about case; who writes `execstart` means the same.
        let ours = OURS.iter().find(|(ours, _)| ours.eq_ignore_ascii_case(name)).map(|(_, instead)| (*instead).to_string());
        let exec = name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("exec")) && !name.eq_ignore_ascii_case("ExecPaths");
        let unit = UNIT.contains(&name) || name.starts_with("Condition") || name.starts_with("Assert");
        ours.or_else(|| exec.then(|| "use `command`; its start and stop steps are this program's own".into()))
            .or_else(|| unit.then(|| "it belongs into [Unit], and workers are ordered after nothing; drop it".into()))
    })
}

/// Directives for the slice of all workers.
pub(super) fn limits(key: &Key<Map<Directive>>, findings: &mut Findings) -> BTreeMap<String, Vec<String>> {
    let mut guesses = 0;
    directives(key, findings, |name| {
        if LIMITS.contains(&name) {
            return None;
        }
        // Nobody reads a hundred guesses, and a file has room for many thousand.
        guesses += 1;
        let near = if guesses > 100 { None } else { nearest(name, LIMITS.iter().copied()) };
        Some(near.map_or_else(
            || {
                "expected one of systemd.resource-control(5), such as MemoryHigh, CPUQuota or TasksMax; others go into [apps.X.systemd]"
                    .into()
            },
            |near| format!("did you mean `{near}`?"),
        ))
    })
}

/// The directives of a table; `refuse` says what to use instead of a name that may not be written.
fn directives(
    key: &Key<Map<Directive>>,
    findings: &mut Findings,
    mut refuse: impl FnMut(&str) -> Option<String>,
) -> BTreeMap<String, Vec<String>> {
    let Some(map) = key.value() else { return BTreeMap::new() };
    for (name, at) in &map.0 {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric()) || name.starts_with(|c: char| c.is_ascii_digit()) {
            let help = "expected a name such as MemoryMax, letters and digits alone";
            findings.error("bad-directive", &at.key, format!("`{name}` is no directive of systemd"), help);
        } else if let Some(instead) = refuse(name) {
            findings.error("directive-refused", &at.key, format!("`{name}` cannot be set here"), instead);
        }
        // A line break begins another directive, a backslash at the end swallows the next one.
        if at.value.0.iter().any(|value| value.chars().any(char::is_control) || value.ends_with('\\')) {
            let message = "the value is more than one line of a unit file";
            findings.error("bad-directive", &at.place, message, "expected no control character and no backslash at the end");
        }
    }
    map.0.iter().map(|(name, at)| (name.clone(), at.value.0.clone())).collect()
}
