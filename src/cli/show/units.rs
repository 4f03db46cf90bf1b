//! What systemd says of units that the master does not: drop-ins, limits, when one became active and how it last ended.
//!
//! Asks `systemctl show`, which anybody may, once for all of them; without an answer in time nothing of it is shown. It knows
//! the type of each property of each kind of unit, which over D-Bus would be ours to know.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;

use crate::cli::time::now_ms;
use crate::journal::monotonic_us_now;

/// systemd answers in milliseconds, or hangs.
const LIMIT: Duration = Duration::from_secs(2);

/// Limits that a unit can have; what is not limited is left out.
const LIMITS: [&str; 8] =
    ["MemoryMax", "MemoryHigh", "MemorySwapMax", "CPUQuotaPerSecUSec", "TasksMax", "LimitNOFILE", "IOWeight", "CPUWeight"];

/// What is known of one unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Unit {
    /// Its name.
    pub unit: String,
    /// Files that change it.
    pub drop_ins: Vec<String>,
    /// Its limits, as systemd says them: bytes, numbers, `CPUQuotaPerSecUSec` a time. What is not limited is left out.
    pub limits: BTreeMap<String, String>,
    /// When it last became active, milliseconds of Unix time; null where it has not.
    pub active_since_ms: Option<u64>,
    /// How its main process last ended, an [Ended](#ended), where it has not been started again since; else null.
    pub ended: Option<Ended>,
}

/// How a main process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Ended {
    /// When, milliseconds of Unix time.
    pub time_ms: u64,
    /// `Result` of the unit: `success`, `exit-code`, `signal`, `oom-kill`, `timeout`, `watchdog`, ...
    pub result: String,
    /// Its exit code; null where a signal ended it.
    pub exit_code: Option<i32>,
    /// The number of the signal that ended it; null where it exited.
    pub signal: Option<i32>,
}

/// What systemd says of them; those that it does not know are left out.
pub async fn of(units: &[String]) -> Vec<Unit> {
    if units.is_empty() {
        return Vec::new();
    }
    let mut command = crate::place::here().tool("systemctl");
    command.args(["show", "--no-pager", "--property=Id,LoadState,DropInPaths,ActiveEnterTimestampMonotonic,Result,ExecMainCode"]);
    command.args(["--property=ExecMainStatus,ExecMainExitTimestampMonotonic", &format!("--property={}", LIMITS.join(",")), "--"]);
    command.args(units).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let Ok(Ok(output)) = tokio::time::timeout(LIMIT, command.output()).await else { return Vec::new() };
    let boot_ms = now_ms().saturating_sub(monotonic_us_now() / 1000);
    parse(&String::from_utf8_lossy(&output.stdout), boot_ms)
}

/// Of what `systemctl show` prints; `boot_ms` is when the monotonic clock was 0.
pub(super) fn parse(text: &str, boot_ms: u64) -> Vec<Unit> {
    text.split("\n\n").filter_map(|block| unit(block, boot_ms)).collect()
}

fn unit(block: &str, boot_ms: u64) -> Option<Unit> {
    let fields: BTreeMap<&str, &str> = block.lines().filter_map(|line| line.split_once('=')).collect();
    let field = |name: &str| fields.get(name).copied().filter(|value| !value.is_empty());
    if field("LoadState") == Some("not-found") {
        return None;
    }
    let moment = |name: &str| field(name)?.parse::<u64>().ok().filter(|us| *us > 0).map(|us| boot_ms.saturating_add(us / 1000));
    let number = |name: &str| field(name).and_then(|value| value.parse::<i32>().ok());
    // `si_code` of waitid(2): 1 exited, 2 and 3 were killed.
    let code = number("ExecMainCode").unwrap_or(0);
    let ended = moment("ExecMainExitTimestampMonotonic").filter(|_| code > 0).map(|time_ms| Ended {
        time_ms,
        result: field("Result").unwrap_or_default().to_owned(),
        exit_code: number("ExecMainStatus").filter(|_| code == 1),
        signal: number("ExecMainStatus").filter(|_| code != 1),
    });
    let limit = |name: &&str| {
        let value = field(name).filter(|value| !matches!(*value, "infinity" | "[not set]" | "18446744073709551615"))?;
        Some(((*name).to_owned(), value.to_owned()))
    };
    Some(Unit {
        unit: field("Id")?.to_owned(),
        drop_ins: field("DropInPaths").unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
        limits: LIMITS.iter().filter_map(limit).collect(),
        active_since_ms: moment("ActiveEnterTimestampMonotonic"),
        ended,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_as_systemctl_shows_them() {
        let text = "Id=a@1.service\nLoadState=loaded\nDropInPaths=/etc/a.conf /run/b.conf\nActiveEnterTimestampMonotonic=5000\nResult=signal\n\
            ExecMainCode=2\nExecMainStatus=9\nExecMainExitTimestampMonotonic=9000\nMemoryMax=536870912\nTasksMax=infinity\nIOWeight=[not set]\n\n\
            Id=b.slice\nLoadState=loaded\nDropInPaths=\nActiveEnterTimestampMonotonic=0\nMemoryMax=infinity\n\nId=c.service\nLoadState=not-found\n";
        let units = parse(text, 1_000_000);
        let ended = Ended { time_ms: 1_000_009, result: "signal".into(), exit_code: None, signal: Some(9) };
        let expected = Unit {
            unit: "a@1.service".into(),
            drop_ins: vec!["/etc/a.conf".into(), "/run/b.conf".into()],
            limits: [("MemoryMax".to_owned(), "536870912".to_owned())].into(),
            active_since_ms: Some(1_000_005),
            ended: Some(ended),
        };
        assert_eq!(units, [expected, Unit { unit: "b.slice".into(), ..Unit::default() }]);
    }
}
