//! The command line as typed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::names::ClusterName;

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
    /// Answers as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

impl Cli {
    /// `ls` with selectors alone, or nothing behind it: what clap would make of it, at a tenth of the time.
    pub(super) fn quick(words: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut words = words.into_iter().map(OsString::into_string);
        let ls = matches!(words.next()?.ok()?.as_str(), "ls" | "stat" | "status");
        let select: Vec<String> = words.collect::<Result<_, _>>().ok()?;
        (ls && !select.iter().any(|word| word.starts_with('-'))).then_some(Self {
            config: None,
            cluster: None,
            json: false,
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
    Uninstall {
        /// Remove from this directory instead of `/`; nothing that runs is touched
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
    },
    /// List the workers
    #[command(visible_aliases = ["stat", "status"])]
    Ls {
        /// Apps (`api`), workers (`api:01`) or `all`
        #[arg(value_name = "SEL")]
        select: Vec<String>,
    },
    /// Show an app in full: sockets, generation, hold, last roll, workers
    Show {
        /// Apps or `all`
        #[arg(value_name = "SEL", required = true)]
        select: Vec<String>,
    },
    /// Start apps or single workers; returns when they are ready
    Start(Operate),
    /// Stop apps (sockets close first) or single workers, which stay stopped until you start them
    Stop(Operate),
    /// Replace workers by fresh ones, new before old: of an app by a new generation, a single one by the same again
    Restart(Operate),
    /// The same as `restart`
    Reload(Reload),
    /// Give an app more workers than configured
    Add(Add),
    /// Give an app so many workers
    Scale(Scale),
    /// Take workers away from an app; with the last one its port closes
    Remove(Operate),
    /// End a hold, forget crashes, and try at once what waits to be tried again
    Reset(Operate),
    /// Stop the workers of on-demand apps; the next connection starts them again
    Sleep(Operate),
    /// Show what workers wrote, from the journal
    Logs(Logs),
    /// Show what happened: starts, stops, restarts, each step of a roll
    Events(Events),
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
    #[arg(long, conflicts_with_all = ["no_wait", "timeout"])]
    pub diff: bool,
    #[command(flatten)]
    /// How it is waited for
    pub wait: Wait,
}

/// Options of the verbs that change what runs.
#[derive(Debug, Args)]
pub struct Operate {
    /// Apps (`api`), workers (`api:01`), several of them, or `all`
    #[arg(value_name = "SEL", required = true)]
    pub select: Vec<String>,
    #[command(flatten)]
    /// How it is waited for
    pub wait: Wait,
}

/// Options of `reload`.
#[derive(Debug, Args)]
pub struct Reload {
    #[command(flatten)]
    /// What, and how it is waited for
    pub operate: Operate,
    /// As the reload step of this app's handle, which systemd calls: follows the roll that the master has marked, if any
    #[arg(long, hide = true)]
    pub handle: bool,
}

/// How a verb waits.
#[derive(Debug, Clone, Copy, Args)]
pub struct Wait {
    /// Return as soon as the master has taken the order
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,
    /// Wait at most so long (`30s`, `5m`); what was begun goes on [default: until it ends]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// Options of `add`.
#[derive(Debug, Args)]
pub struct Add {
    /// The app
    #[arg(value_name = "TYPE")]
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
    #[arg(value_name = "TYPE")]
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
    #[arg(value_name = "SEL")]
    pub select: Vec<String>,
    /// Go on with new lines
    #[arg(short, long)]
    pub follow: bool,
    /// How many lines to begin with
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    pub lines: u32,
}

/// Options of `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Apps, workers (`api:01`) or `all` [default: all]
    #[arg(value_name = "SEL")]
    pub select: Vec<String>,
    /// Go on with what happens; with --json one object a line
    #[arg(short, long)]
    pub follow: bool,
    /// How many to begin with; the master keeps 1000
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 50)]
    pub count: usize,
}

/// `250ms`, `30s`, `5m`, `1h`, or plain seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().map_err(|_| "write a time as 30s, 5m or 1h".to_owned())?;
    let ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err("write a time as 30s, 5m or 1h".into()),
    };
    number.checked_mul(ms).map(Duration::from_millis).ok_or_else(|| "that is too long".into())
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
        for line in ["ls", "stat", "status api", "ls api:01 bg", "ls all"] {
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
    fn times() {
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for text in ["", "s", "-1s", "1d", "99999999999999999999", "18446744073709551615h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
