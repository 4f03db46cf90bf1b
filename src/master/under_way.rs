//! Tells who asked for something that it now goes by a job of systemd's: from then on it may take minutes, and nothing
//! more is refused.

use std::sync::Arc;

use tokio::sync::Notify;

tokio::task_local! {
    static JOB: Arc<Notify>;
}

/// Carries an order out; `job` hears of its first job of a handle or socket.
pub fn telling<T>(job: Arc<Notify>, order: impl Future<Output = T>) -> impl Future<Output = T> {
    JOB.scope(job, order)
}

/// A job is about to be asked for.
pub(super) fn tell() {
    // Nobody waits to hear it where a roll or the first version's routes ask.
    let _ = JOB.try_with(|job| job.notify_one());
}
