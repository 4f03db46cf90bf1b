//! Whatever the bytes: no panic, and every problem lies inside its file.

use proptest::prelude::*;
use proptest::sample::select;

use super::super::fuzz::sound;
use super::load_files;

/// Headings.
const HEADS: &[&str] = &[
    "[apps.api]\n",
    "[apps]\n",
    "[api]\n",
    "[reload]\n",
    "[timeout]\n",
    "[apps.api.env]\n",
    "[apps.api.systemd]\n",
    "[apps.api.limits]\n",
    "[apps.api.sandbox]\n",
];
/// Keys.
const KEYS: &[&str] = &[
    "name",
    "host",
    "port",
    "ports",
    "workers",
    "command",
    "cwd",
    "user",
    "group",
    "env",
    "listen",
    "spawn",
    "swap",
    "ready",
    "on_demand",
    "success_exit_codes",
    "max_surge",
    "max_unavailable",
    "min_ready",
    "deadline",
    "keep",
    "start",
    "kill",
    "path",
    "address",
    "mode",
    "http",
    "exec",
    "users",
];
/// Values.
const VALUES: &[&str] = &[
    "0",
    "1",
    "-1",
    "3000",
    "65535",
    "65536",
    "99999999999999999999",
    "1.5",
    "true",
    "1979-05-27",
    "\"child\"",
    "\"cluster\"",
    "\"node a.js\"",
    "\"/bin/x\"",
    "\"/srv\"",
    "\"25%\"",
    "\"5s\"",
    "\"auto\"",
    "\"4000-4010\"",
    "\"udp:1\"",
    "\"127.0.0.1:3000\"",
    "\"[::1]:3000\"",
    "\"/run/x\"",
    "\"0660\"",
    "\"{type} $X && y\"",
];
/// What holds them together, and what must not reach a terminal.
const SYNTAX: &[&str] = &[
    " = ",
    "=",
    ".",
    ",",
    "[",
    "]",
    "{ ",
    " }",
    "\n",
    "\r\n",
    "\"",
    "'",
    "'''",
    "\"\"\"",
    "#",
    "\\",
    "\\u0000",
    "\\u001b",
    "api",
    "bg",
    "\"é\"",
    "\u{202e}",
    "\u{1b}[2J",
    "\0",
    "\u{feff}",
];

/// Any of them.
fn piece() -> impl Strategy<Value = &'static str> {
    prop_oneof![select(HEADS), select(KEYS), select(VALUES), select(SYNTAX)]
}

const WHOLE: &str = "name = \"store\"\nreload.max_surge = \"25%\"\n[api]\nport = 9000\n[apps.api]\nworkers = 4\ncommand = \"node a.js\"\n\
    cwd = \"/srv\"\nuser = \"shop\"\nlisten = [3000, { path = \"/run/x/s\", mode = \"0660\" }]\nenv = { A = \"ü\" }\nready = \"listen\"\n\
    [apps.b]\ncommand = ['b', 'c']\nspawn = \"child\"\nport = 4000\nports = \"4100-4110\"\nready = { http = \"/up\" }\nsandbox.home = false\n\
    systemd.Nice = 5\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        sound(&load_files(&[("cluster.toml", &bytes)]), &[&bytes]);
    }

    #[test]
    fn any_pieces(first in proptest::collection::vec(piece(), 0..60), second in proptest::collection::vec(piece(), 0..20)) {
        let (first, second) = (first.concat(), second.concat());
        let files = [first.as_bytes(), second.as_bytes()];
        sound(&load_files(&[("cluster.toml", files[0]), ("more.toml", files[1])]), &files);
    }

    #[test]
    fn any_key_with_any_value(head in select(HEADS), lines in proptest::collection::btree_map(select(KEYS), select(VALUES), 0..20)) {
        let lines: String = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let text = format!("{head}{lines}");
        sound(&load_files(&[("cluster.toml", text.as_bytes())]), &[text.as_bytes()]);
    }

    #[test]
    fn any_change_of_a_good_file(changes in proptest::collection::vec((0..WHOLE.len(), 0usize..4, piece(), any::<u8>()), 1..6)) {
        let mut bytes = WHOLE.as_bytes().to_vec();
        for (at, kind, piece, byte) in changes {
            let at = at.min(bytes.len().saturating_sub(1));
            match kind {
                0 => { bytes.remove(at); }
                1 => bytes[at] = byte,
                2 => { bytes.splice(at..at, piece.bytes()); }
                _ => { let end = (at + usize::from(byte % 16)).min(bytes.len()); bytes.drain(at..end); }
            }
            if bytes.is_empty() { bytes.push(b'\n'); }
        }
        sound(&load_files(&[("cluster.toml", &bytes)]), &[&bytes]);
    }
}

#[test]
fn the_good_file_is_good() {
    let loaded = load_files(&[("cluster.toml", WHOLE.as_bytes())]).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.settings.apps.len(), 2);
}
