//! What the units room writes: golden trees anyone can read, the traps at the level of the text, hostile values,
//! and installs into directories.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod golden;
mod hostile;
mod install;
mod package;
mod samples;
mod tools;
mod traps;
mod unit;
