//! A worker from its first step to its readiness.
pub mod error;
pub mod exec;
pub mod files;
pub mod inherited;
pub mod paths;
pub mod pin;
pub mod ports;
pub mod prepare;
pub mod procfs;
pub mod store;
pub mod swap;
pub mod sys;
