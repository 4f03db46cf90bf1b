//! Stops of many units at once, in an order that nothing can block.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::future;
use tokio::time::timeout;

use super::{ActiveState, Error, Systemd, UnitState, Verb};

/// Nothing closes a socket for longer but a worker of it that is on its way down: its stop goes first, by systemd's order.
const CLOSES: Duration = Duration::from_secs(2);

/// Stops units all at once and forgets their failures; which of them still run. A stop that another job cancelled is asked
/// for once more.
///
/// # Errors
/// When systemd cannot be asked, refuses, or a job does not end; told after all were tried.
pub async fn all<S: Systemd>(systemd: &S, units: &[String], limit: Duration) -> Result<Vec<String>, Error> {
    let mut left = Vec::new();
    for _ in 0..2 {
        let stops = units.iter().map(|unit| async move {
            systemd.job(Verb::Stop, unit, limit).await?;
            systemd.reset_failed(unit).await
        });
        future::join_all(stops).await.into_iter().collect::<Result<Vec<()>, _>>()?;
        left = running(systemd, units).await?;
        if left.is_empty() {
            break;
        }
    }
    Ok(left)
}

/// Which of these units run. (An empty list of patterns would match all there are.)
///
/// # Errors
/// When systemd cannot be asked.
pub async fn running<S: Systemd>(systemd: &S, units: &[String]) -> Result<Vec<String>, Error> {
    if units.is_empty() {
        return Ok(Vec::new());
    }
    let rows = systemd.units(units).await?;
    let runs = |row: &UnitState| !matches!(row.active, ActiveState::Inactive | ActiveState::Failed);
    Ok(rows.into_iter().filter(runs).map(|row| row.name).collect())
}

/// Closes sockets, then stops workers: beside each other where the first waits for a worker that takes its time.
pub async fn sockets_first<A, B>(close: impl Future<Output = A>, stop: impl Future<Output = B>) -> (A, B) {
    let mut close = pin!(close);
    match timeout(CLOSES, close.as_mut()).await {
        Ok(closed) => (closed, stop.await),
        Err(_) => future::join(close, stop).await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn workers_follow_the_sockets_and_do_not_wait_for_one_that_waits() {
        let stopped_after = |closes: u64| async move {
            let begin = Instant::now();
            let close = sleep(Duration::from_secs(closes));
            let ((), stopped) = sockets_first(close, async { begin.elapsed() }).await;
            (stopped, begin.elapsed())
        };
        let of = |seconds| Duration::from_secs(seconds);
        assert_eq!(stopped_after(1).await, (of(1), of(1)));
        assert_eq!(stopped_after(85).await, (of(2), of(85)));
    }
}
