//! The worker template of an app, and the limits of all its workers together.
//!
//! Neither `env` nor `cwd` nor the command is a directive here: anybody may read a unit over D-Bus, and a worker
//! that comes back after a crash must be what it was. They come by the pin.

use std::time::Duration;

use crate::config::settings::{App, Ready, User};
use crate::health;
use crate::units::model::Host;
use crate::units::text;

use super::ini::Ini;
use super::{One, sandbox};

/// Beyond the limit that `worker ready` keeps by itself: it knows why a worker is not ready and should be the one to
/// say so, before systemd's own time-out kills it.
const START_RESERVE: Duration = Duration::from_secs(5);

/// `NAME-APP@.service`. No dependency on the master and no ordering after handle or master.
pub(super) fn service(one: &One<'_>, host: &Host) -> String {
    let One { cluster, name, app, units, kept } = one;
    let program = host.command();
    let command = text::command(&app.command);
    let mut ini = Ini::new(cluster);
    ini.say(&format!("A worker of {name}: %i is SLOT.GENERATION.TRY. What it becomes was fixed when its generation began:"))
        .say(&format!("`project-cluster show {name}` tells. The configuration says now: {command}"))
        .section("Unit")
        .set("Description", format!("project-cluster: {name} of {cluster}, worker %i ({})", text::percent(&command)))
        .all(if host.is_user() { &[] } else { &[("After", "network.target remote-fs.target nss-lookup.target")] })
        .say("Without it one worker that crashes in a loop would take the shared socket down.")
        .set("StartLimitIntervalSec", "0")
        .section("Service");
    if app.ready == Ready::Notify {
        ini.set("Type", "notify").say("The app's main process and our own steps, no child of the app.").set("NotifyAccess", "exec");
    } else if app.drain().is_some() {
        ini.set("Type", "exec")
            .say("For the step that drains, which asks for time. The app itself cannot reach the socket.")
            .set("NotifyAccess", "exec");
        if !host.is_user() && !hears(app) {
            ini.set("InaccessiblePaths", "-/run/systemd/notify");
        }
    } else {
        // None but who must: whoever may speak can put off its own SIGKILL for ever (EXTEND_TIMEOUT_USEC=).
        ini.set("Type", "exec");
    }
    identity(&mut ini, &app.user);
    if app.listen.len() > 1 {
        ini.say("systemd hands them over in any order, whatever is written here; `worker exec` puts them into this one.");
    }
    for listen in &app.listen {
        ini.set("Sockets", units.socket(&listen.address));
    }
    if !kept.is_empty() {
        ini.say("Of an older generation: a worker of it that comes back listens where it did. The others do without.");
    }
    for listen in *kept {
        ini.set("Sockets", units.socket(&listen.address));
    }
    if !(app.listen.is_empty() && kept.is_empty()) {
        ini.say("The flag is shared by all workers: `no` would make the listeners of running event loops block at each start.")
            .set("NonBlocking", "yes");
    }
    steps(&mut ini, one, host, &program);
    ini.line("")
        .say("For ever; the first step waits longer from the third end in a row on. systemd's own RestartSteps= never forget.")
        .set("Restart", "always")
        .set("RestartSec", text::span(app.timeout.restart))
        .set("TimeoutStopSec", text::limit(app.kill_limit()))
        .say("SIGTERM to the main process, SIGKILL to all that is left.")
        .set("KillMode", "mixed")
        .set("SuccessExitStatus", success(&app.success_exit_codes))
        .line("")
        .set("RuntimeDirectory", units.runtime_directory("%i"))
        .set("RuntimeDirectoryMode", "0700")
        .say("Lines count as the app's by the journal's trusted fields; these serve people who search.")
        .set("StandardOutput", "journal")
        .set("SyslogIdentifier", units.prefix())
        .set("LogExtraFields", format!("PROJECT_CLUSTER_NAME={cluster} PROJECT_CLUSTER_APP={name} PROJECT_CLUSTER_INSTANCE=%i"))
        .say("Of each worker: ten times systemd's own limit, so that a busy access log loses no error.")
        .set("LogRateLimitIntervalSec", "30s")
        .set("LogRateLimitBurst", "100000")
        .line("");
    sandbox::worker(&mut ini, app);
    if !app.systemd.is_empty() {
        ini.line("").say(&format!("As written in [apps.{name}.systemd]."));
        directives(&mut ini, &app.systemd);
    }
    ini.finish()
}

