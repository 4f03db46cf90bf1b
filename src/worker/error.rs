//! How a step of a worker's life fails: one paragraph that ends with what to do next, and the status that
//! systemd shows for it.

use std::fmt;

pub use crate::say::{Priority, line as say};

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
