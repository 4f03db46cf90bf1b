//! What reading and validating found, as places in files; [`Problem`](super::Problem)s are made of it at the end.
//!
//! Pure. It must not know how a finding is shown.

use std::collections::BTreeSet;

use super::problem::Severity;
use super::source::Place;
use crate::names::AppName;

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
pub struct Findings {
    found: BTreeSet<Finding>,
    app: Option<AppName>,
}

impl Findings {
    /// What is noted from now on is about this app: `[apps.X]` of the texts bears its name.
    pub fn about(&mut self, app: Option<AppName>) {
        self.app = app;
    }

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
        let named = |text: String| match &self.app {
            // A dot would part a bare key of TOML.
            Some(app) if app.as_str().contains('.') => text.replace("[apps.X", &format!("[apps.\"{app}\"")),
            Some(app) => text.replace("[apps.X", &format!("[apps.{app}")),
            None => text,
        };
        let (message, help) = (named(message), named(help));
        self.found.insert(Finding { place: place.clone(), severity, code, message, help, also });
    }

    /// Takes others in.
    pub fn extend(&mut self, others: Self) {
        self.found.extend(others.found);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether anything is an error.
    pub fn failed(&self) -> bool {
        self.found.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// All, by file and place.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.found.iter()
    }
}
