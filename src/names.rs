//! The names of the field, each validated once and then carried as its own type: cluster, app,
//! slot, generation, instance, uid, and the unit names made of them.
//!
//! Pure. It must not know the configuration, nor whether a unit of such a name exists.
//! The grammar of unit names and the escaping are those of `systemd.unit(5)` and
//! `systemd-escape(1)`.

mod address;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod hook;
mod instance;
#[cfg(test)]
mod tests;
mod units;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::place::Manager;

pub use address::Address;
pub use hook::{HookInstance, HookKind};
pub use instance::{Generation, Instance, Slot, Uid};
pub use units::{AppUnits, UNIT_NAME_MAX, anew, escape_unit, unmask};

/// Why a text is not a name. The message is a clause that fits behind "`text`: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(String);

impl NameError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Makes a validated string newtype read and write as a plain string.
macro_rules! string_serde {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.to_string()
            }
        }
    };
}
use string_serde;

/// Name of a cluster: also the system user of its master and the prefix of all its units.
///
/// 1 to 31 of `a-z`, `0-9` and `-`, beginning with a letter and not ending in a dash: what
/// `useradd(8)` and systemd accept as a user name everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(String);

string_serde!(ClusterName);

impl ClusterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// `NAME.service`, the master.
    pub fn master(&self) -> String {
        format!("{}.service", self.0)
    }
    /// `NAME.socket`, the listener of the API.
    pub fn api_socket(&self) -> String {
        format!("{}.socket", self.0)
    }
    /// `NAME-tcp.socket`, the listener of the API on TCP. `tcp` is no app's name.
    pub fn tcp_socket(&self) -> String {
        format!("{}-tcp.socket", self.0)
    }
    /// `NAME.target`, everything of the cluster.
    pub fn target(&self) -> String {
        format!("{}.target", self.0)
    }
    /// systemd's own slices of the handles and of the triggers.
    pub fn slices(&self, manager: Manager) -> [String; 2] {
        ["", "-first"].map(|template| units::slice(manager, &format!("{self}{template}")))
    }
}

impl Default for ClusterName {
    fn default() -> Self {
        Self("project-cluster".into())
    }
}

impl FromStr for ClusterName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let fine = !text.is_empty()
            && text.len() <= 31
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !fine {
            return Err(NameError::new(
                "a cluster's name is also its system user: 1 to 31 of a-z, 0-9 and -, beginning with a letter, not ending in a dash",
            ));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// App names that mean something else in a selector, a route or a unit name.
pub const RESERVED: [&str; 8] = ["all", "v1", "stat", "healthz", "metrics", "first", "relay", "tcp"];

/// Name of an app type, `api`.
///
/// 1 to 64 of letters, digits, `_`, `.` and `-`, beginning with a letter or digit; not one of
/// [`RESERVED`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(String);

string_serde!(AppName);

impl AppName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AppName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > 64 {
            return Err(NameError::new("an app's name has at most 64 bytes, since it becomes part of unit names"));
        }
        if RESERVED.contains(&text) {
            return Err(NameError::new(format!("`{text}` is reserved: it means something else in selectors, routes or unit names")));
        }
        let fine = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if !fine {
            return Err(NameError::new(
                "an app's name becomes part of unit names: letters, digits, _ . and -, beginning with a letter or digit",
            ));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
