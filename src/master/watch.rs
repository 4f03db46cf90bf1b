//! Keeps the [`World`] true: reads everything at first, then what changed, as systemd tells it.
//!
//! Changes of one burst are read together. While nothing changes it does nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

use super::world::{self, Kind, World};
use crate::config::settings::Settings;
use crate::systemd::{Change, Details, Error, Systemd, UnitState};

/// Signals of one event (two `PropertiesChanged` and a `JobRemoved`) come within this.
const BURST: Duration = Duration::from_millis(2);
/// A burst that does not end is read all the same.
const LONGEST: Duration = Duration::from_millis(20);

/// Reads units and, for workers and handles, more about them.
///
/// # Errors
/// When systemd cannot be asked.
pub async fn read<S: Systemd>(systemd: &S, settings: &Settings, names: &[String]) -> Result<Vec<(UnitState, Details)>, Error> {
    let mut rows = Vec::new();
    for state in systemd.units(names).await? {
        let details = match world::owner(settings, &state.name) {
            Some((_, Kind::Worker(_))) => systemd.details(&state.name).await?,
            Some((_, Kind::Handle)) => Details { active_since_us: systemd.active_since(&state.name).await?, ..Details::default() },
            _ => Details::default(),
        };
        rows.push((state, details));
    }
    Ok(rows)
}

/// What a reader of changes is to read next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dirty {
    /// These units.
    Units(Vec<String>),
    /// Everything.
    All,
}

/// Waits for a burst of changes of our units; others neither begin nor prolong one. `None` when systemd's edge is gone.
pub async fn next(changes: &mut Receiver<Change>, settings: &Settings) -> Option<Dirty> {
    let mut units = BTreeSet::new();
    let mut all = false;
    // When the last of ours came, and the first.
    let mut times: Option<(Instant, Instant)> = None;
    loop {
        let change = match times.map(|(last, first)| (last + BURST).min(first + LONGEST)) {
            // A channel that is never empty must not keep the burst open.
            Some(end) if Instant::now() >= end => break,
            Some(end) => match timeout_at(end, changes.recv()).await {
                Ok(change) => change,
                Err(_) => break,
            },
            None => changes.recv().await,
        };
        match change {
            Ok(Change::Unit(unit)) if world::owner(settings, &unit).is_none() => continue,
            Ok(Change::Unit(unit)) => drop(units.insert(unit)),
            Ok(Change::All) | Err(RecvError::Lagged(_)) => all = true,
            Err(RecvError::Closed) => return None,
        }
        let now = Instant::now();
        times = Some((now, times.map_or(now, |(_, first)| first)));
    }
    Some(if all { Dirty::All } else { Dirty::Units(units.into_iter().collect()) })
}

/// Reads what is dirty into the world.
///
/// # Errors
/// When systemd cannot be asked.
pub async fn refresh<S: Systemd>(systemd: &S, settings: &Settings, world: &std::sync::Mutex<World>, dirty: &Dirty) -> Result<(), Error> {
    let (asked, rows) = match dirty {
        Dirty::All => (None, read(systemd, settings, &world::patterns(settings)).await?),
        Dirty::Units(units) => (Some(units.as_slice()), read(systemd, settings, units).await?),
    };
    world.lock().unwrap_or_else(std::sync::PoisonError::into_inner).update(asked, rows);
    Ok(())
}
