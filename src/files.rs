//! Small files read and written so that nothing is lost and nobody is fooled.
//!
//! Atomic replacement (temporary file, fsync, rename, fsync of the directory), bounded reads of regular files only, and
//! what is damaged kept beside for a person to look at. It must not know what is in them.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Replaces `path` by `contents` in one step, with this mode; readers see the old or the new file, also after a
/// power loss. The directory must exist.
///
/// # Errors
/// Those of the file system; the old file is then as it was.
pub fn replace(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    // Two writers in one process must not share a temporary name.
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let directory = path.parent().ok_or_else(|| io::Error::other("a file without a directory"))?;
    let name = path.file_name().ok_or_else(|| io::Error::other("a path without a file name"))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed)));
    let temporary: PathBuf = directory.join(temporary);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).custom_flags(libc::O_NOFOLLOW).open(&temporary)?;
        // The umask may have taken bits away.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    })();
    if written.is_err() {
        // The first error is the one to tell; the file may not even be there.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Damaged files of one name that are kept.
const DAMAGED: u64 = 5;

/// Moves a damaged file beside, `NAME.damaged-NUMBER`, and returns where. The last few are kept.
///
/// # Errors
/// Those of the file system; the file is then as it was.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(io::Error::other("a path without a file name"));
    };
    let numbered = |number: u64| directory.join(format!("{name}.damaged-{number}"));
    let number = |other: &OsStr| other.to_str()?.strip_prefix(name)?.strip_prefix(".damaged-")?.parse::<u64>().ok();
    let known: Vec<u64> = fs::read_dir(directory)?.filter_map(|entry| number(&entry.ok()?.file_name())).collect();
    let next = known.iter().max().map_or(1, |last| last.saturating_add(1));
    fs::rename(path, numbered(next))?;
    for old in known.into_iter().filter(|old| old.saturating_add(DAMAGED) <= next) {
        // One too many does no harm.
        let _ = fs::remove_file(numbered(old));
    }
    Ok(numbered(next))
}

/// Reads a regular file of at most `limit` bytes that somebody else may own: follows no symlink, waits for no FIFO.
///
/// # Errors
/// Those of the file system, `InvalidData` for what is no regular file or too large.
pub fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is not a regular file", path.display())));
    }
    let mut contents = Vec::new();
    file.take(limit + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is larger than {limit} bytes", path.display())));
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_and_leaves_nothing_beside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        replace(&path, b"one", 0o600).unwrap();
        replace(&path, b"two", 0o640).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(replace(&directory.path().join("no/a"), b"", 0o600).is_err());
    }

    #[test]
    fn the_last_few_damaged_ones_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        assert!(set_aside(&path).is_err(), "it is not there");
        for number in 1..=12 {
            fs::write(&path, number.to_string()).unwrap();
            let aside = set_aside(&path).unwrap();
            assert_eq!((aside.file_name().unwrap().to_str(), path.exists()), (Some(&*format!("a.json.damaged-{number}")), false));
            assert_eq!(fs::read_to_string(aside).unwrap(), number.to_string());
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 5);
        assert!(!directory.path().join("a.json.damaged-7").exists());
    }

    #[test]
    fn reads_only_bounded_regular_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
        assert!(read_bounded(&path, 4).is_err());
        assert!(read_bounded(directory.path(), 9).is_err());
        let link = directory.path().join("b");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read_bounded(&link, 9).is_err());
        let fifo = std::ffi::CString::new(directory.path().join("f").to_str().unwrap()).unwrap();
        // SAFETY: a NUL-terminated path that outlives the call.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        assert!(read_bounded(&directory.path().join("f"), 9).is_err());
    }
}
