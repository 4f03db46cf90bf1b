//! `ls` and `show`: what runs, for people.

use super::follow::{still, to, version};
use super::hooks;
use super::table::{self, Cell, Tone, left, right};
use super::time;
use crate::api::converge;
use crate::api::types::{App, AppState, CrashLoops, Roll, Worker, WorkerState};
use crate::health;
use crate::journal::harmless;
use crate::names::{anew, unmask};

/// The place of the release among the columns.
const RELEASE: usize = 4;
/// A release is shown in so many columns at least, or not at all.
const SHORTEST: usize = 10;
/// And in no more than these.
const LONGEST: usize = 40;

/// The table of `ls`, and a line for each app that needs one.
pub fn workers(workers: &[Worker], apps: &[App], width: usize, colours: bool) -> String {
    let mut columns = vec![
        left("uid", 0),
        right("pid", 3),
        left("state", 0),
        right("gen", 4),
        left("release", 5),
        right("crash", 1),
        right("err", 7),
        right("warn", 8),
        right("memory", 2),
        right("cpu", 9),
        right("uptime", 6),
    ];
    let current = |row: &Worker| apps.iter().find(|app| app.name == row.app).and_then(|app| app.generation);
    let mut rows: Vec<Vec<Cell>> = workers
        .iter()
        .map(|row| {
            let old = row.generation.is_some() && current(row).is_some_and(|current| row.generation != Some(current));
            vec![
                Cell::new(row.uid.to_string()),
                optional(row.pid, |pid| pid.to_string()),
                Cell::toned(row.state.word(), state_tone(row.state)),
                row.generation.map_or_else(
                    || Cell::toned("-", Tone::Grey),
                    |generation| Cell::toned(version(generation, row.pin), if old { Tone::Yellow } else { Tone::Plain }),
                ),
                row.release.as_ref().map_or_else(
                    || Cell::toned("-", Tone::Grey),
                    |release| Cell::toned(harmless(release), if old { Tone::Yellow } else { Tone::Plain }),
                ),
                count(Some(u64::from(row.restarts)), Tone::Red),
                count(row.errors, Tone::Red),
                count(row.warnings, Tone::Yellow),
                optional(row.memory_bytes, table::bytes),
                optional(row.cpu_ms, table::duration),
                optional(row.uptime_ms, table::duration),
            ]
        })
        .collect();
    // A path takes what the others leave, and no other column goes for it; both its ends tell most.
    let room = width.saturating_sub(table::rest(&columns, &rows, RELEASE)).min(LONGEST);
    if room >= SHORTEST {
        rows.iter_mut().for_each(|row| row[RELEASE].text = table::middle(&row[RELEASE].text, room));
    } else {
        columns.remove(RELEASE);
        rows.iter_mut().for_each(|row| drop(row.remove(RELEASE)));
    }
    let mut out = table::render(&columns, &rows, width, colours);
    for app in apps {
        for (text, tone) in remarks(app) {
            out.push_str(&tone.paint(&format!("{}: {text}", app.name), colours));
            out.push('\n');
        }
        for (text, tone) in marks(app) {
            out.push_str(&tone.paint(&text, colours));
            out.push('\n');
        }
        if let Some(text) = rolled_back(app) {
            out.push_str(&Tone::Yellow.paint(&format!("{}: {text}", app.name), colours));
            out.push('\n');
        }
        if let Some(text) = changed(app) {
            out.push_str(&Tone::Yellow.paint(&format!("{}: {text}", app.name), colours));
            out.push('\n');
        }
    }
    out
}

/// What is configured and not in effect. Of an app that is stopped, or failed with just that, only what is not installed: of
/// the rest `apply` could do nothing.
pub(super) fn changed(app: &App) -> Option<String> {
    let changed = app.changed.as_ref()?;
    if !changed.on_disk && (app.state == AppState::Stopped || app.failed_so()) {
        return None;
    }
    // That a person rolled it back is said for itself.
    if !changed.on_disk && changed.becomes && app.rolled_back.is_some_and(|back| back.installed == app.revisions.installed) {
        return None;
    }
    // Another number of workers than configured may be nobody's change of the configuration.
    let count = !changed.on_disk && !changed.becomes && changed.keys.iter().all(|key| key == "workers");
    let what = if count { "differs from the configuration" } else { "changed on disk" };
    let keys: Vec<String> = changed.keys.iter().map(|key| harmless(key)).collect();
    let keys = if keys.is_empty() { String::new() } else { format!(" ({})", keys.join(", ")) };
    Some(format!("{what}{keys}: `sudo project-cluster apply`"))
}

