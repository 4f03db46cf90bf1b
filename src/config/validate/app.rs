//! One app: its keys laid over the cluster's, and judged together.

use std::path::PathBuf;

use super::{Context, command, directives, hooks, limits, listen, units, user, warn};
use crate::config::accounts::Accounts;
use crate::config::choices;
use crate::config::fragment::{App, AppEntry, Cluster};
use crate::config::key::{At, Key};
use crate::config::settings::{self, Ready, Sandbox, Spawn, Workers};
use crate::config::source::Place;
use crate::config::values::{Command, Count};
use crate::names::AppName;

/// Validates an app.
pub(super) fn app<A: Accounts>(
    name: &AppName,
    entry: &At<AppEntry>,
    cluster: &Cluster,
    defaults: &settings::Reload,
    context: &mut Context<'_, A>,
) -> settings::App {
    let short;
    let app = match &entry.value {
        AppEntry::Full(app) => &**app,
        AppEntry::Short(workers) => {
            let workers = At { key: entry.key.clone(), place: entry.place.clone(), value: Count(*workers) };
            short = App { workers: Key::Given(workers), ..App::default() };
            &short
        }
    };
    let place = &entry.key;
    units::app(&context.cluster, context.whose.manager, name, place, context.findings);
    let workers = app.workers.value().map_or(Workers::Count(1), |count| count.0);
    let count = workers.count(context.cores);
    let reload = limits::reload(defaults, &app.reload, count, place, context.findings);
    let listen = listen::listens(name, &app.listen, context);
    let spawn = spawn(name, app, count, &reload, context);
    let own_port = matches!(spawn, Spawn::Child { port: Some(_), .. });
    let (command, cwd, env) = process(name, app, cluster, place, own_port, context);
    let hooks = hooks::hooks(name, cluster, app, &env, place, context);
    let user = user::user(name, app, place, context);
    let sandbox = sandbox(app, context);
    let ready = ready(app, own_port, place, context);
    let swap = app.swap.value().copied().unwrap_or(true);
    if app.on_demand.value() == Some(&true)
        && !has_listen(app)
        && let Some(at) = app.on_demand.get()
    {
        let help = "the first connection starts it: write the address as `listen`";
        context.findings.error("on-demand-without-listen", &at.key, "`on_demand` without `listen`", help);
    }
    if swap && !listen.is_empty() && !sandbox.privileges {
        let place = app.sandbox.value().and_then(|sandbox| sandbox.privileges.get()).map_or(place, |at| &at.place);
        let message = "setuid programs gain nothing all the same while `swap` is on";
        context.findings.warn("swap-privileges", place, message, "write `swap = false` too, and let the app use LISTEN_FDS");
    }
    let command_place = app.command.get().or(cluster.command.get()).map_or(place, |at| &at.place);
    warn::hidden(&command, &cwd, &sandbox, &user, app.cwd.get().map_or(command_place, |at| &at.place), context.findings);
    settings::App {
        // `install` knows it.
        revision: settings::Revision::default(),
        earlier: Vec::new(),
        workers,
        command,
        cwd: PathBuf::from(cwd),
        user,
        env,
        listen,
        spawn,
        swap,
        ready,
        on_demand: app.on_demand.value().copied().unwrap_or(false),
        success_exit_codes: app.success_exit_codes.value().map(|list| list.0.iter().map(|at| at.value.to()).collect()).unwrap_or_default(),
        timeout: limits::timeouts(&cluster.timeout, &app.timeout),
        reload,
        keep: limits::keep(&cluster.reload, &app.reload),
        hooks,
        sandbox,
        systemd: directives::service(&app.systemd, context.findings),
        limits: directives::limits(&app.limits, context.findings),
    }
}

/// Whether shared addresses are written; those that could not be read count too.
fn has_listen(app: &App) -> bool {
    !app.listen.absent() && app.listen.value().is_none_or(|listens| !listens.0.is_empty())
}

type Process = (Vec<String>, String, std::collections::BTreeMap<String, String>);

