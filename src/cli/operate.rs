//! The verbs that change what runs: asks the master for each app at once and waits, saying what happens.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use hyper::Method;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::args::{Operate, Sure, Wait};
use super::board::{Bounds, FRAME, Shared};
use super::client::{self, Client};
use super::follow::{follow, to};
use super::{Choice, Context, Failure, marks, print, print_json, selection};
use crate::api::types::{Done, Roll, RollState};
use crate::files;
use crate::journal::harmless;
use crate::names::{AppName, Slot};

/// A limit nobody reaches: the master bounds each of its own waits.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// One request, and how its answer is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Errand {
    pub app: String,
    verb: String,
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
        let route = if matches!(verb, "restart" | "reload") { "rolls" } else { verb };
        Self { app: app.into(), verb: verb.into(), uri: format!("/v1/apps/{app}/{route}{mark}{}", query.join("&")), repeatable: true }
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

/// The same of what ends more than it says: `all` is asked for.
pub(crate) async fn surely(context: &Context, verb: &'static str, options: &Sure) -> Result<(), Failure> {
    if options.operate.select.iter().any(|text| text == "all") {
        let names: Vec<String> = context.apps().await?.iter().map(|app| app.name.to_string()).collect();
        let end = if verb == "stop" { "their ports close until somebody starts them" } else { "their ports close and they have 0 workers" };
        context.confirm(options.yes, &format!("{verb} all of cluster {} ({}): {end}?", context.cluster, names.join(", ")))?;
    }
    run(context, verb, &options.operate).await
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
    let errand = Errand { app: name.clone(), verb: verb.into(), uri, repeatable: verb == "scale" };
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
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|why| Failure::Failed(why.to_string()))?;
    let (stop, stopped) = watch::channel(false);
    let settings = if context.look.live { marks::master_settings(context) } else { None };
    let bounds = |app: &str| settings.as_ref()?.apps.iter().find(|(name, _)| name.as_str() == app).map(|(_, app)| Bounds::of(app));
    let rows = errands.iter().map(|errand| (errand.app.clone(), errand.verb.clone(), bounds(&errand.app))).collect();
    let board = Shared::new(context.look, wait, rows);
    let mut tasks = JoinSet::new();
    for errand in errands {
        let (client, board, mut stopped) = (context.client.clone(), board.clone(), stopped.clone());
        tasks.spawn(async move {
            let say = |text: &str| board.say(&errand.app, text);
            let result = tokio::select! {
                result = one(&client, &errand, !wait.no_wait, deadline, &mut stopped, say) => result,
                never = board.watch(&client, &errand.app) => match never {},
            };
            board.over(&errand.app);
            (errand, result)
        });
    }
    let mut ended = Vec::new();
    let mut failures = Failures::default();
    loop {
        let task = tokio::select! {
            task = tasks.join_next() => task,
            // The master carries it out, not we: the first one ends the waiting, a second one all that is left here.
            _ = interrupt.recv() => {
                if stop.send_replace(true) {
                    board.clear();
                    return Err(Failure::Failed("interrupted; what was asked for goes on. `project-cluster ls`".into()));
                }
                continue;
            }
            () = tokio::time::sleep(FRAME), if context.look.live => {
                board.frame();
                continue;
            }
        };
        let Some(task) = task else { break };
        let Ok((Errand { app: name, verb, .. }, result)) = task else { continue };
        match result {
            Ok(done) => {
                if !wait.no_wait && done.roll.as_ref().is_some_and(Roll::under_way) {
                    failures.add(&name, unfinished(&name, &verb));
                }
                if let Some(roll) = done.roll.as_ref().filter(|roll| roll.state == RollState::Failed) {
                    failures.add(&name, failed(roll));
                }
                ended.push(done);
            }
            Err(failure) => failures.add(&name, failure),
        }
    }
    board.clear();
    Ok((ended, failures))
}

/// What a roll that failed says.
pub(super) fn failed(roll: &Roll) -> Failure {
    let reason = roll.reason.as_deref().unwrap_or("no reason is known");
    let reason: Vec<String> = reason.lines().map(harmless).collect();
    Failure::Failed(format!(
        "the roll{} failed: {}\n  `project-cluster show {app}` has its steps, `project-cluster logs {app}` all that was written",
        to(roll),
        reason.join("\n  "),
        app = roll.app
    ))
}

/// The reload step of a handle: follows the roll that the master has left a mark of, which it takes; without one it asks
/// for a roll, as a person does.
pub(crate) async fn as_handle(context: &Context, options: &Operate) -> Result<(), Failure> {
    let [app] = options.select.as_slice() else {
        return Err(Failure::Usage("a handle is of one app".into()));
    };
    let name: AppName = app.parse().map_err(|why| Failure::Usage(format!("`{}`: {why}", harmless(app))))?;
    let Some(number) = take(&context.place.paths.shown_mark(&context.cluster, &name)) else {
        return run(context, "restart", options).await;
    };
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

pub(super) fn unfinished(app: &str, verb: &str) -> Failure {
    let end = match verb {
        "stop" | "sleep" | "remove" => String::new(),
        // There is no way back yet.
        _ => format!("; `project-cluster stop {app}` ends it, and the app with it"),
    };
    Failure::Failed(format!(
        "not waiting any longer; it goes on. `project-cluster show {app}` tells how it stands, `project-cluster events {app} -f` what happens{end}"
    ))
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
        Ok(()) = stop.changed() => return Err(unfinished(&errand.app, &errand.verb)),
    };
    let mut done = match answer {
        Ok(done) => done,
        Err(client::Error::Late(..)) => return Err(unfinished(&errand.app, &errand.verb)),
        Err(error) => return Err(error.into()),
    };
    match done.roll.take() {
        None if done.under_way && wait => return Err(unfinished(&errand.app, &errand.verb)),
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
