//! What was installed before, and how often it has changed.

use crate::config::settings::{App, Settings};
use crate::names::{AppName, ClusterName};
use crate::units::model::prepare_settings;
use crate::worker::paths::Paths;
use crate::worker::store::Store;

use super::disk::Root;
use super::{Error, Options};

/// The settings that lie below the root directory, with `env`; none where there are none, or none that this program reads.
pub(super) fn settings(root: &Root, cluster: &ClusterName) -> Result<Option<Settings>, Error> {
    Ok(root.read(&prepare_settings(cluster))?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// The settings that `install` last wrote, with `env`; none where nothing is installed.
///
/// # Errors
/// A file that cannot be read: they are root's alone.
pub fn installed(cluster: &ClusterName, options: &Options) -> Result<Option<Settings>, Error> {
    settings(&Root::open(&options.root)?, cluster)
}

/// These settings with the revisions that follow.
pub(super) fn following(new: &Settings, before: Option<&Settings>, options: &Options) -> Settings {
    let store = Store::open(&new.name, &Paths::under(&options.root));
    new.following(before, |app| store.published(app).highest_revision())
}

/// The apps that were started before, and whose last generation was made from other settings than these.
///
/// # Errors
/// A file that cannot be read.
pub fn outdated(settings: &Settings, options: &Options) -> Result<Vec<AppName>, Error> {
    let new = following(settings, installed(&settings.name, options)?.as_ref(), options);
    let store = Store::open(&new.name, &Paths::under(&options.root));
    let outdated = |(name, app): &(&AppName, &App)| {
        let published = store.published(name);
        published.highest().is_some_and(|last| published.revision(last) != app.revision.number)
    };
    Ok(new.apps.iter().filter(outdated).map(|(name, _)| name.clone()).collect())
}
