//! All that the master answers to: the routes of `/v1`, refusals for what is none, and what every answer has.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::error::{Code, Refusal};
use super::original::Original;
use super::v1;
use crate::master::Master;
use crate::systemd::Systemd;

/// Longest wait of an order.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The header that says of which version the master is, in every answer.
pub const VERSION: HeaderName = HeaderName::from_static("project-cluster-version");

/// All routes.
pub fn routes<S: Systemd>(master: Arc<Master<S>>) -> Router {
    let original = Original::new(master.clone());
    v1::routes()
        .route("/healthz", get(healthz::<S>))
        .fallback(async move |method: Method, uri: Uri| match uri.path() {
            path if path == "/v1" || path.starts_with("/v1/") => {
                Refusal::new(Code::NotFound, "there is no such route; /v1/openapi.json tells which there are").into_response()
            }
            _ => original.answer(method, uri).await,
        })
        .method_not_allowed_fallback(async || {
            Refusal::new(Code::MethodNotAllowed, "GET reads, POST orders; the header Allow says which this takes")
        })
        .layer(map_response(with_version))
        .with_state(master)
}

/// For whoever watches the cluster from outside: 200 while the master answers and systemd does.
async fn healthz<S: Systemd>(State(master): State<Arc<Master<S>>>) -> Result<&'static str, Refusal> {
    master.glance().await?;
    Ok("ok")
}

async fn with_version(mut response: Response) -> Response {
    response.headers_mut().insert(VERSION, HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
    response
}
