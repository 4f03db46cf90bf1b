//! Hooks: an app's own keys over the cluster's, each judged where it is written.

use std::collections::BTreeMap;

use super::{Context, command, units, warn};
use crate::config::choices::Hook;
use crate::config::fragment::{App, Cluster, Hooks};
use crate::config::key::{At, Key};
use crate::config::settings;
use crate::config::source::Place;
use crate::names::{AppName, HookKind};

/// The hooks of an app with this environment.
pub(super) fn hooks<A>(
    name: &AppName,
    cluster: &Cluster,
    app: &App,
    env: &BTreeMap<String, String>,
    place: &Place,
    context: &mut Context<'_, A>,
) -> settings::Hooks {
    let of_cluster = cluster.reload.value().and_then(|reload| reload.hooks.value());
    let of_app = app.reload.value().and_then(|reload| reload.hooks.value());
    let mut hooks = settings::Hooks::default();
    for table in [of_cluster, of_app].into_iter().flatten() {
        if let Some(timeout) = table.timeout.value() {
            hooks.timeout = timeout.0;
        }
    }
    let cwd = !app.cwd.absent();
    let mut read = |kind: HookKind| {
        let own = of_app.and_then(|table| key(table, kind).get());
        let At { key, place, value } = own.or_else(|| of_cluster.and_then(|table| key(table, kind).get()))?;
        // `[]` over a shared one is none.
        let at = &At { key: key.clone(), place: place.clone(), value: value.0.clone()? };
        let words = command::words(kind.word(), at, own.is_none().then_some(name.as_str()), cwd, context.findings);
        warn::hook(at, &words, cwd, context.findings);
        if own.is_some() && words.iter().any(|word| word.contains("{type}")) {
            let help = format!("write `{name}`, or move the command to [reload.hooks], for all apps");
            context.findings.warn("type-not-replaced", &at.place, "`{type}` stands for the app's name in the shared command alone", help);
        }
        command::size(&words, env, &at.place, context.findings);
        Some(words)
    };
    (hooks.before, hooks.after, hooks.failed) = (read(HookKind::Before), read(HookKind::After), read(HookKind::Failed));
    if hooks.kinds().next().is_some() {
        units::hooks(&context.cluster, context.whose.manager, name, place, context.findings);
    }
    hooks
}

fn key(table: &Hooks, kind: HookKind) -> &Key<Hook> {
    match kind {
        HookKind::Before => &table.before,
        HookKind::After => &table.after,
        HookKind::Failed => &table.failed,
    }
}
