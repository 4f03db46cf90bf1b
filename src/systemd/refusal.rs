//! What systemd refuses, in words that end with the next command to type. Pure.

use crate::names::unmask;

/// Whether this D-Bus error tells of the bus, or of PID 1 that is not on it at this moment (a new bus, a
/// daemon-reexec), and nothing of what was asked.
pub(super) fn is_of_the_bus(name: &str) -> bool {
    name.strip_prefix("org.freedesktop.DBus.Error.").is_some_and(|error| {
        matches!(error, "NoReply" | "Timeout" | "TimedOut" | "Disconnected" | "ServiceUnknown" | "NameHasNoOwner" | "NoServer")
            || error.starts_with("Spawn.")
    })
}

/// A refusal by its D-Bus error name and systemd's own words.
pub(super) fn told(name: &str, text: &str) -> String {
    let advice = match name.rsplit('.').next() {
        // "Unit X is masked."
        Some("UnitMasked") => format!("; somebody masked it: `{}`", unmask(text.split(' ').nth(1).unwrap_or("UNIT"))),
        Some("NoSuchUnit") if text.ends_with("not found.") => {
            "; there is no such unit file, or systemd has not read it: `sudo project-cluster install`".into()
        }
        // With polkit gone systemd says the same as when its rule says no.
        Some("AccessDenied" | "InteractiveAuthorizationRequired") => {
            "; polkit does not run, or lacks the rule that `project-cluster install` writes: `systemctl status polkit`".into()
        }
        _ => String::new(),
    };
    format!("{text} ({name}){advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_bus_says_is_no_refusal() {
        assert!(is_of_the_bus("org.freedesktop.DBus.Error.NoReply") && is_of_the_bus("org.freedesktop.DBus.Error.Spawn.ChildExited"));
        assert!(!is_of_the_bus("org.freedesktop.DBus.Error.AccessDenied") && !is_of_the_bus("org.freedesktop.systemd1.NoSuchUnit"));
    }

    #[test]
    fn a_refusal_ends_with_the_next_command() {
        let masked = told("org.freedesktop.systemd1.UnitMasked", "Unit api@1.service is masked.");
        assert!(masked.starts_with("Unit api@1.service is masked. (org."), "{masked}");
        assert!(masked.ends_with("`systemctl unmask api@1.service && systemctl unmask --runtime api@1.service`"), "{masked}");
        for name in ["org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"] {
            assert!(told(name, "Access denied").ends_with("`systemctl status polkit`"));
        }
        assert!(told("org.freedesktop.systemd1.NoSuchUnit", "Unit x.service not found.").ends_with("install`"));
        assert_eq!(
            told("org.freedesktop.systemd1.NoSuchUnit", "Unit x.service not loaded."),
            "Unit x.service not loaded. (org.freedesktop.systemd1.NoSuchUnit)"
        );
        assert_eq!(told("a.b.C", "No."), "No. (a.b.C)");
    }
}
