//! Files below a root directory: read with a bound, replaced atomically, locked.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown, lchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::formats::{self, Unread};
use crate::names::ClusterName;
use crate::units::diff::{Access, Found};
use crate::units::model::Tree;

use crate::place::{Manager, Place};
use crate::worker::paths::Paths;

use super::{Error, Options};

/// How long to wait for another install: longer than one takes, daemon-reload included.
pub(super) const LOCK_LIMIT: Duration = Duration::from_secs(30);

/// No file of ours is nearly as long; what is longer is not ours.
const FILE_LIMIT: u64 = 1 << 20;

/// The temporary file of a directory. One name for all: writers hold the lock, and what a killed one left is found.
const TEMPORARY: &str = ".project-cluster-new";

/// What to do about a failed file operation.
pub(super) fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => "Run it as root",
        ErrorKind::ReadOnlyFilesystem => "Make the file system writable and run it again",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "Make room and run it again",
        ErrorKind::NotFound => "Make the directory first, or name another",
        ErrorKind::InvalidData => "Restore it from a backup, or remove it and run it again",
        _ => "Mend this and run it again",
    }
}

/// The directory that stands for `/`.
pub(super) struct Root {
    directory: PathBuf,
    place: Place,
    /// Whether owners can be set.
    pub(super) owners: bool,
}

impl Root {
    /// The directory must exist.
    pub(super) fn open(options: &Options) -> Result<Self, Error> {
        let directory = options.root.as_path();
        let found = directory.canonicalize().map_err(error("use", directory))?;
        // A process's own directory in /proc bears its effective user. Where there is no /proc we try, and fail aloud.
        let owners = fs::metadata("/proc/self").map_or(true, |me| me.uid() == 0);
        Ok(Self { directory: found, place: options.host.place.clone(), owners })
    }

    /// Where the files of clusters lie, below it.
    pub(super) fn paths(&self) -> &Paths {
        &self.place.paths
    }

    /// The group of the one user whom everything belongs to, in a user's own systemd.
    pub(super) fn own_group(&self) -> Option<u32> {
        self.place.is_user().then_some(self.place.owner.1)
    }

    /// Who made what is systemd's.
    pub(super) fn owner(&self) -> u32 {
        self.place.owner.0
    }

    /// Whose systemd it is for.
    pub(super) fn manager(&self) -> Manager {
        self.place.manager
    }

