//! The REST API of the master: its types, errors and routes.
pub mod converge;
pub mod error;
pub mod events;
mod extract;
pub mod guard;
pub mod healthz;
pub mod limits;
pub mod listen;
pub mod original;
pub mod server;
mod stall;
pub mod stream;
pub mod token;
pub mod types;
