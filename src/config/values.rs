//! The shapes of single values: numbers, durations, commands, addresses as typed.
//!
//! Pure. A shape knows its own type and range; what two keys mean together is validation's matter.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::json_schema;

use super::finding::Findings;
use super::key::{At, Shape, out_of_range, table, wrong_type};
use super::settings::{Amount, Workers};
use super::tree::{Kind, Node};
use crate::names::Slot;

/// Gives a leaf its JSON Schema, written in place wherever it is used.
macro_rules! inline_schema {
    ([$($generics:tt)*] $name:ty, |$generator:ident| $schema:expr) => {
        impl<$($generics)*> schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema($generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $schema
            }
        }
    };
}
pub(super) use inline_schema;

impl Shape for String {
    fn type_name() -> String {
        "string".into()
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) => Some(text.clone()),
            _ => {
                wrong_type::<Self>(node, findings);
                None
            }
        }
    }
}

impl Shape for bool {
    fn type_name() -> String {
        "true or false".into()
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::Bool(value) => Some(*value),
            _ => {
                wrong_type::<Self>(node, findings);
                None
            }
        }
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number<const MIN: i64, const MAX: i64>(pub i64);

impl<const MIN: i64, const MAX: i64> Number<MIN, MAX> {
    /// The number in a type that its range fits; clamped otherwise.
    pub fn to<T: TryFrom<i64> + Default>(self) -> T {
        T::try_from(self.0).unwrap_or_default()
    }
}

inline_schema!([const MIN: i64, const MAX: i64] Number<MIN, MAX>, |_generator| {
    json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
});

impl<const MIN: i64, const MAX: i64> Shape for Number<MIN, MAX> {
    fn type_name() -> String {
        "number".into()
    }
    fn range() -> String {
        format!("{MIN} to {MAX}")
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::Integer(Some(number)) if (MIN..=MAX).contains(number) => return Some(Self(*number)),
            Kind::Integer(_) => out_of_range::<Self>(node, findings),
            _ => wrong_type::<Self>(node, findings),
        }
        None
    }
}

/// A TCP port.
pub type Port = Number<1, 65535>;

/// How many workers.
#[derive(Debug, Clone, Copy)]
pub struct Count(pub Workers);

inline_schema!([] Count, |_generator| json_schema!({
    "anyOf": [{ "type": "integer", "minimum": -1, "maximum": Slot::MAX }, { "const": "auto" }]
}));

impl Shape for Count {
    fn type_name() -> String {
        "number or \"auto\"".into()
    }
    fn range() -> String {
        format!("0 to {}; -1 or \"auto\": one per core", Slot::MAX)
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::Integer(Some(-1)) => return Some(Self(Workers::PerCore)),
            Kind::Integer(number) => match number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number <= Slot::MAX) {
                Some(number) => return Some(Self(Workers::Count(number))),
                None => out_of_range::<Self>(node, findings),
            },
            Kind::Text(text) if text == "auto" => return Some(Self(Workers::PerCore)),
            _ => wrong_type::<Self>(node, findings),
        }
        None
    }
}

/// A duration from `MIN` to `MAX` milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time<const MIN: u64, const MAX: u64>(pub Duration);

const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

/// Milliseconds of `90s`, `1m30s`, `500 ms`.
pub(crate) fn milliseconds(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let number: u64 = number.parse().ok()?;
        let behind = behind.trim_start();
        let (unit, behind) = behind.split_at(behind.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(behind.len()));
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.checked_mul(*factor)?)?;
        rest = behind.trim_start();
    }
    Some(total)
}

/// A duration in the largest unit that tells it whole.
pub(super) fn duration_text(milliseconds: u64) -> String {
    let (unit, factor) =
        UNITS.iter().rev().find(|(_, factor)| milliseconds > 0 && milliseconds.is_multiple_of(*factor)).unwrap_or(&UNITS[0]);
    format!("{} {unit}", milliseconds / factor)
}

