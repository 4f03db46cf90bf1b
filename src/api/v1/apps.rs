//! Apps, with all that there is to know of each.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::Deserialize;

use super::{Answer, Routes, Shared, known};
use crate::api::caller::{Caller, Role};
use crate::api::error::Refusal;
use crate::api::extract::{Nothing, Path, Query};
use crate::api::query::{Limit, Page};
use crate::api::types::App;
use crate::master::Master;
use crate::systemd::Systemd;

/// Of an app.
#[derive(Debug, Deserialize)]
pub(super) struct Name {
    pub app: String,
}

/// A part of the apps, by name.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Part {
    /// How many at most, 1 to 1000. Default 1000 behind `after`, else all.
    limit: Option<Limit>,
    /// Those behind this name, in the order of the alphabet. The header `Link` of an answer with more behind it has it.
    after: Option<String>,
}

pub(super) fn routes<S: Systemd>() -> Routes<S> {
    vec![("/v1/apps", Role::View, get(apps::<S>)), ("/v1/apps/{app}", Role::View, get(app::<S>))]
}

async fn apps<S: Systemd>(State(master): Shared<S>, caller: Caller, Query(part): Query<Part>) -> Result<Response, Refusal> {
    let all = part.limit.is_none() && part.after.is_none();
    if all && caller.sees_all() {
        return Ok(super::whole(master.apps_now().await?));
    }
    master.glance().await?;
    let mut apps = master.apps();
    apps.retain(|app| caller.sees(&app.name));
    if let Some(after) = part.after {
        apps.retain(|app| app.name.as_str() > after.as_str());
    }
    Master::tell_crash_loops(&master, &mut apps).await;
    if all {
        return Ok(Json(apps).into_response());
    }
    Ok(Page::new(apps, part.limit, "/v1/apps", |app| app.name.clone()).into_response())
}

async fn app<S: Systemd>(
    State(master): Shared<S>,
    caller: Caller,
    Path(path): Path<Name>,
    Query(Nothing {}): Query<Nothing>,
) -> Answer<App> {
    let name = known(&master, &caller, &path.app)?;
    master.glance().await?;
    let mut app = [master.app(&name)?];
    Master::tell_crash_loops(&master, &mut app).await;
    let [app] = app;
    Ok(Json(app))
}
