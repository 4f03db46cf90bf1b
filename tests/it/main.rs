//! Tests on a real systemd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends by a panic that says why")]

#[path = "../support/mod.rs"]
mod support;

mod cli;
mod cluster;
mod demand;
mod docs;
mod handle;
mod load;
mod master;
mod pins;
mod ports;
mod ready;
mod reload;
mod sandbox;
mod swap;
