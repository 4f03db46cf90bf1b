//! Tables for a terminal: columns as wide as they must be, colours that are never the only signal.
//!
//! Pure. It must not know what the rows mean. Widths are columns of a terminal, not characters (`unicode-width`).

use std::time::Duration;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// A colour of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// Good.
    Green,
    /// Look here.
    Yellow,
    /// Bad.
    Red,
    /// Not worth a look.
    Grey,
    /// What goes on.
    Cyan,
    /// One of several that stand beside each other, to tell them apart.
    Hue(u8),
}

/// Neither red nor yellow, which say something, nor a bright one, which is lost on a light terminal.
const HUES: [&str; 7] = ["36", "35", "32", "34", "1;36", "1;35", "1;34"];

impl Tone {
    /// The text in this tone (`ECMA-48` select graphic rendition).
    pub fn paint(self, text: &str, colours: bool) -> String {
        let code = match self {
            _ if !colours => return text.to_owned(),
            Self::Plain => return text.to_owned(),
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
            Self::Grey => "90",
            Self::Cyan => "36",
            Self::Hue(which) => HUES[usize::from(which) % HUES.len()],
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// One cell.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Its text, without escape sequences.
    pub text: String,
    /// Its tone.
    pub tone: Tone,
}

impl Cell {
    /// A plain one.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }
    /// One with a tone.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its heading.
    pub name: &'static str,
    /// Its cells stand at the right.
    pub right: bool,
    /// On a narrow terminal those with the highest number go first; 0 never goes.
    pub rank: u8,
}

/// A column whose cells stand at the left.
pub const fn left(name: &'static str, rank: u8) -> Column {
    Column { name, right: false, rank }
}

/// A column whose cells stand at the right.
pub const fn right(name: &'static str, rank: u8) -> Column {
    Column { name, right: true, rank }
}

/// Between two columns.
const GAP: usize = 2;
/// A name of so many columns is shortened only where no other column is left to go.
const ENOUGH: usize = 24;
/// No text is shortened further.
const LEAST: usize = 5;

/// The rows under their headings; trailing spaces are left out. Where a line would be wider than `width`, names in the first
/// column lose their middle, then columns go: those in which nothing stands, then by their rank.
pub fn render(columns: &[Column], rows: &[Vec<Cell>], width: usize, colours: bool) -> String {
    let cells = |at: usize| rows.iter().filter_map(move |row| row.get(at));
    let mut sizes: Vec<usize> = (0..columns.len())
        .map(|at| cells(at).map(|cell| self::width(&cell.text)).chain([self::width(columns[at].name)]).max().unwrap_or(0))
        .collect();
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let total = |shown: &[usize], sizes: &[usize]| shown.iter().map(|at| sizes[*at] + GAP).sum::<usize>().saturating_sub(GAP);
    let narrowed = |shown: &[usize], sizes: &mut [usize], least: usize| {
        let over = total(shown, sizes).saturating_sub(width);
        if let Some(first) = sizes.first_mut().filter(|first| **first > least) {
            *first = first.saturating_sub(over).max(least);
        }
    };
    narrowed(&shown, &mut sizes, ENOUGH);
    while total(&shown, &sizes) > width {
        let says_nothing = |at: usize| cells(at).all(|cell| cell.text == "-");
        let goes = shown.iter().filter(|at| columns[**at].rank > 0).max_by_key(|at| (says_nothing(**at), columns[**at].rank)).copied();
        let Some(goes) = goes else { break };
        shown.retain(|at| *at != goes);
    }
    narrowed(&shown, &mut sizes, LEAST);
    let line = |cells: &[Cell]| {
        let mut out = String::new();
        for at in &shown {
            let Some(cell) = cells.get(*at) else { continue };
            let text = middle(&cell.text, sizes[*at]);
            let gap = " ".repeat(sizes[*at].saturating_sub(self::width(&text)));
            let text = cell.tone.paint(&text, colours);
            out.push_str(&if columns[*at].right { format!("{gap}{text}") } else { format!("{text}{gap}") });
            out.push_str(&" ".repeat(GAP));
        }
        format!("{}\n", out.trim_end())
    };
    let heading: Vec<Cell> = columns.iter().map(|column| Cell::toned(column.name, Tone::Grey)).collect();
    std::iter::once(line(&heading)).chain(rows.iter().map(|row| line(row))).collect()
}

/// How wide the rows are as they are, and what stands before one more column: without the one at this place, and those that say
/// nothing.
pub fn rest(columns: &[Column], rows: &[Vec<Cell>], without: usize) -> usize {
    let cells = |at: usize| rows.iter().filter_map(move |row| row.get(at));
    let says = |at: usize| columns[at].rank == 0 || cells(at).any(|cell| cell.text != "-");
    let size = |at: usize| cells(at).map(|cell| width(&cell.text)).chain([width(columns[at].name)]).max().unwrap_or(0);
    (0..columns.len()).filter(|at| *at != without && says(*at)).map(|at| size(at) + GAP).sum()
}

/// Columns that a text takes on a terminal.
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text, without its end where it takes more columns than these.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    columns.checked_sub(1).map_or_else(String::new, |room| beginning(text, room) + "…")
}

/// The text, without its middle where it takes more columns than these: of paths and commands both ends tell most.
pub fn middle(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else { return String::new() };
    let tail: String = text.chars().rev().collect();
    let tail: String = beginning(&tail, room - room / 2).chars().rev().collect();
    format!("{}…{tail}", beginning(text, room / 2))
}

/// As much of its beginning as these columns hold.
fn beginning(text: &str, columns: usize) -> String {
    let mut left = columns;
    let fits = |ch: &char| {
        // As `width` counts them: a control character, a tab say, takes one.
        let size = ch.width().unwrap_or(1);
        let fits = size <= left;
        left = if fits { left - size } else { 0 };
        fits
    };
    text.chars().take_while(fits).collect()
}

/// `950 B`, `12.3 MB`: powers of 1000, three digits.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, 1000.0, &["B", "kB", "MB", "GB", "TB"])
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut at = 0;
    while value >= step && at + 1 < units.len() {
        value /= step;
        at += 1;
    }
    if at == 0 || value >= 100.0 { format!("{value:.0} {}", units[at]) } else { format!("{value:.1} {}", units[at]) }
}

