//! `GET /healthz`, for whoever watches the cluster from outside: 200 while the master answers and systemd does.
//! The one route that wants no token over TCP: it tells nothing else.

use std::sync::Arc;

use axum::extract::State;

use super::error::Refusal;
use super::extract::{Nothing, Query};
use crate::master::Master;
use crate::systemd::Systemd;

/// `ok`.
///
/// # Errors
/// 503 when systemd does not answer.
pub async fn healthz<S: Systemd>(State(master): State<Arc<Master<S>>>, Query(Nothing {}): Query<Nothing>) -> Result<&'static str, Refusal> {
    master.glance().await?;
    Ok("ok")
}
