//! The formats of the files that this program writes for itself: another version, older or newer, may find them.
//!
//! Each JSON file holds the number of its format, `"format"`. A program reads all formats up to its own. What is newer it
//! refuses by that number, also where it could not make sense of the rest: it is not damaged, and must not be thrown away or
//! written over. `docs/architecture.md` has the table.

use serde::Deserialize;
use serde::de::DeserializeOwned;

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
    #[error("was written by a newer project-cluster (format {found}, this one knows {known}): install that version again")]
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
    let Numbered { format: found } = serde_json::from_slice(bytes).ok()?;
    (found > known.into()).then_some(Unread::Newer { found, known })
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
