//! The settings as `install` last wrote them, and noticing that it wrote them again.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Master, Places, lock};
use crate::config::settings::{self, Settings};
use crate::files;
use crate::say::say;
use crate::systemd::Systemd;

/// Settings of a thousand apps are below 8 MiB.
const SETTINGS: u64 = 8 * 1024 * 1024;

/// Tells one settings file from the next, which is always another file: inode, and seconds and nanoseconds of its time.
pub(super) type Stamp = (u64, i64, i64);

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}

impl<S: Systemd> Master<S> {
    /// Takes the settings file where it is another one than before: `install` tells by a signal, which a reload right
    /// behind it may overtake.
    pub fn renew_settings(&self) {
        // Before the reading: a file that comes in between is then read again, and none is missed.
        let found = stamp(&self.places.settings());
        let mut known = lock(&self.settings_file);
        if found.is_none() || *known == found {
            return;
        }
        match read_settings(&self.places) {
            Ok(settings) => {
                self.set_settings(settings);
                *known = found;
            }
            Err(why) => say!(Error, "{why}; going on with the settings of before"),
        }
    }
}

pub(super) fn read_settings(places: &Places) -> Result<Settings, String> {
    let path = places.settings();
    let bytes = files::read_bounded(&path, SETTINGS)
        .map_err(|why| format!("{} cannot be read ({why}): `project-cluster install` writes it", path.display()))?;
    let settings: Settings = serde_json::from_slice(&bytes)
        .map_err(|why| format!("{} is damaged ({why}): `project-cluster install` writes it again", path.display()))?;
    if settings.format > settings::FORMAT {
        return Err(format!(
            "{} is of a newer project-cluster (format {}, this one knows {}): `project-cluster install` with this one writes it again",
            path.display(),
            settings.format,
            settings::FORMAT
        ));
    }
    Ok(settings)
}
