//! `start`, `stop`, `sleep`, `restart`, `reload`: asks the master and waits, saying what happens.

use std::time::{Duration, Instant};

use hyper::Method;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::args::Operate;
use super::client::{AWAY, Client};
use super::{Context, Failure, app_names, client, print, print_json, table};
use crate::api::types::{Done, Roll, RollState, Step};
use crate::journal::harmless;

/// A limit nobody reaches: the master bounds each of its own waits.
const FOREVER: Duration = Duration::from_secs(24 * 3600);
/// One long poll of a roll.
const POLL_MS: u64 = 20_000;

/// `start`, `stop`, `sleep`: through the handle, all apps at once.
pub(crate) async fn run(context: &Context, verb: &'static str, options: &Operate) -> Result<(), Failure> {
    let names = app_names(&context.apps().await?, &options.select)?;
    let limit = options.timeout.unwrap_or(FOREVER);
    let mut tasks = JoinSet::new();
    for name in names {
        let client = context.client.clone();
        let uri = format!("/v1/apps/{name}/{verb}{}", if options.no_wait { "?wait=false" } else { "" });
        tasks.spawn(async move { (name, client.call::<Done>(Method::POST, &uri, limit).await) });
    }
    let mut done = Vec::new();
    let mut failures = Failures::default();
    while let Some(task) = tasks.join_next().await {
        let Ok((name, result)) = task else { continue };
        match result {
            Ok(answer) => {
                if !context.json {
                    print(&format!("{}: {}\n", answer.app, harmless(&answer.message)));
                }
                done.push(answer);
            }
            Err(client::Error::Late(limit, _)) => {
                failures.add(&name, Failure::Failed(format!("not done within {limit:?}; it goes on. `project-cluster show {name}`")))
            }
            Err(error) => failures.add(&name, error.into()),
        }
    }
    if context.json {
        print_json(&done)?;
    }
    failures.end()
}

/// `reload`, `restart`: a roll of each app, all at once, with its steps as they come.
pub(crate) async fn roll(context: &Context, options: &Operate) -> Result<(), Failure> {
    let names = app_names(&context.apps().await?, &options.select)?;
    let deadline = options.timeout.map(|limit| Instant::now() + limit);
    let several = names.len() > 1;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|why| Failure::Failed(why.to_string()))?;
    let mut ended: Vec<String> = Vec::new();
    let mut tasks = JoinSet::new();
    for name in names.iter().cloned() {
        let (client, quiet, wait) = (context.client.clone(), context.json, !options.no_wait);
        tasks.spawn(async move {
            let result = one_roll(&client, &name, wait, deadline, |text| {
                if !quiet {
                    print(&if several { format!("{name}: {text}\n") } else { format!("{text}\n") });
                }
            })
            .await;
            (name, result)
        });
    }
    let mut rolls = Vec::new();
    let mut failures = Failures::default();
    loop {
        let task = tokio::select! {
            task = tasks.join_next() => task,
            _ = interrupt.recv() => {
                let left: Vec<&str> = names.iter().filter(|name| !ended.contains(*name)).map(String::as_str).collect();
                return Err(Failure::Failed(goes_on(&left)));
            }
        };
        let Some(task) = task else { break };
        let Ok((name, result)) = task else { continue };
        ended.push(name.clone());
        match result {
            Ok(roll) => {
                if roll.state == RollState::Failed {
                    let reason = roll.reason.as_deref().unwrap_or("no reason is known");
                    let reason: Vec<String> = reason.lines().map(harmless).collect();
                    failures.add(&name, Failure::Failed(format!("the roll{} failed: {}", to(&roll), reason.join("\n  "))));
                }
                rolls.push(roll);
            }
            Err(failure) => failures.add(&name, failure),
        }
    }
    if context.json {
        print_json(&rolls)?;
    }
    failures.end()
}

/// For a person who pressed Ctrl-C: the master rolls, not we.
fn goes_on(names: &[&str]) -> String {
    format!("not waiting any longer; the roll of {} goes on. Look at it: `project-cluster show {}`", names.join(", "), names.join(" "))
}

async fn one_roll(client: &Client, name: &str, wait: bool, deadline: Option<Instant>, say: impl Fn(&str)) -> Result<Roll, Failure> {
    let limit = Duration::from_secs(30);
    // Asked for twice it is one roll: the second joins the first, or waits behind it with all others.
    let mut roll: Roll = client.insist(Method::POST, &format!("/v1/apps/{name}/reload"), limit).await?;
    if !wait {
        say(&format!("the roll{} has begun. Watch it: `project-cluster show {name}`", to(&roll)));
        return Ok(roll);
    }
    let mut told = Told::default();
    let (mut away, mut renewed) = (None::<Instant>, false);
    loop {
        for step in told.new_ones(&roll, std::mem::take(&mut renewed)) {
            say(&format!("{:>8}  {}", table::duration(step.at_ms), harmless(&step.text)));
        }
        if !roll.under_way() {
            if roll.state == RollState::Done {
                say(&format!("{:>8}  done: {}{} of {} ready", table::duration(roll.took_ms), of(&roll), roll.ready, roll.target));
            }
            return Ok(roll);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Failure::Failed(format!("not done in time; the roll goes on. `project-cluster show {name}`")));
        }
        let left = deadline.map_or(POLL_MS, |deadline| {
            u64::try_from(deadline.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(POLL_MS).clamp(1, POLL_MS)
        });
        let uri = format!("/v1/apps/{name}/rolls/{}?after={}&wait_ms={left}", roll.id, roll.sequence);
        match client.call::<Roll>(Method::GET, &uri, Duration::from_millis(left) + limit).await {
            Ok(next) => (roll, renewed) = (next, away.take().is_some()),
            Err(error @ client::Error::Refused(_)) => return Err(error.into()),
            // The master is being restarted: PID 1 holds its socket, so it is back soon.
            Err(error) => {
                let since = *away.get_or_insert_with(Instant::now);
                if since.elapsed() > AWAY {
                    return Err(error.into());
                }
                if since.elapsed() < Duration::from_millis(100) {
                    say("          the master went away; waiting for it");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Which steps of a roll were told.
#[derive(Default)]
struct Told {
    count: usize,
    last_ms: u64,
}

impl Told {
    /// Those that were not. A new master (`renewed`) may have lost the first of them or the last: then their times tell.
    fn new_ones<'a>(&mut self, roll: &'a Roll, renewed: bool) -> &'a [Step] {
        if renewed {
            self.count = roll.steps.iter().filter(|step| step.at_ms <= self.last_ms).count();
        }
        let new = roll.steps.get(self.count..).unwrap_or_default();
        self.count = roll.steps.len();
        self.last_ms = new.last().map_or(self.last_ms, |step| step.at_ms);
        new
    }
}

/// `generation 7, `, once that is known.
pub(super) fn of(roll: &Roll) -> String {
    roll.generation.map_or_else(String::new, |generation| format!("generation {generation}, "))
}

/// ` to generation 7`, once that is known.
pub(super) fn to(roll: &Roll) -> String {
    roll.generation.map_or_else(String::new, |generation| format!(" to generation {generation}"))
}

/// Failures of several apps: all are told, the worst gives the exit code.
#[derive(Default)]
struct Failures(Vec<(String, Failure)>);

impl Failures {
    fn add(&mut self, name: &str, failure: Failure) {
        self.0.push((name.to_owned(), failure));
    }

    fn end(self) -> Result<(), Failure> {
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
