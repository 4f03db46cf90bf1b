//! The routes of the first version (npm `project-cluster` 1.x), for its command line and whatever scripts speak to it: its
//! JSON, status codes, texts and rules. `docs/rest.md` has the list, and where it differs.
//!
//! Decides by what the first version's stat says of a worker, whether it is online; all that is done, the master does. An
//! answer comes when it is done, as it did then. It must not know how requests reach it.

pub(super) mod request;
mod stat;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use serde::Serialize;
use tokio::sync::Mutex;

use self::request::{Asked, Verb};
use self::stat::Stat;
use super::caller::{Caller, Role};
use super::error::{Code, Refusal};
use super::server::LONGEST_WAIT;
use super::types::{App, AppState, Done, Roll, RollState, WorkerState};
use crate::history::Act;
use crate::intent::Change;
use crate::journal::harmless;
use crate::master::{Master, under_way};
use crate::names::{AppName, Slot, Uid};
use crate::systemd::Systemd;

/// Answers requests to the first version's routes, and to those that are none.
#[derive(Debug)]
pub struct Original<S> {
    master: Arc<Master<S>>,
    /// Held while a worker is added, so that each request knows which one is its own.
    adding: Mutex<()>,
}

/// An answer that is not what was asked for.
#[derive(Debug)]
struct No {
    status: StatusCode,
    text: String,
}

impl No {
    fn bad(text: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text: text.into() }
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code() {
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        // With an app's own last lines, for a client that prints them as they come.
        Self { status, text: refusal.to_string().lines().map(harmless).collect::<Vec<_>>().join("\n") }
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        // No content type, as ever; that a browser makes none up.
        (self.status, [(header::X_CONTENT_TYPE_OPTIONS, "nosniff")], Body::from(self.text)).into_response()
    }
}

fn page(status: StatusCode, page: String) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    ];
    (status, headers, page).into_response()
}

type Answer = Result<String, No>;

fn json(value: &impl Serialize) -> Answer {
    serde_json::to_string(value).map_err(|why| No { status: StatusCode::INTERNAL_SERVER_ERROR, text: why.to_string() })
}

impl<S: Systemd> Original<S> {
    /// For this master.
    pub fn new(master: Arc<Master<S>>) -> Arc<Self> {
        Arc::new(Self { master, adding: Mutex::default() })
    }

    /// Answers a request.
    pub async fn answer(self: Arc<Self>, caller: Caller, method: Method, uri: Uri) -> Response {
        let asked = request::read(&method, uri.path());
        // To its end, also when its client goes away.
        let answer = match asked {
            Asked::Nothing => return page(StatusCode::NOT_FOUND, request::not_found(&method, uri.path())),
            Asked::Undecodable => return page(StatusCode::BAD_REQUEST, request::page("Bad Request")),
            Asked::Stat => self.stat(&caller).await,
            Asked::Change(selector, verb) => {
                let place = match caller.demand(Role::Operate).and_then(|()| caller.place()) {
                    Ok(place) => place,
                    Err(refusal) => return refusal.into_response(),
                };
                let order = tokio::spawn(async move {
                    // Until its end: what waits for its turn to add a worker is bounded as well.
                    let _place = place;
                    under_way::asked(caller.who().to_string(), self.change(&caller, &selector, verb)).await
                });
                order.await.unwrap_or_else(|why| Err(No { status: StatusCode::INTERNAL_SERVER_ERROR, text: why.to_string() }))
            }
        };
        let form = HeaderValue::from_static("application/json; charset=utf-8");
        answer.map_or_else(IntoResponse::into_response, |json| ([(header::CONTENT_TYPE, form)], json).into_response())
    }

    /// Those that there are for who asks.
    async fn apps(&self, caller: &Caller) -> Result<Vec<App>, Refusal> {
        self.master.glance().await?;
        let mut apps = self.master.apps();
        apps.retain(|app| caller.sees(&app.name));
        Ok(apps)
    }

    async fn stats(&self, caller: &Caller) -> Result<Vec<Stat>, Refusal> {
        Ok(self.apps(caller).await?.iter().flat_map(stat::of).collect())
    }

    async fn stat(&self, caller: &Caller) -> Answer {
        json(&self.stats(caller).await?)
    }

    async fn change(&self, caller: &Caller, selector: &str, verb: Verb) -> Answer {
        match verb {
            Verb::Add => self.add(caller, selector).await,
            verb if selector.contains(':') => self.one(caller, selector, verb).await,
            verb => self.many(caller, selector, verb).await,
        }
    }