/// That what serves is there by a rollback: neither a start nor `apply` brings what is installed.
pub(super) fn rolled_back(app: &App) -> Option<String> {
    let back = app.rolled_back.filter(|_| app.pin.is_some() && app.state != AppState::Rolling)?;
    let (to, since) = (back.to, time::since(back.since_ms));
    Some(format!("rolled back to generation {to} at {since}. `project-cluster reload {}` deploys what is installed", app.name))
}

/// What others did to it behind our back, a line each.
pub(super) fn marks(app: &App) -> Vec<(String, Tone)> {
    let masked = app.masked.iter().map(|unit| {
        let unit = harmless(unit);
        (format!("{}: {unit} is masked, it cannot be started. `{}`", app.name, unmask(&unit)), Tone::Red)
    });
    let outside = app.outside.iter().map(|one| {
        let (uid, since) = (&one.uid, time::since(one.since_ms));
        (format!("{uid}: stopped from outside at {since}, and left so. `project-cluster start {uid}`"), Tone::Yellow)
    });
    let open = app.ready == 0 && !app.outside.is_empty() && app.sockets.iter().any(|socket| socket.active);
    let nobody = open.then(|| {
        let name = &app.name;
        let text = format!("{name}: no worker answers, connections wait. `project-cluster start {name}`, or `stop {name}` closes its port");
        (text, Tone::Red)
    });
    masked.chain(outside).chain(nobody).collect()
}

/// Workers that run without their handle, which stops and starts them: it was masked, or its stop failed.
fn astray(app: &App) -> Option<String> {
    // A start that failed has left none, not even on its way down.
    let leaves = |row: &&Worker| app.state == AppState::Failed && matches!(row.state, WorkerState::Stopping | WorkerState::Retiring);
    let runs = converge::taken(app).len() + app.workers.iter().filter(leaves).count();
    if runs == 0 || !matches!(app.state, AppState::Stopped | AppState::Sleeping | AppState::Failed) {
        return None;
    }
    let (worker, s) = if runs == 1 { ("worker", "s") } else { ("workers", "") };
    Some(format!("its handle is not active and {runs} {worker} run{s}: `project-cluster stop {}`", app.name))
}

/// What a person should know of an app that the table does not say, a line each: one trouble hides no other.
fn remarks(app: &App) -> Vec<(String, Tone)> {
    if let Some(astray) = astray(app) {
        // Its state is not what it says.
        return vec![(astray, Tone::Red)];
    }
    // While it starts or stops, they come and go with it.
    let up = matches!(app.state, AppState::Running | AppState::Degraded | AppState::Rolling);
    let down = app.sockets.iter().filter(|socket| up && !socket.active).map(|socket| {
        let (address, mend) = (harmless(&socket.address), anew(&harmless(&app.handle)));
        (format!("its socket {address} is down. Mend it: `{mend}`"), Tone::Red)
    });
    let crash = app.crash_loop.as_ref().map(|crash| (looping(app, crash), Tone::Red));
    held(app).map(|text| (text, Tone::Red)).into_iter().chain(down).chain(stance(app)).chain(crash).collect()
}

/// That it does not run, or rolls.
fn stance(app: &App) -> Option<(String, Tone)> {
    let name = &app.name;
    let grey = |text: String| Some((text, Tone::Grey));
    match app.state {
        AppState::Stopped if app.target > 0 => grey(format!("stopped. Start it: `project-cluster start {name}`")),
        AppState::Stopped if app.workers.is_empty() => grey(format!("has 0 workers. `project-cluster add {name}` gives it one")),
        AppState::Stopped => grey(format!("all of its workers are stopped one by one. `project-cluster start {name}` starts them")),
        AppState::Sleeping => grey("asleep; the next connection starts it".into()),
        AppState::Rolling if app.roll.as_ref().is_some_and(Roll::stands_still) => app.roll.as_ref().map(|roll| {
            let (to, still) = (to(roll), still(roll));
            (format!("its roll{to} is {still}; {} of {} ready", roll.ready, roll.target), Tone::Red)
        }),
        AppState::Rolling => {
            let hook = |roll| hooks::running(roll).map_or_else(String::new, |hook| format!("{hook}; "));
            app.roll
                .as_ref()
                .map(|roll| (format!("rolling{}: {}{} of {} ready", to(roll), hook(roll), roll.ready, roll.target), Tone::Yellow))
        }
        _ => None,
    }
}

