//! What was installed before, and how often it has changed.

use crate::config::settings::{App, Settings};
use crate::formats;
use crate::names::{AppName, ClusterName};
use crate::worker::store::Store;

use super::disk::Root;
use super::{Error, Options, kept};

/// The settings that lie below the root directory, with `env`; none where there are none, or none of this cluster that this
/// program reads.
pub(super) fn settings(root: &Root, cluster: &ClusterName) -> Result<Option<Settings>, Error> {
    let read = root.kept(cluster, &root.paths().prepare_settings(cluster))?;
    let read: Option<Settings> = read.and_then(|bytes| formats::parse(&bytes).ok());
    Ok(read.filter(|settings| settings.name == *cluster))
}

/// The settings that `install` last wrote, with `env`; none where nothing is installed.
///
/// # Errors
/// A file that cannot be read: they are root's alone.
pub fn installed(cluster: &ClusterName, options: &Options) -> Result<Option<Settings>, Error> {
    settings(&Root::open(options)?, cluster)
}

/// These settings as `install` would write them: with the revisions that follow what is installed.
///
/// # Errors
/// A file that cannot be read.
pub fn following(new: &Settings, options: &Options) -> Result<Settings, Error> {
    Ok(after(new, installed(&new.name, options)?.as_ref(), options))
}

/// These settings with the revisions that follow `before`.
pub(super) fn after(new: &Settings, before: Option<&Settings>, options: &Options) -> Settings {
    let store = Store::open(&new.name, &options.paths());
    new.following(before, |app| store.published(app).highest_revision())
}

/// The apps that were started before, and whose next start would be of a generation that was made from other settings than
/// these.
///
/// # Errors
/// A file that cannot be read.
pub fn outdated(settings: &Settings, options: &Options) -> Result<Vec<AppName>, Error> {
    let new = following(settings, options)?;
    let root = Root::open(options)?;
    let intent = kept::remembered(&root, &new.name);
    // A person rolled it back from just these settings: its next start is no deploy of them.
    let stays = |name: &AppName, app: &App| {
        let back = intent.apps.get(name).and_then(|app| app.rolled_back);
        back.is_some_and(|back| back.installed == app.revision.number)
    };
    let outdated = |(name, app): &(&AppName, &App)| {
        !stays(name, app) && in_effect(&root, options, &new.name, name).is_some_and(|is| is != Some(app.revision.number))
    };
    Ok(new.apps.iter().filter(outdated).map(|(name, _)| name.clone()).collect())
}

/// The revision of the settings that the generation was made from which a start would start, where it is known; nothing of
/// an app that no start ever brought up.
pub(super) fn in_effect(root: &Root, options: &Options, cluster: &ClusterName, app: &AppName) -> Option<Option<u64>> {
    let store = Store::open(cluster, &options.paths());
    let intent = kept::remembered(root, cluster);
    let published = store.published(app);
    let generation = kept::current_pin(&store, app, &intent)?;
    (Some(generation) <= published.highest()).then(|| published.revision(generation))
}
