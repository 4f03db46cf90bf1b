//! `token`: makes, lists and withdraws tokens of the API over TCP, by root's own hand. The master reads hashes alone.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use serde_json::json;
use tokio::runtime::Runtime;

use super::args::{Token as Verb, TokenAdd};
use super::live::Running;
use super::setup::may_install;
use super::table::{self, Cell, Tone, left};
use super::{Context, Failure, complain, print, print_json, time, width};
use crate::api::caller::Role;
use crate::api::token::Token;
use crate::api::tokens::{Entry, MOST, OPERATOR, TokenName, Tokens};
use crate::config::settings::Settings;
use crate::names::AppName;
use crate::units::install;
use crate::units::model::Host;

/// Where journald takes entries (`systemd.journal-fields(7)`); it adds itself who sent them.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// What the kernel says of who never logged in.
const NOBODY: u32 = u32::MAX;

pub(crate) fn run(context: &Context, verb: &Verb, runtime: &Runtime) -> Result<(), Failure> {
    match verb {
        Verb::Add(options) => add(context, options, runtime),
        Verb::Ls => ls(context),
        Verb::Revoke { name } => revoke(context, name, runtime),
    }
}

fn add(context: &Context, options: &TokenAdd, runtime: &Runtime) -> Result<(), Failure> {
    root_only(context, "token add NAME")?;
    let token = Token::fresh().map_err(|why| Failure::Failed(format!("the kernel gives no randomness: {why}")))?;
    let apps = (!options.apps.is_empty()).then(|| options.apps.iter().cloned().collect());
    let entry = Entry { name: options.name.clone(), role: options.role, apps, sha256: token.hash().text(), made_ms: time::now_ms() };
    // Before it opens anything: one that cannot be written down would be lost.
    if let Some(path) = &options.output {
        keep(path, &token)?;
    }
    let made = change(context, |tokens, settings| put(tokens, settings, entry.clone()));
    if let (Err(_), Some(path)) = (&made, &options.output) {
        // It opens nothing; the first error is the one to tell.
        let _ = fs::remove_file(path);
    }
    made?;
    let what = format!("token {}: {}", entry.name, rights(&entry));
    note(&format!("{what}; made"));
    heard(context, runtime);
    if context.json {
        let token = options.output.is_none().then(|| token.as_str());
        return print_json(&json!({
            "name": entry.name, "role": entry.role, "apps": entry.apps, "made_ms": entry.made_ms, "token": token, "output": options.output
        }));
    }
    match &options.output {
        Some(path) => context.say(&format!("{what}; it is in {}\n", path.display())),
        None => {
            // Beside the answer, which a script takes as it is.
            if context.look.says {
                complain(&format!("{what}. It is shown this once:\n"));
            }
            print(&format!("{}\n", token.as_str()));
        }
    }
    Ok(())
}

/// Adds an entry, where its name is free and there are its apps.
fn put(tokens: &mut Tokens, settings: &Settings, entry: Entry) -> Result<(), String> {
    if tokens.tokens.iter().any(|known| known.name == entry.name) {
        return Err(format!("there is a token `{0}` already. `project-cluster token revoke {0}` ends it", entry.name));
    }
    if tokens.tokens.len() >= MOST - 1 {
        return Err(format!(
            "there are {} tokens, and that is as many as there may be. `project-cluster token ls` lists them",
            tokens.tokens.len()
        ));
    }
    if let Some(unknown) = entry.apps.iter().flatten().find(|app| !settings.apps.contains_key(*app)) {
        let names: Vec<&str> = settings.apps.keys().map(AppName::as_str).collect();
        return Err(format!("there is no app `{unknown}` in what is installed. Apps: {}", names.join(", ")));
    }
    tokens.tokens.push(entry);
    tokens.tokens.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(())
}

fn ls(context: &Context) -> Result<(), Failure> {
    let failed = |why: install::Error| match may_install(context) {
        true => Failure::Failed(why.to_string()),
        false => Failure::Failed(format!("{why}, or join the group `{}`", context.cluster)),
    };
    let tokens = install::tokens(&context.cluster, &here(context)).map_err(failed)?;
    let operators = install::has_operators(&context.cluster, &here(context)).map_err(failed)?;
    if context.json {
        let row = |name: &str, role: Role, apps: serde_json::Value, made_ms: Option<u64>| json!({ "name": name, "role": role, "apps": apps, "made_ms": made_ms });
        let operator = operators.then(|| row(OPERATOR, Role::Admin, serde_json::Value::Null, None));
        let others = tokens.tokens.iter().map(|entry| row(entry.name.as_str(), entry.role, json!(entry.apps), Some(entry.made_ms)));
        return print_json(&operator.into_iter().chain(others).collect::<Vec<_>>());
    }
    print(&shown(operators, &tokens, width(), context.look.colours));
    Ok(())
}

