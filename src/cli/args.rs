//! The command line as typed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand};
use clap_complete::ArgValueCompleter;

use super::complete::{self, Shell};
use super::look::Colour;
use super::time;
use crate::api::caller::Role;
use crate::api::tokens::TokenName;
use crate::config::settings::Amount;
use crate::config::values::milliseconds;
use crate::names::{AppName, ClusterName, Slot};

/// Runs many copies of any server behind one port, on systemd, and replaces them, new before old.
#[derive(Debug, Parser)]
#[command(name = "project-cluster", version, max_term_width = 100, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Cli {
    /// The configuration; `conf.d/*.toml` beside it is read too [default: /etc/project-cluster/cluster.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The cluster to speak to, where the configuration cannot be read or there are several [default: its `name`]
    #[arg(long, global = true, value_name = "NAME")]
    pub cluster: Option<ClusterName>,
    /// The cluster of your own systemd, without root anywhere: files in ~/.config and ~/.local/state
    #[arg(long, global = true)]
    pub user: bool,
    /// Answers as JSON: one value, or one a line where the answer has no end; nothing else on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Says nothing where all goes well; what was asked for (`ls`, `show`, `logs`) is an answer and comes all the same
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Colours; `auto` heeds NO_COLOR and CLICOLOR_FORCE
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    pub color: Colour,
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

impl Cli {
    /// `ls` with selectors alone, or nothing behind it: what clap would make of it, at a tenth of the time.
    pub(super) fn quick(words: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut words = words.into_iter().map(OsString::into_string).peekable();
        let user = words.next_if_eq(&Ok("--user".to_owned())).is_some();
        let ls = matches!(words.next()?.ok()?.as_str(), "ls" | "stat" | "status");
        let select: Vec<String> = words.collect::<Result<_, _>>().ok()?;
        (ls && !select.iter().any(|word| word.starts_with('-'))).then_some(Self {
            config: None,
            cluster: None,
            user,
            json: false,
            quiet: false,
            color: Colour::default(),
            verb: Verb::Ls { select },
        })
    }
}

const EXIT_CODES: &str =
    "Exit codes: 0 done; 1 failed, and the message says what to do next; 2 usage or configuration; 3 the master cannot be reached.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a commented starter configuration; never overwrites
    Init,
    /// Validate the configuration and say what is wrong, all at once
    Check,
    /// Print the JSON Schema of the configuration
    Schema,
    /// Write the units of the configuration to systemd
    Install(Install),
    /// Make what runs what is configured: starts, stops, scales and reloads what differs, nothing else; root installs first
    Apply(Apply),
    /// Stop the cluster and remove all that `install` made
    Uninstall(Uninstall),
    /// List the workers
    #[command(visible_aliases = ["stat", "status"])]
    Ls {
        /// Apps (`api`), workers (`api:01`) or `all`
        #[arg(value_name = "SEL", add = ArgValueCompleter::new(complete::selectors))]
        select: Vec<String>,
    },
    /// Show apps or single workers in full: sockets, generation, last end, limits, last roll, last lines
    Show {
        /// Apps (`api`), workers (`api:01`) or `all`
        #[arg(value_name = "SEL", required = true, add = ArgValueCompleter::new(complete::selectors))]
        select: Vec<String>,
    },
    /// Start apps or single workers; returns when they are ready
    Start(Operate),
    /// Stop apps (sockets close first) or single workers, which stay stopped until you start them
    Stop(Sure),
    /// Replace workers by fresh ones, new before old: of an app by a new generation, a single one by the same again
    Restart(Operate),
    /// The same as `restart`; of apps also with canaries
    Reload(Reload),
    /// Go back to an earlier generation of an app, new before old: its command, environment and release
    Rollback(Rollback),
    /// Pause the rolls of apps: nothing is started or retired until you say `resume` or `abort`
    Pause(Steer),
    /// Let paused rolls go on, also after a failure; what failed is tried again
    Resume(Operate),
    /// Let rolls go back to the old workers; no old worker that still serves is touched
    Abort(Abort),
    /// Give an app more workers than configured
    Add(Add),
    /// Give an app so many workers
    Scale(Scale),
    /// Take workers away from an app; with the last one its port closes
    Remove(Sure),
    /// End a hold, forget crashes, and try at once what waits to be tried again
    Reset(Operate),
    /// Stop the workers of on-demand apps; the next connection starts them again
    Sleep(Operate),
    /// Show what workers wrote, from the journal
    Logs(Logs),
    /// Show what happened: starts, stops, restarts, each step of a roll
    Events(Events),
    /// Show who asked for what and what came of it: rolls, starts, stops, scaling; the last 1000, newest first
    History(History),
    /// Make, list and withdraw tokens of the API over TCP
    #[command(subcommand)]
    Token(Token),
    /// Print what makes a shell complete verbs, options, apps and workers: `source <(project-cluster completions bash)`
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// What the scripts of a distribution's package have to do to the clusters of this machine
    #[command(hide = true)]
    Package {
        /// What happens to the package
        #[arg(value_enum)]
        step: Step,
    },
    /// What the last word may become, for the scripts of `completions`
    #[command(hide = true)]
    Complete {
        /// The words so far
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
}

