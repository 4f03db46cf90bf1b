//! JSON files of root's, replaced whole and read within a bound, and the directories they lie in.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use serde::Serialize;

use super::error::Error;
use crate::formats::{self, Format};

/// Most bytes of a file of ours that are read: the configuration of a large cluster has a few hundred kilobytes.
pub const MAX_BYTES: u64 = 16 << 20;

/// Reads JSON of a format that this program knows; `None` where there is no such file. Who owns the directory may have put anything there: a symlink is not
/// followed, a FIFO not waited for.
pub fn read_json<T: Format>(path: &Path) -> Result<Option<T>, Error> {
    match crate::files::read_bounded(path, MAX_BYTES) {
        Ok(bytes) => formats::parse(&bytes).map(Some).map_err(|why| Error::new(why.of(path).to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(format!("{} cannot be read: {error}", path.display()))),
    }
}

/// Replaces `path` by JSON of mode 0600 that survives a power cut.
///
/// The directory belongs to us alone. Two writers of the same file are kept apart by the caller's lock.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let write = || {
        let mut bytes = serde_json::to_vec_pretty(value)?;
        bytes.push(b'\n');
        crate::files::replace(path, &bytes, 0o600)
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

#[cfg(test)]
mod tests {
    use super::super::store::Counter;
    use super::*;

    #[test]
    fn what_a_worker_put_in_the_way_is_not_followed_nor_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        assert_eq!(read_json::<Counter>(&at("none")).unwrap(), None);
        write_json(&at("file"), &Counter::default()).unwrap();
        assert_eq!(read_json::<Counter>(&at("file")).unwrap(), Some(Counter::default()));
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        assert!(read_json::<Counter>(&at("link")).is_err());
        let fifo = std::ffi::CString::new(at("fifo").to_str().unwrap()).unwrap();
        // SAFETY: a NUL-terminated path that outlives the call.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        assert!(read_json::<Counter>(&at("fifo")).is_err());
    }
}
