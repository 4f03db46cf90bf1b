//! Several files as one: tables are laid together, a key in two files is an error that shows both places.
//!
//! Pure. It must not know which keys mean something. A table in braces is one value, closed as in TOML itself.

use std::collections::btree_map::Entry;

use super::finding::Findings;
use super::tree::{Kind, Node, Table};

/// Lays the files' trees together, in order; where a key is told twice the first stands.
pub fn merge(files: Vec<Node>, findings: &mut Findings) -> Option<Node> {
    let mut files = files.into_iter();
    let mut merged = files.next()?;
    for file in files {
        lay(&mut merged, file, &mut String::new(), findings);
    }
    Some(merged)
}

fn lay(into: &mut Node, from: Node, path: &mut String, findings: &mut Findings) {
    match (&mut into.kind, from.kind) {
        (Kind::Table(first), Kind::Table(second)) if !first.inline && !second.inline => tables(first, second, path, findings),
        _ => findings.error_also(
            "duplicate-key",
            &from.key,
            format!("`{path}` is written in two files"),
            "keep one of them; tables may be spread over files, a single key may not",
            (&into.key, "first written here"),
        ),
    }
}

fn tables(into: &mut Table, from: Table, path: &mut String, findings: &mut Findings) {
    for (key, node) in from.entries {
        let length = path.len();
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(&key);
        match into.entries.entry(key) {
            Entry::Vacant(place) => {
                place.insert(node);
            }
            Entry::Occupied(mut first) => lay(first.get_mut(), node, path, findings),
        }
        path.truncate(length);
    }
}
