//! `logs`: becomes `journalctl` on the units that were chosen. journald keeps the lines; we only know the units.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::args::Logs;
use super::{Choice, Context, Failure, complain, past_selection};
use crate::api::types::App;
use crate::names::AppUnits;

pub(crate) async fn run(context: &Context, options: &Logs) -> Result<(), Failure> {
    let apps = context.apps().await?;
    let all = ["all".to_owned()];
    let select = if options.select.is_empty() { &all[..] } else { &options.select };
    let mut command = Command::new("journalctl");
    command.arg(format!("--lines={}", options.lines));
    if context.json {
        command.arg("--output=json");
    } else {
        command.args(["--output=short", "--no-hostname"]);
    }
    if options.follow {
        command.arg("--follow");
    } else {
        command.arg("--no-pager");
    }
    let chosen = past_selection(&apps, select)?;
    command.args(if options.follow { followed(context, &apps, &chosen)? } else { past(context, &apps, &chosen) });
    may_read(&["/var/log/journal", "/run/log/journal"].map(Path::new))?;
    let why = command.exec();
    Err(Failure::Failed(format!("journalctl cannot be run: {why}. It is part of systemd; look at PATH")))
}

/// journalctl would show nothing, and say so in words that name no command.
fn may_read(directories: &[&Path]) -> Result<(), Failure> {
    let machines = directories.iter().filter_map(|directory| std::fs::read_dir(directory).ok()).flatten().flatten();
    let opened: Vec<_> = machines.map(|machine| File::open(machine.path().join("system.journal"))).collect();
    let denied = |result: &io::Result<File>| matches!(result, Err(why) if why.kind() == io::ErrorKind::PermissionDenied);
    if opened.iter().any(Result::is_ok) || !opened.iter().any(denied) {
        return Ok(());
    }
    let how =
        "you may not read the journal: run it as root, or join its group: `sudo usermod -aG systemd-journal $USER`, then log in again";
    Err(Failure::Failed(how.into()))
}

/// Globs of units: journalctl finds all that match in the journal, also those that are long gone.
fn past(context: &Context, apps: &[App], chosen: &[Choice]) -> Vec<String> {
    let glob = |choice: &Choice| match choice {
        Choice::App(name) => {
            let app = apps.iter().find(|app| app.name.as_str() == name)?;
            Some(AppUnits::new(&context.cluster, &app.name).worker_glob())
        }
        Choice::Worker(uid) => Some(format!("{}@{}.*.service", AppUnits::new(&context.cluster, &uid.app).prefix(), uid.slot.get())),
    };
    chosen.iter().filter_map(glob).map(|unit| format!("--unit={unit}")).collect()
}

/// Fields that lines to come will have, too: a glob would name the units that are there now. systemd's own lines about
/// a worker carry our fields, and nobody else can be process 1.
fn followed(context: &Context, apps: &[App], chosen: &[Choice]) -> Result<Vec<String>, Failure> {
    let mut alternatives: Vec<Vec<String>> = Vec::new();
    for choice in chosen {
        match choice {
            Choice::App(name) => {
                let Some(app) = apps.iter().find(|app| app.name.as_str() == name) else { continue };
                alternatives.push(vec![format!("_SYSTEMD_SLICE={}", AppUnits::new(&context.cluster, &app.name).slice())]);
                let ours = [format!("PROJECT_CLUSTER_NAME={}", context.cluster), format!("PROJECT_CLUSTER_APP={name}")];
                alternatives.push([&["_PID=1".to_owned()][..], &ours].concat());
            }
            Choice::Worker(uid) => {
                let units: Vec<&String> =
                    apps.iter().flat_map(|app| &app.workers).filter(|row| row.uid == *uid).filter_map(|row| row.unit.as_ref()).collect();
                if units.is_empty() {
                    return Err(Failure::Failed(format!(
                        "{uid} does not run, so there is nothing to follow. Its past: `project-cluster logs {uid}`"
                    )));
                }
                complain(&format!("project-cluster: this follows {uid} as it is now; after a reload ask again, or follow `{}`\n", uid.app));
                for unit in units {
                    alternatives.push(vec![format!("_SYSTEMD_UNIT={unit}")]);
                    alternatives.push(vec!["_PID=1".into(), format!("UNIT={unit}")]);
                }
            }
        }
    }
    Ok(alternatives.join(&"+".to_owned()))
}
