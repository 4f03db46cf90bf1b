//! The command line: parses, asks the master, renders. A client only: it changes nothing by itself but what root's
//! own `install` and `uninstall` write.

mod apply;
pub mod args;
pub mod client;
mod events;
mod follow;
mod list;
mod live;
mod logs;
mod marks;
mod operate;
mod out;
mod plain;
mod setup;
mod sse;
mod table;
mod time;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use hyper::Method;

use self::args::{Cli, Verb};
use self::client::Client;
use crate::api::types::{App, Worker};
use crate::config;
use crate::names::{ClusterName, Uid};

pub(crate) use self::out::{complain, complain_json, print, print_json, print_json_line, reader_gone};

/// Where the configuration lies when nothing else is said.
pub const CONFIG: &str = "/etc/project-cluster/cluster.toml";

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
    pub config: PathBuf,
    pub cluster: ClusterName,
    pub json: bool,
    pub client: Client,
}

impl Context {
    fn new(cli: &Cli) -> Self {
        let config = cli.config.clone().unwrap_or_else(|| PathBuf::from(CONFIG));
        // The configuration may hold secrets and be unreadable for us: then the default name, or --cluster.
        let cluster = cli.cluster.clone().or_else(|| config::cluster_name(&config)).unwrap_or_default();
        let client = Client::new(&cluster);
        Self { config, cluster, json: cli.json, client }
    }

    /// All apps of the cluster.
    async fn apps(&self) -> Result<Vec<App>, Failure> {
        Ok(self.client.insist(Method::GET, "/v1/apps", READ).await?)
    }
}

/// Runs the command line; returns the process's exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::quick(std::env::args_os().skip(1)).map_or_else(Cli::try_parse, Ok) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; usage is exit code 2 in clap as in ours.
            let code = if error.use_stderr() { 2 } else { 0 };
            if code == 2 && std::env::args_os().any(|word| word == "--json") {
                complain_json(error.render().to_string().trim_end(), code);
            } else {
                // A closed stdout or stderr leaves nobody to tell.
                let _ = error.print();
            }
            return ExitCode::from(code);
        }
    };
    let context = Context::new(&cli);
    if let Verb::Ls { select } = &cli.verb {
        // The verb that is typed most, and by scripts in a loop: it pays for nothing that it does not need.
        return end(ls(&context, select), cli.json);
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
        Verb::Install(options) => setup::install(&context, options, &runtime),
        Verb::Apply(options) => apply::run(&context, options, &runtime),
        Verb::Uninstall { root } => setup::uninstall(&context, root.as_deref(), &runtime),
        verb => runtime.block_on(run(&context, verb)),
    };
    end(result, cli.json)
}

/// Tells how a verb ended; the process's exit code.
fn end(result: Result<(), Failure>, json: bool) -> ExitCode {
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
                complain(&format!("project-cluster: {}\n", text.trim_end()));
            }
            ExitCode::from(code)
        }
    }
}

async fn run(context: &Context, verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Show { select } => show(context, select).await,
        Verb::Start(options) => operate::run(context, "start", options).await,
        Verb::Stop(options) => operate::run(context, "stop", options).await,
        Verb::Sleep(options) => operate::sleep(context, options).await,
        Verb::Reload(options) if options.handle => operate::as_handle(context, &options.operate).await,
        Verb::Restart(options) | Verb::Reload(args::Reload { operate: options, .. }) => operate::run(context, "restart", options).await,
        Verb::Add(args::Add { app, count, wait }) => operate::count(context, "add", app, *count, *wait).await,
        Verb::Scale(args::Scale { app, count, wait }) => operate::count(context, "scale", app, *count, *wait).await,
        Verb::Remove(options) => operate::run(context, "remove", options).await,
        Verb::Reset(options) => operate::run(context, "reset", options).await,
        Verb::Logs(options) => logs::run(context, options).await,
        Verb::Events(options) => events::run(context, options).await,
        // Those that `main` has carried out already.
        Verb::Init | Verb::Check | Verb::Schema | Verb::Install(_) | Verb::Apply(_) | Verb::Uninstall { .. } | Verb::Ls { .. } => Ok(()),
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
    print(&list::workers(&workers, &apps, width(), colours()));
    if select.is_empty() {
        print(&new.into_iter().map(|line| line + "\n").collect::<String>());
    }
    Ok(())
}

