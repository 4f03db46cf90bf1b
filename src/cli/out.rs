//! The one place that writes to the terminal.
//!
//! Much of what is shown was written by others: apps, the configuration, the master. Nothing of it may steer the terminal
//! or read as something else than it is, so all text goes through [`safe`] and all JSON through [`json`]. Those colours pass
//! that are ours: a foreign one could hide what it is in.

use std::io::Write;
use std::os::fd::AsFd;

use serde::Serialize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Failure, table};
use crate::place::words;
use crate::say;
use crate::units::text::hidden;

/// Writes to stdout; a reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) {
    write(&safe(text));
}

/// Columns and rows of the terminal at stdout; a pipe has no end of either.
pub(crate) fn size() -> (usize, usize) {
    size_of(libc::STDOUT_FILENO)
}

/// Columns of the terminal at stderr.
pub(crate) fn error_columns() -> usize {
    size_of(libc::STDERR_FILENO).0
}

fn size_of(descriptor: i32) -> (usize, usize) {
    // SAFETY: TIOCGWINSZ fills the winsize that it is given; zeroes are a valid one.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        if libc::ioctl(descriptor, libc::TIOCGWINSZ, &raw mut size) == 0 { [size.ws_col, size.ws_row] } else { [0; 2] }
    };
    let [columns, rows] = size.map(|size| if size == 0 { usize::MAX } else { size.into() });
    (columns, rows)
}

/// On a terminal: takes the last `up` rows away, writes this for good, and below it what the next call takes away.
pub(crate) fn redraw(up: usize, above: &str, below: &str) {
    let back = if up == 0 { String::new() } else { format!("\r\u{1b}[{up}A\u{1b}[J") };
    write(&format!("{back}{}{}", safe(above), safe(below)));
}

/// Writes JSON to stdout.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    write(&format!("{}\n", json(value)?));
    Ok(())
}

/// Writes JSON to stdout, on one line.
pub(crate) fn print_json_line(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|why| Failure::Failed(why.to_string()))?;
    write(&format!("{}\n", escape(&text)));
    Ok(())
}

/// Returns when nobody reads stdout any more; where that cannot be told (a file), never.
pub(crate) async fn reader_gone() {
    let Ok(stdout) = std::io::stdout().as_fd().try_clone_to_owned() else { return std::future::pending().await };
    // SAFETY: an open descriptor of our own that lives as long as what watches it.
    let Ok(stdout) = (unsafe { AsyncFd::register_with_interest(stdout, Interest::ERROR) }) else { return std::future::pending().await };
    let _ = stdout.ready(Interest::ERROR).await;
}

/// Writes to the terminal that this process belongs to, whatever became of its own streams.
pub(crate) fn ask(text: &str) -> std::io::Result<()> {
    std::fs::OpenOptions::new().write(true).open("/dev/tty")?.write_all(safe(text).as_bytes())
}

/// Writes to stderr.
pub(crate) fn complain(text: &str) {
    say::complain(&safe(&words(text)));
}

/// The same of prose: on a terminal its lines break between words, and never within what is to be typed.
pub(crate) fn complain_wrapped(text: &str) {
    complain(&wrapped(text, error_columns()));
}

/// Lines of at most so many columns, where their words allow it; those that are indented are quoted, or drawn, and stay as they are.
fn wrapped(text: &str, columns: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let (mut at, mut quoted) = (0, false);
        // A command between backticks is one word.
        let words = line.split_inclusive(|ch| {
            quoted ^= ch == '`';
            ch == ' ' && !quoted
        });
        for word in words {
            if at > 0 && at + table::width(word.trim_end()) > columns && !line.starts_with(' ') {
                out.truncate(out.trim_end_matches(' ').len());
                out.push('\n');
                at = 0;
            }
            out.push_str(word);
            at += table::width(word);
        }
        out.push('\n');
    }
    out
}

/// Tells on stderr why the command failed; stdout has the answer alone, as far as there is one.
pub(crate) fn complain_json(message: &str, exit_code: u8) {
    let error = serde_json::json!({ "error": { "message": words(message), "exit_code": exit_code } });
    say::complain(&format!("{}\n", escape(&error.to_string())));
}

fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map(|text| escape(&text)).map_err(|why| Failure::Failed(why.to_string()))
}

