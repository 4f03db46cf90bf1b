//! Examples: values of the types themselves, so that they cannot grow old.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::api::caller::{Caller, Who};
use crate::api::converge;
use crate::api::error::{Code, Refusal};
use crate::api::events::{By, Cause, Event, Happening, Kind};
use crate::api::history::{End, Entry};
use crate::api::installed::Config;
use crate::api::types::{App, AppState, Done, Health, Roll, RollState, Socket, Step};
use crate::names::Generation;

pub(super) fn health() -> Value {
    json!(Health {
        name: "project-cluster".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        pid: 812,
        uptime_ms: 86_400_000,
        history: None
    })
}

fn api() -> App {
    let mut app = converge::tests::app(AppState::Running, &[1, 2]);
    app.command = vec!["node".into(), "apps/api.js".into()];
    (app.cwd, app.user, app.handle) = ("/srv/shop/current".into(), "shop".into(), "project-cluster@api.service".into());
    app.sockets = vec![Socket { address: "[::]:3000".into(), unit: "project-cluster-api-:::3000.socket".into(), active: true }];
    for (at, worker) in app.workers.iter_mut().enumerate() {
        worker.unit = Some(format!("project-cluster-api@{}.3.1.service", worker.slot));
        worker.pid = u32::try_from(1200 + at).ok();
        (worker.uptime_ms, worker.memory_bytes, worker.cpu_ms) = (Some(93_000), Some(47_841_280), Some(410));
    }
    app
}

pub(super) fn app() -> Value {
    json!(api())
}

pub(super) fn worker() -> Value {
    json!(api().workers[0])
}

pub(super) fn list(entry: &Value) -> Value {
    json!([entry])
}

fn a_roll(state: RollState) -> Roll {
    let step = |at_ms, text: &str| Step { at_ms, text: text.into() };
    Roll {
        app: api().name,
        id: 1_764_000_000_000,
        asked_by: Some("user 1000".into()),
        generation: Some(Generation(4)),
        slots: None,
        state,
        sequence: 2,
        ready: 1,
        target: 2,
        steps: vec![step(12, "api:01 (generation 4) starts"), step(340, "api:01 (generation 4) is ready")],
        reason: None,
        took_ms: 340,
    }
}

pub(super) fn roll() -> Value {
    json!(a_roll(RollState::Running))
}

pub(super) fn past() -> Value {
    json!(a_roll(RollState::Done).without_steps())
}

fn an_entry() -> Entry {
    let roll = a_roll(RollState::Done);
    Entry {
        id: 41,
        app: Some(roll.app),
        verb: "reload".into(),
        slots: None,
        count: None,
        asked_by: roll.asked_by,
        systemctl: false,
        begun_ms: roll.id,
        took_ms: Some(352),
        waited_ms: Some(0),
        end: End::Done,
        text: None,
        roll: Some(roll.id),
        generation: roll.generation,
        steps: roll.steps,
    }
}

pub(super) fn entry() -> Value {
    json!(an_entry())
}

pub(super) fn entry_of_a_list() -> Value {
    json!(Entry { steps: Vec::new(), ..an_entry() })
}

pub(super) fn begun() -> Value {
    json!(Done::by_roll(a_roll(RollState::Running), "begun"))
}

pub(super) fn rolled() -> Value {
    json!(Done::by_roll(a_roll(RollState::Done), "done"))
}

pub(super) fn ordered() -> Value {
    json!(Done::ordered(&api().name))
}

pub(super) fn done(message: &str) -> Value {
    json!(Done::new(&api().name, message))
}

fn an_event() -> Event {
    let app = api();
    let worker = &app.workers[1];
    let what = Happening {
        app: Some(app.name.clone()),
        uid: Some(worker.uid.clone()),
        generation: worker.generation,
        unit: worker.unit.clone(),
        by: Some(By::Outside),
        cause: Some(Cause::Signal),
        signal: Some(9),
        restarts: Some(1),
        ..Happening::new(Kind::WorkerRestart, "api:02 was killed by signal 9 and comes back")
    };
    Event { seq: 1_764_000_000_017, time_ms: 1_764_000_123_456, what }
}

pub(super) fn event() -> Value {
    json!(an_event())
}

pub(super) fn stream() -> Value {
    let event = an_event();
    json!(format!("id: {}\nevent: {}\ndata: {}\n\n", event.seq, event.what.kind.word(), json!(event)))
}

/// What `install` validated of a small configuration.
pub(super) fn config() -> Value {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cluster.toml");
    let toml = "[apps.api]\nworkers = 2\ncommand = \"/usr/bin/node apps/api.js\"\ncwd = \"/\"\nuser = \"root\"\nlisten = 3000\n";
    std::fs::write(&path, toml).unwrap();
    let settings = crate::config::load(&path, &crate::config::SystemAccounts).unwrap().settings;
    json!(Config::of(&settings, &Caller::of_all(Who::User(0), Arc::new(Semaphore::new(0)))))
}

pub(super) fn problem(code: Code) -> Value {
    let refusal = |detail: &str| Refusal::new(code, detail);
    let refusal = match code {
        Code::BadRequest => refusal("`wait`: a time, such as 30s, 5m or 1m30s (ms, s, m, h)").at("wait"),
        Code::UnexpectedBody => refusal("no route takes a body: what to do is told by path and parameters, as in ?wait=30s"),
        Code::NotFound => refusal("there is no app `apo`; there are: api, bg").at("app"),
        Code::MethodNotAllowed => refusal("GET reads, POST orders; the header Allow says which this takes"),
        Code::Conflict => refusal("api is not running, so there is nothing to replace. Start it: `project-cluster start api`"),
        Code::Failed => refusal("api: the roll failed: api:01 (generation 4) ended with exit code 1. The old workers serve as before")
            .of(a_roll(RollState::Failed).path()),
        Code::Busy => refusal("256 readers follow the events already; end one of them, or ask with ?follow=false"),
        Code::Unauthorized => refusal(crate::api::guard::NO_TOKEN),
        Code::ForeignHost => refusal("the `Host` of the request is none of this listener's"),
        Code::ForeignOrigin => refusal("the request comes from a web page of another origin"),
        Code::Forbidden => refusal(
            "this takes the role `operate`, and token watch has `view`. Root makes a token that may: `project-cluster token add NAME --role operate`",
        ),
        Code::TooSlow => refusal("the request did not come in time"),
        Code::LengthRequired => refusal("a body must say its length"),
        Code::TooLarge => refusal("the body is larger than any route takes"),
        Code::UrlTooLong => refusal("path and query are longer than any route takes"),
        Code::Unavailable => refusal("systemd does not answer over D-Bus within 3s, so what runs cannot be told. `systemctl status dbus`"),
    };
    json!(refusal.problem())
}
