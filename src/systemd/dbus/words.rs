//! systemd's words and object paths in our types. Pure.

use crate::systemd::{ActiveState, JobEnd};

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
    fn unit_paths_go_there_and_back() {
        let path = unit_path("project-cluster-api@1.2.3.service");
        assert_eq!(path, "/org/freedesktop/systemd1/unit/project_2dcluster_2dapi_401_2e2_2e3_2eservice");
        assert_eq!(unlabel(path.strip_prefix(UNITS).unwrap()).unwrap(), "project-cluster-api@1.2.3.service");
        assert_eq!(unlabel("a_"), None);
        assert_eq!(unlabel("a_zz"), None);
    }
}
