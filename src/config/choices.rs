//! The shapes of values with several forms: addresses, ports, spawn, readiness.
//!
//! Pure. As [`values`](super::values): a shape knows its own form alone.

use schemars::json_schema;

use super::finding::Findings;
use super::fragment::{ListenTable, ReadyTable};
use super::key::{At, Shape, wrong_type};
use super::tree::{Kind, Node};
use super::values::{Command, List, Port, inline_schema};
use crate::names::Slot;

/// The command of a hook, or `[]`: none, where the cluster's keys have one.
#[derive(Debug, Clone)]
pub struct Hook(pub Option<Command>);

inline_schema!([] Hook, |_generator| json_schema!({
    "anyOf": [{ "type": "string", "minLength": 1 }, { "type": "array", "items": { "type": "string" } }]
}));

impl Shape for Hook {
    fn type_name() -> String {
        Command::type_name()
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let command = Command::read(node, findings)?;
        Some(Self(Some(command).filter(|command| !matches!(command, Command::Words(words) if words.is_empty()))))
    }
}

/// One listen address or several.
#[derive(Debug, Clone, Default)]
pub struct Listens(pub Vec<At<Listen>>);

inline_schema!([] Listens, |generator| {
    let one = generator.subschema_for::<Listen>();
    json_schema!({ "anyOf": [one.clone(), { "type": "array", "items": one }] })
});

impl Shape for Listens {
    fn type_name() -> String {
        "address or array of addresses".into()
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::List(_) => List::<Listen>::read(node, findings).map(|list| Self(list.0)),
            _ => At::read(node, findings).map(|one| Self(vec![one])),
        }
    }
}

/// One listen address.
#[derive(Debug, Clone)]
pub enum Listen {
    /// A string or a port.
    Plain(AddressText),
    /// With options.
    Table(Box<ListenTable>),
}

inline_schema!([] Listen, |generator| {
    let (text, table) = (generator.subschema_for::<AddressText>(), generator.subschema_for::<ListenTable>());
    json_schema!({ "anyOf": [text, table] })
});

impl Shape for Listen {
    fn type_name() -> String {
        "a port (3000), an address (\"127.0.0.1:3000\"), an absolute path, or a table { path = \"...\" }".into()
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::Table(_) => ListenTable::read(node, findings).map(|table| Self::Table(Box::new(table))),
            Kind::Text(_) | Kind::Integer(_) => AddressText::read(node, findings).map(Self::Plain),
            _ => {
                wrong_type::<Self>(node, findings);
                None
            }
        }
    }
}

/// An address as typed, or a port.
#[derive(Debug, Clone)]
pub struct AddressText(pub String);

inline_schema!([] AddressText, |_generator| json_schema!({
    "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 65535 }, { "type": "string", "minLength": 1 }]
}));

impl Shape for AddressText {
    fn type_name() -> String {
        "port or string".into()
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) => Some(Self(text.clone())),
            Kind::Integer(_) => Port::read(node, findings).map(|port| Self(port.0.to_string())),
            _ => {
                wrong_type::<Self>(node, findings);
                None
            }
        }
    }
}

/// Mode of a socket, `"0660"`.
#[derive(Debug, Clone, Copy)]
pub struct Mode(pub u32);

inline_schema!([] Mode, |_generator| json_schema!({ "type": "string", "pattern": "^0?[0-7]{3}$" }));

impl Shape for Mode {
    fn type_name() -> String {
        "octal string".into()
    }
    fn range() -> String {
        "\"000\" to \"0777\"".into()
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let digits = match &node.kind {
            Kind::Text(text) => text.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(text),
            _ => "",
        };
        if digits.len() == 3 && digits.bytes().all(|b| matches!(b, b'0'..=b'7')) {
            return u32::from_str_radix(digits, 8).ok().map(Self);
        }
        findings.error("bad-mode", &node.place, "not a mode", "expected three or four octal digits in quotes, such as \"0660\"");
        None
    }
}

/// How workers get their port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spawn {
    /// Shared sockets.
    Cluster,
    /// One port each.
    Child,
}

inline_schema!([] Spawn, |_generator| json_schema!({ "enum": ["cluster", "child"] }));

impl Shape for Spawn {
    fn type_name() -> String {
        "\"cluster\" or \"child\"".into()
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) if text == "cluster" => Some(Self::Cluster),
            Kind::Text(text) if text == "child" => Some(Self::Child),
            Kind::Text(_) => {
                findings.error("bad-choice", &node.place, "no such way to spawn", format!("expected {}", Self::type_name()));
                None
            }
            _ => {
                wrong_type::<Self>(node, findings);
                None
            }
        }
    }
}

/// Who may use the API over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Who has the token.
    Token,
    /// Whoever can connect.
    None,
}

