//! What the documents tell people to type works: every block of `sh` is run, line by line, in order.
//!
//! A comment before a block, `<!-- test: GROUND -->`, which readers do not see, says where it and those behind it are run
//! ([`Ground`]); `<!-- test: write PATH -->` puts the next block, of any language, there. A line's own comment says how it ends
//! where that is not 0 (`# exit 2: ...`). A line that follows (`-f`) is run until it has said something.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::cluster::{Cluster, HELLO, SOON, app, installed, node};

/// Where a document's commands are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ground {
    /// `2 workers`: a cluster of an app `api`, up. What is not said otherwise.
    Workers,
    /// `a program`: the server that the starter file has, and nothing installed.
    Program,
    /// `two releases`: an `api.js` and a `bg.js` in two releases below `/srv/shop`, and nothing installed.
    Releases,
    /// `repository`: not run, since they build; each is a target of the Makefile.
    Repository,
}

impl Ground {
    fn of(text: &str) -> Self {
        match text {
            "2 workers" => Self::Workers,
            "a program" => Self::Program,
            "two releases" => Self::Releases,
            "repository" => Self::Repository,
            other => panic!("there is no ground `{other}`"),
        }
    }

    fn prepare(self) -> Option<Cluster> {
        let releases = "for release in 1 2; do to=/srv/shop/releases/$release; mkdir -p $to; cp /srv/apps/*.js $to; \
             (echo \"console.log('listening')\"; cat $to/hello.js) > $to/api.js; mv $to/worker.js $to/bg.js; echo v$release > $to/VERSION; done; ln -sfn releases/1 /srv/shop/current";
        let program = "mkdir /srv/hello; cp /srv/apps/common.js /srv/hello; \
             echo \"require('./common.js').listen(require('./common.js').server(), 3000)\" > /srv/hello/server.js";
        let bare = |prepare: &str| {
            let cluster = installed("");
            cluster.sh(&format!("rm -rf /etc/project-cluster/cluster.toml /srv/shop; {prepare}")).ok();
            cluster
        };
        match self {
            Self::Workers => {
                let cluster = installed(&app("api", 2, "node app.js 3000", "listen = 3000"));
                cluster.program("v1", &format!("console.log('listening'); {HELLO}"));
                cluster.cli(&["install", "--now"]).ok();
                Some(cluster)
            }
            Self::Program => Some(bare(program)),
            Self::Releases => Some(bare(releases)),
            Self::Repository => None,
        }
    }
}

/// A piece of a document.
#[derive(Debug)]
enum Piece {
    On(Ground),
    Write(String, String),
    Line(String),
}

/// The pieces of a document, in order.
fn pieces(document: &str) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut write: Option<String> = None;
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if let Some(test) = line.strip_prefix("<!-- test: ").and_then(|rest| rest.strip_suffix(" -->")) {
            match test.strip_prefix("write ") {
                Some(path) => write = Some(path.to_owned()),
                None => found.push(Piece::On(Ground::of(test))),
            }
        } else if let Some(language) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if let Some(path) = write.take() {
                found.push(Piece::Write(path, block.join("\n") + "\n"));
            } else if language == "sh" {
                let joined = block.join("\n").replace("\\\n", " ");
                found.extend(
                    joined
                        .lines()
                        .filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty())
                        .map(|line| Piece::Line(line.into())),
                );
            }
        }
    }
    assert_eq!(write, None, "a block follows the comment");
    found
}

/// Runs all that a document tells people to type; returns the last cluster.
fn run(path: &str) -> Option<Cluster> {
    let pieces = pieces(&text(path));
    assert!(pieces.iter().any(|piece| matches!(piece, Piece::Line(_))), "{path} has commands");
    let mut ground = None;
    let mut cluster = None;
    // `sudo` has nothing to do for root, and the sandbox may not have it. curl takes a refusal for success.
    let prelude = "sudo() { \"$@\"; }; curl() { command curl --fail-with-body --silent --show-error \"$@\"; }; ";
    let mut functions = prelude.to_owned();
    for piece in pieces {
        let line = match piece {
            Piece::On(next) => {
                ground = Some(next);
                if next != Ground::Repository {
                    drop(cluster.take());
                    cluster = next.prepare();
                }
                functions = prelude.to_owned();
                continue;
            }
            Piece::Write(path, text) => {
                cluster.as_ref().expect("a ground to write to").write(path, &text);
                continue;
            }
            Piece::Line(line) => line,
        };
        if ground == Some(Ground::Repository) {
            target(&line);
            continue;
        }
        let cluster: &Cluster = cluster.get_or_insert_with(|| Ground::Workers.prepare().unwrap());
        if line.contains("() {") {
            functions.push_str(&format!("{line}\n"));
            continue;
        }
        let command = line.split(" #").next().unwrap().trim_end();
        let script = format!("{functions}{line}");
        if command.ends_with(" -f") {
            let following = cluster.spawn(&["sh", "-euc", &script]);
            cluster.wait_until(&format!("`{command}` says something"), SOON, || !following.stdout().is_empty());
            continue;
        }
        let code =
            line.split_once("# exit ").map_or(0, |(_, rest)| rest.split(|ch: char| !ch.is_ascii_digit()).next().unwrap().parse().unwrap());
        let output = cluster.sh(&script);
        assert_eq!(output.code, code, "{path}: `{command}`\n{}\n{}", output.stdout, output.stderr);
        let speaks = command.starts_with("project-cluster ") && !command.contains('|');
        assert!(!speaks || !(output.stdout + &output.stderr).trim().is_empty(), "{path}: `{command}` says something");
    }
    cluster
}

