//! The starter file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A commented configuration that is in order as it stands.
pub const STARTER: &str = include_str!("starter.toml");

/// Why no starter file was written. The message ends with what to do next.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is a file already; it was not touched.
    #[error("{} exists and was left as it is; `project-cluster check` validates it, `--config FILE` names another one", .0.display())]
    Exists(PathBuf),
    /// It could not be written; nothing is left behind.
    #[error("{path} could not be written: {source}; {next}", path = .path.display(), next = next(.source))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn next(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run it as root, or name a place of your own with `--config FILE`",
        _ => "mend that and run it again, or name another place with `--config FILE`",
    }
}

/// Writes [`STARTER`] to `path`, mode 0600 because `env` may come to hold secrets, and makes the directory where it
/// is missing. Returns what to do next, for the person.
///
/// # Errors
/// [`InitError::Exists`] when anything is at `path`, a dangling symlink included; [`InitError::Io`] otherwise. The
/// file appears whole or not at all.
pub fn init(path: &Path) -> Result<String, InitError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => InitError::Exists(path.to_path_buf()),
        _ => InitError::Io { path: path.to_path_buf(), source },
    };
    if path.symlink_metadata().is_ok() {
        return Err(InitError::Exists(path.to_path_buf()));
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(|source| InitError::Io { path: directory.into(), source })?;
    let temporary = directory.join(format!(".cluster.toml.{}", std::process::id()));
    // A link and not a rename: a rename would replace a file that somebody made meanwhile.
    let written = write(&temporary).and_then(|()| fs::hard_link(&temporary, path)).map_err(failed);
    let removed = fs::remove_file(&temporary);
    written?;
    removed.and_then(|()| File::open(directory)?.sync_all()).map_err(|source| InitError::Io { path: directory.into(), source })?;
    Ok(format!(
        "{path} is written. Next:\n  1. edit it: the command of your app, its directory, its port\n  2. project-cluster check\n  3. project-cluster install --now",
        path = path.display()
    ))
}

fn write(path: &Path) -> io::Result<()> {
    // What is left of an earlier run with this process id, if anything, is nobody's.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(STARTER.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn it_writes_once_and_never_overwrites() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/sub/cluster.toml");
        let next = init(&path).unwrap();
        assert!(next.contains("project-cluster check"), "{next}");
        assert_eq!(fs::read_to_string(&path).unwrap(), STARTER);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "mine").unwrap();
        let error = init(&path).unwrap_err().to_string();
        assert!(error.contains("left as it is"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let link = directory.path().join("link.toml");
        symlink("nowhere", &link).unwrap();
        assert!(matches!(init(&link), Err(InitError::Exists(_))));
        assert!(!directory.path().join("nowhere").exists());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_told() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        let error = init(&directory.path().join("file/cluster.toml")).unwrap_err().to_string();
        assert!(error.contains("could not be written"), "{error}");
        assert!(error.contains("--config FILE"), "{error}");
    }

    #[test]
    fn the_starter_is_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.toml");
        init(&path).unwrap();
        let loaded = crate::config::load(&path, &crate::config::SystemAccounts).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(loaded.warnings.list.is_empty(), "{}", loaded.warnings);
        assert_eq!(loaded.settings.apps.len(), 1);
        // What is commented out is in order too, but for the accounts, which not every machine has.
        let uncommented: String = STARTER.lines().map(|line| format!("{}\n", line.strip_prefix("#: ").unwrap_or(line))).collect();
        assert_ne!(uncommented, STARTER);
        fs::write(&path, uncommented).unwrap();
        let loaded = crate::config::load(&path, &Everybody).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(loaded.warnings.list.is_empty(), "{}", loaded.warnings);
    }

    struct Everybody;

    impl crate::config::Accounts for Everybody {
        fn user(&self, name: &str) -> io::Result<Option<u32>> {
            Ok((!name.contains('-')).then_some(1000))
        }
        fn group(&self, name: &str) -> io::Result<Option<u32>> {
            Ok((name == "www-data").then_some(33))
        }
    }
}
