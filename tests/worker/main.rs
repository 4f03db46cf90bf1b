//! Workers without systemd: a launcher that stands in for it passes sockets to the real binary, which becomes real servers.

mod exec;
mod ready;
mod support;
mod swap;
