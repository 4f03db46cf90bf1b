//! The handle of an app type, what a first connection triggers, and the drop-in that says which app it is.

use std::time::Duration;

use crate::config::settings::{User, Workers};
use crate::names::ClusterName;
use crate::units::model::Host;
use crate::units::text;

use super::ini::Ini;
use super::{One, sandbox};

/// `timeout.kill` where no drop-in says otherwise: its own default.
const DEFAULT_KILL: Duration = Duration::from_secs(5);

/// `NAME@.service`.
///
/// There is no `After=` on workers, sockets or the master: a start job of theirs would wait for the reload that
/// waits for it. The stop step is `ExecStopPost=`, since systemd skips `ExecStop=` of a unit that reloads.
pub(super) fn service(cluster: &ClusterName, host: &Host) -> String {
    let (program, root) = (host.command(), host.as_root());
    let mut ini = Ini::new(cluster);
    ini.say("The handle of an app: start, stop, restart and reload of this unit are those of all its workers.")
        .say("restart: all stop, fresh ones start, connections queue. reload: one after another, none is lost.")
        .section("Unit")
        .set("Description", format!("project-cluster: app %i of cluster {cluster}"))
        .set("PartOf", cluster.target())
        .set("StartLimitIntervalSec", "0")
        .section("Service")
        .set("Type", "oneshot")
        .set("RemainAfterExit", "yes");
    if !host.is_user() {
        ini.set("User", cluster.as_str());
    }
    ini.say("Each step says how far it is: `systemctl status` shows it.")
        .set("NotifyAccess", "exec")
        .say(if host.is_user() {
            "Start and stop do not need the master: they speak to your systemd over its own socket."
        } else {
            "Start and stop need neither the master nor D-Bus nor polkit: they run as root over PID 1's own socket."
        })
        .set("ExecStart", format!("{root}{program} handle start --cluster {cluster} %i"))
        .set("ExecReload", format!("{program} --cluster {cluster} reload --handle %i"))
        .set("ExecStopPost", format!("{root}{program} handle stop --cluster {cluster} %i"))
        .say("A stop during a reload ends the waiting reload command; that is no failure.")
        .set("SuccessExitStatus", "SIGTERM")
        .say("Start and reload bound each wait of theirs; the stop's limit is in the app's drop-in.")
        .set("TimeoutStartSec", "infinity")
        .set("TimeoutStopSec", text::span(stop_limit(DEFAULT_KILL)))
        .set("SyslogIdentifier", cluster.as_str())
        .set("LogExtraFields", format!("PROJECT_CLUSTER_NAME={cluster} PROJECT_CLUSTER_APP=%i"))
        .line("");
    if !host.is_user() {
        ini.say("For the reload command alone: a client of the API, which takes a mark that the master left.");
    }
    ini.all(&sandbox::ours(host)).all(sandbox::CALLS);
    if !host.is_user() {
        ini.set("ReadWritePaths", format!("-{}", host.paths().runtime(cluster).join("state").display())).all(&[
            ("PrivateUsers", "yes"),
            ("ProtectProc", "invisible"),
            ("ProcSubset", "pid"),
        ]);
    }
    ini.finish()
}

/// `NAME-first@.service`.
///
/// Without `RemainAfterExit=`, a waiting client starts it 124 times a second; without `--job-mode=fail` it cancels a
/// stop of the handle.
pub(super) fn trigger(cluster: &ClusterName, host: &Host) -> String {
    let mut ini = Ini::new(cluster);
    ini.say("What a connection to an app without running workers starts: it asks for the app's handle, and stays active")
        .say("so that it does so once. The handle re-arms it.")
        .section("Unit")
        .set("Description", format!("project-cluster: first connection to %i of cluster {cluster}"))
        .set("StartLimitIntervalSec", "0")
        .section("Service")
        .set("Type", "oneshot")
        .set("RemainAfterExit", "yes")
        .set("ExecStart", format!("{} start --no-block --job-mode=fail {cluster}@%i.service", host.systemctl_command()))
        .set("TimeoutStartSec", "30s")
        .set("SyslogIdentifier", cluster.as_str())
        .set("LogExtraFields", format!("PROJECT_CLUSTER_NAME={cluster} PROJECT_CLUSTER_APP=%i"))
        .line("")
        .all(&sandbox::ours(host))
        .all(sandbox::CALLS);
    if !host.is_user() {
        ini.all(&[("ProtectProc", "invisible"), ("ProcSubset", "pid")]);
    }
    ini.finish()
}

/// `NAME@APP.service.d/50-app.conf`.
pub(super) fn drop_in(one: &One<'_>) -> String {
    let One { cluster, name, app, .. } = one;
    let command = text::command(&app.command);
    let workers = match app.workers {
        Workers::PerCore => "one worker per core".to_owned(),
        Workers::Count(1) => "1 worker".to_owned(),
        Workers::Count(count) => format!("{count} workers"),
    };
    let user = match &app.user {
        User::Own => "who owns the cluster".to_owned(),
        User::Dynamic(name) => format!("{name}, made for it at run time"),
        User::Named { user, group: None } => user.clone(),
        User::Named { user, group: Some(group) } => format!("{user}, group {group}"),
    };
    let mut ini = Ini::new(cluster);
    ini.say(&format!("Command:   {command}"))
        .say(&format!("Directory: {}", text::visible(&app.cwd.to_string_lossy())))
        .say(&format!("Workers:   {workers}, {}@SLOT.GENERATION.TRY.service", one.units.prefix()))
        .say(&format!("User:      {}", text::visible(&user)));
    for listen in &app.listen {
        ini.say(&format!("Listens:   {}", text::visible(&listen.address.to_string())));
    }
    ini.section("Unit")
        .set("Description", format!("project-cluster: {name} of {cluster}, {workers} ({})", text::percent(&command)))
        .section("Service")
        .say("Time for the workers to drain (timeout.kill at most), once more to end after SIGTERM, and a reserve.")
        .set("TimeoutStopSec", text::span(stop_limit(app.kill_limit())));
    ini.finish()
}

/// The longest a stop of the handle may take.
fn stop_limit(kill: Duration) -> Duration {
    kill.saturating_mul(2).saturating_add(Duration::from_secs(30))
}
