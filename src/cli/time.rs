//! Points of time for people, in the zone of who reads them.

use std::time::{SystemTime, UNIX_EPOCH};

use super::table;

/// Now, milliseconds of Unix time.
pub fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// `14:02:11`, on another day than today `2026-11-23 14:02:11`.
pub fn second(unix_ms: u64) -> String {
    shown(local(unix_ms), local(now_ms()), true)
}

/// `14:02 (12 min ago)`, on another day than today `2026-11-23 14:02 (1 d 3 h ago)`.
pub fn since(unix_ms: u64) -> String {
    let now = now_ms();
    format!("{} ({} ago)", shown(local(unix_ms), local(now), false), table::duration(now.saturating_sub(unix_ms)))
}

/// `2026-11-23 14:02:11`, for what is read on any day.
pub fn moment(unix_ms: u64) -> String {
    shown(local(unix_ms), Parts::default(), true)
}

/// Year, month, day, hour, minute, second.
type Parts = [i32; 6];

fn local(unix_ms: u64) -> Parts {
    let seconds = libc::time_t::try_from(unix_ms / 1000).unwrap_or(0);
    // SAFETY: zeroes are a valid tm; both pointers are to values that outlive the call.
    let tm = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        libc::localtime_r(&raw const seconds, &raw mut tm);
        tm
    };
    [tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec]
}

fn shown(at: Parts, now: Parts, seconds: bool) -> String {
    let [year, month, day, hour, minute, second] = at;
    let day = if at[..3] == now[..3] { String::new() } else { format!("{year}-{month:02}-{day:02} ") };
    let second = if seconds { format!(":{second:02}") } else { String::new() };
    format!("{day}{hour:02}:{minute:02}{second}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_day_is_named() {
        let now = [2026, 11, 24, 9, 30, 0];
        assert_eq!(shown([2026, 11, 24, 9, 5, 7], now, true), "09:05:07");
        assert_eq!(shown([2026, 11, 24, 9, 5, 7], now, false), "09:05");
        assert_eq!(shown([2026, 11, 23, 23, 59, 59], now, true), "2026-11-23 23:59:59");
        let then = local(now_ms());
        assert!((2020..2200).contains(&then[0]) && (1..=12).contains(&then[1]), "{then:?}");
    }
}
