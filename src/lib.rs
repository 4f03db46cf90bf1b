//! temporary map
pub mod config;
pub mod names;
pub mod worker;
