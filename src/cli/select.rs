//! What was typed for SEL, and what it chooses: `all`, an app (`api`) or a worker (`api:01`), several of them.
//!
//! Pure. What chooses nothing is an error that names the nearest; of several all are told.

use super::Failure;
use crate::api::types::{App, Worker};
use crate::journal::harmless;
use crate::names::Uid;

/// What one selector chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    App(String),
    Worker(Uid),
}

impl Choice {
    pub fn is_of(&self, app: &App) -> bool {
        match self {
            Self::App(name) => app.name.as_str() == name,
            Self::Worker(uid) => app.name == uid.app,
        }
    }
    pub fn has(&self, row: &Worker) -> bool {
        match self {
            Self::App(name) => row.app.as_str() == name,
            Self::Worker(uid) => row.uid == *uid,
        }
    }
}

/// What the selectors choose.
pub(crate) fn selection(apps: &[App], select: &[String]) -> Result<Vec<Choice>, Failure> {
    choose(apps, select, |uid| apps.iter().flat_map(|app| &app.workers).any(|row| row.uid == *uid))
}

/// The same where the past is asked for: a worker that was removed has one, too.
pub(crate) fn past_selection(apps: &[App], select: &[String]) -> Result<Vec<Choice>, Failure> {
    choose(apps, select, |_| true)
}

fn choose(apps: &[App], select: &[String], there: impl Fn(&Uid) -> bool) -> Result<Vec<Choice>, Failure> {
    let (mut chosen, mut wrong) = (Vec::new(), Vec::new());
    for text in select {
        let app = text.split(':').next().unwrap_or(text);
        if text == "all" {
            chosen.extend(apps.iter().map(|app| Choice::App(app.name.to_string())));
        } else if !apps.iter().any(|known| known.name.as_str() == app) {
            wrong.push(unknown(apps, text));
        } else if !text.contains(':') {
            chosen.push(Choice::App(app.to_owned()));
        } else {
            match text.parse::<Uid>() {
                Ok(uid) if there(&uid) => chosen.push(Choice::Worker(uid)),
                Ok(uid) => wrong.push(absent(apps, &uid)),
                Err(why) => wrong.push(format!("`{}`: {why}", harmless(text))),
            }
        }
    }
    if wrong.is_empty() {
        return Ok(chosen);
    }
    wrong.dedup();
    Err(Failure::Usage(wrong.join("\n")))
}

/// The apps that the selectors choose, each once; a single worker is refused.
pub(crate) fn app_names(apps: &[App], select: &[String]) -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = Vec::new();
    for choice in selection(apps, select)? {
        match choice {
            Choice::App(name) if names.contains(&name) => {}
            Choice::App(name) => names.push(name),
            Choice::Worker(uid) => {
                return Err(Failure::Usage(format!("`{uid}` is one worker; this verb takes apps. Write `{}`, or `all`", uid.app)));
            }
        }
    }
    Ok(names)
}

/// Of a text whose app there is not.
fn unknown(apps: &[App], text: &str) -> String {
    let (name, slot) = text.split_once(':').map_or((text, String::new()), |(name, slot)| (name, format!(":{slot}")));
    let near = apps.iter().map(|app| (strsim::damerau_levenshtein(app.name.as_str(), name), app.name.as_str()));
    // Two letters, and of a short name not all of it.
    let nearest = near.filter(|(far, known)| *far <= 2 && *far < known.len().max(2)).min();
    let hint = nearest.map_or_else(String::new, |(_, nearest)| format!(" Did you mean `{nearest}{}`?", harmless(&slot)));
    let names: Vec<&str> = apps.iter().map(|app| app.name.as_str()).collect();
    let known =
        if names.is_empty() { "none: `sudo project-cluster apply` brings those of the configuration".into() } else { names.join(", ") };
    format!("there is no app `{}`.{hint} Apps: {known}", harmless(name))
}

/// Of a worker that there is not.
fn absent(apps: &[App], uid: &Uid) -> String {
    let rows = apps.iter().flat_map(|app| &app.workers).filter(|row| row.app == uid.app);
    let nearest = rows.min_by_key(|row| row.slot.abs_diff(uid.slot.get()));
    let hint = nearest.map_or_else(String::new, |row| format!(", the nearest is `{}`", row.uid));
    format!("there is no worker `{uid}`{hint}. `project-cluster ls {}` lists them", uid.app)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::converge::tests::app;
    use crate::api::types::AppState;

    fn apps() -> Vec<App> {
        let api = app(AppState::Running, &[1, 2]);
        let mut bg = app(AppState::Stopped, &[]);
        bg.name = "background".parse().unwrap();
        vec![api, bg]
    }

    fn wrong(select: &[&str]) -> String {
        let select: Vec<String> = select.iter().map(|text| (*text).to_owned()).collect();
        match selection(&apps(), &select) {
            Err(Failure::Usage(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_typo_names_the_nearest_and_several_are_all_told() {
        assert_eq!(wrong(&["apj"]), "there is no app `apj`. Did you mean `api`? Apps: api, background");
        assert!(wrong(&["apj:02"]).contains("Did you mean `api:02`?"));
        assert!(wrong(&["zzz"]).starts_with("there is no app `zzz`. Apps: "));
        assert_eq!(wrong(&["api:09"]), "there is no worker `api:09`, the nearest is `api:02`. `project-cluster ls api` lists them");
        let all = wrong(&["apj", "backgruond", "api:01", "api:07", "api:x"]);
        for said in ["`apj`", "Did you mean `background`?", "`api:07`", "`api:x`: ", "Apps: api, background"] {
            assert!(all.contains(said), "{said}: {all}");
        }
        assert!(!wrong(&["a\u{1b}[2J"]).contains('\u{1b}'));
    }

    #[test]
    fn what_is_chosen() {
        let select = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let chosen = selection(&apps(), &select(&["api:02", "background"]));
        assert_eq!(chosen.ok(), Some(vec![Choice::Worker("api:02".parse().unwrap()), Choice::App("background".into())]));
        assert_eq!(app_names(&apps(), &select(&["api", "all"])).ok(), Some(select(&["api", "background"])));
        assert!(past_selection(&apps(), &select(&["api:77"])).is_ok() && selection(&[], &select(&["api"])).is_err());
    }
}
