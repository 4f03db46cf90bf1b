//! The REST API of the master: its types, errors and routes.
pub mod error;
pub mod events;
pub mod server;
pub mod stream;
pub mod types;
