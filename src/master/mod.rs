//! The master: one small process that drives workers over D-Bus.
pub mod usage;
pub mod watch;
pub mod world;
