//! What `apply` will do, app by app, with the reason: from what is installed, what shall be, and what runs.
//!
//! Pure. What is done with an app is `api::converge`'s decision; here it gets its words.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::api::converge::{Step, Wish, becomes, other_slots, releases, starts_others, stays, step, taken};
use crate::api::types::App;
use crate::config::settings::Settings;
use crate::names::{AppName, Slot, Uid};

/// What is done with one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    /// The app.
    pub app: AppName,
    /// What is done, a word for programs: that of [`Step`], or `remove`.
    pub step: &'static str,
    /// The same for people.
    pub text: String,
    /// What the master is asked to do; none where it is not asked.
    #[serde(skip)]
    pub ask: Option<Ask>,
    /// It does not run, and its next start is to take what changed.
    #[serde(skip)]
    pub next_start: bool,
}

/// What the master is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// To apply.
    Apply,
    /// The same, although the app was started before and does not run.
    Wake,
}

/// The plan where new settings are installed first: `before` is what is installed, with `env`, and `new` follows it.
pub(super) fn plan(before: Option<&Settings>, new: &Settings, running: &[App], cores: usize) -> Vec<Line> {
    let known = |name: &AppName| running.iter().find(|app| app.name == *name);
    let mut lines = Vec::new();
    for (name, settings) in &new.apps {
        let old = before.and_then(|before| before.apps.get(name));
        let known = known(name).filter(|_| old.is_some());
        let serves = known.and_then(|app| app.revisions.serves);
        let changes = Changes {
            keys: serves.map(|serves| settings.revision.since(serves)).unwrap_or_default(),
            around: old.map(|old| settings.differences(old).around).unwrap_or_default(),
        };
        let configured = settings.workers.count(cores);
        let wake = configured > 0 && old.is_some_and(|old| old.workers.count(cores) == 0);
        let wish = Wish { configured, on_demand: settings.on_demand, revision: settings.revision.number, wake };
        lines.push(line(name, known, wish, &changes));
    }
    for name in before.into_iter().flat_map(|before| before.apps.keys()).filter(|name| !new.apps.contains_key(*name)) {
        let text = if known(name).is_some_and(|app| !taken(app).is_empty()) { "gone, stops" } else { "gone" };
        lines.push(Line { app: name.clone(), step: "remove", text: text.into(), ask: None, next_start: false });
    }
    lines
}

/// The plan where what is installed is all there is.
pub(super) fn plan_of_installed(running: &[App]) -> Vec<Line> {
    let one = |app: &App| {
        let wish = Wish { configured: app.configured, on_demand: app.on_demand, revision: app.revisions.installed, wake: false };
        let changed = app.changed.iter().filter(|changed| changed.becomes);
        let keys = changed.flat_map(|changed| &changed.keys).filter(|key| *key != "workers").cloned().collect();
        line(&app.name, Some(app), wish, &Changes { keys, around: Vec::new() })
    };
    running.iter().map(one).collect()
}

/// What changes, by the keys of the configuration.
struct Changes {
    /// What makes other workers than those that serve.
    keys: BTreeSet<String>,
    /// What is about to be installed and concerns no worker that runs.
    around: Vec<&'static str>,
}

fn line(name: &AppName, app: Option<&App>, wish: Wish, changes: &Changes) -> Line {
    let step = step(app, wish);
    let ask = match step {
        // The master forgets what a person asked for, so that the next start is as configured.
        Step::Unchanged | Step::Stopped | Step::Asleep if app.is_none_or(|app| !starts_others(app, wish.configured)) => None,
        Step::Start | Step::Listen if wish.wake => Some(Ask::Wake),
        _ => Some(Ask::Apply),
    };
    let next_start = app.is_some_and(|app| becomes(app, wish)) && matches!(step, Step::Stopped | Step::Asleep);
    Line { app: name.clone(), step: step.word(), text: text(step, app, wish, changes), ask, next_start }
}

fn text(step: Step, app: Option<&App>, wish: Wish, Changes { keys, around }: &Changes) -> String {
    let count = app.and_then(|app| count(app, wish.configured));
    let and_count = count.as_ref().map_or_else(String::new, |count| format!(", {count}"));
    let later = |becomes: &str| if becomes.is_empty() { String::new() } else { format!("; its next start takes what changed ({becomes})") };
    let released = if app.is_some_and(|app| releases(app, wish)) { "; no longer held: what serves is what is configured" } else { "" };
    let listed = keys.iter().cloned().collect::<Vec<_>>().join(", ");
    let back = app.filter(|app| stays(app, wish)).and_then(|app| Some((&app.name, app.rolled_back?.to)));
    if let (Step::Unchanged, Some((name, to))) = (step, back) {
        return format!("rolled back to generation {to}, and stays so. `project-cluster reload {name}` deploys what is configured");
    }
    match step {
        Step::Unchanged | Step::Release if around.is_empty() => format!("unchanged{released}"),
        Step::Unchanged | Step::Release => format!("its workers go on; changed: {}{released}", around.join(", ")),
        Step::Start if wish.wake => format!("0 -> {} workers, starts", wish.configured),
        Step::Start if app.is_some_and(|app| app.latest.is_some()) => {
            format!("starts again: its start failed, and {}", because(app, keys))
        }
        Step::Start => "new, starts".into(),
        Step::Listen => "new, listens; the first connection starts it".into(),
        Step::Reload => format!("reload, {}{and_count}", because(app, keys)),
        Step::Scale => count.unwrap_or_default() + released,
        Step::Stop => "0 workers, stops".into(),
        Step::Stopped => format!("stopped, stays so{}{}", later(&listed), next_count(app, wish.configured)),
        Step::Asleep => format!("asleep, stays so{}{}", later(&listed), next_count(app, wish.configured)),
        Step::Held => "held, left alone: it failed with just this configuration".into(),
        Step::Join => "a roll to it is under way".into(),
    }
}

/// `its command and env changed`.
fn because(app: Option<&App>, keys: &BTreeSet<String>) -> String {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    match (keys.as_slice(), app.and_then(|app| app.generation)) {
        ([], Some(generation)) => format!("its configuration changed since generation {generation}"),
        ([], None) => "its configuration changed".into(),
        ([key], _) => format!("its {key} changed"),
        ([keys @ .., last], _) => format!("its {} and {last} changed", keys.join(", ")),
    }
}

/// `2 -> 4 workers`, or which workers come and go where the number stays; nothing where all stays.
fn count(app: &App, configured: u16) -> Option<String> {
    let slots = other_slots(app, configured);
    let uids = |slots: &BTreeSet<Slot>| {
        let uid = |slot: &Slot| Uid { app: app.name.clone(), slot: *slot }.to_string();
        slots.iter().map(uid).collect::<Vec<_>>().join(", ")
    };
    match (slots.come.len(), slots.go.len()) {
        (0, 0) => None,
        (come, go) if come == go => Some(format!("{} come, {} go", uids(&slots.come), uids(&slots.go))),
        _ => Some(format!("{} -> {configured} workers", taken(app).len())),
    }
}

/// `; next start: 5 -> 2 workers`; nothing where its next start is as configured anyway.
fn next_count(app: Option<&App>, configured: u16) -> String {
    match app.filter(|app| starts_others(app, configured)) {
        None => String::new(),
        Some(app) if app.target != configured => format!("; next start: {} -> {configured} workers", app.target),
        Some(_) => "; next start: the workers that are configured".into(),
    }
}
