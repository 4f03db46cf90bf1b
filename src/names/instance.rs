//! Which worker: slot, generation, instance, and the uid that people use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{AppName, NameError, string_serde};

/// A worker's stable place in its app, 1 to [`Slot::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Slot(u16);

impl Slot {
    /// The most slots an app can have: what `prepare` accepts from the unprivileged master.
    pub const MAX: u16 = 1024;
    /// Slot 1.
    pub const FIRST: Self = Self(1);
    /// The slot of this number, if there is one.
    pub fn new(number: u16) -> Option<Self> {
        (1..=Self::MAX).contains(&number).then_some(Self(number))
    }
    /// Its number.
    pub fn get(self) -> u16 {
        self.0
    }
    /// The slots 1 to `count`, at most [`Slot::MAX`].
    pub fn first(count: u16) -> impl Iterator<Item = Slot> {
        (1..=count.min(Self::MAX)).map(Slot)
    }
}

impl TryFrom<u16> for Slot {
    type Error = NameError;
    fn try_from(number: u16) -> Result<Self, NameError> {
        Self::new(number).ok_or_else(|| NameError::new(format!("a slot is a number from 1 to {}", Self::MAX)))
    }
}

impl From<Slot> for u16 {
    fn from(slot: Slot) -> u16 {
        slot.0
    }
}

/// What one roll started; numbered for ever, per app, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The instance part of a worker's unit, `SLOT.GEN.TRY`, or `SLOT.GEN-PIN.TRY` where the
/// generation uses an older generation's pin (a rollback).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Instance {
    /// The worker's place.
    pub slot: Slot,
    /// The generation it belongs to.
    pub generation: Generation,
    /// The generation whose pin it uses, where that is another one.
    pub pin: Option<Generation>,
    /// Tells a second worker of the same slot and generation apart; 1 to [`Instance::MAX_TRY`].
    pub attempt: u16,
}

string_serde!(Instance);

impl Instance {
    /// The largest `TRY` that `prepare` accepts.
    pub const MAX_TRY: u16 = 9999;

    /// The first worker of a slot in a generation of its own pin.
    pub fn first(slot: Slot, generation: Generation) -> Self {
        Self { slot, generation, pin: None, attempt: 1 }
    }
    /// The generation whose pin this worker uses.
    pub fn pinned(&self) -> Generation {
        self.pin.unwrap_or(self.generation)
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot.0, self.generation)?;
        if let Some(pin) = self.pin {
            write!(f, "-{pin}")?;
        }
        write!(f, ".{}", self.attempt)
    }
}

/// A number as we print it: digits only, no sign, no leading zero, so that one instance has one spelling.
pub(super) fn plain_number(text: &str) -> Option<u64> {
    let fine = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if fine { text.parse().ok() } else { None }
}

impl FromStr for Instance {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let parse = || {
            let mut parts = text.splitn(3, '.');
            let slot = Slot::new(u16::try_from(plain_number(parts.next()?)?).ok()?)?;
            let generation = parts.next()?;
            let (generation, pin) = match generation.split_once('-') {
                Some((generation, pin)) => (generation, Some(Generation(plain_number(pin)?))),
                None => (generation, None),
            };
            let generation = Generation(plain_number(generation)?);
            let attempt = u16::try_from(plain_number(parts.next()?)?).ok()?;
            let fine = generation.0 > 0 && (1..=Self::MAX_TRY).contains(&attempt) && pin.is_none_or(|pin| pin.0 > 0 && pin < generation);
            fine.then_some(Self { slot, generation, pin, attempt })
        };
        parse().ok_or_else(|| NameError::new("an instance reads SLOT.GEN.TRY or SLOT.GEN-PIN.TRY"))
    }
}

/// What users call a worker, `api:01`: its app and slot, at least two digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uid {
    /// The app.
    pub app: AppName,
    /// The slot.
    pub slot: Slot,
}

string_serde!(Uid);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:02}", self.app, self.slot.0)
    }
}

impl FromStr for Uid {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (app, slot) = text.split_once(':').ok_or_else(|| NameError::new("a worker's uid reads APP:NN, for example api:01"))?;
        let slot = slot
            .parse()
            .ok()
            .and_then(Slot::new)
            .ok_or_else(|| NameError::new(format!("behind the colon of a uid stands a slot from 01 to {}", Slot::MAX)))?;
        Ok(Self { app: app.parse()?, slot })
    }
}
