//! `apply`: installs where it may, then has the master make what runs what is configured, app by app, all at once.

mod plan;

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use self::plan::{Ask, Line};
use super::args::{Apply, Wait};
use super::client::Client;
use super::errand::Errand;
use super::live::Running;
use super::{Context, Failure, operate, outcome, print, print_json, setup};
use crate::api::types::App;
use crate::config::settings::Settings;
use crate::names::AppName;
use crate::units::diff::Conflict;
use crate::units::install::{self, Live, LiveError, Options, Report};

/// Root installs first; others have what is installed carried out.
pub(crate) fn run(context: &Context, options: &Apply, runtime: &Runtime) -> Result<(), Failure> {
    if setup::may_install(context) { as_root(context, options, runtime) } else { as_member(context, options, runtime) }
}

fn as_member(context: &Context, options: &Apply, runtime: &Runtime) -> Result<(), Failure> {
    let client = context.client.within(options.wait.timeout);
    let running = runtime.block_on(client.apps())?;
    let lines = plan::plan_of_installed(&running);
    let note = "only root installs a changed configuration (`sudo project-cluster apply`): this goes by what is installed";
    if options.diff {
        if context.json {
            return print_json(&difference(&lines, &[], "", &[note.to_owned()], &json!([])));
        }
        print(&told(&lines, Some(note)));
        return Ok(());
    }
    context.say(&told(&lines, Some(note)));
    let document = Document { plan: &lines, changed: Vec::new(), notes: vec![note.to_owned()], warnings: json!([]) };
    carry_out(context, &client, errands(&lines), options.wait, runtime, document)
}

fn as_root(context: &Context, options: &Apply, runtime: &Runtime) -> Result<(), Failure> {
    let client = context.client.within(options.wait.timeout);
    let loaded = setup::load(context)?;
    let (settings, warnings) = (&loaded.settings, loaded.warnings.to_json());
    let install = Options { root: PathBuf::from("/"), host: setup::host(context, true)?, now: false };
    let failed = |why: install::Error| Failure::Failed(why.to_string());
    let live = Running::connect(context.place, runtime).map_err(refused)?;
    let up = !live.running(&[settings.name.target(), settings.name.api_socket()]).map_err(refused)?.is_empty();
    let before = install::installed(&settings.name, &install).map_err(failed)?;
    let running = if up { runtime.block_on(client.apps())? } else { Vec::new() };
    let lines = plan(before.as_ref(), &install::following(settings, &install).map_err(failed)?, &running, up);
    if options.diff {
        let preview = install::preview(settings, &install, Some(&live)).map_err(failed)?;
        if context.json {
            print_json(&difference(&lines, &preview.plan.conflicts, &preview.text, &[], &warnings))?;
        } else {
            print(&(told(&lines, None) + &preview.text));
        }
        return setup::no_conflicts(&preview.plan.conflicts);
    }
    context.say(&told(&lines, None));
    if !up {
        // A start by itself is no deploy.
        for app in install::outdated(settings, &install).map_err(failed)? {
            mark(context, settings, &app)?;
        }
    }
    let mut report = install::install(settings, &install, Some(&live)).map_err(failed)?;
    report.advice.clear();
    if !up {
        bring_up(settings, &live, &mut report)?;
    } else if !report.is_empty() {
        live.hang_up(&settings.name.master()).map_err(refused)?;
    }
    if !report.is_empty() || !up {
        context.say(&report.to_string());
    }
    for line in lines.iter().filter(|line| line.next_start) {
        mark(context, settings, &line.app)?;
    }
    let changed = report.actions.iter().map(|(action, path)| json!({ "action": action.word(), "path": path })).collect();
    let errands = if up { errands(&lines) } else { starts(&lines) };
    carry_out(context, &client, errands, options.wait, runtime, Document { plan: &lines, changed, notes: report.notes, warnings })
}

fn refused(why: LiveError) -> Failure {
    Failure::Failed(why.to_string())
}