/// What happens to the package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Step {
    /// Another version was unpacked
    Upgrade,
    /// The program is about to go
    Remove,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub enum Token {
    /// Make a token and print it, this once: the master keeps its hash alone; root only
    Add(TokenAdd),
    /// List the tokens, without what they are
    Ls,
    /// Withdraw a token: it opens nothing from that moment on; root only
    Revoke {
        /// What it is called
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Options of `token add`.
#[derive(Debug, Args)]
pub struct TokenAdd {
    /// What it is called, in the journal and in events
    #[arg(value_name = "NAME")]
    pub name: TokenName,
    /// What it may do: see; steer what runs; also read the configuration and bring about what is installed
    #[arg(long, value_name = "ROLE", default_value = "view", value_parser = PossibleValuesParser::new(["view", "operate", "admin"]).try_map(|text| text.parse::<Role>()))]
    pub role: Role,
    /// An app that there is for it; several times for several [default: all]
    #[arg(long = "app", value_name = "APP", add = ArgValueCompleter::new(complete::apps))]
    pub apps: Vec<AppName>,
    /// Write it to this file, which is not there yet, for its owner alone, and print it not
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Options of `install`.
#[derive(Debug, Args)]
pub struct Install {
    /// Write below this directory instead of `/`; nothing that runs is touched
    #[arg(long, value_name = "DIR", conflicts_with = "now")]
    pub root: Option<PathBuf>,
    /// Show what would change and change nothing
    #[arg(long, conflicts_with = "now")]
    pub diff: bool,
    /// Enable and start the cluster as well
    #[arg(long)]
    pub now: bool,
}

/// Options of `apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// Show what would be done and what would change in the units, and change nothing
    #[arg(long, conflicts_with_all = ["no_wait", "timeout", "wait_drained"])]
    pub diff: bool,
    #[command(flatten)]
    /// How it is waited for
    pub wait: Wait,
}

/// Options of the verbs that change what runs.
#[derive(Debug, Args)]
pub struct Operate {
    /// Apps (`api`), workers (`api:01`), several of them, or `all`
    #[arg(value_name = "SEL", required = true, add = ArgValueCompleter::new(complete::selectors))]
    pub select: Vec<String>,
    #[command(flatten)]
    /// How it is waited for
    pub wait: Wait,
}

/// Options of the verbs that ask before they do it to all.
#[derive(Debug, Args)]
pub struct Sure {
    #[command(flatten)]
    /// What, and how it is waited for
    pub operate: Operate,
    /// Does it to `all` without asking; where stdin is no terminal nobody is asked
    #[arg(short, long)]
    pub yes: bool,
}

/// Options of `uninstall`.
#[derive(Debug, Args)]
pub struct Uninstall {
    /// Remove from this directory instead of `/`; nothing that runs is touched
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Does it without asking; where stdin is no terminal nobody is asked
    #[arg(short, long)]
    pub yes: bool,
}

/// Options of `reload`.
#[derive(Debug, Args)]
pub struct Reload {
    #[command(flatten)]
    /// What, and how it is waited for
    pub operate: Operate,
    /// This once, so many new workers first (`2`, or `10%` of them), beside all old ones, before the rest follows; 0 for none
    #[arg(long, value_name = "N", value_parser = share)]
    pub canary: Option<String>,
    /// This once, how long canaries must have been ready before the rest follows (`30s`, `1m30s`)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub bake: Option<Duration>,
    /// As the reload step of this app's handle, which systemd calls: follows the roll that the master has marked, if any
    #[arg(long, hide = true)]
    pub handle: bool,
}

/// Options of `rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The app
    #[arg(value_name = "TYPE", add = ArgValueCompleter::new(complete::apps))]
    pub app: String,
    /// To which generation; `show` lists those there are [default: the one that was current before]
    #[arg(long, value_name = "GEN", value_parser = clap::value_parser!(u64).range(1..))]
    pub to: Option<u64>,
    #[command(flatten)]
    /// How it is waited for
    pub wait: Wait,
}

/// Options of `abort`.
#[derive(Debug, Args)]
pub struct Abort {
    #[command(flatten)]
    /// What, and how it is waited for
    pub operate: Operate,
    /// The roll that waits behind the one under way, which goes on: it never begins
    #[arg(long)]
    pub waiting: bool,
}

/// Options of `pause`.
#[derive(Debug, Args)]
pub struct Steer {
    /// Apps (`api`), several of them, or `all`
    #[arg(value_name = "APP", required = true, add = ArgValueCompleter::new(complete::apps))]
    pub select: Vec<String>,
    /// Wait at most so long for the master (`30s`) [default: until it answers]
    #[arg(long, value_name = "TIME", value_parser = patience)]
    pub timeout: Option<Duration>,
}

/// How a verb waits.
#[derive(Debug, Clone, Copy, Args)]
pub struct Wait {
    /// Return as soon as the master has taken the order
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,
    /// Wait at most so long, all in all (`30s`, `1m30s`); what was begun goes on [default: until it ends]
    #[arg(long, value_name = "TIME", value_parser = patience)]
    pub timeout: Option<Duration>,
    /// Wait also until the workers that were replaced are gone: they drain behind the end of a roll
    #[arg(long, conflicts_with = "no_wait")]
    pub wait_drained: bool,
}

/// Options of `add`.
#[derive(Debug, Args)]
pub struct Add {
    /// The app
    #[arg(value_name = "TYPE", add = ArgValueCompleter::new(complete::apps))]
    pub app: String,
    /// How many more
    #[arg(value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub count: u16,
    #[command(flatten)]
    /// How it is waited for
    pub wait: Wait,
}

/// Options of `scale`.
#[derive(Debug, Args)]
pub struct Scale {
    /// The app
    #[arg(value_name = "TYPE", add = ArgValueCompleter::new(complete::apps))]
    pub app: String,
    /// How many in all
    #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub count: u16,
    #[command(flatten)]
    /// How it is waited for
    pub wait: Wait,
}

/// Options of `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Apps, workers (`api:01`) or `all` [default: all]
    #[arg(value_name = "SEL", add = ArgValueCompleter::new(complete::selectors))]
    pub select: Vec<String>,
    /// Go on with new lines; of a worker also with those of its successors
    #[arg(short, long, conflicts_with = "until")]
    pub follow: bool,
    /// How many lines to begin with, the last ones; with --since or --until all [default: 50]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub lines: Option<u32>,
    /// From then on: `10m` or `1h30m` ago, or what journalctl takes (`today`, `2026-11-24 14:00`)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<String>,
    /// Until then, likewise
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<String>,
    /// Lines that match this regular expression (PCRE2), whatever their case where it has no capitals
    #[arg(short, long, value_name = "PATTERN")]
    pub grep: Option<String>,
}

