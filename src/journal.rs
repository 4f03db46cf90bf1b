//! The last lines of a unit, for a message that says why.
//!
//! Asks `journalctl`: journald offers no call for it. Only trusted fields are matched, so that a line another user
//! forged never speaks for an app. It must not know apps.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::place::Manager;
use crate::say::say;
use crate::units::text::hidden;
use crate::worker::sys::process;
use serde::Deserialize;
use tokio::process::Command;
use tokio::time::Instant;

/// Longest line that a message shows, characters.
const WIDTH: usize = 400;
/// journalctl on a large journal; a message without lines is better than a late one.
const LIMIT: Duration = Duration::from_secs(5);

/// Two readings so far apart that say the same are believed: journald writes what it has within a millisecond or two.
const GAP: Duration = Duration::from_millis(50);
/// How long a journald that is busy is waited for.
const LATE: Duration = Duration::from_secs(1);

/// The journal, as `journalctl` reads it.
#[derive(Debug, Clone)]
pub struct Journal {
    program: PathBuf,
    manager: Manager,
}

impl Journal {
    /// That of the units of this kind of systemd.
    pub fn of(manager: Manager) -> Self {
        Self { program: "journalctl".into(), manager }
    }

    /// One that a program other than `journalctl` reads, which understands the same options.
    pub fn read_by(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), manager: Manager::System }
    }

    /// The last `count` lines that the processes of `unit` wrote since that point of `CLOCK_MONOTONIC` (microseconds);
    /// empty when there are none or the journal cannot be read.
    ///
    /// Bounded by each entry's monotonic time and not by `--since`: who sets the wall clock back or forth meanwhile would
    /// hide them. Nor by `--boot`: in a container the boot's id is a mount that `ProtectKernelTunables=` and `ProtectProc=`
    /// hide, and nothing matches.
    ///
    /// A process that has just ended may have written lines that journald has not. Root can make it write them; else
    /// it is read until it says something and says it twice, a second at most.
    pub async fn last_lines(&self, unit: &str, since_us: u64, count: usize) -> Vec<String> {
        let synced = process::effective_uid() == 0 && self.ask(&["--sync".into()], unit).await.is_some();
        let mut lines = self.read(unit, since_us, count).await;
        let end = Instant::now() + LATE;
        while !synced && Instant::now() < end {
            tokio::time::sleep(GAP).await;
            let again = self.read(unit, since_us, count).await;
            let settled = !again.is_empty() && again == lines;
            lines = again;
            if settled {
                break;
            }
        }
        lines
    }

    /// The same, as far as journald has written them: for what was said a while ago.
    pub async fn lines_so_far(&self, unit: &str, since_us: u64, count: usize) -> Vec<String> {
        self.read(unit, since_us, count).await
    }

    async fn read(&self, unit: &str, since_us: u64, count: usize) -> Vec<String> {
        let own = [format!("--lines={count}"), format!("{}={unit}", self.manager.unit_field())];
        let mut entries = self.written(unit, "MESSAGE", &own, since_us).await;
        if self.manager == Manager::User && entries.len() < count {
            entries.extend(self.without_unit(unit, since_us).await);
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.monotonic_us()));
            entries.truncate(count);
        }
        if entries.is_empty() {
            return Vec::new();
        }
        // Whatever was written last was written in this boot.
        let mut arguments = Self::as_json("_BOOT_ID");
        arguments.push("--lines=1".into());
        let last = Entry::parse(&self.ask(&arguments, unit).await.unwrap_or_default());
        let in_this_boot = |entry: &&Entry| last.first().is_some_and(|last| last.boot == entry.boot);
        entries.iter().rev().filter(in_this_boot).flat_map(|entry| clean(&entry.text())).collect()
    }

    /// What was written to standard output and error since then, the last first.
    async fn written(&self, unit: &str, fields: &str, matches: &[String], since_us: u64) -> Vec<Entry> {
        let mut arguments = Self::as_json(fields);
        arguments.extend(["--all".into(), "--reverse".into(), "_TRANSPORT=stdout".into()]);
        arguments.extend_from_slice(matches);
        let mut entries = Entry::parse(&self.ask(&arguments, unit).await.unwrap_or_default());
        entries.retain(|entry| entry.monotonic_us() >= since_us);
        entries
    }

    /// Lines that the unit's processes may have written. journald asks the kernel for a process's unit when it reads the line; of one
    /// that has ended by then it knows what systemd said as it opened the stream, and of a user's systemd it believes that of the
    /// identifier alone. That user is who asks, so nobody else's words get in; a sibling's that failed in the same moment may.
    async fn without_unit(&self, unit: &str, since_us: u64) -> Vec<Entry> {
        // Those of siblings that live are among them.
        const LOOKED_THROUGH: &str = "--lines=200";
        // A hook's unit is `NAME-APP:HOOK@...`, and its identifier that of the workers.
        let Some((identifier, _)) = unit.split_once([':', '@']) else { return Vec::new() };
        let matches = [LOOKED_THROUGH.into(), format!("_UID={}", process::effective_uid()), format!("SYSLOG_IDENTIFIER={identifier}")];
        let mut entries = self.written(unit, "MESSAGE,_SYSTEMD_USER_UNIT", &matches, since_us).await;
        entries.retain(|entry| entry.unit.is_none());
        entries
    }

    /// Arguments to print this field beside what is always printed.
    fn as_json(field: &str) -> Vec<String> {
        vec!["--quiet".into(), "--no-pager".into(), "--output=json".into(), format!("--output-fields={field}")]
    }

    /// What it answers; none when it fails. Without its lines a message still says what happened; why they are missing
    /// is for the log.
    async fn ask(&self, arguments: &[String], unit: &str) -> Option<String> {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        match tokio::time::timeout(LIMIT, command.output()).await {
            Ok(Ok(output)) => {
                for line in clean(&String::from_utf8_lossy(&output.stderr)) {
                    say!(Warning, "journalctl, asked for {unit}: {line}");
                }
                // It exits with 1 where nothing matches.
                let spoke = output.status.success() || !output.stdout.is_empty();
                spoke.then(|| String::from_utf8_lossy(&output.stdout).into_owned())
            }
            Ok(Err(why)) => {
                say!(Warning, "journalctl cannot be run: {why}");
                None
            }
            Err(_) => {
                say!(Warning, "journalctl, asked for {unit}, gave no answer within {LIMIT:?}");
                None
            }
        }
    }
}

