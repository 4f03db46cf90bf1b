//! The formats of the files that this program writes for itself: another version, older or newer, may find them.
//!
//! Each JSON file holds the number of its format, `"format"`. A program reads all formats up to its own. What is newer it
//! refuses by that number, also where it could not make sense of the rest: it is not damaged, and must not be thrown away or
//! written over. `docs/architecture.md` has the table.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::api::tokens::Tokens;
use crate::config::settings::Settings;
use crate::files;
use crate::intent::Intent;
use crate::master::events::away;
use crate::master::rolls::kept::{Kept, Waiting};
use crate::units::install::Ledger;
use crate::worker::pin::Pin;
use crate::worker::ports::Book;
use crate::worker::published;
use crate::worker::store::Counter;

/// Largest file that is looked at: that of all rolls and workers has less.
const LIMIT: u64 = 64 << 20;

/// A kind of file with a number of its format.
pub trait Format: DeserializeOwned {
    /// The highest that this program knows, and writes.
    const NUMBER: u32;

    /// That of what was read.
    fn number(&self) -> u32;
}

/// Why a file is not read. The message goes behind the file's name.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It is of a newer format.
    #[error(
        "was written by a newer project-cluster (format {found}, this one knows {known}): install that version again, or begin anew: \
         `project-cluster uninstall` with that version, then `project-cluster install --now` with this one"
    )]
    Newer {
        /// Its number.
        found: u64,
        /// The highest that this program knows.
        known: u32,
    },
    /// It is no JSON, or not of this kind.
    #[error("is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
}

impl Unread {
    /// The same of this file: `Unsupported` where it is newer, `InvalidData` where it is damaged.
    pub fn of(&self, path: &Path) -> io::Error {
        let kind = if matches!(self, Self::Newer { .. }) { io::ErrorKind::Unsupported } else { io::ErrorKind::InvalidData };
        io::Error::new(kind, format!("{} {self}", path.display()))
    }
}

/// Reads a file of any format that this program knows.
///
/// # Errors
/// See [`Unread`].
pub fn parse<T: Format>(bytes: &[u8]) -> Result<T, Unread> {
    match serde_json::from_slice::<T>(bytes) {
        Ok(read) if read.number() <= T::NUMBER => Ok(read),
        Ok(read) => Err(Unread::Newer { found: read.number().into(), known: T::NUMBER }),
        Err(why) => Err(newer(bytes, T::NUMBER).unwrap_or(Unread::Damaged(why))),
    }
}

/// Whether the number of its format says that it is newer than `known`; whatever else it says.
pub fn newer(bytes: &[u8], known: u32) -> Option<Unread> {
    #[derive(Deserialize)]
    struct Numbered {
        format: u64,
    }
    let in_text = || bytes.strip_prefix(published::FORMAT_LINE.as_bytes())?.split(|byte| *byte == b'\n').next();
    let found = match serde_json::from_slice(bytes) {
        Ok(Numbered { format }) => format,
        Err(_) => std::str::from_utf8(in_text()?).ok()?.parse().ok()?,
    };
    (found > known.into()).then_some(Unread::Newer { found, known })
}

/// The number of the format that this program writes of a cluster's file; none of what is no such file. `path` is below
/// `/var/lib/NAME` or `/run/NAME`.
fn known(path: &Path) -> Option<u32> {
    let parts: Vec<&str> = path.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
    Some(match parts[..] {
        ["settings.json"] | ["pins", "settings.json"] => Settings::NUMBER,
        ["tokens.json"] => Tokens::NUMBER,
        ["pins", "installed.json"] => Ledger::NUMBER,
        ["pins", _, "counter.json"] => Counter::NUMBER,
        ["pins", _, pin] if pin.ends_with(".json") => Pin::NUMBER,
        ["state", "apps.json"] => Intent::NUMBER,
        ["state", "serving.json"] => away::File::NUMBER,
        ["state", roll] if roll.starts_with("roll-") && roll.ends_with(".json") => Kept::NUMBER,
        ["state", roll] if roll.starts_with("roll-") && roll.ends_with(".next") => Waiting::NUMBER,
        ["generations", _] => published::FORMAT,
        ["ports", book] if book.ends_with(".json") => Book::NUMBER,
        _ => return None,
    })
}

/// Refuses a cluster of which some file is newer than this program: whoever went on would lose what it says.
/// `directories` are `/var/lib/NAME` and `/run/NAME`. What cannot be read is passed over: whoever needs it says so; and what
/// belongs to somebody else than `owner`, where one is named, so that no master keeps its own successor away by what it writes.
///
/// # Errors
/// `Unsupported`, with the paragraph to show.
pub fn refuse_newer(directories: [&Path; 2], owner: Option<u32>) -> io::Result<()> {
    for top in directories {
        let mut left = vec![top.to_owned()];
        while let Some(directory) = left.pop() {
            for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
                let path = entry.path();
                let Ok(below) = path.strip_prefix(top) else { continue };
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) && below.iter().count() < 3 {
                    left.push(path);
                } else if let Some(known) = known(below)
                    && entry.metadata().is_ok_and(|meta| owner.is_none_or(|owner| meta.uid() == owner))
                    && let Some(why) = files::read_bounded(&path, LIMIT).ok().and_then(|bytes| newer(&bytes, known))
                {
                    return Err(why.of(&path));
                }
            }
        }
    }
    Ok(())
}

/// Says of which field of a kind of file the number is.
macro_rules! numbered {
    ($type:ty, $number:expr) => {
        impl $crate::formats::Format for $type {
            const NUMBER: u32 = $number;
            fn number(&self) -> u32 {
                self.format
            }
        }
    };
}
pub(crate) use numbered;

#[cfg(test)]
mod tests;
