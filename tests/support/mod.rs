//! A real systemd to test against: boots one in a throw-away root or a virtual machine, runs commands in it, loads it, takes it down.
//!
//! It knows systemd and processes; of the product it knows the binary's path alone. Everything blocks, and every wait has a
//! deadline at which the test panics with what it waited for. `docs/testing.md` describes it.
#![allow(dead_code, unused_imports, reason = "each program that includes this library uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends by a panic that says why")]

pub mod apps;
pub mod boot;
pub mod channel;
pub mod documents;
pub mod evidence;
pub mod ground;
pub mod http;
pub mod inside;
pub mod load;
pub mod machine;
pub mod ordinary;
pub mod process;
pub mod qemu;
pub mod running;
pub mod sandbox;
pub mod systemd;
pub mod wait;

pub use ground::Ground;
pub use load::{Load, Report};
pub use machine::Machine;
pub use running::{Output, Running};
pub use sandbox::{Options, Sandbox};
pub use wait::{wait_for, wait_until};