    /// As a person would call it.
    pub(super) fn shown(&self) -> std::path::Display<'_> {
        self.directory.display()
    }

    /// Where a path of the tree really lies.
    pub(super) fn at(&self, path: &Path) -> PathBuf {
        self.directory.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Waits for the lock, which ends with the returned file.
    pub(super) fn lock(&self) -> Result<fs::File, Error> {
        // On a directory that only stands for `/` there may be no home yet.
        let directory = if self.directory == Path::new("/") { self.place.lock.clone() } else { self.directory.clone() };
        let file = fs::File::open(&directory).map_err(error("open", &directory))?;
        let end = Instant::now() + LOCK_LIMIT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(Duration::from_millis(50)),
                Err(TryLockError::WouldBlock) => return Err(Error::Locked { root: directory }),
                Err(TryLockError::Error(source)) => return Err(error("lock", &directory)(source)),
            }
        }
    }

    /// What lies at a path; nothing is `None`. A link is not followed.
    pub(super) fn find(&self, path: &Path) -> Result<Option<Found>, Error> {
        let real = self.at(path);
        let meta = match fs::symlink_metadata(&real) {
            Ok(meta) => meta,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(source) => return Err(error("look at", &real)(source)),
        };
        let access = Access { mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid() };
        let kind = meta.file_type();
        if kind.is_dir() {
            return Ok(Some(Found::Directory(access)));
        }
        if kind.is_symlink() {
            return Ok(Some(Found::Other("a symbolic link")));
        }
        if !kind.is_file() {
            return Ok(Some(Found::Other("a special file")));
        }
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&real);
        let mut contents = Vec::new();
        file.and_then(|file| file.take(FILE_LIMIT + 1).read_to_end(&mut contents)).map_err(error("read", &real))?;
        if contents.len() as u64 > FILE_LIMIT {
            return Ok(Some(Found::Other("a file of more than 1 MiB")));
        }
        Ok(Some(Found::File { contents, access }))
    }

    /// The contents of a regular file, if there is one.
    pub(super) fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        Ok(match self.find(path)? {
            Some(Found::File { contents, .. }) => Some(contents),
            _ => None,
        })
    }

    /// The contents of a file that `install` keeps of a cluster, if there is one and nobody but root can have written it. An
    /// app may have a directory of its own in `/var/lib`: what it puts there is no word of an install's.
    pub(super) fn kept(&self, cluster: &ClusterName, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        let alone = |access: Access| !self.owners || access.uid == 0 && access.mode & 0o022 == 0;
        let var = self.at(&self.paths().var(cluster));
        // Itself it may be a link to a larger disk: what is in `/var/lib` directly is root's.
        let var = fs::metadata(&var).is_ok_and(|meta| alone(Access { mode: meta.mode(), uid: meta.uid(), gid: meta.gid() }));
        if !var || !matches!(self.find(&self.paths().pins(cluster))?, Some(Found::Directory(access)) if alone(access)) {
            return Ok(None);
        }
        Ok(match self.find(path)? {
            Some(Found::File { contents, access }) if alone(access) => Some(contents),
            _ => None,
        })
    }

    /// The names in a directory, sorted; none where it is not there.
    pub(super) fn list(&self, path: &Path) -> Result<Vec<String>, Error> {
        let real = self.at(path);
        let entries = match fs::read_dir(&real) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
            Err(source) => return Err(error("list", &real)(source)),
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry.map_err(error("list", &real))?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    /// Replaces a file: readers see the old or the new one, also after a power cut.
    pub(super) fn write(&self, path: &Path, contents: &[u8], mode: u32, gid: u32) -> Result<(), Error> {
        let real = self.inside(path)?;
        let parent = real.parent().unwrap_or(&self.directory);
        let temporary = parent.join(TEMPORARY);
        let write = || {
            absent(fs::remove_file(&temporary))?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(contents)?;
            if self.owners {
                fchown(&file, Some(0), Some(gid))?;
            }
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()?;
            fs::rename(&temporary, &real)?;
            fs::File::open(parent)?.sync_all()
        };
        write().map_err(|source| {
            // The first error is the one to tell; a left-over is removed by the next write.
            let _ = fs::remove_file(&temporary);
            error("write", &real)(source)
        })
    }

    /// Sets owner (root), group and mode of what is there.
    pub(super) fn set_access(&self, path: &Path, mode: u32, gid: u32) -> Result<(), Error> {
        let real = self.inside(path)?;
        let set = || {
            if self.owners {
                lchown(&real, Some(0), Some(gid))?;
            }
            fs::set_permissions(&real, Permissions::from_mode(mode))
        };
        set().map_err(error("set owner and mode of", &real))
    }

    /// Makes one directory, root's. One that is there stays as it is.
    pub(super) fn make_directory(&self, path: &Path, mode: u32) -> Result<(), Error> {
        let real = self.inside(path)?;
        match DirBuilder::new().mode(0o700).create(&real) {
            Ok(()) => self.set_access(path, mode, 0),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && real.is_dir() => Ok(()),
            Err(source) => Err(error("make the directory", &real)(source)),
        }
    }

    /// The parents of these paths that are not there and that the tree does not make itself, outermost first.
    pub(super) fn missing_directories<'p>(&self, paths: impl Iterator<Item = &'p Path>, tree: &Tree) -> BTreeSet<PathBuf> {
        let parents = paths.flat_map(|path| path.ancestors().skip(1)).filter(|path| path.parent().is_some());
        parents.filter(|path| !tree.directories.contains_key(*path) && !self.at(path).exists()).map(Path::to_owned).collect()
    }

    /// Removes a file; one that is gone already is fine.
    pub(super) fn remove_file(&self, path: &Path) -> Result<(), Error> {
        let real = self.inside(path)?;
        absent(fs::remove_file(&real)).map_err(error("remove", &real))
    }

    /// Removes a file, or a directory with all that is in it, following no link; what is gone already is fine.
    pub(super) fn remove_all(&self, path: &Path) -> Result<(), Error> {
        let real = self.inside(path)?;
        let directory = real.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        absent(if directory { fs::remove_dir_all(&real) } else { fs::remove_file(&real) }).map_err(error("remove", &real))
    }

    /// Whether the directory is gone now. One that is not empty stays: somebody uses it.
    pub(super) fn remove_directory_if_empty(&self, path: &Path) -> bool {
        self.inside(path).is_ok_and(|real| absent(fs::remove_dir(real)).is_ok())
    }

    /// The real path, where no symbolic link on the way leads out of the root directory.
    fn inside(&self, path: &Path) -> Result<PathBuf, Error> {
        let real = self.at(path);
        for parent in real.ancestors().skip(1) {
            match parent.canonicalize() {
                Ok(parent) if parent.starts_with(&self.directory) => return Ok(real),
                Ok(_) => return Err(Error::Outside { path: real, root: self.directory.clone() }),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(error("look at", parent)(source)),
            }
        }
        Ok(real)
    }
}

