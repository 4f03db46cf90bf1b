//! A worker from its first step to its readiness.
pub mod pin;
