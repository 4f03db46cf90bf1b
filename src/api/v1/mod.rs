//! The routes of `/v1`, by resource: takes a request apart, asks the master, gives the answer its form. Decides nothing.
//!
//! What a route does not know it refuses: a mistyped `slots` must not mean the whole app. `docs/openapi.json` tells all of
//! them; a test compares it with the tables here. Each says the [`Role`] that it takes, and an app that who asks may not see
//! is to him none that there is: he is not even told that it exists.

pub(super) mod apps;
mod documents;
pub(super) mod history;
pub(super) mod orders;
pub(super) mod rolls;
pub(super) mod workers;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get};
use axum::{Json, Router};

use super::caller::{Caller, Role};
use super::error::{Code, Refusal};
use super::extract::{Nothing, Query, without_body};
use super::installed::Config;
use super::stream;
use super::types::Health;
use crate::journal::harmless;
use crate::master::Master;
use crate::names::AppName;
use crate::systemd::Systemd;

type Shared<S> = State<Arc<Master<S>>>;
type Answer<T> = Result<Json<T>, Refusal>;
/// Paths, the role that each takes, and what it answers with: one method each.
type Routes<S> = Vec<(&'static str, Role, MethodRouter<Arc<Master<S>>>)>;

/// All of them, and a refusal of what else begins with `/v1/`.
pub fn routes<S: Systemd>() -> Router<Arc<Master<S>>> {
    let known = table().into_iter().fold(Router::new(), |router, (path, role, methods)| {
        let demand = move |caller: Caller, request: Request, next: Next| async move {
            match caller.demand(role) {
                Ok(()) => next.run(request).await,
                Err(refusal) => refusal.into_response(),
            }
        };
        router.route(path, methods.route_layer(from_fn(demand)))
    });
    let unknown = async || Refusal::new(Code::NotFound, "there is no such route; /v1/openapi.json tells which there are");
    known.route("/v1/{*rest}", any(unknown)).layer(from_fn(without_body))
}

fn table<S: Systemd>() -> Routes<S> {
    let mut routes: Routes<S> = vec![
        ("/v1/health", Role::View, get(health::<S>)),
        ("/v1/config", Role::Admin, get(config::<S>)),
        ("/v1/events", Role::View, get(stream::events::<S>)),
    ];
    routes.extend(apps::routes());
    routes.extend(workers::routes());
    routes.extend(orders::routes());
    routes.extend(rolls::routes());
    routes.extend(history::routes());
    routes.extend(documents::routes());
    routes
}

/// A list that is JSON already: the same for all who ask at this moment.
fn whole(rows: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], rows).into_response()
}

async fn health<S: Systemd>(State(master): Shared<S>, Query(Nothing {}): Query<Nothing>) -> Json<Health> {
    Json(master.health())
}

async fn config<S: Systemd>(State(master): Shared<S>, caller: Caller, Query(Nothing {}): Query<Nothing>) -> Json<Config> {
    master.renew_settings();
    Json(Config::of(&master.settings(), &caller))
}

/// The app of that name, or which there are for who asks.
fn known<S: Systemd>(master: &Master<S>, caller: &Caller, name: &str) -> Result<AppName, Refusal> {
    let settings = master.settings();
    let mut apps = settings.apps.keys().filter(|app| caller.sees(app));
    apps.clone().find(|app| app.as_str() == name).cloned().ok_or_else(|| {
        let names: Vec<&str> = apps.by_ref().map(AppName::as_str).collect();
        let there = if names.is_empty() { "there is none".to_owned() } else { format!("there are: {}", names.join(", ")) };
        Refusal::new(Code::NotFound, format!("there is no app `{}`; {there}", harmless(name))).at("app")
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::systemd::fake::Fake;

    /// All routes: path, method, and the role that it takes.
    pub(crate) fn paths() -> BTreeSet<(&'static str, String, Role)> {
        // What a method router takes is to be seen in how it looks.
        let methods = |router: &MethodRouter<Arc<Master<Fake>>>| {
            let text = format!("{router:?}");
            let takes = |name: &str| !text.contains(&format!("{name}: None"));
            ["get", "post", "put", "delete", "patch"].into_iter().filter(|name| takes(name)).collect::<Vec<_>>().join(" ")
        };
        table::<Fake>().iter().map(|(path, role, router)| (*path, methods(router), *role)).collect()
    }
}
