//! temporary map
pub mod config;
pub mod names;
pub mod roll;
pub mod systemd;
pub mod worker;
