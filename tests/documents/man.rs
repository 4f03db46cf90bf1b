//! The man pages, made from the documents; `make install` puts them where `man` looks.

use std::process::{Command, Stdio};

use crate::roff::roff;
use crate::{cli, committed, repository, text};

/// Of the release, `2026-11-24`: a page that changed with the day it was made on could not be compared. The changelog has it
/// as `Tue, 24 Nov 2026 12:00:00 +0000`.
fn date() -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let changelog = text("packaging/changelog");
    let newest = changelog.lines().find(|line| line.starts_with(" -- ")).unwrap();
    let (_, when) = newest.rsplit_once(", ").unwrap();
    let [day, month, year] = when.split(' ').take(3).collect::<Vec<_>>().try_into().unwrap();
    let month = MONTHS.iter().position(|name| *name == month).unwrap() + 1;
    format!("{year}-{month:02}-{day:0>2}")
}

fn head(name: &str, section: u8, about: &str) -> String {
    let (version, date) = (env!("CARGO_PKG_VERSION"), date());
    format!(
        ".\\\" Made from docs/ by `make man`.\n.TH {} {section} {date} \"project-cluster {version}\" \"project-cluster\"\n.SH NAME\n{name} \\- {about}\n",
        name.to_uppercase()
    )
}

/// The sections of a document with these headings.
fn sections(path: &str, titles: &[&str]) -> String {
    let document = text(path);
    let of = |title: &&str| {
        let heading = format!("## {title}\n");
        let (_, rest) = document.split_once(&format!("\n{heading}")).unwrap_or_else(|| panic!("{path} has no section `{title}`"));
        format!("{heading}{}\n", rest.split("\n## ").next().unwrap())
    };
    titles.iter().map(of).collect()
}

fn see_also(pages: &str) -> String {
    format!(
        ".SH \"SEE ALSO\"\n{pages},\n.BR systemctl (1),\n.BR journalctl (1),\n.BR systemd.socket (5)\n.PP\nThe documents: {}\n",
        "/usr/local/share/doc/project\\-cluster"
    )
}

fn pages() -> [(&'static str, String); 3] {
    let about = cli::command().get_about().unwrap().to_string();
    let about = about.trim_end_matches('.');
    let one = head("project-cluster", 1, about)
        + ".SH SYNOPSIS\n.B project\\-cluster\n[\\fIOPTIONS\\fR] \\fIVERB\\fR [\\fISEL\\fR...]\n.SH DESCRIPTION\n"
        + &roff(&text("docs/cli.md"))
        + &see_also(".BR project-cluster.toml (5),\n.BR project-cluster (7)");
    let five = head("project-cluster.toml", 5, "what a cluster consists of, and how it is run")
        + ".SH DESCRIPTION\n"
        + &roff(&text("docs/config.md"))
        + &see_also(".BR project-cluster (1),\n.BR project-cluster (7)");
    let architecture =
        ["Units", "What a worker goes through", "Crash loops", "What starts which generation", "From the configuration to what runs"];
    let seven = head("project-cluster", 7, "how it works, and how a cluster is operated")
        + &roff(&sections("README.md", &["Where it does not run, and why"]))
        + &roff(&sections("docs/architecture.md", &architecture))
        + &roff(&sections(
            "docs/operations.md",
            &["Workers, one and many", "A changed configuration", "What happened", "What survives what", "Held"],
        ))
        + &see_also(".BR project-cluster (1),\n.BR project-cluster.toml (5)");
    [("project-cluster.1", one), ("project-cluster.toml.5", five), ("project-cluster.7", seven)]
}

/// Runs a checker on a page; all that it says is a failure.
fn clean(page: &str, program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .arg(repository("packaging/man").join(page))
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|why| panic!("{program}: {why}; tests/setup.sh installs it"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{program} {arguments:?} of {page}:\n{said}");
}

#[test]
fn the_man_pages_are_the_documents_and_no_reader_complains() {
    for (name, page) in pages() {
        committed(&format!("packaging/man/{name}"), |_| page.clone());
        clean(name, "mandoc", &["-T", "lint", "-W", "warning"]);
        clean(name, "groff", &["-ww", "-z", "-K", "utf8", "-T", "utf8", "-man"]);
    }
}

#[test]
fn a_reader_finds_every_verb_and_every_key() {
    let shown = |page: &str| {
        let output =
            Command::new("mandoc").args(["-T", "utf8", "-O", "width=200"]).arg(repository("packaging/man").join(page)).output().unwrap();
        // Bold is a letter, a backspace and the letter again.
        let text = String::from_utf8(output.stdout).unwrap();
        let chars: Vec<char> = text.chars().collect();
        (0..chars.len()).filter(|at| chars[*at] != '\u{8}' && chars.get(at + 1) != Some(&'\u{8}')).map(|at| chars[at]).collect::<String>()
    };
    let one = shown("project-cluster.1");
    let command = cli::command();
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        assert!(one.lines().any(|line| line.trim() == verb.get_name()), "{} is a heading", verb.get_name());
        for long in verb.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(|arg| arg.get_long()) {
            assert!(one.contains(&format!("--{long}")), "--{long}");
        }
    }
    let five = shown("project-cluster.toml.5");
    for key in ["workers", "max_surge", "success_exit_codes", "backlog", "syscalls"] {
        assert!(five.lines().any(|line| line.split_whitespace().next() == Some(key)), "{key} is a tag:\n{five}");
    }
}
