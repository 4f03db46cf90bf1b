//! The store on files of its own: what it survives, and what it says.

use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::params;

use super::*;

const TABLES: Tables = Tables {
    migrations: &["CREATE TABLE word (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT", "ALTER TABLE word ADD COLUMN more INTEGER"],
    probe: "SELECT id, text, more FROM word",
    told: |connection, text| connection.execute("INSERT INTO word (text) VALUES (?1)", [format!("told: {text}")]).map(|_| ()),
};

const SOON: Duration = Duration::from_secs(30);

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }
    fn path(&self) -> PathBuf {
        self.directory.path().join("store.sqlite")
    }
    fn store(&self) -> Store {
        Store::new(self.path(), TABLES, || {})
    }
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn write(store: &Store, text: &str) {
    let text = text.to_owned();
    store.write(move |connection| connection.execute("INSERT INTO word (text) VALUES (?1)", params![text]).map(|_| ()));
}

async fn words(store: &Store) -> Result<Vec<String>, String> {
    let read =
        store.read(|connection| connection.prepare("SELECT text FROM word ORDER BY id")?.query_map([], |row| row.get(0))?.collect()).await;
    read.map_err(|why| why.to_string())
}

#[tokio::test]
async fn what_is_written_is_read_behind_it_and_by_the_next_one() {
    let place = Place::new();
    let store = place.store();
    assert!(!place.path().exists(), "nothing is opened before there is something to do");
    write(&store, "one");
    write(&store, "two");
    assert_eq!(words(&store).await.unwrap(), ["one", "two"]);
    assert!(store.close(SOON));
    assert_eq!(place.names(), ["store.sqlite"], "closed, it has nothing beside it");
    write(&store, "three");
    assert!(store.close(SOON));
    assert_eq!(words(&place.store()).await.unwrap(), ["one", "two", "three"]);
}

#[tokio::test]
async fn it_is_as_durable_and_as_small_as_it_is_said_to_be() {
    let place = Place::new();
    let store = place.store();
    let pragma = async |name: &'static str| {
        store.read(move |connection| connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))).await
    };
    use rusqlite::types::Value::{Integer, Text};
    let expected = [
        ("journal_mode", Text("wal".into())),
        ("locking_mode", Text("exclusive".into())),
        ("synchronous", Integer(2)),
        ("auto_vacuum", Integer(2)),
        ("cache_size", Integer(-128)),
        ("application_id", Integer(open::OURS.into())),
        ("user_version", Integer(2)),
    ];
    for (name, value) in expected {
        assert_eq!(pragma(name).await.unwrap(), value, "{name}");
    }
    assert_eq!(place.names(), ["store.sqlite", "store.sqlite-wal"], "no index that is mapped");
}

#[tokio::test]
async fn a_piece_that_fails_is_undone_whole() {
    let place = Place::new();
    let store = place.store();
    store.write(|connection| {
        connection.execute("INSERT INTO word (text) VALUES ('half')", [])?;
        connection.execute("INSERT INTO nowhere VALUES (1)", []).map(|_| ())
    });
    assert_eq!(words(&store).await.unwrap(), Vec::<String>::new());
    assert!(store.trouble().is_some_and(|why| why.contains("no such table")));
    // What was lost is told where it is missed.
    write(&store, "next");
    let words = words(&store).await.unwrap();
    assert!(words[0] == "next" && words[1].contains("1 times something could not be written"), "{words:?}");
    assert_eq!(store.trouble(), None);
}

#[tokio::test]
async fn an_older_one_is_brought_up_to_date_step_by_step() {
    let place = Place::new();
    let first = Tables { migrations: &TABLES.migrations[..1], probe: "SELECT text FROM word", ..TABLES };
    let older = Store::new(place.path(), first, || {});
    write(&older, "of before");
    assert!(older.close(SOON));
    assert_eq!(words(&place.store()).await.unwrap(), ["of before"]);
}

#[tokio::test]
async fn a_newer_one_is_left_as_it_is_and_said() {
    let place = Place::new();
    let store = place.store();
    write(&store, "kept");
    assert!(store.close(SOON));
    let newer = rusqlite::Connection::open(place.path()).unwrap();
    newer.execute_batch("PRAGMA user_version = 3").unwrap();
    drop(newer);
    let bytes = std::fs::read(place.path()).unwrap();
    let store = place.store();
    write(&store, "lost");
    let why = words(&store).await.unwrap_err();
    assert!(why.contains("was written by a newer project-cluster (format 3, this one knows 2)"), "{why}");
    assert_eq!(store.trouble().as_ref(), Some(&why));
    assert!(store.close(SOON));
    assert!(std::fs::read(place.path()).unwrap() == bytes, "not a byte of it has changed");
    assert!(!place.names().iter().any(|name| name.contains("damaged")), "{:?}", place.names());
}

