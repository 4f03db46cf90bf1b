//! Unit names: no two things of a cluster share one, and none is longer than systemd takes.

use std::collections::BTreeMap;

use crate::config::finding::Findings;
use crate::config::source::Place;
use crate::names::{Address, AppName, AppUnits, ClusterName, Generation, Instance, Slot};

/// systemd's `UNIT_NAME_MAX`, 256 with the byte that ends it.
const MAX_UNIT: usize = 255;

/// The unit names in use, by whom, and where that is written (nowhere for the cluster's own).
#[derive(Debug)]
pub(super) struct UnitNames(BTreeMap<String, (String, Option<Place>)>);

impl UnitNames {
    /// The cluster's own units.
    pub(super) fn new(cluster: &ClusterName) -> Self {
        let own = [
            cluster.master(),
            cluster.api_socket(),
            cluster.target(),
            format!("{cluster}-tcp.socket"),
            format!("{cluster}@.service"),
            format!("{cluster}-first@.service"),
        ];
        Self(own.into_iter().map(|unit| (unit, ("the cluster itself".to_string(), None))).collect())
    }

    /// Takes the names of an app: templates, handle, slice.
    pub(super) fn app(&mut self, cluster: &ClusterName, app: &AppName, place: &Place, findings: &mut Findings) {
        let units = AppUnits::new(cluster, app);
        for unit in [units.template(), units.handle(), units.trigger(), units.slice()] {
            self.take(unit, app, place, findings);
        }
        // The longest instance there can be.
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

    /// Takes the name of a socket unit.
    pub(super) fn socket(&mut self, cluster: &ClusterName, app: &AppName, address: &Address, place: &Place, findings: &mut Findings) {
        self.take(AppUnits::new(cluster, app).socket(address), app, place, findings);
    }

    fn take(&mut self, unit: String, app: &AppName, place: &Place, findings: &mut Findings) {
        length(&unit, place, findings);
        let owner = format!("app `{app}`");
        match self.0.get(&unit) {
            // The same address twice in one app is told as that.
            Some((other, _)) if *other == owner => {}
            Some((other, other_place)) => {
                let message = format!("this would need the unit name `{unit}`, which {other} needs too");
                let help = "give one of the apps another name, or its socket another path";
                match other_place {
                    Some(other_place) => findings.error_also("unit-name", place, message, help, (other_place, "needs it too")),
                    None => findings.error("unit-name", place, message, help),
                }
            }
            None => {
                self.0.insert(unit, (owner, Some(place.clone())));
            }
        }
    }
}

fn length(unit: &str, place: &Place, findings: &mut Findings) {
    if unit.len() > MAX_UNIT {
        findings.error(
            "unit-name",
            place,
            format!("this would need a unit name of {} bytes", unit.len()),
            format!("systemd takes at most {MAX_UNIT}; write a shorter name or path (each `-` counts four times)"),
        );
    }
}
