//! `docs/cli.md`: each verb and option is what the program's own parser has.

use clap::{Arg, Command, CommandFactory};
use project_cluster::cli::args::Cli;

use crate::{between, committed, row};

/// The definition, with what clap fills in by itself.
pub fn command() -> Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// How people write an option or a word: `-n, --lines N`, `SEL...`.
fn form(arg: &Arg) -> String {
    let value = arg.get_value_names().map(|names| names.join(" ")).unwrap_or_default();
    let many = if arg.get_num_args().is_some_and(|number| number.max_values() > 1) { "..." } else { "" };
    let mut forms = Vec::new();
    forms.extend(arg.get_short().map(|short| format!("-{short}")));
    forms.extend(arg.get_long().map(|long| format!("--{long}")));
    let takes = arg.get_action().takes_values();
    match (forms.is_empty(), takes) {
        (true, _) => format!("{value}{many}"),
        (false, true) => format!("{} {value}{many}", forms.join(", ")),
        (false, false) => forms.join(", "),
    }
}

/// One row for each option or word.
fn rows<'a>(args: impl Iterator<Item = &'a Arg>) -> String {
    let mut out = String::new();
    for arg in args.filter(|arg| !arg.is_hide_set()) {
        let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        assert!(!help.is_empty(), "{} says what it is for", arg.get_id());
        let takes = arg.get_action().takes_values();
        let values: Vec<String> =
            arg.get_possible_values().iter().filter(|_| takes).map(|value| format!("`{}`", value.get_name())).collect();
        if !values.is_empty() {
            help.push_str(&format!("; one of {}", values.join(", ")));
        }
        let defaults: Vec<String> = arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
        if takes && !defaults.is_empty() {
            help.push_str(&format!(" [default: {}]", defaults.join(" ")));
        }
        out.push_str(&row(&[format!("`{}`", form(arg)), help]));
    }
    if out.is_empty() { out } else { format!("| | |\n|---|---|\n{out}\n") }
}

fn verbs() -> String {
    let command = command();
    let mut out = String::from("### Options of every verb\n\n");
    out.push_str(&rows(command.get_arguments()));
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        out.push_str(&told(verb, verb.get_name()));
        for inner in verb.get_subcommands() {
            out.push_str(&told(inner, &format!("{} {}", verb.get_name(), inner.get_name())));
        }
    }
    out
}

/// A verb, or what stands behind one.
fn told(verb: &Command, name: &str) -> String {
    let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
    assert!(!about.is_empty(), "{name} says what it is for");
    let aliases: Vec<String> = verb.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
    let aliases = if aliases.is_empty() { String::new() } else { format!(" Also {}.", aliases.join(", ")) };
    let usage = verb.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).trim();
    let own = verb.get_arguments().filter(|arg| !arg.is_global_set() && arg.get_id() != "help");
    format!("### `{name}`\n\n{about}.{aliases}\n\n```text\n{usage}\n```\n\n{}", rows(own))
}

#[test]
fn the_verbs_are_those_of_the_program() {
    committed("docs/cli.md", |current| between(current, "verbs", &verbs()));
}