async fn show(context: &Context, select: &[String]) -> Result<(), Failure> {
    let mut apps = context.apps().await?;
    marks::mark(context, &mut apps);
    let names = app_names(&apps, select)?;
    let chosen: Vec<&App> = apps.iter().filter(|app| names.contains(&app.name.to_string())).collect();
    if context.json {
        return print_json(&chosen);
    }
    let shown: Vec<String> = chosen.iter().map(|app| list::app(app, width(), colours())).collect();
    print(&shown.join("\n"));
    Ok(())
}

/// What one selector chooses.
pub(crate) enum Choice {
    App(String),
    Worker(Uid),
}

impl Choice {
    fn is_of(&self, app: &App) -> bool {
        match self {
            Self::App(name) => app.name.as_str() == name,
            Self::Worker(uid) => app.name == uid.app,
        }
    }
    fn has(&self, row: &Worker) -> bool {
        match self {
            Self::App(name) => row.app.as_str() == name,
            Self::Worker(uid) => row.uid == *uid,
        }
    }
}

/// What the selectors choose; one that chooses nothing is an error that names the nearest.
pub(crate) fn selection(apps: &[App], select: &[String]) -> Result<Vec<Choice>, Failure> {
    let chosen = past_selection(apps, select)?;
    let there = |uid: &Uid| apps.iter().flat_map(|app| &app.workers).any(|row| row.uid == *uid);
    match chosen.iter().find_map(|choice| if let Choice::Worker(uid) = choice { Some(uid).filter(|uid| !there(uid)) } else { None }) {
        None => Ok(chosen),
        Some(uid) => Err(Failure::Usage(format!("there is no worker `{uid}`. `project-cluster ls {}` lists them", uid.app))),
    }
}

/// The same where the past is asked for: a worker that was removed has one, too.
pub(crate) fn past_selection(apps: &[App], select: &[String]) -> Result<Vec<Choice>, Failure> {
    let mut chosen = Vec::new();
    for text in select {
        let app = text.split(':').next().unwrap_or(text);
        if text == "all" {
            chosen.extend(apps.iter().map(|app| Choice::App(app.name.to_string())));
        } else if !apps.iter().any(|known| known.name.as_str() == app) {
            return Err(Failure::Usage(unknown(apps, app)));
        } else if text.contains(':') {
            let uid: Uid = text.parse().map_err(|why| Failure::Usage(format!("`{text}`: {why}")))?;
            chosen.push(Choice::Worker(uid));
        } else {
            chosen.push(Choice::App(app.to_owned()));
        }
    }
    Ok(chosen)
}

/// The apps that the selectors choose, each once; a single worker is refused.
pub(crate) fn app_names(apps: &[App], select: &[String]) -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = Vec::new();
    for choice in selection(apps, select)? {
        match choice {
            Choice::App(name) if names.contains(&name) => {}
            Choice::App(name) => names.push(name),
            Choice::Worker(uid) => {
                return Err(Failure::Usage(format!("`{uid}` is one worker; this verb takes apps. Write `{}`, or `all`", uid.app)));
            }
        }
    }
    Ok(names)
}

fn unknown(apps: &[App], name: &str) -> String {
    let names: Vec<&str> = apps.iter().map(|app| app.name.as_str()).collect();
    let nearest = names
        .iter()
        .copied()
        .filter(|known| strsim::damerau_levenshtein(known, name) <= 2)
        .min_by_key(|known| strsim::damerau_levenshtein(known, name));
    let hint = nearest.map_or_else(String::new, |nearest| format!(" Did you mean `{nearest}`?"));
    format!("there is no app `{}`.{hint} Apps: {}", crate::journal::harmless(name), names.join(", "))
}

/// Columns of the terminal; a pipe has no width.
pub(crate) fn width() -> usize {
    // SAFETY: TIOCGWINSZ fills the winsize that it is given; zeroes are a valid one.
    let columns = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        if libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) == 0 { size.ws_col } else { 0 }
    };
    if columns == 0 { usize::MAX } else { columns.into() }
}

/// Whether to colour: on a terminal, unless `NO_COLOR` is set (no-color.org).
pub(crate) fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
