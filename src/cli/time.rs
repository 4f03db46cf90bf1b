//! Points of time for people, in the zone of who reads them.

use std::time::{SystemTime, UNIX_EPOCH};

use super::table;
use crate::config::values::milliseconds;

/// Now, milliseconds of Unix time.
pub fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// `14:02:11`, on another day than today `2026-11-23 14:02:11`.
pub fn second(unix_ms: u64) -> String {
    shown(local(unix_ms), local(now_ms()), true)
}

/// In a narrow column: `14:02:11`, on another day of this year `11-23 14:02`, else `2025-11-23`.
pub fn brief(unix_ms: u64) -> String {
    brief_of(local(unix_ms), local(now_ms()))
}

fn brief_of(at: Parts, now: Parts) -> String {
    let [year, month, day, hour, minute, _] = at;
    match () {
        () if at[..3] == now[..3] => shown(at, now, true),
        () if year == now[0] => format!("{month:02}-{day:02} {hour:02}:{minute:02}"),
        () => format!("{year}-{month:02}-{day:02}"),
    }
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

/// What a person writes for a point of time in the past, milliseconds of Unix time.
pub(super) fn since_when(text: &str) -> Result<u64, String> {
    at(text, now_ms())
}

fn at(text: &str, now: u64) -> Result<u64, String> {
    if let Some(ago) = milliseconds(text) {
        return Ok(now.saturating_sub(ago));
    }
    let today = local(now);
    parts(text, today)
        .map(|parts| unix_ms(parts, local))
        .ok_or_else(|| "write 10m or 1h30m (so long ago), 14:00, 2026-11-24, 2026-11-24 14:00, today or yesterday".to_owned())
}

/// `today`, `yesterday`, a day, a time of today, or both.
fn parts(text: &str, today: Parts) -> Option<Parts> {
    let [year, month, day, ..] = today;
    let (date, clock) = match text.trim().split_once([' ', 'T']) {
        Some((date, clock)) => (Some(date), Some(clock)),
        None if text.contains(':') => (None, Some(text)),
        None => (Some(text), None),
    };
    let numbers = |text: &str, by: char, widths: &[usize]| {
        let parts: Vec<&str> = text.split(by).collect();
        let good = |(part, width): (&&str, &usize)| part.len() == *width && part.bytes().all(|byte| byte.is_ascii_digit());
        let all = parts.len() <= widths.len() && parts.iter().zip(widths).all(good);
        all.then(|| parts.iter().filter_map(|part| part.parse::<i32>().ok()).collect::<Vec<_>>())
    };
    let [year, month, day] = match date.map(str::trim) {
        None | Some("today") => [year, month, day],
        Some("yesterday") => civil(days([year, month, day]) - 1),
        Some(date) => <[i32; 3]>::try_from(numbers(date, '-', &[4, 2, 2])?).ok()?,
    };
    let clock = clock.map_or(Some(vec![0, 0]), |clock| numbers(clock.trim(), ':', &[2, 2, 2]))?;
    let (hour, minute, second) = match clock[..] {
        [hour, minute] => (hour, minute, 0),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    let exists = civil(days([year, month, day])) == [year, month, day];
    (exists && year >= 1970 && hour < 24 && minute < 60 && second < 60).then_some([year, month, day, hour, minute, second])
}

/// Days since 1970-01-01 of the Gregorian calendar.
fn days([year, month, day]: [i32; 3]) -> i64 {
    // Years begin in March, so that the day that may be missing is the last one.
    let (year, month) = (i64::from(year) - i64::from(month <= 2), i64::from(month));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + i64::from(day) - 1;
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + year * 365 + year / 4 - year / 100 + of_year - 719_468
}

/// The day so many days after 1970-01-01.
fn civil(days: i64) -> [i32; 3] {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    [year + era * 400 + i64::from(month <= 2), month, day].map(|number| i32::try_from(number).unwrap_or(0))
}

/// When it was or will be this time, where clocks show a point of time as `local` says.
fn unix_ms(at: Parts, local: impl Fn(u64) -> Parts) -> u64 {
    let as_if_utc = |[year, month, day, hour, minute, second]: Parts| {
        days([year, month, day]) * 86_400 + i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second)
    };
    let wanted = as_if_utc(at);
    let ms = |seconds: i64| u64::try_from(seconds).unwrap_or(0) * 1000;
    // Off by the zone's difference, and near a change of that once more by the other one.
    let mut found = wanted;
    for _ in 0..2 {
        found += wanted - as_if_utc(local(ms(found)));
    }
    ms(found)
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
        assert_eq!(brief_of([2026, 11, 24, 9, 5, 7], now), "09:05:07");
        assert_eq!(brief_of([2026, 11, 23, 23, 59, 59], now), "11-23 23:59");
        assert_eq!(brief_of([2025, 11, 24, 9, 5, 7], now), "2025-11-24");
        let then = local(now_ms());
        assert!((2020..2200).contains(&then[0]) && (1..=12).contains(&then[1]), "{then:?}");
    }

    #[test]
    fn points_of_time_as_people_write_them() {
        let today = [2026, 3, 1, 9, 30, 0];
        let cases = [
            ("today", Some([2026, 3, 1, 0, 0, 0])),
            ("yesterday", Some([2026, 2, 28, 0, 0, 0])),
            ("14:02", Some([2026, 3, 1, 14, 2, 0])),
            ("2024-02-29", Some([2024, 2, 29, 0, 0, 0])),
            ("2026-11-24 14:00:59", Some([2026, 11, 24, 14, 0, 59])),
            ("2026-11-24T14:00", Some([2026, 11, 24, 14, 0, 0])),
            ("yesterday 23:59", Some([2026, 2, 28, 23, 59, 0])),
            ("2026-02-29", None),
            ("2026-13-01", None),
            ("24:00", None),
            ("14", None),
            ("", None),
            ("1-1-1", None),
            (" 2026-11-24 ", Some([2026, 11, 24, 0, 0, 0])),
            ("-10:00", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parts(text, today), expected, "{text}");
        }
        for day in [-1, 0, 59, 60, 11_016, 19_782, 20_000, 40_000] {
            assert_eq!(days(civil(day)), day);
        }
        assert_eq!(civil(0), [1970, 1, 1]);
        // A zone two hours ahead, of which the clocks went forward at noon of 1970-01-02.
        let zone = |ms: u64| {
            let seconds = i64::try_from(ms / 1000).unwrap() + if ms < 129_600_000 { 3600 } else { 7200 };
            let [year, month, day] = civil(seconds.div_euclid(86_400));
            let [hour, minute, second] = [3600, 60, 1].map(|unit| i32::try_from(seconds.rem_euclid(86_400) / unit).unwrap());
            [year, month, day, hour, minute % 60, second % 60]
        };
        assert_eq!(unix_ms([1970, 1, 2, 1, 0, 0], zone), 86_400_000);
        assert_eq!(unix_ms([1970, 1, 3, 2, 0, 0], zone), 2 * 86_400_000);
        assert_eq!(at("90m", 129_600_000), Ok(124_200_000));
        assert!(at("soon", 129_600_000).is_err());
    }
}
