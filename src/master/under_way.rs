//! An order under way: who gave it, how the history knows it, and telling who waits that it now goes by a job of systemd's: from then on it may take
//! minutes, and nothing more is refused.

use std::sync::Arc;

use tokio::sync::Notify;

tokio::task_local! {
    static JOB: Arc<Notify>;
    static ASKER: String;
    static ENTRY: u64;
}

/// Carries an order out; `job` hears of its first job of a handle or socket.
pub fn telling<T>(job: Arc<Notify>, order: impl Future<Output = T>) -> impl Future<Output = T> {
    JOB.scope(job, order)
}

/// Carries an order of this person, program or token out.
pub fn asked<T>(asker: String, order: impl Future<Output = T>) -> impl Future<Output = T> {
    ASKER.scope(asker, order)
}

/// Who gave the order that this is part of; none where nobody did, as in a roll.
pub(super) fn asker() -> Option<String> {
    ASKER.try_with(Clone::clone).ok()
}

/// Carries an order out that the history knows by this key.
pub(super) fn noted<T>(key: u64, order: impl Future<Output = T>) -> impl Future<Output = T> {
    ENTRY.scope(key, order)
}

/// The key of the order that this is part of.
pub(super) fn entry() -> Option<u64> {
    ENTRY.try_with(|key| *key).ok()
}

/// A job is about to be asked for.
pub(super) fn tell() {
    // Nobody waits to hear it where a roll or the first version's routes ask.
    let _ = JOB.try_with(|job| job.notify_one());
}
