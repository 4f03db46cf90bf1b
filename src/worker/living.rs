//! What PID 1 says of workers, for the few questions of `prepare` that nobody else can answer.

use std::time::Duration;

use super::paths::Paths;
use crate::names::{AppUnits, Instance};
use crate::systemd::dbus::Bus;
use crate::systemd::{Error, Systemd as _};

/// PID 1 answers in a millisecond; a start does not hang because it does not.
const ANSWER: Duration = Duration::from_secs(3);

/// Asks PID 1 over its own socket.
///
/// # Errors
/// For people: that it cannot be asked, or does not answer in time.
pub(super) fn ask<T>(paths: &Paths, question: impl AsyncFnOnce(Bus) -> Result<T, Error>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|why| why.to_string())?;
    let asked = async { question(Bus::private(paths).await?).await };
    let answer = runtime.block_on(async { tokio::time::timeout(ANSWER, asked).await });
    answer.map_err(|_| format!("no answer within {ANSWER:?}"))?.map_err(|why| why.to_string())
}

/// The workers of an app that are loaded: that run, come or go, wait for their next start, or have left something behind.
///
/// # Errors
/// As [`ask`].
pub(super) fn workers(paths: &Paths, units: &AppUnits<'_>) -> Result<Vec<Instance>, String> {
    let rows = ask(paths, async |systemd| systemd.units(&[units.worker_glob()]).await)?;
    Ok(rows.iter().filter_map(|row| units.instance(&row.name)).collect())
}
