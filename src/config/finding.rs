//! What reading and validating found, as places in files; [`Problem`](super::Problem)s are made of it at the end.
//!
//! Pure. It must not know how a finding is shown.

use std::collections::BTreeSet;

use super::problem::Severity;
use super::source::Place;

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// How bad.
    pub severity: Severity,
    /// Stable code, `unknown-key`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What was expected, or what to write.
    pub help: String,
    /// Another place that belongs to it, and what is there.
    pub also: Option<(Place, String)>,
}

/// Everything found so far; the same thing found twice (a default that several apps inherit) counts once.
#[derive(Debug, Clone, Default)]
pub struct Findings(BTreeSet<Finding>);

impl Findings {
    /// Notes an error.
    pub fn error(&mut self, code: &'static str, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.note(Severity::Error, code, place, message.into(), help.into(), None);
    }

    /// Notes an error that has a second place.
    pub fn error_also(
        &mut self,
        code: &'static str,
        place: &Place,
        message: impl Into<String>,
        help: impl Into<String>,
        also: (&Place, &str),
    ) {
        self.note(Severity::Error, code, place, message.into(), help.into(), Some((also.0.clone(), also.1.into())));
    }

    /// Notes a warning.
    pub fn warn(&mut self, code: &'static str, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.note(Severity::Warning, code, place, message.into(), help.into(), None);
    }

    fn note(
        &mut self,
        severity: Severity,
        code: &'static str,
        place: &Place,
        message: String,
        help: String,
        also: Option<(Place, String)>,
    ) {
        self.0.insert(Finding { place: place.clone(), severity, code, message, help, also });
    }

    /// Takes others in.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether anything is an error.
    pub fn failed(&self) -> bool {
        self.0.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// All, by file and place.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }
}
