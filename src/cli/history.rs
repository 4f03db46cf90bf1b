//! `history`: who asked for what, and what came of it; newest first, as the master tells it.

use std::fmt::Write as _;
use std::time::Duration;

use hyper::Method;

use super::args::History;
use super::table::{self, Cell, Tone, left, right};
use super::{Context, Failure, complain, print, print_json, show, time, width};
use crate::api::history::{End, Entry};
use crate::api::types::Health;
use crate::journal::harmless;
use crate::names::{AppName, Uid};

/// Limit of an answer.
const LIMIT: Duration = Duration::from_secs(20);
/// As many as the master keeps, and tells at once.
const ALL: usize = 1000;
/// Columns that the name of an app has where the others leave no more.
const NAME: usize = 10;
/// The fewest columns for how it ended.
const ENDED: usize = 12;

/// What one selector chooses; apps that are none any more have a past, too.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Chosen {
    App(AppName),
    Worker(Uid),
}

impl Chosen {
    /// What was asked of the whole app was asked of each of its workers.
    fn has(&self, entry: &Entry) -> bool {
        match self {
            Self::App(app) => entry.app.as_ref() == Some(app),
            Self::Worker(uid) => {
                entry.app.as_ref() == Some(&uid.app) && entry.slots.as_ref().is_none_or(|slots| slots.contains(&uid.slot.get()))
            }
        }
    }
}

pub(crate) async fn run(context: &Context, options: &History) -> Result<(), Failure> {
    let client = &context.client;
    if let Some(id) = options.id {
        let entry: Entry = client.insist(Method::GET, &format!("/v1/history/{id}"), LIMIT).await?;
        if context.json {
            return print_json(&entry);
        }
        print(&full(&entry, context.look.colours));
        return Ok(());
    }
    let chosen = chosen(&options.select)?;
    let since = options.since.map(|since| format!("&since_ms={since}")).unwrap_or_default();
    let uri = match &chosen[..] {
        [Chosen::App(app)] => format!("/v1/history?limit={}&app={app}{since}", options.count),
        [] => format!("/v1/history?limit={}{since}", options.count),
        _ => format!("/v1/history?limit={ALL}{since}"),
    };
    let mut entries: Vec<Entry> = client.insist(Method::GET, &uri, LIMIT).await?;
    entries.retain(|entry| chosen.is_empty() || chosen.iter().any(|one| one.has(entry)));
    entries.truncate(options.count);
    if options.steps {
        for entry in &mut entries {
            *entry = client.insist(Method::GET, &format!("/v1/history/{}", entry.id), LIMIT).await?;
        }
    }
    match (context.json, options.steps) {
        (true, _) => print_json(&entries)?,
        (false, true) => print(&entries.iter().map(|entry| full(entry, context.look.colours)).collect::<Vec<_>>().join("\n")),
        (false, false) => print(&rows(&entries, width(), context.look.colours)),
    }
    // An older master says nothing of it.
    let health: Health = client.insist(Method::GET, "/v1/health", LIMIT).await?;
    if let Some(why) = health.history {
        complain(&format!("project-cluster: what happens now is not written here: {}\n", harmless(&why)));
    }
    Ok(())
}

fn chosen(select: &[String]) -> Result<Vec<Chosen>, Failure> {
    if select.iter().any(|text| text == "all") {
        return Ok(Vec::new());
    }
    let wrong = |text: &str, why: &dyn std::fmt::Display| Failure::Usage(format!("`{}`: {why}", harmless(text)));
    let one = |text: &String| match text.contains(':') {
        true => text.parse().map(Chosen::Worker).map_err(|why| wrong(text, &why)),
        false => text.parse().map(Chosen::App).map_err(|why| wrong(text, &why)),
    };
    select.iter().map(one).collect()
}

/// What was asked for: `scale 3`, `restart 01,02`.
fn what(entry: &Entry) -> String {
    let slots = entry.slots.as_ref().map(|slots| slots.iter().map(|slot| format!("{slot:02}")).collect::<Vec<_>>().join(","));
    let about = slots.or_else(|| entry.count.map(|count| count.to_string()));
    harmless(&about.map_or_else(|| entry.verb.clone(), |about| format!("{} {about}", entry.verb)))
}

/// Who asked, a user of this machine by name.
fn by(entry: &Entry) -> String {
    if entry.systemctl {
        // Whoever typed that: its reload step runs as the cluster's own user.
        return "systemctl".into();
    }
    let Some(by) = &entry.asked_by else { return "-".into() };
    let user = by.strip_prefix("user ").and_then(|uid| uid.parse().ok()).and_then(show::account);
    harmless(&user.unwrap_or_else(|| by.clone()))
}

fn took(entry: &Entry) -> String {
    entry.took_ms.map_or_else(|| "-".into(), table::duration)
}

fn tone(end: End) -> Tone {
    match end {
        End::Running => Tone::Cyan,
        End::Done => Tone::Green,
        End::Failed => Tone::Red,
        End::Refused | End::CutOff => Tone::Yellow,
    }
}

/// How it ended, and why where it did not end well.
fn ended(entry: &Entry) -> String {
    let word = entry.end.word();
    match entry.text.as_deref().and_then(|text| text.lines().next()) {
        Some(text) if entry.end != End::Done => format!("{word}: {}", harmless(text)),
        _ => word.to_owned(),
    }
}