/// Why nothing is tried by itself.
fn held(app: &App) -> Option<String> {
    let first = |reason: &str| harmless(reason.lines().next().unwrap_or_default());
    if app.state == AppState::Failed {
        let since = app.held.as_ref().map_or_else(String::new, |held| format!(" since {}", time::since(held.since_ms)));
        let why = app.held.as_ref().map_or_else(String::new, |held| format!(": {}", first(&held.reason)));
        let closed = if app.sockets.is_empty() { "" } else { " and its port is closed" };
        return Some(format!(
            "held{since}, its start failed{closed}{why}. `project-cluster show {0}`, then `project-cluster start {0}`",
            app.name
        ));
    }
    app.held.as_ref().map(|held| {
        format!(
            "held since {}, when generation {} failed: {}. {} of {} ready. `project-cluster show {}`",
            time::since(held.since_ms),
            held.generation,
            first(&held.reason),
            app.ready,
            app.target,
            app.name
        )
    })
}

/// Its crash loops in one line.
fn looping(app: &App, crash: &CrashLoops) -> String {
    let of = |count: u16| if count == 1 { "worker is" } else { "workers are" };
    let said = health::telling(&crash.lines).map_or_else(String::new, |line| format!(": {}", harmless(line)));
    format!(
        "{} {} in a crash loop, {} ends in a row, {}{said}. `project-cluster logs {}`, `project-cluster show {}`",
        crash.workers,
        of(crash.workers),
        crash.ends,
        next_start(app, crash),
        crash.worker,
        app.name
    )
}

/// When they are tried again; of those that are all up, since when.
pub(super) fn next_start(app: &App, crash: &CrashLoops) -> String {
    if let Some(ms) = crash.next_start_ms {
        return format!("next try in {}", table::duration(ms));
    }
    let up: Option<Vec<u64>> = app.workers.iter().filter(|row| row.crash_loop.is_some()).map(|row| row.uptime_ms).collect();
    match up.and_then(|up| up.into_iter().min()) {
        Some(ms) => format!("up for {}, believed after {} s", table::duration(ms), health::HEALTHY.as_secs()),
        None => "tries now".to_owned(),
    }
}

pub(super) fn state_tone(state: WorkerState) -> Tone {
    match state {
        WorkerState::Online => Tone::Green,
        WorkerState::Starting | WorkerState::Stopping | WorkerState::Retiring => Tone::Yellow,
        WorkerState::Restarting | WorkerState::CrashLoop | WorkerState::Failed => Tone::Red,
        WorkerState::Offline | WorkerState::Stopped => Tone::Grey,
    }
}

fn optional<T>(value: Option<T>, show: impl Fn(T) -> String) -> Cell {
    value.map_or_else(|| Cell::toned("-", Tone::Grey), |value| Cell::new(show(value)))
}

