//! All that the master answers to: the routes of `/v1`, refusals for what is none, and what every answer has.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::map_response;
use axum::response::Response;

use super::error::{Code, Refusal};
use super::v1;
use crate::master::Master;
use crate::systemd::Systemd;

/// Longest wait of an order.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The header that says of which version the master is, in every answer.
pub const VERSION: HeaderName = HeaderName::from_static("project-cluster-version");

/// All routes.
pub fn routes<S: Systemd>(master: Arc<Master<S>>) -> Router {
    v1::routes()
        .fallback(async || {
            Refusal::new(Code::NotFound, "there is no such route; the routes begin with /v1/, and /v1/openapi.json tells them")
        })
        .method_not_allowed_fallback(async || {
            Refusal::new(Code::MethodNotAllowed, "GET reads, POST orders; the header Allow says which this takes")
        })
        .layer(map_response(with_version))
        .with_state(master)
}

async fn with_version(mut response: Response) -> Response {
    response.headers_mut().insert(VERSION, HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
    response
}
