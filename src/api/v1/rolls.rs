//! Rolls: starting one, watching one, those that were.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;

use super::apps::Name;
use super::orders::{self, Order};
use super::{Answer, Routes, Shared, known};
use crate::api::caller::{Caller, Role};
use crate::api::error::Refusal;
use crate::api::extract::{Path, Query};
use crate::api::query::{Limit, Number, Page, Wait};
use crate::api::types::{Done, Roll};
use crate::history::Act;
use crate::systemd::Systemd;

/// Longest wait of a question; a client asks again.
const WATCH: Duration = Duration::from_secs(60);

/// Rolls in one answer where nothing is said.
const SOME: Limit = Number(20);

/// A part of the rolls, newest first.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Part {
    /// How many at most, 1 to 1000; more where several apps have a roll of the same number. Default 20.
    limit: Option<Limit>,
    /// Those before the roll of this number. The header `Link` of an answer with more behind it has it.
    #[cfg_attr(test, schemars(range(max = u64::MAX)))]
    after: Option<u64>,
}

impl Part {
    fn of(self, mut rolls: Vec<Roll>, path: &str) -> Page<Roll> {
        rolls.retain(|roll| self.after.is_none_or(|after| roll.id < after));
        Page::new(rolls, Some(self.limit.unwrap_or(SOME)), path, |roll| roll.id)
    }
}

/// How to watch a roll.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Watch {
    /// Wait so long, at most 60 s, for the end of the roll, or with `after` for its next change. Default: no wait.
    wait: Option<Wait>,
    /// The `sequence` that is known: the answer comes once the roll has another one.
    #[cfg_attr(test, schemars(range(max = u64::MAX)))]
    after: Option<u64>,
}

/// Of a roll.
#[derive(Debug, Deserialize)]
struct Which {
    app: String,
    id: u64,
}

pub(super) fn routes<S: Systemd>() -> Routes<S> {
    vec![
        ("/v1/rolls", Role::View, get(rolls::<S>)),
        ("/v1/apps/{app}/rolls", Role::View, get(of_app::<S>)),
        ("/v1/apps/{app}/rolls", Role::Operate, post(begin::<S>)),
        ("/v1/apps/{app}/rolls/{id}", Role::View, get(roll::<S>)),
    ]
}

async fn rolls<S: Systemd>(State(master): Shared<S>, caller: Caller, Query(part): Query<Part>) -> Page<Roll> {
    let mut rolls = master.past_rolls(None);
    rolls.retain(|roll| caller.sees(&roll.app));
    part.of(rolls, "/v1/rolls")
}

async fn of_app<S: Systemd>(
    State(master): Shared<S>,
    caller: Caller,
    Path(path): Path<Name>,
    Query(part): Query<Part>,
) -> Result<Page<Roll>, Refusal> {
    let name = known(&master, &caller, &path.app)?;
    Ok(part.of(master.past_rolls(Some(&name)), &format!("/v1/apps/{name}/rolls")))
}

async fn roll<S: Systemd>(State(master): Shared<S>, caller: Caller, Path(path): Path<Which>, Query(watch): Query<Watch>) -> Answer<Roll> {
    let app = known(&master, &caller, &path.app)?;
    let wait = watch.wait.map(|wait| wait.0.min(WATCH)).unwrap_or_default();
    Ok(Json(master.roll(&app, path.id, watch.after, wait).await?))
}

/// All workers to a new generation; of single slots new workers of the same one.
async fn begin<S: Systemd>(
    State(master): Shared<S>,
    caller: Caller,
    Path(path): Path<Name>,
    Query(order): Query<Order>,
) -> Result<Response, Refusal> {
    let app = known(&master, &caller, &path.app)?;
    let (patience, slots) = order.parts();
    let act = Act::new(if slots.is_none() { "reload" } else { "restart" }).of(slots.as_ref());
    orders::carry_out(master, &caller, app, patience, act, async move |master, app| match slots {
        None => Ok(Done::by_roll(master.reload(&app).await?, "begun")),
        Some(slots) => master.restart(&app, slots).await,
    })
    .await
}
