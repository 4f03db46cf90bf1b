//! The routes of `/v1`, by resource: takes a request apart, asks the master, gives the answer its form. Decides nothing.
//!
//! What a route does not know it refuses: a mistyped `slots` must not mean the whole app. `docs/openapi.json` tells all of
//! them; a test compares it with the tables here.

pub(super) mod apps;
mod documents;
pub(super) mod orders;
pub(super) mod rolls;
pub(super) mod workers;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get};
use axum::{Json, Router};

use super::error::{Code, Refusal};
use super::extract::{Nothing, Query, without_body};
use super::stream;
use super::types::Health;
use crate::journal::harmless;
use crate::master::Master;
use crate::names::AppName;
use crate::systemd::Systemd;

type Shared<S> = State<Arc<Master<S>>>;
type Answer<T> = Result<Json<T>, Refusal>;
/// Paths and what they answer with.
type Routes<S> = Vec<(&'static str, MethodRouter<Arc<Master<S>>>)>;

/// All of them, and a refusal of what else begins with `/v1/`.
pub fn routes<S: Systemd>() -> Router<Arc<Master<S>>> {
    let known = table().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    let unknown = async || Refusal::new(Code::NotFound, "there is no such route; /v1/openapi.json tells which there are");
    known.route("/v1/{*rest}", any(unknown)).layer(from_fn(without_body))
}

fn table<S: Systemd>() -> Routes<S> {
    let mut routes: Routes<S> =
        vec![("/v1/health", get(health::<S>)), ("/v1/config", get(config::<S>)), ("/v1/events", get(stream::events::<S>))];
    routes.extend(apps::routes());
    routes.extend(workers::routes());
    routes.extend(orders::routes());
    routes.extend(rolls::routes());
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

async fn config<S: Systemd>(State(master): Shared<S>, Query(Nothing {}): Query<Nothing>) -> Response {
    master.renew_settings();
    Json(&*master.settings()).into_response()
}

/// The app of that name, or which there are.
fn known<S: Systemd>(master: &Master<S>, name: &str) -> Result<AppName, Refusal> {
    let apps = &master.settings().apps;
    apps.keys().find(|app| app.as_str() == name).cloned().ok_or_else(|| {
        let names: Vec<&str> = apps.keys().map(AppName::as_str).collect();
        Refusal::new(Code::NotFound, format!("there is no app `{}`; there are: {}", harmless(name), names.join(", "))).at("app")
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::systemd::fake::Fake;

    /// The paths of all routes, and which methods each takes.
    pub(crate) fn paths() -> BTreeMap<&'static str, String> {
        // What a method router takes is to be seen in how it looks.
        let methods = |router: &MethodRouter<Arc<Master<Fake>>>| {
            let text = format!("{router:?}");
            let takes = |name: &str| !text.contains(&format!("{name}: None"));
            ["get", "post", "put", "delete", "patch"].into_iter().filter(|name| takes(name)).collect::<Vec<_>>().join(" ")
        };
        table::<Fake>().iter().map(|(path, router)| (*path, methods(router))).collect()
    }
}
