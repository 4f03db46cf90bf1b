//! Rolls: starting one, watching one, those that were.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;

use super::apps::Name;
use super::orders::{self, Begin, Patience, What, Whole};
use super::{Answer, Routes, Shared, known};
use crate::api::caller::{Caller, Role};
use crate::api::error::Refusal;
use crate::api::extract::{Path, Query};
use crate::api::query::{Limit, Number, Page, To, Wait};
use crate::api::types::{Done, Roll};
use crate::history::Act;
use crate::master::rolls::steer;
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
        ("/v1/apps/{app}/rolls/{id}/pause", Role::Operate, post(pause::<S>)),
        ("/v1/apps/{app}/rolls/{id}/resume", Role::Operate, post(resume::<S>)),
        ("/v1/apps/{app}/rolls/{id}/abort", Role::Operate, post(abort::<S>)),
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

/// All workers to a new generation, or to an older one again; of single slots new workers of the same one.
async fn begin<S: Systemd>(
    State(master): Shared<S>,
    caller: Caller,
    Path(path): Path<Name>,
    Query(order): Query<Begin>,
) -> Result<Response, Refusal> {
    let app = known(&master, &caller, &path.app)?;
    let (patience, what) = order.parts()?;
    let act = match &what {
        What::Deploy(_) => Act::new("reload"),
        What::Slots(slots) => Act::new("restart").of(Some(slots)),
        What::Back(_) => Act::new("rollback"),
    };
    orders::carry_out(master, &caller, app, patience, act, async move |master, app| match what {
        What::Slots(slots) => master.restart(&app, slots).await,
        What::Deploy(canaries) => Ok(Done::by_roll(master.reload_with(&app, canaries).await?, "begun")),
        What::Back(To::Previous) => Ok(Done::by_roll(master.roll_back(&app, None).await?, "begun")),
        What::Back(To::Generation(to)) => Ok(Done::by_roll(master.roll_back(&app, Some(to)).await?, "begun")),
    })
    .await
}

async fn pause<S: Systemd>(master: Shared<S>, caller: Caller, path: Path<Which>, Query(order): Query<Whole>) -> Result<Response, Refusal> {
    steered(master, caller, path, order.at_once(), "pause", steer::Order::Pause).await
}

async fn resume<S: Systemd>(master: Shared<S>, caller: Caller, path: Path<Which>, Query(order): Query<Whole>) -> Result<Response, Refusal> {
    steered(master, caller, path, order.back(false), "resume", steer::Order::Resume).await
}

async fn abort<S: Systemd>(master: Shared<S>, caller: Caller, path: Path<Which>, Query(order): Query<Whole>) -> Result<Response, Refusal> {
    steered(master, caller, path, order.back(true), "abort", steer::Order::Abort).await
}

/// An order to a roll, under this verb.
async fn steered<S: Systemd>(
    State(master): Shared<S>,
    caller: Caller,
    Path(path): Path<Which>,
    patience: Patience,
    verb: &'static str,
    order: steer::Order,
) -> Result<Response, Refusal> {
    let app = known(&master, &caller, &path.app)?;
    orders::carry_out(master, &caller, app, patience, Act::new(verb), async move |master, app| master.steer(&app, path.id, order).await)
        .await
}
