//! An entry's life, each step a few statements in one transaction.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Act, MOST, STEP, STEPS, TEXT};
use crate::api::history::End;
use crate::api::types::{self, RollState, Step};
use crate::journal::harmless;
use crate::names::AppName;

/// An entry of which nothing is known yet but that it was asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// By which it is spoken of.
    pub key: u64,
    /// Of which app.
    pub app: AppName,
    /// What.
    pub act: Act,
    /// Who.
    pub asked_by: Option<String>,
    /// When, milliseconds of Unix time.
    pub begun_ms: u64,
    /// When, milliseconds of `CLOCK_MONOTONIC`.
    pub begun_at: u64,
}

/// What a roll of the whole app carries out, and what one of single slots does, as SQL.
const OF_ALL: &str = "'reload', 'restart', 'rollback', 'apply'";
const OF_SLOTS: &str = "'restart', 'scale', 'add', 'remove', 'start', 'stop', 'apply'";

/// A number of ours as SQLite has them.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The first bytes of a text, whole characters.
fn short(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// Somebody asked.
pub fn asked(connection: &Connection, one: &Asked) -> rusqlite::Result<()> {
    insert(connection, one)?;
    prune(connection)
}

fn insert(connection: &Connection, one: &Asked) -> rusqlite::Result<()> {
    let Asked { key, app, act, asked_by, begun_ms, begun_at } = one;
    let slots = act.slots.as_ref().map(|slots| serde_json::json!(slots).to_string());
    // Written already where its end was written first.
    connection.execute(
        "INSERT INTO entry (key, app, verb, slots, count, asked_by, begun_ms, begun_at, state)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'running') ON CONFLICT (key) DO NOTHING",
        params![number(*key), app.as_str(), act.verb, slots, act.count, asked_by, number(*begun_ms), number(*begun_at)],
    )?;
    Ok(())
}

/// Keeps the newest.
fn prune(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM entry WHERE state <> 'running' AND id <= (SELECT id FROM entry ORDER BY id DESC LIMIT 1 OFFSET ?1)",
        [MOST],
    )?;
    Ok(())
}

/// A roll carries it out.
pub fn carried_by(connection: &Connection, key: u64, roll: u64) -> rusqlite::Result<()> {
    connection.execute("UPDATE entry SET roll = ?2 WHERE key = ?1 AND state = 'running'", [number(key), number(roll)])?;
    Ok(())
}

/// It came by the app's handle.
pub fn by_systemctl(connection: &Connection, key: u64) -> rusqlite::Result<()> {
    connection.execute("UPDATE entry SET systemctl = 1 WHERE key = ?1", [number(key)])?;
    Ok(())
}

/// It ended, `at` by `CLOCK_MONOTONIC`, without a roll. Also one whose beginning could not be written.
pub fn ended(connection: &Connection, one: &Asked, end: End, text: &str, at: u64) -> rusqlite::Result<()> {
    insert(connection, one)?;
    connection.execute(
        "UPDATE entry SET state = ?2, text = ?3, took_ms = max(0, ?4 - begun_at), roll = NULL WHERE key = ?1 AND state = 'running'",
        params![number(one.key), end.word(), short(text, TEXT), number(at)],
    )?;
    prune(connection)
}

