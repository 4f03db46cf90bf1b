//! A database as it must be: its settings, its tables; and what is to be done with one that is otherwise.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::Tables;
use crate::files;

/// `PRAGMA application_id`: that it is ours, also to `file(1)`. "pcst".
pub(super) const OURS: i32 = 0x7063_7374;
/// Pages of 4 KiB: 512 MiB, which as many entries as are kept do not reach though each has the most and longest steps. A busy
/// cluster has some 2 MiB.
const PAGES: u32 = 128 * 1024;
/// Who else may have it open is root with `sqlite3`, for a moment.
const BUSY: Duration = Duration::from_secs(2);

/// What is wrong with it, for people.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is none, or not whole: it goes out of the way.
    Damaged(String),
    /// It is left alone, and nothing is written: it is of a newer program, or the disk does not take it.
    Refused(String),
}

impl Fault {
    pub fn text(self) -> String {
        match self {
            Self::Damaged(why) | Self::Refused(why) => why,
        }
    }
}

/// What an error of SQLite's means for the database at this place.
pub(super) fn fault(path: &Path, why: &rusqlite::Error) -> Fault {
    let file = path.display();
    match why.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Fault::Damaged(format!("{file} is damaged: {why}")),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Fault::Refused(format!("{file} is in use by another process (`fuser {file}`)"))
        }
        _ => {
            let directory = path.parent().unwrap_or(path).display();
            Fault::Refused(format!("{file}: {why}. `df {directory}` shows whether its disk is full"))
        }
    }
}

/// Opens it, makes it where it is not there, brings its tables up to date. `check`: looks through all of its pages.
pub(super) fn open(path: &Path, tables: &Tables, check: bool) -> Result<Connection, Fault> {
    // One thread alone has it, so that SQLite need not guard it.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|why| fault(path, &why))?;
    look(&connection).map_err(|why| fault(path, &why))?;
    let newest = i64::try_from(tables.migrations.len()).unwrap_or(i64::MAX);
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(|why| fault(path, &why));
    let (id, version) = (number("application_id")?, number("user_version")?);
    let file = path.display();
    if version != 0 && id != i64::from(OURS) {
        return Err(Fault::Damaged(format!("{file} is a database of another program")));
    }
    if version > newest {
        return Err(Fault::Refused(format!(
            "{file} was written by a newer project-cluster (format {version}, this one knows {newest}) and is left as it is: install \
             that version again, or move the file away"
        )));
    }
    settle(&connection).map_err(|why| fault(path, &why))?;
    if check {
        let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|why| fault(path, &why))?;
        if found != "ok" {
            return Err(Fault::Damaged(format!("{file} is damaged: {found}")));
        }
    }
    migrate(&connection, tables, version).map_err(|why| match why.sqlite_error_code() {
        // Tables of that name are there, and none that we made.
        Some(ErrorCode::Unknown) => Fault::Damaged(format!("{file} is damaged: {why}")),
        _ => fault(path, &why),
    })?;
    match connection.prepare(tables.probe) {
        Ok(_) => {}
        Err(why) => return Err(Fault::Damaged(format!("{file} is damaged: {why}"))),
    }
    Ok(connection)
}

/// Makes it one that can be looked at without a change of it: its log, too, stays as it is.
///
/// `locking_mode=EXCLUSIVE`, before the log is opened, keeps the log's index in memory of this process's own: a file that is
/// mapped and shared would end the master (SIGBUS) when somebody cuts it short.
fn look(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE")
}

/// How SQLite is to go about it. `synchronous=FULL`: what was done just
/// before a power cut is what one looks for behind it, and nobody waits for the disk here. Little memory, and no temporary
/// files.
fn settle(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    connection.execute_batch(&format!(
        "PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA cache_size = -128;
         PRAGMA mmap_size = 0;
         PRAGMA temp_store = MEMORY;
         PRAGMA cell_size_check = ON;
         PRAGMA journal_size_limit = 1048576;
         PRAGMA max_page_count = {PAGES};"
    ))
}

fn migrate(connection: &Connection, tables: &Tables, version: i64) -> rusqlite::Result<()> {
    let made = usize::try_from(version).unwrap_or(0);
    for (number, step) in (1..).zip(tables.migrations).skip(made) {
        // Each whole or not at all: who dies in between goes on there.
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(step)?;
        transaction.execute_batch(&format!("PRAGMA application_id = {OURS}; PRAGMA user_version = {number};"))?;
        transaction.commit()?;
    }
    Ok(())
}

/// Moves it aside with its log, of which `sqlite3` can still make something; the last few are kept.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let with = |path: &Path, end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let aside = files::set_aside(path)?;
    for end in ["-wal", "-journal"] {
        match std::fs::rename(with(path, end), with(&aside, end)) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
            _ => {}
        }
    }
    // A log goes with the database that it is of.
    let directory = path.parent().unwrap_or(path);
    for entry in std::fs::read_dir(directory)?.flatten() {
        let log = entry.path();
        let name = log.as_os_str().to_string_lossy().into_owned();
        let of = name.strip_suffix("-wal").or_else(|| name.strip_suffix("-journal"));
        if of.is_some_and(|of| of.contains(".damaged-") && of.starts_with(&*path.to_string_lossy()) && !Path::new(of).exists()) {
            // One too many does no harm.
            let _ = std::fs::remove_file(log);
        }
    }
    Ok(aside)
}
