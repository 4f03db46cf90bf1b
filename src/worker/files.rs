//! Files replaced atomically and read within a bound.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::Error;

/// Most bytes of a file of ours that are read: the configuration of a large cluster has a few hundred kilobytes.
pub const MAX_BYTES: u64 = 16 << 20;

/// Reads JSON; `None` where there is no such file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match File::open(path) {
        Ok(file) => parse_json(&file, path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(format!("{} cannot be read: {error}", path.display()))),
    }
}

/// Reads JSON from an open file whose name is for messages alone.
pub fn parse_json<T: DeserializeOwned>(file: &File, path: &Path) -> Result<T, Error> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| Error::new(format!("{} cannot be read: {error}", path.display())))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::new(format!("{} is larger than {} MiB: it is none of ours", path.display(), MAX_BYTES >> 20)));
    }
    serde_json::from_slice(&bytes).map_err(|error| Error::new(format!("{} is damaged: {error}", path.display())))
}

/// Replaces `path` by JSON of mode 0600 that survives a power cut: temporary file, fsync, rename, fsync of the directory.
///
/// The directory belongs to us alone. Two writers of the same file are kept apart by the caller's lock.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let write = || {
        let bytes = serde_json::to_vec_pretty(value)?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&bytes)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|error: io::Error| Error::new(format!("{} cannot be written: {error}", path.display())))
}

/// Makes a directory and those above it, mode 0700 where `private`, else 0755; one that is there already stays as it is.
pub fn make_directory(path: &Path, private: bool) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(if private { 0o700 } else { 0o755 })
        .create(path)
        .map_err(|error| Error::new(format!("{} cannot be made: {error}", path.display())))
}
