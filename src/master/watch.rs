//! Keeps the [`World`] true: reads everything at first, then what changed, as systemd tells it.
//!
//! Changes of one burst are read together. While nothing changes it does nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Instant, timeout_at};

use super::world::{self, Kind, World};
use crate::config::settings::Settings;
use crate::systemd::{ActiveState, Change, Details, Error, Systemd, UnitState};

/// Signals of one event (two `PropertiesChanged` and a `JobRemoved`) come within this.
const BURST: Duration = Duration::from_millis(2);
/// A burst that does not end is read all the same.
const LONGEST: Duration = Duration::from_millis(20);

/// How often a worker that is on its way is read again, until its row and what else is told of it are of one moment.
const AGREE: usize = 3;

/// Units of which details are asked for at a time.
const AT_ONCE: usize = 16;

/// Reads units and, for workers and handles, more about them.
///
/// That takes more than one question. A worker that moves on between them would be told as one that waits for its
/// restart, with the times of its next start, say: those on their way are looked at once more, and read again if so.
///
/// # Errors
/// When systemd cannot be asked.
pub async fn read<S: Systemd>(systemd: &S, settings: &Settings, names: &[String]) -> Result<Vec<(UnitState, Details)>, Error> {
    let mut rows = more(systemd, settings, systemd.units(names).await?).await?;
    let mut moving: Vec<String> =
        rows.iter().map(|(state, _)| state).filter(|state| moves(settings, state)).map(|state| state.name.clone()).collect();
    for _ in 0..AGREE {
        if moving.is_empty() {
            break;
        }
        let again = systemd.units(&moving).await?;
        rows.retain(|(state, _)| !moving.contains(&state.name) || again.contains(state));
        let moved: Vec<UnitState> = again.into_iter().filter(|state| !rows.iter().any(|(known, _)| known == state)).collect();
        moving = moved.iter().filter(|state| moves(settings, state)).map(|state| state.name.clone()).collect();
        rows.extend(more(systemd, settings, moved).await?);
    }
    Ok(rows)
}

/// Whether this is a worker on its way.
fn moves(settings: &Settings, state: &UnitState) -> bool {
    matches!(state.active, ActiveState::Activating | ActiveState::Deactivating)
        && matches!(world::owner(settings, &state.name), Some((_, Kind::Worker(_))))
}

/// In the order of the states, several at once: a burst of a whole cluster costs its slowest answers, not their sum.
async fn more<S: Systemd>(systemd: &S, settings: &Settings, states: Vec<UnitState>) -> Result<Vec<(UnitState, Details)>, Error> {
    let one = async |state: UnitState| {
        let details = match world::owner(settings, &state.name) {
            Some((_, Kind::Worker(_))) => systemd.details(&state.name).await?,
            // Of a failed one its result too: whether its start or its stop failed.
            Some((_, Kind::Handle)) if state.active == ActiveState::Failed => systemd.details(&state.name).await?,
            Some((_, Kind::Handle)) => Details { active_since_us: systemd.active_since(&state.name).await?, ..Details::default() },
            _ => Details::default(),
        };
        Ok((state, details))
    };
    stream::iter(states).map(one).buffered(AT_ONCE).try_collect().await
}

/// What a reader of changes is to read next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dirty {
    /// These units.
    Units(Vec<String>),
    /// Everything.
    All,
}

impl Dirty {
    /// Whether to read them takes more memory than should be kept for it: a tenth of a MB, about.
    pub fn is_many(&self) -> bool {
        match self {
            Self::Units(units) => units.len() >= 8,
            Self::All => true,
        }
    }
}

/// The changes of our units that are to be read, as they come in.
#[derive(Debug, Default)]
pub struct Gathered {
    units: BTreeSet<String>,
    all: bool,
    /// When the last of ours came, and the first.
    times: Option<(Instant, Instant)>,
}

