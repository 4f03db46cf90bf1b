//! What a hostile process, user, client or file can and cannot do: each try is a row, and the rows are the tables of
//! docs/security.md, which these tests compare, or write with `UPDATE_DOCS=1` (`-j1`).

mod answers;
mod api;
mod clusters;
pub mod deploy;
mod local;
mod master;
mod worker;

use std::path::{Path, PathBuf};

use super::cluster::Cluster;
use super::support::evidence;

/// The tries of one test.
pub struct Tries {
    who: &'static str,
    rows: Vec<[String; 2]>,
    failed: Vec<String>,
}

/// One try in a process that is hostile: what it does, what must come of it, the Python that does it, and how that ends.
pub type Try = (&'static str, &'static str, String, &'static str);

impl Tries {
    /// Tries by somebody.
    pub fn by(who: &'static str) -> Self {
        Self { who, rows: Vec::new(), failed: Vec::new() }
    }

    /// One try: what was tried, what must happen, whether it did, and what was seen.
    pub fn row(&mut self, what: &str, happens: &str, holds: bool, seen: impl std::fmt::Debug) {
        self.rows.push([what.into(), happens.into()]);
        if !holds {
            self.failed.push(format!("{what}: not so: {happens}. Seen: {seen:?}"));
        }
    }

    /// Rows of a script's tries, from what it printed. `|` stands between outcomes that will do, `*` at the end for anything that
    /// begins so.
    #[track_caller]
    pub fn script(&mut self, tries: &[Try], printed: &str) {
        let line = printed.lines().find_map(|line| line.strip_prefix("TRIED ")).unwrap_or_else(|| panic!("no tries in: {printed}"));
        let seen: Vec<String> = serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
        assert_eq!(seen.len(), tries.len(), "{line}");
        for ((what, happens, code, wanted), seen) in tries.iter().zip(seen) {
            let fits = |wanted: &str| wanted.strip_suffix('*').map_or(wanted == seen, |begin| seen.starts_with(begin));
            self.row(what, happens, wanted.split('|').any(fits), format!("{code} gave {seen}, wanted {wanted}"));
        }
    }

    /// All of them went as they must, and the document says so.
    #[track_caller]
    pub fn end(self) {
        assert!(self.failed.is_empty(), "{} of {} tries of {}:\n{}", self.failed.len(), self.rows.len(), self.who, self.failed.join("\n"));
        let test = evidence::test_name().replace('.', "::");
        let mut table = format!("{} tries, by `{test}`:\n\n| tries to | what happens |\n|---|---|\n", self.rows.len());
        for row in &self.rows {
            table.push_str(&format!("| {} |\n", row.join(" | ")));
        }
        documented(&test, &table);
    }
}

/// Compares a generated part of docs/security.md, or writes it.
#[track_caller]
pub fn documented(name: &str, generated: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("docs/security.md has no {begin}"));
    let (current, after) = rest.split_once(&end).unwrap_or_else(|| panic!("docs/security.md has no {end}"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{begin}\n{generated}{end}{after}")).unwrap();
    } else {
        let differs = "docs/security.md is behind the test; UPDATE_DOCS=1 cargo nextest run -j1 'threats::' 'security::' writes it";
        assert_eq!(current, format!("\n{generated}"), "{differs}");
    }
}

/// Leaves the tries where hostile processes read them.
#[track_caller]
pub fn leave(cluster: &Cluster, tries: &[Try]) -> PathBuf {
    let path = Path::new("/srv/tries.json");
    let lines: Vec<&str> = tries.iter().map(|(_, _, code, _)| code.as_str()).collect();
    cluster.write(path, serde_json::to_string(&lines).unwrap());
    path.to_owned()
}
