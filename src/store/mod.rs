//! One SQLite database in the master's state directory, for what is kept and counted rather than steered by: the history, and
//! whatever a later part has to remember in numbers.
//!
//! One thread owns it, behind a queue with an end, and lives as long as there is something to do: nothing in the master waits
//! for a disk, and a master at rest has neither thread nor database open. What cannot be written (a full disk, a full queue,
//! a file that somebody damaged) is lost, counted and said; nothing here stops a roll.
//!
//! | file | |
//! |---|---|
//! | `open` | a database as it must be, or why it is not: damaged ones are moved aside, newer ones left alone |
//! | `job` | one piece of work, and who waits for it |
//!
//! It must not know what is in the tables: who has some gives [`Tables`].

mod job;
mod open;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use self::job::{Job, Reading, Writing};
use self::open::Fault;
use crate::say::say;

/// Work that waits at most: an order is four pieces of it, and a listener takes on some three hundred orders at once.
const QUEUE: usize = 2048;
/// How long the database stays open behind the last piece of work: a roll of a small app brings the next within that.
const IDLE: Duration = Duration::from_secs(2);
/// How long an answer is waited for. The queue may be full of work on a slow disk.
const ANSWER: Duration = Duration::from_secs(10);
/// SQLite wants some ten KiB of it.
const STACK: usize = 512 * 1024;

/// The tables of those who keep something here.
#[derive(Debug, Clone, Copy)]
pub struct Tables {
    /// Steps, in order: the database's `user_version` says how many of them were made.
    pub migrations: &'static [&'static str],
    /// Can be prepared where the tables are those that the steps make.
    pub probe: &'static str,
    /// Writes down what became of the store itself: that something is missing, and why.
    pub told: fn(&Connection, &str) -> rusqlite::Result<()>,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It passes: asked again it may be read.
    #[error("too much is to be written at once; try again")]
    Busy,
    /// For people.
    #[error("{0}")]
    Failed(String),
}

/// The store of one cluster.
#[derive(Debug)]
pub struct Store(Arc<Shared>);

struct Shared {
    path: PathBuf,
    tables: Tables,
    /// Called when the database was closed and the thread is about to end.
    at_rest: fn(),
    state: Mutex<State>,
    /// There is work, or it shall come to its end.
    wake: Condvar,
    /// The thread has ended.
    rests: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("path", &self.path).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    queue: VecDeque<Box<dyn Job>>,
    works: bool,
    closing: bool,
    /// Looked through once, page by page.
    checked: bool,
    /// Why nothing is written.
    trouble: Option<String>,
    /// Pieces that were not written, and nobody has said so in the database yet.
    lost: u64,
}

impl Store {
    /// That of this file. Nothing is opened yet.
    pub fn new(path: PathBuf, tables: Tables, at_rest: fn()) -> Self {
        Self(Arc::new(Shared { path, tables, at_rest, state: Mutex::default(), wake: Condvar::new(), rests: Condvar::new() }))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Writes, in a transaction of its own, behind all that was asked for before. Nobody waits for it.
    pub fn write(&self, what: impl Fn(&Connection) -> rusqlite::Result<()> + Send + 'static) {
        self.put(Box::new(Writing(what)));
    }

    /// Reads, behind all that was asked for before.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub async fn read<T: Send + 'static>(&self, what: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static) -> Result<T, Unread> {
        let (job, answer) = Reading::new(what);
        self.put(Box::new(job));
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(Ok(answer)) => answer.map_err(Unread::Failed),
            Ok(Err(_)) => Err(Unread::Busy),
            Err(_) => Err(Unread::Failed(format!("{} does not answer within {ANSWER:?}", self.path().display()))),
        }
    }

    /// Why nothing is written at present.
    pub fn trouble(&self) -> Option<String> {
        self.0.state().trouble.clone()
    }

    /// Comes to the end of all work and closes the database, at most so long; whether it has. What is asked for later opens it
    /// again.
    pub fn close(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.0.state();
        state.closing = true;
        self.0.wake.notify_all();
        while state.works {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.0.rests.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.closing = false;
        !state.works
    }

    fn put(&self, job: Box<dyn Job>) {
        let mut state = self.0.state();
        if state.queue.len() >= QUEUE {
            return lose(&mut state, job.as_ref(), "more is to be written than the disk takes");
        }
        state.queue.push_back(job);
        if state.works {
            self.0.wake.notify_all();
            return;
        }
        let shared = Arc::clone(&self.0);
        let thread = std::thread::Builder::new().name("store".into()).stack_size(STACK);
        match thread.spawn(move || shared.work()) {
            Ok(_) => state.works = true,
            Err(why) => {
                let why = format!("the kernel gives no thread: {why}");
                while let Some(mut job) = state.queue.pop_front() {
                    job.fail(&why);
                    lose(&mut state, job.as_ref(), &why);
                }
            }
        }
    }
}

