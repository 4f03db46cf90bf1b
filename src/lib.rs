//! project-cluster makes systemd run many copies of any server behind one port, and replaces them, new before old.
//!
//! ```text
//! cluster.toml -> config -> units (render, diff, install)          at install time
//! reload/API/CLI -> master -> roll -> systemd (D-Bus) -> workers   at run time
//! prepare (root) -> exec (app's user) -> the app                   a worker's life
//! ```
//!
//! | room | what it is for | P: no I/O, no clock |
//! |---|---|---|
//! | [`place`] | whose systemd: the machine's or a user's own, and what follows for paths, sockets, messages | |
//! | [`names`] | cluster, app, slot, generation, instance, unit names | P |
//! | [`config`] | a TOML file as typed, merged, validated | P but for `load` |
//! | [`units`] | settings to unit files; their installation | P but for `install` |
//! | [`systemd`] | the narrow trait, D-Bus, a fake that behaves | |
//! | [`roll`] | the plan and the machine of a rolling reload; its executor | P but for `execute` |
//! | [`worker`] | `prepare`, `exec`, bind swap, readiness: the steps of one worker | |
//! | [`health`] | when a worker that keeps ending starts again, and from when on that is a crash loop | P |
//! | [`handle`] | the steps of `NAME@APP.service`, as root, without master or D-Bus | |
//! | [`master`] | the process that serves the API and carries rolls out | |
//! | [`intent`] | what the master remembers | |
//! | [`store`], [`history`] | a database that nothing waits for; in it, who asked for what and what came of it | |
//! | [`api`] | routes, types, errors | |
//! | [`cli`] | a client of the API; renders only | |
//! | [`journal`], [`files`], [`say`], [`status`] | last lines of a unit; files replaced whole; lines for the journal and for `systemctl status` | |
//! | [`panics`] | what a mistake in this program takes with it | |
//! | `fuzz` | in tests and fuzzers alone: what is asserted of every parser of foreign text | P |
//! | `points` | where a test lets the master die; empty in a release build | |

// They panic when nobody reads; `say` does not.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod api;
pub mod cli;
pub mod config;
pub mod files;
pub mod formats;
#[doc(hidden)]
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod handle;
pub mod health;
pub mod history;
pub mod intent;
pub mod journal;
pub mod master;
pub mod names;
pub mod panics;
pub mod place;
mod points;
pub mod roll;
pub mod say;
pub mod status;
pub mod store;
pub mod systemd;
pub mod units;
pub mod worker;
