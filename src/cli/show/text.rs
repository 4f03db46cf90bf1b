//! An app or a worker in full, for people.
//!
//! Pure. Paths and commands lose their middle where the terminal is narrow; prose and what is to be typed do not.

use super::Facts;
use super::units::Unit;
use crate::api::types::{App, AppState, RollState, Worker};
use crate::cli::follow::figures;
use crate::cli::table::{self, Tone};
use crate::cli::{list, time};
use crate::config::accounts::DYNAMIC;
use crate::journal::harmless;

/// How it is shown.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Columns of the terminal.
    pub width: usize,
    /// Whether there are colours.
    pub colours: bool,
}

/// Columns before a value.
const INDENT: usize = 11;

/// What is written, line by line.
struct Page {
    out: String,
    width: usize,
}

impl Page {
    /// A line that is whole however narrow the terminal is.
    fn line(&mut self, name: &str, text: &str) {
        self.out.push_str(format!("  {name:<9}{text}").trim_end());
        self.out.push('\n');
    }

    /// A path, command or unit.
    fn short(&mut self, name: &str, text: &str) {
        let text = table::middle(&harmless(text), self.width.saturating_sub(INDENT).max(20));
        self.line(name, &text);
    }
}

/// An app.
pub fn app(app: &App, facts: &Facts, log: &[String], look: Look) -> String {
    let tone = match app.state {
        AppState::Running => Tone::Green,
        AppState::Failed => Tone::Red,
        AppState::Stopped | AppState::Sleeping => Tone::Grey,
        _ => Tone::Yellow,
    };
    let generation = app.generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string());
    let up = !matches!(app.state, AppState::Stopped | AppState::Sleeping | AppState::Failed);
    let since = facts.since_ms.filter(|_| up).map_or_else(String::new, |since| format!(", up since {}", time::since(since)));
    let state = tone.paint(app.state.word(), look.colours);
    let head = format!("{}  {state}  {} of {} ready, generation {generation}{since}\n", app.name, app.ready, app.target);
    let mut page = Page { out: head, width: look.width };
    becomes(&mut page, app, facts);
    page.short("handle", &app.handle);
    if let Some((template, _)) = app.workers.iter().find_map(|row| row.unit.as_deref()?.split_once('@')) {
        page.short("units", &format!("{template}@*.service"));
    }
    sockets(&mut page, app, facts);
    configured(&mut page, facts);
    units(&mut page, app, facts);
    if let Some(text) = list::changed(app) {
        page.line("config", &text);
    }
    if let Some(held) = &app.held {
        page.line("held", &format!("since {}, generation {}:", time::since(held.since_ms), held.generation));
        held.reason.lines().for_each(|text| page.line("", &harmless(text)));
        let next = if app.state == AppState::Failed { "start" } else { "reload" };
        page.line("", &format!("{} of {} ready. Try again: `project-cluster {next} {}`", app.ready, app.target, app.name));
    }
    if let Some(crash) = &app.crash_loop {
        let (count, ends, time) = (crash.workers, crash.ends, table::duration(crash.looping_ms));
        let next = list::next_start(app, crash);
        page.line("crashes", &format!("{count} of {} workers in a crash loop: {ends} ends in a row for {time}, {next}", app.target));
        page.line("", &format!("{} wrote last (all of it: `project-cluster logs {0}`):", crash.worker));
        crash.lines.iter().for_each(|text| page.line("", &format!("  {}", harmless(text))));
        page.line("", &format!("Mended? `project-cluster reset {}` tries all of them at once", app.name));
    }
    ended(&mut page, facts);
    roll(&mut page, app);
    lines(&mut page, log);
    let mut out = page.out;
    for (text, tone) in list::marks(app) {
        out.push_str(&format!("  {}\n", tone.paint(&text, look.colours)));
    }
    out.push_str(&list::workers(&app.workers, &[], look.width, look.colours));
    out
}

