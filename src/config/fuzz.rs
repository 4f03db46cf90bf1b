//! A configuration that anybody wrote: what is told of it, and what it becomes.

use std::io;
use std::path::Path;

use super::settings::{Settings, Workers};
use super::{Accounts, Loaded, Problems, load};
use crate::fuzz::comes_back;
use crate::names::Slot;
use crate::units::text::hidden;

/// A machine with few accounts.
pub struct Few;

impl Accounts for Few {
    fn user(&self, name: &str) -> io::Result<Option<u32>> {
        match name {
            "broken" => Err(io::Error::other("the directory server does not answer")),
            "root" | "toor" => Ok(Some(0)),
            "shop" => Ok(Some(1000)),
            "project-cluster-taken" => Ok(Some(999)),
            // What nss-systemd says of a dynamic user while it runs.
            "project-cluster-running" => Ok(Some(61184)),
            _ => Ok(None),
        }
    }
    fn group(&self, name: &str) -> io::Result<Option<u32>> {
        match name {
            "www-data" => Ok(Some(33)),
            "project-cluster-grouped" => Ok(Some(998)),
            "project-cluster-running" => Ok(Some(61184)),
            _ => Ok(None),
        }
    }
}

/// Judges a result: what is told lies in the file that was given, and can be shown.
pub fn sound(result: &Result<Loaded, Problems>, files: &[&[u8]]) {
    let problems = match result {
        Ok(loaded) => &loaded.warnings,
        Err(problems) => problems,
    };
    assert_eq!(result.is_err(), problems.failed());
    for problem in &problems.list {
        let bytes = if problem.file.ends_with("cluster.toml") { files[0] } else { files[1] };
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
        assert!((1..=lines).contains(&problem.line) && problem.column >= 1, "{problem:?}");
        let text = String::from_utf8_lossy(bytes);
        assert!(problem.span.start <= problem.span.end && problem.span.end <= text.len(), "{problem:?}");
        let line = text.split('\n').nth(problem.line - 1).unwrap_or_default();
        assert!(problem.column <= line.chars().count() + 1, "{problem:?} in {line:?}");
        assert!(!problem.message.is_empty() && !problem.help.is_empty(), "{problem:?}");
    }
    let shown = problems.render(false);
    assert!(!shown.chars().any(|ch| ch != '\n' && hidden(ch)), "{shown:?}");
    assert!(problems.to_json().is_array());
}

/// Judges settings that were found good: they keep to their bounds, and say the same from their file.
fn bounded(settings: &Settings) {
    comes_back(settings);
    let told = comes_back(&settings.without_env());
    assert!(told.apps.values().all(|app| app.env.is_empty() && app.earlier.is_empty()));
    for (name, app) in &settings.apps {
        assert!(!app.command.is_empty() && !app.command[0].is_empty(), "{name} becomes nothing");
        let words = app.command.iter().chain(app.env.keys()).chain(app.env.values());
        assert!(words.into_iter().all(|word| !word.contains('\0')), "{name}: what execve cannot take");
        assert!(app.env.keys().all(|key| !key.is_empty() && !key.contains('=')), "{name}: {:?}", app.env);
        assert!(app.cwd.is_absolute() && !app.cwd.to_string_lossy().contains('\0'), "{name}: {:?}", app.cwd);
        assert!(!matches!(app.workers, Workers::Count(count) if count > Slot::MAX), "{name}");
        let overlap = |at: usize| app.listen[..at].iter().any(|before| before.address.overlaps(&app.listen[at].address));
        assert!(!(0..app.listen.len()).any(overlap), "{name}: {:?}", app.listen);
    }
}

/// `cluster.toml`, and behind two bytes that no text has a file of `conf.d`. What is good becomes units.
pub fn config(data: &[u8]) {
    let cut = data.windows(2).position(|two| two == b"\xff\xff");
    let (first, second) = cut.map_or((data, &b""[..]), |at| (&data[..at], &data[at + 2..]));
    let files = [(Path::new("cluster.toml"), first), (Path::new("conf.d/more.toml"), second)];
    let result = load::from_bytes(&files[..1 + usize::from(cut.is_some())], &Few);
    sound(&result, &[first, second]);
    if let Ok(loaded) = result {
        bounded(&loaded.settings);
        crate::units::fuzz::rendered(&loaded.settings);
    }
}
