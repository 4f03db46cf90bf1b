//! `show`: all that an operator asks of an app or a worker. What the master tells, and beside it what only this machine can:
//! the release, connections, drop-ins, limits, last lines.
//!
//! None of the second half is worth a failure: what cannot be read is left out. What was installed since a worker started is
//! its next start's, and shown as that.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod sockets;
mod text;
mod units;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use hyper::Method;
use serde::Serialize;

use self::sockets::Connections;
use self::units::Unit;
use super::{Choice, Context, Failure, logs, marks, print, print_json, selection, width};
use crate::api::events::{By, Cause, Event, Kind};
use crate::api::types::{App, Worker};
use crate::config::settings::{self, Ready, Settings};
use crate::files;
use crate::names::{AppName, AppUnits, Generation};
use crate::worker::pin::Pin;
use crate::worker::store::Store;

/// How many lines of the log are shown.
const LINES: u32 = 5;
/// The most of /etc/passwd that is read, bytes.
const ACCOUNTS: u64 = 1 << 20;

/// What of an app or a worker the master does not tell.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Facts {
    /// Whether what is installed (`command`, `cwd` and `user` of the app, `ready_by` and the times here) is what runs; else it is
    /// what the next start takes.
    in_effect: bool,
    /// Program and arguments of what runs; null where they are not known: what differs from what is installed only root can read.
    command: Option<Vec<String>>,
    /// The release: `cwd` of its generation with every symlink resolved. Null for all but root, who alone can read it.
    release: Option<String>,
    /// Who it runs as, by its process: a name, or the number of a user without one in /etc/passwd; null where nothing runs.
    runs_as: Option<String>,
    /// Since when the app is up, or the worker ready, milliseconds of Unix time.
    since_ms: Option<u64>,
    /// What makes a worker ready: `listen`, `notify`, `http`, `exec` or `none`.
    ready_by: Option<&'static str>,
    /// Until a started worker must be ready, milliseconds.
    start_ms: Option<u64>,
    /// From SIGTERM, which a worker gets at once when it is to go, to SIGKILL, milliseconds.
    kill_ms: Option<u64>,
    /// From a worker's unexpected end to its next start, milliseconds.
    restart_ms: Option<u64>,
    /// How long a new worker must have been ready before an old one is touched, milliseconds.
    min_ready_ms: Option<u64>,
    /// How long one roll may take, milliseconds.
    deadline_ms: Option<u64>,
    /// Of each address that listens its [Connections](#connections).
    connections: BTreeMap<String, Connections>,
    /// The last end of a worker that nobody asked for, an [Event](rest.md#event); null where the master remembers none.
    ended: Option<Event>,
    /// Its units, each a [Unit](#unit): of an app handle, slice, sockets and one of its workers; of a worker its own and the slice.
    units: Vec<Unit>,
}

/// One of `show --json`: an app or a worker, and `facts`.
#[derive(Serialize)]
struct Shown<'a, T> {
    #[serde(flatten)]
    one: &'a T,
    facts: &'a Facts,
}

pub(crate) async fn run(context: &Context, select: &[String]) -> Result<(), Failure> {
    let mut apps = context.client.apps().await?;
    marks::mark(context, &mut apps);
    let mut chosen = selection(&apps, select)?;
    let mut seen = Vec::new();
    chosen.retain(|choice| {
        let new = !seen.contains(choice);
        seen.push(choice.clone());
        new
    });
    let settings = marks::master_settings(context);
    // Of the last thousand; a master of another version may not tell them so.
    let events: Vec<Event> = context.client.call(Method::GET, "/v1/events?follow=false", super::READ).await.unwrap_or_default();
    let (mut documents, mut texts) = (Vec::new(), Vec::new());
    for choice in &chosen {
        let Some(app) = apps.iter().find(|app| choice.is_of(app)) else { continue };
        let rows: Vec<&Worker> = match choice {
            Choice::App(_) => Vec::new(),
            Choice::Worker(_) => app.workers.iter().filter(|row| choice.has(row)).collect(),
        };
        let facts = facts(context, app, choice, &rows, settings.as_ref(), &events).await;
        if context.json {
            match choice {
                Choice::App(_) => documents.push(json(&Shown { one: app, facts: &facts })?),
                Choice::Worker(_) => {
                    rows.iter().try_for_each(|row| json(&Shown { one: *row, facts: &facts }).map(|one| documents.push(one)))?
                }
            }
            continue;
        }
        let log = logs::last(context, &apps, std::slice::from_ref(choice), LINES).await;
        let look = text::Look { width: width(), colours: context.look.colours };
        match choice {
            Choice::App(_) => texts.push(text::app(app, &facts, &log, look)),
            Choice::Worker(_) => texts.extend(rows.iter().map(|row| text::worker(app, row, &facts, &log, look))),
        }
    }
    if context.json {
        return print_json(&documents);
    }
    print(&texts.join("\n"));
    Ok(())
}

