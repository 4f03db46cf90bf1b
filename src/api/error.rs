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
    /// 401, over TCP: no token, or a wrong one.
    Unauthorized,
    /// 421, over TCP: the `Host` is none of this listener's.
    ForeignHost,
    /// 403, over TCP: a web page of another origin asks.
    ForeignOrigin,
    /// 408: the body did not come in time.
    TooSlow,
    /// 411: a body without a Content-Length.
    LengthRequired,
    /// 413: the body is too large.
    TooLarge,
    /// 414: path and query are too long.
    UrlTooLong,
    /// 503: too much at once on this listener.
    Busy,
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
            Self::Unauthorized => ("unauthorized", StatusCode::UNAUTHORIZED, "The token is missing or wrong"),
            Self::ForeignHost => ("foreign-host", StatusCode::MISDIRECTED_REQUEST, "The request is for another host"),
            Self::ForeignOrigin => ("foreign-origin", StatusCode::FORBIDDEN, "The request comes from a foreign web page"),
            Self::TooSlow => ("too-slow", StatusCode::REQUEST_TIMEOUT, "The request took too long"),
            Self::LengthRequired => ("length-required", StatusCode::LENGTH_REQUIRED, "The length must be said"),
            Self::TooLarge => ("too-large", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large"),
            Self::UrlTooLong => ("url-too-long", StatusCode::URI_TOO_LONG, "The URL is too long"),
            Self::Busy => ("busy", StatusCode::SERVICE_UNAVAILABLE, "Too much at once"),
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
