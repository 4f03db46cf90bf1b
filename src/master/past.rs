//! The history: what is asked of this master, by whom, and what comes of it, told to the [`store`](crate::store).
//!
//! An order is an entry from the moment it is asked for. Where a roll carries it out, that roll's end is its end, whichever
//! master sees it; else it ends as the order does. What was left open by a master before is settled when this one has taken up
//! its rolls. Nothing here waits, and nothing depends on whether it could be written.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::rolls::unix_ms;
use super::{Master, lock, thrift, under_way};
use crate::api::error::{Code, Refusal};
use crate::api::history::{End, Entry};
use crate::api::types::Done;
use crate::history::{self, Act, Asked, Part};
use crate::journal;
use crate::names::AppName;
use crate::store::{Store, Unread};
use crate::systemd::Systemd;

/// By which the next entry is spoken of. They begin anywhere, so that no two masters have the same.
fn next_key() -> u64 {
    static FIRST: OnceLock<u64> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let first = *FIRST.get_or_init(|| {
        let mut bytes = [0; 8];
        // Without randomness the time does as well: a master takes a while to begin.
        let random = getrandom::fill(&mut bytes).map(|()| u64::from_le_bytes(bytes));
        random.unwrap_or_else(|_| unix_ms() << 16) >> 2
    });
    first + NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Milliseconds of `CLOCK_MONOTONIC`.
fn at() -> u64 {
    journal::monotonic_us_now() / 1000
}

impl<S: Systemd> Master<S> {
    /// Keeps a history from now on, and settles what the master before left open. Rolls have been taken up.
    pub(super) fn keep_history(&self) {
        self.keep_history_in(Store::new(self.places.store(), history::TABLES, thrift::give_back));
    }

    /// The same in this store.
    pub(super) fn keep_history_in(&self, store: Store) {
        let known = self.past_rolls(None);
        // Before the first order there is nothing that could have been left open.
        if store.path().exists() {
            store.write(move |connection| history::settle(connection, &known, at(), unix_ms()));
        }
        let store = Arc::new(store);
        let writes = Arc::clone(&store);
        lock(&self.rolls).tell_ends(move |roll| {
            let (roll, at, now) = (roll.clone(), at(), unix_ms());
            writes.write(move |connection| history::roll_ended(connection, &roll, at, now));
        });
        // A master has one.
        let _ = self.store.set(store);
    }

    /// What is still to be written is, within this time.
    pub(super) fn close_history(&self, limit: Duration) {
        if let Some(store) = self.store.get() {
            store.close(limit);
        }
    }

    /// Carries out an order of whoever asks, and keeps what came of it.
    pub async fn noted(&self, app: &AppName, act: Act, order: impl Future<Output = Result<Done, Refusal>>) -> Result<Done, Refusal> {
        let Some(store) = self.store.get() else { return order.await };
        let asked_by = under_way::asker();
        let asked = Asked { key: next_key(), app: app.clone(), act, asked_by, begun_ms: unix_ms(), begun_at: at() };
        let first = asked.clone();
        store.write(move |connection| history::asked(connection, &first));
        let done = under_way::noted(asked.key, order).await;
        let (end, text) = match &done {
            // Its end is that of the roll.
            Ok(Done { roll: Some(roll), .. }) if roll.under_way() && !asked.act.steers() => {
                let (key, id, at, now) = (asked.key, roll.id, at(), unix_ms());
                // It may have ended since that was read, and nobody tells so twice.
                let over = lock(&self.rolls).get(app, id).filter(|roll| !roll.under_way());
                store.write(move |connection| {
                    history::carried_by(connection, key, id)?;
                    over.as_ref().map_or(Ok(()), |roll| history::roll_ended(connection, roll, at, now))
                });
                return done;
            }
            Ok(done) => (End::Done, done.message.clone()),
            Err(why) if matches!(why.code(), Code::Failed | Code::Unavailable) => (End::Failed, why.to_string()),
            Err(why) => (End::Refused, why.to_string()),
        };
        let at = at();
        store.write(move |connection| history::ended(connection, &asked, end, &text, at));
        done
    }

    /// The order that this is part of is carried out by this roll.
    pub(super) fn note_roll(&self, roll: u64) {
        if let (Some(store), Some(key)) = (self.store.get(), under_way::entry()) {
            store.write(move |connection| history::carried_by(connection, key, roll));
        }
    }

    /// It came by the app's handle.
    pub(super) fn note_systemctl(&self) {
        if let (Some(store), Some(key)) = (self.store.get(), under_way::entry()) {
            store.write(move |connection| history::by_systemctl(connection, key));
        }
    }

    /// Some of the history, newest first, without steps.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn history(&self, part: Part) -> Result<Vec<Entry>, Refusal> {
        self.read_history(move |connection| history::list(connection, &part)).await
    }

    /// One entry with its steps, where it is of these apps.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub async fn entry(&self, id: u64, seen: Option<&BTreeSet<AppName>>) -> Result<Entry, Refusal> {
        let entry = self.read_history(move |connection| history::one(connection, id)).await?;
        let sees = |entry: &Entry| seen.is_none_or(|seen| entry.app.as_ref().is_some_and(|app| seen.contains(app)));
        entry.filter(sees).ok_or_else(|| {
            let why = format!(
                "there is no entry {id} in the history, which keeps the last {}. `project-cluster history` lists them",
                history::MOST
            );
            Refusal::new(Code::NotFound, why).at("entry")
        })
    }

    async fn read_history<T: Send + 'static>(
        &self,
        read: impl Fn(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let unread = |why: Unread| {
            // Not `unavailable`: it is not systemd that does not answer, and what is wrong with a database stays so for a while.
            let code = if matches!(why, Unread::Busy) { Code::Busy } else { Code::Failed };
            Refusal::new(code, format!("the history cannot be read: {why}"))
        };
        let store = self.store.get().ok_or_else(|| unread(Unread::Failed("this master keeps none".into())))?;
        store.read(read).await.map_err(unread)
    }
}