/// JSON whose strings hold no hidden character as itself: the same JSON, harmless on a terminal.
pub(super) fn escape(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for ch in json.chars() {
        if ch == '\n' || !hidden(ch) {
            out.push(ch);
        } else {
            ch.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

/// Text without what would steer the terminal, turn the direction of text around, or not be seen.
pub(super) fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(ch) = rest.chars().next() {
        let length = colour(rest).unwrap_or(ch.len_utf8());
        if length > 1 && ch == '\u{1b}' || matches!(ch, '\n' | '\t') || !hidden(ch) {
            out.push_str(&rest[..length]);
        }
        rest = &rest[length..];
    }
    out
}

/// The length of the colour that the text begins with (`ECMA-48` select graphic rendition).
pub(super) fn colour(text: &str) -> Option<usize> {
    let codes = text.strip_prefix("\u{1b}[")?;
    let end = codes.find(|c: char| !(c.is_ascii_digit() || c == ';'))?;
    let ours = codes[..end].split(';').all(|code| OURS.contains(&if code.is_empty() { Some(0) } else { code.parse().ok() }));
    (codes[end..].starts_with('m') && ours && end <= 20).then_some(end + 3)
}

/// What `table` and the rendering of configuration errors use: plain, bold, dim, underlined, and foregrounds that are seen on
/// dark and on light. No background, nothing concealed, blinking or turned round.
const OURS: [Option<u8>; 11] = [Some(0), Some(1), Some(2), Some(4), Some(31), Some(32), Some(33), Some(34), Some(35), Some(36), Some(90)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::table::Tone;

    #[test]
    fn nothing_that_is_printed_steers_the_terminal() {
        assert_eq!(safe("a\u{1b}[2Jb\u{1b}]0;title\u{7}c\r\u{9b}31md\te\n"), "a[2Jb]0;titlec31md\te\n");
        assert_eq!(safe("\u{1b}[32monline\u{1b}[0m \u{1b}[36;1;4mx"), "\u{1b}[32monline\u{1b}[0m \u{1b}[36;1;4mx");
        assert_eq!(safe("\u{1b}[8mhidden\u{1b}[m\u{1b}["), "[8mhidden\u{1b}[m[");
        for hides in ["08", "0;8", "30;40", "37;47", "31;41", "38;5;0;48;5;0", "7", "5", "38;2;0;0;0", "264"] {
            assert_eq!(safe(&format!("\u{1b}[{hides}mx")), format!("[{hides}mx"), "{hides}");
        }
    }

    #[test]
    fn prose_breaks_between_words_and_never_within_a_command() {
        let text = "one two `project-cluster show api`, or three\n  a quoted line that is long\n";
        assert_eq!(wrapped(text, usize::MAX), text);
        assert_eq!(wrapped(text, 20), "one two\n`project-cluster show api`,\nor three\n  a quoted line that is long\n");
        assert_eq!(wrapped("a `b c`d e", 6), "a\n`b c`d\ne\n");
        for odd in ["`", "a `b", "``` ` `", "ä`ö ü`"] {
            assert_eq!(wrapped(odd, 1).split_whitespace().collect::<Vec<_>>(), odd.split_whitespace().collect::<Vec<_>>(), "{odd}");
        }
    }

    #[test]
    fn all_that_is_ours_passes() {
        let tones = [Tone::Green, Tone::Yellow, Tone::Red, Tone::Grey, Tone::Cyan].into_iter().chain((0..20).map(Tone::Hue));
        for painted in tones.map(|tone| tone.paint("x", true)) {
            assert_eq!(safe(&painted), painted);
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.toml");
        std::fs::write(&path, "[apps.api]\ncomand = \"x\"\nworkers = -7\n").unwrap();
        let rendered = crate::config::load(&path, &crate::config::SystemAccounts).err().unwrap().render(true);
        assert!(rendered.contains('\u{1b}'), "{rendered:?}");
        assert_eq!(safe(&rendered), rendered);
        assert_eq!(safe("a\u{202e}b\u{2066}c\u{200f}d\u{200d}e\u{feff}ä€"), "abcdeä€");
    }

    #[test]
    fn json_is_the_same_json_and_harmless() {
        let value = serde_json::json!({ "text": "a\u{1b}[2J\u{7f}\u{9b}\u{202e}\u{e0001}\n\u{0}ä" });
        let Ok(text) = json(&value) else { panic!("it is JSON") };
        assert!(!text.chars().any(|c| c != '\n' && hidden(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
