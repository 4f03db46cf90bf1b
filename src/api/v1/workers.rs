//! Workers: all, those of an app, those of one uid.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::Deserialize;

use super::apps::Name;
use super::{Answer, Routes, Shared, known};
use crate::api::caller::{Caller, Role};
use crate::api::error::{Code, Refusal};
use crate::api::extract::{Nothing, Path, Query};
use crate::api::query::{Limit, Page};
use crate::api::types::Worker;
use crate::names::Uid;
use crate::systemd::Systemd;

/// A part of the workers, by app and slot.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Part {
    /// How many at most, 1 to 1000; one more where a worker of the same uid takes over from the last. Default 1000; all where `/v1/workers` is asked without `after`.
    limit: Option<Limit>,
    /// Those behind this uid. The header `Link` of an answer with more behind it has it.
    after: Option<Uid>,
}

impl Part {
    fn of(self, mut workers: Vec<Worker>, path: &str) -> Page<Worker> {
        if let Some(Uid { app, slot }) = self.after {
            workers.retain(|worker| (&worker.app, worker.slot) > (&app, slot.get()));
        }
        Page::new(workers, self.limit, path, |worker| worker.uid.clone())
    }
}

/// Of a worker.
#[derive(Debug, Deserialize)]
struct Which {
    uid: String,
}

pub(super) fn routes<S: Systemd>() -> Routes<S> {
    vec![
        ("/v1/workers", Role::View, get(workers::<S>)),
        ("/v1/workers/{uid}", Role::View, get(worker::<S>)),
        ("/v1/apps/{app}/workers", Role::View, get(of_app::<S>)),
    ]
}

async fn workers<S: Systemd>(State(master): Shared<S>, caller: Caller, Query(part): Query<Part>) -> Result<Response, Refusal> {
    let all = part.limit.is_none() && part.after.is_none();
    if all && caller.sees_all() {
        return Ok(super::whole(master.workers_now().await?));
    }
    master.glance().await?;
    let seen = master.apps().into_iter().filter(|app| caller.sees(&app.name));
    let workers: Vec<Worker> = seen.flat_map(|app| app.workers).collect();
    Ok(if all { Json(workers).into_response() } else { part.of(workers, "/v1/workers").into_response() })
}

async fn of_app<S: Systemd>(
    State(master): Shared<S>,
    caller: Caller,
    Path(path): Path<Name>,
    Query(part): Query<Part>,
) -> Result<Page<Worker>, Refusal> {
    let name = known(&master, &caller, &path.app)?;
    master.glance().await?;
    Ok(part.of(master.app(&name)?.workers, &format!("/v1/apps/{name}/workers")))
}

/// One, or two while a roll replaces the one by the other.
async fn worker<S: Systemd>(
    State(master): Shared<S>,
    caller: Caller,
    Path(path): Path<Which>,
    Query(Nothing {}): Query<Nothing>,
) -> Answer<Vec<Worker>> {
    let uid: Uid = path.uid.parse().map_err(|why| Refusal::new(Code::BadRequest, format!("`uid`: {why}")).at("uid"))?;
    let name = known(&master, &caller, uid.app.as_str()).map_err(|refusal| refusal.at("uid"))?;
    master.glance().await?;
    let mut workers = master.app(&name)?.workers;
    workers.retain(|worker| worker.uid == uid);
    if workers.is_empty() {
        let why = format!("there is no worker {uid}. `project-cluster ls {name}` lists those of {name}");
        return Err(Refusal::new(Code::NotFound, why).at("uid"));
    }
    Ok(Json(workers))
}