fn count(value: Option<u64>, tone: Tone) -> Cell {
    match value {
        None => Cell::toned("-", Tone::Grey),
        Some(0) => Cell::toned("0", Tone::Grey),
        Some(count) => Cell::toned(count.to_string(), tone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    use crate::api::converge::tests::app;
    use crate::api::types::Changed;

    #[test]
    fn a_number_of_workers_alone_is_no_change_on_disk() {
        let mut app = app(AppState::Running, &[1, 2]);
        for (keys, becomes, on_disk, says) in [
            (&["workers"][..], false, false, "differs from the configuration (workers)"),
            (&["workers"], false, true, "changed on disk (workers)"),
            (&["env", "workers"], true, false, "changed on disk (env, workers)"),
            (&[], true, false, "changed on disk"),
        ] {
            app.changed = Some(Changed { keys: keys.iter().map(|key| (*key).to_owned()).collect(), becomes, on_disk });
            assert_eq!(changed(&app), Some(format!("{says}: `sudo project-cluster apply`")));
        }
    }

    #[test]
    fn what_does_not_run_is_told_with_what_to_type() {
        let line = |app: &App| remarks(app).into_iter().map(|(text, _)| text).collect::<Vec<_>>().join("\n");
        let none = App { target: 0, ..app(AppState::Stopped, &[]) };
        assert_eq!(line(&none), "has 0 workers. `project-cluster add api` gives it one");
        let mut stopped = App { target: 0, ..app(AppState::Stopped, &[1, 2]) };
        stopped.workers.iter_mut().for_each(|row| row.state = WorkerState::Stopped);
        assert_eq!(line(&stopped), "all of its workers are stopped one by one. `project-cluster start api` starts them");
        assert_eq!(line(&app(AppState::Stopped, &[])), "stopped. Start it: `project-cluster start api`");
        // Whose handle was masked, or whose stop failed.
        for state in [AppState::Stopped, AppState::Sleeping, AppState::Failed] {
            assert_eq!(line(&app(state, &[1, 2])), "its handle is not active and 2 workers run: `project-cluster stop api`");
        }
        let mut leaves = app(AppState::Failed, &[1]);
        leaves.workers[0].state = WorkerState::Stopping;
        assert_eq!(line(&leaves), "its handle is not active and 1 worker runs: `project-cluster stop api`");
        assert!(line(&app(AppState::Failed, &[])).starts_with("held, its start failed. "), "it has no port");
    }

    #[test]
    fn a_rollback_is_said_for_itself_and_what_changed_since_is_too() {
        let mut app = app(AppState::Running, &[1, 2]);
        let back = crate::intent::RolledBack { to: crate::names::Generation(1), since_ms: 0, installed: 2 };
        (app.rolled_back, app.pin, app.revisions.installed) = (Some(back), Some(back.to), 2);
        app.changed = Some(Changed { keys: ["env".to_owned()].into(), becomes: true, on_disk: false });
        let said = rolled_back(&app).unwrap();
        assert!(said.starts_with("rolled back to generation 1 at ") && said.contains("`project-cluster reload api`"), "{said}");
        assert_eq!(changed(&app), None);
        app.revisions.installed = 3;
        assert!(changed(&app).is_some());
        (app.revisions.installed, app.changed.as_mut().unwrap().on_disk) = (2, true);
        assert!(changed(&app).is_some());
    }

    /// An app that is held, whose socket is down, with a worker in a crash loop.
    fn troubled(state: &str) -> App {
        let app = json!({
            "name": "api", "state": state, "target": 2, "ready": 1, "generation": 1, "command": [], "cwd": "", "user": "", "workers": [],
            "held": { "generation": 2, "reason": "boom\nbang", "since_ms": 0 },
            "sockets": [{ "address": "[::]:3000", "unit": "s.socket", "active": false }, { "address": "[::]:1", "unit": "t.socket", "active": true }],
            "handle": "project-cluster@api.service", "roll": null,
            "crash_loop": { "workers": 1, "ends": 4, "looping_ms": 9, "next_start_ms": 900, "worker": "api:02", "lines": [] },
        });
        serde_json::from_value(app).unwrap()
    }

    #[test]
    fn one_trouble_hides_no_other() {
        let said = |state| remarks(&troubled(state)).into_iter().map(|(text, _)| text).collect::<Vec<_>>();
        let lines = said("degraded");
        let mend = "`systemctl stop project-cluster@api.service && systemctl start project-cluster@api.service`";
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].starts_with("held since ") && lines[0].contains("generation 2 failed: boom."), "{lines:?}");
        assert_eq!(lines[1], format!("its socket [::]:3000 is down. Mend it: {mend}"));
        assert!(lines[2].starts_with("1 worker is in a crash loop, 4 ends in a row, next try in "), "{lines:?}");
        let mut app = troubled("degraded");
        let row = json!({
            "uid": "api:02", "app": "api", "slot": 2, "generation": 1, "unit": "u", "state": "crash-loop", "pid": 7, "uptime_ms": 3000,
            "restarts": 4, "crash_loop": { "ends": 4, "looping_ms": 9, "next_start_ms": null },
        });
        app.workers = vec![serde_json::from_value(row).unwrap()];
        let crash = CrashLoops { next_start_ms: None, ..app.crash_loop.clone().unwrap() };
        assert!(next_start(&app, &crash).ends_with(", believed after 10 s") && next_start(&app, &crash).starts_with("up for 3"));
        app.workers[0].uptime_ms = None;
        assert_eq!(next_start(&app, &crash), "tries now");
        // Its port is closed because it failed.
        let lines = said("failed");
        assert!(lines.len() == 2 && lines[0].contains("its start failed and its port is closed: boom."), "{lines:?}");
    }
}
