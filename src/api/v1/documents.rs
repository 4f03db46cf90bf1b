//! What explains the API, as committed: parts of the program file, so that they cost memory only while they are read.

use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::get;

use super::Routes;
use crate::api::caller::Role;
use crate::api::extract::{Nothing, Query};
use crate::systemd::Systemd;

static OPENAPI: &[u8] = include_bytes!("../../../docs/openapi.json");
static PROBLEMS: &[u8] = include_bytes!("../../../docs/problems.md");

pub(super) fn routes<S: Systemd>() -> Routes<S> {
    vec![("/v1/openapi.json", Role::View, get(openapi)), ("/v1/problems", Role::View, get(problems))]
}

fn document(form: &'static str, bytes: &'static [u8]) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(form))], bytes)
}

async fn openapi(Query(Nothing {}): Query<Nothing>) -> impl IntoResponse {
    document("application/json", OPENAPI)
}

async fn problems(Query(Nothing {}): Query<Nothing>) -> impl IntoResponse {
    document("text/markdown; charset=utf-8", PROBLEMS)
}
