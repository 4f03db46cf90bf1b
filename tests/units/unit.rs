//! A unit file read as systemd reads it, as far as the checks need.

use project_cluster::config::settings::Settings;
use project_cluster::units::model::{Host, Tree};
use project_cluster::units::render::render;

pub fn tree(settings: &Settings) -> Tree {
    render(settings, &Host::default())
}

/// Text of a unit of the tree.
pub fn text<'t>(tree: &'t Tree, name: &str) -> &'t str {
    &tree.files.get(&Host::default().units.join(name)).unwrap_or_else(|| panic!("no unit {name}")).contents
}

/// (section, key, value) of every directive, in order; lines that a backslash joins are one.
pub fn directives(text: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut section = String::new();
    let mut joined = String::new();
    for line in text.lines() {
        if joined.is_empty() && (line.starts_with('#') || line.trim().is_empty()) {
            continue;
        }
        joined.push_str(line);
        if line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1 {
            joined.pop();
            joined.push(' ');
            continue;
        }
        let whole = std::mem::take(&mut joined);
        if let Some(name) = whole.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((key, value)) = whole.split_once('=') {
            found.push((section.clone(), key.to_owned(), value.to_owned()));
        } else {
            panic!("neither section nor directive: {whole:?}");
        }
    }
    found
}

/// The values of a key in a section.
pub fn values(text: &str, section: &str, key: &str) -> Vec<String> {
    directives(text).into_iter().filter(|(s, k, _)| s == section && k == key).map(|(_, _, value)| value).collect()
}