/// Command, working directory and environment.
fn process<A>(name: &AppName, app: &App, cluster: &Cluster, place: &Place, own_port: bool, context: &mut Context<'_, A>) -> Process {
    let findings = &mut *context.findings;
    let has_cwd = !app.cwd.absent();
    let cwd = command::cwd(&app.cwd, findings);
    let env = command::env(&app.env, own_port, findings);
    let inherited = app.command.absent();
    let words = match app.command.or(&cluster.command) {
        Key::Given(at) => {
            let words = command::words("command", at, inherited.then_some(name.as_str()), has_cwd, findings);
            warn::command(at, &words, has_cwd, findings);
            if !inherited && words.iter().any(|word| word.contains("{type}")) {
                let help = format!("write `{name}`, or move the command to the top of the file, for all apps");
                findings.warn("type-not-replaced", &at.place, "`{type}` stands for the app's name in the shared command alone", help);
            }
            command::size(&words, &env, &at.place, findings);
            words
        }
        Key::Bad => Vec::new(),
        Key::Absent => {
            let help = format!("write `command` in [apps.{name}], or one for all apps at the top of the file");
            findings.error("no-command", place, format!("app `{name}` has no command"), help);
            Vec::new()
        }
    };
    (words, cwd, env)
}

fn spawn<A>(name: &AppName, app: &App, count: u16, reload: &settings::Reload, context: &mut Context<'_, A>) -> Spawn {
    let child = app.spawn.value() == Some(&choices::Spawn::Child);
    let findings = &mut *context.findings;
    if !child {
        // A `spawn` that could not be read may have meant "child".
        for at in [app.port.get().map(|at| &at.key), app.ports.get().map(|at| &at.key)].into_iter().flatten() {
            if !matches!(app.spawn, Key::Bad) {
                let help = "write `listen` for an address that workers share, or `spawn = \"child\"` for a port of each worker's own";
                findings.error("port-without-child", at, "a port of each worker's own needs `spawn = \"child\"`", help);
            }
        }
        return Spawn::Cluster;
    }
    if let Some(at) = app.listen.get() {
        let help = "write `port` for a port of each worker's own, or drop `spawn` for shared sockets";
        findings.error("child-with-listen", &at.key, "`listen` is shared, and `spawn = \"child\"` shares nothing", help);
    }
    let ports = app.ports.get().map(|at| (at.value.0, at.value.1));
    let Some(at) = app.port.get() else {
        if let (Some(ports), Key::Absent) = (app.ports.get(), &app.port) {
            findings.error("ports-without-port", &ports.key, "`ports` without `port`", "write `port`, slot 1's port, too");
        }
        return Spawn::Child { port: None, ports };
    };
    let first: u16 = at.value.to();
    let last = first.checked_add(count.max(1) - 1);
    match last {
        Some(last) => context.book.range((first, last), &at.place, name.as_str(), findings),
        None => {
            let message = format!("{count} workers from port {first} on need ports beyond 65535");
            findings.error("out-of-range", &at.place, message, "write a lower `port`");
        }
    }
    if let Some(at) = app.ports.get() {
        context.book.range((at.value.0, at.value.1), &at.place, name.as_str(), findings);
    }
    let surge = reload.max_surge.up(count).max(reload.canary.up(count).min(count));
    let extra = ports.map_or(0, |(first, last)| last - first + 1);
    if extra < surge && !matches!(app.ports, Key::Bad) {
        let from = last.and_then(|last| last.checked_add(1)).filter(|from| from.checked_add(surge - 1).is_some()).unwrap_or(first);
        let help =
            format!("write ports = \"{from}-{}\", or max_surge = 0 and max_unavailable = 1 in [apps.{name}.reload]", from + (surge - 1));
        let message = format!("a roll needs {surge} more port{} for new workers", if surge == 1 { "" } else { "s" });
        findings.error("too-few-ports", app.ports.get().map_or(&at.place, |at| &at.place), message, help);
    }
    Spawn::Child { port: Some(first), ports }
}

