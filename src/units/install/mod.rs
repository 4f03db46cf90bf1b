//! Applies a tree to a root directory, and takes it away again.
//!
//! The edge of this room: it reads and writes files below the root directory, each replaced atomically, all under
//! one lock. What needs a running systemd goes through [`Live`]. It must not decide what is in a file (`render`) nor
//! what has to change (`diff`).

mod account;
mod api;
mod before;
mod disk;
mod kept;
mod live;
mod package;
mod report;
mod scan;
mod tokens;
mod uninstall;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::settings::{Listen, Settings};
use crate::formats;
use crate::names::{Address, AppName, AppUnits, ClusterName, Generation, HookKind, UNIT_NAME_MAX};

use crate::place::Manager;
use crate::worker::paths::Paths;

use super::diff::{self, Change, Conflict, Disk, Found, Plan};
use super::model::{self, Host, Tree};
use super::render::{self, APP_DROP_IN, render_beside};

pub use api::tell as tell_api;
pub use before::{following, installed, outdated};
pub use live::{Live, LiveError};
pub use package::{clusters, retire, upgrade};
pub use report::{Action, Report};
pub use tokens::{change_tokens, has_operators, tokens};
pub use uninstall::uninstall;

pub use disk::FORMAT;
pub(crate) use disk::Ledger;
use disk::Root;
use kept::Kept;

/// Where and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory that stands for `/`. Default `/`.
    pub root: PathBuf,
    /// Paths inside it.
    pub host: Host,
    /// Enable and start the cluster as well (needs a [`Live`]). Default false.
    pub now: bool,
}

impl Options {
    /// Where the cluster's files really lie.
    pub(super) fn paths(&self) -> Paths {
        self.host.paths().below(&self.root)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { root: "/".into(), host: Host::default(), now: false }
    }
}

/// Why an install or uninstall did not happen, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is there is not ours; nothing was changed.
    #[error("nothing was changed, because the install would harm what is not ours:\n{}", lines(.0))]
    Conflicts(Vec<Conflict>),
    /// Another install holds the lock.
    #[error("another install or uninstall holds the lock on {} for more than {} seconds: wait for it and try again", .root.display(), disk::LOCK_LIMIT.as_secs())]
    Locked {
        /// The root directory.
        root: PathBuf,
    },
    /// A path leads out of the root directory.
    #[error("{} leads out of {} by a symbolic link: install on the running system, or mend the link", .path.display(), .root.display())]
    Outside {
        /// The path as it was to be used.
        path: PathBuf,
        /// The root directory.
        root: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {what} {}: {source}. {}", .path.display(), disk::advice(.source))]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A newer version of this program keeps what this one cannot read; nothing was changed.
    #[error("nothing was changed: {0}")]
    Newer(std::io::Error),
    /// The settings of an installed cluster are gone or damaged; nothing was changed.
    #[error("cluster {cluster}: {} is damaged or gone, so its units stay as they are: `project-cluster install` writes all of it again from the configuration", .path.display())]
    Lost {
        /// The cluster.
        cluster: ClusterName,
        /// Its settings.
        path: PathBuf,
    },
    /// A token cannot be made or withdrawn; nothing was changed.
    #[error("{0}")]
    Token(String),
    /// systemd did not do its part; what was written stays, and the same command goes on from there.
    #[error("{what}: {source}. What was done so far stays: mend this and run the same command again")]
    Live {
        /// What was tried.
        what: String,
        /// Why not.
        source: LiveError,
    },
}

