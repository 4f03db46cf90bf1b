//! systemd's words and object paths in our types. Pure.

use crate::systemd::{ActiveState, JobEnd, Verb};

/// Where units lie.
pub(super) const UNITS: &str = "/org/freedesktop/systemd1/unit/";

pub(super) fn active_state(word: &str) -> ActiveState {
    match word {
        "active" => ActiveState::Active,
        "reloading" | "refreshing" => ActiveState::Reloading,
        "activating" => ActiveState::Activating,
        "deactivating" => ActiveState::Deactivating,
        "failed" => ActiveState::Failed,
        // `inactive`, and `maintenance`, in which nothing runs.
        _ => ActiveState::Inactive,
    }
}

pub(super) fn job_end(word: &str) -> JobEnd {
    match word {
        "done" => JobEnd::Done,
        "canceled" => JobEnd::Canceled,
        "timeout" => JobEnd::Timeout,
        "dependency" => JobEnd::Dependency,
        "skipped" => JobEnd::Skipped,
        // `failed`, and words of a later systemd (`unsupported`, `once`, `collected`, ...): not done.
        _ => JobEnd::Failed,
    }
}

/// How a job ended whose signal was lost, by what its unit is now; `down` tells whether it was inactive or failed since the
/// job was asked for.
///
/// One that was and has restarts is up by a later try: its start failed, or went well and was over at once, which is told
/// as the same. A stop before its start leaves no restarts, and those of before the job are none since.
pub(super) fn unheard(verb: Verb, active: ActiveState, down: bool, restarts: u32) -> JobEnd {
    let reached = match verb {
        Verb::Start | Verb::Restart | Verb::Reload => {
            matches!(active, ActiveState::Active | ActiveState::Reloading) && !(down && restarts > 0)
        }
        Verb::Stop => matches!(active, ActiveState::Inactive | ActiveState::Failed),
    };
    if reached { JobEnd::Done } else { JobEnd::Failed }
}

/// The object path of a unit: everything but letters and digits becomes `_xx` (`sd_bus_path_encode(3)`).
pub(super) fn unit_path(unit: &str) -> String {
    let mut path = String::from(UNITS);
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && at > 0) {
            path.push(byte as char);
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

/// The unit of an object path's last part.
pub(super) fn unlabel(label: &str) -> Option<String> {
    let mut out = Vec::with_capacity(label.len());
    let mut bytes = label.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'_' {
            let (high, low) = (bytes.next()?, bytes.next()?);
            let digit = |byte: u8| (byte as char).to_digit(16);
            out.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_up_by_a_later_try_was_not_started() {
        use ActiveState::{Activating, Active, Failed, Inactive};
        use JobEnd::{Done, Failed as No};
        for (verb, active, down, restarts, end) in [
            (Verb::Start, Active, false, 0, Done),
            (Verb::Start, Active, true, 1, No),
            // It was on its way down when it was asked for; it was waiting for its third restart.
            (Verb::Start, Active, true, 0, Done),
            (Verb::Start, Active, false, 3, Done),
            (Verb::Start, Activating, true, 1, No),
            (Verb::Start, Failed, true, 0, No),
            (Verb::Restart, Active, true, 0, Done),
            (Verb::Restart, Active, true, 1, No),
            (Verb::Stop, Inactive, true, 0, Done),
            (Verb::Stop, Failed, true, 2, Done),
            (Verb::Stop, Active, false, 0, No),
        ] {
            assert_eq!(unheard(verb, active, down, restarts), end, "{verb} {active} {down} {restarts}");
        }
    }

    #[test]
    fn unit_paths_go_there_and_back() {
        let path = unit_path("project-cluster-api@1.2.3.service");
        assert_eq!(path, "/org/freedesktop/systemd1/unit/project_2dcluster_2dapi_401_2e2_2e3_2eservice");
        assert_eq!(unlabel(path.strip_prefix(UNITS).unwrap()).unwrap(), "project-cluster-api@1.2.3.service");
        assert_eq!(unlabel("a_"), None);
        assert_eq!(unlabel("a_zz"), None);
    }
}