/// Whether the app speaks to systemd by itself, though it need not: as its own directives say.
fn hears(app: &App) -> bool {
    ["WatchdogSec", "FileDescriptorStoreMax"].iter().any(|key| app.systemd.contains_key(*key))
}

/// Who it runs as.
fn identity(ini: &mut Ini, user: &User) {
    match user {
        User::Own => {}
        User::Dynamic(name) => {
            ini.say("An account that exists while a worker runs; the name is written, else systemd would take the unit's.")
                .set("DynamicUser", "yes")
                .set("User", text::percent(name));
        }
        User::Named { user, group } => {
            ini.set("User", text::percent(user));
            if let Some(group) = group {
                ini.set("Group", text::percent(group));
            }
        }
    }
}

/// From the first step to readiness.
fn steps(ini: &mut Ini, one: &One<'_>, host: &Host, program: &str) {
    let root = host.as_root();
    let One { cluster, name, app, .. } = one;
    let limit = match app.ready {
        Ready::None => app.timeout.start.max(app.reload.min_ready),
        Ready::Notify | Ready::Listen | Ready::Http(_) | Ready::Exec(_) => app.timeout.start,
    };
    ini.line("")
        .say(&format!(
            "{} where it is in a crash loop, hands this worker its copy of the pin.",
            if host.is_user() { "Waits" } else { "As root: waits" }
        ))
        .set(
            "ExecStartPre",
            format!("{root}{program} worker prepare --cluster {cluster} --app {name} --restart-ms {} %i", app.timeout.restart.as_millis()),
        )
        .say("Becomes the app.")
        .set("ExecStart", format!("{program} worker exec"));
    if let Ready::Exec(_) = app.ready {
        ini.say("The app's own test of readiness, as its user and in its sandbox.")
            .set("ExecStartPost", format!("{program} worker probe --timeout-ms {}", limit.as_millis()));
    }
    ini.say("Active means ready.").set(
        "ExecStartPost",
        format!("{root}{program} worker ready --cluster {cluster} --app {name} --timeout-ms {} %i", limit.as_millis()),
    );
    if let Some(drain) = app.drain() {
        ini.say("Takes its sockets out of its epoll sets and waits for its connections. What it fails at is no failure of the worker.")
            .set(
                "ExecStop",
                format!(
                    "-{root}{program} drain --cluster {cluster} --app {name} --drain-ms {} --kill-ms {} %i",
                    drain.as_millis(),
                    app.timeout.kill.as_millis()
                ),
            );
    }
    let whole = if app.ready == Ready::Notify {
        ini.say("systemd itself waits for the app; the first step asks for more where it waits.");
        limit
    } else {
        ini.say("Of each step: no less than the first may wait, and beyond the limit of the last, which knows why it ends.");
        limit.saturating_add(START_RESERVE).max(health::STEP)
    };
    ini.set("TimeoutStartSec", text::limit(whole));
}

/// 143 is what many runtimes make of SIGTERM.
fn success(codes: &[u8]) -> String {
    let mut words = vec!["143".to_owned(), "SIGTERM".to_owned()];
    words.extend(codes.iter().filter(|code| ![0, 143].contains(*code)).map(u8::to_string));
    words.join(" ")
}

/// `system-NAME\x2dAPP.slice.d/50-limits.conf`.
pub(super) fn limits(one: &One<'_>) -> String {
    let mut ini = Ini::new(one.cluster);
    ini.say(&format!("Limits of all workers of {} together, as written in [apps.{}.limits].", one.name, one.name)).section("Slice");
    directives(&mut ini, &one.app.limits);
    ini.finish()
}

/// Directives of the configuration, in the order of their names; values of one name in the order written.
fn directives(ini: &mut Ini, directives: &std::collections::BTreeMap<String, Vec<String>>) {
    for (key, values) in directives {
        for value in values {
            ini.line(&text::verbatim(key, value));
        }
    }
}
