//! The history: what was asked for, by whom, and what came of it.

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use serde::Deserialize;

use super::{Answer, Routes, Shared, known};
use crate::api::caller::{Caller, Role};
use crate::api::error::Refusal;
use crate::api::extract::{Nothing, Path, Query};
use crate::api::history::Entry;
use crate::api::query::{Limit, Number, Page};
use crate::history;
use crate::names::AppName;
use crate::systemd::Systemd;

/// Entries in one answer where nothing is said.
const SOME: Limit = Number(20);

/// A part of the history, newest first.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Part {
    /// Of this app alone, also of one that is none any more.
    app: Option<AppName>,
    /// Asked for at this time or later, milliseconds of Unix time.
    #[cfg_attr(test, schemars(range(max = u64::MAX)))]
    since_ms: Option<u64>,
    /// How many at most, 1 to 1000. Default 20.
    limit: Option<Limit>,
    /// Those before the entry of this number. The header `Link` of an answer with more behind it has it.
    #[cfg_attr(test, schemars(range(max = u64::MAX)))]
    after: Option<u64>,
}

/// Of an entry.
#[derive(Debug, Deserialize)]
struct Which {
    entry: u64,
}

pub(super) fn routes<S: Systemd>() -> Routes<S> {
    vec![("/v1/history", Role::View, get(entries::<S>)), ("/v1/history/{entry}", Role::View, get(entry::<S>))]
}

async fn entries<S: Systemd>(State(master): Shared<S>, caller: Caller, Query(part): Query<Part>) -> Result<Page<Entry>, Refusal> {
    let Part { app, since_ms, limit, after } = part;
    // The same as of an app that there never was.
    if let Some(app) = app.as_ref().filter(|app| !caller.sees(app)) {
        known(&master, &caller, app.as_str())?;
    }
    let limit = limit.unwrap_or(SOME);
    let wish = history::Part {
        app: app.clone(),
        seen: caller.apps().cloned(),
        since_ms,
        before: after,
        // One more, to know whether there is more.
        limit: usize::from(limit.0) + 1,
    };
    let entries = master.history(wish).await?;
    if let Some(app) = app.as_ref().filter(|_| entries.is_empty() && after.is_none() && since_ms.is_none()) {
        known(&master, &caller, app.as_str())?;
    }
    let wish = [app.map(|app| format!("app={app}")), since_ms.map(|since| format!("since_ms={since}"))];
    let wish: Vec<String> = wish.into_iter().flatten().collect();
    let path = if wish.is_empty() { "/v1/history".to_owned() } else { format!("/v1/history?{}", wish.join("&")) };
    Ok(Page::new(entries, Some(limit), &path, |entry| entry.id))
}

async fn entry<S: Systemd>(
    State(master): Shared<S>,
    caller: Caller,
    Path(path): Path<Which>,
    Query(Nothing {}): Query<Nothing>,
) -> Answer<Entry> {
    Ok(Json(master.entry(path.entry, caller.apps()).await?))
}