    /// A worker by its uid.
    async fn one(&self, caller: &Caller, uid: &str, verb: Verb) -> Answer {
        let apps = self.apps(caller).await?;
        let known = |app: &App| Some((app.name.clone(), stat::of(app).into_iter().find(|stat| stat.uid.to_string() == uid)?));
        let (app, stat) = apps.iter().find_map(known).ok_or_else(|| No::bad("Invalid id: no process found"))?;
        match (verb, stat.online()) {
            (Verb::Start, true) => return Err(No::bad("Process is already running")),
            (Verb::Remove, true) => return Err(No::bad("To remove, process should be stopped first")),
            (Verb::Restart | Verb::Stop | Verb::Reset, false) => return Err(No::bad("Process is not running")),
            _ => {}
        }
        let slots = BTreeSet::from([stat.slot()]);
        match verb {
            Verb::Start => self.start(caller, &app, &slots).await?,
            Verb::Restart => {
                let begun = Instant::now();
                let act = Act::new("restart").of(Some(&slots));
                let done = self.ended(self.master.noted(&app, act, self.master.restart(&app, slots)).await).await;
                done.map_err(|why| self.not_started(&stat.uid, begun, why))?;
            }
            Verb::Stop => self.change_to(&app, Act::new("stop").of(Some(&slots)), Change::Stop(slots)).await?,
            Verb::Reset => {
                let act = Act::new("reset").of(Some(&slots));
                self.ended(self.master.noted(&app, act, self.master.reset(&app, Some(&slots))).await).await?;
            }
            Verb::Remove => {
                self.change_to(&app, Act::new("remove").of(Some(&slots)), Change::Remove(slots)).await?;
                return self.stat(caller).await;
            }
            Verb::Add => {}
        }
        json(&self.stats(caller).await?.into_iter().find(|now| now.uid == stat.uid))
    }

    /// The workers of a type, or of all of them: those that the verb is about. Where something fails, the rest is done all the same.
    async fn many(&self, caller: &Caller, selector: &str, verb: Verb) -> Answer {
        let mut apps = self.apps(caller).await?;
        apps.retain(|app| selector == "all" || selector == app.name.as_str());
        let online = !matches!(verb, Verb::Start | Verb::Remove);
        let chosen = |app: &App| stat::of(app).into_iter().filter(|stat| stat.online() == online).collect::<Vec<_>>();
        let about: BTreeSet<Uid> = apps.iter().flat_map(chosen).map(|stat| stat.uid).collect();
        let all = apps.iter().map(|app| self.many_of(caller, app, chosen(app).iter().map(Stat::slot).collect(), verb));
        for done in join_all(all).await {
            done.map_err(|no| No { status: no.status.max(StatusCode::INTERNAL_SERVER_ERROR), ..no })?;
        }
        let mut stats = self.stats(caller).await?;
        stats.retain(|stat| verb == Verb::Remove || about.contains(&stat.uid));
        json(&stats)
    }

    async fn many_of(&self, caller: &Caller, app: &App, slots: BTreeSet<Slot>, verb: Verb) -> Result<(), No> {
        let name = &app.name;
        // A stop is also about what is on its way up, waits to be tried again, or sleeps.
        if slots.is_empty() && (verb != Verb::Stop || matches!(app.state, AppState::Stopped | AppState::Failed)) {
            return Ok(());
        }
        match verb {
            Verb::Start => return self.start(caller, name, &slots).await,
            Verb::Restart => {
                let reload = async { Ok(Done::by_roll(self.master.reload(name).await?, "begun")) };
                self.ended(self.master.noted(name, Act::new("reload"), reload).await).await?;
            }
            Verb::Stop => self.ended(self.master.noted(name, Act::new("stop"), self.master.stop(name)).await).await?,
            Verb::Reset => {
                let act = Act::new("reset").of(Some(&slots));
                self.ended(self.master.noted(name, act, self.master.reset(name, Some(&slots))).await).await?;
            }
            Verb::Remove => self.change_to(name, Act::new("remove").of(Some(&slots)), Change::Remove(slots)).await?,
            Verb::Add => {}
        }
        Ok(())
    }

