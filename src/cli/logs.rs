//! `logs`: becomes `journalctl` on the units that were chosen. journald keeps the lines; we only know the units.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::args::Logs;
use super::{Choice, Context, Failure, selection};
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
    for choice in selection(&apps, select)? {
        let unit = match &choice {
            Choice::App(name) => {
                let name = apps.iter().find(|app| app.name.as_str() == name).map(|app| &app.name);
                name.map(|name| AppUnits::new(&context.cluster, name).worker_glob())
            }
            Choice::Worker(uid) => Some(format!("{}@{}.*.service", AppUnits::new(&context.cluster, &uid.app).prefix(), uid.slot.get())),
        };
        command.args(unit.map(|unit| format!("--unit={unit}")));
    }
    let why = command.exec();
    Err(Failure::Failed(format!("journalctl cannot be run: {why}. It is part of systemd; look at PATH")))
}
