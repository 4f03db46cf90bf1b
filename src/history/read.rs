//! Entries as they are told. What is read may be what somebody else wrote: what makes no sense is left out.

use std::collections::BTreeSet;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::READ;
use super::write::number;
use crate::api::history::{End, Entry};
use crate::names::{AppName, Generation};

/// Which entries, newest first.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Of this app.
    pub app: Option<AppName>,
    /// Of these apps alone, and none about the history itself.
    pub seen: Option<BTreeSet<AppName>>,
    /// Asked for at this time or later, milliseconds of Unix time.
    pub since_ms: Option<u64>,
    /// Before the entry of this number.
    pub before: Option<u64>,
    /// How many at most.
    pub limit: usize,
}

const COLUMNS: &str = "id, app, verb, slots, count, asked_by, systemctl, begun_ms, took_ms, waited_ms, state, text, roll, generation";

/// Some of them, without their steps.
///
/// # Errors
/// Those of SQLite.
pub fn list(connection: &Connection, part: &Part) -> rusqlite::Result<Vec<Entry>> {
    let sql = format!("SELECT {COLUMNS} FROM entry WHERE id < ?1 AND begun_ms >= ?2 AND (?3 IS NULL OR app = ?3) ORDER BY id DESC");
    let mut statement = connection.prepare(&sql)?;
    let app = part.app.as_ref().map(AppName::as_str);
    let rows = statement.query_map(params![number(part.before.unwrap_or(u64::MAX)), number(part.since_ms.unwrap_or(0)), app], entry)?;
    let sees = |entry: &Entry| part.seen.as_ref().is_none_or(|seen| entry.app.as_ref().is_some_and(|app| seen.contains(app)));
    let first_line = |mut entry: Entry| {
        entry.text = entry.text.and_then(|text| text.lines().next().map(str::to_owned));
        entry
    };
    rows.filter(|row| row.as_ref().map_or(true, sees)).map(|row| row.map(first_line)).take(part.limit).collect()
}

/// One, with its steps.
///
/// # Errors
/// Those of SQLite.
pub fn one(connection: &Connection, id: u64) -> rusqlite::Result<Option<Entry>> {
    let sql = format!("SELECT {COLUMNS}, CASE WHEN length(steps) <= {READ} THEN steps END FROM entry WHERE id = ?1");
    let with_steps = |row: &Row<'_>| {
        let steps = match row.get_ref(14)? {
            ValueRef::Text(steps) => serde_json::from_slice(steps).unwrap_or_default(),
            _ => Vec::new(),
        };
        Ok(Entry { steps, ..entry(row)? })
    };
    connection.query_row(&sql, [number(id)], with_steps).optional()
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let positive = |at: usize| {
        Ok::<_, rusqlite::Error>(match row.get_ref(at)? {
            ValueRef::Integer(number) => u64::try_from(number).ok(),
            _ => None,
        })
    };
    let text = |at: usize| {
        Ok::<_, rusqlite::Error>(match row.get_ref(at)? {
            ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        })
    };
    let state = text(10)?.unwrap_or_default();
    Ok(Entry {
        id: positive(0)?.unwrap_or(0),
        app: text(1)?.and_then(|app| app.parse().ok()),
        verb: text(2)?.unwrap_or_default(),
        slots: text(3)?.and_then(|slots| serde_json::from_str(&slots).ok()),
        count: positive(4)?.and_then(|count| u16::try_from(count).ok()),
        asked_by: text(5)?,
        systemctl: positive(6)? == Some(1),
        begun_ms: positive(7)?.unwrap_or(0),
        took_ms: positive(8)?,
        waited_ms: positive(9)?,
        end: End::ALL.into_iter().find(|end| end.word() == state).unwrap_or(End::CutOff),
        text: text(11)?,
        roll: positive(12)?,
        generation: positive(13)?.map(Generation),
        steps: Vec::new(),
    })
}
