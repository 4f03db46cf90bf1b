//! Any string in command, directory and environment reaches the process unchanged, through units, pins and a real systemd.

use std::path::Path;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

use super::cluster::{Cluster, installed};

/// Apps a systemd, and systemds. One app is one case.
const APPS: usize = 16;
const ROUNDS: usize = 2;

/// What one app is given.
#[derive(Debug, Clone)]
struct Given {
    directory: String,
    arguments: Vec<String>,
    environment: std::collections::BTreeMap<String, String>,
    /// Written as one string, quoted for a shell, instead of as an array.
    as_line: bool,
}

/// Text in which everything that some layer gives a meaning comes up often.
fn text() -> impl Strategy<Value = String> {
    let special = [
        "%",
        "%%",
        "%i",
        "%n",
        "%h",
        "$",
        "$$",
        "$HOME",
        "${PATH}",
        "$(id)",
        "`id`",
        "\\",
        "\\n",
        "\\x20",
        "\"",
        "'",
        " ",
        "  ",
        "\t",
        "\n",
        "\r",
        "#",
        ";",
        " ; ",
        "=",
        "-",
        "--",
        "@",
        "+",
        "!",
        ":",
        "~",
        "*",
        "?",
        "[",
        "{",
        "}",
        "<",
        ">",
        "|",
        "&",
        "ä",
        "é",
        "中",
        "🦀",
        "\u{301}",
        "\u{202e}",
        "\u{feff}",
        "\u{7f}",
        "\u{1}",
        "\u{1b}[31m",
        "\u{85}",
        "{type}",
        "a",
        "Z",
        "0",
    ];
    let piece = prop_oneof![3 => proptest::sample::select(special.to_vec()).prop_map(String::from), 1 => any::<char>().prop_filter("no program can be given a NUL", |c| *c != '\0').prop_map(String::from)];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn given() -> impl Strategy<Value = Given> {
    let name = text()
        .prop_map(|name| name.replace('/', "-"))
        .prop_filter("a name of a directory", |name| !["", ".", ".."].contains(&name.as_str()));
    (name, vec(text(), 0..5), btree_map("[A-Za-z_][A-Za-z0-9_]{0,6}", text(), 0..4), any::<bool>()).prop_map(
        |(name, arguments, environment, as_line)| Given {
            directory: format!("/srv/bytes/{name}"),
            arguments,
            // A prefix, so that none is a name of systemd's or of ours.
            environment: environment.into_iter().map(|(name, value)| (format!("T_{name}"), value)).collect(),
            as_line,
        },
    )
}

/// The program is named by its directory, so that the first word is a random one, too.
fn command(given: &Given) -> Vec<String> {
    let script = "while :; do sleep 1000; done".to_owned();
    [vec![format!("{}/sh", given.directory), "-c".into(), script], given.arguments.clone()].concat()
}

fn toml(index: usize, given: &Given) -> String {
    let string = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let words = command(given);
    let command = if given.as_line {
        // `{type}` is replaced in the short form alone; here it is no different from other text.
        string(&shell_words::join(&words))
    } else {
        format!("[{}]", words.iter().map(|word| string(word)).collect::<Vec<_>>().join(", "))
    };
    let mut text =
        format!("[apps.b{index}]\ncommand = {command}\ncwd = {}\nready = \"none\"\nreload.min_ready = \"1ms\"\n", string(&given.directory));
    text += "[apps.b";
    text += &format!("{index}.env]\n");
    for (name, value) in &given.environment {
        text += &format!("{name} = {}\n", string(value));
    }
    text
}

/// A file of /proc, its NUL-terminated strings.
fn strings(cluster: &Cluster, path: &str) -> Vec<String> {
    let text = cluster.read(path);
    text.strip_suffix('\0').unwrap_or(&text).split('\0').map(String::from).collect()
}

#[test]
fn random_strings_reach_the_process_unchanged() {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let cluster = installed("");
    for round in 0..ROUNDS {
        let apps = vec(given(), APPS).new_tree(&mut runner).unwrap().current();
        for app in &apps {
            cluster.run(&["mkdir", "-p", "--", &app.directory]).ok();
            cluster.run(&["ln", "-sfn", "/bin/sh", &Path::new(&app.directory).join("sh").display().to_string()]).ok();
        }
        let config: String = apps.iter().enumerate().map(|(index, app)| toml(index, app)).collect();
        cluster.config(&config);
        let installed = cluster.cli(&["install", "--now"]);
        assert_eq!(installed.code, 0, "{installed:?}\n{config}");
        for (index, app) in apps.iter().enumerate() {
            let unit = format!("project-cluster-b{index}@1.1.1.service");
            let pid = cluster.main_pid(&unit).unwrap_or_else(|| panic!("{unit} does not run: {app:?}"));
            assert_eq!(strings(&cluster, &format!("/proc/{pid}/cmdline")), command(app), "round {round}: {app:?}");
            let environment = strings(&cluster, &format!("/proc/{pid}/environ"));
            for (name, value) in &app.environment {
                let variable = format!("{name}={value}");
                assert!(environment.contains(&variable), "round {round}: {variable:?} in {environment:?}");
            }
            assert_eq!(environment.iter().filter(|variable| variable.starts_with("T_")).count(), app.environment.len(), "{environment:?}");
            let cwd = cluster.run(&["readlink", "-n", &format!("/proc/{pid}/cwd")]).exits(0).stdout;
            assert_eq!(cwd, app.directory, "round {round}");
        }
        // None of it is taken for a unit's syntax.
        assert_eq!(cluster.units("project-cluster*", &["failed"]), Vec::<String>::new());
        assert!(!cluster.journal(&["-p", "warning"]).contains("/etc/systemd/system/project-cluster"), "systemd complains of no line");
        cluster.cli(&["uninstall"]).ok();
    }
}
