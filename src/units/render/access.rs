//! Who the master is, and what it may ask of systemd.

use crate::config::settings::{App, Settings};
use crate::names::{AppName, AppUnits, ClusterName, HookKind};
use crate::units::{gecos, mark};

/// `sysusers.d/NAME.conf`.
pub(super) fn sysusers(cluster: &ClusterName) -> String {
    format!("# {}\nu {cluster} - \"{}\" - -\n", mark(cluster), gecos(cluster))
}

/// The polkit rule: start, stop, restart and reset-failed of exactly this cluster's workers, hooks, handles, triggers and
/// app sockets, and reload of the handles. All else is left to the rules that follow, which by default ask for an administrator.
pub(super) fn polkit(settings: &Settings) -> String {
    let cluster = &settings.name;
    let handles: String =
        settings.apps.keys().map(|name| format!("        {},\n", string(&AppUnits::new(cluster, name).handle()))).collect();
    let mut exact = Vec::new();
    for (name, app) in &settings.apps {
        let units = AppUnits::new(cluster, name);
        exact.push(units.trigger());
        exact.extend(app.listen.iter().map(|listen| units.socket(&listen.address)));
    }
    let exact: String = exact.iter().map(|unit| format!("        {},\n", string(unit))).collect();
    let hooks = |name, app: &App| app.hooks.kinds().map(|kind| hook(cluster, name, kind)).collect::<Vec<_>>();
    let workers = settings.apps.iter().flat_map(|(name, app)| [vec![worker(cluster, name)], hooks(name, app)].concat());
    let workers: String = workers.map(|pattern| format!("        {pattern},\n")).collect();
    format!(
        r#"// {mark}
// The master of cluster {cluster} may start, stop, restart and reset the units below, reload its handles, and nothing else.
polkit.addRule(function (action, subject) {{
    var verbs = ["start", "stop", "restart", "reset-failed"];
    var handles = [
{handles}    ];
    var units = [
{exact}    ];
    var workers = [
{workers}    ];
    if (action.id !== "org.freedesktop.systemd1.manage-units" || subject.user !== {user}) {{
        return polkit.Result.NOT_HANDLED;
    }}
    var unit = action.lookup("unit");
    if (typeof unit !== "string") {{
        return polkit.Result.NOT_HANDLED;
    }}
    // A unit that the caller makes up, to run as root if it likes, is asked for by the same verb since systemd 257; the message
    // tells it. What keeps it from a name below is a unit file, and there is none while an app comes or goes.
    if (String(action.lookup("polkit.message")).indexOf("transient unit ") >= 0) {{
        return polkit.Result.NOT_HANDLED;
    }}
    var handle = handles.indexOf(unit) >= 0;
    if (verbs.indexOf(action.lookup("verb")) < 0 && !(handle && action.lookup("verb") === "reload")) {{
        return polkit.Result.NOT_HANDLED;
    }}
    if (handle || units.indexOf(unit) >= 0) {{
        return polkit.Result.YES;
    }}
    for (var i = 0; i < workers.length; i++) {{
        if (workers[i].test(unit)) {{
            return polkit.Result.YES;
        }}
    }}
    return polkit.Result.NOT_HANDLED;
}});
"#,
        mark = mark(cluster),
        user = string(cluster.as_str()),
    )
}

/// A JavaScript string. Unit names are ASCII, so that JSON's form is JavaScript's.
fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The pattern of an app's workers: `SLOT.GEN.TRY` or `SLOT.GEN-PIN.TRY` in their one spelling. Of all that a name
/// may hold only the dot means something in a pattern.
fn worker(cluster: &ClusterName, name: &AppName) -> String {
    let units = AppUnits::new(cluster, name);
    let prefix = units.prefix().replace('.', r"\.");
    format!(r"/^{prefix}@[1-9][0-9]{{0,3}}\.[1-9][0-9]{{0,19}}(-[1-9][0-9]{{0,19}})?\.[1-9][0-9]{{0,3}}\.service$/")
}

/// The same of a hook: `GEN` or `GEN-PIN`.
fn hook(cluster: &ClusterName, name: &AppName, kind: HookKind) -> String {
    let units = AppUnits::new(cluster, name);
    let prefix = units.prefix().replace('.', r"\.");
    format!(r"/^{prefix}:{kind}@[1-9][0-9]{{0,19}}(-[1-9][0-9]{{0,19}})?\.service$/")
}
