//! Crash loops: when a worker that keeps ending is started again, and when people should be told.
//!
//! Pure: no I/O, no clock. `worker::crashes` keeps the count and waits, the master shows it. It must not know units, files
//! or systemd.
//!
//! An end counts when the worker had not been ready for [`HEALTHY`]; one that had begins anew. From the [`LOOP`]th in a row
//! on it is a crash loop, and the time between an end and the next start doubles, at most [`LONGEST`]. A worker comes back
//! for ever. What a person starts begins anew: systemd's own number of automatic restarts tells, since it begins at 0
//! then, and no more ends can have been in a row than there were automatic restarts.

mod line;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use line::telling;

/// A worker that was ready for so long had started well, whatever ended it later.
pub const HEALTHY: Duration = Duration::from_secs(10);
/// So many ends in a row are a crash loop: one may be the machine's fault, two an unlucky moment.
pub const LOOP: u32 = 3;
/// The longest time between an end and the next start: what was mended elsewhere (a database) is found in half a minute.
pub const LONGEST: Duration = Duration::from_secs(30);
/// No step before a worker takes longer: that wait, another's lock and a port, 10 s each.
pub const STEP: Duration = Duration::from_secs(60);
/// What is doubled is no less than this, so that `timeout.restart = 0` backs off as well.
const LEAST: Duration = Duration::from_millis(100);

/// The count of one worker, as `prepare` writes it and the master reads it. Times are microseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Format of the file, 1.
    pub format: u32,
    /// Ends in a row.
    pub ends: u32,
    /// When the first of them was seen; when there is none, when it was started.
    pub since_us: u64,
    /// When the last start was or the next one is.
    pub start_us: u64,
}

crate::formats::numbered!(Count, 1);

/// What systemd knows of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Automatic restarts since a person's start (`NRestarts`).
    pub restarts: u32,
    /// When it last got ready (`ActiveEnterTimestampMonotonic`), microseconds; 0 when never.
    pub ready_us: u64,
}

impl Count {
    /// Largest file that is read, bytes.
    pub const MAX_BYTES: u64 = 1024;

    /// That of a worker that starts for the first time.
    pub fn fresh(now_us: u64) -> Self {
        Self { format: 1, ends: 0, since_us: now_us, start_us: now_us }
    }

    /// Whether [`Count::next`] can do without [`Known`]: it costs a worker's start a question to systemd, and a first or
    /// second end right after a start is told by the clock alone.
    pub fn is_plain(&self, now_us: u64, restart: Duration) -> bool {
        self.ends + 1 < LOOP && micros(now_us.saturating_sub(self.start_us)) < HEALTHY.saturating_add(restart)
    }

    /// The count at the start that comes after this one's, which is when systemd has waited `restart` since the end.
    ///
    /// Without `known`, a worker that was started not long ago has ended once more, and one that was started long ago had
    /// been well.
    #[must_use]
    pub fn next(&self, now_us: u64, restart: Duration, known: Option<Known>) -> Self {
        let ran = micros(now_us.saturating_sub(self.start_us));
        let well = match known {
            _ if ran < HEALTHY.saturating_add(restart) => false,
            Some(known) => self.was_well(now_us.saturating_sub(as_micros(restart)), known.ready_us),
            None => true,
        };
        let most = known.map_or(u32::MAX, |known| known.restarts);
        let ends = if well { 0 } else { self.ends.saturating_add(1).min(most) };
        if ends == 0 {
            return Self::fresh(now_us);
        }
        let since_us = if ends == 1 { now_us } else { self.since_us };
        Self { ends, since_us, start_us: now_us.saturating_add(as_micros(wait(ends, restart))), ..*self }
    }

    /// Whether this is a crash loop, for a worker that got ready at `ready_us` the last time (0: never) and was or is up until
    /// `until_us`: one that is up again is believed when it has been ready for [`HEALTHY`].
    pub fn is_loop(&self, ready_us: u64, until_us: u64) -> bool {
        self.ends >= LOOP && !self.was_well(until_us, ready_us)
    }

    /// How long until the next start; none when that was already.
    pub fn next_start(&self, now_us: u64) -> Option<Duration> {
        self.start_us.checked_sub(now_us).filter(|us| *us > 0).map(micros)
    }

    fn was_well(&self, until_us: u64, ready_us: u64) -> bool {
        ready_us >= self.start_us && micros(until_us.saturating_sub(ready_us)) >= HEALTHY
    }
}

/// How much longer than `restart`, which systemd waits by itself, the start behind the `ends`th end in a row waits.
fn wait(ends: u32, restart: Duration) -> Duration {
    if ends < LOOP {
        return Duration::ZERO;
    }
    let doubled = 1_u32.checked_shl(ends - LOOP + 1).unwrap_or(u32::MAX);
    restart.max(LEAST).saturating_mul(doubled).min(LONGEST).saturating_sub(restart)
}

fn micros(us: u64) -> Duration {
    Duration::from_micros(us)
}

/// Microseconds of a duration, cut to what fits.
fn as_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