fn lines(conflicts: &[Conflict]) -> String {
    let line = |conflict: &Conflict| format!("  {} {}", conflict.path.display(), conflict.why);
    conflicts.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What an install would do.
#[derive(Debug)]
pub struct Preview {
    /// The changes and conflicts.
    pub plan: Plan,
    /// The same as a unified diff; empty when nothing would change.
    pub text: String,
}

/// Compares and changes nothing (`install --diff`). Conflicts are in the plan and in the text.
///
/// # Errors
/// A file that cannot be read.
pub fn preview(settings: &Settings, options: &Options, live: Option<&dyn Live>) -> Result<Preview, Error> {
    let root = Root::open(options)?;
    refuse_newer(&root, &settings.name)?;
    let before = before::settings(&root, &settings.name)?;
    let settings = &before::after(settings, before.as_ref(), options);
    let kept = kept::kept(settings, options, &root, live)?;
    let tree = tree(settings, &options.host, &kept);
    let disk = scan::scan(&root, &options.host, &tree)?;
    let plan = checked_plan(settings, root.manager(), &tree, &disk);
    let mut text = diff::text(&plan, &tree, &disk);
    // It may be made, or mended; what is in it is nobody's to see.
    if live.is_some() && !api::in_order(&root, settings, &disk)? {
        text.push_str(&format!(
            "{}: made or mended, and its hash beside it; what is in it is not shown\n",
            root.paths().token(&settings.name).display()
        ));
    }
    Ok(Preview { plan, text })
}

/// A program that knows less than the one before would throw away what it cannot read: numbers of generations, holds, pins.
/// What the master has written says nothing here: one that was broken into would keep its mended successor out.
fn refuse_newer(root: &Root, cluster: &ClusterName) -> Result<(), Error> {
    let directories = [root.at(&root.paths().var(cluster)), root.at(&root.paths().runtime(cluster))];
    formats::refuse_newer(directories.each_ref().map(PathBuf::as_path), root.owners.then_some(0)).map_err(Error::Newer)
}

fn tree(settings: &Settings, host: &Host, kept: &Kept) -> Tree {
    let listens = |kept: &Vec<(Listen, Generation)>| kept.iter().map(|(listen, _)| listen.clone()).collect();
    let kept: render::Kept = kept.iter().map(|(app, kept)| (app.clone(), listens(kept))).collect();
    render_beside(settings, host, &kept)
}

fn checked_plan(settings: &Settings, manager: Manager, tree: &Tree, disk: &Disk) -> Plan {
    let mut plan = diff::plan(tree, disk);
    for app in settings.apps.keys() {
        let slice = AppUnits::new(&settings.name, app).slice(manager);
        if slice.len() > UNIT_NAME_MAX {
            let why =
                format!("is longer than the {UNIT_NAME_MAX} bytes systemd allows: shorten the name of app {app}, or use fewer dashes");
            plan.conflicts.push(Conflict { path: slice.into(), why });
        }
    }
    plan
}

/// Writes what these settings need, removes what an older install left, and, where `live` is given, tells systemd.
///
/// A second run changes nothing. Running apps are not restarted; those that the settings no longer have are stopped.
/// A run that was cut off is taken up where it ended.
///
/// # Errors
/// [`Error::Conflicts`] before anything has changed; the others may leave a part done, which the next run mends.
pub fn install(settings: &Settings, options: &Options, live: Option<&dyn Live>) -> Result<Report, Error> {
    let root = Root::open(options)?;
    let _lock = root.lock()?;
    let cluster = &settings.name;
    refuse_newer(&root, cluster)?;
    let before = before::settings(&root, cluster)?;
    let settings = &before::after(settings, before.as_ref(), options);
    let kept = kept::kept(settings, options, &root, live)?;
    let tree = tree(settings, &options.host, &kept);
    let mut disk = scan::scan(&root, &options.host, &tree)?;
    let mut plan = checked_plan(settings, root.manager(), &tree, &disk);
    if !plan.conflicts.is_empty() {
        return Err(Error::Conflicts(plan.conflicts));
    }
    let mut ledger = Ledger::read(&root, cluster)?;
    let cut_off = ledger.as_ref().is_some_and(|ledger| !ledger.complete);
    let older = ledger.as_ref().is_some_and(|ledger| ledger.format < FORMAT);
    let mut report = Report::new(cluster, &root);
    let gone = gone(&root, settings)?;
    // On a root directory that only stands for `/` there is no token.
    let token = live.is_none() || api::in_order(&root, settings, &disk)?;
    let stale = !plan.is_empty() || cut_off || older || !gone.is_empty() || !token;
    let fresh_account = live.is_some() && disk.group.is_none();

    if stale || fresh_account {
        stop_removed(&root, &plan, cluster, live, &mut report)?;
        let ledger = begin(&root, settings, &tree, &plan, &mut ledger, &mut report)?;
        let sysusers = options.host.sysusers_file(cluster);
        apply_file(&root, &tree, &sysusers, &plan, &disk, &mut report)?;
        if let (Some(live), Manager::System) = (live, root.manager()) {
            live.sysusers(&root.at(&sysusers)).map_err(|source| Error::Live { what: "making the user".into(), source })?;
            // The group's number is known only now; it may turn an unchanged file into one to mend.
            disk = scan::scan(&root, &options.host, &tree)?;
            plan = checked_plan(settings, root.manager(), &tree, &disk);
        }
        for path in tree.files.keys().filter(|path| **path != sysusers) {
            apply_file(&root, &tree, path, &plan, &disk, &mut report)?;
        }
        for path in plan.removed() {
            root.remove_file(path)?;
            report.did(Action::Removed, path);
        }
        // With the secrets of their `env`, now that nothing of these apps runs.
        for path in &gone {
            root.remove_all(path)?;
            report.did(Action::Removed, path);
        }
        if live.is_some() {
            api::make(&root, settings, &disk, &mut report)?;
        }
        ledger.directories.retain(|path| !root.remove_directory_if_empty(path));
        if let Some(live) = live {
            live.daemon_reload().map_err(|source| Error::Live { what: "making systemd read its units again".into(), source })?;
            // Where one was cut off, what is new to this one was so to that.
            start_sockets(&root, settings, before.as_ref().filter(|_| !cut_off), live, &mut report)?;
            api::listen(settings, &plan, &options.host, live, &mut report)?;
        }
        ledger.complete = true;
        ledger.write(&root, cluster)?;
        let serves = |name: &AppName| {
            let number = settings.apps.get(name).map(|app| app.revision.number);
            before::in_effect(&root, options, cluster, name).is_some_and(|serves| serves.is_some() && serves == number)
        };
        report.advise(&tree, &plan, &disk, (settings, before.as_ref()), &options.host, serves);
        report.tell_kept(cluster, &kept);
    }
    if disk.group.is_none() {
        report.note(format!(
            "the user {cluster} does not exist in {}: {} stays root's, and the master cannot read it until `project-cluster install` has run on the live system",
            root.shown(),
            root.paths().master_settings(cluster).display()
        ));
    }
    if !disk.owners && root.manager() == Manager::System {
        report.note("not run as root: owners were left as they are".into());
    }
    if let (true, Some(live)) = (options.now, live) {
        let target = cluster.target();
        live.enable(&target).map_err(|source| Error::Live { what: format!("enabling {target}"), source })?;
        live.start(&target).map_err(|source| Error::Live { what: format!("starting {target}"), source })?;
        report.note(format!("enabled and started {target}"));
        api::tell(settings, live, &mut report)?;
    }
    Ok(report)
}

/// Stops what the settings no longer have, while its units are still there: the handle's own stop step needs them.
fn stop_removed(root: &Root, plan: &Plan, cluster: &ClusterName, live: Option<&dyn Live>, report: &mut Report) -> Result<(), Error> {
    let mut units = Vec::new();
    for app in removed_apps(plan, cluster) {
        let names = AppUnits::new(cluster, &app);
        units.extend([names.handle(), names.worker_glob(), names.trigger()]);
        units.extend(hooks(&names, plan.removed()));
    }
    units.extend(plan.removed().filter_map(model::file_name).filter(|name| name.ends_with(".socket")).map(String::from));
    // Empty by now; systemd itself keeps a slice, and its limits, for ever.
    for app in removed_apps(plan, cluster) {
        let names = AppUnits::new(cluster, &app);
        units.push(names.slice(root.manager()));
        units.extend(hooks(&names, plan.removed()).first().map(|_| names.hook_slice(root.manager())));
    }
    if let (Some(live), false) = (live, units.is_empty()) {
        live.stop(&units).map_err(|source| Error::Live { what: format!("stopping {}", units.join(", ")), source })?;
        report.note(format!("stopped {}", units.join(", ")));
    }
    Ok(())
}

/// Starts the sockets of apps that are up: a new address listens from now on, and a reload finds it. An app on demand is up,
/// too, while it sleeps, and when it comes, with workers, to a cluster that runs. One of which no worker is wanted, or was
/// until now, is not: nobody would answer.
fn start_sockets(root: &Root, settings: &Settings, before: Option<&Settings>, live: &dyn Live, report: &mut Report) -> Result<(), Error> {
    let cluster = &settings.name;
    let failed = |what: String| |source| Error::Live { what, source };
    let intent = kept::remembered(root, cluster);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    for (name, app) in &settings.apps {
        let intent = intent.apps.get(name).cloned().unwrap_or_default();
        let installed = before.and_then(|before| before.apps.get(name));
        if [Some(app), installed].into_iter().flatten().any(|app| intent.wanted(app.workers.count(cores)).is_empty()) {
            continue;
        }
        let units = AppUnits::new(cluster, name);
        let all: Vec<String> = app.listen.iter().map(|listen| units.socket(&listen.address)).collect();
        let mut up = vec![units.handle()];
        match installed {
            Some(before) if app.on_demand => up.extend(before.listen.iter().map(|listen| units.socket(&listen.address))),
            None if app.on_demand => up.push(cluster.target()),
            _ => {}
        }
        let asked = [&all[..], &up[..]].concat();
        let running = live.running(&asked).map_err(failed(format!("looking at the sockets of {name}")))?;
        let down: Vec<&String> = all.iter().filter(|unit| !running.contains(unit)).collect();
        if !up.iter().any(|unit| running.contains(unit)) || down.is_empty() {
            continue;
        }
        // A socket does not start while its service is active.
        live.stop(&[units.trigger()]).map_err(failed(format!("stopping {}", units.trigger())))?;
        for socket in down {
            match live.start(socket) {
                Ok(()) => report.note(format!("started {socket}")),
                // Taken, maybe by workers of this very app that still hold an address which overlaps.
                Err(why) => report.note(format!(
                    "{socket} cannot listen ({why}): if no other program has the address (`ss -lptn`), `systemctl restart {}` starts it, with all workers anew",
                    units.handle()
                )),
            }
        }
    }
    Ok(())
}

/// What is kept of apps that the settings no longer have: pins, the number of the last generation, counts of crashes.
fn gone(root: &Root, settings: &Settings) -> Result<Vec<PathBuf>, Error> {
    let (pins, mut gone) = (root.paths().pins(&settings.name), Vec::new());
    for name in root.list(&pins)? {
        let path = pins.join(&name);
        let app = name.parse::<AppName>().is_ok_and(|app| !settings.apps.contains_key(&app));
        if app && matches!(root.find(&path)?, Some(Found::Directory(_))) {
            let generation = pins.with_file_name("generations").join(&name);
            gone.push(path);
            gone.extend(root.find(&generation)?.is_some().then_some(generation));
            let crashes = root.paths().runtime(&settings.name).join("crashes").join(&name);
            gone.extend(root.find(&crashes)?.is_some().then_some(crashes));
        }
    }
    Ok(gone)
}

/// The apps whose handle's drop-in goes.
fn removed_apps(plan: &Plan, cluster: &ClusterName) -> Vec<AppName> {
    plan.removed().filter_map(|path| handle_app(path, cluster)).collect()
}

/// Globs of the hooks of an app whose templates are among these files.
fn hooks<'a>(names: &AppUnits<'_>, files: impl Iterator<Item = &'a Path>) -> Vec<String> {
    let files: BTreeSet<&str> = files.filter_map(model::file_name).collect();
    let theirs = HookKind::ALL.into_iter().zip(names.hook_globs()).filter(|(kind, _)| files.contains(&*names.hook_template(*kind)));
    theirs.map(|(_, glob)| glob).collect()
}

