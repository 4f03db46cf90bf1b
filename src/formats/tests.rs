//! A specimen of each format that some program on `main` wrote is read, and says what it said then; one more than the highest is
//! refused by its number. Settings, rolls and `apps-1` come from programs of then, the others are written by hand in their form.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};

use super::*;
use crate::drain::record::Record;
use crate::health::Count;
use crate::master::events::away;
use crate::names::Generation;
use crate::worker::inherited::Sockets;
use crate::worker::pin::Copy;
use crate::worker::published::Published;

/// A kind of file: its name, the highest format, and a reader that says in JSON what it read.
struct Kind {
    name: &'static str,
    number: u32,
    read: fn(&[u8]) -> Result<Value, Unread>,
}

fn read<T: Format + Serialize>(bytes: &[u8]) -> Result<Value, Unread> {
    Ok(serde_json::to_value(parse::<T>(bytes)?)?)
}

fn kind<T: Format + Serialize>(name: &'static str) -> Kind {
    Kind { name, number: T::NUMBER, read: read::<T> }
}

fn kinds() -> Vec<Kind> {
    vec![
        kind::<Settings>("settings"),
        kind::<Pin>("pin"),
        kind::<Copy>("copy"),
        kind::<Sockets>("sockets"),
        kind::<Counter>("counter"),
        kind::<Book>("ports"),
        kind::<Count>("ends"),
        kind::<Record>("drained"),
        kind::<Tokens>("tokens"),
        kind::<Ledger>("installed"),
        kind::<away::File>("serving"),
        // As the rooms read them, which make today's of what is older.
        Kind { name: "apps", number: Intent::NUMBER, read: |bytes| Ok(serde_json::to_value(Intent::parse(bytes)?)?) },
        Kind { name: "roll", number: Kept::NUMBER, read: |bytes| Ok(serde_json::to_value(Kept::parse(bytes)?)?) },
        Kind { name: "next", number: Waiting::NUMBER, read: |bytes| Ok(serde_json::to_value(Waiting::parse(bytes)?)?) },
        Kind { name: "generations", number: published::FORMAT, read: generations },
    ]
}

fn generations(bytes: &[u8]) -> Result<Value, Unread> {
    if let Some(why) = newer(bytes, published::FORMAT) {
        return Err(why);
    }
    let published = Published::parse(&String::from_utf8_lossy(bytes));
    let revisions = [8, 9].map(|generation| published.revision(Generation(generation)));
    let pins: Vec<Value> = published.pins().iter().map(|pin| json!([pin.generation, pin.maker, pin.ready, pin.release])).collect();
    Ok(json!({ "highest": published.highest(), "started": published.started, "revisions": revisions, "pins": pins }))
}

/// The committed specimens, by name without what is behind the dot. That of the database is read by `history::tests`.
fn specimens() -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats");
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.retain(|path| path.extension().is_none_or(|kind| kind != "sqlite"));
    paths.into_iter().map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap())).collect()
}

/// What each specimen says: places in the JSON of what was read, and what is there.
fn told(specimen: &str) -> Vec<(&'static str, Value)> {
    let env = ("/pin/env/A", json!("b"));
    match specimen {
        // Changes per number became the keys in which each number differs.
        "settings-1" => {
            vec![("/apps/api/revision/differs/3", json!(["cwd"])), ("/apps/api/revision/differs/1", json!(["command", "cwd", "env"]))]
        }
        "settings-2" => vec![("/apps/api/revision/differs/4", json!(["cwd"])), ("/apps/api/earlier/0/cwd", json!("/srv/old"))],
        "pin-1" => vec![("/revision", json!(0)), ("/env/A", json!("b")), ("/cwd", json!("/srv/shop/releases/1"))],
        "pin-1-revision" => vec![("/revision", json!(2))],
        "copy-0" => vec![("/nonblocking", json!(null)), env],
        "copy-1" => vec![("/nonblocking", json!(true)), ("/port", json!(4001)), ("/pin/revision", json!(2)), env],
        "sockets-0" | "sockets-1" => vec![("/sockets/0/inode", json!(99)), ("/supervisor", json!(8))],
        "counter-1" => vec![("/generation", json!(9)), ("/started", json!(8))],
        "tokens-1" => vec![("/tokens/0/name", json!("deploy")), ("/tokens/0/role", json!("operate")), ("/tokens/0/apps", json!(["api"]))],
        "ports-1" => vec![("/ports/1.2.1", json!(4000))],
        "ends-1" => vec![("/ends", json!(4)), ("/start_us", json!(7_000_000))],
        "drained-1" => vec![("/how", json!("epoll")), ("/end", json!("cut")), ("/open", json!(3))],
        "installed-1" | "installed-2" => vec![("/complete", json!(true)), ("/directories/0", json!("/etc/polkit-1/rules.d"))],
        "serving-1" => vec![("/apps/api/workers/1", json!("2.2.1")), ("/apps/api/strays/0/instance", json!("3.2.1"))],
        "apps-1" => vec![("/format", json!(2)), ("/apps/api/generation", json!(1)), ("/apps/api/slots", json!(null))],
        "apps-2" => vec![("/apps/api/stopped", json!([2])), ("/apps/api/held/generation", json!(8)), ("/apps/api/served", json!(null))],
        "apps-2-served" => vec![("/apps/api/served/1/generation", json!(7)), ("/apps/api/rolled_back/to", json!(4))],
        // New are those of the new generation, which the second format says of each.
        "roll-1" => {
            vec![("/roll/workers/1.2.1/new", json!(true)), ("/roll/workers/3.1.1/new", json!(false)), ("/record/generation", json!(2))]
        }
        "roll-2" => vec![("/roll/workers/1.2.1/new", json!(true)), ("/roll/plan/scope", json!("app")), ("/record/generation", json!(2))],
        "roll-3" => vec![
            ("/roll/phase/paused/left", json!(593_000)),
            ("/roll/plan/canary", json!(2)),
            ("/roll/plan/on_failure", json!("pause")),
            ("/roll/trial", json!("awaited")),
            ("/record/state", json!("paused")),
        ],
        // An empty file was a reload.
        "next-0" | "next-1" => vec![("/deploy", json!(true)), ("/ticket", json!(null))],
        "next-2" => vec![("/deploy", json!(false)), ("/restart", json!([2])), ("/ticket", json!(1_795_530_543_642_u64))],
        "next-3" => vec![("/deploy", json!(true)), ("/to", json!(4)), ("/ticket", json!(1_795_530_543_642_u64))],
        "next-3-canaries" => vec![("/deploy", json!(true)), ("/canaries/canary/percent", json!(10)), ("/canaries/bake/secs", json!(60))],
        "generations-1" => vec![("/highest", json!(9)), ("/started", json!(null)), ("/revisions", json!([0, 0]))],
        "generations-2" => vec![("/highest", json!(9)), ("/started", json!(null)), ("/revisions", json!([1, 2]))],
        "generations-3" => vec![("/highest", json!(9)), ("/started", json!(8)), ("/revisions", json!([1, 2])), ("/pins", json!([]))],
        "generations-4" => vec![
            ("/highest", json!(9)),
            ("/started", json!(8)),
            ("/revisions", json!([1, 1])),
            ("/pins", json!([[8, 8, true, "/srv/shop/releases/1"], [9, 8, false, "/srv/shop/releases/1"]])),
        ],
        other => panic!("nobody knows what {other} says"),
    }
}

