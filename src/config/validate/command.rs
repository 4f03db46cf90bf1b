//! Commands, working directory and environment: what a worker is started with.

use std::collections::BTreeMap;

use crate::config::finding::Findings;
use crate::config::key::{At, Key};
use crate::config::source::Place;
use crate::config::values::{Command, EnvValue, Map};

/// Longest argument or `NAME=value`: the kernel's `MAX_ARG_STRLEN`, with the byte that ends it.
const MAX_STRING: usize = 128 * 1024;
/// Most bytes of arguments and environment together. The kernel's own limit depends on the stack's and is at least
/// this much with the usual 8 MiB.
const MAX_ALL: usize = 1 << 20;
/// Longest path, the kernel's `PATH_MAX` without the byte that ends it.
const MAX_PATH: usize = 4095;

/// Variables that this program or systemd sets in each worker.
const OURS: [&str; 8] =
    ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "WORKER_TYPE"];

/// Program and arguments; empty where something is wrong with them. `kind` names the key, for messages; `type_name`
/// is put in for `{type}` after splitting, so that it cannot disturb the quoting.
pub(super) fn words(kind: &str, at: &At<Command>, type_name: Option<&str>, cwd: bool, findings: &mut Findings) -> Vec<String> {
    let mut words = match &at.value {
        Command::Words(words) => words.iter().map(|word| word.value.clone()).collect(),
        Command::Line(line) => match shell_words::split(line) {
            Ok(words) => words,
            Err(_) => {
                let help = "close the quote, or write an array of strings, which is taken as it is";
                findings.error("bad-command", &at.place, format!("`{kind}` has a quote that is never closed"), help);
                return Vec::new();
            }
        },
    };
    if let Some(type_name) = type_name {
        words.iter_mut().for_each(|word| *word = word.replace("{type}", type_name));
    }
    let Some(program) = words.first().filter(|program| !program.is_empty()) else {
        let none = if kind == "command" { String::new() } else { format!("; {kind} = [] is none") };
        let help = format!("write program and arguments, for example {kind} = \"node server.js\"{none}");
        findings.error("empty-command", &at.place, format!("`{kind}` names no program"), help);
        return Vec::new();
    };
    if words.iter().any(|word| word.contains('\0')) {
        findings.error("nul-byte", &at.place, format!("`{kind}` holds a NUL byte"), "no program can be given one: drop it");
    }
    if program.contains('/') && !program.starts_with('/') && !cwd {
        let message = format!("`{program}` is relative, and no `cwd` is written");
        findings.error("relative-command", &at.place, message, "write `cwd`, the directory that it is relative to, or an absolute path");
    }
    words
}

/// The working directory, `/` where none is written.
pub(super) fn cwd(key: &Key<String>, findings: &mut Findings) -> String {
    let Some(at) = key.get() else { return "/".into() };
    let help = "expected an absolute path such as \"/srv/shop\"; `~` and variables are not expanded";
    if at.value.contains('\0') {
        findings.error("nul-byte", &at.place, "`cwd` holds a NUL byte", "no path can hold one: drop it");
    } else if !at.value.starts_with('/') {
        findings.error("bad-path", &at.place, format!("`{}` is not an absolute path", at.value), help);
    } else if at.value.len() > MAX_PATH {
        findings.error("bad-path", &at.place, "the path is too long", format!("expected at most {MAX_PATH} bytes"));
    }
    at.value.clone()
}

/// The environment. `port` tells whether the worker gets a `PORT` of its own.
pub(super) fn env(key: &Key<Map<EnvValue>>, port: bool, findings: &mut Findings) -> BTreeMap<String, String> {
    let Some(map) = key.value() else { return BTreeMap::new() };
    for (name, at) in &map.0 {
        if name.is_empty() || name.contains('=') || name.contains('\0') {
            let help = "a variable's name is not empty and holds neither `=` nor NUL";
            findings.error("bad-env-name", &at.key, format!("`{name}` is no name for a variable"), help);
        } else if OURS.contains(&name.as_str()) || name.starts_with("PROJECT_CLUSTER_") {
            findings.error("reserved-env", &at.key, format!("`{name}` is set for each worker anew"), "drop it here");
        } else if port && name == "PORT" {
            findings.error("reserved-env", &at.key, "`PORT` is each worker's own", "write the first one as `port`, beside `spawn`");
        }
        if at.value.0.contains('\0') {
            findings.error("nul-byte", &at.place, "the value holds a NUL byte", "no variable can hold one: drop it");
        }
    }
    map.0.iter().map(|(name, at)| (name.clone(), at.value.0.clone())).collect()
}

/// Whether the kernel would take it all.
pub(super) fn size(words: &[String], env: &BTreeMap<String, String>, place: &Place, findings: &mut Findings) {
    let pairs = env.iter().map(|(name, value)| name.len() + 1 + value.len());
    let strings: Vec<usize> = words.iter().map(String::len).chain(pairs).map(|length| length + 1).collect();
    let help = "pass large things in a file and give its path";
    if strings.iter().any(|length| *length > MAX_STRING) {
        findings.error("command-too-large", place, "an argument or variable of more than 128 KiB", help);
    } else if strings.iter().map(|length| length + size_of::<usize>()).sum::<usize>() > MAX_ALL {
        findings.error("command-too-large", place, "command and environment have more than 1 MiB", help);
    }
}
