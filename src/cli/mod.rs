//! The command line: parses, asks the master, renders. A client only: it changes nothing by itself but what root's
//! own `install` and `uninstall` write.

mod apply;
pub mod args;
mod board;
pub mod client;
pub mod complete;
#[cfg(test)]
mod documents;
mod entry;
mod errand;
mod events;
mod follow;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
mod golden;
mod habits;
mod history;
mod hooks;
mod list;
mod live;
mod logs;
pub mod look;
mod marks;
mod operate;
mod out;
mod outcome;
mod package;
mod plain;
mod select;
mod setup;
mod show;
mod sse;
mod table;
mod time;
mod token;

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use hyper::Method;

use self::args::{Cli, Verb};
use self::client::Client;
use self::look::{Around, Look};
use crate::api::types::{App, Worker};
use crate::config;
use crate::names::ClusterName;
use crate::place::{self, Place};

pub(crate) use self::out::{complain, complain_json, print, print_json, print_json_line, reader_gone};
pub(crate) use self::select::{Choice, app_names, past_selection, selection};

/// Longest answer to a question that is read, bytes.
const ANSWER: u64 = 64;

/// Limit of a request that only reads.
const READ: Duration = Duration::from_secs(10);

/// Why a verb ended badly, and with which code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// 1: it was tried and failed.
    Failed(String),
    /// 2: usage or configuration.
    Usage(String),
    /// 3: the master cannot be reached.
    Unreachable(String),
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        match error {
            client::Error::Refused(_) => Self::Failed(error.to_string()),
            _ => Self::Unreachable(error.to_string()),
        }
    }
}

/// What every verb knows.
pub(crate) struct Context {
    pub place: &'static Place,
    pub config: PathBuf,
    pub cluster: ClusterName,
    pub json: bool,
    pub look: Look,
    pub client: Client,
}

impl Context {
    fn new(cli: &Cli) -> Self {
        let place = place::here();
        let config = cli.config.clone().unwrap_or_else(|| place.config.clone());
        // The configuration may hold secrets and be unreadable for us: then the default name, or --cluster.
        let cluster = cli.cluster.clone().or_else(|| config::cluster_name(&config)).unwrap_or_default();
        let client = Client::new(&cluster);
        Self { place, config, cluster, json: cli.json, look: Look::new(cli, Around::here()), client }
    }

    /// Says how it goes on or that it went well: not under `--quiet`, nor beside JSON.
    fn say(&self, text: &str) {
        if self.look.says {
            print(&place::words(text));
        }
    }

    /// Asks a person whether to go on; where there is none to ask, that it was typed is enough: what scripts do today goes on.
    fn confirm(&self, yes: bool, question: &str) -> Result<(), Failure> {
        if yes || !self.look.asks {
            return Ok(());
        }
        let question = format!("{question} [y/N] ");
        // It must be seen: stderr may go to a file or another program.
        if std::io::stderr().is_terminal() {
            complain(&question);
        } else if let Err(why) = out::ask(&question) {
            return Err(Failure::Failed(format!(
                "nothing was done: stderr is no terminal, and /dev/tty cannot be asked ({why}). `--yes` does it without asking"
            )));
        }
        let mut answer = String::new();
        let read = std::io::stdin().lock().take(ANSWER).read_line(&mut answer);
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" if read.is_ok() => Ok(()),
            _ => Err(Failure::Failed("nothing was done: the answer was not `y`. `--yes` does it without asking".into())),
        }
    }
}

impl Client {
    /// All apps of the cluster.
    async fn apps(&self) -> Result<Vec<App>, Failure> {
        match self.insist(Method::GET, "/v1/apps", READ).await {
            Err(client::Error::Late(limit, master)) if self.left().is_some_and(|left| left.is_zero()) => Err(Failure::Failed(format!(
                "`--timeout` ({}) was over before the master had told its apps; nothing was asked of it. Give it more time; or is it stopped? `systemctl status {master}`",
                table::time(limit)
            ))),
            apps => Ok(apps?),
        }
    }
}

