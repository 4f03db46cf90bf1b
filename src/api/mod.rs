//! The REST API of the master: its types, errors and routes.
pub mod caller;
pub mod converge;
pub mod error;
pub mod events;
mod extract;
mod failures;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod guard;
pub mod healthz;
pub mod history;
pub mod installed;
pub mod limits;
pub mod listen;
#[cfg(test)]
mod openapi;
pub mod original;
mod query;
pub mod server;
mod stall;
pub mod stream;
pub mod token;
pub mod tokens;
pub mod types;
mod v1;
