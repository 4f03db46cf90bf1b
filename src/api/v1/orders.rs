//! What a person asks of an app or of some of its workers. The master carries it out, also when its client goes away.
//!
//! Without `wait` the answer is 202 as soon as a roll has begun or a job of systemd's is asked for; what is refused is refused
//! before. With it, 200 with what has come of it, or 202 when it is still under way then.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Deserialize;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::apps::Name;
use super::{Routes, Shared, known};
use crate::api::caller::{Caller, Role};
use crate::api::error::{Code, Refusal};
use crate::api::extract::{Path, Query};
use crate::api::query::{Number, Share, Slots, To, Wait, Which};
use crate::api::types::{Done, RollEnd, RollState};
use crate::history::Act;
use crate::intent::Change;
use crate::master::rolls::steer;
use crate::master::{Master, under_way};
use crate::names::{AppName, Slot};
use crate::roll::Canaries;
use crate::say::say;
use crate::systemd::Systemd;

/// How the end of an order is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    wait: Option<Wait>,
    watch: bool,
    /// A roll that went all the way back did what was asked for.
    back: bool,
}

/// An order of a whole app.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Whole {
    /// Wait so long, at most 1 h, for its end. Default: no wait.
    wait: Option<Wait>,
    /// Do not wait for the end of a roll that carries it out: answer with it as soon as it has begun, to be watched.
    #[serde(default)]
    watch: bool,
}

/// An order of an app or of some of its workers.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Order {
    /// Wait so long, at most 1 h, for its end. Default: no wait.
    wait: Option<Wait>,
    /// Do not wait for the end of a roll that carries it out: answer with it as soon as it has begun, to be watched.
    #[serde(default)]
    watch: bool,
    /// The workers in these slots alone, `1,3`. Default: the whole app.
    slots: Option<Slots>,
}

impl Whole {
    /// Of an order that is done when the roll has gone back.
    pub(super) fn back(self, back: bool) -> Patience {
        Patience { wait: self.wait, watch: self.watch, back }
    }

    /// Of one that is done at once.
    pub(super) fn at_once(self) -> Patience {
        Patience { wait: None, watch: true, back: false }
    }
}

impl Order {
    pub(super) fn parts(self) -> (Patience, Option<BTreeSet<Slot>>) {
        (Patience { wait: self.wait, watch: self.watch, back: false }, self.slots.map(|slots| slots.0))
    }
}

/// A roll to begin.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Begin {
    /// Wait so long, at most 1 h, for its end. Default: no wait.
    wait: Option<Wait>,
    /// Do not wait for the end of a roll that carries it out: answer with it as soon as it has begun, to be watched.
    #[serde(default)]
    watch: bool,
    /// The workers in these slots alone, `1,3`. Default: the whole app.
    slots: Option<Slots>,
    /// This once, so many canaries or such a share of the workers, `2` or `10%`; not with `slots`. Default: as configured.
    canary: Option<Share>,
    /// This once, how long each canary must have been ready, `1m`; not with `slots`. Default: as configured.
    bake: Option<Wait>,
    /// A rollback, to this generation: one of the app's `past`, or `previous`, the first of them. Not with `slots`, nor with canaries.
    to: Option<To>,
}

/// What a roll is to bring about.
pub(super) enum What {
    /// A new generation, with these canaries.
    Deploy(Canaries),
    /// Fresh workers in these slots.
    Slots(BTreeSet<Slot>),
    /// An older generation again.
    Back(To),
}

impl Begin {
    /// How it is waited for, and what it is.
    ///
    /// # Errors
    /// When it was to be two things at once.
    pub(super) fn parts(self) -> Result<(Patience, What), Refusal> {
        let canaries = Canaries { canary: self.canary.map(|share| share.0), bake: self.bake.map(|bake| bake.0) };
        let refused = |why: &str, field: &'static str| Err(Refusal::new(Code::BadRequest, why.to_owned()).at(field));
        let field = if canaries.canary.is_some() { "canary" } else { "bake" };
        let what = match (self.slots, self.to, canaries == Canaries::default()) {
            (Some(_), Some(_), _) => {
                return refused("a rollback is of the whole app, since no generation mixes releases: leave `slots` out, or `to`", "to");
            }
            (Some(_), None, false) => {
                return refused("canaries are of a new version of the whole app; single workers are replaced by ones of the same", field);
            }
            (None, Some(_), false) => {
                return refused("what a rollback goes to has served before, and is tried as configured: leave it out, or `to`", field);
            }
            (Some(slots), None, true) => What::Slots(slots.0),
            (None, Some(to), true) => What::Back(to),
            (None, None, _) => What::Deploy(canaries),
        };
        Ok((Patience { wait: self.wait, watch: self.watch, back: false }, what))
    }
}