/// Runs the command line; returns the process's exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::quick(std::env::args_os().skip(1)).map_or_else(Cli::try_parse, Ok) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; usage is exit code 2 in clap as in ours.
            let code = if error.use_stderr() { 2 } else { 0 };
            if let (ErrorKind::InvalidSubcommand, Some(ContextValue::String(verb))) =
                (error.kind(), error.get(ContextKind::InvalidSubcommand))
                && let Some(hint) = habits::hint(verb)
            {
                let text = format!("there is no verb `{verb}` here: {hint}");
                if std::env::args_os().any(|word| word == "--json") {
                    complain_json(&text, code);
                } else {
                    complain(&format!("project-cluster: {text}\n"));
                }
                return ExitCode::from(code);
            }
            if code == 2 && std::env::args_os().any(|word| word == "--json") {
                complain_json(error.render().to_string().trim_end(), code);
            } else {
                // A closed stdout or stderr leaves nobody to tell.
                let _ = error.print();
            }
            return ExitCode::from(code);
        }
    };
    if cli.user {
        match Place::own() {
            Ok(place) => place::enter(place),
            Err(why) => {
                complain(&format!("project-cluster: {why}\n"));
                return ExitCode::from(2);
            }
        }
    }
    let context = Context::new(&cli);
    if let Verb::Ls { select } = &cli.verb {
        // The verb that is typed most, and by scripts in a loop: it pays for nothing that it does not need.
        return end(ls(&context, select), &context);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => {
            complain(&format!("project-cluster: the kernel gives no event queue: {why}\n"));
            return ExitCode::from(1);
        }
    };
    let result = match &cli.verb {
        // These block on files and on systemd in turn; they bring their own event queue where they need one.
        Verb::Init => setup::init(&context),
        Verb::Check => setup::check(&context),
        Verb::Schema => setup::schema(),
        Verb::Completions { shell } => {
            print(shell.script());
            Ok(())
        }
        Verb::Complete { words } => complete::run(words),
        Verb::Install(options) => setup::install(&context, options, &runtime),
        Verb::Apply(options) => apply::run(&context, options, &runtime),
        Verb::Uninstall(options) => setup::uninstall(&context, options, &runtime),
        Verb::Package { step } => package::run(&context, *step, &runtime),
        Verb::Token(verb) => token::run(&context, verb, &runtime),
        verb => runtime.block_on(run(&context, verb)),
    };
    end(result, &context)
}

/// Tells how a verb ended; the process's exit code.
fn end(result: Result<(), Failure>, context: &Context) -> ExitCode {
    let json = context.json;
    // A script that reads JSON has it in `GET /v1/health`.
    if let Some(note) = context.client.version_note().filter(|_| !json) {
        complain(&format!("project-cluster: {note}\n"));
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (text, code) = match failure {
                Failure::Failed(text) => (text, 1),
                Failure::Usage(text) => (text, 2),
                Failure::Unreachable(text) => (text, 3),
            };
            if json && !text.is_empty() {
                complain_json(text.trim_end(), code);
            } else if !text.is_empty() {
                out::complain_wrapped(&format!("project-cluster: {}\n", text.trim_end()));
            }
            ExitCode::from(code)
        }
    }
}

async fn run(context: &Context, verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Show { select } => show::run(context, select).await,
        Verb::Start(options) => operate::run(context, "start", options).await,
        Verb::Stop(options) => operate::surely(context, "stop", options).await,
        Verb::Sleep(options) => operate::sleep(context, options).await,
        Verb::Reload(options) if options.handle => operate::as_handle(context, &options.operate).await,
        Verb::Reload(options) => operate::reload(context, options).await,
        Verb::Rollback(args::Rollback { app, to, wait }) => operate::roll_back(context, app, *to, *wait).await,
        Verb::Pause(args::Steer { select, timeout }) => {
            operate::steer(context, "pause", select, args::Wait { no_wait: false, timeout: *timeout, wait_drained: false }).await
        }
        Verb::Resume(options) => operate::steer(context, "resume", &options.select, options.wait).await,
        Verb::Abort(args::Abort { operate, waiting: false }) => operate::steer(context, "abort", &operate.select, operate.wait).await,
        Verb::Abort(args::Abort { operate, waiting: true }) => operate::forget(context, operate).await,
        Verb::Restart(options) => operate::run(context, "restart", options).await,
        Verb::Add(args::Add { app, count, wait }) => operate::count(context, "add", app, *count, *wait).await,
        Verb::Scale(args::Scale { app, count, wait }) => operate::count(context, "scale", app, *count, *wait).await,
        Verb::Remove(options) => operate::surely(context, "remove", options).await,
        Verb::Reset(options) => operate::run(context, "reset", options).await,
        Verb::Logs(options) => logs::run(context, options).await,
        Verb::Events(options) => events::run(context, options).await,
        Verb::History(options) => history::run(context, options).await,
        // Those that `main` has carried out already.
        Verb::Init
        | Verb::Check
        | Verb::Schema
        | Verb::Completions { .. }
        | Verb::Complete { .. }
        | Verb::Package { .. }
        | Verb::Install(_)
        | Verb::Apply(_)
        | Verb::Uninstall(_)
        | Verb::Token(_)
        | Verb::Ls { .. } => Ok(()),
    }
}

fn ls(context: &Context, select: &[String]) -> Result<(), Failure> {
    let mut apps: Vec<App> = context.client.fetch("/v1/apps", READ)?;
    let mut workers: Vec<Worker> = apps.iter().flat_map(|app| app.workers.clone()).collect();
    if !select.is_empty() {
        let chosen = selection(&apps, select)?;
        workers.retain(|row| chosen.iter().any(|choice| choice.has(row)));
        apps.retain(|app| chosen.iter().any(|choice| choice.is_of(app)));
    }
    if context.json {
        return print_json(&workers);
    }
    let new = marks::mark(context, &mut apps);
    print(&place::words(&list::workers(&workers, &apps, width(), context.look.colours)));
    if select.is_empty() {
        print(&place::words(&new.into_iter().map(|line| line + "\n").collect::<String>()));
    }
    Ok(())
}

/// Columns of the terminal; a pipe has no width.
pub(crate) fn width() -> usize {
    out::size().0
}
