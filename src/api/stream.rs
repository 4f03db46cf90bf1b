//! `GET /v1/events`: what happens, as a stream of server-sent events, or what is kept of it, as JSON.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{self, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;

use super::caller::Caller;
use super::error::{Code, Refusal};
use super::events::{Event, Kind};
use super::extract::Query;
use super::query::{Limit, Page};
use crate::master::Master;
use crate::systemd::Systemd;

/// How often a reader that follows hears that the master is there, at least.
pub const HEARTBEAT: Duration = Duration::from_secs(20);

/// Which events, and how.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Those behind this number; 0 is all that are kept. Default: of a stream what comes from now on, of an array all.
    #[cfg_attr(test, schemars(range(max = u64::MAX)))]
    after: Option<u64>,
    /// A stream of server-sent events that goes on, or an array of those that are kept. Default true, and false where the
    /// header `Accept` asks for application/json.
    follow: Option<bool>,
    /// How many at most in an array, 1 to 1000; a stream takes none. Default: all that are kept.
    limit: Option<Limit>,
}

/// The route. `Accept: application/json` asks for the array as well; `Last-Event-ID`, which a browser sends when it
/// connects again, is the same as `?after=` and goes before it.
pub async fn events<S: Systemd>(
    State(master): State<Arc<Master<S>>>,
    caller: Caller,
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
                .ok_or_else(|| Refusal::new(Code::BadRequest, "Last-Event-ID is the `id` of an event, a number").at("Last-Event-ID"))?,
        ),
    };
    let after = last.or(wish.after);
    let json = text(header::ACCEPT).is_some_and(|accept| accept.contains("application/json") && !accept.contains("text/event-stream"));
    let follows = wish.follow.unwrap_or(!json);
    if follows && wish.limit.is_some() {
        let why = "`limit`: a stream has no end that it could set; with `follow=false` it bounds the array";
        return Err(Refusal::new(Code::BadRequest, why).at("limit"));
    }
    if !follows {
        let kept: Vec<Event> = master.events().kept(after.unwrap_or(0)).into_iter().filter_map(|event| seen(event, &caller)).collect();
        return Ok(match wish.limit {
            None => Json(kept).into_response(),
            limit => Page::new(kept, limit, "/v1/events?follow=false", |event| event.seq).into_response(),
        });
    }
    let reader = master.events().reader(after)?;
    // Who gave no number learns where he begins, so that he can resume there though nothing has happened yet.
    let begin = after.is_none().then(|| Ok(sse::Event::default().id(reader.position().to_string())));
    let events = stream::unfold((reader, VecDeque::new(), caller), |(mut reader, mut batch, mut caller)| async move {
        while batch.is_empty() {
            tokio::select! {
                events = reader.next() => {
                    if events.is_empty() {
                        return None;
                    }
                    batch.extend(events.into_iter().filter_map(|event| seen(event, &caller)));
                }
                // With the position: of one who may not see all, it goes on without him.
                () = beat() => {
                    let frame = sse::Event::default().id(reader.position().to_string()).comment("the master is there");
                    return Some((Ok(frame), (reader, batch, caller)));
                }
                () = caller.withdrawn() => return None,
            }
        }
        let event: Event = batch.pop_front()?;
        Some((Ok::<_, Infallible>(frame(&event)), (reader, batch, caller)))
    });
    Ok(Sse::new(stream::iter(begin).chain(events)).into_response())
}

/// An event as far as who asks may see it: what concerns an app that is none to him is not, and numbers of all apps are not told.
fn seen(mut event: Event, caller: &Caller) -> Option<Event> {
    match &event.what.app {
        Some(app) => caller.sees(app).then_some(event),
        None => {
            if event.what.kind == Kind::MasterStart && !caller.sees_all() {
                event.what.text = "the master is up; earlier events are not kept".into();
            }
            Some(event)
        }
    }
}

/// Ends every [`HEARTBEAT`] by the clock, for all readers at once: however many there are, the master wakes once.
async fn beat() {
    let every = HEARTBEAT.as_millis();
    let past = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() % every;
    tokio::time::sleep(Duration::from_millis(u64::try_from(every - past).unwrap_or_default())).await;
}

/// One event on the wire.
fn frame(event: &Event) -> sse::Event {
    // What cannot be JSON does not exist in an event.
    let data = serde_json::to_string(event).unwrap_or_default();
    sse::Event::default().id(event.seq.to_string()).event(event.what.kind.word()).data(data)
}
