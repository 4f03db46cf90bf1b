//! The master, the listener of its API, and the target that holds the cluster together.

use std::net::SocketAddr;

use crate::config::settings::{Api, Settings, Workers};
use crate::names::{AppUnits, ClusterName};
use crate::units::model::Host;
use crate::units::text;

use super::ini::Ini;
use super::sockets::bind_options;
use super::{Kept, sandbox};

/// `NAME.service`.
pub(super) fn service(cluster: &ClusterName, api: &Api, host: &Host) -> String {
    let mut ini = Ini::new(cluster);
    ini.say("The master: rolls, watches, answers the API. Workers do not depend on it: it may die at any time.")
        .section("Unit")
        .set("Description", format!("project-cluster: master of cluster {cluster}"))
        .set("Requires", cluster.api_socket())
        .set("After", cluster.api_socket())
        .set("PartOf", cluster.target());
    if api.enabled {
        ini.say("It goes on without, where its port is taken; each start of the master tries again.")
            .set("Wants", cluster.tcp_socket())
            .set("After", cluster.tcp_socket());
    }
    ini.say("It is started again however often it ends; a start limit would take the API's socket down for good.")
        .set("StartLimitIntervalSec", "0")
        .section("Service")
        .set("Type", "notify");
    if !host.is_user() {
        ini.set("User", cluster.as_str()).say("To read the logs of the apps.").set("SupplementaryGroups", "systemd-journal");
    }
    ini.set("ExecStart", format!("{} master --cluster {cluster}", host.command()))
        .say("Generous: a machine that starves is no reason to kill it.")
        .set("WatchdogSec", "60s")
        .set("Restart", "always")
        .set("RestartSec", "1s")
        .say(&if host.is_user() {
            "The roll in progress outlives a restart.".to_owned()
        } else {
            format!("The roll in progress outlives a restart; /run/{cluster} itself stays root's.")
        })
        .set("RuntimeDirectory", format!("{cluster}/state"))
        .set("RuntimeDirectoryMode", "0700")
        .set("RuntimeDirectoryPreserve", "yes");
    if !host.is_user() {
        // In a user's systemd it means another place from version to version; the master makes its directory there.
        ini.set("StateDirectory", format!("{cluster}/state")).set("StateDirectoryMode", "0700");
    }
    ini.set("SyslogIdentifier", cluster.as_str())
        .set("LogExtraFields", format!("PROJECT_CLUSTER_NAME={cluster}"))
        .line("")
        .say("Many times what a cluster of 500 workers and 2,000 connections take: where it takes this, something is wrong with it.")
        .set("TasksMax", "64")
        .set("MemoryMax", "512M")
        .set("LimitCORE", "0");
    if !host.is_user() {
        confine(&mut ini, cluster, host);
    }
    ini.all(&sandbox::ours(host))
        .say("What it and `journalctl` call, measured; a call outside fails with EPERM. No listener of its own, no link, no device.")
        .all(sandbox::MASTER_CALLS);
    ini.finish()
}

/// What it must not see.
fn confine(ini: &mut Ini, cluster: &ClusterName, host: &Host) {
    let (pins, operators) = (host.paths().pins(cluster), host.paths().operators(cluster));
    ini.say("It sees other users' processes (their memory and CPU), and nothing of what is root's alone, nor the operators' token:")
        .say("it knows that by its hash.")
        .set("InaccessiblePaths", format!("-/etc/project-cluster -{} -{}", pins.display(), operators.display()));
}

/// `NAME.socket`.
pub(super) fn socket(cluster: &ClusterName, host: &Host) -> String {
    let mut ini = Ini::new(cluster);
    ini.say("The API's unix socket. PID 1 holds it: requests wait while the master restarts.")
        .section("Unit")
        .set("Description", format!("project-cluster: API of cluster {cluster}"))
        .set("PartOf", cluster.target())
        .set("StartLimitIntervalSec", "0")
        .section("Socket")
        .set("ListenStream", text::percent(&host.paths().api(cluster).to_string_lossy()));
    if host.is_user() {
        ini.set("SocketMode", "0600").set("DirectoryMode", "0700");
    } else {
        ini.say(&format!("Members of the group {cluster} may steer the cluster."))
            .set("SocketMode", "0660")
            .set("SocketGroup", cluster.as_str());
    }
    ini.set("FileDescriptorName", "api")
        .set("RemoveOnStop", "yes")
        .say("A master that crashes under requests must not close it for good.")
        .set("TriggerLimitIntervalSec", "0");
    ini.finish()
}

/// `NAME-tcp.socket`.
pub(super) fn tcp_socket(cluster: &ClusterName, api: &Api) -> String {
    let address = SocketAddr::new(api.host, api.port);
    let mut ini = Ini::new(cluster);
    ini.say("The API's TCP socket: a unit of its own, so that a taken port leaves the unix socket as it is. PID 1 holds it.")
        .say(&format!("A socket does not start beside its running service: `systemctl restart {cluster}` starts it."))
        .section("Unit")
        .set("Description", format!("project-cluster: API of cluster {cluster} on {address}"))
        .set("PartOf", cluster.target())
        .set("StartLimitIntervalSec", "0")
        .section("Socket")
        .set("ListenStream", address.to_string());
    bind_options(&mut ini, address.ip());
    ini.set("Service", cluster.master())
        .set("FileDescriptorName", "tcp")
        .set("NoDelay", "yes")
        .say("A client that is gone without a word gives its place back after some two minutes.")
        .all(&[("KeepAlive", "yes"), ("KeepAliveTimeSec", "60s"), ("KeepAliveIntervalSec", "20s"), ("KeepAliveProbes", "3")])
        .say("A master that crashes under requests must not close it for good.")
        .set("TriggerLimitIntervalSec", "0");
    ini.finish()
}

/// `NAME.target`.
pub(super) fn target(settings: &Settings, kept: &Kept, host: &Host) -> String {
    let cluster = &settings.name;
    let mut ini = Ini::new(cluster);
    ini.say("Everything of this cluster: `systemctl stop` of it stops all, `start` starts what starts at boot.")
        .section("Unit")
        .set("Description", format!("project-cluster: cluster {cluster}"))
        .set("Wants", cluster.api_socket())
        .set("Wants", cluster.master());
    if settings.api.enabled {
        ini.set("Wants", cluster.tcp_socket());
    }
    for (name, app) in &settings.apps {
        let units = AppUnits::new(cluster, name);
        if app.workers == Workers::Count(0) {
            ini.say(&format!("{name} has 0 workers: declared, not started."));
        } else if app.on_demand {
            ini.say(&format!("{name} is on demand: only its sockets, the first connection starts its workers."));
            for listen in app.listen.iter().chain(kept.get(name).into_iter().flatten()) {
                ini.set("Wants", units.socket(&listen.address));
            }
        } else {
            ini.set("Wants", units.handle());
        }
    }
    ini.section("Install").set("WantedBy", host.place.manager.boot_target());
    ini.finish()
}
