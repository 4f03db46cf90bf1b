//! What is explored, and what came of it: `docs/explored.md`, which a run writes (`UPDATE_DOCS=1`) and holds itself against.
//!
//! `EXPLORE=deep` explores what takes many minutes, `EXPLORE=few` what takes seconds.

use std::fmt::Write as _;

use crate::moves::Blow;
use crate::search::explore;
use crate::state::{Old, Setting};

/// Kinds of blows, as the document has them.
const ANY: &str = "any";

/// The world of the issue: 4 slots, surge 2, unavailable 1.
fn four(blows: &'static [Blow]) -> Setting {
    Setting { kinds: blows, ..Setting::of(4, 2, 1, 1) }
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
    ]
}

fn quick() -> Vec<Setting> {
    let mut all = few();
    all.push(Setting { blows: 0, ..four(&Blow::ALL) });
    all
}

fn deep() -> Vec<Setting> {
    vec![
        Setting::of(3, 1, 0, 1),
        Setting::of(2, 1, 0, 2),
        four(&[Blow::Death, Blow::Abort, Blow::Stop, Blow::Late]),
        four(&[Blow::Hurt]),
        four(&[Blow::Bus]),
        four(&[Blow::Resize]),
        four(&[Blow::Reload]),
        Setting::of(3, 2, 1, 1),
        Setting::of(2, 1, 1, 2),
        Setting::of(1, 1, 0, 3),
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
        format!("{slots}{more}, surge {}, unavailable {}; {blows}", self.surge(), self.unavailable())
    }
}