/// One worker of an app.
pub fn worker(app: &App, row: &Worker, facts: &Facts, log: &[String], look: Look) -> String {
    let state = list::state_tone(row.state).paint(row.state.word(), look.colours);
    let generation = row.generation.map_or_else(|| "no generation".to_owned(), |generation| format!("generation {generation}"));
    let since = facts
        .since_ms
        .filter(|_| row.uptime_ms.is_some())
        .map_or_else(String::new, |since| format!(", ready since {}", time::since(since)));
    let mut page = Page { out: format!("{}  {state}  {generation}{since}\n", row.uid), width: look.width };
    page.short("unit", row.unit.as_deref().unwrap_or("none: nothing runs here"));
    if let Some(pid) = row.pid {
        page.line("pid", &pid.to_string());
    }
    becomes(&mut page, app, facts);
    let usage = [
        row.memory_bytes.map(|bytes| format!("{} memory", table::bytes(bytes))),
        row.cpu_ms.map(|ms| format!("{} CPU", table::duration(ms))),
    ];
    let usage: Vec<String> = usage.into_iter().flatten().collect();
    if !usage.is_empty() {
        page.line("uses", &usage.join(", "));
    }
    page.line("restarts", &format!("{} by itself since it was started", row.restarts));
    if let Some(crash) = &row.crash_loop {
        let next = crash.next_start_ms.map_or_else(|| "tries now".to_owned(), |ms| format!("next try in {}", table::duration(ms)));
        let time = table::duration(crash.looping_ms);
        page.line("crashes", &format!("{} ends in a row for {time}, {next}. Mended? `project-cluster reset {}`", crash.ends, row.uid));
    }
    sockets(&mut page, app, facts);
    configured(&mut page, facts);
    units(&mut page, app, facts);
    ended(&mut page, facts);
    lines(&mut page, log);
    page.out
}

/// Where it listens, and who waits there. The socket is all workers': so are its connections.
fn sockets(page: &mut Page, app: &App, facts: &Facts) {
    for socket in &app.sockets {
        let down = if socket.active { "" } else { ", down" };
        page.short("listens", &format!("{} ({}{down})", socket.address, socket.unit));
        if let Some(one) = facts.connections.get(&socket.address) {
            let limit = one.limit.map_or_else(String::new, |limit| format!(" of at most {limit}"));
            page.line("", &format!("{} connections, {}{limit} wait to be accepted", one.accepted, one.waiting));
        }
    }
}

/// What runs, and where something else is installed what the next start takes.
fn becomes(page: &mut Page, app: &App, facts: &Facts) {
    if let Some(command) = facts.command.as_ref().or(facts.in_effect.then_some(&app.command)) {
        page.short("command", &shell_words::join(command));
    }
    if facts.in_effect {
        page.short("cwd", &app.cwd);
    }
    if let Some(release) = &facts.release {
        page.short("release", release);
    }
    // A dynamic user has no name of its own; one that was changed is systemd's matter, and takes its next start.
    let dynamic = |uid: &str| app.user.ends_with("(dynamic)") && uid.parse().is_ok_and(|uid| DYNAMIC.contains(&uid));
    match &facts.runs_as {
        Some(user) if *user == app.user || dynamic(user) => page.line("user", &harmless(&app.user)),
        Some(user) if facts.in_effect => page.line("user", &harmless(&format!("{user} (from its next start on {})", app.user))),
        Some(user) => page.line("user", &harmless(user)),
        None if facts.in_effect => page.line("user", &harmless(&app.user)),
        None => {}
    }
    if !facts.in_effect {
        page.line("next", "what its next start takes:");
        for (name, value) in [("command", shell_words::join(&app.command)), ("cwd", app.cwd.clone()), ("user", app.user.clone())] {
            page.short("", &format!("{name:<9}{value}"));
        }
    }
}