/// Options of `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Apps, workers (`api:01`) or `all` [default: all]
    #[arg(value_name = "SEL", add = ArgValueCompleter::new(complete::selectors))]
    pub select: Vec<String>,
    /// Go on with what happens; with --json one object a line
    #[arg(short, long)]
    pub follow: bool,
    /// How many to begin with; the master keeps 1000
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 50)]
    pub count: usize,
}

/// Options of `history`.
#[derive(Debug, Args)]
pub struct History {
    /// Apps, workers (`api:01`) or `all`, also those that are none any more [default: all]
    #[arg(value_name = "SEL", add = ArgValueCompleter::new(complete::selectors))]
    pub select: Vec<String>,
    /// How many
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000).map(usize::from))]
    pub count: usize,
    /// What was asked for from then on: `10m` or `1h30m` ago, `14:00`, `2026-11-24`, `2026-11-24 14:00`, `today`, `yesterday`
    #[arg(long, value_name = "TIME", value_parser = time::since_when)]
    pub since: Option<u64>,
    /// Each in full, with the steps of its roll
    #[arg(long)]
    pub steps: bool,
    /// The entry of this number alone, in full
    #[arg(long, value_name = "ID", conflicts_with_all = ["select", "count", "since", "steps"])]
    pub id: Option<u64>,
}

