//! The routes of the API: takes a request apart, asks the master, gives the answer its form. Decides nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::oneshot;

use super::error::{Code, Refusal};
use super::extract::{Path, Query};
use super::healthz::healthz;
use super::original::Original;
use super::types::{App, Done, Health, Roll, Worker};
use crate::intent::Change;
use crate::master::Master;
use crate::names::{AppName, Slot};
use crate::say::say;
use crate::systemd::Systemd;

/// Longest wait of one request for a roll to change; a client asks again.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(60);

type Shared<S> = State<Arc<Master<S>>>;
type Answer<T> = Result<Json<T>, Refusal>;

/// All routes.
pub fn routes<S: Systemd>(master: Arc<Master<S>>) -> Router {
    let original = Original::new(master.clone());
    Router::new()
        .route("/v1/health", get(health::<S>))
        .route("/v1/apps", get(apps::<S>))
        .route("/v1/apps/{app}", get(app::<S>))
        .route("/v1/workers", get(workers::<S>))
        .route("/v1/apps/{app}/start", post(start::<S>))
        .route("/v1/apps/{app}/stop", post(stop::<S>))
        .route("/v1/apps/{app}/sleep", post(sleep::<S>))
        .route("/v1/apps/{app}/reload", post(reload::<S>))
        .route("/v1/apps/{app}/restart", post(restart::<S>))
        .route("/v1/apps/{app}/add", post(add::<S>))
        .route("/v1/apps/{app}/scale", post(scale::<S>))
        .route("/v1/apps/{app}/remove", post(remove::<S>))
        .route("/v1/apps/{app}/reset", post(reset::<S>))
        .route("/v1/apps/{app}/apply", post(apply::<S>))
        .route("/v1/apps/{app}/rolls/{id}", get(roll::<S>))
        .route("/v1/events", get(super::stream::events::<S>))
        .route("/healthz", get(healthz::<S>))
        .fallback(async move |method: Method, uri: Uri| match uri.path() {
            path if path == "/v1" || path.starts_with("/v1/") => {
                Refusal::new(Code::NotFound, "there is no such route; docs/rest.md lists them").into_response()
            }
            _ => original.answer(method, uri).await,
        })
        .method_not_allowed_fallback(async || Refusal::new(Code::MethodNotAllowed, "GET reads, POST changes"))
        .with_state(master)
}

async fn health<S: Systemd>(State(master): Shared<S>) -> Json<Health> {
    Json(master.health())
}

async fn apps<S: Systemd>(State(master): Shared<S>) -> Answer<Vec<App>> {
    master.glance().await?;
    let mut apps = master.apps();
    Master::tell_crash_loops(&master, &mut apps).await;
    Ok(Json(apps))
}

async fn app<S: Systemd>(State(master): Shared<S>, Path(name): Path<String>) -> Answer<App> {
    let name = known(&master, &name)?;
    master.glance().await?;
    let mut app = [master.app(&name)?];
    Master::tell_crash_loops(&master, &mut app).await;
    let [app] = app;
    Ok(Json(app))
}

async fn workers<S: Systemd>(State(master): Shared<S>) -> Answer<Vec<Worker>> {
    master.glance().await?;
    Ok(Json(master.apps().into_iter().flat_map(|app| app.workers).collect()))
}

/// `?wait=false`: answer as soon as the order is taken. What a route does not know it refuses, here and below: a mistyped
/// `slots` must not mean the whole app.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    #[serde(default = "yes")]
    wait: bool,
}

/// `?slots=1,3`: of the app these workers alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    #[serde(default = "yes")]
    wait: bool,
    slots: Option<String>,
}

fn yes() -> bool {
    true
}

impl Order {
    fn slots(&self) -> Result<Option<BTreeSet<Slot>>, Refusal> {
        self.slots.as_deref().map(slots).transpose()
    }
}

fn slots(text: &str) -> Result<BTreeSet<Slot>, Refusal> {
    let number = |text: &str| {
        let slot = text.parse::<u16>().ok().and_then(Slot::new);
        slot.ok_or_else(|| Refusal::new(Code::BadRequest, format!("`slots` are numbers from 1 to {}, as in `?slots=1,3`", Slot::MAX)))
    };
    text.split(',').map(number).collect()
}

