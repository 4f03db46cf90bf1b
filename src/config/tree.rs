//! One TOML file as typed: a tree of values that know their places.
//!
//! Pure. It must not know which keys mean something. The `toml` crate parses, and goes on behind a syntax error, so
//! that all of a file's are told at once; serde would stop at the first wrong value.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml_parser::lexer::TokenKind;

use super::finding::Findings;
use super::source::Place;

/// Deepest nesting of tables and arrays. The configuration itself needs 4; an unbounded tree would overflow the
/// stack of whoever walks it.
pub const MAX_DEPTH: usize = 32;

/// A value, and the key it stands behind.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its key; for the root the start of the file, for an array's element the element.
    pub key: Place,
    /// The value.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A string.
    Text(String),
    /// An integer; none when it does not fit 64 bits.
    Integer(Option<i64>),
    /// A float, as written.
    Float(String),
    /// true or false.
    Bool(bool),
    /// A date or time.
    Date,
    /// An array.
    List(Vec<Node>),
    /// A table.
    Table(Table),
}

/// A table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Written in braces: one value, closed as in TOML itself.
    pub inline: bool,
    /// Its keys.
    pub entries: BTreeMap<String, Node>,
}

impl Kind {
    /// What it is, for "found ...".
    pub fn found(&self) -> String {
        match self {
            Self::Text(text) if text.is_empty() => "an empty string".into(),
            Self::Text(_) => "a string".into(),
            Self::Integer(Some(number)) => format!("the number {number}"),
            Self::Integer(None) => "a number beyond 64 bits".into(),
            Self::Float(text) => format!("the fraction {text}"),
            Self::Bool(value) => format!("{value}"),
            Self::Date => "a date".into(),
            Self::List(_) => "an array".into(),
            Self::Table(_) => "a table".into(),
        }
    }
}

/// Parses one file; syntax errors go to `findings`, with a tree of what could be read around them.
pub fn parse(text: &str, file: usize, findings: &mut Findings) -> Node {
    let start = Place::new(file, 0..0);
    let root = |table| Node { key: start.clone(), place: start.clone(), kind: Kind::Table(table) };
    if let Some(at) = too_deep(text) {
        too_deep_error(findings, &Place::new(file, at..at + 1));
        return root(Table::default());
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        findings.error("syntax", &Place::new(file, span), format!("not valid TOML: {}", error.message()), "see https://toml.io");
    }
    let mut reader = Reader { text, file, findings };
    let table = reader.table(table.into_inner(), false, 0);
    root(table)
}

fn too_deep_error(findings: &mut Findings, place: &Place) {
    findings.error(
        "too-deep",
        place,
        format!("nested more than {MAX_DEPTH} deep"),
        "no key of the configuration lies deeper than 4 tables",
    );
}

/// Where a dotted key has more parts than any key can need, before the parser sees it: the parser bounds arrays and
/// inline tables, not the length of `a.a.a`, and a table of that depth overflows the stack when dropped.
fn too_deep(text: &str) -> Option<usize> {
    let mut dots = 0;
    for token in toml_parser::Source::new(text).lex() {
        match token.kind() {
            TokenKind::Dot => dots += 1,
            TokenKind::Equals | TokenKind::Comma | TokenKind::LeftCurlyBracket | TokenKind::Newline => dots = 0,
            _ => {}
        }
        if dots > MAX_DEPTH {
            return Some(token.span().start());
        }
    }
    None
}

struct Reader<'a> {
    text: &'a str,
    file: usize,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    fn table(&mut self, table: DeTable<'_>, inline: bool, depth: usize) -> Table {
        let entries = table
            .into_iter()
            .map(|(key, value)| {
                let place = Place::new(self.file, key.span());
                let node = self.node(Some(place), value, depth + 1);
                (key.into_inner().into_owned(), node)
            })
            .collect();
        Table { inline, entries }
    }

    fn node(&mut self, key: Option<Place>, value: Spanned<DeValue<'_>>, depth: usize) -> Node {
        let span = value.span();
        let place = Place::new(self.file, span.clone());
        if depth > MAX_DEPTH {
            too_deep_error(self.findings, &place);
            return Node { key: key.unwrap_or(place.clone()), place, kind: Kind::Table(Table::default()) };
        }
        let kind = match value.into_inner() {
            DeValue::String(text) => Kind::Text(text.into_owned()),
            DeValue::Integer(number) => Kind::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()),
            DeValue::Float(number) => Kind::Float(number.as_str().into()),
            DeValue::Boolean(value) => Kind::Bool(value),
            DeValue::Datetime(_) => Kind::Date,
            DeValue::Array(list) => Kind::List(list.into_iter().map(|item| self.node(None, item, depth + 1)).collect()),
            DeValue::Table(table) => {
                let inline = self.text.get(span).is_some_and(|text| text.starts_with('{'));
                Kind::Table(self.table(table, inline, depth))
            }
        };
        Node { key: key.unwrap_or(place.clone()), place, kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        let deep = [
            format!("{}a = 1", "a.".repeat(300_000)),
            format!("[{}a]", "a.".repeat(300_000)),
            format!("a = {{ {}b = 1 }}", "b.".repeat(300_000)),
            format!("a = {}{}", "[".repeat(300_000), "]".repeat(300_000)),
            format!("a = {}", "{ a = ".repeat(100_000)),
            format!("a.{}b = 1", "\"x\".".repeat(100_000)),
            format!("{}b = 1", "'\"'.".repeat(100_000)),
            format!("{}b = 1", "\"\\\"\".".repeat(100_000)),
            format!("x = '''\n'''\n{}b = 1", "\"'\".".repeat(100_000)),
            format!("x = '''\n{}b = 1", "\"'''\".".repeat(100_000)),
            format!("{}b = 1", "x.\"\\\"=\".".repeat(100_000)),
            (0..200).fold(String::new(), |text, _| text + "a = [{ b.c.d.e.f.g = "),
        ];
        for text in deep {
            let mut findings = Findings::default();
            parse(&text, 0, &mut findings);
            assert!(findings.failed(), "{}", &text[..40]);
        }
    }

    #[test]
    fn dots_in_strings_and_comments_are_no_depth() {
        let dots = ".".repeat(100);
        let text = format!("a = \"\\\"{dots}\" # {dots}\nb = '''\n{dots}\n{dots}'''\nc = [{}]", "1.5, ".repeat(100));
        let mut findings = Findings::default();
        parse(&text, 0, &mut findings);
        assert_eq!(findings.iter().count(), 0);
    }
}
