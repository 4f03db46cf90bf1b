//! Words of others on their way into unit files and onto terminals.

use std::path::Path;
use std::time::Duration;

use super::model::{Host, Tree};
use super::render::render;
use super::text;
use crate::config::settings::Settings;
use crate::config::values::milliseconds;
use crate::fuzz::harmless;
use crate::journal;
use crate::worker::paths::Paths;

/// Section, key and value.
type Directive = (String, String, String);

/// The directives of a unit, as systemd reads its file; a line that a backslash ends goes on.
fn directives(unit: &str) -> Vec<Directive> {
    let (mut found, mut section, mut joined) = (Vec::new(), String::new(), String::new());
    for line in unit.lines() {
        if joined.is_empty() && (line.starts_with(['#', ';']) || line.trim().is_empty()) {
            continue;
        }
        joined.push_str(line);
        if line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1 {
            joined.pop();
            joined.push(' ');
            continue;
        }
        let whole = std::mem::take(&mut joined);
        if let Some(name) = whole.strip_prefix('[') {
            assert!(name.ends_with(']'), "{whole:?}");
            section = name.trim_end_matches(']').to_owned();
        } else {
            let (key, value) = whole.split_once('=').unwrap_or_else(|| unreachable!("neither section nor directive: {whole:?}"));
            found.push((section.clone(), key.to_owned(), value.to_owned()));
        }
    }
    assert!(joined.is_empty(), "the last line is not whole: {unit:?}");
    found
}

/// Of every unit, what no word of others may change: all but descriptions.
fn shape(tree: &Tree) -> Vec<(&Path, Vec<Directive>)> {
    let units = tree.files.iter().filter(|(path, _)| path.starts_with("/etc/systemd"));
    let told = |(section, key, value): Directive| {
        let value = if key == "Description" { String::new() } else { value };
        (section, key, value)
    };
    units.map(|(path, file)| (path.as_path(), directives(&file.contents).into_iter().map(told).collect())).collect()
}

/// The units of good settings: one line stays one line, whatever the words, and what names another unit names one that is
/// there. Command, directory and environment change nothing but what people read.
pub(crate) fn rendered(settings: &Settings) {
    let tree = render(settings, &Host::default());
    let paths = Paths::system();
    let files =
        [(paths.prepare_settings(&settings.name), settings.clone()), (paths.master_settings(&settings.name), settings.without_env())];
    for (path, expected) in files {
        let written: Option<Settings> = serde_json::from_str(&tree.files[&path].contents).ok();
        assert_eq!(written, Some(expected), "{}", path.display());
    }
    for (path, file) in tree.files.iter().filter(|(path, _)| path.starts_with("/etc")) {
        assert!(!file.contents.chars().any(|ch| ch != '\n' && ch.is_control()), "{}: {:?}", path.display(), file.contents);
    }
    let mut tame = settings.clone();
    for app in tame.apps.values_mut() {
        (app.command, app.cwd) = (vec!["/bin/true".into()], "/".into());
        app.env.values_mut().for_each(String::clear);
    }
    let quiet = render(&tame, &Host::default());
    let shape = shape(&tree);
    assert_eq!(shape, self::shape(&quiet));
    let host = Host::default();
    for (_, directives) in &shape {
        for (_, _, value) in directives.iter().filter(|(_, key, _)| key == "Sockets") {
            assert!(tree.units(&host).any(|unit| unit == value), "{value} is not there");
        }
    }
}

/// A quoted first word of an `Exec...=` line as systemd takes it apart (`extract_first_word` with `UNQUOTE | CUNESCAPE`, then
/// specifiers).
fn unquoted(word: &str) -> Vec<u8> {
    let quoted = word.strip_prefix('"').and_then(|word| word.strip_suffix('"'));
    let (mut out, mut rest) = (Vec::new(), quoted.unwrap_or(word).as_bytes());
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'%' => {
                assert_eq!(behind.first(), Some(&b'%'), "{word:?} would be expanded");
                out.push(b'%');
                rest = &behind[1..];
            }
            b'\\' if behind.first() == Some(&b'x') => {
                let code = behind.get(1..3).and_then(|code| std::str::from_utf8(code).ok());
                out.extend(code.and_then(|code| u8::from_str_radix(code, 16).ok()));
                rest = behind.get(3..).unwrap_or_default();
            }
            b'\\' => {
                assert!(matches!(behind.first(), Some(b'"' | b'\\')), "{word:?}");
                out.push(behind[0]);
                rest = &behind[1..];
            }
            b'"' => unreachable!("{word:?} ends its quotes"),
            byte => out.push(*byte),
        }
    }
    out
}

/// Any text: quoted for systemd, split like a shell would, made visible, cleaned of what steers a terminal.
pub fn words(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);

    let program = text::program(Path::new(text));
    assert!(program.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{program:?}");
    assert_eq!(unquoted(&program), text.as_bytes(), "{program:?}");

    let (key, value) = text.split_once('=').unwrap_or(("Key", text));
    let plain = |ch: char| ch.is_ascii_alphanumeric();
    if !key.is_empty() && key.chars().all(plain) {
        let unit = format!("[Service]\n{}\nNext=1\n", text::verbatim(key, value));
        let found = directives(&unit);
        assert_eq!((found.len(), found[0].1.as_str(), found[1].1.as_str()), (2, key, "Next"), "{unit:?}");
    }

    let visible = text::visible(text);
    assert!(!visible.chars().any(text::hidden) && !visible.ends_with('\\') && visible.chars().count() <= 2002, "{visible:?}");
    assert!(!text::percent(text).replace("%%", "").contains('%'));

    if let Ok(words) = shell_words::split(text) {
        assert_eq!(shell_words::split(&shell_words::join(&words)).ok().as_ref(), Some(&words));
        let shown = text::command(&words);
        assert!(!shown.chars().any(text::hidden) && !shown.ends_with('\\'), "{shown:?}");
    }

    let line = journal::harmless(text);
    assert!(!line.contains('\n') && line.chars().count() <= 401, "{line:?}");
    harmless(&line);
    assert_eq!(journal::harmless(&line), line, "what is harmless stays as it is");
    let lines = journal::clean(text);
    assert!(lines.len() <= text.lines().count() && lines.iter().all(|line| !line.is_empty()));
    lines.iter().for_each(|line| harmless(line));

    let told = crate::config::problem::clean(text);
    assert!(!told.chars().any(text::hidden), "{told:?}");

    if let Some(ms) = milliseconds(text) {
        let span = format!("{ms}ms");
        assert_eq!(milliseconds(&span), Some(ms));
        // As systemd reads it, in one unit.
        let (written, unit) = (text::span(Duration::from_millis(ms)), if ms.is_multiple_of(1000) { 1000 } else { 1 });
        let number = written.trim_end_matches(|ch: char| ch.is_ascii_alphabetic()).parse::<u64>();
        assert_eq!(number.map(|number| number.checked_mul(unit)), Ok(Some(ms)), "{written}");
    }
}
