//! The shared addresses of an app.

use std::path::Path;

use super::Context;
use super::user::exists;
use crate::config::accounts::Accounts;
use crate::config::choices::{AddressText, Listen, Listens};
use crate::config::finding::Findings;
use crate::config::fragment::ListenTable;
use crate::config::key::{At, Key};
use crate::config::settings;
use crate::config::source::Place;
use crate::names::{Address, AppName};

/// Most addresses of one app; `LISTEN_FDS` has no limit of its own, comparing all pairs has.
const MAX_LISTEN: usize = 32;
/// Default length of the accept queue: the kernel's own default cap.
const BACKLOG: u32 = 4096;

/// Ports below it are root's alone (`ip_unprivileged_port_start`, its default).
const FIRST_OPEN_PORT: u16 = 1024;

/// The addresses of an app, in the order written.
pub(super) fn listens<A: Accounts>(app: &AppName, key: &Key<Listens>, context: &mut Context<'_, A>) -> Vec<settings::Listen> {
    let Some(at) = key.get() else { return Vec::new() };
    if at.value.0.len() > MAX_LISTEN {
        context.findings.error(
            "too-many",
            &at.place,
            format!("{} addresses", at.value.0.len()),
            format!("expected at most {MAX_LISTEN} of one app"),
        );
    }
    at.value.0.iter().take(MAX_LISTEN).filter_map(|at| one(app, at, context)).collect()
}

fn one<A: Accounts>(app: &AppName, at: &At<Listen>, context: &mut Context<'_, A>) -> Option<settings::Listen> {
    let empty = ListenTable::default();
    let (address, place, table) = match &at.value {
        Listen::Plain(text) => (parse(&text.0, &at.place, context.findings)?, at.place.clone(), &empty),
        Listen::Table(table) => {
            let (address, place) = table_address(table, at, context.findings)?;
            (address, place, &**table)
        }
    };
    if let Address::Unix(path) = &address {
        in_runtime_directory(path, &place, context);
    } else {
        not_for_tcp(table, context.findings);
    }
    context.book.listen(address.clone(), &place, app.as_str(), context.findings);
    if context.whose.is_user() {
        not_of_a_user(&address, &place, table, context.findings);
    } else if let Some(owner) = table.owner.get() {
        exists("user", owner, context.accounts.user(&owner.value), context.findings);
    }
    if let Some(group) = table.group.get() {
        exists("group", group, context.accounts.group(&group.value), context.findings);
    }
    let default_mode = matches!(address, Address::Unix(_)).then_some(if table.group.absent() { 0o666 } else { 0o660 });
    Some(settings::Listen {
        address,
        mode: table.mode.value().map(|mode| mode.0).or(default_mode),
        owner: table.owner.value().cloned(),
        group: table.group.value().cloned(),
        backlog: table.backlog.value().map_or(BACKLOG, |number| number.to()),
    })
}

/// The address of a table and where it stands.
fn table_address(table: &ListenTable, at: &At<Listen>, findings: &mut Findings) -> Option<(Address, Place)> {
    match (&table.path, &table.address) {
        (Key::Given(path), Key::Absent) if !path.value.starts_with('/') => {
            let help = "expected an absolute path such as \"/run/shop/api.sock\"; a TCP address is written as `address`";
            findings.error("bad-address", &path.place, format!("`{}` is not an absolute path", path.value), help);
            None
        }
        (Key::Given(path), Key::Absent) => Some((parse(&path.value, &path.place, findings)?, path.place.clone())),
        (Key::Absent, Key::Given(address)) => {
            let AddressText(text) = &address.value;
            Some((parse(text, &address.place, findings)?, address.place.clone()))
        }
        (Key::Absent, Key::Absent) => {
            findings.error("bad-address", &at.place, "no address", "write `path = \"/run/shop/api.sock\"` or `address = 3000` in it");
            None
        }
        (Key::Given(_), Key::Given(second)) => {
            findings.error("bad-address", &second.key, "`path` and `address` in one table", "make two addresses of them, or drop one");
            None
        }
        // What is wrong with it has been told.
        _ => None,
    }
}

fn parse(text: &str, place: &Place, findings: &mut Findings) -> Option<Address> {
    match text.parse() {
        Ok(address) => Some(address),
        Err(error) => {
            let udp = text.starts_with("udp:");
            let message = if udp { format!("`{text}` is UDP") } else { format!("`{text}` is no address to listen on") };
            findings.error(if udp { "udp" } else { "bad-address" }, place, message, error.to_string());
            None
        }
    }
}

/// What an ordinary user cannot give, or have.
fn not_of_a_user(address: &Address, place: &Place, table: &ListenTable, findings: &mut Findings) {
    if let Some(owner) = table.owner.get() {
        let help = "drop it, or install the cluster as root, without `--user`";
        findings.error("not-rootless", &owner.place, "in your own systemd everything is yours", help);
    }
    if let Address::Tcp(address) = address
        && (1..FIRST_OPEN_PORT).contains(&address.port())
    {
        let message = format!("port {} is root's to open, unless the kernel was told otherwise", address.port());
        let help = "write a port from 1024 on, or have `sudo sysctl net.ipv4.ip_unprivileged_port_start=80` give lower ones to everybody";
        findings.warn("low-port", place, message, help);
    }
}

fn not_for_tcp(table: &ListenTable, findings: &mut Findings) {
    let places = [table.mode.get().map(|at| &at.key), table.owner.get().map(|at| &at.key), table.group.get().map(|at| &at.key)];
    for place in places.into_iter().flatten() {
        let help = "mode, owner and group belong to unix sockets; drop it, or write a `path`";
        findings.error("not-for-tcp", place, "a TCP address has no owner", help);
    }
}

/// A socket in a unit's runtime directory would go with the first worker that stops.
fn in_runtime_directory<A>(path: &Path, place: &Place, context: &mut Context<'_, A>) {
    let prefix = format!("{}-", context.whose.paths.runtime(&context.cluster).display());
    let path = path.display().to_string();
    if path.starts_with(&prefix) {
        let message = format!("`{path}` lies where systemd keeps, and removes, the workers' own directories");
        let help = format!("write a path outside {prefix}*, for example /run/sockets/NAME.sock");
        context.findings.error("bad-address", place, message, help);
    }
}
