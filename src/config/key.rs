//! Keys: reading a value of a given shape from a tree, noting what is wrong, and telling unknown keys.
//!
//! Pure. The `shape_table!` macro makes of one definition the typed table, its reader, its JSON Schema and its rows
//! in the documentation, so that they cannot disagree.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::finding::Findings;
use super::source::Place;
use super::tree::{Kind, Node, Table};

/// What can be read from a value.
pub trait Shape: Sized + JsonSchema {
    /// How the documentation calls the type: `number, "auto"`.
    fn type_name() -> String;
    /// Its unit and range, empty where there is none.
    fn range() -> String {
        String::new()
    }
    /// What is expected, for a message behind "expected".
    fn expected() -> String {
        match Self::range() {
            range if range.is_empty() => Self::type_name(),
            range => format!("{}: {range}", Self::type_name()),
        }
    }
    /// Reads it; what is wrong goes to `findings`, and then there is no value.
    fn read(node: &Node, findings: &mut Findings) -> Option<Self>;
    /// The keys of a table.
    fn keys() -> Option<&'static [KeyDoc]> {
        None
    }
}

/// Notes that a value has the wrong type.
pub fn wrong_type<T: Shape>(node: &Node, findings: &mut Findings) {
    findings.error("wrong-type", &node.place, format!("found {}", node.kind.found()), format!("expected {}", T::expected()));
}

/// Notes that a value has the right type and lies outside its range.
pub fn out_of_range<T: Shape>(node: &Node, findings: &mut Findings) {
    findings.error("out-of-range", &node.place, format!("{} is out of range", node.kind.found()), format!("expected {}", T::expected()));
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct At<T> {
    /// The key's place.
    pub key: Place,
    /// The value's place.
    pub place: Place,
    /// The value.
    pub value: T,
}

impl<T: Shape> At<T> {
    /// Reads the value of a node.
    pub fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        Some(Self { key: node.key.clone(), place: node.place.clone(), value: T::read(node, findings)? })
    }
}

/// What a key holds.
#[derive(Debug, Clone, Default)]
pub enum Key<T> {
    /// It is not written.
    #[default]
    Absent,
    /// It is written, and what is wrong with it has been told.
    Bad,
    /// It is written.
    Given(At<T>),
}

impl<T> Key<T> {
    /// The value and its place, where there is one.
    pub fn get(&self) -> Option<&At<T>> {
        match self {
            Self::Given(at) => Some(at),
            _ => None,
        }
    }
    /// The value alone.
    pub fn value(&self) -> Option<&T> {
        self.get().map(|at| &at.value)
    }
    /// Whether nothing is written.
    pub fn absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
    /// This key, or where it is absent the other.
    pub fn or<'a>(&'a self, other: &'a Self) -> &'a Self {
        if self.absent() { other } else { self }
    }
}

/// One row of the documentation.
pub struct KeyDoc {
    /// The key's name.
    pub name: &'static str,
    /// Its meaning.
    pub doc: &'static [&'static str],
    /// Its default as TOML; empty where there is none or the meaning tells it.
    pub default: &'static str,
    /// How the documentation calls its type.
    pub type_name: fn() -> String,
    /// Its unit and range.
    pub range: fn() -> String,
    /// Its JSON Schema.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

impl KeyDoc {
    /// Its meaning on one line.
    pub fn meaning(&self) -> String {
        self.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }
}

/// The JSON Schema of a table with these keys.
pub fn table_schema(doc: &[&str], keys: &[KeyDoc], generator: &mut SchemaGenerator) -> Schema {
    let properties: serde_json::Map<_, _> = keys
        .iter()
        .map(|key| {
            let mut schema = (key.schema)(generator);
            schema.insert("description".into(), key.meaning().into());
            if let Some(default) = default_json(key.default) {
                schema.insert("default".into(), default);
            }
            (key.name.to_string(), schema.to_value())
        })
        .collect();
    let doc = doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    schemars::json_schema!({ "type": "object", "description": doc, "properties": properties, "additionalProperties": false })
}

fn default_json(default: &str) -> Option<serde_json::Value> {
    let table: serde_json::Value = toml::from_str(&format!("x = {default}")).ok()?;
    table.get("x").cloned()
}

/// The table behind a node; anything else is told as a wrong type.
pub fn table<'a, T: Shape>(node: &'a Node, findings: &mut Findings) -> Option<&'a Table> {
    match &node.kind {
        Kind::Table(table) => Some(table),
        _ => {
            wrong_type::<T>(node, findings);
            None
        }
    }
}

