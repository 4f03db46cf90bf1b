//! Waiting on a state where nothing tells of its change. Never a sleep that hopes.

use std::time::{Duration, Instant};

/// How often a state is read again. Short beside everything that is waited for, and 200 reads a second cost little.
const POLL: Duration = Duration::from_millis(5);

/// Reads until `read` gives something; panics with `what` when that lasts longer than `limit`.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut read: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = read() {
            return found;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain until {what}");
        std::thread::sleep(POLL);
    }
}

/// Reads until `holds` does; panics with `what` when that lasts longer than `limit`.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    wait_for(what, limit, || holds().then_some(()));
}
