//! The verbs that change what runs: asks the master for each app at once and waits, saying what happens.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use hyper::Method;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::args::{Operate, Wait};
use super::client::{self, Client};
use super::follow::{follow, to};
use super::{Choice, Context, Failure, print, print_json, selection};
use crate::api::types::{Done, Roll, RollState};
use crate::files;
use crate::handle::shown_mark;
use crate::journal::harmless;
use crate::names::{AppName, Slot};

/// A limit nobody reaches: the master bounds each of its own waits.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// One request, and how its answer is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Errand {
    pub app: String,
    pub uri: String,
    /// Asked for twice it does no harm, so that it may be asked again when the connection breaks.
    repeatable: bool,
}

impl Errand {
    /// A verb on an app, or on these slots of it.
    pub fn new(app: &str, verb: &str, slots: Option<&[Slot]>, wait: Wait) -> Self {
        let mut query = patience(wait);
        if let Some(slots) = slots {
            query.push(format!("slots={}", slots.iter().map(|slot| slot.get().to_string()).collect::<Vec<_>>().join(",")));
        } else if verb == "remove" {
            query.push("slots=all".into());
        }
        let mark = if query.is_empty() { "" } else { "?" };
        let route = if verb == "restart" { "rolls" } else { verb };
        Self { app: app.into(), uri: format!("/v1/apps/{app}/{route}{mark}{}", query.join("&")), repeatable: true }
    }
}

/// What is begun is waited for, but for a roll, which is followed.
fn patience(wait: Wait) -> Vec<String> {
    if wait.no_wait { Vec::new() } else { vec!["wait=1h".into(), "watch=true".into()] }
}

/// One errand an app: the workers of one app go together, and an app that is chosen whole includes its workers.
fn errands(chosen: &[Choice], verb: &str, wait: Wait) -> Vec<Errand> {
    let mut apps: BTreeMap<&str, Option<Vec<Slot>>> = BTreeMap::new();
    for choice in chosen {
        match choice {
            Choice::App(app) => drop(apps.insert(app, None)),
            Choice::Worker(uid) => {
                if let Some(slots) = apps.entry(uid.app.as_str()).or_insert_with(|| Some(Vec::new()))
                    && !slots.contains(&uid.slot)
                {
                    slots.push(uid.slot);
                }
            }
        }
    }
    apps.into_iter().map(|(app, slots)| Errand::new(app, verb, slots.as_deref(), wait)).collect()
}

/// A verb on what the selectors choose.
pub(crate) async fn run(context: &Context, verb: &'static str, options: &Operate) -> Result<(), Failure> {
    let chosen = selection(&context.apps().await?, &options.select)?;
    carry_out(context, errands(&chosen, verb, options.wait), options.wait).await
}

/// `sleep`: of apps alone.
pub(crate) async fn sleep(context: &Context, options: &Operate) -> Result<(), Failure> {
    let names = super::app_names(&context.apps().await?, &options.select)?;
    let errands = names.iter().map(|name| Errand::new(name, "sleep", None, options.wait)).collect();
    carry_out(context, errands, options.wait).await
}

/// `add`, `scale`: one app, a number.
pub(crate) async fn count(context: &Context, verb: &str, app: &str, count: u16, wait: Wait) -> Result<(), Failure> {
    let names = super::app_names(&context.apps().await?, &[app.to_owned()])?;
    let [name] = names.as_slice() else {
        return Err(Failure::Usage(format!("`{}` is not one app, and this verb takes one", harmless(app))));
    };
    let query = [vec![format!("count={count}")], patience(wait)].concat().join("&");
    let uri = format!("/v1/apps/{name}/{verb}?{query}");
    // A second `add` would add twice.
    let errand = Errand { app: name.clone(), uri, repeatable: verb == "scale" };
    carry_out(context, vec![errand], wait).await
}

/// All at once; all are told, the worst gives the exit code.
async fn carry_out(context: &Context, errands: Vec<Errand>, wait: Wait) -> Result<(), Failure> {
    let (ended, failures) = all(context, errands, wait).await?;
    if context.json {
        print_json(&ended)?;
    }
    failures.end()
}

/// All at once: what was done, and what failed.
pub(super) async fn all(context: &Context, errands: Vec<Errand>, wait: Wait) -> Result<(Vec<Done>, Failures), Failure> {
    let deadline = wait.timeout.map(|limit| Instant::now() + limit);
    let several = errands.len() > 1;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|why| Failure::Failed(why.to_string()))?;
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for errand in errands {
        let (client, quiet, mut stopped) = (context.client.clone(), context.json, stopped.clone());
        tasks.spawn(async move {
            let say = |text: &str| {
                if !quiet {
                    print(&if several { format!("{}: {text}\n", errand.app) } else { format!("{text}\n") });
                }
            };
            let result = one(&client, &errand, !wait.no_wait, deadline, &mut stopped, say).await;
            (errand.app, result)
        });
    }
    let mut ended = Vec::new();
    let mut failures = Failures::default();
    loop {
        let task = tokio::select! {
            task = tasks.join_next() => task,
            // The master carries it out, not we.
            _ = interrupt.recv() => {
                stop.send_replace(true);
                continue;
            }
        };
        let Some(task) = task else { break };
        let Ok((name, result)) = task else { continue };
        match result {
            Ok(done) => {
                if !wait.no_wait && done.roll.as_ref().is_some_and(Roll::under_way) {
                    failures.add(&name, unfinished(&name));
                }
                if let Some(roll) = done.roll.as_ref().filter(|roll| roll.state == RollState::Failed) {
                    failures.add(&name, failed(roll));
                }
                ended.push(done);
            }
            Err(failure) => failures.add(&name, failure),
        }
    }
    Ok((ended, failures))
}

