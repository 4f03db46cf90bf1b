//! Problems of a configuration as people and editors see them: code, place, the line with a caret, what to write.
//!
//! Pure. Whatever a file holds, nothing of it reaches a terminal as a control character: a configuration that
//! someone else wrote must not be able to repaint the screen of who checks it.

use std::fmt;
use std::ops::Range;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents,
    ThemeStyles,
};
use serde::Serialize;

use super::finding::{Finding, Findings};
use super::source::{Place, Source, Sources};
use crate::units::text::hidden;

/// The most problems kept; who has more will not read them.
const MAX_PROBLEMS: usize = 1000;
/// The most problems that the rendering for people shows.
const MAX_SHOWN: usize = 50;
/// The most characters of a message and of a shown line: a file may be one line of 1 MiB.
const MAX_TEXT: usize = 400;
/// Characters of a long line shown before and from the caret on.
const BEFORE: usize = 40;
const BEHIND: usize = 80;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It works, and probably not as meant.
    Warning,
}

/// A second place that belongs to a problem.
#[derive(Debug, Clone, Serialize)]
pub struct Related {
    /// What is there.
    pub message: String,
    /// Its file.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// Its bytes.
    pub span: Range<usize>,
    #[serde(skip)]
    snippet: Option<Snippet>,
}

/// One problem, complete in itself.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// Stable code, `unknown-key`.
    pub code: &'static str,
    /// How bad.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What was expected, or what to write.
    pub help: String,
    /// The file.
    pub file: String,
    /// The line, from 1; 1 where the file as a whole is meant.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The bytes of the file; empty where it as a whole is meant.
    pub span: Range<usize>,
    /// A second place.
    pub related: Vec<Related>,
    #[serde(skip)]
    snippet: Option<Snippet>,
}

impl Problem {
    /// A problem of a file as a whole.
    pub fn of_file(code: &'static str, file: String, message: String, help: String) -> Self {
        Self { code, severity: Severity::Error, message, help, file, line: 1, column: 1, span: 0..0, related: Vec::new(), snippet: None }
    }

    /// Takes a directory out of the file names, so that tests can compare them.
    #[cfg(test)]
    pub fn strip_prefix(&mut self, prefix: &str) {
        let strip = |text: &mut String| *text = text.replace(prefix, "");
        strip(&mut self.file);
        for related in &mut self.related {
            strip(&mut related.file);
        }
        let snippets = self.related.iter_mut().filter_map(|related| related.snippet.as_mut()).chain(self.snippet.as_mut());
        snippets.for_each(|snippet| strip(&mut snippet.name));
    }

    /// A finding with its place looked up.
    pub fn of_finding(finding: &Finding, sources: &Sources) -> Self {
        let (file, (line, column), span, snippet) = look_up(&finding.place, sources);
        let related = finding.also.iter().map(|(place, message)| {
            let (file, (line, column), span, snippet) = look_up(place, sources);
            Related { message: message.clone(), file, line, column, span, snippet }
        });
        Self {
            code: finding.code,
            severity: finding.severity,
            message: clean(&finding.message),
            help: clean(&finding.help),
            file,
            line,
            column,
            span,
            related: related.collect(),
            snippet,
        }
    }
}

type LookedUp = (String, (usize, usize), Range<usize>, Option<Snippet>);

fn look_up(place: &Place, sources: &Sources) -> LookedUp {
    let Some(source) = sources.0.get(place.file) else { return (String::new(), (1, 1), 0..0, None) };
    let span = source.boundary(place.start)..source.boundary(place.end);
    (source.path.display().to_string(), source.locate(span.start), span.clone(), Some(Snippet::new(source, &span)))
}

/// Everything that is wrong with, or to be said of, a configuration. Its `Display` is the rendering for people,
/// without colour.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    /// By file and place.
    pub list: Vec<Problem>,
    /// How many more there were than are kept.
    pub more: usize,
    errors: usize,
    warnings: usize,
}

/// Columns of the rendering.
const COLUMNS: usize = 120;
/// The least that leaves room for words.
const LEAST: usize = 40;

impl Problems {
    /// The problems of files that could not be read, and all findings.
    pub fn new(mut list: Vec<Problem>, findings: &Findings, sources: &Sources) -> Self {
        let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        let (errors, warnings) = (list.len() + count(Severity::Error), count(Severity::Warning));
        for severity in [Severity::Error, Severity::Warning] {
            let room = MAX_PROBLEMS.saturating_sub(list.len());
            list.extend(findings.iter().filter(|f| f.severity == severity).take(room).map(|f| Problem::of_finding(f, sources)));
        }
        let order = |problem: &Problem| sources.0.iter().position(|source| source.path.display().to_string() == problem.file);
        list.sort_by_cached_key(|problem| (order(problem), problem.span.start, problem.severity));
        Self { more: errors + warnings - list.len(), list, errors, warnings }
    }