/// The table. Reasons end where the line does.
pub(super) fn rows(entries: &[Entry], width: usize, colours: bool) -> String {
    if entries.is_empty() {
        return "nothing was asked for\n".into();
    }
    let columns = [right("ID", 0), left("WHEN", 0), left("APP", 0), left("WHAT", 0), left("BY", 1), right("TOOK", 2), left("END", 0)];
    let row = |entry: &Entry| {
        let app = entry.app.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        [entry.id.to_string(), time::brief(entry.begun_ms), app, what(entry), by(entry), took(entry)]
    };
    let mut rows: Vec<[String; 6]> = entries.iter().map(row).collect();
    let wide = |rows: &[[String; 6]], at: usize| {
        rows.iter().map(|row| table::width(&row[at])).chain([columns[at].name.len()]).max().unwrap_or(0) + 2
    };
    let others = |rows: &[[String; 6]]| (0..6).map(|at| wide(rows, at)).sum::<usize>();
    // Long names, many slots and long names of users and tokens make room for how it ended.
    for (at, least) in [(2, NAME), (3, NAME), (4, NAME)] {
        let over = (others(&rows) + ENDED).saturating_sub(width);
        let columns = (wide(&rows, at) - 2).saturating_sub(over).max(least);
        rows.iter_mut().for_each(|row| row[at] = table::middle(&row[at], columns));
    }
    let room = width.saturating_sub(others(&rows)).max(ENDED);
    let cells = rows.into_iter().zip(entries).map(|(row, entry)| {
        let end = Cell::toned(table::cut(&ended(entry), room), tone(entry.end));
        row.map(Cell::new).into_iter().chain([end]).collect()
    });
    table::render(&columns, &cells.collect::<Vec<Vec<Cell>>>(), width, colours)
}

/// An entry with all that is known of it.
pub(super) fn full(entry: &Entry, colours: bool) -> String {
    let app = entry.app.as_ref().map_or_else(String::new, |app| format!("{app}: "));
    let end = tone(entry.end).paint(entry.end.word(), colours);
    let mut out = format!("{}  {app}{}  {end}\n", entry.id, what(entry));
    let mut line = |name: &str, text: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "  {name:<9} {text}");
    };
    let by = match by(entry).as_str() {
        "-" => String::new(),
        by => format!(" by {by}"),
    };
    line("asked", format!("{}{by}", time::second(entry.begun_ms)));
    let waited = entry.waited_ms.filter(|waited| *waited >= 1000).map(table::duration);
    line("took", took(entry) + &waited.map_or_else(String::new, |waited| format!(", {waited} of it until its roll began")));
    if let Some(roll) = entry.roll {
        let to = entry.generation.map_or_else(String::new, |generation| format!(", generation {generation}"));
        line("roll", format!("{roll}{to}"));
    }
    for step in &entry.steps {
        line(&format!("{:>8}", table::duration(step.at_ms)), harmless(&step.text));
    }
    for (at, text) in entry.text.as_deref().unwrap_or_default().lines().enumerate() {
        line(if at == 0 { "end" } else { "" }, harmless(text));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(more: serde_json::Value) -> Entry {
        let mut one = serde_json::json!({
            "id": 41, "app": "api", "verb": "reload", "slots": null, "count": null, "asked_by": "user 0", "systemctl": false,
            "begun_ms": time::now_ms(), "took_ms": 5200, "waited_ms": 0, "end": "done", "text": null, "roll": 7, "generation": 4, "steps": [],
        });
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(one).unwrap()
    }

    #[test]
    fn selectors_choose_apps_and_workers_of_before_too() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(chosen(&words(&["api", "all"])).ok(), Some(vec![]));
        let both = chosen(&words(&["gone", "api:02"])).unwrap_or_default();
        let has = |more: serde_json::Value| both.iter().any(|one| one.has(&entry(more.clone())));
        assert!(has(serde_json::json!({ "app": "gone" })) && has(serde_json::json!({ "slots": [1, 2] })) && has(serde_json::json!({})));
        assert!(!has(serde_json::json!({ "slots": [1] })) && !has(serde_json::json!({ "app": null })));
        for wrong in ["a b", "api:x", "\u{1b}"] {
            assert!(matches!(chosen(&words(&[wrong])), Err(Failure::Usage(text)) if !text.contains('\u{1b}')), "{wrong}");
        }
    }

    #[test]
    fn whatever_was_written_is_one_line_of_the_terminal_s_width_and_steers_nothing() {
        let long = "x".repeat(64);
        let entries = [
            entry(serde_json::json!({})),
            entry(serde_json::json!({ "app": long, "asked_by": "token a-name-of-a-token-with-32-letter", "verb": "scale", "count": 1024 })),
            entry(
                serde_json::json!({ "slots": (1..=300).collect::<Vec<u16>>(), "verb": "restart", "end": "failed", "text": "a\u{1b}[2J\nb" }),
            ),
            entry(
                serde_json::json!({ "app": null, "verb": "hist\u{1b}ory", "asked_by": null, "took_ms": null, "end": "cut-off", "begun_ms": 1 }),
            ),
        ];
        for width in [80, 120, usize::MAX] {
            let text = rows(&entries, width, false);
            assert_eq!(text.lines().count(), 5, "{text}");
            assert!(text.lines().all(|line| table::width(line) <= width), "{text}");
            assert!(!text.contains('\u{1b}'));
        }
        let narrow = rows(&entries, 80, false);
        assert!(narrow.contains("failed: a") && narrow.lines().next().is_some_and(|head| head.contains("TOOK")), "{narrow}");
        assert!(entries.iter().all(|entry| !full(entry, false).contains('\u{1b}')));
    }
}
