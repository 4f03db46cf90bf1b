//! Commands in messages, as they are typed here.
//!
//! Messages are written once, with the commands of the machine's systemd; where they leave the program (the journal, the
//! terminal, the API) they are put into this place's form. A line of an app that is quoted in a message may be changed with
//! it, where it holds a command of systemd's.

use std::borrow::Cow;

use super::Manager;

/// Verbs of systemctl that messages name.
const VERBS: [&str; 11] =
    ["start", "stop", "restart", "reload", "status", "enable", "disable", "unmask", "daemon-reload", "list-jobs", "reset-failed"];

/// This text with the commands as they are typed in this process's place.
pub fn words(text: &str) -> Cow<'_, str> {
    super::here().manager.words(text)
}

impl Manager {
    /// This text with the commands as they are typed for this systemd.
    pub fn words(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::System => Cow::Borrowed(text),
            Self::User => Cow::Owned(for_user(text)),
        }
    }

    /// A unit file with the commands of its comments so; its directives stay as they are.
    pub fn comments(self, unit: String) -> String {
        let line = |line: &str| if line.starts_with('#') { self.words(line).into_owned() } else { line.to_owned() };
        match self {
            Self::System => unit,
            Self::User => unit.split_inclusive('\n').map(line).collect(),
        }
    }
}

fn for_user(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some(ch) = rest.chars().next() {
        // A command begins behind what is no part of a word or a path.
        let begins = !out.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '/' | '.' | '@'));
        let quoted = out.ends_with('`');
        let length = if begins { command(rest, &mut out, quoted) } else { 0 };
        if length == 0 {
            out.push(ch);
            rest = &rest[ch.len_utf8()..];
        } else {
            rest = &rest[length..];
        }
    }
    PLACES.iter().fold(out, |text, (root, user)| text.replace(root, user))
}

/// Places that messages name without a cluster.
const PLACES: [(&str, &str); 2] = [("/var/lib/NAME/", "~/.local/state/NAME/"), ("/etc/project-cluster/", "~/.config/project-cluster/")];

/// Writes the command that the text begins with, as a user types it; how much of the text that was. `quoted`: it begins
/// what stands in backticks.
fn command(text: &str, out: &mut String, quoted: bool) -> usize {
    let (bare, sudo) = text.strip_prefix("sudo ").map_or((text, 0), |bare| (bare, 5));
    let ours = "project-cluster ";
    if let Some(rest) = bare.strip_prefix(ours)
        && (quoted || sudo > 0)
        && !rest.starts_with("--user")
    {
        out.push_str("project-cluster --user ");
        return sudo + ours.len();
    }
    if let Some(rest) = bare.strip_prefix("systemctl ")
        && VERBS.iter().any(|verb| rest.strip_prefix(verb).is_some_and(|behind| !behind.starts_with(|c: char| c.is_alphanumeric())))
    {
        out.push_str("systemctl --user ");
        return sudo + "systemctl ".len();
    }
    if bare.starts_with("journalctl -u ") {
        out.push_str("journalctl --user -u ");
        return sudo + "journalctl -u ".len();
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_those_of_the_place() {
        let told = |text| Manager::User.words(text).into_owned();
        for (system, user) in [
            ("`systemctl stop a && systemctl start a`", "`systemctl --user stop a && systemctl --user start a`"),
            ("run `sudo project-cluster apply`", "run `project-cluster --user apply`"),
            ("run `project-cluster show api`.", "run `project-cluster --user show api`."),
            ("`journalctl -u x` and (systemctl restart y)", "`journalctl --user -u x` and (systemctl --user restart y)"),
            ("`sudo systemctl restart shop`", "`systemctl --user restart shop`"),
            ("for cluster project-cluster and what project-cluster does", "for cluster project-cluster and what project-cluster does"),
            ("the token of /var/lib/NAME/operators/token", "the token of ~/.local/state/NAME/operators/token"),
            ("stopped with systemctl while", "stopped with systemctl while"),
            ("/usr/bin/systemctl start x; systemctl starts", "/usr/bin/systemctl start x; systemctl starts"),
        ] {
            assert_eq!(told(system), user);
            assert_eq!(told(user), user, "twice is once");
            assert_eq!(Manager::System.words(system), system);
        }
    }
}