/// Which workers go.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Remove {
    /// Wait so long, at most 1 h, for its end. Default: no wait.
    wait: Option<Wait>,
    /// Do not wait for the end of a roll that carries it out: answer with it as soon as it has begun, to be watched.
    #[serde(default)]
    watch: bool,
    /// The workers in these slots, `1,3`, or `all`, with which the app stops and its port closes.
    slots: Which,
}

/// How many workers come.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Add {
    /// Wait so long, at most 1 h, for its end. Default: no wait.
    wait: Option<Wait>,
    /// Do not wait for the end of a roll that carries it out: answer with it as soon as it has begun, to be watched.
    #[serde(default)]
    watch: bool,
    /// How many workers more, 1 to 1024. Asked for twice it adds twice.
    count: Number<1, { Slot::MAX }>,
}

/// How many workers there are to be.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Scale {
    /// Wait so long, at most 1 h, for its end. Default: no wait.
    wait: Option<Wait>,
    /// Do not wait for the end of a roll that carries it out: answer with it as soon as it has begun, to be watched.
    #[serde(default)]
    watch: bool,
    /// How many workers in all, 0 to 1024; with 0 the app stops and its port closes.
    count: Number<0, { Slot::MAX }>,
}

/// What is installed takes effect.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Apply {
    /// Wait so long, at most 1 h, for its end. Default: no wait.
    wait: Option<Wait>,
    /// Do not wait for the end of a roll that carries it out: answer with it as soon as it has begun, to be watched.
    #[serde(default)]
    watch: bool,
    /// Also start it where it was started before and does not run, as one that had 0 workers configured.
    #[serde(default)]
    start: bool,
}

pub(super) fn routes<S: Systemd>() -> Routes<S> {
    vec![
        ("/v1/apps/{app}/start", Role::Operate, post(start::<S>)),
        ("/v1/apps/{app}/stop", Role::Operate, post(stop::<S>)),
        ("/v1/apps/{app}/sleep", Role::Operate, post(sleep::<S>)),
        ("/v1/apps/{app}/add", Role::Operate, post(add::<S>)),
        ("/v1/apps/{app}/scale", Role::Operate, post(scale::<S>)),
        ("/v1/apps/{app}/remove", Role::Operate, post(remove::<S>)),
        ("/v1/apps/{app}/reset", Role::Operate, post(reset::<S>)),
        ("/v1/apps/{app}/apply", Role::Admin, post(apply::<S>)),
    ]
}

async fn start<S: Systemd>(
    State(master): Shared<S>,
    caller: Caller,
    Path(path): Path<Name>,
    Query(order): Query<Order>,
) -> Result<Response, Refusal> {
    let app = known(&master, &caller, &path.app)?;
    let (patience, slots) = order.parts();
    let act = Act::new("start").of(slots.as_ref());
    carry_out(master, &caller, app, patience, act, async move |master, app| match slots {
        None => master.start(&app).await,
        Some(slots) => master.change(&app, &Change::Start(Some(slots))).await,
    })
    .await
}

async fn stop<S: Systemd>(
    State(master): Shared<S>,
    caller: Caller,
    Path(path): Path<Name>,
    Query(order): Query<Order>,
) -> Result<Response, Refusal> {
    let app = known(&master, &caller, &path.app)?;
    let (patience, slots) = order.parts();
    let act = Act::new("stop").of(slots.as_ref());
    carry_out(master, &caller, app, patience, act, async move |master, app| match slots {
        None => master.stop(&app).await,
        Some(slots) => master.change(&app, &Change::Stop(slots)).await,
    })
    .await
}

async fn sleep<S: Systemd>(
    State(master): Shared<S>,
    caller: Caller,
    Path(path): Path<Name>,
    Query(Whole { wait, watch }): Query<Whole>,
) -> Result<Response, Refusal> {
    let app = known(&master, &caller, &path.app)?;
    carry_out(master, &caller, app, Patience { wait, watch, back: false }, Act::new("sleep"), async |master, app| master.sleep(&app).await)
        .await
}

async fn add<S: Systemd>(
    State(master): Shared<S>,
    caller: Caller,
    Path(path): Path<Name>,
    Query(Add { wait, watch, count }): Query<Add>,
) -> Result<Response, Refusal> {
    let app = known(&master, &caller, &path.app)?;
    let act = Act::new("add").count(count.0);
    carry_out(master, &caller, app, Patience { wait, watch, back: false }, act, async move |master, app| {
        master.change(&app, &Change::Add(count.0)).await
    })
    .await
}

async fn scale<S: Systemd>(
    State(master): Shared<S>,
    caller: Caller,
    Path(path): Path<Name>,
    Query(Scale { wait, watch, count }): Query<Scale>,
) -> Result<Response, Refusal> {
    let app = known(&master, &caller, &path.app)?;
    let act = Act::new("scale").count(count.0);
    carry_out(master, &caller, app, Patience { wait, watch, back: false }, act, async move |master, app| {
        master.change(&app, &Change::Scale(count.0)).await
    })
    .await
}

