//! How a step of a worker's life fails: one paragraph that ends with what to do next, and the status that
//! systemd shows for it.

use std::fmt;

/// Status of a step that failed for a reason of its own.
pub const FAILED: u8 = 1;
/// `EXIT_CHDIR` of `systemd.exec(5)`: the working directory cannot be entered.
pub const CHDIR: u8 = 200;
/// `EXIT_EXEC` of `systemd.exec(5)`: the program cannot be executed.
pub const EXEC: u8 = 203;

/// A failure in the user's language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    text: String,
    code: u8,
}

impl Error {
    /// A failure with status [`FAILED`].
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: FAILED }
    }
    /// The same with another exit status, one of systemd's own where it has one.
    pub fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }
    /// The exit status.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

/// Priority prefixes of `sd-daemon(3)`, for lines on stderr that go to the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Something failed.
    Error,
    /// Something is less than it should be and the work goes on.
    Warning,
    /// A person can do better.
    Notice,
}

/// Writes one line to stderr in one `write`, so that lines of several processes do not mix. Line breaks in the
/// text (names that others chose) become spaces: a second line would be without priority.
pub fn say(priority: Priority, text: &str) {
    use std::io::Write as _;
    let prefix = match priority {
        Priority::Error => "<3>",
        Priority::Warning => "<4>",
        Priority::Notice => "<5>",
    };
    let mut line = String::with_capacity(text.len() + 4);
    line.push_str(prefix);
    line.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
    line.push('\n');
    // Where stderr is gone there is nobody left to tell.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
