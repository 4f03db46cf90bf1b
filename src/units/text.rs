//! Words as systemd reads them: specifiers, quotes, time spans, and text that people read and that must not break
//! out of its line.
//!
//! Pure. The grammar is that of `systemd.syntax(7)` and of the parser of systemd 252.

use std::path::Path;
use std::time::Duration;

/// Doubles `%`, which systemd would expand.
pub fn percent(text: &str) -> String {
    text.replace('%', "%%")
}

/// Text for people, on one line: what is not plainly visible is written as an escape, and the text is cut after
/// 200 characters. It never ends in a backslash, which would join the next line of a unit to it.
///
/// Escaped are control characters, the invisible and direction-changing ones that could make a line read as
/// another, and noncharacters: systemd drops a whole line that holds one.
pub fn visible(text: &str) -> String {
    /// Long enough for a command line that a person would recognise, short enough for `systemctl status`.
    const LIMIT: usize = 200;
    let mut out = String::new();
    for (count, ch) in text.chars().enumerate() {
        if count == LIMIT {
            out.push('…');
            break;
        }
        if hidden(ch) {
            out.extend(ch.escape_default());
        } else {
            out.push(ch);
        }
    }
    if out.ends_with('\\') {
        out.push(' ');
    }
    out
}

/// Whether a character would not be seen, or would be seen elsewhere than it stands.
pub fn hidden(ch: char) -> bool {
    let point = u32::from(ch);
    ch.is_control()
        || matches!(point, 0x00ad | 0x061c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfdd0..=0xfdef | 0xfeff | 0xfff9..=0xfffb | 0xe0000..=0xe0fff)
        || point & 0xfffe == 0xfffe
}

/// A command as a person would type it, for comments and descriptions.
pub fn command(words: &[String]) -> String {
    visible(&shell_words::join(words))
}

/// The path of a program as first word of an `Exec...=` line. Variables are not expanded there, so `$` stays.
pub fn program(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-' | b'+')) {
        return text.into_owned();
    }
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b'%' => out.push_str("%%"),
            b' ' | b'!'..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

/// A time span. What is not nothing stays more than nothing: under a millisecond is written in microseconds.
pub fn span(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{}s", duration.as_secs())
    } else if duration.subsec_nanos().is_multiple_of(1_000_000) {
        format!("{}ms", duration.as_millis())
    } else {
        format!("{}us", duration.as_micros().max(1))
    }
}

/// A time limit: 0 would mean "no limit" to systemd, so nothing is written as the shortest there is.
pub fn limit(duration: Duration) -> String {
    span(duration.max(Duration::from_millis(1)))
}

/// A directive taken from the configuration as it is. Control characters become spaces, since a line break would
/// begin a directive that nobody wrote; behind a backslash that would join the next line stands an empty one.
pub fn verbatim(key: &str, value: &str) -> String {
    let clean = |text: &str| text.chars().map(|ch| if ch.is_control() { ' ' } else { ch }).collect::<String>();
    let mut line = format!("{}={}", clean(key), clean(value));
    let slashes = line.bytes().rev().take_while(|byte| *byte == b'\\').count();
    if slashes % 2 == 1 {
        line.push('\n');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans() {
        assert_eq!(span(Duration::from_millis(100)), "100ms");
        assert_eq!(span(Duration::from_millis(30_000)), "30s");
        assert_eq!(span(Duration::from_micros(1_500)), "1500us");
        assert_eq!(span(Duration::ZERO), "0s");
        assert_eq!(limit(Duration::ZERO), "1ms");
    }

    #[test]
    fn a_program_in_a_strange_place() {
        assert_eq!(program(Path::new("/usr/bin/project-cluster")), "/usr/bin/project-cluster");
        assert_eq!(program(Path::new("/opt/a b/50%/\"x\\$\n")), r#""/opt/a b/50%%/\"x\\$\x0a""#);
    }

    #[test]
    fn a_verbatim_backslash_joins_nothing() {
        assert_eq!(verbatim("A", "b\\"), "A=b\\\n");
        assert_eq!(verbatim("A", "b\\\\"), "A=b\\\\");
        assert_eq!(verbatim("A", "b\n[Install]"), "A=b [Install]");
    }

    proptest! {
        #[test]
        fn visible_text_stays_on_its_line(text in any::<String>()) {
            let out = visible(&text);
            prop_assert!(!out.chars().any(hidden));
            prop_assert!(!out.ends_with('\\'));
            prop_assert!(out.chars().count() <= 200 * 10 + 2);
        }
    }
}
