//! What everybody may know of an app's pins, `/var/lib/NAME/generations/APP`: which generations there are, and the
//! revision of the settings that each was made from; which one a start step last brought up; and of those whose pins are still
//! there whose pin that is, whether it got ready, and the release.
//!
//! Pure. A line `format 4`, a line `started GENERATION`, one line a generation, `GENERATION REVISION`, the highest last, of the
//! last 64, and one a pin, `pin GENERATION MAKER READY RELEASE`, the release as a JSON string.
//! Programs that knew no revisions wrote the highest generation alone (format 1), those after them no start (2), then no pins
//! (3). A line that a program does not know it passes over. Root writes it, the master reads it: its next roll
//! must take a higher number, a start step without a master leaves the master's memory behind, and a rollback takes a pin that
//! is there. Nothing of `env` or the command is ever here.

use std::fmt;

use crate::names::Generation;

/// Generations and pins that are told.
const TOLD: usize = 64;
/// What begins the line of the generation that was started.
const STARTED: &str = "started ";
/// What begins the line of a pin.
const PIN: &str = "pin ";
/// No path is longer, bytes.
const PATH: usize = 4096;

/// Format of the file.
pub const FORMAT: u32 = 4;
/// What begins the line of its number.
pub const FORMAT_LINE: &str = "format ";

/// What is told of one app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// The generation that a start step last brought up.
    pub started: Option<Generation>,
    /// Its generations, ascending, each with its revision.
    made: Vec<(Generation, u64)>,
    /// The pins that are there, ascending.
    pins: Vec<Told>,
}

/// What is told of a pin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// Whose.
    pub generation: Generation,
    /// The generation that it was made by: another one, where this is a rollback's.
    pub maker: Generation,
    /// Whether some worker of it had got ready when this was written.
    pub ready: bool,
    /// The release: where the workers' `cwd` led when it was made.
    pub release: String,
}

impl Told {
    /// From the words behind [`PIN`].
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let mut number = || words.next()?.parse::<u64>().ok();
        let (generation, maker, ready) = (Generation(number()?), Generation(number()?), number()? == 1);
        let release: String = serde_json::from_str(words.next()?).ok()?;
        (maker <= generation && release.len() <= PATH).then_some(Self { generation, maker, ready, release })
    }
}

impl Published {
    /// Most bytes of such a file: of 64 paths of the longest kind, each byte of which is written as six.
    pub const LIMIT: u64 = 2 << 20;

    /// From the file's text; a line that makes no sense is none.
    pub fn parse(text: &str) -> Self {
        let mut published = Self::default();
        let mut pins = Vec::new();
        for line in text.lines() {
            if let Some(Ok(started)) = line.strip_prefix(STARTED).map(str::parse) {
                published.started = Some(Generation(started));
            }
            if let Some(pin) = line.strip_prefix(PIN) {
                pins.extend(Told::parse(pin));
                continue;
            }
            let mut words = line.split(' ').map(str::parse::<u64>);
            if let Some(Ok(generation)) = words.next() {
                published.add(Generation(generation), words.next().and_then(Result::ok).unwrap_or(0));
            }
        }
        published.tell(pins);
        published
    }

    /// One more.
    pub fn add(&mut self, generation: Generation, revision: u64) {
        self.made.retain(|(known, _)| *known != generation);
        self.made.push((generation, revision));
        self.made.sort_unstable();
        self.made.drain(..self.made.len().saturating_sub(TOLD));
    }

    /// These pins are there, and no others; the last 64 of them are told.
    pub fn tell(&mut self, mut pins: Vec<Told>) {
        pins.retain(|pin| pin.release.len() <= PATH);
        pins.sort_unstable();
        pins.dedup_by_key(|pin| pin.generation);
        pins.drain(..pins.len().saturating_sub(TOLD));
        self.pins = pins;
    }

    /// The pins that are there, ascending, as far as they are told.
    pub fn pins(&self) -> &[Told] {
        &self.pins
    }

    /// The pin of a generation, where it is there.
    pub fn pin(&self, generation: Generation) -> Option<&Told> {
        self.pins.iter().find(|pin| pin.generation == generation)
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
        self.made.iter().try_for_each(|(generation, revision)| writeln!(f, "{generation} {revision}"))?;
        self.pins.iter().try_for_each(|Told { generation, maker, ready, release }| {
            // As JSON, so that no path is more than one line.
            writeln!(f, "{PIN}{generation} {maker} {} {}", u8::from(*ready), serde_json::Value::from(release.as_str()))
        })
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
            text.lines().count() == 65 && text.starts_with("format 4\n") && text.ends_with("198 99\n199 99\n") && text.len() < 4096,
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
        let pin = |at| Told {
            generation: Generation(u64::MAX - at),
            maker: Generation(u64::MAX - 99),
            ready: true,
            release: "\u{1}".repeat(PATH),
        };
        published.tell((0..99).map(pin).collect());
        assert_eq!(published.pins().len(), 64);
        let text = published.to_string();
        assert!(text.len() as u64 <= Published::LIMIT, "{}", text.len());
        assert_eq!(Published::parse(&text), published);
        assert_eq!(Published::parse("x\nstarted\nstarted x\n-1 2\n3 y\n").to_string(), "format 4\n3 0\n");
        assert_eq!(Published::parse(""), Published::default());
    }

    #[test]
    fn pins_are_told_with_their_release_and_nothing_makes_two_lines_of_one() {
        let told = |generation, maker, ready, release: &str| Told {
            generation: Generation(generation),
            maker: Generation(maker),
            ready,
            release: release.into(),
        };
        let strange = "/srv/a b\n9 9\nstarted 7\n\"é";
        let mut published = Published::parse("format 4\nstarted 3\n2 0\n3 1\n");
        published.tell(vec![told(3, 2, false, strange), told(2, 2, true, "/srv/v1"), told(2, 2, true, "/srv/v1")]);
        let text = published.to_string();
        assert_eq!(text.lines().count(), 6, "{text}");
        assert!(text.contains("\npin 2 2 1 \"/srv/v1\"\n"), "{text}");
        let read = Published::parse(&text);
        assert_eq!((&read, read.highest(), read.started), (&published, Some(Generation(3)), Some(Generation(3))));
        assert_eq!(read.pin(Generation(3)).map(|pin| pin.release.as_str()), Some(strange));
        // An older program's file has none, nonsense is none, and no generation has the pin of a later one.
        for text in ["2 0\n", "pin 2\n", "pin 2 2 1 /srv\n", "pin 2 3 1 \"/srv\"\n", "pin 2 2 1 \"\n", "pin x 2 1 \"\"\n"] {
            assert_eq!(Published::parse(text).pins(), [], "{text}");
        }
    }
}
