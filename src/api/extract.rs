//! Path and query of a request, read strictly: what cannot be read is refused, with the name of what is wrong.

use std::error::Error;
use std::time::Duration;

use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path as RawPath, Query as RawQuery, Request};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use serde::de::DeserializeOwned;

use super::error::{Code, Refusal};
use crate::journal::harmless;

/// The parts of the path.
#[derive(Debug)]
pub struct Path<T>(pub T);

/// The parameters.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let why = match RawPath::from_request_parts(parts, state).await {
            Ok(RawPath(path)) => return Ok(Self(path)),
            Err(why) => why,
        };
        let refusal = Refusal::new(Code::BadRequest, harmless(&why.body_text()));
        let PathRejection::FailedToDeserializePathParams(why) = why else { return Err(refusal) };
        Err(match why.into_kind() {
            ErrorKind::ParseErrorAtKey { key, .. }
            | ErrorKind::DeserializeError { key, .. }
            | ErrorKind::InvalidUtf8InPathParam { key } => refusal.at(key),
            _ => refusal,
        })
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let why = match RawQuery::from_request_parts(parts, state).await {
            Ok(RawQuery(query)) => return Ok(Self(query)),
            Err(why) => why,
        };
        let mut cause: Option<&(dyn Error + 'static)> = Some(&why);
        let found = loop {
            let Some(error) = cause else { break None };
            if let Some(found) = error.downcast_ref::<serde_path_to_error::Error<serde::de::value::Error>>() {
                break Some(found);
            }
            cause = error.source();
        };
        let Some(found) = found else { return Err(Refusal::new(Code::BadRequest, harmless(&why.body_text()))) };
        let field = harmless(&found.path().to_string());
        Err(if field == "." {
            // What is missing or written twice: serde names it between backquotes, and nothing else.
            let why = harmless(&found.inner().to_string());
            let named =
                why.strip_prefix("missing field `").or(why.strip_prefix("duplicate field `")).and_then(|rest| rest.strip_suffix('`'));
            match named {
                Some(named) if why.starts_with('m') => Refusal::new(Code::BadRequest, format!("`{named}` is missing")).at(named),
                Some(named) => Refusal::new(Code::BadRequest, format!("`{named}` is written twice")).at(named),
                None => Refusal::new(Code::BadRequest, why),
            }
        } else {
            Refusal::new(Code::BadRequest, format!("`{field}`: {}", harmless(&found.inner().to_string()))).at(field)
        })
    }
}

/// What this route takes no parameters for.
#[derive(Debug, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The most of an unwanted body that is read so that the refusal gets through, and for how long.
const UNWANTED: (usize, Duration) = (64 * 1024, Duration::from_secs(2));

/// Refuses a body: no route takes one.
pub async fn without_body(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    // Read, so that a client that is still sending gets an answer and no broken connection; the rest is dropped with it.
    let mut body = http_body_util::Limited::new(request.into_body(), UNWANTED.0);
    let _ = tokio::time::timeout(UNWANTED.1, async { while let Some(Ok(_)) = body.frame().await {} }).await;
    Refusal::new(Code::UnexpectedBody, "no route takes a body: what to do is told by path and parameters, as in ?wait=30s").into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Asked {
            count: u16,
            #[serde(default)]
            all: bool,
        }
        let cases = [
            ("count=1&all=true", None),
            ("count=many", Some(Some("count"))),
            ("count=1&all=yes", Some(Some("all"))),
            ("count=1&some=yes", Some(Some("some"))),
            ("", Some(Some("count"))),
            ("all=true", Some(Some("count"))),
            ("count=1&count=2", Some(Some("count"))),
        ];
        for (query, expected) in cases {
            let (mut parts, ()) = Request::builder().uri(format!("/v1/it?{query}")).body(()).unwrap().into_parts();
            let refused = Query::<Asked>::from_request_parts(&mut parts, &()).await.map(|Query(asked)| (asked.count, asked.all)).err();
            let told = refused.as_ref().map(Refusal::field);
            assert_eq!(told, expected, "{query}: {refused:?}");
            assert!(refused.is_none_or(|refused| refused.code() == Code::BadRequest));
        }
    }
}
