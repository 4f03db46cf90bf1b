//! What the scripts of a distribution's package call: every cluster of this machine is written anew by the version that was
//! unpacked, or put away before the program goes. docs/operations.md says what that does to what runs.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::runtime::Runtime;

use super::args::Step;
use super::live::Running;
use super::setup::{host, root_only};
use super::{Context, Failure, complain};
use crate::names::ClusterName;
use crate::units::install::{self, Live, Options, Report};
use crate::units::model::Host;

/// There where systemd is this machine's (`sd_booted(3)`); in a chroot, too, that has the host's `/run`.
const BOOTED: &str = "/run/systemd/system";

/// What an administrator of a Debian lets packages start and restart; 101 forbids it (`invoke-rc.d(8)`).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// One cluster that fails is told and keeps no other from its turn.
pub(crate) fn run(context: &Context, step: Step, runtime: &Runtime) -> Result<(), Failure> {
    root_only(context, "package")?;
    let mut options = Options { root: PathBuf::from("/"), host: Host::of(context.place.clone()), now: false };
    let clusters = install::clusters(&options).map_err(failed)?;
    let booted = booted();
    // In a chroot nothing runs that could begin anew, and units of before work with this version too.
    if clusters.is_empty() || step == Step::Upgrade && !booted {
        return Ok(());
    }
    // Units name the program; to take them away nobody needs to know it.
    if step == Step::Upgrade {
        options.host = host(context, true)?;
    }
    let running = if booted { Some(Running::connect(context.place, runtime).map_err(failed)?.for_a_package()) } else { None };
    let live = running.as_ref().map(|running| running as &dyn Live);
    let mut all_well = true;
    for cluster in &clusters {
        let forbidden = if step == Step::Upgrade { forbidden(cluster, &options.host) } else { None };
        let done = match step {
            Step::Upgrade => install::upgrade(cluster, &options, live.filter(|_| forbidden.is_none())),
            Step::Remove => install::retire(cluster, &options, live),
        };
        match done {
            Ok(report) => context.say(&(told(&report) + &forbidden.unwrap_or_default())),
            Err(why) => {
                all_well = false;
                complain(&format!("project-cluster: cluster {cluster}: {why}\n"));
            }
        }
    }
    match (step, live) {
        _ if all_well => Ok(()),
        (Step::Upgrade, _) => Err(failed("")),
        (Step::Remove, None) => Ok(()),
        (Step::Remove, Some(live)) => still_running(&clusters, live),
    }
}

fn failed(why: impl std::fmt::Display) -> Failure {
    Failure::Failed(why.to_string())
}

/// Whether what a package starts would reach this machine's systemd: it runs, and we are not in a chroot, in which PID 1 has
/// another root than we. As systemd's own tools have it, there is no systemd where there is no /proc.
fn booted() -> bool {
    let root = |path: &str| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    let ours = match (root("/proc/1/root"), root("/")) {
        (Ok(of_pid_1), Ok(ours)) => of_pid_1 == ours,
        (Err(why), _) => why.kind() != ErrorKind::NotFound,
        _ => true,
    };
    ours && Path::new(BOOTED).is_dir()
}

/// What is to be said where the administrator forbids to touch what runs of a cluster, or to start one that a removal put
/// away: its units are gone.
fn forbidden(cluster: &ClusterName, host: &Host) -> Option<String> {
    let master = cluster.master();
    let (action, by_hand) = match std::fs::read_to_string(host.units.join(&master)) {
        Ok(unit) if unit.contains(&format!("={} master ", host.program.display())) => ("restart", format!("systemctl restart {master}")),
        // Of another program: it is left alone all the same.
        Ok(_) => return None,
        Err(_) => ("start", format!("systemctl enable --now {}", cluster.target())),
    };
    let asked = Command::new(POLICY).args([&*master, action]).stdin(Stdio::null()).status();
    // Where there is none, all is allowed.
    asked.is_ok_and(|ended| ended.code() == Some(101)).then(|| {
        format!("cluster {cluster}: {POLICY} forbids to {action} {master}: its units are written, and systemd is not told; `systemctl daemon-reload && {by_hand}`\n")
    })
}

/// A removal fails where something goes on running, which could not start again without the program: not for a file.
fn still_running(clusters: &[ClusterName], live: &dyn Live) -> Result<(), Failure> {
    let patterns: Vec<String> = clusters
        .iter()
        .flat_map(|name| {
            [
                name.target(),
                name.master(),
                format!("{name}.socket"),
                format!("{name}@*.service"),
                format!("{name}-*@*.service"),
                format!("{name}-*.socket"),
            ]
        })
        .collect();
    match live.running(&patterns) {
        Ok(units) if units.is_empty() => Ok(()),
        Ok(units) => Err(Failure::Failed(format!(
            "what still runs could not start again without the program: `systemctl stop {}`, then remove the package again",
            units.join(" ")
        ))),
        Err(why) => Err(Failure::Failed(format!("what still runs cannot be seen: {why}"))),
    }
}

/// Nothing of a cluster to which nothing was done; of the others what they stand at, and no list of files.
fn told(report: &Report) -> String {
    let files = match report.actions.len() {
        0 => String::new(),
        1 => "1 file changed".into(),
        many => format!("{many} files changed"),
    };
    let notes = report.notes.iter().chain(&report.advice).cloned();
    let lines: Vec<String> = Some(files).into_iter().filter(|files| !files.is_empty()).chain(notes).collect();
    lines.iter().map(|line| format!("cluster {}: {line}\n", report.cluster)).collect()
}