    /// Whether any is an error.
    pub fn failed(&self) -> bool {
        self.errors > 0
    }

    /// The rendering for people, of at most 120 columns.
    pub fn render(&self, colour: bool) -> String {
        self.render_within(colour, COLUMNS)
    }

    /// The same of at most so many columns, but for lines of the configuration.
    pub fn render_within(&self, colour: bool, columns: usize) -> String {
        let theme = GraphicalTheme {
            // The terminal's own colours, which are seen on dark and on light.
            styles: if colour { ThemeStyles::ansi() } else { ThemeStyles::none() },
            ..GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(columns.clamp(LEAST, COLUMNS)).with_links(false);
        let mut out = String::new();
        for problem in self.list.iter().take(MAX_SHOWN) {
            // Writing to a string fails only where a span lies outside its source; then the message alone is told.
            let length = out.len();
            if handler.render_report(&mut out, problem).is_err() {
                out.truncate(length);
                out.push_str(&format!("{}: {}\n  help: {}\n", problem.code, problem.message, problem.help));
            }
            out.push('\n');
        }
        let more = self.more + self.list.len().saturating_sub(MAX_SHOWN);
        if more > 0 {
            out.push_str(&format!("and {more} more\n"));
        }
        out.push_str(&format!("{}\n", self.summary()));
        out
    }

    /// How many there are: `2 errors, 1 warning`.
    pub fn summary(&self) -> String {
        format!("{}, {}", plural(self.errors, "error"), plural(self.warnings, "warning"))
    }

    /// The problems for editors: an array of [`Problem`] objects.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!(self.list)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// A text with every hidden character spelled out, of bounded length.
pub fn clean(text: &str) -> String {
    let mut out = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == MAX_TEXT {
            out.push('…');
            break;
        }
        if hidden(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

/// One line of a file, made harmless and short enough to show.
#[derive(Debug, Clone)]
struct Snippet {
    name: String,
    line: usize,
    column: usize,
    text: String,
    label: Range<usize>,
}

impl Snippet {
    fn new(source: &Source, span: &Range<usize>) -> Self {
        let (line, column) = source.locate(span.start);
        let range = source.line(line);
        let skip = column.saturating_sub(BEFORE + 1);
        let mut text = String::new();
        let (mut start, mut end) = (None, None);
        if skip > 0 {
            text.push('…');
        }
        for (count, (at, c)) in source.text[range.clone()].char_indices().skip(skip).enumerate() {
            let at = at + range.start;
            if at >= span.start {
                start.get_or_insert(text.len());
            }
            if at >= span.end {
                end.get_or_insert(text.len());
            }
            if count == BEFORE + BEHIND {
                text.push('…');
                break;
            }
            text.push(match c {
                '\t' => ' ',
                c if hidden(c) => '\u{fffd}',
                c => c,
            });
        }
        let start = start.unwrap_or(text.len());
        let end = end.unwrap_or(text.len()).max(start);
        if text.is_empty() {
            text.push(' ');
        }
        Self { name: clean(&source.path.display().to_string()), line, column, text, label: start..end }
    }
}

impl SourceCode for Snippet {
    fn read_span<'a>(&'a self, _: &SourceSpan, _: usize, _: usize) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let span = SourceSpan::from((0, self.text.len()));
        let contents = MietteSpanContents::new_named(self.name.clone(), self.text.as_bytes(), span, self.line - 1, self.column - 1, 1);
        Ok(Box::new(contents))
    }
}

fn labels(snippet: Option<&Snippet>) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
    snippet.map(|snippet| {
        let label = LabeledSpan::new(None, snippet.label.start, snippet.label.len());
        Box::new(std::iter::once(label)) as Box<dyn Iterator<Item = LabeledSpan>>
    })
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.snippet.is_none() {
            write!(f, "{}: ", clean(&self.file))?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.help.is_empty()).then(|| Box::new(&self.help) as Box<dyn fmt::Display>)
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.snippet.as_ref().map(|snippet| snippet as &dyn SourceCode)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        labels(self.snippet.as_ref())
    }
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        (!self.related.is_empty()).then(|| Box::new(self.related.iter().map(|related| related as &dyn Diagnostic)) as _)
    }
}

impl fmt::Display for Related {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Related {}

impl Diagnostic for Related {
    fn severity(&self) -> Option<miette::Severity> {
        Some(miette::Severity::Advice)
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.snippet.as_ref().map(|snippet| snippet as &dyn SourceCode)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        labels(self.snippet.as_ref())
    }
}