/// The app of `.../NAME@APP.service.d/50-app.conf`.
fn handle_app(path: &Path, cluster: &ClusterName) -> Option<AppName> {
    if model::file_name(path)? != APP_DROP_IN {
        return None;
    }
    let directory = model::file_name(path.parent()?)?;
    directory.strip_prefix(cluster.as_str())?.strip_prefix('@')?.strip_suffix(".service.d")?.parse().ok()
}

/// Makes the directories, having written down first which ones were not there.
fn begin<'l>(
    root: &Root,
    settings: &Settings,
    tree: &Tree,
    plan: &Plan,
    ledger: &'l mut Option<Ledger>,
    report: &mut Report,
) -> Result<&'l mut Ledger, Error> {
    let cluster = &tree.cluster;
    let paths = tree.files.keys().chain(tree.directories.keys());
    let missing = root.missing_directories(paths.map(PathBuf::as_path), tree);
    let addresses = settings.apps.values().flat_map(|app| &app.listen).map(|listen| &listen.address);
    let sockets = addresses.filter_map(|address| if let Address::Unix(path) = address { Some(path.as_path()) } else { None });
    let sockets = root.missing_directories(sockets, tree);
    let own = root.missing_directories([root.paths().pins(cluster).as_path()].into_iter(), tree);
    let ledger = ledger.get_or_insert_with(|| Ledger::new(cluster));
    ledger.complete = false;
    ledger.format = FORMAT;
    ledger.directories.extend(missing.iter().cloned());
    ledger.socket_directories.extend(sockets);
    for path in &own {
        root.make_directory(path, root.manager().mode(0o755))?;
    }
    for (path, mode) in &tree.directories {
        match plan.change(path) {
            Change::Create => {
                root.make_directory(path, *mode)?;
                report.did(Action::Created, path);
            }
            Change::Update { .. } => {
                root.set_access(path, *mode, 0)?;
                report.did(Action::Updated, path);
            }
            Change::Remove | Change::Unchanged => {}
        }
    }
    ledger.write(root, cluster)?;
    for path in missing.iter().filter(|path| !own.contains(*path)) {
        root.make_directory(path, root.manager().mode(0o755))?;
    }
    Ok(ledger)
}

fn apply_file(root: &Root, tree: &Tree, path: &Path, plan: &Plan, disk: &Disk, report: &mut Report) -> Result<(), Error> {
    let Some(file) = tree.files.get(path) else { return Ok(()) };
    let gid = diff::group(file.owner, disk.group);
    match plan.change(path) {
        Change::Create => {
            root.write(path, file.contents.as_bytes(), file.mode, gid)?;
            report.did(Action::Created, path);
        }
        Change::Update { contents: true, .. } => {
            root.write(path, file.contents.as_bytes(), file.mode, gid)?;
            report.did(Action::Updated, path);
        }
        Change::Update { contents: false, .. } => {
            root.set_access(path, file.mode, gid)?;
            report.did(Action::Updated, path);
        }
        Change::Remove | Change::Unchanged => {}
    }
    Ok(())
}