/// One entry, as `--output=json` prints it.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "__MONOTONIC_TIMESTAMP")]
    monotonic: String,
    #[serde(rename = "_BOOT_ID")]
    boot: String,
    #[serde(rename = "MESSAGE", default)]
    message: Option<Message>,
    #[serde(rename = "_SYSTEMD_USER_UNIT")]
    unit: Option<String>,
}

/// A field: characters, or bytes where they are no plain text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Message {
    Text(String),
    Bytes(Vec<u8>),
}

impl Entry {
    /// One a line; what is none is left out.
    fn parse(text: &str) -> Vec<Self> {
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// When it was written, microseconds of its boot's `CLOCK_MONOTONIC`.
    fn monotonic_us(&self) -> u64 {
        self.monotonic.parse().unwrap_or(0)
    }

    fn text(&self) -> std::borrow::Cow<'_, str> {
        match &self.message {
            Some(Message::Text(text)) => text.into(),
            Some(Message::Bytes(bytes)) => String::from_utf8_lossy(bytes),
            None => "".into(),
        }
    }
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

/// One line without control characters (and so without escape sequences' power) and without the characters that turn
/// the direction of text around or are not seen, cut to 400 characters.
pub fn harmless(line: &str) -> String {
    let mut out: String = line.trim_end().chars().filter(|c| !hidden(*c) || *c == '\t').take(WIDTH + 1).collect();
    if out.chars().count() > WIDTH {
        out = out.chars().take(WIDTH).collect();
        out.push('…');
    }
    // What was hidden may have stood behind blanks.
    out.truncate(out.trim_end().len());
    out
}

/// Entries of a unit as `journalctl` prints them: each line of theirs steers nothing.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(text: &str) {
    for entry in Entry::parse(text) {
        entry.monotonic_us();
        for line in clean(&entry.text()) {
            assert!(!line.is_empty() && !line.contains('\n') && line.chars().count() <= WIDTH + 1, "{line:?}");
            crate::fuzz::harmless(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `journalctl` that prints these entries, newest first, and the newest alone where that is asked for.
    fn printing(directory: &std::path::Path, entries: &[&str]) -> Journal {
        use std::os::unix::fs::PermissionsExt as _;
        let program = directory.join("journalctl");
        let script = format!("#!/bin/sh\ncase \"$*\" in *--lines=1*) head -n 1;; *) cat;; esac << 'END'\n{}\nEND\n", entries.join("\n"));
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Journal::read_by(program)
    }

    #[tokio::test]
    async fn lines_of_this_boot_since_then_whatever_the_wall_clock_said() {
        let directory = tempfile::tempdir().unwrap();
        let journal = printing(
            directory.path(),
            &[
                // An hour earlier by the wall clock than the one before it, and bytes that are no text.
                r#"{"__MONOTONIC_TIMESTAMP":"9000","__REALTIME_TIMESTAMP":"1000000000","_BOOT_ID":"b2","MESSAGE":[114,101,100,255]}"#,
                r#"{"__MONOTONIC_TIMESTAMP":"8000","__REALTIME_TIMESTAMP":"4600000000","_BOOT_ID":"b2","MESSAGE":"second"}"#,
                r#"{"__MONOTONIC_TIMESTAMP":"7000","__REALTIME_TIMESTAMP":"4600000000","_BOOT_ID":"b2","MESSAGE":"first"}"#,
                r#"{"__MONOTONIC_TIMESTAMP":"6999","__REALTIME_TIMESTAMP":"4600000000","_BOOT_ID":"b2","MESSAGE":"too early"}"#,
                r#"{"__MONOTONIC_TIMESTAMP":"8500","__REALTIME_TIMESTAMP":"3600000000","_BOOT_ID":"b1","MESSAGE":"another boot"}"#,
                r#"{"__MONOTONIC_TIMESTAMP":"8500","_BOOT_ID":"b2","MESSAGE":null}"#,
            ],
        );
        assert_eq!(journal.read("a.service", 7000, 30).await, ["first", "second", "red\u{fffd}"]);
    }

    #[tokio::test]
    async fn of_a_user_s_unit_also_the_lines_of_processes_that_had_ended_when_journald_looked() {
        let directory = tempfile::tempdir().unwrap();
        let entry = |at: u32, unit: &str, text: &str| {
            let unit = if unit.is_empty() { String::new() } else { format!(r#","_SYSTEMD_USER_UNIT":"{unit}""#) };
            format!(r#"{{"__MONOTONIC_TIMESTAMP":"{at}","_BOOT_ID":"b","MESSAGE":"{text}"{unit}}}"#)
        };
        let own = entry(8000, "x-api@1.2.1.service", "it ended");
        let others = [entry(7900, "", "no database"), entry(7800, "x-api@2.1.1.service", "a sibling"), entry(6000, "", "too early")];
        let mut journal = printing(directory.path(), &[]);
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *SYSLOG_IDENTIFIER=x-api*) cat << 'END'\n{}\nEND\n;; *) echo '{own}';; esac\n",
            others.join("\n")
        );
        std::fs::write(directory.path().join("journalctl"), script).unwrap();
        assert_eq!(journal.read("x-api@1.2.1.service", 7000, 30).await, ["it ended"]);
        journal.manager = Manager::User;
        assert_eq!(journal.read("x-api@1.2.1.service", 7000, 30).await, ["no database", "it ended"]);
        assert_eq!(journal.read("x-api:before@2.service", 7000, 30).await, ["no database", "it ended"], "a hook's");
    }

    #[test]
    fn foreign_lines_cannot_steer_a_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\r\n\n\u{9b}31mc\u{7f}\n"), ["a[2Jb", "31mc"]);
        assert_eq!(clean("a\u{202e}b\u{2066}c\u{200f}d\u{200b}e\u{200d}f"), ["abcdef"]);
        assert_eq!(harmless(&"x".repeat(1000)).chars().count(), WIDTH + 1);
    }
}
