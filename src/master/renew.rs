//! The settings and tokens as root last wrote them, and noticing that it wrote them again: at every question that goes by
//! them, by a look at the files, and at a signal, for what goes on without a question.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::{Master, Places, lock};
use crate::api::guard::Rule;
use crate::api::token::Hash;
use crate::api::tokens::{self, Keys, Tokens};
use crate::config::settings::{self, Auth, Settings};
use crate::files;
use crate::say::say;
use crate::systemd::Systemd;

/// Settings of a thousand apps are below 8 MiB.
const SETTINGS: u64 = 8 * 1024 * 1024;

/// Those of both files of tokens.
pub(super) type KeyStamps = [Option<Stamp>; 2];

/// Tells one settings file from the next, which is always another file: inode, and seconds and nanoseconds of its time.
pub(super) type Stamp = (u64, i64, i64);

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}

/// A hash and a line's end.
const TOKEN: u64 = 128;

impl<S: Systemd> Master<S> {
    /// Who may use the API over TCP, by the settings and the tokens of now.
    pub fn rule(&self) -> Rule {
        self.renew_tokens();
        let api = &self.settings().api;
        Rule { host: api.host, auth: api.auth, keys: self.keys.subscribe() }
    }

    /// Takes the tokens where their files are others than before. Without one nobody may use the API over TCP.
    pub fn renew_tokens(&self) {
        let paths = [self.places.token_hash(), self.places.tokens()];
        // Before the reading: a file that comes in between is then read again, and none is missed.
        let found = paths.each_ref().map(|path| stamp(path));
        let mut known = lock(&self.key_files);
        if *known == Some(found) {
            return;
        }
        *known = Some(found);
        let [hash_path, tokens_path] = paths;
        let read = files::read_bounded(&hash_path, TOKEN);
        let operator = read.as_deref().ok().and_then(Hash::read);
        let tokens = match files::read_bounded(&tokens_path, tokens::FILE) {
            Ok(bytes) => Tokens::read(&bytes),
            Err(why) if why.kind() == ErrorKind::NotFound => Ok(Tokens::default()),
            Err(why) => Err(why.to_string()),
        };
        let tokens = tokens.unwrap_or_else(|why| {
            say!(
                Error,
                "no token but that of `install` is taken: {}: {why}. `project-cluster token ls` reads it, too",
                tokens_path.display()
            );
            Tokens::default()
        });
        let keys = Keys::new(operator, &tokens);
        let wanted = &self.settings().api;
        if keys.is_empty() && wanted.enabled && wanted.auth == Auth::Token {
            let why = read.map_or_else(|why| why.to_string(), |_| "it is damaged".into());
            say!(
                Warning,
                "nobody may use the API over TCP: {} holds no hash of a token ({why}). `sudo project-cluster install` makes one",
                hash_path.display()
            );
        }
        let count = keys.len();
        if self.keys.send_replace(Arc::new(keys)).len() != count {
            say!(Info, "{count} {} the API over TCP", if count == 1 { "token opens" } else { "tokens open" });
        }
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
