//! Workers without systemd: a launcher that stands in for it passes sockets to the real binary, which becomes real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod exec;
mod ready;
mod support;
mod swap;