async fn remove<S: Systemd>(
    State(master): Shared<S>,
    caller: Caller,
    Path(path): Path<Name>,
    Query(Remove { wait, watch, slots }): Query<Remove>,
) -> Result<Response, Refusal> {
    let app = known(&master, &caller, &path.app)?;
    let act = Act::new("remove");
    let (act, change) = match slots {
        Which::Slots(slots) => (act.of(Some(&slots)), Change::Remove(slots)),
        Which::All => (act, Change::Scale(0)),
    };
    carry_out(master, &caller, app, Patience { wait, watch, back: false }, act, async move |master, app| master.change(&app, &change).await)
        .await
}

async fn reset<S: Systemd>(
    State(master): Shared<S>,
    caller: Caller,
    Path(path): Path<Name>,
    Query(order): Query<Order>,
) -> Result<Response, Refusal> {
    let app = known(&master, &caller, &path.app)?;
    let (patience, slots) = order.parts();
    let act = Act::new("reset").of(slots.as_ref());
    carry_out(master, &caller, app, patience, act, async move |master, app| master.reset(&app, slots.as_ref()).await).await
}

async fn apply<S: Systemd>(
    State(master): Shared<S>,
    caller: Caller,
    Path(path): Path<Name>,
    Query(Apply { wait, watch, start }): Query<Apply>,
) -> Result<Response, Refusal> {
    // Its client may have installed this app a moment ago.
    master.renew_settings();
    let app = known(&master, &caller, &path.app)?;
    carry_out(master, &caller, app, Patience { wait, watch, back: false }, Act::new("apply"), async move |master, app| {
        master.apply(&app, start).await
    })
    .await
}

/// Carries out an order to its end, and answers as its client waits. A failure that no client hears is said; the history has
/// all, by what is asked for.
pub(super) async fn carry_out<S, F>(
    master: Arc<Master<S>>,
    caller: &Caller,
    app: AppName,
    patience: Patience,
    act: Act,
    order: impl FnOnce(Arc<Master<S>>, AppName) -> F,
) -> Result<Response, Refusal>
where
    S: Systemd,
    F: Future<Output = Result<Done, Refusal>> + Send + 'static,
{
    let place = caller.place()?;
    let (tell, told) = oneshot::channel();
    let job = Arc::new(Notify::new());
    let order = under_way::telling(Arc::clone(&job), order(Arc::clone(&master), app.clone()));
    let (name, keeper) = (app.clone(), Arc::clone(&master));
    let order = under_way::asked(caller.who().to_string(), async move { keeper.noted(&name, act, order).await });
    let name = app.clone();
    tokio::spawn(async move {
        // Until its end, and not until somebody stops waiting for it.
        let _place = place;
        if let Err(Err(why)) = tell.send(order.await) {
            say!(Error, "{name}: {why}");
        }
    });
    let ended =
        async { told.await.unwrap_or_else(|_| Err(Refusal::new(Code::Failed, "the master could not carry it out; its journal says why"))) };
    let wait = patience.wait.map(|wait| wait.0).filter(|wait| !wait.is_zero());
    let Some(wait) = wait else {
        return tokio::select! {
            biased;
            done = ended => done.map(answer),
            () = job.notified() => Ok(answer(Done::ordered(&app))),
        };
    };
    let deadline = Instant::now() + wait;
    let Ok(done) = tokio::time::timeout_at(deadline, ended).await else { return Ok(answer(Done::ordered(&app))) };
    let mut done = done?;
    if let Some(roll) = done.roll.take_if(|_| !patience.watch) {
        let left = deadline.saturating_duration_since(Instant::now());
        let roll = master.roll(&app, roll.id, None, left).await?;
        let message = match roll.state {
            RollState::Failed if patience.back && roll.end == Some(RollEnd::AllOld) => "the old workers serve as before",
            // One that waited, and was not to.
            RollState::Failed if patience.back && roll.generation.is_none() => "aborted before it began",
            RollState::Failed => {
                let why = format!("{app}: the roll failed: {}", roll.reason.as_deref().unwrap_or("no reason is known"));
                return Err(Refusal::new(Code::Failed, why).of(roll.path()));
            }
            _ if roll.stands_still() => return Err(steer::refusal(&roll)),
            RollState::Done => "done",
            RollState::Waiting | RollState::Running | RollState::Paused => "begun",
        };
        done = Done::by_roll(roll, message);
    }
    Ok(answer(done))
}

/// 200 of what is over, 202 of what is not, with the roll to watch where there is one.
fn answer(done: Done) -> Response {
    let status = if done.under_way { StatusCode::ACCEPTED } else { StatusCode::OK };
    // Names and numbers: never what a header cannot hold.
    let location = done.roll.as_ref().and_then(|roll| HeaderValue::try_from(roll.path()).ok());
    let mut response = (status, Json(done)).into_response();
    if let Some(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}
