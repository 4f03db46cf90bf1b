//! The one place that writes to the terminal.
//!
//! Much of what is shown was written by others: apps, the configuration, the master. Nothing of it may steer the terminal
//! or read as something else than it is, so all text goes through [`safe`] and all JSON through [`json`]. Colours pass:
//! they are ours, and a foreign one does no harm.

use std::io::Write;
use std::os::fd::AsFd;

use serde::Serialize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Failure;
use crate::place::words;
use crate::say;
use crate::units::text::hidden;

/// Writes to stdout; a reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) {
    write(&safe(text));
}

/// Columns and rows of the terminal at stdout; a pipe has no end of either.
pub(crate) fn size() -> (usize, usize) {
    // SAFETY: TIOCGWINSZ fills the winsize that it is given; zeroes are a valid one.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        if libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) == 0 { [size.ws_col, size.ws_row] } else { [0; 2] }
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

/// Writes to stderr.
pub(crate) fn complain(text: &str) {
    say::complain(&safe(&words(text)));
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
fn escape(json: &str) -> String {
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
fn safe(text: &str) -> String {
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
fn colour(text: &str) -> Option<usize> {
    let codes = text.strip_prefix("\u{1b}[")?;
    let end = codes.find(|c: char| !(c.is_ascii_digit() || c == ';'))?;
    // 8 conceals what follows.
    let seen = codes[..end].split(';').all(|code| code != "8");
    (codes[end..].starts_with('m') && seen && end <= 20).then_some(end + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_printed_steers_the_terminal() {
        assert_eq!(safe("a\u{1b}[2Jb\u{1b}]0;title\u{7}c\r\u{9b}31md\te\n"), "a[2Jb]0;titlec31md\te\n");
        assert_eq!(safe("\u{1b}[32monline\u{1b}[0m \u{1b}[1;38;5;9mx"), "\u{1b}[32monline\u{1b}[0m \u{1b}[1;38;5;9mx");
        assert_eq!(safe("\u{1b}[8mhidden\u{1b}[m\u{1b}["), "[8mhidden\u{1b}[m[");
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
