//! Who workers run as: an account that exists, or a dynamic user whose name is nobody else's.

use std::fmt::Write;

use super::Context;
use crate::config::accounts::{Accounts, DYNAMIC};
use crate::config::finding::Findings;
use crate::config::fragment::App;
use crate::config::key::{At, Key};
use crate::config::settings::{User, is_root};
use crate::config::source::Place;
use crate::names::{AppName, ClusterName};

/// Longest user name that systemd takes (`UT_NAMESIZE` without its end).
const MAX_USER: usize = 31;

/// The name of an app's dynamic user: `NAME-APP`, where that is a user name; else with `-` for what is not allowed,
/// cut to 31 bytes and ended by a hash of the whole, so that two apps never share one.
pub fn dynamic_user(cluster: &ClusterName, app: &AppName) -> String {
    let wanted = format!("{cluster}-{app}");
    let mut name: String = wanted.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' }).collect();
    if name != wanted || name.len() > MAX_USER {
        // FNV-1a: stable for ever, and enough to tell a cluster's apps apart; equal ones are refused.
        let hash = wanted.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        name.truncate(MAX_USER - 9);
        // Writing to a string cannot fail.
        let _ = write!(name, "-{hash:08x}");
    }
    name
}

/// The user of an app.
pub(super) fn user<A: Accounts>(name: &AppName, app: &App, place: &Place, context: &mut Context<'_, A>) -> User {
    if context.whose.is_user() {
        for at in [&app.user, &app.group].into_iter().filter_map(|key| key.get()) {
            let message = "in your own systemd everything runs as you";
            context.findings.error("not-rootless", &at.place, message, "drop it, or install the cluster as root, without `--user`");
        }
        return User::Own;
    }
    if let Some(at) = app.group.get()
        && app.user.absent()
    {
        let help = "write `user` too; without one systemd makes user and group";
        context.findings.error("group-without-user", &at.place, "`group` without `user`", help);
    }
    let Some(at) = app.user.get() else {
        let dynamic = dynamic_user(&context.cluster, name);
        if matches!(app.user, Key::Absent) {
            collision(name, &dynamic, place, context);
        }
        return User::Dynamic(dynamic);
    };
    if at.value == context.cluster.as_str() {
        context.findings.error(
            "user-is-master",
            &at.place,
            format!("`{}` is the master's own user", at.value),
            "a worker of that user could steer the cluster's units: write another account, or none",
        );
    } else if exists("user", at, context.accounts.user(&at.value), context.findings) == Some(0) {
        if !is_root(&at.value) {
            // The sandbox of root differs, and whose it is has to be seen in the name.
            context.findings.error("root-by-another-name", &at.place, format!("`{}` is root by another name", at.value), "write `root`");
        }
        context.findings.warn(
            "runs-as-root",
            &at.place,
            "the workers run as root",
            "leave `user` out and systemd makes an unprivileged one; ports below 1024 need no root, systemd opens them",
        );
    }
    if let Some(group) = app.group.get() {
        exists("group", group, context.accounts.group(&group.value), context.findings);
    }
    User::Named { user: at.value.clone(), group: app.group.value().cloned() }
}

/// The id of an account or group that must exist.
pub(super) fn exists(kind: &str, at: &At<String>, found: std::io::Result<Option<u32>>, findings: &mut Findings) -> Option<u32> {
    match found {
        Ok(Some(id)) => return Some(id),
        Ok(None) => findings.error(
            if kind == "user" { "no-such-user" } else { "no-such-group" },
            &at.place,
            format!("there is no {kind} `{}` on this machine", at.value),
            match kind {
                "user" => "make it (`useradd --system NAME`), or leave `user` out and systemd makes one",
                _ => "make it (`groupadd --system NAME`), or name another one",
            },
        ),
        Err(error) => lookup_failed(kind, &at.value, &at.place, &error, findings),
    }
    None
}

fn lookup_failed(kind: &str, name: &str, place: &Place, error: &std::io::Error, findings: &mut Findings) {
    let message = format!("the {kind} `{name}` could not be looked up: {error}");
    findings.error("lookup-failed", place, message, "see that the services named in /etc/nsswitch.conf answer");
}

fn collision<A: Accounts>(app: &AppName, dynamic: &str, place: &Place, context: &mut Context<'_, A>) {
    for (kind, found) in [("an account", context.accounts.user(dynamic)), ("a group", context.accounts.group(dynamic))] {
        match found {
            // A running worker's own dynamic user is seen as an account.
            Ok(Some(id)) if !DYNAMIC.contains(&id) => context.findings.error(
                "user-collides",
                place,
                format!("the workers' user would be called `{dynamic}`, and there is {kind} of that name"),
                format!("systemd would run them as that account: rename the app, or write `user = \"{dynamic}\"` if that is meant"),
            ),
            Ok(_) => {}
            Err(error) => lookup_failed(if kind == "a group" { "group" } else { "user" }, dynamic, place, &error, context.findings),
        }
    }
    if let Some((other, other_place)) = context.dynamic.get(dynamic) {
        let message = format!("the workers' user would be called `{dynamic}`, as app `{other}`'s");
        context.findings.error_also("user-collides", place, message, "rename one of the apps", (other_place, "the other app"));
    } else {
        context.dynamic.insert(dynamic.into(), (app.clone(), place.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynamic_users_are_user_names_and_never_shared() {
        let cluster = ClusterName::default();
        let name = |app: &str| dynamic_user(&cluster, &app.parse().unwrap());
        assert_eq!(name("api"), "project-cluster-api");
        assert_eq!(name("api_V2-x"), "project-cluster-api_V2-x");
        assert_eq!(name("fifteen-bytes-x"), "project-cluster-fifteen-bytes-x");
        assert_eq!(name("a.b"), "project-cluster-a-b-6bb52d9b");
        assert_eq!(name("sixteen-bytes-xx"), "project-cluster-sixtee-fa86821d");
        let apps = ["a.b", "a-b", "a_b", "a.b.", "sixteen-bytes-xx", "sixteen-bytes-xy", "sixteen-bytes-xxx", &"x".repeat(64)];
        let names: std::collections::BTreeSet<String> = apps.iter().map(|app| name(app)).collect();
        assert_eq!(names.len(), apps.len());
        assert!(names.iter().all(|name| name.len() <= MAX_USER), "{names:?}");
    }
}