inline_schema!([] Auth, |_generator| json_schema!({ "enum": ["token", "none"] }));

impl Shape for Auth {
    fn type_name() -> String {
        "\"token\" or \"none\"".into()
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) if text == "token" => Some(Self::Token),
            Kind::Text(text) if text == "none" => Some(Self::None),
            Kind::Text(_) => {
                findings.error("bad-choice", &node.place, "no such guard", format!("expected {}", Self::type_name()));
                None
            }
            _ => {
                wrong_type::<Self>(node, findings);
                None
            }
        }
    }
}

/// Who drains a worker that is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainBy {
    /// We do.
    Outside,
    /// The app does.
    Itself,
}

inline_schema!([] DrainBy, |_generator| json_schema!({ "enum": ["outside", "self"] }));

impl Shape for DrainBy {
    fn type_name() -> String {
        "\"outside\" or \"self\"".into()
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) if text == "outside" => Some(Self::Outside),
            Kind::Text(text) if text == "self" => Some(Self::Itself),
            Kind::Text(_) => {
                findings.error("bad-choice", &node.place, "nobody drains so", format!("expected {}", Self::type_name()));
                None
            }
            _ => {
                wrong_type::<Self>(node, findings);
                None
            }
        }
    }
}

/// What comes of a failure in a roll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Back to the old workers.
    Abort,
    /// A person decides.
    Pause,
}

inline_schema!([] OnFailure, |_generator| json_schema!({ "enum": ["abort", "pause"] }));

impl Shape for OnFailure {
    fn type_name() -> String {
        "\"abort\" or \"pause\"".into()
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) if text == "abort" => Some(Self::Abort),
            Kind::Text(text) if text == "pause" => Some(Self::Pause),
            Kind::Text(_) => {
                findings.error("bad-choice", &node.place, "no such way", format!("expected {}", Self::type_name()));
                None
            }
            _ => {
                wrong_type::<Self>(node, findings);
                None
            }
        }
    }
}

/// A range of ports, both ends included.
#[derive(Debug, Clone, Copy)]
pub struct Ports(pub u16, pub u16);

inline_schema!([] Ports, |generator| {
    let port = generator.subschema_for::<Port>();
    json_schema!({ "anyOf": [
        { "type": "string", "pattern": "^[0-9]+-[0-9]+$" },
        { "type": "array", "items": port, "minItems": 2, "maxItems": 2 }
    ] })
});

impl Shape for Ports {
    fn type_name() -> String {
        "\"FIRST-LAST\" or [first, last]".into()
    }
    fn range() -> String {
        format!("1 to 65535, at most {} ports", Slot::MAX)
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let ends = match &node.kind {
            Kind::Text(text) => {
                let end = |text: &str| text.trim().bytes().all(|b| b.is_ascii_digit()).then(|| text.trim().parse::<u16>().ok())?;
                text.split_once('-').and_then(|(first, last)| Some((end(first)?, end(last)?)))
            }
            Kind::List(items) => match items.as_slice() {
                [first, last] => {
                    let (first, last) = (Port::read(first, findings), Port::read(last, findings));
                    Some((first?.to(), last?.to()))
                }
                _ => None,
            },
            _ => {
                wrong_type::<Self>(node, findings);
                return None;
            }
        };
        match ends {
            Some((first, last)) if first > 0 && first <= last && last - first < Slot::MAX => Some(Self(first, last)),
            _ => {
                findings.error("bad-ports", &node.place, "not a range of ports", format!("expected {}", Self::expected()));
                None
            }
        }
    }
}

/// What makes a worker ready.
#[derive(Debug, Clone)]
pub enum Ready {
    /// It accepts from its sockets.
    Listen,
    /// It says so.
    Notify,
    /// It stays up.
    None,
    /// A probe says so.
    Probe(Box<ReadyTable>),
}

inline_schema!([] Ready, |generator| {
    let table = generator.subschema_for::<ReadyTable>();
    json_schema!({ "anyOf": [{ "enum": ["listen", "notify", "none"] }, table] })
});

impl Shape for Ready {
    fn type_name() -> String {
        "\"listen\", \"notify\", \"none\", { http = \"/path\" } or { exec = \"command\" }".into()
    }
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) => match text.as_str() {
                "listen" => return Some(Self::Listen),
                "notify" => return Some(Self::Notify),
                "none" => return Some(Self::None),
                _ => {
                    findings.error("bad-choice", &node.place, "no such readiness", format!("expected {}", Self::type_name()));
                }
            },
            Kind::Table(_) => return ReadyTable::read(node, findings).map(|table| Self::Probe(Box::new(table))),
            _ => wrong_type::<Self>(node, findings),
        }
        None
    }
}
