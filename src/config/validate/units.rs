//! Unit names that systemd would not take. No two things of a cluster share one: `names` sees to that.

use crate::config::finding::Findings;
use crate::config::source::Place;
use crate::names::{AppName, AppUnits, ClusterName, Generation, Instance, Slot, UNIT_NAME_MAX};
use crate::place::Manager;

/// The names of an app that grow with its own: its slice and its longest worker.
pub(super) fn app(cluster: &ClusterName, manager: Manager, app: &AppName, place: &Place, findings: &mut Findings) {
    let units = AppUnits::new(cluster, app);
    length(&units.slice(manager), place, findings);
    let longest = Slot::new(Slot::MAX).map(|slot| Instance {
        slot,
        generation: Generation(u64::MAX),
        pin: Some(Generation(u64::MAX)),
        attempt: Instance::MAX_TRY,
    });
    if let Some(longest) = longest {
        length(&units.worker(&longest), place, findings);
    }
}

/// The slice of an app's hooks; their units have shorter names than workers.
pub(super) fn hooks(cluster: &ClusterName, manager: Manager, app: &AppName, place: &Place, findings: &mut Findings) {
    length(&AppUnits::new(cluster, app).hook_slice(manager), place, findings);
}

fn length(unit: &str, place: &Place, findings: &mut Findings) {
    if unit.len() > UNIT_NAME_MAX {
        findings.error(
            "unit-name",
            place,
            format!("this would need a unit name of {} bytes", unit.len()),
            format!("systemd takes at most {UNIT_NAME_MAX}; write a shorter name (each `-` counts four times)"),
        );
    }
}
