//! temporary map
pub mod config;
pub mod files;
pub mod intent;
pub mod names;
pub mod systemd;
pub mod worker;
