//! The documents: their generated parts are what the code says, the man pages are made from them, and no document or message
//! names a verb, an option, a file or a heading that does not exist. What they tell people to type is run by `tests/it/documents.rs`.
//!
//! `UPDATE_DOCS=1 cargo test --test documents` (`make man`) writes all that is generated here. It is a test and no part of the
//! program, so that the program needs neither a Markdown parser nor a generator.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod cli;
mod links;
mod man;
mod rest;
mod roff;
mod words;

use std::path::{Path, PathBuf};

/// A path in the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a file of the repository.
#[track_caller]
fn text(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// README.md and all of docs/*.md.
fn documents() -> Vec<(String, String)> {
    let mut paths: Vec<String> = std::fs::read_dir(repository("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().into_string().unwrap()))
        .filter(|path| path.ends_with(".md"))
        .collect();
    paths.push("README.md".into());
    paths.sort();
    assert!(paths.len() > 6, "{paths:?}");
    paths.into_iter().map(|path| (path.clone(), text(&path))).collect()
}

/// Compares a committed file with what is generated, or writes it.
#[track_caller]
fn committed(path: &str, generate: impl Fn(&str) -> String) {
    let current = std::fs::read_to_string(repository(path)).unwrap_or_default();
    let generated = generate(&current);
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(repository(path), generated).unwrap();
    } else {
        assert!(current == generated, "{path} is behind what it is made from; `make man` writes it");
    }
}

/// A document with what lies between two comments replaced.
#[track_caller]
fn between(document: &str, name: &str, generated: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: generated, `make man` writes it -->"), format!("<!-- end of {name} -->"));
    let (before, rest) = document.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end}"));
    format!("{before}{begin}\n\n{generated}{end}{after}")
}

/// The row of a table.
fn row(cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
    format!("| {} |\n", cells.join(" | "))
}