fn error<'p>(what: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> Error + 'p {
    move |source| Error::File { what, path: path.to_owned(), source }
}

fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The number of all that this version keeps in `/var/lib/NAME` and `/run/NAME`, as the ledger bears it: raised whenever the
/// format of any of these files is, so that one number tells an older version, and the script of its package that runs before
/// it is unpacked, whether it can read what is there. A test holds it and the others' formats side by side.
pub const FORMAT: u32 = 2;

/// What a removed package left behind of a cluster: how it is to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Retired {
    /// It was enabled at boot.
    pub(super) enabled: bool,
    /// It was up.
    pub(super) up: bool,
}

/// What `install` remembers for `uninstall`, in `pins/installed.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// [`FORMAT`] at the time of writing. The first key, on a line of its own: a shell script reads it.
    pub(super) format: u32,
    /// The cluster.
    name: ClusterName,
    /// False while an install is under way: the next one takes up what a cut-off one left.
    pub(super) complete: bool,
    /// Directories that were not there before, removed again when empty.
    pub(super) directories: BTreeSet<PathBuf>,
    /// Those that systemd makes for unix sockets and that were not there before either.
    #[serde(default)]
    pub(super) socket_directories: BTreeSet<PathBuf>,
    /// None while the cluster is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) retired: Option<Retired>,
}

formats::numbered!(Ledger, FORMAT);

impl Ledger {
    /// Of a first install.
    pub(super) fn new(cluster: &ClusterName) -> Self {
        let none = BTreeSet::new;
        Self { format: FORMAT, name: cluster.clone(), complete: false, directories: none(), socket_directories: none(), retired: None }
    }
    /// The one on disk, if any.
    pub(super) fn read(root: &Root, cluster: &ClusterName) -> Result<Option<Self>, Error> {
        let path = root.paths().installed(cluster);
        let Some(contents) = root.kept(cluster, &path)? else {
            let why = "it, or a directory that it is in, is not root's alone, so nothing of it is believed (`chown root`, `chmod go-w`)";
            return match root.read(&path)? {
                Some(_) => Err(error("go by", &root.at(&path))(io::Error::other(why))),
                None => Ok(None),
            };
        };
        let bad = |why: String| error("understand", &root.at(&path))(io::Error::new(ErrorKind::InvalidData, why));
        let ledger: Self = formats::parse(&contents).map_err(|why| match why {
            Unread::Newer { .. } => Error::Newer(why.of(&root.at(&path))),
            Unread::Damaged(source) => bad(source.to_string()),
        })?;
        if ledger.name != *cluster {
            return Err(bad("it is of another cluster".into()));
        }
        Ok(Some(ledger))
    }
    /// Replaces the one on disk.
    pub(super) fn write(&self, root: &Root, cluster: &ClusterName) -> Result<(), Error> {
        let path = root.paths().installed(cluster);
        let text = serde_json::to_vec_pretty(self).map_err(|source| error("write", &root.at(&path))(source.into()))?;
        root.write(&path, &text, 0o600, 0)
    }
}

#[cfg(test)]
mod tests {
    use crate::api::tokens::Tokens;
    use crate::config::settings;
    use crate::formats::Format as _;
    use crate::intent;
    use crate::master::{events::away, rolls::kept};
    use crate::worker::{pin, published};

    /// Who raises one of the others raises the first as well, and writes the new row here; files without a constant of their own
    /// (counters, crash counts, the book of ports) are of format 1 since there is one.
    #[test]
    fn one_number_stands_for_all_formats() {
        let formats = [
            ("settings", settings::FORMAT),
            ("pins", pin::FORMAT),
            ("what a person asked for", intent::FORMAT),
            ("a roll", kept::FORMAT),
            ("a roll that waits", kept::NEXT_FORMAT),
            ("who serves", away::FORMAT),
            ("generations", published::FORMAT),
            ("tokens", Tokens::NUMBER),
        ];
        let of_2 = [
            ("settings", 2),
            ("pins", 1),
            ("what a person asked for", 2),
            ("a roll", 3),
            ("a roll that waits", 3),
            ("who serves", 1),
            ("generations", 4),
            ("tokens", 1),
        ];
        assert_eq!((super::FORMAT, formats), (2, of_2));
        // The script that runs before an older version is unpacked knows the number, too.
        assert!(include_str!("../../../packaging/debian/preinst").contains(&format!("\nreads={}\n", super::FORMAT)));
    }
}