/// A roll ended, `at` by `CLOCK_MONOTONIC`: so did all that it carried out. Where nothing of that is written, which was lost or
/// is older than what is kept, the roll stands for it.
pub fn roll_ended(connection: &Connection, roll: &types::Roll, at: u64, now_ms: u64) -> rusqlite::Result<()> {
    let end = if roll.state == RollState::Done { End::Done } else { End::Failed };
    let text = roll.reason.as_deref().map(|reason| short(reason, TEXT));
    let (took, generation) = (number(roll.took_ms), roll.generation.map(|generation| number(generation.0)));
    let steps = steps(&roll.steps);
    let changed = connection.execute(
        "UPDATE entry SET state = ?3, text = ?4, took_ms = max(0, ?5 - begun_at), waited_ms = max(0, ?5 - begun_at - ?6), generation = ?7,
         steps = ?8 WHERE app = ?1 AND roll = ?2 AND state = 'running'",
        params![roll.app.as_str(), number(roll.id), end.word(), text, number(at), took, generation, steps],
    )?;
    if changed > 0 {
        return Ok(());
    }
    let known = connection
        .query_row("SELECT 1 FROM entry WHERE app = ?1 AND roll = ?2", params![roll.app.as_str(), number(roll.id)], |_| Ok(()))
        .optional()?;
    if known.is_some() {
        return Ok(());
    }
    let slots = roll.slots.as_ref().map(|slots| serde_json::json!(slots).to_string());
    let verb = if slots.is_none() { "reload" } else { "restart" };
    connection.execute(
        "INSERT INTO entry (key, app, verb, slots, asked_by, begun_ms, begun_at, took_ms, state, text, roll, generation, steps)
         VALUES (abs(random() / 2), ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            roll.app.as_str(),
            verb,
            slots,
            roll.asked_by,
            number(now_ms.saturating_sub(roll.took_ms)),
            number(at.saturating_sub(roll.took_ms)),
            took,
            end.word(),
            text,
            number(roll.id),
            generation,
            steps
        ],
    )?;
    prune(connection)
}

/// The first and the last steps, each bounded, as JSON.
fn steps(steps: &[Step]) -> Option<String> {
    if steps.is_empty() {
        return None;
    }
    let left_out = steps.len().saturating_sub(STEPS);
    let (head, tail) = if left_out == 0 { (steps, &[][..]) } else { (&steps[..STEPS / 2], &steps[steps.len() - STEPS / 2..]) };
    let gap = head.last().filter(|_| left_out > 0).map(|last| Step { at_ms: last.at_ms, text: format!("({left_out} steps are not kept)") });
    let bounded = |step: &Step| Step { at_ms: step.at_ms, text: short(&harmless(&step.text), STEP).to_owned() };
    let kept: Vec<Step> = head.iter().map(bounded).chain(gap).chain(tail.iter().map(bounded)).collect();
    serde_json::to_string(&kept).ok()
}

/// What the master before left open: what goes on here stays so, what ended meanwhile is ended, and of the rest nobody knows.
pub fn settle(connection: &Connection, rolls: &[types::Roll], at: u64, now_ms: u64) -> rusqlite::Result<()> {
    for roll in rolls {
        let (app, id) = (roll.app.as_str(), number(roll.id));
        // Asked for, and the master before did not live to write down which roll carries it out.
        let bound = connection
            .query_row("SELECT count(*) FROM entry WHERE app = ?1 AND roll = ?2", params![app, id], |row| row.get::<_, i64>(0))?;
        if bound == 0 && roll.under_way() {
            let verbs = if roll.slots.is_none() { OF_ALL } else { OF_SLOTS };
            let bind = format!("UPDATE entry SET roll = ?2 WHERE app = ?1 AND roll IS NULL AND state = 'running' AND verb IN ({verbs})");
            connection.execute(&bind, params![app, id])?;
        }
        if bound > 0 && !roll.under_way() {
            roll_ended(connection, roll, at, now_ms)?;
        }
    }
    let going: Vec<(&str, i64)> = rolls.iter().filter(|roll| roll.under_way()).map(|roll| (roll.app.as_str(), number(roll.id))).collect();
    let mut statement = connection.prepare("SELECT id, app, roll FROM entry WHERE state = 'running'")?;
    let open: Vec<(i64, Option<String>, Option<i64>)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<rusqlite::Result<_>>()?;
    for (id, app, roll) in open {
        let goes_on = app.as_deref().zip(roll).is_some_and(|of| going.contains(&of));
        if !goes_on {
            connection.execute(
                "UPDATE entry SET state = ?2, text = 'the master ended before this did; how things stand: `project-cluster ls`' WHERE id = ?1",
                params![id, End::CutOff.word()],
            )?;
        }
    }
    Ok(())
}

/// An entry about the history itself.
pub(super) fn told(connection: &Connection, text: &str) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO entry (key, verb, begun_ms, begun_at, state, text)
         VALUES (abs(random() / 2), 'history', CAST(unixepoch('subsec') * 1000 AS INTEGER), 0, ?1, ?2)",
        params![End::Failed.word(), short(text, TEXT)],
    )?;
    prune(connection)
}