fn ready<A>(app: &App, own_port: bool, place: &Place, context: &mut Context<'_, A>) -> Ready {
    let findings = &mut *context.findings;
    let has_sockets = has_listen(app) || own_port;
    let at = app.ready.get().map_or(place, |at| &at.place);
    let ready = match app.ready.value() {
        None if has_sockets => Ready::Listen,
        None => Ready::None,
        Some(choices::Ready::None) => Ready::None,
        Some(choices::Ready::Notify) => Ready::Notify,
        Some(choices::Ready::Listen) => {
            if !has_sockets && !matches!(app.port, Key::Bad) {
                let help = "write `listen` or a `port`, or another readiness, \"none\" for example";
                findings.error("ready-without-sockets", at, "`ready = \"listen\"` without anything to listen on", help);
            }
            Ready::Listen
        }
        Some(choices::Ready::Probe(table)) => match (table.http.get(), table.exec.get()) {
            (Some(http), None) => {
                http_ready(http, own_port || matches!(app.port, Key::Bad), findings);
                Ready::Http(http.value.clone())
            }
            (None, Some(exec)) => exec_ready(exec, !app.cwd.absent(), findings),
            (Some(_), Some(exec)) => {
                findings.error("bad-ready", &exec.key, "`http` and `exec` in one `ready`", "write one of them");
                Ready::None
            }
            (None, None) => {
                if table.http.absent() && table.exec.absent() {
                    findings.error("bad-ready", at, "no probe", "write { http = \"/path\" } or { exec = \"command\" }");
                }
                Ready::None
            }
        },
    };
    if ready == Ready::Listen
        && let Some(at) = app.sandbox.value().and_then(|sandbox| sandbox.users.get()).filter(|at| at.value)
    {
        let message = "in a user namespace of its own (`PrivateUsers=`) a worker cannot be seen to listen: it would never be ready";
        findings.error("users-hide-ready", &at.place, message, "write another `ready`, \"notify\" for example, or drop `users`");
    }
    ready
}

fn http_ready(at: &At<String>, own_port: bool, findings: &mut crate::config::finding::Findings) {
    if !own_port {
        let help = "write `spawn = \"child\"` and `port`; workers behind a shared socket cannot be asked one by one: use { exec = ... }";
        findings.error("ready-without-port", &at.place, "an `http` probe needs workers with a port of their own", help);
    }
    let fine = at.value.starts_with('/') && at.value.len() <= 1024 && at.value.bytes().all(|b| b.is_ascii_graphic());
    if !fine {
        let help = "expected a path such as \"/healthz\": it begins with / and holds no space, at most 1024 bytes";
        findings.error("bad-ready", &at.place, "not a path", help);
    }
}

fn exec_ready(at: &At<Command>, cwd: bool, findings: &mut crate::config::finding::Findings) -> Ready {
    let words = command::words("exec", at, None, cwd, findings);
    if let Command::Line(_) = &at.value {
        warn::command(at, &words, cwd, findings);
    }
    command::size(&words, &std::collections::BTreeMap::new(), &at.place, findings);
    Ready::Exec(words)
}

fn sandbox<A>(app: &App, context: &mut Context<'_, A>) -> Sandbox {
    let mut sandbox = if context.whose.is_user() { Sandbox::rootless() } else { Sandbox::default() };
    let Some(table) = app.sandbox.value() else { return sandbox };
    if context.whose.is_user() {
        let keys = [&table.system, &table.home, &table.tmp, &table.devices, &table.kernel, &table.proc, &table.users];
        for at in keys.into_iter().filter_map(Key::get).filter(|at| at.value) {
            let message = "in a user's own systemd this would need a user namespace, in which a worker cannot be seen to be ready";
            context.findings.error("not-rootless", &at.place, message, "drop it; docs/rootless.md has what holds there");
        }
    }
    let set = |into: &mut bool, key: &Key<bool>| *into = key.value().copied().unwrap_or(*into);
    set(&mut sandbox.privileges, &table.privileges);
    set(&mut sandbox.system, &table.system);
    set(&mut sandbox.home, &table.home);
    set(&mut sandbox.tmp, &table.tmp);
    set(&mut sandbox.devices, &table.devices);
    set(&mut sandbox.kernel, &table.kernel);
    set(&mut sandbox.proc, &table.proc);
    set(&mut sandbox.namespaces, &table.namespaces);
    set(&mut sandbox.families, &table.families);
    set(&mut sandbox.syscalls, &table.syscalls);
    set(&mut sandbox.users, &table.users);
    sandbox
}