/// Enables the cluster and has systemd start all of it, which goes on: the master, which is waited for, tells how.
fn bring_up(settings: &Settings, live: &Running<'_>, report: &mut Report) -> Result<(), Failure> {
    let (cluster, target) = (&settings.name, settings.name.target());
    live.enable(&target).map_err(refused)?;
    live.start(&cluster.api_socket()).map_err(refused)?;
    live.begin(&target).map_err(refused)?;
    report.notes.push(format!("enabled {target}; systemd starts it"));
    if settings.api.enabled {
        // Its port may be taken; that is said, and no reason for the rest not to start.
        let _ = live.start(&cluster.tcp_socket());
    }
    install::tell_api(settings, live, report).map_err(|why| Failure::Failed(why.to_string()))
}

/// The plan; of a cluster that is not up everything starts.
fn plan(before: Option<&Settings>, settings: &Settings, running: &[App], up: bool) -> Vec<Line> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut lines = plan::plan(before.filter(|_| up), settings, running, cores);
    let known = |line: &Line| before.is_some_and(|before| before.apps.contains_key(&line.app));
    for line in lines.iter_mut().filter(|line| !up && line.ask.is_some() && known(line)) {
        line.text = "starts with the cluster".into();
    }
    lines
}

/// Root's mark that the next start of an app makes a fresh generation.
fn mark(context: &Context, settings: &Settings, app: &AppName) -> Result<(), Failure> {
    let path = context.place.paths.fresh_mark(&settings.name, app);
    // Of a cluster that has not been up since the last boot.
    let directory = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let done = directory.and_then(|()| crate::files::replace(&path, b"", 0o600));
    done.map_err(|why| Failure::Failed(format!("{app}: the mark for its next start, {}, cannot be written: {why}", path.display())))
}

fn told(lines: &[Line], note: Option<&str>) -> String {
    let mut text: String = note.map_or_else(String::new, |note| format!("note: {note}\n"));
    lines.iter().for_each(|line| text.push_str(&format!("{}: {}\n", line.app, line.text)));
    text
}

/// What `--diff --json` answers with, whoever asks.
fn difference(lines: &[Line], conflicts: &[Conflict], diff: &str, notes: &[String], warnings: &Value) -> Value {
    json!({ "plan": lines, "conflicts": conflicts, "diff": diff, "notes": notes, "warnings": warnings })
}

/// What `--json` answers with, whoever asks, but for what comes of it.
struct Document<'a> {
    plan: &'a [Line],
    changed: Vec<Value>,
    notes: Vec<String>,
    warnings: Value,
}

/// Asks the master for each app that changes, all at once.
fn carry_out(
    context: &Context,
    client: &Client,
    errands: Vec<Errand>,
    wait: Wait,
    runtime: &Runtime,
    document: Document<'_>,
) -> Result<(), Failure> {
    let outcomes = runtime.block_on(operate::all(context, client, errands, wait))?;
    if context.json {
        let Document { plan, changed, notes, warnings } = document;
        print_json(&json!({ "plan": plan, "changed": changed, "notes": notes, "warnings": warnings, "apps": outcomes }))?;
    }
    outcome::end(&outcomes)
}

fn errands(lines: &[Line]) -> Vec<Errand> {
    let errand = |line: &Line| {
        let errand = Errand::new(line.app.as_str(), "apply", None);
        Some(if line.ask? == Ask::Wake { errand.with("start=true".into()) } else { errand })
    };
    lines.iter().filter_map(errand).collect()
}

/// Of a cluster whose start is under way: each app's is joined, and so waited for and told.
fn starts(lines: &[Line]) -> Vec<Errand> {
    let errand = |line: &Line| match line.step {
        _ if line.ask.is_none() => None,
        "listen" => Some(Errand::new(line.app.as_str(), "apply", None).with("start=true".into())),
        _ => Some(Errand::new(line.app.as_str(), "start", None)),
    };
    lines.iter().filter_map(errand).collect()
}

#[cfg(test)]
mod tests;