/// One piece of work is not done. The journal hears of each new reason, not of each piece.
fn lose(state: &mut State, job: &dyn Job, why: &str) {
    if !job.writes() {
        return;
    }
    state.lost += 1;
    if state.trouble.as_deref() != Some(why) {
        say!(Error, "what happens is not written down (`project-cluster history`), and goes on without: {why}");
        state.trouble = Some(why.to_owned());
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread.
    fn work(&self) {
        let mut open = None;
        loop {
            if let Some(job) = self.next() {
                self.carry_out(&mut open, job);
                continue;
            }
            // Closing moves what was written into the database itself, and takes the log beside it away.
            drop(open.take());
            (self.at_rest)();
            let mut state = self.state();
            if state.queue.is_empty() {
                state.works = false;
                self.rests.notify_all();
                return;
            }
        }
    }

    /// The next piece of work; none when there was none for long.
    fn next(&self) -> Option<Box<dyn Job>> {
        let end = Instant::now() + IDLE;
        let mut state = self.state();
        loop {
            if let Some(job) = state.queue.pop_front() {
                return Some(job);
            }
            let left = end.saturating_duration_since(Instant::now());
            if state.closing || left.is_zero() {
                return None;
            }
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn carry_out(&self, open: &mut Option<Connection>, mut job: Box<dyn Job>) {
        // Twice, where the first try finds the database damaged: the second has a new one.
        for last in [false, true] {
            let known = open.take().map_or_else(|| self.open(), Ok);
            let why = match known {
                Err(why) => why,
                Ok(connection) => match done(&connection, job.as_mut()) {
                    Ok(()) => {
                        if job.writes() {
                            self.well(&connection);
                        }
                        *open = Some(connection);
                        return;
                    }
                    Err(why) => {
                        // One that has failed is not trusted; it closes before its file is moved.
                        drop(connection);
                        match open::fault(&self.path, &why) {
                            Fault::Damaged(why) if !last => match self.set_aside(&why) {
                                Ok(connection) => {
                                    *open = Some(connection);
                                    continue;
                                }
                                Err(why) => why,
                            },
                            Fault::Damaged(why) | Fault::Refused(why) => why,
                        }
                    }
                },
            };
            job.fail(&why);
            return lose(&mut self.state(), job.as_ref(), &why);
        }
    }

    /// Something was written: what is missing is said where it is missed.
    fn well(&self, connection: &Connection) {
        let mut state = self.state();
        if state.trouble.is_none() && state.lost == 0 {
            return;
        }
        let (lost, why) = (state.lost, state.trouble.clone().unwrap_or_default());
        // Where that cannot be written the next time has more to say.
        if (self.tables.told)(
            connection,
            &format!("what happened before this is not here, {lost} times something could not be written: {why}"),
        )
        .is_ok()
        {
            say!(Notice, "what happens is written down again; {lost} times something was not: {why}");
            (state.lost, state.trouble) = (0, None);
        }
    }

    fn open(&self) -> Result<Connection, String> {
        let first = !self.state().checked;
        match open::open(&self.path, &self.tables, first) {
            Ok(connection) => {
                self.state().checked = true;
                Ok(connection)
            }
            Err(Fault::Refused(why)) => Err(why),
            Err(Fault::Damaged(why)) => self.set_aside(&why),
        }
    }

    /// A new database in the place of a damaged one.
    fn set_aside(&self, why: &str) -> Result<Connection, String> {
        let aside = open::set_aside(&self.path).map_err(|no| format!("{why}; it cannot be moved aside: {no}"))?;
        let text = format!("{why}. It was moved to {}; what is known begins anew", aside.display());
        say!(Critical, "{text}. Rolls and workers are not concerned");
        let connection = open::open(&self.path, &self.tables, false).map_err(|fault| fault.text())?;
        (self.tables.told)(&connection, &text).map_err(|why| open::fault(&self.path, &why).text())?;
        Ok(connection)
    }
}

/// One piece of work, all or nothing.
fn done(connection: &Connection, job: &mut dyn Job) -> rusqlite::Result<()> {
    if !job.writes() {
        return job.run(connection);
    }
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    job.run(&transaction)?;
    transaction.commit()?;
    // Pages that were freed go back to the disk, a few each time: one a step of the statement.
    let mut vacuum = connection.prepare("PRAGMA incremental_vacuum(64)")?;
    let mut pages = vacuum.query([])?;
    while pages.next()?.is_some() {}
    Ok(())
}
