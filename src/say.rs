//! Lines for the journal, with the priority prefixes of `sd-daemon(3)`.
//!
//! Not `println!`: that panics when nobody reads, and a journal that goes away must take no roll with it.

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// What was remembered is lost; a person must look.
    Critical,
    /// Something failed.
    Error,
    /// Something is less than it should be and the work goes on.
    Warning,
    /// A person can do better, or wants to know.
    Notice,
    /// What is going on.
    Info,
}

/// Writes one line to stderr in one `write`, so that lines of several processes do not mix. Line breaks in the
/// text (names that others chose) become spaces: a second line would be without priority.
pub fn line(priority: Priority, text: &str) {
    let prefix = match priority {
        Priority::Critical => "<2>",
        Priority::Error => "<3>",
        Priority::Warning => "<4>",
        Priority::Notice => "<5>",
        Priority::Info => "<6>",
    };
    let mut out = String::with_capacity(text.len() + 4);
    out.push_str(prefix);
    out.extend(crate::place::words(text).chars().map(|c| if c.is_control() { ' ' } else { c }));
    out.push('\n');
    complain(&out);
}

/// Writes to stderr as it is; where stderr is gone there is nobody left to tell.
pub fn complain(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// [`line`] with a format: `say!(Warning, "{app}: {why}")`.
macro_rules! say {
    ($priority:ident, $($text:tt)*) => {
        $crate::say::line($crate::say::Priority::$priority, &format!($($text)*))
    };
}
pub(crate) use say;
