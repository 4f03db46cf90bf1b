//! The last rolls and operator actions: who asked for what, when, how it ended and why, each step's time.
//!
//! | file | |
//! |---|---|
//! | `act` | what somebody asks for |
//! | `write` | an entry's life: asked for, bound to a roll, ended, cut off |
//! | `read` | entries as they are told |
//!
//! Functions of a database connection: the [`store`](crate::store) owns it, the master says when. It must not know how an
//! order is carried out.

mod act;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use self::act::Act;
pub use self::read::{Part, list, one};
pub use self::write::{Asked, asked, by_systemctl, carried_by, ended, roll_ended, settle};

use crate::store::Tables;

/// Entries that are kept, the newest; beyond them those alone that are under way.
pub const MOST: u32 = 1000;
/// Bytes of a text: the reason of a failed roll has up to 30 of an app's own lines.
const TEXT: usize = 4096;
/// Steps of a roll that are kept, half of them the first, half the last: a roll of a hundred workers has four hundred.
const STEPS: usize = 400;
/// Bytes of one step's text.
const STEP: usize = 300;
/// Bytes of an entry's steps that are read back; more is not what was written here.
const READ: usize = 512 * 1024;

/// The tables, by the number of their format (`user_version`): tests/fixtures/formats has a database of each.
pub const TABLES: Tables = Tables {
    migrations: &["CREATE TABLE entry (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        -- By which the master speaks of one that it has not read.
        key INTEGER NOT NULL UNIQUE,
        app TEXT,
        verb TEXT NOT NULL,
        slots TEXT,
        count INTEGER,
        asked_by TEXT,
        systemctl INTEGER NOT NULL DEFAULT 0,
        begun_ms INTEGER NOT NULL,
        -- Of CLOCK_MONOTONIC: how long it took is no matter of a clock that is put right meanwhile.
        begun_at INTEGER NOT NULL,
        took_ms INTEGER,
        waited_ms INTEGER,
        state TEXT NOT NULL,
        text TEXT,
        roll INTEGER,
        generation INTEGER,
        steps TEXT
    ) STRICT;
    CREATE INDEX entry_running ON entry (app, roll) WHERE state = 'running';"],
    probe: "SELECT id, key, app, verb, slots, count, asked_by, systemctl, begun_ms, begun_at, took_ms, waited_ms, state, text, roll, \
            generation, steps FROM entry",
    told: write::told,
};
