//! The settings as `install` last wrote them, and noticing that it wrote them again.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Master, Places, lock};
use crate::api::guard::Rule;
use crate::api::token::Hash;
use crate::config::settings::{Auth, Settings};
use crate::files;
use crate::formats::{self, Unread};
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

/// A hash and a line's end.
const TOKEN: u64 = 128;

impl<S: Systemd> Master<S> {
    /// Who may use the API over TCP, by the settings and the token of now.
    pub fn rule(&self) -> Rule {
        let api = &self.settings().api;
        Rule { host: api.host, auth: api.auth, hash: *lock(&self.token) }
    }

    /// Takes the token that `install` last made. Without one nobody may use the API over TCP.
    pub fn renew_token(&self) {
        let path = self.places.token_hash();
        let read = files::read_bounded(&path, TOKEN);
        let hash = read.as_deref().ok().and_then(Hash::read);
        let wanted = &self.settings().api;
        if hash.is_none() && wanted.enabled && wanted.auth == Auth::Token {
            let why = read.map_or_else(|why| why.to_string(), |_| "it is damaged".into());
            say!(
                Warning,
                "nobody may use the API over TCP: {} holds no hash of a token ({why}). `sudo project-cluster install` makes one",
                path.display()
            );
        }
        *lock(&self.token) = hash;
    }

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
    formats::parse(&bytes).map_err(|why| match why {
        Unread::Newer { .. } => why.of(&path).to_string(),
        Unread::Damaged(why) => format!("{} is damaged ({why}): `project-cluster install` writes it again", path.display()),
    })
}