/// The table.
pub(super) fn shown(operators: bool, tokens: &Tokens, width: usize, colours: bool) -> String {
    let role = |role: Role| Cell::toned(role.word(), if role == Role::Admin { Tone::Yellow } else { Tone::Plain });
    let operator = operators.then(|| vec![Cell::new(OPERATOR), role(Role::Admin), Cell::new("all"), Cell::new("by install")]);
    let others = tokens
        .tokens
        .iter()
        .map(|entry| vec![Cell::new(entry.name.as_str()), role(entry.role), Cell::new(apps(entry)), Cell::new(time::since(entry.made_ms))]);
    let rows: Vec<Vec<Cell>> = operator.into_iter().chain(others).collect();
    if rows.is_empty() {
        return "there is no token, so nobody may use the API over TCP\n".into();
    }
    table::render(&[left("TOKEN", 0), left("ROLE", 0), left("APPS", 0), left("MADE", 1)], &rows, width, colours)
}

fn revoke(context: &Context, name: &str, runtime: &Runtime) -> Result<(), Failure> {
    if name == OPERATOR {
        return Err(Failure::Usage(format!(
            "`{OPERATOR}` is the token that `install` makes, of which the operators have the copy. Remove /var/lib/{}/operators/token; `sudo project-cluster install` then makes another one, and this one ends",
            context.cluster
        )));
    }
    root_only(context, "token revoke NAME")?;
    let name: TokenName = name.parse().map_err(Failure::Usage)?;
    change(context, |tokens, _| {
        let before = tokens.tokens.len();
        tokens.tokens.retain(|known| known.name != name);
        if tokens.tokens.len() < before {
            return Ok(());
        }
        Err(format!("there is no token `{name}`. `project-cluster token ls` lists them"))
    })?;
    note(&format!("token {name}: withdrawn"));
    heard(context, runtime);
    if context.json {
        return print_json(&json!({ "name": name, "revoked": true }));
    }
    context.say(&format!("token {name} opens nothing any more\n"));
    Ok(())
}

fn change(context: &Context, change: impl FnOnce(&mut Tokens, &Settings) -> Result<(), String>) -> Result<(), Failure> {
    install::change_tokens(&context.cluster, &here(context), change).map_err(|why| match why {
        install::Error::Token(_) => Failure::Usage(why.to_string()),
        _ => Failure::Failed(why.to_string()),
    })
}

fn apps(entry: &Entry) -> String {
    entry.apps.as_ref().map_or_else(|| "all".to_owned(), |apps| apps.iter().map(AppName::as_str).collect::<Vec<_>>().join(", "))
}

fn rights(entry: &Entry) -> String {
    format!("role {}, apps: {}", entry.role, apps(entry))
}

/// The token in a file of its own, which must not be there yet, for its owner alone.
fn keep(path: &Path, token: &Token) -> Result<(), Failure> {
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
        writeln!(file, "{}", token.as_str())?;
        file.sync_all()
    });
    written.map_err(|why| Failure::Failed(format!("{} cannot be written ({why}): no token was made. Name another file", path.display())))
}

/// Lets the master end what goes on by a token that is none any more. Requests are held against the files themselves.
fn heard(context: &Context, runtime: &Runtime) {
    let told = Running::connect(context.place, runtime).and_then(|running| running.hang_up(&context.cluster.master()));
    if let Err(why) = told {
        complain(&format!(
            "project-cluster: the master was not told ({why}): streams of events that are open go on until `systemctl reload-or-restart {}`\n",
            context.cluster.master()
        ));
    }
}

/// Writes down in the journal what was done to the tokens, and who did it; journald adds what the kernel says of that.
fn note(what: &str) {
    let text = format!("MESSAGE={what} by user {}\nPRIORITY=5\nSYSLOG_IDENTIFIER=project-cluster\n", person());
    let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(text.as_bytes(), JOURNAL));
    if let Err(why) = sent {
        complain(&format!("project-cluster: the journal has no word of this: {why}\n"));
    }
}

/// Who logged in, also behind `sudo`; else who we are.
fn person() -> u32 {
    let login = fs::read_to_string("/proc/self/loginuid").ok().and_then(|text| text.trim().parse().ok()).filter(|uid| *uid != NOBODY);
    let sudo = || std::env::var("SUDO_UID").ok().and_then(|text| text.parse().ok());
    // SAFETY: getuid has no preconditions and cannot fail.
    login.or_else(sudo).unwrap_or_else(|| unsafe { libc::getuid() })
}

/// What is installed in this place.
fn here(context: &Context) -> install::Options {
    install::Options { host: Host::of(context.place.clone()), ..install::Options::default() }
}

fn root_only(context: &Context, verb: &str) -> Result<(), Failure> {
    if may_install(context) {
        return Ok(());
    }
    Err(Failure::Failed(format!("tokens are root's to make and withdraw: `sudo project-cluster {verb}`")))
}