inline_schema!([const MIN: u64, const MAX: u64] Time<MIN, MAX>, |_generator| json_schema!({
    "anyOf": [
        { "type": "integer", "minimum": MIN, "maximum": MAX },
        { "type": "string", "pattern": r"^\s*([0-9]+\s*(ms|s|m|h)\s*)+$" }
    ]
}));

impl<const MIN: u64, const MAX: u64> Shape for Time<MIN, MAX> {
    fn type_name() -> String {
        "duration".into()
    }
    fn range() -> String {
        let least = if MIN == 0 { "0".into() } else { duration_text(MIN) };
        format!("{least} to {}", duration_text(MAX))
    }
    fn expected() -> String {
        format!("a number of milliseconds or a string such as \"5s\" (ms, s, m, h), {}", Self::range())
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let milliseconds = match &node.kind {
            Kind::Integer(number) => number.and_then(|number| u64::try_from(number).ok()).unwrap_or(u64::MAX),
            Kind::Text(text) => match milliseconds(text) {
                Some(number) => number,
                None => {
                    let help = format!("expected {}", Self::expected());
                    findings.error("bad-duration", &node.place, "not a duration", help);
                    return None;
                }
            },
            _ => {
                wrong_type::<Self>(node, findings);
                return None;
            }
        };
        if !(MIN..=MAX).contains(&milliseconds) {
            out_of_range::<Self>(node, findings);
            return None;
        }
        Some(Self(Duration::from_millis(milliseconds)))
    }
}

/// A number of workers, or a share of them: at most so many percent, or that share of the most workers there may be.
#[derive(Debug, Clone, Copy)]
pub struct Share<const PERCENT: u16 = 100>(pub Amount);

impl<const PERCENT: u16> Share<PERCENT> {
    const WORKERS: u16 = Slot::MAX * (PERCENT / 100);
}

inline_schema!([const PERCENT: u16] Share<PERCENT>, |_generator| json_schema!({
    "anyOf": [
        { "type": "integer", "minimum": 0, "maximum": Self::WORKERS },
        { "type": "string", "pattern": if PERCENT == 100 { "^(100|[1-9]?[0-9])%$" } else { "^(1000|[1-9]?[0-9]?[0-9])%$" } }
    ]
}));

impl<const PERCENT: u16> Shape for Share<PERCENT> {
    fn type_name() -> String {
        "number or percentage".into()
    }
    fn range() -> String {
        format!("0 to {}, \"0%\" to \"{PERCENT}%\" of the workers", Self::WORKERS)
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::Integer(number) => {
                if let Some(number) = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number <= Self::WORKERS) {
                    return Some(Self(Amount::Count(number)));
                }
                out_of_range::<Self>(node, findings);
            }
            Kind::Text(text) => {
                let digits = text.strip_suffix('%').filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
                match digits.map(|_| Amount::parse(text, 0, PERCENT)) {
                    Some(Some(share)) => return Some(Self(share)),
                    Some(None) => findings.error(
                        "out-of-range",
                        &node.place,
                        "the percentage is out of range",
                        format!("expected {}", Self::expected()),
                    ),
                    None => wrong_type::<Self>(node, findings),
                }
            }
            _ => wrong_type::<Self>(node, findings),
        }
        None
    }
}

/// A command: one string, or program and arguments.
#[derive(Debug, Clone)]
pub enum Command {
    /// Split as a shell would.
    Line(String),
    /// Taken as it is.
    Words(Vec<At<String>>),
}

inline_schema!([] Command, |_generator| json_schema!({
    "anyOf": [{ "type": "string", "minLength": 1 }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }]
}));

impl Shape for Command {
    fn type_name() -> String {
        "string or array of strings".into()
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) => Some(Self::Line(text.clone())),
            Kind::List(_) => Some(Self::Words(list(node, findings)?)),
            _ => {
                wrong_type::<Self>(node, findings);
                None
            }
        }
    }
}