/// A command that builds: `make TARGET`.
fn target(line: &str) {
    let words: Vec<&str> = line.split(" #").next().unwrap().split_whitespace().skip_while(|word| *word == "sudo").collect();
    assert_eq!(words.first(), Some(&"make"), "`{line}` is a target");
    let makefile = text("Makefile");
    for word in words[1..].iter().filter(|word| !word.contains('=')) {
        assert!(makefile.lines().any(|line| line.starts_with(&format!("{word}:"))), "`make {word}` is a target");
    }
}

fn text(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Those that have commands, each with its test below.
const WITH_COMMANDS: [&str; 4] = ["README.md", "docs/cli.md", "docs/operations.md", "docs/rest.md"];

#[test]
fn no_document_with_commands_is_left_out() {
    let all = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).unwrap();
    let all = all.map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap())).chain(["README.md".into()]);
    let with: BTreeSet<String> = all.filter(|path| path.ends_with(".md") && text(path).contains("\n```sh\n")).collect();
    assert_eq!(with, WITH_COMMANDS.map(String::from).into());
}

#[test]
fn the_commands_of_the_readme() {
    let cluster = run("README.md").unwrap();
    cluster.wait_until("version 2 answers", SOON, || cluster.get("127.0.0.1:3000", "/").is_ok_and(|answer| answer.body.starts_with("v2 ")));
    assert_eq!((cluster.workers("api").len(), cluster.workers("bg").len()), (4, 2));
}

#[test]
fn the_commands_of_operations() {
    let cluster = run("docs/operations.md").unwrap();
    let rows: Vec<String> = cluster.ls().iter().map(|row| format!("{} {}", row.uid(), row.state())).collect();
    assert_eq!(rows, ["api:01 online", "api:02 online"], "`apply` returned to what is configured");
}

#[test]
fn the_commands_of_the_command_line() {
    run("docs/cli.md");
}

#[test]
fn the_commands_of_the_api() {
    run("docs/rest.md");
}

/// The fields that `docs/rest.md` has under a heading.
fn fields(heading: &str) -> BTreeSet<String> {
    let document = text("docs/rest.md");
    let section = document.split(&format!("\n### {heading}\n")).nth(1).unwrap_or_else(|| panic!("docs/rest.md has {heading}"));
    let rows = section.split("\n### ").next().unwrap().lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap().to_owned()).collect()
}

/// Each answer with `--json` has the fields that `docs/cli.md` names, and no other.
#[test]
fn the_json_of_each_verb_is_what_the_table_says() {
    let table = text("docs/cli.md").split("\n## JSON\n").nth(1).unwrap().split("\n## ").next().unwrap().to_owned();
    let told = |verb: &str| -> (bool, BTreeSet<String>) {
        let row = table.lines().find(|line| line.starts_with('|') && line.split('|').nth(1).unwrap().contains(&format!("`{verb}`")));
        let answer = row.unwrap_or_else(|| panic!("the table has `{verb}`")).split('|').nth(2).unwrap();
        match answer.split_once("rest.md#") {
            Some((before, behind)) => {
                let mut fields = fields(before.rsplit('[').next().unwrap().split(']').next().unwrap());
                fields.extend(behind.split("plus `").nth(1).map(|more| more.split('`').next().unwrap().to_owned()));
                (before.contains("array"), fields)
            }
            None => {
                let object = answer.split("`{").nth(1).unwrap().split("}`").next().unwrap();
                (false, object.split(", ").map(|key| key.trim_matches('"').to_owned()).collect())
            }
        }
    };
    let cluster = installed(&node(1));
    let mut count = 0;
    let mut check = |verb: &str, words: &[&str]| {
        let text = cluster.cli(&[words, &["--json"]].concat()).ok();
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{words:?}: {why}: {text}"));
        let (array, fields) = told(verb);
        let object = if array { &value.as_array().unwrap_or_else(|| panic!("`{verb}`: an array: {text}"))[0] } else { &value };
        let keys: BTreeSet<String> = object.as_object().unwrap_or_else(|| panic!("`{verb}`: an object: {text}")).keys().cloned().collect();
        // A field that says nothing may be left out of an object of the API.
        assert!(if array { keys.is_subset(&fields) } else { keys == fields }, "`{verb}`: {keys:?}, and the documents say {fields:?}");
        count += 1;
    };
    check("init", &["--config", "/etc/other.toml", "init"]);
    check("install --diff", &["install", "--diff"]);
    check("install", &["install", "--now"]);
    check("apply --diff", &["apply", "--diff"]);
    for (verb, more) in
        [("ls", ""), ("show", "api"), ("events", "-n1"), ("reload", "api"), ("add", "api"), ("remove", "api:02"), ("apply", "")]
    {
        let words: Vec<&str> = [verb, more].into_iter().filter(|word| !word.is_empty()).collect();
        check(verb, &words);
    }
    check("uninstall", &["uninstall"]);
    assert_eq!(count, 12);
}