    async fn add(&self, caller: &Caller, name: &str) -> Answer {
        let Some(app) = self.master.settings().apps.keys().find(|app| app.as_str() == name && caller.sees(app)).cloned() else {
            // Where there was no program for a type, its first worker came to nothing.
            return Err(No::bad(format!("Worker {}:01 failed to start", harmless(name))));
        };
        let adding = self.adding.lock().await;
        let before = self.master.slots(&app)?;
        let change = Change::Add(1);
        let (begun, added) = (Instant::now(), self.master.noted(&app, Act::new("add").count(1), self.master.change(&app, &change)).await);
        let new = self.master.slots(&app)?.difference(&before).next().copied();
        drop(adding);
        let Some(slot) = new else { return Err(added.map_or_else(No::from, |done| No::bad(done.message))) };
        let uid = Uid { app: app.clone(), slot };
        let one = BTreeSet::from([slot]);
        let started = match self.ended(added).await {
            // It is remembered alone where the others of its type are stopped.
            Ok(()) if !self.online(caller, &uid).await? => self.start(caller, &app, &one).await,
            Ok(()) => Ok(()),
            Err(why) => Err(self.not_started(&uid, begun, why)),
        };
        if let Err(no) = started {
            // Nobody has heard of it yet.
            self.change_to(&app, Act::new("remove").of(Some(&one)), Change::Remove(one)).await?;
            return Err(no);
        }
        json(&self.stats(caller).await?.into_iter().find(|stat| stat.uid == uid))
    }

    /// Starts these, which are offline.
    async fn start(&self, caller: &Caller, app: &AppName, slots: &BTreeSet<Slot>) -> Result<(), No> {
        let rows = self.master.app(app)?.workers;
        // These are wanted already and wait to be tried again: a fresh one is tried at once.
        let waits = |state| matches!(state, WorkerState::Starting | WorkerState::Restarting | WorkerState::CrashLoop);
        let waiting = |slot: &Slot| rows.iter().any(|row| row.slot == slot.get() && waits(row.state));
        let (again, first): (BTreeSet<Slot>, BTreeSet<Slot>) = slots.iter().partition(|slot| waiting(slot));
        let begun = Instant::now();
        let mut failed = None;
        if !first.is_empty() {
            failed = self.change_to(app, Act::new("start").of(Some(&first)), Change::Start(Some(first))).await.err();
        }
        if !again.is_empty() {
            let act = Act::new("restart").of(Some(&again));
            failed = self.ended(self.master.noted(app, act, self.master.restart(app, again)).await).await.err().or(failed);
        }
        for slot in slots {
            let uid = Uid { app: app.clone(), slot: *slot };
            if !self.online(caller, &uid).await? {
                let why = failed.unwrap_or_else(|| Refusal::new(Code::Failed, "it is not ready"));
                return Err(self.not_started(&uid, begun, why));
            }
        }
        Ok(())
    }

    async fn online(&self, caller: &Caller, uid: &Uid) -> Result<bool, Refusal> {
        Ok(self.stats(caller).await?.iter().any(|stat| stat.uid == *uid && stat.online()))
    }

    /// What is said of a worker that did not get ready. The journal has why.
    fn not_started(&self, uid: &Uid, begun: Instant, why: Refusal) -> No {
        if why.code() != Code::Failed {
            return why.into();
        }
        let limit = self.master.settings().apps.get(&uid.app).map(|app| app.timeout.start);
        let late = if limit.is_some_and(|limit| begun.elapsed() >= limit) { " in time" } else { "" };
        No::bad(format!("Worker {uid} failed to start{late}"))
    }

    /// Another number of workers, or others of them to run; its end.
    async fn change_to(&self, app: &AppName, act: Act, change: Change) -> Result<(), Refusal> {
        self.ended(self.master.noted(app, act, self.master.change(app, &change)).await).await
    }

    /// The end of an order, also where a roll carries it out.
    async fn ended(&self, done: Result<Done, Refusal>) -> Result<(), Refusal> {
        match done? {
            Done { app, roll: Some(roll), .. } => self.roll_ended(&app, roll).await,
            _ => Ok(()),
        }
    }

    /// A roll bounds itself.
    async fn roll_ended(&self, app: &AppName, mut roll: Roll) -> Result<(), Refusal> {
        while roll.under_way() {
            roll = self.master.roll(app, roll.id, Some(roll.sequence), LONGEST_WAIT).await?;
        }
        match roll.state {
            RollState::Failed => Err(Refusal::new(Code::Failed, roll.reason.unwrap_or_default())),
            _ => Ok(()),
        }
    }
}
