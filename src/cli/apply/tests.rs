use super::plan::{Ask, Line, plan, plan_of_installed};
use crate::api::converge::tests::app;
use crate::api::types::{App, AppState, Changed, Revisions};
use crate::config::settings::Settings;
use crate::intent::Hold;
use crate::names::Generation;

struct Nobody;
impl crate::config::Accounts for Nobody {
    fn user(&self, _: &str) -> std::io::Result<Option<u32>> {
        Ok(None)
    }
    fn group(&self, _: &str) -> std::io::Result<Option<u32>> {
        Ok(None)
    }
}

fn settings(toml: &str) -> Settings {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cluster.toml");
    std::fs::write(&path, toml).unwrap();
    crate::config::load(&path, &Nobody).unwrap_or_else(|why| panic!("{toml}: {}", why.render(false))).settings
}

/// `[apps.NAME]` with two workers and what else is written.
fn written(name: &str, more: &str) -> String {
    let workers = if more.contains("workers") { "" } else { "workers = 2\n" };
    let command = if more.contains("command") { "" } else { "command = \"/bin/true\"\n" };
    format!("[apps.{name}]\n{workers}{command}{more}\n")
}

/// The plan of what is written now, where this was installed before.
fn plan_after(before: &Settings, new: &Settings, running: &[App]) -> Vec<Line> {
    plan(Some(before), &new.following(Some(before), |_| None), running, 2)
}

fn named(name: &str, mut app: App) -> App {
    app.name = name.parse().unwrap();
    app
}

#[test]
fn five_things_at_once_each_with_its_reason() {
    let before = settings(&(written("api", "") + &written("bg", "") + &written("old", "") + &written("web", "")));
    let new = settings(
        &[
            written("api", "command = \"/bin/false\"\nenv = { A = \"secret\" }"),
            written("bg", "workers = 4"),
            written("cron", ""),
            written("web", ""),
            written("lazy", "listen = \"/run/lazy\"\non_demand = true"),
        ]
        .concat(),
    );
    let running = ["api", "bg", "old", "web"].map(|name| named(name, app(AppState::Running, &[1, 2])));
    let lines = plan_after(&before, &new, &running);
    let told: Vec<String> = lines.iter().map(|line| format!("{}: {}", line.app, line.text)).collect();
    assert_eq!(
        told,
        [
            "api: reload, its command and env changed",
            "bg: 2 -> 4 workers",
            "cron: new, starts",
            "lazy: new, listens; the first connection starts it",
            "web: unchanged",
            "old: gone, stops",
        ]
    );
    let asked: Vec<&str> = lines.iter().filter(|line| line.ask == Some(Ask::Apply)).map(|line| line.app.as_str()).collect();
    assert_eq!(asked, ["api", "bg", "cron", "lazy"], "the others are not even asked for");
    assert!(!serde_json::to_string(&lines).unwrap().contains("secret"));
}

