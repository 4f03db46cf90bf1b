//! Tests on a real systemd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends by a panic that says why")]

#[path = "../support/mod.rs"]
mod support;

mod bytes;
mod cluster;
mod docs;
mod handle;
mod install;
mod load;
mod proof;
mod sandbox;
mod secrets;
mod traps;
mod tree;
mod units;
mod users;
