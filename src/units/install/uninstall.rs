//! Takes away all that an install made, and nothing else.

use std::path::Path;

use crate::names::{AppName, AppUnits, ClusterName};
use crate::units::diff::{self, Found};
use crate::units::model::{Tree, file_name};

use super::account::Account;
use super::disk::{Ledger, Root};
use super::live::Live;
use super::report::{Action, Report};
use super::{Error, LiveError, Options, handle_app, hooks, scan};

/// Stops the cluster, disables it and removes its files, its state in `/var/lib/NAME` and its user, in this order.
///
/// Only files with our mark and this cluster's name, `/var/lib/NAME` only where an install of ours has been, the
/// user only with our GECOS, directories only those that were not there before and are empty now. A run that was cut
/// off is finished by the next.
///
/// # Errors
/// What could not be stopped or removed; the state goes last, so that the next run still knows what is ours.
pub fn uninstall(cluster: &ClusterName, options: &Options, live: Option<&dyn Live>) -> Result<Report, Error> {
    let root = Root::open(options)?;
    let _lock = root.lock()?;
    let nothing = Tree::new(cluster);
    let disk = scan::scan(&root, &options.host, &nothing)?;
    let plan = diff::plan(&nothing, &disk);
    let claimed = scan::claimed(&root, cluster)?;
    let ledger = Ledger::read(&root, cluster)?;
    let mut report = Report::new(cluster, &root);
    let files: Vec<&Path> = plan.removed().collect();

    let link = options.host.units.join(format!("{}.wants", root.manager().boot_target())).join(cluster.target());
    if live.is_none() && root.at(&link).is_symlink() {
        report.note(format!("{} was made by `systemctl enable` and stays: remove it", link.display()));
    }
    stop_and_remove(&root, &files, cluster, live, &mut report)?;
    remove_user(&root, cluster, live, &mut report)?;
    empty_directories(&root, ledger.as_ref(), &mut report);
    if live.is_some() && claimed {
        remove_run(&root, &files, cluster, ledger.as_ref(), &mut report)?;
    }
    if claimed {
        root.remove_all(&root.paths().var(cluster))?;
        report.did(Action::Removed, &root.paths().var(cluster));
        // The parents of the state itself, on a root directory that had none.
        empty_directories(&root, ledger.as_ref(), &mut report);
    } else if root.at(&root.paths().var(cluster)).exists() {
        report.note(format!("{} was not made by an install and stays", root.paths().var(cluster).display()));
    }
    Ok(report)
}

/// Stops and disables the cluster, and removes its files.
pub(super) fn stop_and_remove(
    root: &Root,
    files: &[&Path],
    cluster: &ClusterName,
    live: Option<&dyn Live>,
    report: &mut Report,
) -> Result<(), Error> {
    let live = live.filter(|_| !files.is_empty());
    if let Some(live) = live {
        live.stop(&running(root, files, cluster)).map_err(failed(format!("stopping cluster {cluster}")))?;
        live.disable(&cluster.target()).map_err(failed(format!("disabling {}", cluster.target())))?;
    }
    for path in files {
        root.remove_file(path)?;
        report.did(Action::Removed, path);
    }
    live.map_or(Ok(()), |live| live.daemon_reload().map_err(failed("making systemd read its units again".into())))
}

/// Removes the directories that were not there before the install and are empty now.
pub(super) fn empty_directories(root: &Root, ledger: Option<&Ledger>, report: &mut Report) {
    for path in ledger.iter().flat_map(|ledger| ledger.directories.iter().rev()) {
        if root.at(path).exists() && root.remove_directory_if_empty(path) {
            report.did(Action::Removed, path);
        }
    }
}

pub(super) fn failed(what: String) -> impl FnOnce(LiveError) -> Error {
    move |source| Error::Live { what, source }
}

/// The units to stop, in order: the target takes handles, master and API with it; then what would be left.
fn running(root: &Root, files: &[&Path], cluster: &ClusterName) -> Vec<String> {
    let apps: Vec<AppName> = files.iter().filter_map(|path| handle_app(path, cluster)).collect();
    let names = || apps.iter().map(|app| AppUnits::new(cluster, app));
    let mut units = vec![cluster.target()];
    units.extend(names().map(|names| names.handle()));
    units.extend(files.iter().filter_map(|path| file_name(path)).filter(|name| name.ends_with(".socket")).map(String::from));
    units.extend(names().map(|names| names.worker_glob()));
    units.extend(names().flat_map(|names| hooks(&names, files.iter().copied())));
    units.extend(names().map(|names| names.trigger()));
    units.push(cluster.master());
    // Empty by now; systemd itself keeps a slice for ever.
    for names in names() {
        units.push(names.slice(root.manager()));
        units.extend(hooks(&names, files.iter().copied()).first().map(|_| names.hook_slice(root.manager())));
    }
    units.extend(cluster.slices(root.manager()));
    units
}

fn remove_user(root: &Root, cluster: &ClusterName, live: Option<&dyn Live>, report: &mut Report) -> Result<(), Error> {
    if root.own_group().is_some() {
        return Ok(());
    }
    // The default cluster's user comes with the package, where there is one, and goes with it.
    let packaged =
        ["/usr/lib/sysusers.d", "/usr/local/lib/sysusers.d"].iter().map(|directory| Path::new(directory).join(format!("{cluster}.conf")));
    if let Some(path) = packaged.into_iter().find(|path| root.at(path).exists()) {
        report.note(format!("the user {cluster} stays: {} declares it", path.display()));
        return Ok(());
    }
    match (scan::read_account(root, cluster)?, live) {
        (Account::Ours { .. }, Some(live)) => {
            live.remove_user(cluster.as_str()).map_err(failed(format!("removing the user {cluster}")))?;
            report.note(format!("removed the user {cluster}"));
        }
        (Account::Ours { .. }, None) => report.note(format!("the user {cluster} stays in {}: remove it there with userdel", root.shown())),
        (Account::Own { .. } | Account::Absent | Account::Foreign(_), _) => {}
    }
    Ok(())
}

/// What units leave in /run until the next boot, and the directories that systemd made for unix sockets.
pub(super) fn remove_run(
    root: &Root,
    files: &[&Path],
    cluster: &ClusterName,
    ledger: Option<&Ledger>,
    report: &mut Report,
) -> Result<(), Error> {
    root.remove_all(&root.paths().runtime(cluster))?;
    for app in files.iter().filter_map(|path| handle_app(path, cluster)) {
        let prefix = AppUnits::new(cluster, &app).prefix();
        root.remove_directory_if_empty(&root.paths().run.join(&prefix));
    }
    for path in ledger.iter().flat_map(|ledger| ledger.socket_directories.iter().rev()) {
        // One of another owner was made by somebody else since.
        let by_systemd = matches!(root.find(path)?, Some(Found::Directory(access)) if access.uid == root.owner());
        if by_systemd && root.remove_directory_if_empty(path) {
            report.did(Action::Removed, path);
        }
    }
    Ok(())
}
