//! `apply`: installs where it may, then has the master make what runs what is configured, app by app, all at once.

mod plan;

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use self::plan::{Ask, Line};
use super::args::{Apply, Install, Wait};
use super::live::Running;
use super::operate::{self, Errand};
use super::{Context, Failure, print, print_json, setup};
use crate::api::types::App;
use crate::config::settings::Settings;
use crate::names::AppName;
use crate::units::install::{self, Live, Options, Report};

/// Root installs first; others have what is installed carried out.
pub(crate) fn run(context: &Context, options: &Apply, runtime: &Runtime) -> Result<(), Failure> {
    if setup::may_install(context) { as_root(context, options, runtime) } else { as_member(context, options, runtime) }
}

fn as_member(context: &Context, options: &Apply, runtime: &Runtime) -> Result<(), Failure> {
    let running = runtime.block_on(context.apps())?;
    let lines = plan::plan_of_installed(&running);
    let note = "only root installs a changed configuration (`sudo project-cluster apply`): this goes by what is installed";
    if options.diff {
        if context.json {
            return print_json(&json!({ "plan": lines, "notes": [note] }));
        }
        print(&told(&lines, Some(note)));
        return Ok(());
    }
    context.say(&told(&lines, Some(note)));
    carry_out(context, &lines, options.wait, runtime, |ended| json!({ "plan": lines, "notes": [note], "apps": ended }))
}

fn as_root(context: &Context, options: &Apply, runtime: &Runtime) -> Result<(), Failure> {
    let loaded = setup::load(context)?;
    let settings = &loaded.settings;
    let install = Options { root: PathBuf::from("/"), host: setup::host(context, true)?, now: false };
    let failed = |why: install::Error| Failure::Failed(why.to_string());
    let live = Running::connect(context.place, runtime).map_err(|why| Failure::Failed(why.to_string()))?;
    let up =
        !live.running(&[settings.name.target(), settings.name.api_socket()]).map_err(|why| Failure::Failed(why.to_string()))?.is_empty();
    let before = install::installed(&settings.name, &install).map_err(failed)?;
    let running = if up { runtime.block_on(context.apps())? } else { Vec::new() };
    let lines = plan(before.as_ref(), &install::following(settings, &install).map_err(failed)?, &running, up);
    if options.diff {
        let preview = install::preview(settings, &install, Some(&live)).map_err(failed)?;
        if context.json {
            let diff =
                json!({ "plan": lines, "conflicts": preview.plan.conflicts, "diff": preview.text, "warnings": loaded.warnings.to_json() });
            print_json(&diff)?;
        } else {
            print(&(told(&lines, None) + &preview.text));
        }
        return if preview.plan.conflicts.is_empty() { Ok(()) } else { Err(Failure::Failed(String::new())) };
    }
    context.say(&told(&lines, None));
    if !up {
        // All of it starts with its target; a start by itself is no deploy.
        for app in install::outdated(settings, &install).map_err(failed)? {
            mark(context, settings, &app)?;
        }
        drop(live);
        return setup::install_loaded(context, &loaded, &Install { root: None, diff: false, now: true }, runtime);
    }
    let mut report = install::install(settings, &install, Some(&live)).map_err(failed)?;
    report.advice.clear();
    if !report.is_empty() {
        live.hang_up(&settings.name.master()).map_err(|why| Failure::Failed(why.to_string()))?;
        context.say(&report.to_string());
    }
    for line in lines.iter().filter(|line| line.next_start) {
        mark(context, settings, &line.app)?;
    }
    carry_out(context, &lines, options.wait, runtime, |ended| document(&lines, &report, &loaded.warnings.to_json(), ended))
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

fn document(lines: &[Line], report: &Report, warnings: &Value, ended: Value) -> Value {
    let changed: Vec<_> = report.actions.iter().map(|(action, path)| json!({ "action": action.word(), "path": path })).collect();
    json!({ "plan": lines, "changed": changed, "notes": report.notes, "warnings": warnings, "apps": ended })
}

/// Asks the master for each app that changes, all at once.
fn carry_out(
    context: &Context,
    lines: &[Line],
    wait: Wait,
    runtime: &Runtime,
    document: impl FnOnce(Value) -> Value,
) -> Result<(), Failure> {
    let errands: Vec<Errand> = lines.iter().filter_map(|line| line.ask.map(|ask| errand(line, ask, wait))).collect();
    runtime.block_on(async {
        let (ended, failures) = operate::all(context, errands, wait).await?;
        if context.json {
            print_json(&document(json!(ended)))?;
        }
        failures.end()
    })
}

fn errand(line: &Line, ask: Ask, wait: Wait) -> Errand {
    let mut errand = Errand::new(line.app.as_str(), "apply", None, wait);
    if ask == Ask::Wake {
        errand.uri.push_str(if errand.uri.contains('?') { "&start=true" } else { "?start=true" });
    }
    errand
}

#[cfg(test)]
mod tests;