/// The elements of an array; none when one of them is wrong.
fn list<T: Shape>(node: &Node, findings: &mut Findings) -> Option<Vec<At<T>>> {
    let Kind::List(nodes) = &node.kind else { return None };
    // Reads all before it gives up, so that all are told.
    let items: Vec<Option<At<T>>> = nodes.iter().map(|node| At::read(node, findings)).collect();
    items.into_iter().collect()
}

/// An array of `T`.
#[derive(Debug, Clone)]
pub struct List<T>(pub Vec<At<T>>);

inline_schema!([T: Shape] List<T>, |generator| {
    let items = generator.subschema_for::<T>();
    json_schema!({ "type": "array", "items": items })
});

impl<T: Shape> Shape for List<T> {
    fn type_name() -> String {
        format!("array of {}s", T::type_name())
    }
    fn range() -> String {
        T::range()
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        if !matches!(node.kind, Kind::List(_)) {
            wrong_type::<Self>(node, findings);
            return None;
        }
        list(node, findings).map(Self)
    }
}

/// A table whose keys are names of the person's choice.
#[derive(Debug, Clone)]
pub struct Map<T>(pub BTreeMap<String, At<T>>);

impl<T> Default for Map<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

inline_schema!([T: Shape] Map<T>, |generator| {
    let items = generator.subschema_for::<T>();
    json_schema!({ "type": "object", "additionalProperties": items })
});

impl<T: Shape> Shape for Map<T> {
    fn type_name() -> String {
        format!("table of {}", T::type_name())
    }
    fn range() -> String {
        T::range()
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let table = table::<Self>(node, findings)?;
        Some(Self(table.entries.iter().filter_map(|(key, node)| At::read(node, findings).map(|value| (key.clone(), value))).collect()))
    }
}

/// The value of an environment variable; numbers and booleans are taken as typed in decimal.
#[derive(Debug, Clone)]
pub struct EnvValue(pub String);

inline_schema!([] EnvValue, |_generator| json_schema!({ "type": ["string", "integer", "boolean"] }));

impl Shape for EnvValue {
    fn type_name() -> String {
        "string, number or true/false".into()
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) => Some(Self(text.clone())),
            Kind::Integer(Some(number)) => Some(Self(number.to_string())),
            Kind::Bool(value) => Some(Self(value.to_string())),
            _ => {
                wrong_type::<Self>(node, findings);
                None
            }
        }
    }
}

/// The values of a systemd directive; each becomes a line of its own.
#[derive(Debug, Clone)]
pub struct Directive(pub Vec<String>);

inline_schema!([] Directive, |_generator| json_schema!({
    "anyOf": [{ "type": ["string", "integer", "boolean"] }, { "type": "array", "items": { "type": "string" } }]
}));

impl Shape for Directive {
    fn type_name() -> String {
        "string, number, true/false or array of strings".into()
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) => Some(Self(vec![text.clone()])),
            Kind::Integer(Some(number)) => Some(Self(vec![number.to_string()])),
            Kind::Bool(value) => Some(Self(vec![if *value { "yes" } else { "no" }.into()])),
            Kind::List(_) => Some(Self(list::<String>(node, findings)?.into_iter().map(|at| at.value).collect())),
            _ => {
                wrong_type::<Self>(node, findings);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in
            [("5s", Some(5000)), ("1m30s", Some(90_000)), ("500 ms", Some(500)), ("1h 1m", Some(3_660_000)), ("0s", Some(0))]
        {
            assert_eq!(milliseconds(text), expected, "{text}");
        }
        for text in ["", "5", "s", "-5s", "1.5s", "5 sec", "5S", "99999999999999999999s", "18446744073709551615h", "5s5"] {
            assert_eq!(milliseconds(text), None, "{text}");
        }
        assert_eq!(["1 ms", "90 s", "2 m", "1 h", "0 ms"].map(String::from), [1, 90_000, 120_000, 3_600_000, 0].map(duration_text));
    }
}
