//! Reads the configuration's files: the only part of this room that touches the file system.
//!
//! Each file is bounded and must be a regular one; what cannot be read is told like any other problem.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::accounts::Accounts;
use super::finding::Findings;
use super::fragment::Cluster;
use super::key::Shape;
use super::merge::merge;
use super::problem::{Problem, Problems};
use super::settings::Settings;
use super::source::{Place, Source, Sources};
use super::tree::{self, Node};
use super::validate;
use crate::names::ClusterName;

/// Where the configuration lies when no other place is given.
pub const DEFAULT_FILE: &str = "/etc/project-cluster/cluster.toml";
/// Largest file: a thousand apps fit many times.
pub const MAX_FILE: u64 = 1 << 20;
/// Most files in `conf.d`.
pub const MAX_FILES: usize = 256;
/// Most bytes of all files together.
pub const MAX_TOTAL: u64 = 8 << 20;

/// A configuration that is in order.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// What is to be said of it; [`Problems`] renders them.
    pub warnings: Problems,
    /// The files read, in order.
    pub files: Vec<PathBuf>,
}

/// Loads `path` and the `conf.d/*.toml` beside it, in the order of their names.
///
/// # Errors
/// Everything that is wrong, all at once, together with the warnings. Where a file is not TOML at all, what the
/// keys of all files mean together cannot be judged and is not.
pub fn load(path: &Path, accounts: &impl Accounts) -> Result<Loaded, Problems> {
    judge(read_all(path), accounts)
}

/// The same of files that are in memory, in this order.
///
/// # Errors
/// As [`load`].
#[cfg(any(test, fuzzing))]
pub fn from_bytes(files: &[(&Path, &[u8])], accounts: &impl Accounts) -> Result<Loaded, Problems> {
    let (mut read, mut total) = (Files::default(), 0);
    files.iter().for_each(|(path, bytes)| read.take(path, bytes.to_vec(), &mut total));
    judge(read, accounts)
}

fn judge(read: Files, accounts: &impl Accounts) -> Result<Loaded, Problems> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let files = read.sources.0.iter().map(|source| source.path.clone()).collect();
    let mut findings = read.findings;
    let mut settings = None;
    let whole = read.unreadable.is_empty() && !findings.failed();
    if let Some(root) = merge(read.trees, &mut findings)
        && let Some(cluster) = Cluster::read(&root, &mut findings)
        && whole
    {
        settings = validate::validate(&cluster, accounts, cores, &mut findings);
    }
    let problems = Problems::new(read.unreadable, &findings, &read.sources);
    match settings {
        Some(settings) if !problems.failed() => Ok(Loaded { settings, warnings: problems, files }),
        _ => Err(problems),
    }
}

/// The name of the cluster that a configuration describes, as far as it can be read: the default one when none is
/// written, none when the file cannot be read or the name is wrong. For a command line that only has to know whom
/// to talk to.
pub fn cluster_name(path: &Path) -> Option<ClusterName> {
    let read = read_all(path);
    let mut findings = Findings::default();
    if !read.unreadable.is_empty() || read.findings.failed() {
        return None;
    }
    let Node { kind: tree::Kind::Table(table), .. } = merge(read.trees, &mut findings)? else { return None };
    match table.entries.get("name") {
        None => Some(ClusterName::default()),
        Some(node) => String::read(node, &mut findings)?.parse().ok(),
    }
}

#[derive(Default)]
struct Files {
    sources: Sources,
    trees: Vec<Node>,
    findings: Findings,
    unreadable: Vec<Problem>,
}

fn read_all(path: &Path) -> Files {
    let mut files = Files::default();
    let mut total = 0;
    files.read(path, &mut total);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.join("conf.d"),
        _ => PathBuf::from("conf.d"),
    };
    match fragments(&directory) {
        Ok(paths) if paths.len() > MAX_FILES => files.unreadable.push(Problem::of_file(
            "too-many",
            directory.display().to_string(),
            format!("{} files", paths.len()),
            format!("expected at most {MAX_FILES}; lay some together"),
        )),
        Ok(paths) => paths.iter().for_each(|path| files.read(path, &mut total)),
        Err(error) => files.fail(&directory, &error),
    }
    files
}

/// The `*.toml` of a directory in the order of their names; hidden files are an editor's. No directory, no files.
fn fragments(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let bytes = name.as_encoded_bytes();
        if bytes.ends_with(b".toml") && !bytes.starts_with(b".") {
            paths.push(directory.join(name));
        }
    }
    paths.sort();
    Ok(paths)
}

impl Files {
    fn fail(&mut self, path: &Path, error: &io::Error) {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "`project-cluster init` writes a starter file; `--config FILE` names another one",
            io::ErrorKind::PermissionDenied => "run it as a user who may read the file (root, where it holds secrets)",
            _ => "make it a readable regular file",
        };
        let message = format!("cannot be read: {error}");
        self.unreadable.push(Problem::of_file("unreadable", path.display().to_string(), message, help.into()));
    }

    fn read(&mut self, path: &Path, total: &mut u64) {
        let bytes = match read_bounded(path) {
            Ok(bytes) => bytes,
            Err(error) => return self.fail(path, &error),
        };
        self.take(path, bytes, total);
    }

    fn take(&mut self, path: &Path, bytes: Vec<u8>, total: &mut u64) {
        let length = bytes.len() as u64;
        *total += length;
        if length > MAX_FILE || *total > MAX_TOTAL {
            let help = format!("expected at most 1 MiB a file and {} MiB in all", MAX_TOTAL >> 20);
            return self.unreadable.push(Problem::of_file("too-large", path.display().to_string(), "too large".into(), help));
        }
        let (text, bad) = match String::from_utf8(bytes) {
            Ok(text) => (text, None),
            // Up to the first bad byte the lossy text has the same offsets.
            Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some(error.utf8_error().valid_up_to())),
        };
        let file = self.sources.add(Source::new(path.to_path_buf(), text));
        let source = &self.sources.0[file];
        match bad {
            Some(at) => self.findings.error(
                "not-utf8",
                &Place::new(file, at..at + 1),
                format!("not UTF-8: the byte at offset {at} begins no character"),
                "save the file as UTF-8",
            ),
            None => {
                let mut own = Findings::default();
                let tree = tree::parse(&source.text, file, &mut own);
                // What stands around a syntax error is read as something else; judging it would tell nonsense.
                if !own.failed() {
                    self.trees.push(tree);
                }
                self.findings.extend(own);
            }
        }
    }
}

/// At most one byte more than [`MAX_FILE`] of a regular file; never waits for a pipe's other end.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
