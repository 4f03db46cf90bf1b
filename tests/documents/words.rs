//! No document and no message names a verb or an option that the program does not have.

use std::path::Path;

use clap::Parser as _;
use clap::error::ErrorKind;
use project_cluster::cli::args::Cli;
use pulldown_cmark::{Event, Options, Parser};

use crate::{cli, documents, repository};

/// What stands for something in a usage or in a message.
const PLACEHOLDERS: [(&str, &str); 14] = [
    ("SEL", "api"),
    ("APP", "api"),
    ("TYPE", "api"),
    ("UID", "api:01"),
    ("N", "2"),
    ("DIR", "/x"),
    ("FILE", "/x"),
    ("TIME", "30s"),
    ("NAME", "shop"),
    ("VERB", "ls"),
    ("SHELL", "bash"),
    ("PATTERN", "x"),
    ("ROLE", "view"),
    ("COMMAND", "ls"),
];
/// What `{}` of a message may become.
const FILLED: [&str; 5] = ["api", "api:01", "2", "start", "view"];

/// The commands that a usage stands for: without what is in brackets, and with each bracket alone.
fn spelled_out(usage: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut options: Vec<(usize, String)> = Vec::new();
    let mut rest = usage;
    while let Some((before, bracket)) = rest.split_once('[') {
        plain.push_str(before);
        let Some((inside, after)) = bracket.split_once(']') else { break };
        options.push((plain.len(), inside.to_owned()));
        rest = after;
    }
    plain.push_str(rest);
    let with = options.iter().map(|(at, inside)| format!("{} {inside} {}", &plain[..*at], &plain[*at..]));
    std::iter::once(plain.clone()).chain(with).collect()
}

/// Whether the program would take these words; what it says where not.
fn parses(command: &str) -> Result<(), String> {
    // What follows is the shell's.
    let command = command.split(['|', '>', ';', '#', '&']).next().unwrap();
    let words = shell_words::split(command).map_err(|why| why.to_string())?;
    let mut words: Vec<String> = words
        .into_iter()
        .skip_while(|word| word == "sudo")
        .map(|word| {
            let word = word.trim_end_matches("...").trim_end_matches('…').to_owned();
            PLACEHOLDERS.iter().find(|(name, _)| *name == word).map_or(word, |(_, value)| (*value).to_owned())
        })
        .filter(|word| !word.is_empty())
        .collect();
    // The program's inner commands, which unit files have, are parsed by nobody here.
    if words.get(1).is_some_and(|word| matches!(word.as_str(), "worker" | "drain" | "handle" | "master")) {
        return Ok(());
    }
    if words.len() == 1 {
        words.push("--help".into());
    }
    match Cli::try_parse_from(&words) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => Ok(()),
        // A verb alone, or one behind `token`, is its name; with options it is a command.
        Err(error)
            if matches!(error.kind(), ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand)
                && (words.len() == 2 || words.len() == 3 && words[1] == "token") =>
        {
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Whether what a message becomes is a command, whatever its braces are filled with.
fn parses_filled(message: &str) -> Result<(), String> {
    let mut candidates = vec![message.to_owned()];
    while candidates[0].contains('{') {
        candidates = candidates
            .iter()
            .flat_map(|text| {
                let (before, rest) = text.split_once('{').unwrap();
                let after = rest.split_once('}').map_or("", |(_, after)| after);
                FILLED.map(|value| format!("{before}{value}{after}"))
            })
            .collect();
    }
    let refusals: Vec<String> = candidates.iter().filter_map(|text| parses(text).err()).collect();
    if refusals.len() < candidates.len() { Ok(()) } else { Err(refusals.into_iter().next().unwrap()) }
}

fn is_command(code: &str, verbs: &[String]) -> Option<String> {
    if code.strip_prefix("sudo ").unwrap_or(code).starts_with("project-cluster ") {
        return Some(code.to_owned());
    }
    // In a table the program's name goes without saying.
    let (first, rest) = code.split_once(' ')?;
    let worded = verbs.iter().any(|verb| verb == first) && !rest.starts_with(['=', '.', '"']);
    worded.then(|| format!("project-cluster {code}"))
}

#[test]
fn every_command_in_the_documents_is_one() {
    let command = cli::command();
    let verbs: Vec<String> =
        command.get_subcommands().flat_map(|verb| verb.get_name_and_visible_aliases()).map(ToOwned::to_owned).collect();
    let mut wrong = Vec::new();
    let mut count = 0;
    for (path, markdown) in documents() {
        for event in Parser::new_ext(&markdown, Options::ENABLE_TABLES) {
            let Event::Code(code) = event else { continue };
            let Some(usage) = is_command(&code, &verbs) else { continue };
            count += 1;
            wrong.extend(spelled_out(&usage).iter().filter_map(|text| parses(text).err()).map(|why| format!("{path}: `{code}`: {why}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 40, "the documents name commands: {count}");
}

#[test]
fn every_command_in_a_message_is_one() {
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut rooms = vec![repository("src")];
    while let Some(room) = rooms.pop() {
        for entry in std::fs::read_dir(&room).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                rooms.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let (found, bad) = of(&path);
                count += found;
                wrong.extend(bad);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 60, "messages end with a command: {count}");
}

/// How many commands a source has between backticks, and those that are none.
fn of(path: &Path) -> (usize, Vec<String>) {
    let source = std::fs::read_to_string(path).unwrap();
    // A string that goes on in the next line.
    let mut text = String::new();
    for (at, part) in source.split("\\\n").enumerate() {
        text.push_str(if at == 0 { part } else { part.trim_start() });
    }
    let mut wrong = Vec::new();
    let mut count = 0;
    for start in ["`project-cluster ", "`sudo project-cluster "] {
        for (at, _) in text.match_indices(start) {
            let Some((message, _)) = text[at + 1..].split_once('`') else { continue };
            count += 1;
            let refused = spelled_out(message).iter().filter_map(|text| parses_filled(text).err()).next();
            wrong.extend(refused.map(|why| format!("{}: `{message}`: {why}", path.display())));
        }
    }
    (count, wrong)
}

#[test]
fn a_verb_an_option_or_an_app_that_is_none_is_found() {
    for good in ["project-cluster install [--diff] [--now] [--root DIR]", "sudo project-cluster add APP [N]", "project-cluster ls"] {
        assert!(spelled_out(good).iter().all(|text| parses(text).is_ok()), "{good}");
    }
    for bad in ["project-cluster relaod api", "project-cluster reload --soon api", "project-cluster scale api [many]"] {
        assert!(spelled_out(bad).iter().any(|text| parses(text).is_err()), "{bad}");
    }
    assert!(parses_filled("project-cluster {verb} {name}").is_ok() && parses_filled("project-cluster show {name} --all").is_err());
}
