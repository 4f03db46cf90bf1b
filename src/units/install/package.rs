//! What the scripts of a distribution's package do to the clusters of this machine: at an upgrade they are written anew by
//! the new version, at a removal they stop and their units go, and what they keep waits for a purge or the next package.

use std::path::Path;

use crate::names::ClusterName;
use crate::units::diff::{self, is_ours};
use crate::units::model::Tree;

use super::disk::{Ledger, Retired, Root};
use super::uninstall::{empty_directories, failed, remove_run, stop_and_remove};
use super::{Error, Live, Options, Report, before, install, scan};

/// The clusters that an install of ours has made below the root directory, by name: what is kept of them is root's alone, or
/// their master's unit is ours, so that what was changed there is told and not passed over.
///
/// # Errors
/// `/var/lib` cannot be listed.
pub fn clusters(options: &Options) -> Result<Vec<ClusterName>, Error> {
    let root = Root::open(options)?;
    let names = root.list(&root.paths().state)?;
    let has_unit = |name: &ClusterName| {
        let unit = options.host.units.join(name.master());
        matches!(root.read(&unit), Ok(Some(text)) if is_ours(&unit, &text, name))
    };
    let kept = |name: &ClusterName| {
        let ledger = root.paths().installed(name);
        matches!(root.kept(name, &ledger), Ok(Some(_))) || has_unit(name) && matches!(root.read(&ledger), Ok(Some(_)))
    };
    Ok(names.iter().filter_map(|name| name.parse().ok()).filter(kept).collect())
}

/// Writes a cluster's units as this version writes them, from the settings that the last install validated, and lets its
/// master begin anew; workers and their sockets stay as they are. A cluster that [`retire`] put away is brought back to
/// what it was then: enabled, started. One whose units name another program than `options.host` does is left alone.
///
/// # Errors
/// [`Error::Newer`] before anything has changed; those of [`install`].
pub fn upgrade(cluster: &ClusterName, options: &Options, live: Option<&dyn Live>) -> Result<Report, Error> {
    let root = Root::open(options)?;
    let mut report = Report::new(cluster, &root);
    let Some(Ledger { retired, .. }) = Ledger::read(&root, cluster)? else { return Ok(report) };
    let unit = options.host.units.join(cluster.master());
    let text = root.read(&unit)?.unwrap_or_default();
    let program = format!("={} master ", options.host.program.display());
    let ours = is_ours(&unit, &text, cluster) && String::from_utf8_lossy(&text).contains(&program);
    if !ours && retired.is_none() {
        report.note(format!(
            "cluster {cluster} is left as it is: {} is not ours, or of a program other than {}",
            unit.display(),
            options.host.program.display()
        ));
        return Ok(report);
    }
    let Some(settings) = before::settings(&root, cluster)? else {
        return Err(Error::Lost { cluster: cluster.clone(), path: root.paths().prepare_settings(cluster) });
    };
    let mut report = install(&settings, options, live)?;
    let Some(live) = live else { return Ok(report) };
    let (master, target) = (cluster.master(), cluster.target());
    let running = live.running(std::slice::from_ref(&master)).map_err(failed(format!("looking at {master}")))?;
    if !running.is_empty() && !report.restarted {
        live.restart(&master).map_err(failed(format!("restarting {master}")))?;
        report.note(format!("restarted {master}, which touches no worker"));
    }
    if let Some(retired) = retired {
        if retired.enabled {
            live.enable(&target).map_err(failed(format!("enabling {target}")))?;
        }
        if retired.up {
            live.start(&target).map_err(failed(format!("starting {target}")))?;
            report.note(format!("started {target} again"));
        }
        let _lock = root.lock()?;
        if let Some(mut ledger) = Ledger::read(&root, cluster)? {
            ledger.retired = None;
            ledger.write(&root, cluster)?;
        }
    }
    Ok(report)
}

/// Stops a cluster, disables it and removes its files, but not its user, nor what it keeps in `/var/lib/NAME`: without this
/// program no worker could start again, and its units would only fail. [`upgrade`] brings it back.
///
/// # Errors
/// What could not be stopped or removed; a second run goes on from there.
pub fn retire(cluster: &ClusterName, options: &Options, live: Option<&dyn Live>) -> Result<Report, Error> {
    let root = Root::open(options)?;
    let _lock = root.lock()?;
    let mut report = Report::new(cluster, &root);
    let Some(mut ledger) = Ledger::read(&root, cluster)? else { return Ok(report) };
    let nothing = Tree::new(cluster);
    let plan = diff::plan(&nothing, &scan::scan(&root, &options.host, &nothing)?);
    let files: Vec<&Path> = plan.removed().collect();
    if files.is_empty() {
        return Ok(report);
    }
    let target = cluster.target();
    let link = options.host.units.join(format!("{}.wants", root.manager().boot_target())).join(&target);
    let up = match live {
        Some(live) => !live.running(std::slice::from_ref(&target)).map_err(failed(format!("looking at {target}")))?.is_empty(),
        None => false,
    };
    // A run that was cut off has noted what was before it.
    if ledger.retired.is_none() {
        ledger.retired = Some(Retired { enabled: root.at(&link).is_symlink(), up });
        ledger.write(&root, cluster)?;
    }
    stop_and_remove(&root, &files, cluster, live, &mut report)?;
    if live.is_none() {
        root.remove_file(&link)?;
    }
    empty_directories(&root, Some(&ledger), &mut report);
    if live.is_some() {
        remove_run(&root, &files, cluster, Some(&ledger), &mut report)?;
    }
    Ok(report)
}
