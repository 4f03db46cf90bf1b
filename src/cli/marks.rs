//! What stands in the configuration and is not installed yet, for `ls` and `show`: looked at only where a file of it is
//! newer than the last install.
//!
//! A configuration that cannot be read, or is wrong, is no trouble of who only asks what runs: then nothing is marked.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Context;
use crate::api::types::{App, AppState, Changed, Revisions};
use crate::config::settings::{self, Settings};
use crate::config::{self, SystemAccounts};
use crate::files;
use crate::formats;
use crate::names::{AppName, AppUnits, ClusterName};

/// Settings of a thousand apps are below 8 MiB.
const LIMIT: u64 = 8 << 20;

/// Marks what of the apps differs on disk; returns a line for each app that is new there.
pub(super) fn mark(context: &Context, apps: &mut [App]) -> Vec<String> {
    let paths = &context.place.paths;
    let (public, private) = (paths.master_settings(&context.cluster), paths.prepare_settings(&context.cluster));
    match changed_at(&public) {
        Some(installed) if newest(&context.config) > Some(installed) => {}
        _ => return Vec::new(),
    }
    let Ok(loaded) = config::load(&context.config, &SystemAccounts) else { return Vec::new() };
    // Root compares `env` too.
    let whole = installed(&private, &context.cluster);
    let Some(installed) = whole.clone().or_else(|| installed(&public, &context.cluster)) else { return Vec::new() };
    let on_disk = if whole.is_some() { loaded.settings } else { loaded.settings.without_env() };
    if on_disk.name == installed.name { compare(&installed, &on_disk, apps) } else { Vec::new() }
}

fn compare(installed: &Settings, on_disk: &Settings, apps: &mut [App]) -> Vec<String> {
    for app in apps {
        let Some(before) = installed.apps.get(&app.name) else { continue };
        let (keys, becomes) = match on_disk.apps.get(&app.name) {
            None => (vec!["gone"], false),
            Some(now) => {
                let differences = now.differences(before);
                let becomes = !differences.becomes.is_empty();
                ([differences.becomes, differences.around].concat(), becomes)
            }
        };
        if !keys.is_empty() {
            let changed = app.changed.get_or_insert_with(Changed::default);
            changed.keys.extend(keys.into_iter().map(str::to_owned));
            changed.becomes |= becomes;
            changed.on_disk = true;
        }
    }
    let new = on_disk.apps.keys().filter(|name| !installed.apps.contains_key(*name));
    new.map(|name| format!("{name}: new on disk: `sudo project-cluster apply`")).collect()
}

/// What the master knows of the configuration, where we may read it: who may use its API may.
pub(super) fn master_settings(context: &Context) -> Option<Settings> {
    installed(&context.place.paths.master_settings(&context.cluster), &context.cluster)
}

/// The apps of settings, for who asks for their past: as if nothing of them ran.
pub(super) fn apps_of(settings: &Settings) -> Vec<App> {
    let app = |(name, app): (&AppName, &settings::App)| App {
        name: name.clone(),
        state: AppState::Stopped,
        target: 0,
        ready: 0,
        configured: 0,
        on_demand: app.on_demand,
        generation: None,
        pin: None,
        release: None,
        past: Vec::new(),
        rolled_back: None,
        latest: None,
        changed: None,
        revisions: Revisions::default(),
        held: None,
        command: app.command.clone(),
        cwd: app.cwd.display().to_string(),
        user: String::new(),
        sockets: Vec::new(),
        handle: AppUnits::new(&settings.name, name).handle(),
        roll: None,
        masked: Vec::new(),
        outside: Vec::new(),
        crash_loop: None,
        workers: Vec::new(),
    };
    settings.apps.iter().map(app).collect()
}

fn installed(path: &Path, cluster: &ClusterName) -> Option<Settings> {
    let settings: Settings = formats::parse(&files::read_bounded(path, LIMIT).ok()?).ok()?;
    (settings.name == *cluster).then_some(settings)
}

/// When a file, or what is in a directory, last changed, by the kernel's own clock: a file that was copied or moved there keeps
/// the time of its contents.
fn changed_at(path: &Path) -> Option<(i64, i64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ctime(), metadata.ctime_nsec()))
}

/// When the configuration last changed: its file, its directories, its fragments.
fn newest(config: &Path) -> Option<(i64, i64)> {
    let parent = config.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fragments = parent.join("conf.d");
    let inside = fs::read_dir(&fragments).into_iter().flatten().take(config::load::MAX_FILES).flatten();
    let mut newest = [config, parent, &fragments].into_iter().filter_map(changed_at).max();
    for entry in inside {
        newest = newest.max(changed_at(&entry.path()));
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_change_of_any_file_of_the_configuration_counts() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let config = at("cluster.toml");
        assert!(newest(&at("no/cluster.toml")).is_none());
        let mut last = newest(&config);
        let mut later = |what: &str| {
            let now = newest(&config);
            assert!(now > last, "{what}: {now:?} is not later than {last:?}");
            last = now;
            // The kernel's clock for files is a coarse one.
            let probe = tempfile::NamedTempFile::new().unwrap();
            let ticked = || {
                fs::write(probe.path(), "x").unwrap();
                changed_at(probe.path()) > last
            };
            while !ticked() {}
        };
        fs::write(&config, "").unwrap();
        later("a new file");
        fs::create_dir(at("conf.d")).unwrap();
        later("a new directory");
        fs::write(at("conf.d/a.toml"), "").unwrap();
        later("a new fragment");
        fs::write(at("conf.d/a.toml"), "x").unwrap();
        later("another fragment");
        fs::remove_file(at("conf.d/a.toml")).unwrap();
        later("one that is gone");
        // One with an older time in its place, as a copy that preserves times leaves it.
        fs::write(at("old"), "").unwrap();
        fs::File::options().write(true).open(at("old")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        fs::rename(at("old"), &config).unwrap();
        later("an older file in its place");
    }
}