/// `?slots=1,3` or `?all=true`: which of them go must be said.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remove {
    #[serde(default = "yes")]
    wait: bool,
    slots: Option<String>,
    #[serde(default)]
    all: bool,
}

impl Remove {
    fn change(&self) -> Result<Change, Refusal> {
        match (self.slots.as_deref(), self.all) {
            (Some(text), false) => Ok(Change::Remove(slots(text)?)),
            (None, true) => Ok(Change::Scale(0)),
            _ => Err(Refusal::new(Code::BadRequest, "say which workers go: `?slots=1,3`, or `?all=true`, with which the port closes")),
        }
    }
}

/// `?count=2`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    #[serde(default = "yes")]
    wait: bool,
    count: u16,
}

async fn start<S: Systemd>(State(master): Shared<S>, Path(name): Path<String>, Query(order): Query<Order>) -> Answer<Done> {
    let (app, slots) = (known(&master, &name)?, order.slots()?);
    let app_name = app.clone();
    let start = async move {
        match slots {
            None => master.start(&app).await,
            Some(slots) => master.change(&app, &Change::Start(Some(slots))).await,
        }
    };
    Ok(Json(detached(order.wait, app_name, start).await?))
}

async fn stop<S: Systemd>(State(master): Shared<S>, Path(name): Path<String>, Query(order): Query<Order>) -> Answer<Done> {
    let (app, slots) = (known(&master, &name)?, order.slots()?);
    let app_name = app.clone();
    let stop = async move {
        match slots {
            None => master.stop(&app).await,
            Some(slots) => master.change(&app, &Change::Stop(slots)).await,
        }
    };
    Ok(Json(detached(order.wait, app_name, stop).await?))
}

async fn restart<S: Systemd>(State(master): Shared<S>, Path(name): Path<String>, Query(order): Query<Order>) -> Answer<Done> {
    let app = known(&master, &name)?;
    Ok(Json(match order.slots()? {
        None => Done { roll: Some(master.reload(&app).await?), ..Done::new(&app, "begun") },
        Some(slots) => master.restart(&app, slots).await?,
    }))
}

async fn add<S: Systemd>(State(master): Shared<S>, Path(name): Path<String>, Query(Count { wait, count }): Query<Count>) -> Answer<Done> {
    let app = known(&master, &name)?;
    let app_name = app.clone();
    let add = async move { master.change(&app, &Change::Add(count)).await };
    Ok(Json(detached(wait, app_name, add).await?))
}

async fn scale<S: Systemd>(State(master): Shared<S>, Path(name): Path<String>, Query(Count { wait, count }): Query<Count>) -> Answer<Done> {
    let app = known(&master, &name)?;
    let app_name = app.clone();
    let scale = async move { master.change(&app, &Change::Scale(count)).await };
    Ok(Json(detached(wait, app_name, scale).await?))
}

async fn remove<S: Systemd>(State(master): Shared<S>, Path(name): Path<String>, Query(order): Query<Remove>) -> Answer<Done> {
    let (app, change) = (known(&master, &name)?, order.change()?);
    let app_name = app.clone();
    let remove = async move { master.change(&app, &change).await };
    Ok(Json(detached(order.wait, app_name, remove).await?))
}

async fn reset<S: Systemd>(State(master): Shared<S>, Path(name): Path<String>, Query(order): Query<Order>) -> Answer<Done> {
    let (app, slots) = (known(&master, &name)?, order.slots()?);
    let app_name = app.clone();
    let reset = async move { master.reset(&app, slots.as_ref()).await };
    Ok(Json(detached(order.wait, app_name, reset).await?))
}

/// `?start=true`: also where the app was started before and does not run, as one that had 0 workers configured.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Apply {
    #[serde(default = "yes")]
    wait: bool,
    #[serde(default)]
    start: bool,
}

async fn apply<S: Systemd>(State(master): Shared<S>, Path(name): Path<String>, Query(order): Query<Apply>) -> Answer<Done> {
    // Its client may have installed this app a moment ago.
    master.renew_settings();
    let app = known(&master, &name)?;
    let app_name = app.clone();
    let apply = async move { master.apply(&app, order.start, order.wait).await };
    Ok(Json(detached(true, app_name, apply).await?))
}

