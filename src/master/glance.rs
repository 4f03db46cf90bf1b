//! Questions of persons, answered by the present: all who ask at one moment share one question to systemd and one answer.
//!
//! `follow`, the one reader of what changes, answers them: it lets systemd [settle](crate::systemd::Systemd::settle), so that
//! all that has changed so far is told, reads that, and nothing else. Who comes meanwhile is of the next turn, because what
//! changed before his question may not be in the one under way.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::{Notify, OnceCell, broadcast, oneshot};
use tokio::time::Instant;

use super::watch::{Dirty, Gathered};
use super::{Master, lock, world};
use crate::api::error::{Code, Refusal};
use crate::systemd::{self, Systemd};

/// A question waits no longer for systemd; the message says that it does not answer.
const GLANCE: Duration = Duration::from_secs(3);
/// Signals can be lost (systemd#27697, systemd#8803): behind a question, when nobody compared for so long, what is known is
/// compared with all that is loaded.
const COMPARE: Duration = Duration::from_secs(10);
/// Questions that wait at once; each is a request under way.
const WAITING: usize = 4096;

/// What runs at the moment of a question. Each list is made once for all who share it.
#[derive(Debug, Default)]
pub struct Present {
    workers: OnceLock<Bytes>,
    apps: OnceCell<Bytes>,
}

type Answer = Result<Arc<Present>, Refusal>;

/// The questions of a master.
#[derive(Debug, Default)]
pub(super) struct Questions {
    waiting: Mutex<Vec<oneshot::Sender<Answer>>>,
    asked: Notify,
    /// When all that is loaded was last read; none before the first time.
    compared: Mutex<Option<Instant>>,
}

impl Questions {
    /// Until somebody asks.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// All that is loaded was read.
    pub(super) fn compared(&self) {
        *lock(&self.compared) = Some(Instant::now());
    }
}

impl<S: Systemd> Master<S> {
    /// Makes sure that what is known is the present, for who asks.
    ///
    /// # Errors
    /// When systemd does not answer within 3 s: better none than an answer of before.
    pub async fn glance(&self) -> Answer {
        let (tell, told) = oneshot::channel();
        {
            let mut waiting = lock(&self.questions.waiting);
            if waiting.len() >= WAITING {
                return Err(Refusal::new(Code::Unavailable, format!("{WAITING} questions wait for systemd already; ask again later")));
            }
            waiting.push(tell);
        }
        self.questions.asked.notify_one();
        match tokio::time::timeout(GLANCE, told).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Refusal::new(
                Code::Unavailable,
                format!("systemd does not answer over D-Bus within {GLANCE:?}, so what runs cannot be told. `systemctl status dbus`"),
            )),
        }
    }

    /// Answers those who have asked so far.
    pub(super) async fn answer(&self, gathered: &mut Gathered, changes: &mut broadcast::Receiver<systemd::Change>) {
        let asked = std::mem::take(&mut *lock(&self.questions.waiting));
        if asked.is_empty() {
            return;
        }
        let settings = self.settings();
        let present = async {
            self.systemd.settle().await?;
            gathered.drain(changes, &settings);
            if let Some(dirty) = gathered.take() {
                self.read(&dirty).await.inspect_err(|_| self.unread.notify_one())?;
            }
            Ok::<_, Refusal>(Arc::default())
        };
        // When the time is over nobody listens any more.
        if let Ok(present) = tokio::time::timeout(GLANCE, present).await {
            for who in asked {
                // Who asked may have gone.
                let _ = who.send(present.clone());
            }
        }
        if lock(&self.questions.compared).is_none_or(|last| last.elapsed() >= COMPARE) {
            self.compare_all(gathered).await;
        }
    }

    /// Finds what no signal told of, for the questions to come.
    async fn compare_all(&self, gathered: &mut Gathered) {
        self.questions.compared();
        let Ok(Ok(rows)) = tokio::time::timeout(GLANCE, self.systemd.units(&world::patterns(&self.settings()))).await else { return };
        let differing = lock(&self.world).differing(&rows);
        if !differing.is_empty() {
            gathered.add(Dirty::Units(differing));
        }
    }

    /// `GET /v1/workers` at this moment.
    ///
    /// # Errors
    /// As [`Self::glance`].
    pub async fn workers_now(&self) -> Result<Bytes, Refusal> {
        let present = self.glance().await?;
        let workers = || self.apps().into_iter().flat_map(|app| app.workers).collect::<Vec<_>>();
        Ok(present.workers.get_or_init(|| json(&workers())).clone())
    }

    /// `GET /v1/apps` at this moment.
    ///
    /// # Errors
    /// As [`Self::glance`].
    pub async fn apps_now(self: &Arc<Self>) -> Result<Bytes, Refusal> {
        let present = self.glance().await?;
        let apps = async || {
            let mut apps = self.apps();
            Self::tell_crash_loops(self, &mut apps).await;
            json(&apps)
        };
        Ok(present.apps.get_or_init(apps).await.clone())
    }
}

fn json<T: serde::Serialize>(rows: &[T]) -> Bytes {
    // Our own types, whose keys are texts, are JSON.
    serde_json::to_vec(rows).unwrap_or_default().into()
}
