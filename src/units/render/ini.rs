//! Writes unit files: a mark, sections, directives and the comments that explain them.
//!
//! Pure. It must not know any directive.

use crate::names::ClusterName;
use crate::units::mark;

/// A unit file in the making.
pub(super) struct Ini(String);

impl Ini {
    /// An empty unit with our mark as its first line.
    pub(super) fn new(cluster: &ClusterName) -> Self {
        Self(format!("# {}\n", mark(cluster)))
    }
    /// Begins a section.
    pub(super) fn section(&mut self, name: &str) -> &mut Self {
        self.line("").line(&format!("[{name}]"))
    }
    /// A comment of one or more lines.
    pub(super) fn say(&mut self, text: &str) -> &mut Self {
        for line in text.lines() {
            self.line(&format!("# {line}"));
        }
        self
    }
    /// A directive. The value stands as given: whoever calls has escaped what needs it.
    pub(super) fn set(&mut self, key: &str, value: impl AsRef<str>) -> &mut Self {
        self.line(&format!("{key}={}", value.as_ref()))
    }
    /// Several directives.
    pub(super) fn all(&mut self, directives: &[(&str, &str)]) -> &mut Self {
        for (key, value) in directives {
            self.set(key, value);
        }
        self
    }
    /// A line as it is.
    pub(super) fn line(&mut self, line: &str) -> &mut Self {
        self.0.push_str(line);
        self.0.push('\n');
        self
    }
    /// The whole text.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.0)
    }
}
