//! The REST API of the master: its types, errors and routes.
pub mod converge;
pub mod error;
pub mod events;
mod extract;
#[cfg(test)]
mod openapi;
pub mod original;
mod query;
pub mod server;
pub mod stream;
pub mod types;
mod v1;
