//! Tests on a real systemd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends by a panic that says why")]

#[path = "../support/mod.rs"]
mod support;

mod abuse;
mod address;
mod apply;
mod bus;
mod bytes;
mod cli;
mod cluster;
mod deaths;
mod demand;
mod documents;
mod door;
mod events;
mod glance;
mod handle;
mod history;
mod install;
mod load;
mod loops;
mod machine;
mod master;
mod meddling;
mod original;
mod packages;
mod pins;
mod ports;
mod proof;
mod ready;
mod reload;
mod rest;
mod rootless;
mod sandbox;
mod schemathesis;
mod secrets;
mod security;
mod stopping;
mod swap;
mod terminal;
mod threats;
mod tokens;
mod trace;
mod traps;
mod tree;
mod units;
mod upheaval;
mod users;
mod workers;
