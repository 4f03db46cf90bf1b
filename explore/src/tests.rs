//! What is explored, and what came of it: `docs/explored.md`, which a run writes (`UPDATE_DOCS=1`) and holds itself against.
//!
//! `EXPLORE=deep` explores what takes many minutes, `EXPLORE=few` what takes seconds.

use std::fmt::Write as _;

use crate::config::settings::{Amount, OnFailure};
use crate::moves::Blow;
use crate::search::explore;
use crate::state::{Old, Setting};

/// Kinds of blows, as the document has them.
const ANY: &str = "any";

/// The world of the issue: 4 slots, surge 2, unavailable 1, canary 1; and no room for more workers than these at once.
fn four(blows: u8) -> Setting {
    Setting::of(4, 2, 1, blows).canary(1).live(6)
}

fn odd(old: &[Old]) -> Setting {
    Setting { old: old.to_vec(), ..Setting::of(0, 1, 0, 1) }
}

/// A few, for mutants: together they find each.
fn few() -> Vec<Setting> {
    use Old::{Absent, Draining, Ill, Twice, Up};
    vec![
        Setting::of(2, 1, 0, 1),
        Setting::of(2, 0, 1, 1),
        Setting { surplus: 1, ..Setting::of(2, 1, 1, 0) },
        odd(&[Up, Absent]),
        odd(&[Ill, Up]),
        odd(&[Twice, Draining]),
        Setting::of(1, 1, 0, 2),
        Setting::of(2, 1, 0, 1).canary(1).live(3),
        Setting::of(2, 1, 0, 1).canary(2).pausing(),
        Setting { hook: true, ..Setting::of(2, 1, 1, 1).canary(1) },
        Setting::of(1, 1, 0, 2).canary(1).live(2).pausing(),
        // A worker that moves from one slot to another, and back.
        Setting { kinds: &[Blow::Abort, Blow::Resize], ..Setting::of(1, 1, 0, 3) },
    ]
}

fn quick() -> Vec<Setting> {
    let mut all = few();
    all.push(Setting { merged: false, ..Setting::of(2, 1, 0, 1).canary(1).live(3) });
    all.push(four(0));
    all.push(Setting { kinds: &[Blow::Death], ..four(1).pausing() });
    all.push(Setting::of(3, 1, 0, 1).canary(1).live(4));
    all
}

fn deep() -> Vec<Setting> {
    let of = |kinds, blows| Setting { kinds, ..four(blows).pausing() };
    vec![
        Setting::of(2, 1, 0, 2).canary(1).live(3),
        Setting::of(3, 2, 1, 1).canary(2),
        of(&[Blow::Death, Blow::Pause], 2),
        of(&[Blow::Death], 2),
        of(&[Blow::Pause], 2),
        four(1),
        four(1).pausing(),
        Setting { hook: true, ..four(1) },
    ]
}

/// One line of the document.
fn row(setting: &Setting) -> Result<String, String> {
    let found = explore(setting)?;
    eprintln!("{}: {found:?}", setting.name());
    let ends: Vec<String> = found.ends.iter().map(|(end, number)| format!("{end} {number}")).collect();
    Ok(format!("| {} | {} | {} | {} | {} |", setting.name(), found.states, found.moves, found.longest, ends.join(", ")))
}

fn explored(mark: &str, settings: &[Setting]) {
    let mut rows = String::new();
    for setting in settings {
        match row(setting) {
            Ok(row) => writeln!(rows, "{row}").unwrap(),
            Err(broken) => panic!("{}: {broken}", setting.name()),
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/explored.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (begin, end) = (format!("<!-- {mark}: made by explore/src/tests.rs -->\n"), format!("<!-- end of {mark} -->"));
    let (head, rest) = document.split_once(&begin).expect("the mark where the table begins");
    let (_, tail) = rest.split_once(&end).expect("the mark where the table ends");
    let title = "| world | states | moves | longest calm way | ends |\n|---|---|---|---|---|\n";
    let expected = format!("{head}{begin}{title}{rows}{end}{tail}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &expected).unwrap();
    } else {
        assert!(document == expected, "docs/explored.md is behind the machine: run this test with UPDATE_DOCS=1\n{rows}");
    }
}

#[test]
fn every_state_obeys_the_laws_and_every_way_ends() {
    match std::env::var("EXPLORE").as_deref() {
        Ok("deep") => explored("deep", &deep()),
        Ok("few") => few().iter().for_each(|setting| match explore(setting) {
            Ok(_) => {}
            Err(broken) => panic!("{}: {broken}", setting.name()),
        }),
        _ => explored("quick", &quick()),
    }
}

impl Setting {
    /// As the document has it.
    fn name(&self) -> String {
        let odd: Vec<String> = self.old.iter().map(|old| format!("{old:?}").to_lowercase()).collect();
        let slots = if self.old.iter().all(|old| *old == Old::Up) {
            format!("{} slot{}", odd.len(), if odd.len() == 1 { "" } else { "s" })
        } else {
            odd.join(" and ")
        };
        let more = if self.surplus > 0 { format!(", {} too many", self.surplus) } else { String::new() };
        let kinds: Vec<String> = self.kinds.iter().map(|blow| format!("{blow:?}").to_lowercase()).collect();
        let kinds = if self.kinds.len() == Blow::KINDS { ANY.to_owned() } else { kinds.join(", ") };
        let blows = if self.blows == 0 { "no blow".into() } else { format!("{} of {kinds}", self.blows) };
        let mut bounds = format!("{slots}{more}, surge {}, unavailable {}", self.surge(), self.unavailable());
        if let Amount::Count(canary @ 1..) = self.reload.canary {
            bounds.push_str(&format!(", canary {canary}"));
        }
        if let Some(Amount::Count(live)) = self.reload.max_live {
            bounds.push_str(&format!(", max_live {live}"));
        }
        let odd = [
            (self.reload.on_failure == OnFailure::Pause, ", a failure pauses"),
            (self.hook, ", a hook"),
            (!self.merged, ", no two moves in one"),
        ];
        bounds.extend(odd.into_iter().filter(|(is, _)| *is).map(|(_, words)| words));
        format!("{bounds}; {blows}")
    }
}
