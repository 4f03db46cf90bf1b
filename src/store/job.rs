//! One piece of work for the thread that owns the database, and who waits for it.

use rusqlite::Connection;
use tokio::sync::oneshot;

/// A piece of work. It may be run again, on a new database, where the first one turned out to be damaged.
pub(super) trait Job: Send {
    /// Does it.
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    /// It cannot be done.
    fn fail(&mut self, why: &str);
    /// Whether something is lost when it is not done.
    fn writes(&self) -> bool;
}

/// Writes; nobody waits.
pub(super) struct Writing<F>(pub F);

impl<F: Fn(&Connection) -> rusqlite::Result<()> + Send> Job for Writing<F> {
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        (self.0)(connection)
    }
    fn fail(&mut self, _: &str) {}
    fn writes(&self) -> bool {
        true
    }
}

/// Reads for somebody.
pub(super) struct Reading<F, T> {
    what: F,
    answer: Option<oneshot::Sender<Result<T, String>>>,
}

impl<F, T> Reading<F, T> {
    pub fn new(what: F) -> (Self, oneshot::Receiver<Result<T, String>>) {
        let (answer, answered) = oneshot::channel();
        (Self { what, answer: Some(answer) }, answered)
    }

    fn answer(&mut self, told: Result<T, String>) {
        if let Some(answer) = self.answer.take() {
            // Who asked may have gone away.
            let _ = answer.send(told);
        }
    }
}

impl<F: Fn(&Connection) -> rusqlite::Result<T> + Send, T: Send> Job for Reading<F, T> {
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        // For nobody it need not be done.
        if self.answer.as_ref().is_some_and(oneshot::Sender::is_closed) {
            return Ok(());
        }
        let found = (self.what)(connection)?;
        self.answer(Ok(found));
        Ok(())
    }
    fn fail(&mut self, why: &str) {
        self.answer(Err(why.to_owned()));
    }
    fn writes(&self) -> bool {
        false
    }
}
