//! Errors of the API: a stable code, a status, and a paragraph for people (RFC 9457).
//!
//! `docs/problems.md`, which `GET /v1/problems` answers with, is made from the list here.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::types::Problem;

/// An answer that is not what was asked for.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    code: Code,
    detail: String,
    field: Option<String>,
    instance: Option<String>,
}

/// The stable codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 404: no such app, worker, roll or route.
    NotFound,
    /// 400: a parameter or a part of the path is wrong.
    BadRequest,
    /// 400: a body where none is taken.
    UnexpectedBody,
    /// 405: the route exists, the method does not.
    MethodNotAllowed,
    /// 409: not in this state.
    Conflict,
    /// 409: a roll of the app is paused.
    Paused,
    /// 500: it was tried and failed.
    Failed,
    /// 503: too many at once.
    Busy,
    /// 503: systemd cannot be reached or did not answer in time.
    Unavailable,
    /// 401, over TCP: no token, or a wrong one.
    Unauthorized,
    /// 421, over TCP: the `Host` is none of this listener's.
    ForeignHost,
    /// 403, over TCP: a web page of another origin asks.
    ForeignOrigin,
    /// 403: who asks may not do this.
    Forbidden,
    /// 408: the body did not come in time.
    TooSlow,
    /// 411: a body without a Content-Length.
    LengthRequired,
    /// 413: the body is too large.
    TooLarge,
    /// 414: path and query are too long.
    UrlTooLong,
}

/// What is told of a code.
pub(super) struct Meaning {
    pub word: &'static str,
    pub status: StatusCode,
    pub title: &'static str,
}

impl Code {
    /// All of them, in the order of their status.
    pub const ALL: [Self; 17] = [
        Self::BadRequest,
        Self::UnexpectedBody,
        Self::Unauthorized,
        Self::ForeignOrigin,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::TooSlow,
        Self::Conflict,
        Self::Paused,
        Self::LengthRequired,
        Self::TooLarge,
        Self::UrlTooLong,
        Self::ForeignHost,
        Self::Failed,
        Self::Busy,
        Self::Unavailable,
    ];

    pub(super) fn meaning(self) -> Meaning {
        let (word, status, title) = match self {
            Self::BadRequest => ("bad-request", StatusCode::BAD_REQUEST, "The request is wrong"),
            Self::UnexpectedBody => ("unexpected-body", StatusCode::BAD_REQUEST, "This route takes no body"),
            Self::NotFound => ("not-found", StatusCode::NOT_FOUND, "There is no such thing"),
            Self::MethodNotAllowed => ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "This route takes another method"),
            Self::Conflict => ("conflict", StatusCode::CONFLICT, "Not in this state"),
            Self::Paused => ("paused", StatusCode::CONFLICT, "A roll is paused"),
            Self::Failed => ("failed", StatusCode::INTERNAL_SERVER_ERROR, "It failed"),
            Self::Busy => ("busy", StatusCode::SERVICE_UNAVAILABLE, "Too many at once"),
            Self::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE, "systemd did not answer"),
            Self::Unauthorized => ("unauthorized", StatusCode::UNAUTHORIZED, "The token is missing or wrong"),
            Self::ForeignHost => ("foreign-host", StatusCode::MISDIRECTED_REQUEST, "The request is for another host"),
            Self::ForeignOrigin => ("foreign-origin", StatusCode::FORBIDDEN, "The request comes from a foreign web page"),
            Self::Forbidden => ("forbidden", StatusCode::FORBIDDEN, "Who asks may not do this"),
            Self::TooSlow => ("too-slow", StatusCode::REQUEST_TIMEOUT, "The request took too long"),
            Self::LengthRequired => ("length-required", StatusCode::LENGTH_REQUIRED, "The length must be said"),
            Self::TooLarge => ("too-large", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large"),
            Self::UrlTooLong => ("url-too-long", StatusCode::URI_TOO_LONG, "The URL is too long"),
        };
        Meaning { word, status, title }
    }

    /// For the list, which is committed.
    #[cfg(test)]
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::BadRequest => {
                "A parameter or a part of the path is unknown, missing, written twice or not of its form; `field` names it. Nothing was done."
            }
            Self::UnexpectedBody => {
                "Orders are told by path and parameters; a body would be passed over, so it is refused. Nothing was done."
            }
            Self::NotFound => {
                "There is no such app, worker, roll or route; `detail` says which there are. Rolls are kept in memory, the last 20 of each app, and of those before the master's last restart one or two."
            }
            Self::MethodNotAllowed => "GET reads, POST orders; the header `Allow` says which this route takes.",
            Self::Conflict => {
                "What was asked for cannot be had as things stand: an app that does not run cannot be rolled, say. Nothing was done; `detail` ends with the command that helps."
            }
            Self::Paused => {
                "A roll of the app is paused, by a person or since a worker failed (`on_failure`), and only a person lets it go on or go back. What would have to wait for it is not begun; a roll that was waited for stands still and is `instance`. `detail` says why it is paused and ends with the commands that help."
            }
            Self::Failed => {
                "It was tried and failed; `detail` says why, with the last words of the worker or of systemd, and how things are now. Of a roll that was waited for `instance` is the roll."
            }
            Self::Busy => {
                "As many follow the events already as there may be, or more is asked for or being carried out at once over this listener than it takes; try again later. Nothing was done."
            }
            Self::Unauthorized => {
                "Over TCP every request says `Authorization: Bearer TOKEN`; `detail` says where a token is. A wrong one is answered later each time, up to 3 s."
            }
            Self::ForeignHost => "Over TCP the `Host` is the address that is configured, or a name of the loopback. Nothing was done.",
            Self::ForeignOrigin => "A browser asks for a web page of another origin, which has no business here. Nothing was done.",
            Self::Forbidden => {
                "The token has a role that does not allow this; `detail` says which one does. An app that is not on a token's list is `not-found` for it, as one that does not exist. Over the unix socket: who asks is neither root nor of the socket's group. Nothing was done."
            }
            Self::TooSlow => "The request did not come in time. Nothing was done.",
            Self::LengthRequired => "A body must say its length. Nothing was done.",
            Self::TooLarge => "The body is larger than any route takes. Nothing was done.",
            Self::UrlTooLong => "Path and query are longer than any route takes. Nothing was done.",
            Self::Unavailable => {
                "systemd cannot be reached over D-Bus or did not answer in time. An order may or may not have been carried out: ask for the app."
            }
        }
    }
}

