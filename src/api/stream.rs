//! `GET /v1/events`: what happens, as a stream of server-sent events, or what is kept of it, as JSON.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;

use super::error::{Code, Refusal};
use super::events::Event;
use super::extract::Query;
use crate::master::Master;
use crate::master::events::Reader;
use crate::systemd::Systemd;

/// How often a reader that follows hears that the master is there.
pub const HEARTBEAT: Duration = Duration::from_secs(20);

/// `?after=SEQ`: what is behind that event; `?follow=false`: what is kept, as an array.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    after: Option<u64>,
    follow: Option<bool>,
}

/// The route. `Accept: application/json` asks for the array as well; `Last-Event-ID`, which a browser sends when it
/// connects again, is the same as `?after=` and goes before it.
pub async fn events<S: Systemd>(
    State(master): State<Arc<Master<S>>>,
    Query(wish): Query<Wish>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let last = match headers.get("last-event-id") {
        None => None,
        Some(id) => Some(
            id.to_str()
                .ok()
                .and_then(|id| id.trim().parse::<u64>().ok())
                .ok_or_else(|| Refusal::new(Code::BadRequest, "Last-Event-ID is the `id` of an event, a number"))?,
        ),
    };
    let after = last.or(wish.after);
    let json = text(header::ACCEPT).is_some_and(|accept| accept.contains("application/json") && !accept.contains("text/event-stream"));
    if !wish.follow.unwrap_or(!json) {
        return Ok(Json(master.events().kept(after.unwrap_or(0))).into_response());
    }
    let reader = master.events().reader(after)?;
    let events = stream::unfold((reader, VecDeque::new()), |(mut reader, mut batch): (Reader, VecDeque<Event>)| async move {
        if batch.is_empty() {
            batch.extend(reader.next().await);
        }
        let event = batch.pop_front()?;
        Some((Ok::<_, Infallible>(frame(&event)), (reader, batch)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("the master is there")).into_response())
}

/// One event on the wire.
fn frame(event: &Event) -> sse::Event {
    // What cannot be JSON does not exist in an event.
    let data = serde_json::to_string(event).unwrap_or_default();
    sse::Event::default().id(event.seq.to_string()).event(event.what.kind.word()).data(data)
}
