//! Errors of the API: a stable code, a status, and a paragraph for people.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::types::Problem;

/// An answer that is not what was asked for.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    code: Code,
    detail: String,
}

/// The stable codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 404: no such app, worker, roll or route.
    NotFound,
    /// 400: the request itself is wrong.
    BadRequest,
    /// 405: the route exists, the method does not.
    MethodNotAllowed,
    /// 409: not in this state.
    Conflict,
    /// 500: it was tried and failed.
    Failed,
    /// 503: systemd cannot be reached or did not answer in time.
    Unavailable,
}

impl Code {
    fn parts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::NotFound => ("not-found", StatusCode::NOT_FOUND, "There is no such thing"),
            Self::BadRequest => ("bad-request", StatusCode::BAD_REQUEST, "The request is wrong"),
            Self::MethodNotAllowed => ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "This route takes another method"),
            Self::Conflict => ("conflict", StatusCode::CONFLICT, "Not in this state"),
            Self::Failed => ("failed", StatusCode::INTERNAL_SERVER_ERROR, "It failed"),
            Self::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE, "systemd did not answer"),
        }
    }
}

impl Refusal {
    /// One with this paragraph for people.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
    /// Its code.
    pub fn code(&self) -> Code {
        self.code
    }
}

impl From<crate::systemd::Error> for Refusal {
    fn from(error: crate::systemd::Error) -> Self {
        use crate::systemd::Error;
        let code = match error {
            Error::Unreachable(_) | Error::Deadline { .. } => Code::Unavailable,
            Error::Refused { .. } => Code::Failed,
        };
        Self::new(code, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, status, title) = self.code.parts();
        let problem = Problem { code: code.into(), status: status.as_u16(), title: title.into(), detail: self.detail };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}