impl Refusal {
    /// One with this paragraph for people.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), field: None, instance: None }
    }
    /// This parameter, or part of the path, is wrong.
    #[must_use]
    pub fn at(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }
    /// This is what failed.
    #[must_use]
    pub fn of(self, instance: String) -> Self {
        Self { instance: Some(instance), ..self }
    }
    /// Its code.
    pub fn code(&self) -> Code {
        self.code
    }
    /// The parameter, or part of the path, that is wrong.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }
    /// As it travels.
    pub fn problem(self) -> Problem {
        let Meaning { word, status, title, .. } = self.code.meaning();
        Problem {
            kind: format!("/v1/problems#{word}"),
            code: word.into(),
            status: status.as_u16(),
            title: title.into(),
            detail: crate::place::words(&self.detail).into_owned(),
            field: self.field,
            instance: self.instance,
        }
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
        let status = self.code.meaning().status;
        let again = (self.code == Code::Busy).then(|| [(header::RETRY_AFTER, HeaderValue::from_static("1"))]);
        // Strings and a number: what cannot be JSON is not in it.
        let body = serde_json::to_vec(&self.problem()).unwrap_or_default();
        let form = [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
        (status, form, again, body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::tests::committed;

    /// The list of codes, in Markdown. A heading of its own each, so that `type` leads there.
    fn list() -> String {
        let mut out = String::from(
            "# Problems\n\nWhat the REST API answers when it does not do what was asked for: `application/problem+json` (RFC 9457), of one form\n\
             everywhere. Programs go by `code`, which stays; people by `detail`, which says why and what to do. `type` leads here.\n\
             The master has this text at `/v1/problems`; it is made from `src/api/error.rs`.\n\n\
             Two answers have no body and so no code: 400 to what is no HTTP, 431 to a head of more than 16 KiB or 100 headers.\n",
        );
        for code in Code::ALL {
            let Meaning { word, status, title } = code.meaning();
            out.push_str(&format!("\n## {word}\n\n{}. {title}.\n\n{}\n", status.as_u16(), code.text()));
        }
        out
    }

    #[test]
    fn the_committed_list_is_that_of_the_code() {
        committed("problems.md", |_| list());
    }

    #[test]
    fn a_problem_has_all_that_the_standard_asks_for_and_no_more_than_it_knows() {
        let refusal = Refusal::new(Code::Conflict, "why").of("/v1/apps/api/rolls/7".into());
        let told = serde_json::to_value(refusal.problem()).unwrap();
        let expected = serde_json::json!({
            "type": "/v1/problems#conflict", "code": "conflict", "status": 409, "title": "Not in this state",
            "detail": "why", "instance": "/v1/apps/api/rolls/7"
        });
        assert_eq!(told, expected);
        let told = serde_json::to_value(Refusal::new(Code::BadRequest, "why").at("wait").problem()).unwrap();
        assert_eq!((&told["field"], told.get("instance")), (&"wait".into(), None));
        let words: std::collections::BTreeSet<_> = Code::ALL.map(|code| code.meaning().word).into();
        assert_eq!(words.len(), Code::ALL.len());
    }
}
