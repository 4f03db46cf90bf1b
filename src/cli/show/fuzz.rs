//! What `show` makes of the master's answer and of systemd's.

use super::sockets::{tcp, unix};
use super::units::{Unit, parse};
use super::{Facts, text};
use crate::api::types::App;
use crate::fuzz::harmless;
use crate::names::Address;

/// An app and its workers, with what else is known of them as hostile as they are.
pub fn app(app: &App) {
    let log: Vec<String> = app.crash_loop.iter().flat_map(|crash| crash.lines.clone()).collect();
    let log: Vec<String> = log.iter().map(|line| crate::journal::harmless(line)).collect();
    let unit = Unit { unit: app.handle.clone(), drop_ins: vec![app.cwd.clone()], ..Unit::default() };
    let facts = Facts { release: Some(app.cwd.clone()), since_ms: Some(1), units: vec![unit], ..Facts::default() };
    for width in [20, 80] {
        let look = text::Look { width, colours: false };
        harmless(&text::app(app, &facts, &log, look));
        app.workers.iter().for_each(|row| harmless(&text::worker(app, row, &facts, &log, look)));
    }
}

/// What `systemctl show` prints, and the kernel's tables of sockets.
pub fn units(text: &str) {
    let units = parse(text, u64::MAX);
    assert!(units.len() <= text.split("\n\n").count());
    assert!(units.iter().all(|unit| !unit.unit.is_empty() && unit.drop_ins.iter().all(|path| !path.contains(' '))));
    let lines = text.lines().count() as u64;
    let Ok(Address::Tcp(listener)) = "127.0.0.1:3000".parse() else { return };
    for counted in [tcp(text.as_bytes(), listener), unix(text.as_bytes(), "/run/x")].into_iter().flatten() {
        assert!(counted.accepted <= lines);
    }
}
