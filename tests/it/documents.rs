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

/// The fields that a document has under a heading.
fn fields(path: &str, heading: &str) -> BTreeSet<String> {
    let document = text(path);
    let section = document.split(&format!("\n### {heading}\n")).nth(1).unwrap_or_else(|| panic!("{path} has {heading}"));
    let rows = section.split("\n#").next().unwrap().lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap().to_owned()).collect()
}

/// What the table of `docs/cli.md` says that a verb answers with.
struct Told {
    array: bool,
    fields: BTreeSet<String>,
    /// What of them is always there: all, but for what the API itself leaves out.
    always: BTreeSet<String>,
}

fn told(table: &str, verb: &str) -> Told {
    let row = table.lines().find(|line| line.starts_with('|') && line.split('|').nth(1).unwrap().contains(&format!("`{verb}`")));
    let answer = row.unwrap_or_else(|| panic!("the table has `{verb}`")).split('|').nth(2).unwrap().trim();
    if let Some((before, object)) = answer.split_once("`{") {
        let fields: BTreeSet<String> = object.split("}`").next().unwrap().split(", ").map(|key| key.trim_matches('"').to_owned()).collect();
        return Told { array: before.contains("array"), always: fields.clone(), fields };
    }
    let (before, link) = answer.split_once("](").unwrap_or_else(|| panic!("`{verb}` has a link: {answer}"));
    let name = before.rsplit('[').next().unwrap();
    let path = if link.starts_with('#') { "docs/cli.md" } else { "docs/rest.md" };
    let mut fields = fields(path, name);
    let openapi: Value = serde_json::from_str(&text("docs/openapi.json")).unwrap();
    let optional = name == "Event" || link.starts_with("rest.md#entry");
    let required = openapi["components"]["schemas"][name]["required"].as_array().cloned().unwrap_or_default();
    let mut always: BTreeSet<String> =
        if optional { required.iter().map(|key| key.as_str().unwrap().to_owned()).collect() } else { fields.clone() };
    if let Some(more) = answer.split("plus `").nth(1) {
        let more = more.split('`').next().unwrap().to_owned();
        fields.insert(more.clone());
        always.insert(more);
    }
    assert!(always.len() > 2, "`{verb}`: {fields:?}");
    Told { array: before.contains("array"), fields, always }
}

#[track_caller]
fn has_keys(what: &str, object: &Value, told: &Told) {
    let keys: BTreeSet<String> = object.as_object().unwrap_or_else(|| panic!("{what}: an object: {object}")).keys().cloned().collect();
    let Told { fields, always, .. } = told;
    assert!(keys.is_subset(fields) && always.is_subset(&keys), "{what}: {keys:?}, and the documents say {fields:?}, always {always:?}");
}

