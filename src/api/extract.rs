//! Path and query of a request, read strictly: what cannot be read is refused like any other request that is wrong.

use axum::extract::{FromRequestParts, Path as RawPath, Query as RawQuery};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::{Code, Refusal};

/// The parts of the path.
#[derive(Debug)]
pub struct Path<T>(pub T);

/// The parameters.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let read = RawPath::from_request_parts(parts, state).await;
        read.map(|RawPath(path)| Self(path)).map_err(|why| Refusal::new(Code::BadRequest, why.body_text()))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let read = RawQuery::from_request_parts(parts, state).await;
        read.map(|RawQuery(query)| Self(query)).map_err(|why| Refusal::new(Code::BadRequest, why.body_text()))
    }
}
