//! What everybody may know of an app's pins, `/var/lib/NAME/generations/APP`: which generations there are, and the
//! revision of the settings that each was made from; and which one a start step last brought up.
//!
//! Pure. A line `format 3`, a line `started GENERATION`, then one line a generation, `GENERATION REVISION`, the highest last; the last 64.
//! Programs that knew no revisions wrote the highest generation alone (format 1), those after them no start (2). A line that a
//! program does not know it passes over. Root writes it, the master reads it: its next roll
//! must take a higher number, and a start step without a master leaves the master's memory behind.

use std::fmt;

use crate::names::Generation;

/// Generations that are told.
const TOLD: usize = 64;
/// What begins the line of the generation that was started.
const STARTED: &str = "started ";

/// Format of the file.
pub const FORMAT: u32 = 3;
/// What begins the line of its number.
pub const FORMAT_LINE: &str = "format ";

/// What is told of one app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// The generation that a start step last brought up.
    pub started: Option<Generation>,
    /// Its generations, ascending, each with its revision.
    made: Vec<(Generation, u64)>,
}

impl Published {
    /// Most bytes of such a file.
    pub const LIMIT: u64 = 4096;

    /// From the file's text; a line that makes no sense is none.
    pub fn parse(text: &str) -> Self {
        let mut published = Self::default();
        for line in text.lines() {
            if let Some(Ok(started)) = line.strip_prefix(STARTED).map(str::parse) {
                published.started = Some(Generation(started));
            }
            let mut words = line.split(' ').map(str::parse::<u64>);
            if let Some(Ok(generation)) = words.next() {
                published.add(Generation(generation), words.next().and_then(Result::ok).unwrap_or(0));
            }
        }
        published
    }

    /// One more.
    pub fn add(&mut self, generation: Generation, revision: u64) {
        self.made.retain(|(known, _)| *known != generation);
        self.made.push((generation, revision));
        self.made.sort_unstable();
        self.made.drain(..self.made.len().saturating_sub(TOLD));
    }

    /// The highest generation.
    pub fn highest(&self) -> Option<Generation> {
        self.made.last().map(|(generation, _)| *generation)
    }

    /// The highest revision that a generation was made from.
    pub fn highest_revision(&self) -> Option<u64> {
        self.made.iter().map(|(_, revision)| *revision).max()
    }

    /// The revision that a generation was made from: 0 of one from before revisions were told, none where it is not told
    /// any more.
    pub fn revision(&self, generation: Generation) -> Option<u64> {
        let told = self.made.iter().find(|(known, _)| *known == generation).map(|(_, revision)| *revision);
        told.or((self.made.len() < TOLD).then_some(0))
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FORMAT_LINE}{FORMAT}")?;
        self.started.iter().try_for_each(|started| writeln!(f, "{STARTED}{started}"))?;
        self.made.iter().try_for_each(|(generation, revision)| writeln!(f, "{generation} {revision}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_generations_are_told_with_their_revisions() {
        let mut published = Published::parse("7\n");
        assert_eq!((published.highest(), published.revision(Generation(7))), (Some(Generation(7)), Some(0)), "an older program's");
        assert_eq!(published.revision(Generation(6)), Some(0), "no program told that");
        (8..200).for_each(|generation| published.add(Generation(generation), generation / 2));
        let text = published.to_string();
        assert!(
            text.lines().count() == 65 && text.starts_with("format 3\n") && text.ends_with("198 99\n199 99\n") && text.len() < 4096,
            "{text}"
        );
        let read = Published::parse(&text);
        assert_eq!(read, published);
        assert_eq!([136, 199, 135].map(|generation| read.revision(Generation(generation))), [Some(68), Some(99), None]);
        assert_eq!((read.highest(), read.highest_revision()), (Some(Generation(199)), Some(99)));
    }

    #[test]
    fn the_longest_numbers_fit_and_nonsense_is_nothing() {
        let mut published = Published::default();
        (0..64).for_each(|at| published.add(Generation(u64::MAX - at), u64::MAX));
        published.started = Some(Generation(u64::MAX));
        let text = published.to_string();
        assert!(text.len() as u64 <= Published::LIMIT, "{}", text.len());
        assert_eq!(Published::parse(&text), published);
        assert_eq!(Published::parse("x\nstarted\nstarted x\n-1 2\n3 y\n").to_string(), "format 3\n3 0\n");
        assert_eq!(Published::parse(""), Published::default());
    }
}
