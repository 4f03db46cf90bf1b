//! What the command line reads: the master's answers and streams, the journal, what systemd says of units. Whatever they hold,
//! nothing of it steers the terminal.

use super::entry::Entry;
use super::plain::Head;
use super::show::fuzz as show;
use super::{client, events, list, out, sse, table};
use crate::api::events::Event;
use crate::api::types::{App, Problem, Roll, Worker};
use crate::fuzz::harmless;
use crate::journal;
use crate::names::ClusterName;

/// Asserts that a printed text steers nothing: it is what `print` lets through, and without its colours holds no hidden
/// character.
fn printed(text: &str) {
    let safe = out::safe(text);
    assert_eq!(out::safe(&safe), safe, "what is safe stays as it is");
    let mut rest = safe.as_str();
    let mut plain = String::new();
    while let Some(ch) = rest.chars().next() {
        let length = out::colour(rest).unwrap_or_else(|| {
            plain.push(ch);
            ch.len_utf8()
        });
        rest = &rest[length..];
    }
    harmless(&plain);
}

/// The head of an answer, and a stream of events in pieces: the first byte says where they are cut.
pub fn answers(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    head(bytes);
    // One event behind another, however they are cut.
    let whole = sse::Parser::default().take(bytes);
    let mut parser = sse::Parser::default();
    let pieces: Result<Vec<_>, _> = bytes.chunks(usize::from(*cut).max(1)).map(|piece| parser.take(piece)).collect();
    match (&whole, pieces.map(|pieces| pieces.concat())) {
        (Ok(whole), Ok(pieces)) => assert_eq!(*whole, pieces),
        (Err(_), Err(_)) => {}
        (whole, pieces) => unreachable!("{whole:?} in one piece, {pieces:?} in many"),
    }
    for data in whole.iter().flatten() {
        assert!(!data.is_empty() && data.len() <= bytes.len());
        if let Ok(event) = serde_json::from_str::<Event>(data) {
            told(&event);
        }
    }
    let text = out::escape(&String::from_utf8_lossy(bytes));
    assert!(!text.chars().any(|ch| ch != '\n' && crate::units::text::hidden(ch)), "{text:?}");
    printed(&String::from_utf8_lossy(bytes));
}

/// The head is the same once it is whole, and says no more than may be read.
fn head(bytes: &[u8]) {
    let Ok(Some(head)) = Head::parse(bytes, |_| ()) else { return };
    assert!(head.begin <= bytes.len() && head.begin <= head.end && head.end - head.begin <= client::ANSWER);
    for length in [head.begin, head.begin + (bytes.len() - head.begin) / 2] {
        assert_eq!(Head::parse(&bytes[..length], |_| ()).ok().flatten().as_ref(), Some(&head));
    }
    assert!(matches!(Head::parse(&bytes[..head.begin - 1], |_| ()), Ok(None) | Err(_)), "it was whole before its end");
}

/// An event is one line.
fn told(event: &Event) {
    for colours in [false, true] {
        let line = events::line(event, colours);
        assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line:?}");
        printed(&line);
    }
    harmless(&events::line(event, false));
}

/// An answer in JSON, as `ls`, `show`, `events`, `history` and a refusal show it.
pub fn shown(data: &[u8]) {
    if let Ok(apps) = serde_json::from_slice::<Vec<App>>(data) {
        let rows: Vec<Worker> = apps.iter().flat_map(|app| app.workers.clone()).collect();
        for width in [20, 80] {
            let text = list::workers(&rows, &apps, width, false);
            harmless(&text);
            printed(&list::workers(&rows, &apps, width, true));
        }
        apps.iter().for_each(show::app);
    }
    if let Ok(event) = serde_json::from_slice::<Event>(data) {
        told(&event);
    }
    if let Ok(entry) = serde_json::from_slice::<crate::api::history::Entry>(data) {
        let told = [super::history::rows(std::slice::from_ref(&entry), 80, false), super::history::full(&entry, false)];
        told.iter().for_each(|text| harmless(text));
        assert_eq!(told[0].lines().count(), 2, "{told:?}");
    }
    if let Ok(problem) = serde_json::from_slice::<Problem>(data) {
        printed(&client::Error::Refused(Box::new(problem)).to_string());
    }
    if let Ok(roll) = serde_json::from_slice::<Roll>(data) {
        let told = [super::follow::figures(&roll), super::follow::of(&roll), super::follow::to(&roll)];
        told.iter().for_each(|text| harmless(text));
    }
    let text = String::from_utf8_lossy(data);
    show::units(&text);
    for columns in [0, 1, 7, 80] {
        assert!(table::width(&table::cut(&text, columns)) <= columns.max(1), "{text:?} in {columns}");
        assert!(table::width(&table::middle(&text, columns)) <= columns.max(1), "{text:?} in {columns}");
    }
}

/// Entries as journalctl prints them: of whom each is, and what people see of it.
pub fn journal(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        let Some(entry) = Entry::parse(&ClusterName::default(), crate::place::Manager::System, line) else { continue };
        if let Some(uid) = &entry.uid {
            assert!(entry.unit.starts_with(&format!("project-cluster-{}@{}.", uid.app, uid.slot.get())), "{} is {uid}", entry.unit);
        }
        for (wide, colours) in [(0, false), (12, false), (12, true)] {
            let text = entry.line(wide, colours);
            assert!(text.ends_with('\n'), "{text:?}");
            printed(&text);
            if !colours && entry.uid.is_some() {
                harmless(&text);
            }
        }
    }
    journal::fuzz(&String::from_utf8_lossy(data));
}