/// How a time is written, here as in the configuration and in the API.
const TIME: &str = "write a time as 30s, 5m or 1m30s (ms, s, m, h)";

/// `250ms`, `30s`, `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    milliseconds(text).map(Duration::from_millis).ok_or_else(|| TIME.into())
}

/// `2`, `10%`.
fn share(text: &str) -> Result<String, String> {
    let read = Amount::parse(text, Slot::MAX, 100).map(|_| text.to_owned());
    read.ok_or_else(|| format!("write a number of workers from 0 to {}, or a share from 0% to 100%", Slot::MAX))
}

/// The same, where nothing could be done in no time, nor in more than a year.
fn patience(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("in no time nothing can be waited for: `--no-wait` returns as soon as the master has taken the order".into()),
        time if time > LONGEST => Err("more than a year; leave it out to wait until it ends".into()),
        time => Ok(time),
    }
}

/// The longest `--timeout`: what is added to a point of time must not be beyond all clocks.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A point of time in journalctl's words: `10m` is ten minutes ago.
fn moment(text: &str) -> Result<String, String> {
    Ok(milliseconds(text).map_or_else(|| text.to_owned(), |ago| format!("-{ago}ms")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn ls_is_read_as_clap_reads_it() {
        for line in ["ls", "--user ls api", "stat", "status api", "ls api:01 bg", "ls all"] {
            let words = || line.split(' ').map(OsString::from);
            let quick = Cli::quick(words()).unwrap();
            let clap = Cli::try_parse_from(std::iter::once("project-cluster".into()).chain(words())).unwrap();
            assert_eq!(format!("{quick:?}"), format!("{clap:?}"), "{line}");
        }
        for line in ["", "ls --json", "ls -h", "ls -- -x", "show api", "--json ls", "lst"] {
            assert!(Cli::quick(line.split(' ').map(OsString::from)).is_none(), "{line}");
        }
    }

    #[test]
    fn times_are_written_as_in_the_configuration_and_in_the_api() {
        assert_eq!(patience("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(patience("250 ms"), Ok(Duration::from_millis(250)));
        for text in ["", "30", "s", "-1s", "1d", "0s", "0ms", "9999h", "18446744073709551615h"] {
            assert!(patience(text).is_err(), "{text}");
        }
        assert_eq!(
            ["10m", "1m30s", "90", "today", "-5min"].map(|text| moment(text).unwrap()),
            ["-600000ms", "-90000ms", "90", "today", "-5min"]
        );
    }
}
