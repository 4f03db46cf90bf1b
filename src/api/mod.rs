//! The REST API of the master: its types, errors and routes.
pub mod converge;
pub mod error;
pub mod events;
mod extract;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod guard;
pub mod healthz;
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
pub mod types;
mod v1;
