//! Configuration: fragments as typed, merged, validated [`settings`].
//!
//! ```text
//! bytes -> load -> source -> tree (as typed, with places) -> merge (one tree)
//!       -> fragment (every key's shape) -> validate -> settings
//! ```
//!
//! Each step notes [`finding::Findings`] and goes on, so that everything wrong is told at once; [`problem::Problems`]
//! are what people and editors see of them. Only `load`, `init` and `accounts` touch the machine.

pub mod accounts;
pub mod choices;
pub mod finding;
pub mod fragment;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod init;
pub mod key;
pub mod load;
pub mod merge;
pub mod problem;
pub mod revision;
pub mod schema;
pub mod settings;
pub mod source;
pub mod tree;
pub mod validate;
pub mod values;

#[cfg(test)]
mod tests;

pub use accounts::{Accounts, SystemAccounts};
pub use init::{InitError, init};
pub use load::{DEFAULT_FILE, Loaded, cluster_name, load};
pub use problem::{Problem, Problems, Severity};
pub use schema::schema;
pub use validate::dynamic_user;