fn json(value: &impl Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(value).map_err(|why| Failure::Failed(why.to_string()))
}

async fn facts(context: &Context, app: &App, choice: &Choice, rows: &[&Worker], settings: Option<&Settings>, events: &[Event]) -> Facts {
    let settings = settings.and_then(|settings| settings.apps.get(&app.name));
    let names = AppUnits::new(&context.cluster, &app.name);
    let worker = matches!(choice, Choice::Worker(_));
    let own = if worker { rows.iter().find_map(|row| row.unit.clone()) } else { app.workers.iter().find_map(|row| row.unit.clone()) };
    let mut asked: Vec<String> = own.clone().into_iter().chain([names.slice(context.place.manager)]).collect();
    if !worker {
        asked.push(app.handle.clone());
        asked.extend(app.sockets.iter().map(|socket| socket.unit.clone()));
    }
    let units = units::of(&asked).await;
    let since = if worker { own } else { Some(app.handle.clone()) };
    let active = |unit: &&Unit| Some(&unit.unit) == since.as_ref();
    let generation = if worker { rows.iter().find_map(|row| row.generation) } else { app.generation };
    let pin = generation.and_then(|generation| pin(context, &app.name, generation));
    // A worker of another generation than the app's current one is of other settings, or may be.
    let in_effect = app.revisions.serves == Some(app.revisions.installed) && (generation.is_none() || generation == app.generation);
    let shown = if worker { rows } else { &app.workers.iter().filter(|row| row.generation == generation).collect::<Vec<_>>() };
    let mut facts = Facts {
        in_effect,
        command: pin.as_ref().map(|pin| pin.command.clone()).or_else(|| in_effect.then(|| app.command.clone())),
        release: pin.map(|pin| pin.cwd.display().to_string()),
        runs_as: shown.iter().find_map(|row| row.pid).and_then(user),
        since_ms: units.iter().find(active).and_then(|unit| unit.active_since_ms),
        connections: connections(app, settings),
        ended: events.iter().rev().find(|event| unexpected(event) && is_of(event, choice)).cloned(),
        units,
        ..Facts::default()
    };
    if let Some(settings) = settings {
        facts.configured(settings);
    }
    facts
}

impl Facts {
    fn configured(&mut self, app: &settings::App) {
        let ms = |time: Duration| u64::try_from(time.as_millis()).ok();
        self.ready_by = Some(match app.ready {
            Ready::Listen => "listen",
            Ready::Notify => "notify",
            Ready::Http(_) => "http",
            Ready::Exec(_) => "exec",
            Ready::None => "none",
        });
        (self.start_ms, self.kill_ms, self.restart_ms) = (ms(app.timeout.start), ms(app.timeout.kill), ms(app.timeout.restart));
        (self.min_ready_ms, self.deadline_ms) = (ms(app.reload.min_ready), ms(app.reload.deadline));
    }
}

/// What the workers of a generation become; only root can read it.
fn pin(context: &Context, app: &AppName, generation: Generation) -> Option<Pin> {
    Store::open(&context.cluster, &context.place.paths).pin(app, generation).ok()?
}