#[test]
fn each_step_has_its_words() {
    let of = |serves: Option<u64>, failed: Option<u64>, app: App| App { revisions: Revisions { serves, failed, installed: 0 }, ..app };
    let held = |app: App| App { held: Some(Hold::new(1, "no", Generation(4))), ..app };
    let up = || app(AppState::Running, &[1, 2]);
    // How it stands, what was installed, what shall be, what is said, whether its next start takes a change.
    let cases = [
        (up(), "", "", "unchanged", false),
        (up(), "", "limits = { CPUWeight = 7 }\ntimeout.kill = \"1s\"", "its workers go on; changed: timeout, limits", false),
        (up(), "", "env = { A = \"1\" }\nworkers = 3", "reload, its env changed, 2 -> 3 workers", false),
        (up(), "", "cwd = \"/usr\"\nenv = { A = \"1\" }", "reload, its cwd and env changed", false),
        (of(None, None, up()), "", "", "reload, its configuration changed since generation 3", false),
        (app(AppState::Running, &[1, 5]), "", "", "api:02 come, api:05 go", false),
        (app(AppState::Running, &[1, 2, 3]), "", "", "3 -> 2 workers", false),
        (up(), "", "workers = 0", "0 workers, stops", false),
        (app(AppState::Stopped, &[]), "workers = 0", "workers = 2", "0 -> 2 workers, starts", false),
        (app(AppState::Stopped, &[]), "", "", "stopped, stays so", false),
        (app(AppState::Stopped, &[]), "", "env = { A = \"1\" }", "stopped, stays so; its next start takes what changed (env)", true),
        (of(Some(0), None, app(AppState::Failed, &[])), "", "cwd = \"/usr\"", "starts again: its start failed, and its cwd changed", false),
        (of(Some(0), Some(0), app(AppState::Failed, &[])), "", "", "held, left alone: it failed with just this configuration", false),
        (app(AppState::Rolling, &[1, 2]), "", "", "a roll to it is under way", false),
        (held(of(Some(0), Some(0), up())), "", "", "held, left alone: it failed with just this configuration", false),
        (held(of(Some(0), Some(7), up())), "", "", "unchanged; no longer held: what serves is what is configured", false),
        (
            held(of(Some(0), Some(7), app(AppState::Running, &[1]))),
            "",
            "",
            "1 -> 2 workers; no longer held: what serves is what is configured",
            false,
        ),
    ];
    for (app, old, new, text, next_start) in cases {
        let lines = plan_after(&settings(&written("api", old)), &settings(&written("api", new)), std::slice::from_ref(&app));
        assert_eq!((lines.len(), lines[0].text.as_str(), lines[0].next_start), (1, text, next_start), "{old} -> {new}");
    }
    let demand = "listen = \"/run/a\"\non_demand = true";
    let swap = settings(&written("api", &format!("{demand}\nswap = false")));
    let asleep = plan_after(&settings(&written("api", demand)), &swap, &[app(AppState::Sleeping, &[])]);
    assert_eq!((asleep[0].text.as_str(), asleep[0].next_start), ("asleep, stays so; its next start takes what changed (swap)", true));
    // Without the right to install: what the master tells.
    let mut three = app(AppState::Degraded, &[1, 2]);
    three.revisions.installed = 1;
    three.changed = Some(Changed { becomes: true, keys: ["env".to_owned(), "workers".into()].into(), on_disk: false });
    (three.configured, three.generation) = (3, Some(Generation(4)));
    assert_eq!(plan_of_installed(&[three])[0].text, "reload, its env changed, 2 -> 3 workers");
    // The master is asked to forget what a person asked for, although nothing starts now.
    for (state, text) in [(AppState::Stopped, "stopped"), (AppState::Sleeping, "asleep")] {
        let scaled = App { target: 5, ..app(state, &[]) };
        let line = plan_of_installed(&[scaled]).remove(0);
        assert_eq!((line.text, line.ask), (format!("{text}, stays so; next start: 5 -> 2 workers"), Some(Ask::Apply)));
        assert_eq!(plan_of_installed(&[app(state, &[])])[0].ask, None);
    }
    let mut other = app(AppState::Stopped, &[1, 5]);
    other.workers[1].unit = None;
    assert_eq!(plan_of_installed(&[other])[0].text, "stopped, stays so; next start: the workers that are configured");
    let none = settings(&written("api", "workers = 0"));
    let woken = plan_after(&none, &settings(&written("api", "")), &[app(AppState::Stopped, &[])]);
    assert_eq!(woken[0].ask, Some(Ask::Wake));
    assert_eq!(woken[0].step, "start");
}

#[test]
fn what_is_changed_back_before_a_roll_is_unchanged_and_afterwards_is_one() {
    let env = |value: &str| settings(&written("api", &format!("env = {{ A = \"{value}\" }}")));
    let (a, b) = (env("a"), env("b"));
    let installed = b.following(Some(&a), |_| None);
    let serving = |serves: u64| {
        let revisions = Revisions { installed: 1, serves: Some(serves), failed: None };
        App { revisions, ..app(AppState::Running, &[1, 2]) }
    };
    let said = |new: &Settings, serves: u64| plan_after(&installed, new, &[serving(serves)]).remove(0).text;
    assert_eq!(said(&b, 0), "reload, its env changed");
    assert_eq!(said(&a, 0), "unchanged");
    assert_eq!(said(&b, 1), "unchanged");
    assert_eq!(said(&a, 1), "reload, its env changed");
    assert_eq!(said(&env("c"), 0), "reload, its env changed");
}
