//! temporary map
pub mod config;
pub mod names;
pub mod systemd;
pub mod units;
pub mod worker;
