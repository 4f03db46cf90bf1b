//! What somebody asks for, in the command line's words. Pure.

use std::collections::BTreeSet;

use crate::names::Slot;

/// One order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// The verb.
    pub verb: &'static str,
    /// The slots that it is about; none where it is the whole app.
    pub slots: Option<BTreeSet<Slot>>,
    /// How many workers.
    pub count: Option<u16>,
}

impl Act {
    /// Of a whole app.
    pub fn new(verb: &'static str) -> Self {
        Self { verb, slots: None, count: None }
    }

    /// Whether it steers a roll that another order began: it is over when the roll heeds it.
    pub fn steers(&self) -> bool {
        matches!(self.verb, "pause" | "resume" | "abort")
    }

    /// Of these slots, where there are some.
    #[must_use]
    pub fn of(self, slots: Option<&BTreeSet<Slot>>) -> Self {
        Self { slots: slots.cloned(), ..self }
    }

    /// Of so many workers.
    #[must_use]
    pub fn count(self, count: u16) -> Self {
        Self { count: Some(count), ..self }
    }
}