/// Who a process runs as.
fn user(pid: u32) -> Option<String> {
    let uid = std::fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    Some(account(uid).unwrap_or_else(|| uid.to_string()))
}

/// The name of a user, where /etc/passwd has it.
pub(super) fn account(uid: u32) -> Option<String> {
    let accounts = String::from_utf8(files::read_bounded(Path::new("/etc/passwd"), ACCOUNTS).ok()?).ok()?;
    let uid = uid.to_string();
    accounts.lines().find(|line| line.split(':').nth(2) == Some(uid.as_str()))?.split(':').next().map(str::to_owned)
}

fn connections(app: &App, settings: Option<&settings::App>) -> BTreeMap<String, Connections> {
    let of = |socket: &crate::api::types::Socket| {
        let address = socket.address.parse().ok()?;
        let backlog = settings.and_then(|app| app.listen.iter().find(|listen| listen.address == address)).map(|listen| listen.backlog);
        Some((socket.address.clone(), sockets::of(&address, backlog)?))
    };
    app.sockets.iter().filter(|socket| socket.active).filter_map(of).collect()
}

/// Whether it tells of an end that nobody asked for.
fn unexpected(event: &Event) -> bool {
    let what = &event.what;
    match what.kind {
        Kind::WorkerRestart | Kind::WorkerStartFailed => true,
        Kind::WorkerStop => {
            what.by.is_none_or(|by| by == By::Outside) && what.cause.is_some_and(|cause| cause != Cause::Exit || what.exit_code != Some(0))
        }
        _ => false,
    }
}

fn is_of(event: &Event, choice: &Choice) -> bool {
    match choice {
        Choice::App(name) => event.what.app.as_ref().is_some_and(|app| app.as_str() == name),
        Choice::Worker(uid) => event.what.uid.as_ref() == Some(uid),
    }
}

/// For the texts as a whole.
#[cfg(test)]
pub(super) mod golden {
    pub use super::Facts;
    use super::units::Unit;
    use super::{App, Connections, Worker, text};

    impl Facts {
        /// As of an app that serves, whose last unexpected end is this event.
        pub fn fill(&mut self, ended: &serde_json::Value, since_ms: u64) {
            *self = Self {
                in_effect: true,
                command: None,
                runs_as: Some("shop".into()),
                release: Some("/srv/shop/releases/2026-11-24-1402-with-a-name-that-is-longer-than-a-terminal-of-80-is-wide".into()),
                since_ms: Some(since_ms),
                ready_by: Some("listen"),
                start_ms: Some(30_000),
                kill_ms: Some(5000),
                restart_ms: Some(100),
                min_ready_ms: Some(1000),
                deadline_ms: Some(600_000),
                connections: [("[::]:3000".to_owned(), Connections { waiting: 3, limit: Some(4096), accepted: 128 })].into(),
                ended: serde_json::from_value(ended.clone()).ok(),
                units: vec![Unit {
                    unit: "project-cluster-api@3.12.1.service".into(),
                    drop_ins: vec!["/etc/systemd/system/project-cluster-api@.service.d/override.conf".into()],
                    limits: [("MemoryMax", "536870912"), ("TasksMax", "4915")]
                        .map(|(name, value)| (name.to_owned(), value.to_owned()))
                        .into(),
                    ..Unit::default()
                }],
            };
        }
    }

    impl Facts {
        /// What runs is not what is installed.
        pub fn of_another_time(&mut self, command: &[&str]) {
            (self.in_effect, self.command) = (false, Some(command.iter().map(|word| (*word).to_owned()).collect()));
            self.runs_as = Some("www-data".into());
        }
    }

    pub fn app(app: &App, facts: &Facts, log: &[String], width: usize) -> String {
        text::app(app, facts, log, text::Look { width, colours: false })
    }

    pub fn worker(app: &App, row: &Worker, facts: &Facts, log: &[String], width: usize) -> String {
        text::worker(app, row, facts, log, text::Look { width, colours: false })
    }
}
