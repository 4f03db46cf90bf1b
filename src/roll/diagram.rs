//! Both state machines of a roll as data: the drawing in `docs/roll.md` is made from it, and every step that the code
//! takes in a debug build is held against it.
//!
//! Pure. A test draws, another walks thousands of random histories and finds each edge walked: the drawing has none
//! too few and none too many.

use super::machine::Phase;
use super::stage::Stage;

/// An edge: from, why, to.
pub type Edge = (&'static str, &'static str, &'static str);

/// The edges of [`Phase`].
pub const PHASES: &[Edge] = &[
    ("Forward", "every slot is served by a soaked new worker, the old ones are on their way down", "AllNew"),
    ("Forward", "abort; a new worker fails or ends; an old one cannot be stopped; deadline", "Back"),
    ("Forward", "pause; the same failures where on_failure = pause", "Paused"),
    ("Forward", "the handle leaves active", "Overtaken"),
    ("Paused", "resume", "Forward"),
    ("Paused", "abort", "Back"),
    ("Paused", "the handle leaves active", "Overtaken"),
    ("Back", "the new ones are on their way down, every slot that was emptied is served again", "AllOld"),
    ("Back", "a fresh old worker fails; a new one cannot be stopped; deadline", "Mixed"),
    ("Back", "the handle leaves active", "Overtaken"),
];

/// The edges of [`Stage`].
pub const WORKERS: &[Edge] = &[
    ("Starting", "ready", "Up"),
    ("Starting", "failed start, it will be restarted", "Away"),
    ("Starting", "failed start", "Gone"),
    ("Starting", "stop asked", "Stopping"),
    ("Up", "ended, it will be restarted", "Away"),
    ("Up", "ended or stopped by somebody", "Gone"),
    ("Up", "somebody else asked it to stop", "Leaving"),
    ("Up", "stop asked", "Stopping"),
    ("Away", "ready again", "Up"),
    ("Away", "stopped by somebody", "Gone"),
    ("Away", "somebody else asked it to stop", "Leaving"),
    ("Away", "stop asked", "Stopping"),
    ("Stopping", "seen on its way down", "Leaving"),
    ("Stopping", "stopped", "Gone"),
    ("Stopping", "the stop was lost or refused", "Up"),
    ("Stopping", "the stop was lost or refused", "Away"),
    ("Leaving", "stopped", "Gone"),
    ("Leaving", "started by somebody", "Up"),
    ("Leaving", "started by somebody", "Away"),
    ("Gone", "started by somebody", "Up"),
    ("Gone", "started by somebody", "Away"),
];

/// Holds a step of the roll against the drawing, in debug builds.
pub(super) fn check_phase(from: &Phase, to: &Phase) {
    check(PHASES, from.name(), to.name());
}

/// Holds a step of a worker against the drawing, in debug builds. Staying where it is is no step.
pub(super) fn check_worker(from: Stage, to: Stage) {
    if from.name() != to.name() {
        check(WORKERS, from.name(), to.name());
    }
}

fn check(edges: &[Edge], from: &'static str, to: &'static str) {
    debug_assert!(edges.iter().any(|edge| (edge.0, edge.2) == (from, to)), "{from} -> {to} is not in the drawing");
    #[cfg(test)]
    tests::WALKED.with_borrow_mut(|walked| walked.insert((from, to)));
}

/// The drawing, in Mermaid's language.
pub fn mermaid(edges: &[Edge]) -> String {
    let mut text = String::from("```mermaid\nstateDiagram-v2\n");
    for (from, why, to) in edges {
        // A semicolon ends a statement in Mermaid.
        text.push_str(&format!("    {from} --> {to}: {}\n", why.replace(';', ",")));
    }
    text.push_str("```\n");
    text
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;

    thread_local! {
        /// The edges that this thread's rolls have walked.
        pub(in crate::roll) static WALKED: RefCell<BTreeSet<(&'static str, &'static str)>> = const { RefCell::new(BTreeSet::new()) };
    }

    /// `UPDATE_DOCS=1` writes the drawings anew.
    #[test]
    fn the_document_shows_what_the_code_does() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/roll.md");
        let document = std::fs::read_to_string(path).unwrap();
        let mut expected = document.clone();
        for (mark, edges) in [("phases", PHASES), ("workers", WORKERS)] {
            let (begin, end) = (format!("<!-- {mark}: made from src/roll/diagram.rs -->\n"), format!("<!-- end of {mark} -->"));
            let (head, rest) = expected.split_once(&begin).expect("the mark where the drawing begins");
            let (_, tail) = rest.split_once(&end).expect("the mark where the drawing ends");
            expected = format!("{head}{begin}{}{end}{tail}", mermaid(edges));
        }
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &expected).unwrap();
        } else {
            assert!(document == expected, "docs/roll.md is behind src/roll/diagram.rs: run this test with UPDATE_DOCS=1");
        }
    }
}