/// `850 ms`, `12 s`, `3 min`, `5 h 12 min`, `12 d 3 h`.
pub fn duration(ms: u64) -> String {
    let (s, min, h) = (ms / 1000, ms / 60_000, ms / 3_600_000);
    match () {
        () if ms < 1000 => format!("{ms} ms"),
        () if s < 10 => format!("{:.1} s", ms as f64 / 1000.0),
        () if s < 120 => format!("{s} s"),
        () if min < 60 => format!("{min} min"),
        () if h < 24 => format!("{h} h {} min", min % 60),
        () => format!("{} d {} h", h / 24, h % 24),
    }
}

/// The same of a [`Duration`].
pub fn time(time: Duration) -> String {
    duration(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_fit() {
        let columns = [left("uid", 0), right("n", 2), left("state", 0), right("err", 1), left("unit", 3)];
        let row = |uid: &str, n: &str| {
            vec![Cell::new(uid), Cell::new(n), Cell::toned("online", Tone::Green), Cell::new("-"), Cell::new("a-long-unit-name")]
        };
        let rows = [row("api:01", "7"), row("background:01", "1234")];
        assert_eq!(
            render(&columns, &rows, 80, false),
            "uid               n  state   err  unit\napi:01            7  online    -  a-long-unit-name\nbackground:01  1234  online    -  a-long-unit-name\n"
        );
        let heading =
            |width| render(&columns, &rows, width, false).lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        // What says nothing goes first, then the highest rank.
        assert_eq!(
            [heading(50), heading(45), heading(44), heading(27), heading(26)],
            ["uid n state err unit", "uid n state unit", "uid n state", "uid n state", "uid state"].map(str::to_owned)
        );
        assert!(render(&columns, &rows, 80, true).contains("\u{1b}[32monline\u{1b}[0m"));
        assert_eq!(render(&columns, &rows, 16, false), "uid       state\napi:01    online\nbac…d:01  online\n");
        assert_eq!(rest(&columns, &rows, 4), "background:01  1234  online  ".len());
        let wide = [row("日本", "7"), row("api:01", "8")];
        assert!(render(&columns, &wide, 80, false).starts_with("uid     n  state   err  unit\n日本    7  online"));
    }

    #[test]
    fn texts_are_shortened_by_columns() {
        assert_eq!([cut("abcdef", 6), cut("abcdef", 5), cut("日本語", 4), cut("ab", 0)], ["abcdef", "abcd…", "日…", ""]);
        assert_eq!(
            [middle("/srv/shop/releases/7/app.js", 13), middle("short", 5), middle("日本語日本", 5)],
            ["/srv/s…app.js", "short", "日…本"]
        );
    }

    #[test]
    fn quantities() {
        assert_eq!(
            [bytes(0), bytes(999), bytes(1000), bytes(45_200_000), bytes(123_400_000)],
            ["0 B", "999 B", "1.0 kB", "45.2 MB", "123 MB"]
        );
        let ms = [0, 999, 1500, 12_000, 180_000, 18_720_000, 1_047_600_000];
        assert_eq!(ms.map(duration), ["0 ms", "999 ms", "1.5 s", "12 s", "3 min", "5 h 12 min", "12 d 3 h"]);
    }
}
