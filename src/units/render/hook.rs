//! The template of a hook: a command of the app's that runs once for a new generation, as its workers would.
//!
//! It depends on nothing and nothing waits for it but who asked for it. `RemainAfterExit=yes`, so that a master that comes
//! later still finds how it ended; who recorded that stops it.

use crate::names::HookKind;
use crate::units::model::Host;
use crate::units::text;

use super::ini::Ini;
use super::{One, sandbox, worker};

/// Directives of `[apps.X.systemd]` that mean nothing to what runs once, or that systemd would complain of there.
const OF_WORKERS: [&str; 3] = ["OOMPolicy", "RuntimeMaxSec", "WatchdogSec"];

/// `NAME-APP:KIND@.service`.
pub(super) fn service(one: &One<'_>, kind: HookKind, host: &Host) -> String {
    let One { cluster, name, app, units, .. } = one;
    let (program, root) = (host.command(), host.as_root());
    let command = text::command(app.hooks.command(kind).unwrap_or_default());
    let when = match kind {
        HookKind::Before => "Runs before the first worker of a generation starts; where it fails, none is started.",
        HookKind::After => "Runs once a new generation serves.",
        HookKind::Failed => "Runs when a new generation does not serve.",
    };
    let mut ini = Ini::new(cluster);
    ini.say(&format!("A hook of {name}, {kind}: %i is the generation. {when}"))
        .say(&format!("Command: {command}"))
        .section("Unit")
        .set("Description", format!("project-cluster: {name} of {cluster}, hook {kind} of generation %i ({})", text::percent(&command)))
        .all(if host.is_user() { &[] } else { &[("After", "network.target remote-fs.target nss-lookup.target")] })
        .set("StartLimitIntervalSec", "0")
        .section("Service")
        .set("Type", "oneshot")
        .say("How it ended stays to be read, by a later master too; who has recorded it stops the unit.")
        .set("RemainAfterExit", "yes");
    worker::identity(&mut ini, &app.user);
    ini.line("")
        .say(&format!(
            "{} the generation's pin where it is the first of it, and sees to it that this runs once.",
            if host.is_user() { "Makes" } else { "As root: makes" }
        ))
        .set("ExecStartPre", format!("{root}{program} worker hook --cluster {cluster} --app {name} --kind {kind} %i"))
        .say("Becomes the command.")
        .set("ExecStart", format!("{program} worker exec"))
        .set("TimeoutStartSec", text::limit(app.hooks.timeout))
        .set("TimeoutStopSec", text::limit(app.timeout.kill))
        .say("SIGTERM to the command, SIGKILL to all that is left.")
        .set("KillMode", "mixed")
        .line("")
        .say("Beside the workers' own: it takes nothing of what they may use together.")
        .set("Slice", text::percent(&units.hook_slice(host.place.manager)))
        .set("RuntimeDirectory", units.hook_directory(kind, "%i"))
        .set("RuntimeDirectoryMode", "0700")
        .set("StandardOutput", "journal")
        .set("SyslogIdentifier", units.prefix())
        .set("LogExtraFields", format!("PROJECT_CLUSTER_NAME={cluster} PROJECT_CLUSTER_APP={name} PROJECT_CLUSTER_HOOK={kind}"))
        .set("LogRateLimitIntervalSec", "30s")
        .set("LogRateLimitBurst", "100000")
        .line("");
    sandbox::worker(&mut ini, app);
    let mut more = app.systemd.clone();
    more.retain(|key, _| !OF_WORKERS.iter().any(|of_workers| of_workers.eq_ignore_ascii_case(key)));
    if !more.is_empty() {
        ini.line("").say(&format!("As written in [apps.{name}.systemd]."));
        worker::directives(&mut ini, &more);
    }
    ini.finish()
}

/// `system-NAME\x2dAPP:hooks.slice.d/50-limits.conf`.
pub(super) fn limits(one: &One<'_>) -> String {
    let mut ini = Ini::new(one.cluster);
    ini.say(&format!("Of hooks of {}: the same limits as of all its workers together, beside those.", one.name)).section("Slice");
    worker::directives(&mut ini, &one.app.limits);
    ini.finish()
}