#[test]
fn each_older_format_is_read_and_says_what_it_said() {
    let (kinds, mut seen) = (kinds(), BTreeSet::new());
    for (name, bytes) in specimens() {
        let (kind, number) = name.split_once('-').unwrap();
        let number: u32 = number.split('-').next().unwrap().parse().unwrap();
        let kind = kinds.iter().find(|other| other.name == kind).unwrap_or_else(|| panic!("no kind of {name}"));
        let read = (kind.read)(&bytes).unwrap_or_else(|why| panic!("{name} {why}"));
        for (place, expected) in told(&name) {
            assert_eq!(read.pointer(place).unwrap_or(&Value::Null), &expected, "{name} at {place}: {read:#}");
        }
        seen.insert((kind.name, number));
    }
    for kind in &kinds {
        let missing: Vec<u32> = (1..=kind.number).filter(|number| !seen.contains(&(kind.name, *number))).collect();
        assert!(missing.is_empty(), "{}: no specimen of format {missing:?}", kind.name);
    }
}

#[test]
fn a_newer_format_is_refused_by_its_number_whatever_else_it_says() {
    for kind in kinds() {
        let (found, known) = (u64::from(kind.number) + 1, kind.number);
        let texts = match kind.name {
            "generations" => vec![format!("format {found}\n9 1 x\n")],
            _ => vec![format!("{{\"format\":{found}}}"), format!("{{\"apps\":[1,{{\"x\":null}}],\"format\":{found},\"name\":7}}")],
        };
        for text in texts {
            let why = (kind.read)(text.as_bytes()).expect_err(&text);
            assert!(matches!(why, Unread::Newer { found: f, known: k } if (f, k) == (found, known)), "{}: {text}: {why}", kind.name);
            let told = why.of(Path::new("/var/lib/shop/a.json")).to_string();
            assert!(told.starts_with("/var/lib/shop/a.json was written by a newer project-cluster (format "), "{told}");
            assert!(told.contains("`project-cluster uninstall` with that version") && !told.contains('\n'), "{told}");
        }
        assert!(!matches!((kind.read)(b"{\"format\":"), Err(Unread::Newer { .. })), "what is cut off is damaged: {}", kind.name);
    }
}

#[test]
fn every_file_of_a_cluster_is_looked_at_before_anything_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let (var, run) = (directory.path().join("var"), directory.path().join("run"));
    let files = [
        (&var, "settings.json"),
        (&var, "tokens.json"),
        (&var, "pins/settings.json"),
        (&var, "pins/installed.json"),
        (&var, "pins/api/counter.json"),
        (&var, "pins/api/7.json"),
        (&var, "state/apps.json"),
        (&var, "generations/api"),
        (&run, "state/serving.json"),
        (&run, "state/roll-api.json"),
        (&run, "state/roll-api.next"),
        (&run, "ports/api.json"),
    ];
    for (top, name) in files {
        std::fs::create_dir_all(top.join(name).parent().unwrap()).unwrap();
        std::fs::write(top.join(name), "damaged").unwrap();
    }
    // What is damaged is for whoever needs it; what is none of these files is nobody's business.
    std::fs::write(var.join("state/other.json"), "{\"format\":99}").unwrap();
    refuse_newer([&var, &run], None).unwrap();
    for (top, name) in files {
        let path = top.join(name);
        std::fs::write(&path, if name.starts_with("generations") { "format 99\n" } else { "{\"format\":99}" }).unwrap();
        let why = refuse_newer([&var, &run], None).unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::Unsupported);
        assert!(why.to_string().starts_with(&format!("{} was written by a newer", path.display())), "{why}");
        std::fs::write(&path, "").unwrap();
    }
    refuse_newer([&directory.path().join("none"), &run], None).unwrap();
}