/// Keys of other tools that people try first, and ours.
const FOREIGN: &[(&str, &str)] = &[
    ("args", "command"),
    ("cmd", "command"),
    ("count", "workers"),
    ("cwd_dir", "cwd"),
    ("dir", "cwd"),
    ("directory", "cwd"),
    ("environment", "env"),
    ("exec", "command"),
    ("instances", "workers"),
    ("kill_timeout", "timeout.kill"),
    ("numprocs", "workers"),
    ("processes", "workers"),
    ("script", "command"),
    ("uid", "user"),
    ("gid", "group"),
    ("working_directory", "cwd"),
];

/// Behind so many findings nobody guesses any more: a file of 1 MiB has room for 100,000 unknown keys.
const MAX_GUESSES: usize = 1000;

/// Notes an unknown key of the table at `path`, with the nearest known one.
pub fn unknown_key(key: &str, node: &Node, path: &str, known: &[KeyDoc], findings: &mut Findings) {
    let names = || known.iter().map(|doc| doc.name);
    let foreign = FOREIGN.iter().find(|(theirs, ours)| *theirs == key && names().any(|name| ours.split('.').next() == Some(name)));
    let help = if let Some((_, ours)) = foreign {
        format!("here it is called `{ours}`")
    } else if let Some(near) = (findings.len() < MAX_GUESSES).then(|| nearest(key, names())).flatten() {
        format!("did you mean `{near}`?")
    } else if let Some(home) = super::fragment::home_of(key) {
        format!("`{key}` belongs into {home}")
    } else {
        format!("known keys are {}", names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
    };
    let place = if path.is_empty() { "at the top".into() } else { format!("in [{path}]") };
    findings.error("unknown-key", &node.key, format!("unknown key `{key}` {place}"), help);
}

/// The known name that a person may have meant: at most a third of its letters differ.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Nothing near can be this long, and the distance is quadratic.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    let alike = |name: &str| name.bytes().zip(word.bytes()).take_while(|(a, b)| a == b).count();
    known
        .map(|name| (strsim::damerau_levenshtein(&word, &name.to_ascii_lowercase()), name))
        .filter(|(distance, name)| *distance <= (name.len().max(word.chars().count()) / 3).max(1))
        // Of two equally near ones, that which begins alike: people slip towards the end of a word.
        .min_by_key(|(distance, name)| (*distance, std::cmp::Reverse(alike(name))))
        .map(|(_, name)| name)
}

/// Defines a table: each key with its meaning, shape and default (TOML text).
macro_rules! shape_table {
    ($(#[doc = $doc:literal])+ pub struct $name:ident = $path:literal {
        $( $(#[doc = $key_doc:literal])+ $key:ident : $shape:ty = $default:literal; )+
    }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Default)]
        pub struct $name {
            $( $(#[doc = $key_doc])+ pub $key: $crate::config::key::Key<$shape>, )+
        }

        impl $name {
            /// Its keys.
            pub const KEYS: &'static [$crate::config::key::KeyDoc] = &[
                $( $crate::config::key::KeyDoc {
                    name: stringify!($key),
                    doc: &[$($key_doc),+],
                    default: $default,
                    type_name: <$shape as $crate::config::key::Shape>::type_name,
                    range: <$shape as $crate::config::key::Shape>::range,
                    schema: |generator| generator.subschema_for::<$shape>(),
                }, )+
            ];
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $crate::config::key::table_schema(&[$($doc),+], Self::KEYS, generator)
            }
        }

        impl $crate::config::key::Shape for $name {
            fn type_name() -> String {
                "table".into()
            }
            fn keys() -> Option<&'static [$crate::config::key::KeyDoc]> {
                Some(Self::KEYS)
            }
            fn read(node: &$crate::config::tree::Node, findings: &mut $crate::config::finding::Findings) -> Option<Self> {
                let table = $crate::config::key::table::<Self>(node, findings)?;
                let mut read = Self::default();
                for (name, child) in &table.entries {
                    match name.as_str() {
                        $( stringify!($key) => {
                            read.$key = match $crate::config::key::At::read(child, findings) {
                                Some(at) => $crate::config::key::Key::Given(at),
                                None => $crate::config::key::Key::Bad,
                            };
                        } )+
                        _ => $crate::config::key::unknown_key(name, child, $path, Self::KEYS, findings),
                    }
                }
                Some(read)
            }
        }
    };
}
pub(crate) use shape_table;
