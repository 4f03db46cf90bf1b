//! Completions for shells: `completions SHELL` prints a script that asks this program for each word (`complete`, hidden), which
//! so knows verbs, options, and from the master the names of apps and workers.
//!
//! The words are found by `clap_complete`'s engine; the scripts are our own, since bash breaks `api:01` at its colon and that
//! of the library does not put it together again. A master that does not answer at once completes nothing and says nothing.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use clap::{CommandFactory as _, ValueEnum};
use clap_complete::CompletionCandidate;
use hyper::Method;

use super::args::Cli;
use super::client::Client;
use super::{Failure, print};
use crate::api::types::App;
use crate::config;
use crate::names::ClusterName;
use crate::place::{self, Place};

/// Somebody has pressed a key and waits.
const LIMIT: Duration = Duration::from_secs(1);

/// The cluster that the words so far speak of.
static CLUSTER: OnceLock<ClusterName> = OnceLock::new();

/// A shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash 4.4 and later.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

impl Shell {
    /// What the shell is to read.
    pub fn script(self) -> &'static str {
        match self {
            Self::Bash => BASH,
            Self::Zsh => ZSH,
            Self::Fish => FISH,
        }
    }
}

/// The line is split anew: readline has broken its words at colons, and wants only what comes behind the last.
const BASH: &str = r#"# bash completion for project-cluster: source <(project-cluster completions bash)
_project_cluster() {
    local line=${COMP_LINE:0:COMP_POINT} words=() word prefix=
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[${#words[@]} - 1]}
    [[ $COMP_WORDBREAKS == *:* && $word == *:* ]] && prefix=${word%"${word##*:}"}
    mapfile -t COMPREPLY < <("${words[0]}" complete -- "${words[@]}" 2> /dev/null | cut -f1)
    COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
    [[ ${COMPREPLY[0]-} == */ ]] && compopt -o nospace
}
complete -F _project_cluster project-cluster
"#;

const ZSH: &str = r#"#compdef project-cluster
# zsh completion for project-cluster: source <(project-cluster completions zsh), or a file _project-cluster in $fpath
_project_cluster() {
    local -a found
    found=(${(f)"$("${words[1]}" complete -- "${(@Q)words[1,CURRENT]}" 2> /dev/null | cut -f1)"})
    compadd -- $found
}
if [[ ${funcstack[1]-} == _project-cluster ]]; then _project_cluster "$@"; else compdef _project_cluster project-cluster; fi
"#;

const FISH: &str = r"# fish completion for project-cluster: project-cluster completions fish | source
complete -c project-cluster -f -a '(project-cluster complete -- (commandline -opc) (commandline -ct) 2> /dev/null)'
";

/// The candidates for the last of these words, one a line, behind a tab what it is.
pub(crate) fn run(words: &[OsString]) -> Result<(), Failure> {
    let Some(index) = words.len().checked_sub(1) else { return Ok(()) };
    if words.iter().any(|word| word == "--user")
        && let Ok(own) = Place::own()
    {
        place::enter(own);
    }
    let _ = CLUSTER.set(cluster(words));
    let found = clap_complete::engine::complete(&mut Cli::command(), words.to_vec(), index, None);
    let line = |candidate: &CompletionCandidate| {
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        format!("{}\t{}", candidate.get_value().to_string_lossy(), help.lines().next().unwrap_or_default())
    };
    let found = found.map_err(|why: io::Error| Failure::Failed(why.to_string()))?;
    print(&found.iter().map(|candidate| line(candidate).trim_end().to_owned() + "\n").collect::<String>());
    Ok(())
}

/// As the flags among the words say, whole or not.
fn cluster(words: &[OsString]) -> ClusterName {
    let value = |flag: &str| {
        let at = words.iter().position(|word| word == flag).and_then(|at| words.get(at + 1)).and_then(|word| word.to_str());
        let joined = || words.iter().find_map(|word| word.to_str()?.strip_prefix(flag)?.strip_prefix('='));
        at.or_else(joined).map(str::to_owned)
    };
    let config = value("--config").map_or_else(|| place::here().config.clone(), PathBuf::from);
    value("--cluster").and_then(|name| name.parse().ok()).or_else(|| config::cluster_name(&config)).unwrap_or_default()
}

/// What SEL takes: `all`, apps, and behind a colon their workers.
pub(super) fn selectors(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    offered(&known(), &current).into_iter().map(CompletionCandidate::new).collect()
}

/// What TYPE takes: apps.
pub(super) fn apps(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let names = known().into_iter().map(|app| app.name.to_string()).filter(|name| name.starts_with(&*current));
    names.map(CompletionCandidate::new).collect()
}

/// Workers come once their app is clear: a cluster of a thousand offers its apps first.
fn offered(apps: &[App], current: &str) -> Vec<String> {
    let mut names: Vec<String> = apps.iter().map(|app| app.name.to_string()).chain(["all".to_owned()]).collect();
    names.retain(|name| name.starts_with(current));
    let clear = match &names[..] {
        [name] => name.clone(),
        _ => current.split_once(':').map_or(current, |(name, _)| name).to_owned(),
    };
    let of = apps.iter().filter(|app| app.name.as_str() == clear);
    let mut uids: Vec<String> = of.flat_map(|app| &app.workers).map(|row| row.uid.to_string()).collect();
    uids.retain(|uid| uid.starts_with(current));
    // Two generations of one slot are one name.
    uids.dedup();
    names.extend(uids);
    names
}

/// The apps of the cluster, as far as its master tells them in time.
fn known() -> Vec<App> {
    let client = Client::new(CLUSTER.get_or_init(ClusterName::default));
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    runtime.block_on(client.call(Method::GET, "/v1/apps", LIMIT)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::converge::tests::app;
    use crate::api::types::AppState;

    #[test]
    fn workers_are_offered_once_their_app_is_clear() {
        let mut bg = app(AppState::Stopped, &[]);
        bg.name = "apa".parse().unwrap();
        let apps = [app(AppState::Running, &[1, 2, 2]), bg];
        assert_eq!(offered(&apps, ""), ["api", "apa", "all"]);
        assert_eq!(offered(&apps, "ap"), ["api", "apa"]);
        assert_eq!(offered(&apps, "api"), ["api", "api:01", "api:02"]);
        // A shell that took the app's name for the whole would put a blank behind it.
        assert_eq!(offered(&apps[..1], "ap"), ["api", "api:01", "api:02"]);
        assert_eq!(offered(&apps, "api:0"), ["api:01", "api:02"]);
        assert_eq!(offered(&apps, "x").len(), 0);
    }

    #[test]
    fn the_cluster_is_the_one_that_the_words_name() {
        let of = |line: &str| cluster(&line.split(' ').map(OsString::from).collect::<Vec<_>>()).to_string();
        assert_eq!(
            [of("x --cluster other ls"), of("x --cluster=third ls"), of("x --config /nowhere ls")],
            ["other", "third", "project-cluster"]
        );
    }
}
