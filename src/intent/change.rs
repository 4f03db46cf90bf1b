//! What a person may change of an app's workers at run time, as functions of data.

use std::collections::BTreeSet;

use super::AppIntent;
use crate::names::{AppName, Slot, Uid};

/// A change of which slots an app has and which of them run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// So many slots more, the lowest free ones.
    Add(u16),
    /// So many slots, all of which run: the lowest free ones come, the highest go.
    Scale(u16),
    /// These slots go. Those that are none already are no error: who asks again, since no answer came, is right.
    Remove(BTreeSet<Slot>),
    /// These slots stay and do not run.
    Stop(BTreeSet<Slot>),
    /// These slots run; all of the app's where none is named.
    Start(Option<BTreeSet<Slot>>),
    /// Of all slots these run alone: the first to be started of an app that is stopped.
    StartOnly(BTreeSet<Slot>),
    /// As configured.
    Configured,
}

impl AppIntent {
    /// The intent behind a change, where so many workers are configured.
    ///
    /// # Errors
    /// For people: a slot that is none, or more slots than there may be. Nothing is changed then.
    pub fn changed(&self, app: &AppName, configured: u16, change: &Change) -> Result<Self, String> {
        let mut slots = self.slots(configured);
        let mut stopped = self.stopped.clone();
        match change {
            Change::Add(count) => {
                let before = slots.clone();
                add(app, &mut slots, *count)?;
                stopped = &stopped & &before;
            }
            Change::Scale(count) => {
                while slots.len() > usize::from(*count) {
                    slots.pop_last();
                }
                let lacking = usize::from(*count) - slots.len();
                add(app, &mut slots, u16::try_from(lacking).unwrap_or(u16::MAX))?;
                stopped.clear();
            }
            Change::Remove(these) => slots = &slots - these,
            Change::Stop(these) => {
                exist(app, &slots, these)?;
                stopped.extend(these);
            }
            Change::Start(Some(these)) => {
                exist(app, &slots, these)?;
                stopped = &stopped - these;
            }
            Change::Start(None) => stopped.clear(),
            Change::StartOnly(these) => {
                exist(app, &slots, these)?;
                stopped = &slots - these;
            }
            Change::Configured => {
                slots = Slot::first(configured).collect();
                stopped.clear();
            }
        }
        // What goes is forgotten with its stop, and what is as configured follows the configuration again.
        stopped = &stopped & &slots;
        let slots = Some(slots).filter(|slots| *slots != Slot::first(configured).collect());
        Ok(Self { slots, stopped, ..self.clone() })
    }
}

fn add(app: &AppName, slots: &mut BTreeSet<Slot>, count: u16) -> Result<(), String> {
    let free: Vec<Slot> = Slot::first(Slot::MAX).filter(|slot| !slots.contains(slot)).take(count.into()).collect();
    if free.len() < count.into() {
        return Err(format!("{app} can have {} workers at most, and has {}", Slot::MAX, slots.len()));
    }
    slots.extend(free);
    Ok(())
}

fn exist(app: &AppName, slots: &BTreeSet<Slot>, these: &BTreeSet<Slot>) -> Result<(), String> {
    match these.difference(slots).next() {
        None => Ok(()),
        Some(slot) => {
            let uid = Uid { app: app.clone(), slot: *slot };
            Err(format!("there is no worker {uid}. `project-cluster ls {app}` lists those there are, `project-cluster add {app}` adds one"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(numbers: &[u16]) -> BTreeSet<Slot> {
        numbers.iter().map(|number| Slot::new(*number).unwrap()).collect()
    }

    #[test]
    fn changes_one_after_another() {
        let app: AppName = "api".parse().unwrap();
        let mut intent = AppIntent::default();
        // Configured are 3. What is asked, which slots there are then, which of them run.
        let story: &[(Change, &[u16], &[u16])] = &[
            (Change::Stop(slots(&[2])), &[1, 2, 3], &[1, 3]),
            (Change::Add(2), &[1, 2, 3, 4, 5], &[1, 3, 4, 5]),
            (Change::Remove(slots(&[1, 4])), &[2, 3, 5], &[3, 5]),
            (Change::Add(1), &[1, 2, 3, 5], &[1, 3, 5]),
            (Change::Scale(5), &[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5]),
            (Change::Stop(slots(&[2])), &[1, 2, 3, 4, 5], &[1, 3, 4, 5]),
            (Change::Scale(2), &[1, 2], &[1, 2]),
            (Change::Stop(slots(&[2])), &[1, 2], &[1]),
            (Change::Start(Some(slots(&[2]))), &[1, 2], &[1, 2]),
            (Change::Scale(0), &[], &[]),
            (Change::Scale(3), &[1, 2, 3], &[1, 2, 3]),
            (Change::StartOnly(slots(&[3])), &[1, 2, 3], &[3]),
            (Change::Start(None), &[1, 2, 3], &[1, 2, 3]),
            (
                Change::Scale(1024),
                &Slot::first(1024).map(Slot::get).collect::<Vec<_>>(),
                &Slot::first(1024).map(Slot::get).collect::<Vec<_>>(),
            ),
            (Change::Configured, &[1, 2, 3], &[1, 2, 3]),
        ];
        for (change, all, run) in story {
            intent = intent.changed(&app, 3, change).unwrap();
            assert_eq!((intent.slots(3), intent.wanted(3)), (slots(all), slots(run)), "{change:?}");
        }
        assert_eq!(intent, AppIntent::default(), "what is as configured follows the configuration");
    }

    #[test]
    fn what_goes_is_forgotten_with_its_stop() {
        let app: AppName = "api".parse().unwrap();
        let stopped = AppIntent::default().changed(&app, 2, &Change::Stop(slots(&[2]))).unwrap();
        let back = stopped.changed(&app, 2, &Change::Remove(slots(&[2]))).unwrap().changed(&app, 2, &Change::Add(1)).unwrap();
        assert_eq!(back, AppIntent::default());
        assert_eq!(back.changed(&app, 2, &Change::Remove(slots(&[3]))).unwrap(), back, "asked twice it is done once");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let app: AppName = "api".parse().unwrap();
        for change in [Change::Stop(slots(&[3])), Change::Start(Some(slots(&[1, 3])))] {
            let why = AppIntent::default().changed(&app, 2, &change).unwrap_err();
            assert!(why.starts_with("there is no worker api:03."), "{why}");
        }
        let why = AppIntent::default().changed(&app, 1000, &Change::Add(25)).unwrap_err();
        assert_eq!(why, "api can have 1024 workers at most, and has 1000");
    }
}
