//! What a mistake in this program takes with it: the process, but for a request's answer alone, which fails by itself.
//!
//! A panic ends the process at once, as systemd expects of something broken: a roll that went on half would be worse than
//! one that the next master takes up. A request has nothing half done: what it ordered goes on in a task of its own.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

tokio::task_local! {
    static CONTAINED: ();
}

/// Ends the process on every panic outside of [`contain`], behind the usual message.
pub fn abort_on_all_others() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tell(info);
        if CONTAINED.try_with(|()| ()).is_err() {
            std::process::abort();
        }
    }));
}

/// The future's result, or none where it panicked; it is not polled again.
pub async fn contain<T>(future: impl Future<Output = T>) -> Option<T> {
    CONTAINED.scope((), AssertUnwindSafe(future).catch_unwind()).await.ok()
}