impl Gathered {
    /// Gathers a burst to its end; changes of other units neither begin nor prolong one. `false` when systemd's edge is gone.
    /// When its future is dropped, what came so far stays gathered.
    pub async fn burst(&mut self, changes: &mut Receiver<Change>, settings: &Settings) -> bool {
        loop {
            let change = match self.times.map(|(last, first)| (last + BURST).min(first + LONGEST)) {
                // A channel that is never empty must not keep the burst open.
                Some(end) if Instant::now() >= end => return true,
                Some(end) => match timeout_at(end, changes.recv()).await {
                    Ok(change) => change,
                    Err(_) => return true,
                },
                None => changes.recv().await,
            };
            match change {
                Ok(change) => self.gather(change, settings),
                Err(RecvError::Lagged(_)) => self.add(Dirty::All),
                Err(RecvError::Closed) => return false,
            }
        }
    }

    /// Gathers all that is there already.
    pub fn drain(&mut self, changes: &mut Receiver<Change>, settings: &Settings) {
        loop {
            match changes.try_recv() {
                Ok(change) => self.gather(change, settings),
                Err(TryRecvError::Lagged(_)) => self.add(Dirty::All),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn gather(&mut self, change: Change, settings: &Settings) {
        match change {
            Change::Unit(unit) if world::owner(settings, &unit).is_none() => {}
            Change::Unit(unit) => self.add(Dirty::Units(vec![unit])),
            Change::All => self.add(Dirty::All),
        }
    }

    /// These are to be read, too.
    pub fn add(&mut self, dirty: Dirty) {
        match dirty {
            Dirty::Units(units) => self.units.extend(units),
            Dirty::All => self.all = true,
        }
        let now = Instant::now();
        self.times = Some((now, self.times.map_or(now, |(_, first)| first)));
    }

    /// What is to be read, which is gathered no longer.
    pub fn take(&mut self) -> Option<Dirty> {
        let Self { units, all, times } = std::mem::take(self);
        times.map(|_| if all { Dirty::All } else { Dirty::Units(units.into_iter().collect()) })
    }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::broadcast;

    use super::*;
    use crate::systemd::{JobEnd, Verb};

    const TAKES: Duration = Duration::from_millis(10);

    /// Forty workers that run; the details of each take a while, those of the first ones longest.
    #[derive(Default)]
    struct Slow {
        asked: AtomicUsize,
        most: AtomicUsize,
    }

    impl Systemd for Slow {
        async fn units(&self, _: &[String]) -> Result<Vec<UnitState>, Error> {
            let row = |slot: u16| {
                let name = format!("project-cluster-api@{slot}.1.1.service");
                UnitState { name, active: ActiveState::Active, sub: "running".into(), job: None, masked: false, gone: false }
            };
            Ok((1..=40).map(row).collect())
        }
        async fn details(&self, unit: &str) -> Result<Details, Error> {
            self.most.fetch_max(1 + self.asked.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
            let slow = if unit.contains("@1.") { TAKES * 2 } else { TAKES };
            tokio::time::sleep(slow).await;
            self.asked.fetch_sub(1, Ordering::Relaxed);
            Ok(Details { control_group: unit.to_owned(), ..Details::default() })
        }
        async fn active_since(&self, _: &str) -> Result<u64, Error> {
            Ok(0)
        }
        async fn job(&self, _: Verb, _: &str, _: Duration) -> Result<JobEnd, Error> {
            Ok(JobEnd::Done)
        }
        async fn reset_failed(&self, _: &str) -> Result<(), Error> {
            Ok(())
        }
        async fn settle(&self) -> Result<(), Error> {
            Ok(())
        }
        fn changes(&self) -> Receiver<Change> {
            broadcast::channel(1).1
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_cluster_is_read_many_at_a_time_in_its_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.toml");
        std::fs::write(&path, "[apps.api]\nworkers = 40\ncommand = \"/bin/true\"\n").unwrap();
        let settings = crate::config::load(&path, &crate::config::SystemAccounts).unwrap().settings;
        let (slow, begun) = (Slow::default(), Instant::now());
        let rows = read(&slow, &settings, &[]).await.unwrap();
        assert!(begun.elapsed() <= TAKES * 4, "{:?}", begun.elapsed());
        assert_eq!(slow.most.load(Ordering::Relaxed), AT_ONCE);
        let told: Vec<String> = rows.iter().map(|(state, _)| state.name.clone()).collect();
        assert_eq!(told, slow.units(&[]).await.unwrap().into_iter().map(|row| row.name).collect::<Vec<_>>());
        assert!(rows.iter().all(|(state, details)| state.name == details.control_group));
    }
}