/// Each answer with `--json` has the fields that `docs/cli.md` names, all of them, and no other; also where it failed.
#[test]
fn the_json_of_each_verb_is_what_the_table_says() {
    let table = text("docs/cli.md").split("\n## JSON\n").nth(1).unwrap().split("\n## ").next().unwrap().to_owned();
    let cluster = installed(&(node(1) + &app("lazy", 1, "node /srv/apps/hello.js 3001", "listen = 3001\non_demand = true")));
    let mut seen = BTreeSet::new();
    // Of a command that ends with this code its answer, and why it failed.
    let mut ends = |code: i32, verb: &str, words: &[&str]| -> (Vec<Value>, String) {
        let output = cluster.cli(&[words, &["--json"]].concat()).exits(code);
        let told = told(&table, verb);
        seen.insert(verb.to_owned());
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|why| panic!("{words:?}: {why}: {text}"));
        let objects: Vec<Value> = match read(output.stdout.lines().next().filter(|_| verb == "logs").unwrap_or(&output.stdout)) {
            Value::Array(all) if told.array => all,
            one if !told.array => vec![one],
            other => panic!("`{verb}`: an array: {other}"),
        };
        assert!(!objects.is_empty(), "{words:?}");
        objects.iter().for_each(|object| has_keys(&format!("{words:?}"), object, &told));
        if code == 0 {
            assert_eq!(output.stderr, "", "{words:?}");
            return (objects, String::new());
        }
        let error = read(&output.stderr);
        assert_eq!(error["error"]["exit_code"], code, "{error}");
        (objects, error["error"]["message"].as_str().unwrap().to_owned())
    };
    ends(0, "init", &["--config", "/etc/other.toml", "init"]);
    ends(0, "install --diff", &["install", "--diff"]);
    // Where something is in the way.
    let foreign = "/etc/systemd/system/project-cluster-api@.service";
    cluster.write(foreign, "[Service]\nExecStart=/bin/true\n");
    let (objects, why) = ends(1, "install --diff", &["install", "--diff"]);
    assert!(objects[0]["conflicts"][0]["path"] == foreign && objects[0]["conflicts"][0]["why"].is_string(), "{objects:?}");
    assert!(why.contains(foreign), "{why}");
    cluster.run(&["rm", foreign]).ok();
    ends(0, "install", &["install"]);
    // A cluster that is down, and the same answer as of one that is up.
    let (objects, _) = ends(0, "apply", &["apply"]);
    let outcome = |object: &Value| -> [String; 3] { ["app", "outcome", "code"].map(|key| object[key].as_str().unwrap_or("null").into()) };
    let apps: Vec<[String; 3]> = objects[0]["apps"].as_array().unwrap().iter().map(outcome).collect();
    assert_eq!(apps, [["api", "done", "null"], ["lazy", "done", "null"]], "{objects:?}");
    has_keys("apps of apply", &objects[0]["apps"][0], &told(&table, "start"));
    ends(0, "apply", &["apply"]);
    ends(0, "apply --diff", &["apply", "--diff"]);
    cluster.sh("usermod -aG project-cluster games").ok();
    for (verb, words) in [("apply --diff", &["apply", "--diff", "--json"][..]), ("apply", &["apply", "--json"])] {
        let output = cluster.run_as("games", &[&["project-cluster"], words].concat()).ok();
        has_keys(&format!("{words:?} of a member"), &serde_json::from_str(&output).unwrap(), &told(&table, verb));
    }
    cluster.run(&["journalctl", "--sync"]).ok();
    let done = [
        ("ls", &["ls"][..]),
        ("show", &["show", "api"]),
        ("show UID", &["show", "api:01"]),
        ("history", &["history", "-n1"]),
        ("events", &["events", "-n1"]),
        ("logs", &["logs", "api", "-n1"]),
        ("stop", &["stop", "api"]),
        ("start", &["start", "api"]),
        ("reload", &["reload", "api"]),
        ("rollback", &["rollback", "api"]),
        ("restart", &["restart", "api:01"]),
        ("add", &["add", "api"]),
        ("scale", &["scale", "api", "3"]),
        ("remove", &["remove", "api:02"]),
        ("reset", &["reset", "api"]),
        ("token add", &["token", "add", "ci"]),
        ("token ls", &["token", "ls"]),
        ("token revoke", &["token", "revoke", "ci"]),
        ("sleep", &["sleep", "lazy"]),
    ];
    for (verb, words) in done {
        ends(0, verb, words);
    }
    let (objects, _) = ends(0, "show", &["show", "api"]);
    assert_eq!(objects[0]["facts"].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>(), fields("docs/cli.md", "Facts"));
    for unit in objects[0]["facts"]["units"].as_array().unwrap() {
        assert_eq!(unit.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>(), fields("docs/cli.md", "Unit"));
    }
    // What fails has an entry for each app, too.
    let (objects, why) = ends(1, "sleep", &["sleep", "all"]);
    assert_eq!(objects.iter().map(outcome).collect::<Vec<_>>(), [["api", "refused", "conflict"], ["lazy", "done", "null"]]);
    assert!(why.starts_with("api: ") && objects[0]["message"].as_str().is_some_and(|message| why.contains(message)), "{why}");
    cluster.sh("ln -sfn /nowhere /srv/shop/current").ok();
    let (objects, why) = ends(1, "reload", &["reload", "api"]);
    assert_eq!((outcome(&objects[0]), &objects[0]["roll"]["state"]), (["api", "failed", "failed"].map(String::from), &"failed".into()));
    assert!(why.contains("the roll to generation"), "{why}");
    ends(0, "uninstall", &["uninstall"]);
    assert_eq!(seen.len(), 25, "{seen:?}");

    let wrong = |words: &[&str]| {
        let output = cluster.cli(&[words, &["--json"]].concat());
        (output.code, serde_json::from_str::<Value>(&output.stdout).unwrap(), output.stderr)
    };
    let (code, schema, _) = wrong(&["schema"]);
    assert!(code == 0 && schema["properties"]["apps"].is_object(), "{schema}");
    assert_eq!(wrong(&["check"]).0, 0);
    cluster.config("[apps.api]\ncomand = \"x\"\n");
    let (code, problems, why) = wrong(&["check"]);
    let why: Value = serde_json::from_str(&why).unwrap();
    assert_eq!((code, &why["error"]["exit_code"]), (2, &2.into()), "{why}");
    assert!(why["error"]["message"].as_str().unwrap().contains("cluster.toml"), "{why}");
    let document = text("docs/config.md");
    let example =
        document.split("`check --json` prints them").nth(1).unwrap().split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let example: Value = serde_json::from_str(example).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&problems[0]), keys(&example));
}
