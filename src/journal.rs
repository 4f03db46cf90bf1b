//! The last lines of a unit, for a message that says why.
//!
//! Asks `journalctl`: journald offers no call for it. Only trusted fields are matched, so that a line another user
//! forged never speaks for an app. It must not know apps.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// Longest line that a message shows, characters.
const WIDTH: usize = 400;
/// journalctl on a large journal; a message without lines is better than a late one.
const LIMIT: Duration = Duration::from_secs(5);

/// The last `count` lines that the processes of `unit` wrote since that point of `CLOCK_MONOTONIC` (microseconds);
/// empty when there are none or the journal cannot be read.
///
/// Bounded by time and not by `--boot`: in a container whose boot has an id of its own, a process with a /proc of its own
/// (`ProtectProc=`) sees the machine's, and finds nothing.
pub async fn last_lines(unit: &str, since_us: u64, count: usize) -> Vec<String> {
    let mut command = Command::new("journalctl");
    command
        .args(["--quiet", "--no-pager", "--output=cat", "--all"])
        .arg(format!("--lines={count}"))
        .arg(format!("_SYSTEMD_UNIT={unit}"))
        .arg("_TRANSPORT=stdout")
        .arg(format!("--since={}", wall_clock(since_us)))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    // Without its lines a message still says what happened; why they are missing is for the log.
    match tokio::time::timeout(LIMIT, command.output()).await {
        Ok(Ok(output)) => {
            for line in clean(&String::from_utf8_lossy(&output.stderr)) {
                eprintln!("<4>journalctl, asked for {unit}: {line}");
            }
            clean(&String::from_utf8_lossy(&output.stdout))
        }
        Ok(Err(why)) => {
            eprintln!("<4>journalctl cannot be run: {why}");
            Vec::new()
        }
        Err(_) => {
            eprintln!("<4>journalctl, asked for {unit}, gave no answer within {LIMIT:?}");
            Vec::new()
        }
    }
}

/// `@SECONDS` of the wall clock for a point of `CLOCK_MONOTONIC`.
fn wall_clock(monotonic_us: u64) -> String {
    let ago = monotonic_us_now().saturating_sub(monotonic_us);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let then = now.saturating_sub(Duration::from_micros(ago));
    format!("@{}.{:06}", then.as_secs(), then.subsec_micros())
}

/// Now, microseconds of `CLOCK_MONOTONIC`.
pub fn monotonic_us_now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that outlives the call; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000
}

/// Makes foreign text harmless for a terminal: one line each, control characters gone, bounded.
pub fn clean(text: &str) -> Vec<String> {
    text.lines().map(harmless).filter(|line| !line.is_empty()).collect()
}

/// One line without control characters (and so without escape sequences' power), cut to 400 characters.
pub fn harmless(line: &str) -> String {
    let mut out: String = line.trim_end().chars().filter(|c| !c.is_control() || *c == '\t').take(WIDTH + 1).collect();
    if out.chars().count() > WIDTH {
        out = out.chars().take(WIDTH).collect();
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_lines_cannot_steer_a_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\r\n\n\u{9b}31mc\u{7f}\n"), ["a[2Jb", "31mc"]);
        assert_eq!(harmless(&"x".repeat(1000)).chars().count(), WIDTH + 1);
    }
}