fn configured(page: &mut Page, facts: &Facts) {
    let time = |ms: Option<u64>| ms.map_or_else(|| "?".to_owned(), table::duration);
    let Some(kind) = facts.ready_by else { return };
    let later = if facts.in_effect { "" } else { " (from the next start on)" };
    let how = match kind {
        "listen" => "when it accepts from its sockets",
        "notify" => "when it says READY=1",
        "http" => "when its port answers",
        "exec" => "when its command succeeds",
        _ => "when it has stayed up for min_ready",
    };
    page.line("ready", &format!("{how} ({kind}), within {}; believed after {}{later}", time(facts.start_ms), time(facts.min_ready_ms)));
    let kill = time(facts.kill_ms);
    let otherwise: Vec<&str> = facts.accepts.iter().filter(|how| !how.is_drained()).map(|how| how.text()).collect();
    page.line(
        "drains",
        &match facts.drain_ms {
            None | Some(0) => format!("by itself: SIGTERM at once, SIGKILL after {kill}"),
            Some(_) if !otherwise.is_empty() => format!("by itself only ({}): SIGTERM at once, SIGKILL after {kill}", otherwise.join(", ")),
            drain => format!("for at most {}, without new connections; then SIGTERM, SIGKILL after {kill}", time(drain)),
        },
    );
    page.line("again", &format!("{} after an unexpected end, later each time in a crash loop", time(facts.restart_ms)));
    page.line("rolls", &format!("for at most {}", time(facts.deadline_ms)));
}

/// What changes its units, and what limits them.
fn units(page: &mut Page, app: &App, facts: &Facts) {
    let said = |unit: &Unit| {
        let limits: Vec<String> = unit.limits.iter().map(|(name, value)| limit(name, value)).collect();
        (!limits.is_empty()).then(|| format!("{}: {}", unit.unit, limits.join(", ")))
    };
    // Of what runs: handle and sockets have systemd's own, which bind nothing.
    let runs = |unit: &&Unit| unit.unit.ends_with(".slice") || unit.unit.contains('@') && unit.unit != app.handle;
    named(page, "limits", facts.units.iter().filter(runs).filter_map(said));
    named(page, "drop-ins", facts.units.iter().flat_map(|unit| unit.drop_ins.iter().cloned()));
}

/// The first under its name, the others below.
fn named(page: &mut Page, name: &str, lines: impl Iterator<Item = String>) {
    for (at, line) in lines.enumerate() {
        page.short(if at == 0 { name } else { "" }, &line);
    }
}

/// `MemoryMax 537 MB`.
fn limit(name: &str, value: &str) -> String {
    match value.parse::<u64>() {
        Ok(bytes) if name.starts_with("Memory") => format!("{name} {}", table::bytes(bytes)),
        _ => format!("{name} {}", harmless(value)),
    }
}

/// Why and when a worker last ended that nobody had asked to.
fn ended(page: &mut Page, facts: &Facts) {
    if let Some(event) = &facts.ended {
        page.line("ended", &format!("{}, at {}", harmless(&event.what.text), time::since(event.time_ms)));
        return;
    }
    // What the master does not remember, systemd may.
    let last = facts.units.iter().find_map(|unit| unit.ended.as_ref().filter(|ended| ended.result != "success").map(|ended| (unit, ended)));
    if let Some((unit, ended)) = last {
        let how = match (ended.exit_code, ended.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no code".to_owned(),
        };
        page.line("ended", &format!("{}: {how} ({}), at {}", harmless(&unit.unit), harmless(&ended.result), time::since(ended.time_ms)));
    }
}

fn roll(page: &mut Page, app: &App) {
    let Some(roll) = &app.roll else { return };
    let how = match roll.state {
        RollState::Waiting => "waits",
        RollState::Running => "is under way",
        RollState::Done => "done",
        RollState::Failed => "failed",
    };
    page.line("roll", &format!("{how}: {}, {}", figures(roll), table::duration(roll.took_ms)));
    for step in &roll.steps {
        page.line("", &format!("{:>8}  {}", table::duration(step.at_ms), harmless(&step.text)));
    }
}

/// What it wrote last, as far as it fits; each line is harmless already.
fn lines(page: &mut Page, log: &[String]) {
    for (at, line) in log.iter().enumerate() {
        let line = table::cut(line, page.width.saturating_sub(INDENT).max(20));
        page.line(if at == 0 { "wrote" } else { "" }, &line);
    }
}
