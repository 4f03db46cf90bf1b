//! The verbs that change what runs: asks the master for each app at once and waits, saying what happens.

use std::collections::BTreeMap;
use std::path::Path;

use hyper::Method;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::args::{Operate, Reload, Sure, Wait};
use super::board::{Bounds, FRAME, Shared};
use super::client::{self, Client};
use super::errand::Errand;
use super::follow::{self, follow};
use super::outcome::{self, Outcome};
use super::{Choice, Context, Failure, marks, print, print_json, selection};
use crate::api::types::{Roll, RollState};
use crate::files;
use crate::journal::harmless;
use crate::names::{AppName, Slot};

/// One errand an app: the workers of one app go together, and an app that is chosen whole includes its workers.
fn errands(chosen: &[Choice], verb: &str) -> Vec<Errand> {
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
    apps.into_iter().map(|(app, slots)| Errand::new(app, verb, slots.as_deref())).collect()
}

/// A verb on what the selectors choose.
pub(crate) async fn run(context: &Context, verb: &'static str, options: &Operate) -> Result<(), Failure> {
    let client = context.client.within(options.wait.timeout);
    let chosen = selection(&client.apps().await?, &options.select)?;
    carry_out(context, &client, errands(&chosen, verb), options.wait).await
}

/// `reload`, perhaps with other canaries than configured.
pub(crate) async fn reload(context: &Context, options: &Reload) -> Result<(), Failure> {
    let client = context.client.within(options.operate.wait.timeout);
    let chosen = selection(&client.apps().await?, &options.operate.select)?;
    let single = chosen.iter().find_map(|choice| if let Choice::Worker(uid) = choice { Some(uid) } else { None });
    if let (Some(uid), true) = (single, options.canary.is_some() || options.bake.is_some()) {
        let why = format!("canaries are of a new version of a whole app, and {uid} is one worker: `project-cluster reload {}`", uid.app);
        return Err(Failure::Usage(why));
    }
    let canary = options.canary.as_ref().map(|share| format!("canary={}", share.replace('%', "%25")));
    let bake = options.bake.map(|bake| format!("bake={}ms", bake.as_millis()));
    let parameters: Vec<String> = canary.into_iter().chain(bake).collect();
    let with = |errand: Errand| parameters.iter().fold(errand, |errand, parameter| errand.with(parameter.clone()));
    let errands = errands(&chosen, "reload").into_iter().map(with).collect();
    carry_out(context, &client, errands, options.operate.wait).await
}

/// `pause`, `resume`, `abort`: of the rolls under way. Among `all` apps those that roll.
pub(crate) async fn steer(context: &Context, verb: &str, select: &[String], wait: Wait) -> Result<(), Failure> {
    let client = context.client.within(wait.timeout);
    let apps = client.apps().await?;
    let names = super::app_names(&apps, select)?;
    let all = select.iter().any(|text| text == "all");
    let mut errands = Vec::new();
    for name in &names {
        let roll = apps.iter().find(|app| app.name.as_str() == *name).and_then(|app| app.roll.as_ref()).filter(|roll| roll.under_way());
        match roll {
            Some(roll) => errands.push(Errand::of_roll(name, verb, roll.id)),
            None if all => {}
            None => {
                return Err(Failure::Failed(format!(
                    "{name}: no roll is under way, so there is none to {verb}. `project-cluster show {name}`"
                )));
            }
        }
    }
    if errands.is_empty() {
        return Err(Failure::Failed(format!("no roll is under way, so there is none to {verb}. `project-cluster ls`")));
    }
    carry_out(context, &client, errands, wait).await
}

/// `abort --waiting`: of the rolls that wait behind those under way. Among `all` apps those that have one.
pub(crate) async fn forget(context: &Context, options: &Operate) -> Result<(), Failure> {
    let client = context.client.within(options.wait.timeout);
    let names = super::app_names(&client.apps().await?, &options.select)?;
    let mut errands = Vec::new();
    for name in &names {
        let rolls: Vec<Roll> = client.insist(Method::GET, &format!("/v1/apps/{name}/rolls"), super::READ).await?;
        if let Some(roll) = rolls.iter().find(|roll| roll.state == RollState::Waiting) {
            errands.push(Errand::of_roll(name, "abort", roll.id));
        } else if !options.select.iter().any(|text| text == "all") {
            let why =
                format!("{name}: no roll waits, so there is none to abort; `project-cluster abort {name}` ends one that is under way");
            return Err(Failure::Failed(why));
        }
    }
    if errands.is_empty() {
        return Err(Failure::Failed("no roll waits, so there is none to abort. `project-cluster ls`".into()));
    }
    carry_out(context, &client, errands, options.wait).await
}

/// The same of what ends more than it says: `all` is asked for.
pub(crate) async fn surely(context: &Context, verb: &'static str, options: &Sure) -> Result<(), Failure> {
    if options.operate.select.iter().any(|text| text == "all") {
        let names: Vec<String> = context.client.apps().await?.iter().map(|app| app.name.to_string()).collect();
        let end = if verb == "stop" { "their ports close until somebody starts them" } else { "their ports close and they have 0 workers" };
        context.confirm(options.yes, &format!("{verb} all of cluster {} ({}): {end}?", context.cluster, names.join(", ")))?;
    }
    run(context, verb, &options.operate).await
}

