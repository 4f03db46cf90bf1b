//! The book of own ports (`spawn = "child"`): who has which, so that no two live workers share one.
//!
//! `/run/NAME/ports/APP.json`, root's alone, kept under the app's lock. A worker is live while its runtime directory is
//! there: systemd makes it before `prepare` and removes it when the worker is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::files;
use super::paths::Paths;
use super::store::Lock;
use crate::formats;
use crate::names::{AppName, ClusterName, Instance};

/// The book of one app.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// Format of this file, 1.
    format: u32,
    /// The ports of workers that were alive when it was last written.
    pub(super) ports: BTreeMap<Instance, u16>,
}

formats::numbered!(Book, 1);

impl Book {
    /// A port for `instance`: the one it has, else its slot's, else the first free of `range`, else that of another slot
    /// which its worker left. Workers that are not `live` lose theirs.
    ///
    /// The last is what lets a roll of many workers go with one extra port: the first new worker takes it, and each that
    /// retires leaves its own to the next.
    pub fn assign(
        &mut self,
        instance: Instance,
        first: u16,
        range: Option<(u16, u16)>,
        live: impl Fn(&Instance) -> bool,
    ) -> Result<u16, Error> {
        self.ports.retain(|other, _| *other == instance || live(other));
        let slots = self.ports.keys().map(|other| other.slot.get()).max().unwrap_or_default();
        let taken: BTreeSet<u16> = self.ports.iter().filter(|(other, _)| **other != instance).map(|(_, port)| *port).collect();
        let own = self.ports.get(&instance).copied();
        let of_slot = |slot: u16| first.checked_add(slot - 1);
        let preferred = of_slot(instance.slot.get());
        let extra = range.into_iter().flat_map(|(first, last)| first..=last);
        let left = (1..=slots).filter_map(of_slot);
        let Some(port) = own.into_iter().chain(preferred).chain(extra).chain(left).find(|port| !taken.contains(port)) else {
            let preferred =
                preferred.map_or_else(|| format!("{first} + {} - 1, beyond 65535,", instance.slot.get()), |port| port.to_string());
            let range = match range {
                Some((first, last)) => format!("all of `ports` ({first}-{last}) are taken: widen `ports`"),
                None => "there is no `ports`: write a range for the extra workers of a roll, such as `ports = \"4000-4009\"`".into(),
            };
            return Err(Error::new(format!(
                "no port is free for {instance}: its own, {preferred} is taken by another live worker, and {range}, or wait until retiring workers have ended"
            )));
        };
        self.ports.insert(instance, port);
        Ok(port)
    }
}

/// Looks up or assigns the port of a worker and writes the book where it changed. The caller holds the app's lock.
///
/// # Errors
/// The outer ones are of the book's file; the inner one says that all ports are taken, by workers that may be retiring.
pub fn assign(
    _lock: &Lock,
    paths: &Paths,
    cluster: &ClusterName,
    app: &AppName,
    instance: Instance,
    first: u16,
    range: Option<(u16, u16)>,
) -> Result<Result<u16, Error>, Error> {
    let directory = paths.ports(cluster);
    files::make_directory(&paths.run.join(cluster.as_str()), false)?;
    files::make_directory(&directory, true)?;
    let path = directory.join(format!("{app}.json"));
    let old = files::read_json::<Book>(&path)?.unwrap_or_default();
    let mut book = Book { format: 1, ..old.clone() };
    let workers = paths.workers(cluster, app);
    let port = book.assign(instance, first, range, |other| is_live(&workers, other));
    if book != old {
        files::write_json(&path, &book)?;
    }
    Ok(port)
}

fn is_live(workers: &Path, instance: &Instance) -> bool {
    workers.join(instance.to_string()).symlink_metadata().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(text: &str) -> Instance {
        text.parse().unwrap()
    }

    #[test]
    fn a_slot_has_its_port_and_a_roll_the_extra_ones() {
        let mut book = Book::default();
        let all = |_: &Instance| true;
        assert_eq!(book.assign(instance("1.1.1"), 3000, Some((4000, 4001)), all).unwrap(), 3000);
        assert_eq!(book.assign(instance("2.1.1"), 3000, Some((4000, 4001)), all).unwrap(), 3001);
        assert_eq!(book.assign(instance("1.2.1"), 3000, Some((4000, 4001)), all).unwrap(), 4000);
        assert_eq!(book.assign(instance("2.2.1"), 3000, Some((4000, 4001)), all).unwrap(), 4001);
        // The same worker again, after a crash: the same port.
        assert_eq!(book.assign(instance("1.2.1"), 3000, Some((4000, 4001)), all).unwrap(), 4000);
        let error = book.assign(instance("1.3.1"), 3000, Some((4000, 4001)), all).unwrap_err().to_string();
        assert!(error.contains("3000") && error.contains("4000-4001") && error.contains("widen `ports`"), "{error}");
        // The old worker of slot 1 has gone: its port is free again.
        assert_eq!(book.assign(instance("1.3.1"), 3000, Some((4000, 4001)), |other| *other != instance("1.1.1")).unwrap(), 3000);
    }

    #[test]
    fn one_extra_port_is_enough_for_a_roll_of_many_workers() {
        let mut book = Book::default();
        let mut live = BTreeSet::new();
        for generation in 1..5 {
            for slot in 1..=4 {
                let new = instance(&format!("{slot}.{generation}.1"));
                live.insert(new);
                let port = book.assign(new, 3000, Some((4000, 4000)), |other| live.contains(other)).unwrap();
                assert!((3000..=3003).contains(&port) || port == 4000, "{new}: {port}");
                let distinct: BTreeSet<u16> = live.iter().filter_map(|worker| book.ports.get(worker).copied()).collect();
                assert_eq!(distinct.len(), live.len(), "two live workers share one: {book:?}");
                // Its replacement is ready: the old worker of the slot ends.
                live.retain(|worker| *worker == new || worker.slot != new.slot);
            }
        }
    }

    #[test]
    fn a_port_beyond_the_last_is_said_so() {
        let error = Book::default().assign(instance("3.1.1"), 65534, None, |_| true).unwrap_err().to_string();
        assert!(error.contains("beyond 65535") && error.contains("ports ="), "{error}");
        assert_eq!(Book::default().assign(instance("3.1.1"), 65534, Some((4000, 4000)), |_| true).unwrap(), 4000);
    }
}
