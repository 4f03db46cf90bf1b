//! What the keys mean together: the fragment becomes [`Settings`], or every error is told at once.
//!
//! Pure but for the lookup of accounts, which is passed in. Each part goes on behind an error with a harmless value,
//! so that one mistake hides no other; the settings are handed out only when there was none.

mod app;
mod book;
mod command;
mod directives;
mod hooks;
mod limits;
mod listen;
mod units;
mod user;
mod warn;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use self::book::Book;
pub use self::user::dynamic_user;
use super::accounts::Accounts;
use super::choices::Auth;
use super::finding::Findings;
use super::fragment::Cluster;
use super::settings::{self, FORMAT, Settings};
use super::source::Place;
use crate::names::{Address, AppName, ClusterName};

/// Most app types of one cluster: with 32 addresses each, comparing every pair of them stays quick.
pub const MAX_APPS: usize = 256;

/// What validation carries along.
struct Context<'a, A> {
    accounts: &'a A,
    whose: crate::place::Place,
    cores: usize,
    cluster: ClusterName,
    findings: &'a mut Findings,
    book: Book,
    dynamic: BTreeMap<String, (AppName, Place)>,
}

/// Validates what all files together say, on a machine with so many cores. None when any error was found.
pub fn validate(cluster: &Cluster, accounts: &impl Accounts, cores: usize, findings: &mut Findings) -> Option<Settings> {
    let name = name(cluster, findings);
    let mut context =
        Context { accounts, whose: accounts.place(), cores, cluster: name, findings, book: Book::default(), dynamic: BTreeMap::new() };
    let api = api(cluster, &mut context);
    let reload = limits::defaults(&cluster.reload, context.findings);
    let apps = apps(cluster, &reload, &mut context);
    let settings = Settings { format: FORMAT, name: context.cluster, api, apps };
    (!findings.failed()).then_some(settings)
}

fn name(cluster: &Cluster, findings: &mut Findings) -> ClusterName {
    let Some(at) = cluster.name.get() else { return ClusterName::default() };
    at.value.parse().unwrap_or_else(|error: crate::names::NameError| {
        findings.error("bad-cluster-name", &at.place, format!("`{}` is no name for a cluster", at.value), error.to_string());
        ClusterName::default()
    })
}

fn api<A>(cluster: &Cluster, context: &mut Context<'_, A>) -> settings::Api {
    let mut api = settings::Api { enabled: true, host: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 8887, auth: settings::Auth::Token };
    let mut place: Option<Place> = None;
    if let Some(at) = cluster.api.get() {
        let table = &at.value;
        if let Some(enabled) = table.enabled.value() {
            api.enabled = *enabled;
        }
        if let Some(at) = table.host.get() {
            place = Some(at.place.clone());
            match at.value.as_str() {
                "localhost" => {}
                text => match text.parse() {
                    Ok(host) => api.host = host,
                    Err(_) => context.findings.error(
                        "bad-address",
                        &at.place,
                        format!("`{text}` is not an IP address"),
                        "expected an address such as \"127.0.0.1\", \"0.0.0.0\" or \"::1\", without the port",
                    ),
                },
            }
        }
        if let Some(at) = table.auth.get()
            && at.value == Auth::None
        {
            api.auth = settings::Auth::None;
            if api.enabled && !api.host.is_loopback() {
                context.findings.error(
                    "open-door",
                    &at.place,
                    format!("whoever reaches {} could steer this cluster", api.host),
                    "without a token only a loopback `host` will do, such as \"127.0.0.1\"; or write `auth = \"token\"`",
                );
            }
        }
        if let Some(at) = table.port.get() {
            place = Some(at.place.clone());
            api.port = at.value.to();
        }
    }
    if api.enabled && !api.host.is_loopback() && api.auth == settings::Auth::Token {
        let at = place.clone().unwrap_or_else(|| Place::new(0, 0..0));
        let message = format!("the token travels to {} unencrypted, and whoever reads it there can steer this cluster", api.host);
        context.findings.warn(
            "clear-text",
            &at,
            message,
            "listen on 127.0.0.1 and put a proxy with TLS before it, or use a private network",
        );
    }
    let own = "the REST API's own";
    context.book.take(Address::Unix(context.whose.paths.api(&context.cluster)), None, own.into());
    if api.enabled {
        context.book.take(Address::Tcp(SocketAddr::new(api.host, api.port)), place, own.into());
    }
    api
}

fn apps<A: Accounts>(cluster: &Cluster, reload: &settings::Reload, context: &mut Context<'_, A>) -> BTreeMap<AppName, settings::App> {
    let mut apps = BTreeMap::new();
    let Some(at) = cluster.apps.get() else {
        if cluster.apps.absent() {
            let start = Place::new(0, 0..0);
            context.findings.warn("no-apps", &start, "no app is written", "add a table such as [apps.api] with a `command`");
        }
        return apps;
    };
    if at.value.0.len() > MAX_APPS {
        let help = format!("expected at most {MAX_APPS}");
        context.findings.error("too-many", &at.key, format!("{} apps", at.value.0.len()), help);
    }
    for (text, entry) in at.value.0.iter().take(MAX_APPS) {
        match text.parse::<AppName>() {
            Ok(name) => {
                let app = app::app(&name, entry, cluster, reload, context);
                apps.insert(name, app);
            }
            Err(error) => {
                let code = if crate::names::RESERVED.contains(&text.as_str()) { "reserved-name" } else { "bad-app-name" };
                context.findings.error(code, &entry.key, format!("`{text}` is no name for an app"), error.to_string());
            }
        }
    }
    apps
}
