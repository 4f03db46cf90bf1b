//! `ls` and `show`: what runs, for people.

use super::follow::{figures, to};
use super::table::{self, Cell, Tone};
use super::time;
use crate::api::types::{App, AppState, CrashLoops, RollState, Worker, WorkerState};
use crate::health;
use crate::journal::harmless;

/// The table of `ls`, and a line for each app that needs one.
pub fn workers(workers: &[Worker], apps: &[App], width: usize, colours: bool) -> String {
    let columns = [
        ("uid", false),
        ("pid", true),
        ("state", false),
        ("gen", true),
        ("crash", true),
        ("err", true),
        ("warn", true),
        ("memory", true),
        ("cpu", true),
        ("uptime", true),
    ];
    let current = |row: &Worker| apps.iter().find(|app| app.name == row.app).and_then(|app| app.generation);
    let rows: Vec<Vec<Cell>> = workers
        .iter()
        .map(|row| {
            let old = row.generation.is_some() && current(row).is_some_and(|current| row.generation != Some(current));
            vec![
                Cell::new(row.uid.to_string()),
                optional(row.pid, |pid| pid.to_string()),
                Cell::toned(row.state.word(), state_tone(row.state)),
                row.generation.map_or_else(
                    || Cell::toned("-", Tone::Grey),
                    |generation| Cell::toned(generation.to_string(), if old { Tone::Yellow } else { Tone::Plain }),
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
    let mut out = table::render(&columns, &rows, width, colours);
    for app in apps {
        for (text, tone) in remark(app).into_iter().chain(app.crash_loop.as_ref().map(|crash| (looping(app, crash), Tone::Red))) {
            out.push_str(&tone.paint(&format!("{}: {text}", app.name), colours));
            out.push('\n');
        }
        for (text, tone) in marks(app) {
            out.push_str(&tone.paint(&text, colours));
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
fn changed(app: &App) -> Option<String> {
    let changed = app.changed.as_ref()?;
    if !changed.on_disk && (app.state == AppState::Stopped || app.failed_so) {
        return None;
    }
    // Another number of workers than configured may be nobody's change of the configuration.
    let count = !changed.on_disk && !changed.becomes && changed.keys.iter().all(|key| key == "workers");
    let what = if count { "differs from the configuration" } else { "changed on disk" };
    let keys: Vec<String> = changed.keys.iter().map(|key| harmless(key)).collect();
    let keys = if keys.is_empty() { String::new() } else { format!(" ({})", keys.join(", ")) };
    Some(format!("{what}{keys}: `sudo project-cluster apply`"))
}

/// What others did to it behind our back, a line each.
fn marks(app: &App) -> Vec<(String, Tone)> {
    let masked = app.masked.iter().map(|unit| {
        let unit = harmless(unit);
        (format!("{}: {unit} is masked, it cannot be started. `systemctl unmask {unit}`", app.name), Tone::Red)
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

/// What a person should know of an app that the table does not say.
fn remark(app: &App) -> Option<(String, Tone)> {
    let first = |reason: &str| harmless(reason.lines().next().unwrap_or_default());
    if app.state == AppState::Failed {
        let since = app.held.as_ref().map_or_else(String::new, |held| format!(" since {}", time::since(held.since_ms)));
        let why = app.held.as_ref().map_or_else(String::new, |held| format!(": {}", first(&held.reason)));
        let text = format!(
            "held{since}, its start failed and its port is closed{why}. `project-cluster show {0}`, then `project-cluster start {0}`",
            app.name
        );
        return Some((text, Tone::Red));
    }
    if let Some(held) = &app.held {
        let text = format!(
            "held since {}, when generation {} failed: {}. {} of {} ready. `project-cluster show {}`",
            time::since(held.since_ms),
            held.generation,
            first(&held.reason),
            app.ready,
            app.target,
            app.name
        );
        return Some((text, Tone::Red));
    }
    if let Some(socket) = app.sockets.iter().find(|socket| !socket.active && app.state != AppState::Stopped) {
        return Some((
            format!("its socket {} is down. Mend it: `systemctl restart {}`", harmless(&socket.address), harmless(&app.handle)),
            Tone::Red,
        ));
    }
    match app.state {
        AppState::Stopped if app.target > 0 => Some((format!("stopped. Start it: `project-cluster start {}`", app.name), Tone::Grey)),
        AppState::Sleeping => Some(("asleep; the next connection starts it".into(), Tone::Grey)),
        AppState::Rolling => {
            app.roll.as_ref().map(|roll| (format!("rolling{}: {} of {} ready", to(roll), roll.ready, roll.target), Tone::Yellow))
        }
        _ => None,
    }
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
        next_start(crash.next_start_ms),
        crash.worker,
        app.name
    )
}

fn next_start(ms: Option<u64>) -> String {
    ms.map_or_else(|| "tries now".to_owned(), |ms| format!("next try in {}", table::duration(ms)))
}

/// One app in full.
pub fn app(app: &App, width: usize, colours: bool) -> String {
    let tone = match app.state {
        AppState::Running => Tone::Green,
        AppState::Failed => Tone::Red,
        AppState::Stopped | AppState::Sleeping => Tone::Grey,
        _ => Tone::Yellow,
    };
    let mut out = format!(
        "{}  {}  {} of {} ready, generation {}\n",
        app.name,
        tone.paint(app.state.word(), colours),
        app.ready,
        app.target,
        app.generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string()),
    );
    let mut line = |name: &str, text: &str| out.push_str(&format!("  {name:<9}{text}\n"));
    line("command", &harmless(&shell_words::join(&app.command)));
    line("cwd", &harmless(&app.cwd));
    line("user", &harmless(&app.user));
    line("handle", &harmless(&app.handle));
    for socket in &app.sockets {
        line(
            "listens",
            &format!("{} ({}{})", harmless(&socket.address), harmless(&socket.unit), if socket.active { "" } else { ", down" }),
        );
    }
    if let Some(text) = changed(app) {
        line("config", &text);
    }
    if let Some(held) = &app.held {
        line("held", &format!("since {}, generation {}:", time::since(held.since_ms), held.generation));
        held.reason.lines().for_each(|text| line("", &harmless(text)));
        let next = if app.state == AppState::Failed { "start" } else { "reload" };
        line("", &format!("{} of {} ready. Try again: `project-cluster {next} {}`", app.ready, app.target, app.name));
    }
    if let Some(crash) = &app.crash_loop {
        let (count, ends, time) = (crash.workers, crash.ends, table::duration(crash.looping_ms));
        let next = next_start(crash.next_start_ms);
        line("crashes", &format!("{count} of {} workers in a crash loop: {ends} ends in a row for {time}, {next}", app.target));
        line("", &format!("{} wrote last (all of it: `project-cluster logs {0}`):", crash.worker));
        crash.lines.iter().for_each(|text| line("", &format!("  {}", harmless(text))));
        line("", &format!("Mended? `project-cluster reset {}` tries all of them at once", app.name));
    }
    if let Some(roll) = &app.roll {
        let how = match roll.state {
            RollState::Waiting => "waits",
            RollState::Running => "is under way",
            RollState::Done => "done",
            RollState::Failed => "failed",
        };
        line("roll", &format!("{how}: {}, {}", figures(roll), table::duration(roll.took_ms)));
        for step in &roll.steps {
            line("", &format!("{:>8}  {}", table::duration(step.at_ms), harmless(&step.text)));
        }
    }
    for (text, tone) in marks(app) {
        out.push_str(&format!("  {}\n", tone.paint(&text, colours)));
    }
    out.push_str(&workers(&app.workers, &[], width, colours));
    out
}

fn state_tone(state: WorkerState) -> Tone {
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
    use crate::api::types::Changed;

    #[test]
    fn a_number_of_workers_alone_is_no_change_on_disk() {
        let mut app = crate::api::converge::tests::app(AppState::Running, &[1, 2]);
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
}