async fn sleep<S: Systemd>(State(master): Shared<S>, Path(name): Path<String>, Query(order): Query<Wait>) -> Answer<Done> {
    let app = known(&master, &name)?;
    Ok(Json(detached(order.wait, app.clone(), async move { master.sleep(&app).await }).await?))
}

/// Carries out an order to its end, also when its client goes away meanwhile. A failure that no client hears is said.
async fn detached(wait: bool, app: AppName, order: impl Future<Output = Result<Done, Refusal>> + Send + 'static) -> Result<Done, Refusal> {
    let ordered = Done::new(&app, "ordered");
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        if let Err(Err(why)) = tell.send(order.await) {
            say!(Error, "{app}: {why}");
        }
    });
    if !wait {
        return Ok(ordered);
    }
    told.await.unwrap_or_else(|_| Err(Refusal::new(Code::Failed, "the master could not carry it out; its journal says why")))
}

/// Never waits: its answer is the roll.
async fn reload<S: Systemd>(State(master): Shared<S>, Path(name): Path<String>, Query(_): Query<Wait>) -> Answer<Roll> {
    let app = known(&master, &name)?;
    Ok(Json(Master::reload(&master, &app).await?))
}

/// `?after=SEQUENCE&wait_ms=20000`: wait until the roll has changed since.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    after: Option<u64>,
    #[serde(default)]
    wait_ms: u64,
}

async fn roll<S: Systemd>(State(master): Shared<S>, Path((name, id)): Path<(String, u64)>, Query(query): Query<After>) -> Answer<Roll> {
    let app = known(&master, &name)?;
    let wait = Duration::from_millis(query.wait_ms).min(LONGEST_WAIT);
    Ok(Json(master.roll(&app, id, query.after, wait).await?))
}

/// The app of that name, or which there are.
fn known<S: Systemd>(master: &Master<S>, name: &str) -> Result<AppName, Refusal> {
    let apps = &master.settings().apps;
    apps.keys().find(|app| app.as_str() == name).cloned().ok_or_else(|| {
        let names: Vec<&str> = apps.keys().map(AppName::as_str).collect();
        Refusal::new(Code::NotFound, format!("there is no app `{}`; there are: {}", crate::journal::harmless(name), names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use axum::extract::FromRequestParts;
    use axum::http::Request;

    use super::*;

    /// What a route's parameters become, or why not.
    async fn read<T: serde::de::DeserializeOwned>(query: &str) -> Result<T, Refusal> {
        let (mut parts, ()) = Request::builder().uri(format!("/v1/apps/api/it?{query}")).body(()).unwrap().into_parts();
        Query::from_request_parts(&mut parts, &()).await.map(|Query(read)| read)
    }

    #[tokio::test]
    async fn what_a_route_does_not_know_is_refused() {
        let code = |refused: Option<Refusal>| refused.map(|refusal| refusal.code());
        for (query, good) in
            [("", true), ("wait=false", true), ("slots=1,3", true), ("slot=1", false), ("wait=no", false), ("all=true", false)]
        {
            let order = read::<Order>(query).await;
            assert_eq!(code(order.err()), (!good).then_some(Code::BadRequest), "{query}");
        }
        for query in ["slots=", "slots=0", "slots=1,", "slots=1025", "slots=a"] {
            assert_eq!(code(read::<Order>(query).await.unwrap().slots().err()), Some(Code::BadRequest), "{query}");
        }
        assert_eq!(code(read::<Wait>("slots=1").await.err()), Some(Code::BadRequest), "`sleep` and `reload` are of all workers");
        assert!(read::<Count>("").await.is_err() && read::<Count>("count=1&slots=1").await.is_err());
        assert!(!read::<Count>("count=1&wait=false").await.unwrap().wait);
        assert!(read::<Apply>("starts=true").await.is_err() && read::<After>("since=1").await.is_err());
    }

    #[tokio::test]
    async fn all_workers_go_only_where_that_is_said() {
        let change = async |query: &str| read::<Remove>(query).await.and_then(|order| order.change()).map_err(|refusal| refusal.code());
        assert_eq!(change("slots=2").await, Ok(Change::Remove([Slot::new(2).unwrap()].into())));
        assert_eq!(change("all=true&wait=false").await, Ok(Change::Scale(0)));
        for query in ["", "all=false", "slots=2&all=true", "slot=2"] {
            assert_eq!(change(query).await, Err(Code::BadRequest), "{query}");
        }
    }
}