/// `sleep`: of apps alone.
pub(crate) async fn sleep(context: &Context, options: &Operate) -> Result<(), Failure> {
    let client = context.client.within(options.wait.timeout);
    let names = super::app_names(&client.apps().await?, &options.select)?;
    let errands = names.iter().map(|name| Errand::new(name, "sleep", None)).collect();
    carry_out(context, &client, errands, options.wait).await
}

/// `add`, `scale`: one app, a number.
pub(crate) async fn count(context: &Context, verb: &str, app: &str, count: u16, wait: Wait) -> Result<(), Failure> {
    one(context, verb, app, format!("count={count}"), wait).await
}

/// `rollback`: one app, whose generations are its own.
pub(crate) async fn roll_back(context: &Context, app: &str, to: Option<u64>, wait: Wait) -> Result<(), Failure> {
    let to = to.map_or_else(|| "previous".to_owned(), |to| to.to_string());
    one(context, "rollback", app, format!("to={to}"), wait).await
}

/// A verb that takes one app and a parameter.
async fn one(context: &Context, verb: &str, app: &str, parameter: String, wait: Wait) -> Result<(), Failure> {
    let client = context.client.within(wait.timeout);
    let names = super::app_names(&client.apps().await?, &[app.to_owned()])?;
    let [name] = names.as_slice() else {
        return Err(Failure::Usage(format!("`{}` is not one app, and this verb takes one", harmless(app))));
    };
    carry_out(context, &client, vec![Errand::new(name, verb, None).with(parameter)], wait).await
}

/// All at once; all are told, the worst gives the exit code.
async fn carry_out(context: &Context, client: &Client, errands: Vec<Errand>, wait: Wait) -> Result<(), Failure> {
    let outcomes = all(context, client, errands, wait).await?;
    if context.json {
        print_json(&outcomes)?;
    }
    outcome::end(&outcomes)
}

/// All at once: what came of each, in the order of the errands.
pub(super) async fn all(context: &Context, client: &Client, errands: Vec<Errand>, wait: Wait) -> Result<Vec<Outcome>, Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|why| Failure::Failed(why.to_string()))?;
    let (stop, stopped) = watch::channel(false);
    let settings = if context.look.live { marks::master_settings(context) } else { None };
    let bounds = |app: &str| settings.as_ref()?.apps.iter().find(|(name, _)| name.as_str() == app).map(|(_, app)| Bounds::of(app));
    let rows = errands.iter().map(|errand| (errand.app.clone(), errand.verb.clone(), bounds(&errand.app))).collect();
    let board = Shared::new(context.look, wait, rows);
    let mut tasks = JoinSet::new();
    for (at, errand) in errands.into_iter().enumerate() {
        let (client, board, mut stopped) = (client.clone(), board.clone(), stopped.clone());
        tasks.spawn(async move {
            let say = |text: &str| board.say(&errand.app, text);
            let outcome = tokio::select! {
                outcome = errand.run(&client, wait, &mut stopped, say) => outcome,
                never = board.watch(&client, &errand.app) => match never {},
            };
            board.over(&errand.app);
            (at, outcome)
        });
    }
    let mut outcomes = BTreeMap::new();
    loop {
        let task = tokio::select! {
            task = tasks.join_next() => task,
            // The master carries it out, not we: the first one ends the waiting, a second one all that is left here.
            _ = interrupt.recv() => {
                if stop.send_replace(true) {
                    board.clear();
                    return Err(Failure::Failed(
                        "interrupted twice, so it is not known what the master has taken; that goes on. `project-cluster ls` tells how it stands".into(),
                    ));
                }
                continue;
            }
            () = tokio::time::sleep(FRAME), if context.look.live => {
                board.frame();
                continue;
            }
        };
        let Some(task) = task else { break };
        // It ends by itself: nobody aborts it, and a panic ends the process.
        outcomes.extend(task);
    }
    board.clear();
    Ok(outcomes.into_values().collect())
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
    if number == 0 {
        follow::tell_standing(&context.client, &name).await;
        return Ok(());
    }
    let uri = format!("/v1/apps/{name}/rolls/{number}");
    let roll = match context.client.insist::<Roll>(Method::GET, &uri, super::READ).await {
        Ok(roll) => roll,
        Err(error) if error.passes() => return Err(error.into()),
        // Of a master that is no more, and of which nothing is known: whoever asked for a reload gets one.
        Err(client::Error::Refused(_)) => return run(context, "restart", options).await,
        Err(error) => return Err(error.into()),
    };
    let (_never, mut stop) = watch::channel(false);
    let (roll, error) = follow(&context.client, roll, &mut stop, |text| print(&format!("{text}\n"))).await;
    match error {
        Some(error) => Err(error.into()),
        None if roll.stands_still() => Err(Failure::Failed(outcome::paused(&roll))),
        None if roll.state == RollState::Failed => Err(Failure::Failed(outcome::failed(&roll))),
        None => Ok(()),
    }
}

/// Takes a mark: whoever comes later finds none.
fn take(mark: &Path) -> Option<u64> {
    let number = String::from_utf8(files::read_bounded(mark, 32).ok()?).ok()?.parse().ok();
    std::fs::remove_file(mark).ok()?;
    number
}