/// What a roll that failed says.
fn failed(roll: &Roll) -> Failure {
    let reason = roll.reason.as_deref().unwrap_or("no reason is known");
    let reason: Vec<String> = reason.lines().map(harmless).collect();
    Failure::Failed(format!("the roll{} failed: {}", to(roll), reason.join("\n  ")))
}

/// The reload step of a handle: follows the roll that the master has left a mark of, which it takes; without one it asks
/// for a roll, as a person does.
pub(crate) async fn as_handle(context: &Context, options: &Operate) -> Result<(), Failure> {
    let [app] = options.select.as_slice() else {
        return Err(Failure::Usage("a handle is of one app".into()));
    };
    let name: AppName = app.parse().map_err(|why| Failure::Usage(format!("`{}`: {why}", harmless(app))))?;
    let Some(number) = take(&shown_mark(&context.cluster, &name)) else { return run(context, "restart", options).await };
    let uri = format!("/v1/apps/{name}/rolls/{number}");
    let roll = match context.client.insist::<Roll>(Method::GET, &uri, super::READ).await {
        Ok(roll) => roll,
        // Of a master that is no more, and of which nothing is known: whoever asked for a reload gets one.
        Err(client::Error::Refused(_)) => return run(context, "restart", options).await,
        Err(error) => return Err(error.into()),
    };
    let (_never, mut stop) = watch::channel(false);
    let roll = follow(&context.client, roll, None, &mut stop, |text| print(&format!("{text}\n"))).await?;
    if roll.state == RollState::Failed { Err(failed(&roll)) } else { Ok(()) }
}

/// Takes a mark: whoever comes later finds none.
fn take(mark: &Path) -> Option<u64> {
    let number = String::from_utf8(files::read_bounded(mark, 32).ok()?).ok()?.parse().ok();
    std::fs::remove_file(mark).ok()?;
    number
}

fn unfinished(app: &str) -> Failure {
    Failure::Failed(format!("not waiting any longer; it goes on. `project-cluster show {app}`"))
}

/// One errand to its end, or as far as it is waited for: then its roll is still under way.
async fn one(
    client: &Client,
    errand: &Errand,
    wait: bool,
    deadline: Option<Instant>,
    stop: &mut watch::Receiver<bool>,
    say: impl Fn(&str),
) -> Result<Done, Failure> {
    let limit = deadline.map_or(FOREVER, |deadline| deadline.saturating_duration_since(Instant::now()));
    let asked = async {
        if errand.repeatable {
            client.insist::<Done>(Method::POST, &errand.uri, limit).await
        } else {
            client.call::<Done>(Method::POST, &errand.uri, limit).await
        }
    };
    let answer = tokio::select! {
        answer = asked => answer,
        Ok(()) = stop.changed() => return Err(unfinished(&errand.app)),
    };
    let mut done = match answer {
        Ok(done) => done,
        Err(client::Error::Late(..)) => return Err(unfinished(&errand.app)),
        Err(error) => return Err(error.into()),
    };
    match done.roll.take() {
        None if done.under_way && wait => return Err(unfinished(&errand.app)),
        None => say(&if done.message.is_empty() { "done".to_owned() } else { format!("{}: {}", done.app, harmless(&done.message)) }),
        Some(roll) if !wait => {
            say(&format!("the roll{} has begun. Watch it: `project-cluster show {}`", to(&roll), errand.app));
            done.roll = Some(roll);
        }
        Some(roll) => {
            let roll = follow(client, roll, deadline, stop, say).await?;
            done.message = match roll.state {
                RollState::Failed => "failed",
                RollState::Done => "done",
                _ => "begun",
            }
            .into();
            done.under_way = roll.under_way();
            done.roll = Some(roll);
        }
    }
    Ok(done)
}

/// Failures of several apps: all are told, the worst gives the exit code.
#[derive(Default)]
pub(super) struct Failures(Vec<(String, Failure)>);

impl Failures {
    fn add(&mut self, name: &str, failure: Failure) {
        self.0.push((name.to_owned(), failure));
    }

    pub fn end(self) -> Result<(), Failure> {
        let mut texts = Vec::new();
        let (mut usage, mut unreachable) = (false, false);
        for (name, failure) in self.0 {
            let text = match failure {
                Failure::Failed(text) => text,
                Failure::Usage(text) => {
                    usage = true;
                    text
                }
                Failure::Unreachable(text) => {
                    unreachable = true;
                    text
                }
            };
            texts.push(format!("{name}: {text}"));
        }
        let text = texts.join("\n");
        match () {
            () if text.is_empty() => Ok(()),
            () if unreachable => Err(Failure::Unreachable(text)),
            () if usage => Err(Failure::Usage(text)),
            () => Err(Failure::Failed(text)),
        }
    }
}