#[tokio::test]
async fn whatever_is_damaged_goes_aside_with_its_log_and_the_last_few_are_kept() {
    let place = Place::new();
    let damages: [&dyn Fn(Vec<u8>) -> Vec<u8>; 6] = [
        &|_| b"no database at all, and longer than a header".repeat(40),
        &|bytes| bytes[..bytes.len() / 2].to_vec(),
        // A page of the table.
        &|mut bytes| {
            bytes[4096 * 2..4096 * 3].fill(0xff);
            bytes
        },
        &|mut bytes| {
            bytes[100..4096].fill(0x5a);
            bytes
        },
        // Of another program: the application's id.
        &|mut bytes| {
            bytes[68..72].copy_from_slice(&[1, 2, 3, 4]);
            bytes
        },
        &|mut bytes| {
            bytes.truncate(60);
            bytes
        },
    ];
    for (number, damage) in (1..).zip(damages) {
        let store = place.store();
        for word in 0..200 {
            write(&store, &format!("{word} {}", "x".repeat(100)));
        }
        assert!(store.close(SOON));
        std::fs::write(place.path(), damage(std::fs::read(place.path()).unwrap())).unwrap();
        std::fs::write(place.directory.path().join("store.sqlite-wal"), "what is left of a log").unwrap();
        let store = place.store();
        write(&store, "anew");
        let words = words(&store).await.unwrap();
        assert_eq!(words.len(), 2, "damage {number}: {words:?}");
        let aside = format!("store.sqlite.damaged-{number}");
        assert!(words[0].starts_with("told: ") && words[0].contains(&aside) && words[1] == "anew", "damage {number}: {words:?}");
        assert!(store.close(SOON));
        assert_eq!(store.trouble(), None);
        assert!(place.directory.path().join(aside).exists());
        std::fs::remove_file(place.path()).unwrap();
    }
    let names = place.names();
    assert!(
        !names.iter().any(|name| name.contains("damaged-1")) && names.iter().filter(|name| !name.ends_with("-wal")).count() == 5,
        "{names:?}"
    );
    assert!(names.iter().filter(|name| name.ends_with("-wal")).count() <= 5, "{names:?}");
}

#[tokio::test]
async fn where_it_cannot_be_opened_all_goes_on_and_each_loss_is_counted() {
    let place = Place::new();
    std::fs::create_dir(place.path()).unwrap();
    let store = place.store();
    for _ in 0..3 {
        write(&store, "lost");
    }
    let why = words(&store).await.unwrap_err();
    assert!(why.contains("store.sqlite: unable to open database file") && why.contains("`df "), "{why}");
    assert_eq!(store.trouble(), Some(why));
    std::fs::remove_dir(place.path()).unwrap();
    write(&store, "found");
    let words = words(&store).await.unwrap();
    assert!(words[0] == "found" && words[1].contains("3 times something could not be written"), "{words:?}");
}

#[tokio::test]
async fn who_holds_it_is_waited_for_a_while_and_then_said() {
    let place = Place::new();
    let store = place.store();
    write(&store, "one");
    assert!(store.close(SOON));
    let other = rusqlite::Connection::open(place.path()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert!(words(&store).await.unwrap_err().contains("is in use by another process (`fuser "));
    drop(other);
    assert_eq!(words(&store).await.unwrap(), ["one"]);
}

#[test]
fn the_queue_has_an_end_and_its_thread_too() {
    static RESTS: AtomicUsize = AtomicUsize::new(0);
    let place = Place::new();
    let store = Store::new(place.path(), TABLES, || {
        RESTS.fetch_add(1, Ordering::Relaxed);
    });
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    // The thread is held up by the first.
    store.write(move |_| {
        let _ = gone.lock().unwrap().recv();
        Ok(())
    });
    static DONE: AtomicUsize = AtomicUsize::new(0);
    for _ in 0..QUEUE + 10 {
        store.write(|_| {
            DONE.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
    }
    assert!(store.trouble().is_some_and(|why| why.contains("than the disk takes")));
    assert!(!store.close(Duration::from_millis(20)), "it does not wait longer than it may");
    go.send(()).unwrap();
    assert!(store.close(SOON) && RESTS.load(Ordering::Relaxed) >= 1);
    let done = DONE.load(Ordering::Relaxed);
    assert!((QUEUE - 1..=QUEUE).contains(&done), "{done}");
    let told: String = rusqlite::Connection::open(place.path()).unwrap().query_row("SELECT text FROM word", [], |row| row.get(0)).unwrap();
    assert!(told.contains(&format!("{} times something could not be written", QUEUE + 10 - done)), "{told}");
    assert_eq!(store.trouble(), None);
}

#[tokio::test]
async fn what_goes_gives_its_pages_back() {
    let place = Place::new();
    let store = place.store();
    let pages =
        async || store.read(|connection| connection.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))).await.unwrap();
    for _ in 0..100 {
        write(&store, &"x".repeat(4000));
    }
    let full = pages().await;
    store.write(|connection| connection.execute("DELETE FROM word WHERE id > 10", []).map(|_| ()));
    for _ in 0..3 {
        write(&store, "y");
    }
    let left = pages().await;
    assert!(full > 100 && left < 40, "{full} pages, then {left}");
}
