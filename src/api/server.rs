//! All that the master answers to: the routes of `/v1`, the first version's, and refusals for what is none.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, Method, Uri};
use axum::middleware::from_fn;
use axum::response::IntoResponse;
use axum::routing::get;

use super::caller::Caller;
use super::error::{Code, Refusal};
use super::extract::without_body;
use super::healthz::healthz;
use super::original::Original;
use super::v1;
use crate::master::Master;
use crate::systemd::Systemd;

/// Longest wait of an order.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The header that says of which version the master is, in every answer to who may know it.
pub const VERSION: HeaderName = HeaderName::from_static("project-cluster-version");

/// All routes.
pub fn routes<S: Systemd>(master: Arc<Master<S>>) -> Router {
    let original = Original::new(master.clone());
    v1::routes()
        .route("/healthz", get(healthz::<S>).route_layer(from_fn(without_body)))
        .fallback(async move |caller: Caller, method: Method, uri: Uri| match uri.path() {
            path if path == "/v1" || path.starts_with("/v1/") => {
                Refusal::new(Code::NotFound, "there is no such route; /v1/openapi.json tells which there are").into_response()
            }
            _ => original.answer(caller, method, uri).await,
        })
        .method_not_allowed_fallback(async || {
            Refusal::new(Code::MethodNotAllowed, "GET reads, POST orders; the header Allow says which this takes")
        })
        .with_state(master)
}
