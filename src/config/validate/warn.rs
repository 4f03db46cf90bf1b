//! What works and is probably not meant: told by `check`, refused by nobody.

use std::path::Path;

use crate::config::finding::Findings;
use crate::config::key::At;
use crate::config::settings::{Sandbox, User};
use crate::config::source::Place;
use crate::config::values::Command;

/// What is to be said of a command.
pub(super) fn command(at: &At<Command>, words: &[String], cwd: bool, findings: &mut Findings) {
    if let Command::Line(line) = &at.value {
        shell_syntax(line, &at.place, findings);
    }
    let Some(program) = words.first() else { return };
    if program.contains('=') {
        let message = format!("`{program}` would be run as a program");
        findings.warn("env-in-command", &at.place, message, "write variables as `env = { NAME = \"value\" }`");
    }
    let name = Path::new(program).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let argument = words.get(1).map_or("", String::as_str);
    let wrapper = match name.as_str() {
        "npm" => matches!(argument, "start" | "run" | "run-script" | "exec" | "test" | "restart"),
        "yarn" | "pnpm" | "npx" => true,
        "bun" => argument == "run",
        _ => false,
    };
    if wrapper {
        let message = format!("`{name}` stands between systemd and the app and swallows SIGTERM");
        findings.warn("wrapper", &at.place, message, "write the program itself: \"node FILE\" (what the script in package.json runs)");
    }
    if matches!(name.as_str(), "sh" | "bash" | "dash" | "zsh" | "ksh" | "ash")
        && let Some(script) = words.iter().position(|word| word.starts_with('-') && word.ends_with('c')).and_then(|at| words.get(at + 1))
        && !script.split_whitespace().any(|word| word == "exec")
    {
        let message = format!("`{name}` stays between systemd and the app: SIGTERM and LISTEN_PID reach the shell alone");
        findings.warn("shell-without-exec", &at.place, message, "write `exec` before the last command of the script");
    }
    if !cwd && let Some(file) = words.iter().skip(1).find(|word| looks_like_file(word)) {
        let message = format!("`{file}` looks like a relative path, and without `cwd` the directory is /");
        findings.warn("no-cwd", &at.place, message, "write `cwd`, the directory that it is relative to");
    }
}

/// What is to be said of a hook's command. It may well be a wrapper: nobody sends it signals or sockets.
pub(super) fn hook(at: &At<Command>, words: &[String], cwd: bool, findings: &mut Findings) {
    if let Command::Line(line) = &at.value {
        shell_syntax(line, &at.place, findings);
    }
    if let Some(program) = words.first().filter(|program| program.contains('=')) {
        let message = format!("`{program}` would be run as a program");
        findings.warn("env-in-command", &at.place, message, "write variables as `env` of the app, which its hooks have too");
    }
    if !cwd && let Some(file) = words.iter().skip(1).find(|word| looks_like_file(word)) {
        let message = format!("`{file}` looks like a relative path, and without `cwd` the directory is /");
        findings.warn("no-cwd", &at.place, message, "write `cwd`, the directory that it is relative to");
    }
}

fn looks_like_file(word: &str) -> bool {
    let script = [".js", ".mjs", ".cjs", ".ts", ".py", ".rb", ".pl", ".php", ".jar", ".lua"];
    !word.starts_with(['/', '-']) && !word.contains(['=', ':']) && script.iter().any(|end| word.len() > end.len() && word.ends_with(end))
}

/// What a shell would act on, and nobody does here.
fn shell_syntax(line: &str, place: &Place, findings: &mut Findings) {
    if let Some(found) = unquoted(line) {
        findings.warn(
            "no-shell",
            place,
            format!("no shell runs: `{found}` reaches the program as it is"),
            "quote it if that is meant; else write [\"sh\", \"-c\", \"... exec program ...\"], or variables as `env`",
        );
    }
}

/// The first thing outside of quotes that a shell would not pass on.
fn unquoted(line: &str) -> Option<String> {
    let mut quote = None;
    let mut characters = line.chars().peekable();
    let mut word_start = true;
    while let Some(c) = characters.next() {
        let next = characters.peek().copied();
        let start = std::mem::replace(&mut word_start, quote.is_none() && c.is_whitespace());
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), _) => {}
            (_, '\\') => {
                characters.next();
            }
            (None, '\'' | '"') => quote = Some(c),
            (_, '$') if next.is_some_and(|next| next.is_ascii_alphabetic() || matches!(next, '_' | '{' | '(')) => {
                return Some(format!("${}", next.unwrap_or_default()));
            }
            (_, '`') => return Some("`".into()),
            (None, '|' | '&' | ';' | '<' | '>') => {
                return Some(if next == Some(c) { format!("{c}{c}") } else { c.into() });
            }
            (None, '*' | '?') => return Some(c.into()),
            (None, '~') if start => return Some("~".into()),
            _ => {}
        }
    }
    None
}

/// Paths that the sandbox hides from the app.
pub(super) fn hidden(words: &[String], cwd: &str, sandbox: &Sandbox, user: &User, place: &Place, findings: &mut Findings) {
    let paths = || std::iter::once(cwd).chain(words.iter().map(String::as_str));
    let under = |roots: &[&str]| {
        paths().find(|path| roots.iter().any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))))
    };
    if sandbox.home
        && let Some(path) = under(&["/home", "/root", "/run/user"])
    {
        let message = format!("`{path}` is hidden from the workers by the sandbox");
        findings.warn("hidden-home", place, message, "write `home = false` in [apps.X.sandbox], or move the app, to /srv for example");
    }
    let dynamic = matches!(user, User::Dynamic(_));
    if (sandbox.tmp || dynamic)
        && let Some(path) = under(&["/tmp", "/var/tmp"])
    {
        let message = format!("`{path}` is hidden from the workers, which have a /tmp of their own");
        let help = if dynamic {
            "write `user` and, in [apps.X.sandbox], `tmp = false`, or move the app, to /srv for example"
        } else {
            "write `tmp = false` in [apps.X.sandbox], or move the app, to /srv for example"
        };
        findings.warn("hidden-tmp", place, message, help);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_syntax_is_found_outside_of_quotes_alone() {
        for (line, found) in [
            ("node a.js $PORT", "$P"),
            ("node \"$PORT\"", "$P"),
            ("a && b", "&&"),
            ("a | b", "|"),
            ("a > log", ">"),
            ("a; b", ";"),
            ("ls *.js", "*"),
            ("~/bin/x", "~"),
            ("a `date`", "`"),
            ("a $(date)", "$("),
        ] {
            assert_eq!(unquoted(line).as_deref(), Some(found), "{line}");
        }
        for line in ["node a.js", "a '$PORT && b'", "a \"b && c\"", "a \\$PORT \\&", "a costs 5$", "a b~c", "a \"it's\" b", "a 'x\" |'"] {
            assert_eq!(unquoted(line), None, "{line}");
        }
    }
}
