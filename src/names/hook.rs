//! Hooks: which there are, and what their units are called.
//!
//! `NAME-APP:KIND@GEN.service`, or `GEN-PIN` as in a worker's instance. No app's name holds a colon, so that no app has
//! workers of such a name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::instance::plain_number;
use super::{Generation, Instance, NameError, Slot};

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum HookKind {
    /// Before the first worker of a new generation starts; where it fails, none does.
    Before,
    /// Once the new generation serves.
    After,
    /// When the new generation does not serve.
    Failed,
}

impl HookKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Before, Self::After, Self::Failed];

    /// Its key in the configuration, and its part of unit names.
    pub fn word(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for HookKind {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL.into_iter().find(|kind| kind.word() == text).ok_or_else(|| NameError::new("a hook is before, after or failed"))
    }
}

/// The instance of a hook's unit: whose generation it is, and whose pin that uses where it is another one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookInstance {
    /// The generation.
    pub generation: Generation,
    /// The generation whose pin it uses, where that is another one (a rollback).
    pub pin: Option<Generation>,
}

impl HookInstance {
    /// A worker of the same generation and pin.
    pub fn worker(self) -> Instance {
        Instance { slot: Slot::FIRST, generation: self.generation, pin: self.pin, attempt: 1 }
    }
}

impl fmt::Display for HookInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pin {
            Some(pin) => write!(f, "{}-{pin}", self.generation),
            None => self.generation.fmt(f),
        }
    }
}

impl FromStr for HookInstance {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let number = |text: &str| plain_number(text).filter(|number| *number > 0).map(Generation);
        let parse = || {
            let (generation, pin) = match text.split_once('-') {
                Some((generation, pin)) => (number(generation)?, Some(number(pin)?)),
                None => (number(text)?, None),
            };
            pin.is_none_or(|pin| pin < generation).then_some(Self { generation, pin })
        };
        parse().ok_or_else(|| NameError::new("a hook's instance reads GEN or GEN-PIN"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_one_spelling() {
        for text in ["1", "7", "9-7", "18446744073709551615-1"] {
            assert_eq!(text.parse::<HookInstance>().unwrap().to_string(), text);
        }
        for text in ["", "0", "07", "7-7", "7-8", "7-", "-7", "7-0", "+7", "7.1", "1.7.1", " 7", "18446744073709551616"] {
            assert!(text.parse::<HookInstance>().is_err(), "{text:?}");
        }
        assert!(HookKind::ALL.into_iter().all(|kind| kind.word().parse() == Ok(kind)) && "Before".parse::<HookKind>().is_err());
    }
}
