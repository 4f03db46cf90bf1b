//! Tables for a terminal: columns as wide as they must be, colours that are never the only signal.
//!
//! Pure. It must not know what the rows mean.

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
}

impl Tone {
    /// The text in this tone (`ECMA-48` select graphic rendition).
    pub fn paint(self, text: &str, colours: bool) -> String {
        let code = match self {
            _ if !colours => return text.to_owned(),
            Self::Plain => return text.to_owned(),
            Self::Green => 32,
            Self::Yellow => 33,
            Self::Red => 31,
            Self::Grey => 90,
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

/// A column's heading and whether its cells stand at the right.
pub type Column = (&'static str, bool);

/// The rows under their headings; trailing spaces are left out. Columns are dropped from the right while a line would
/// be wider than `width`, but never the first three.
pub fn render(columns: &[Column], rows: &[Vec<Cell>], width: usize, colours: bool) -> String {
    let size = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.text.chars().count());
        cells.chain([columns[at].0.chars().count()]).max().unwrap_or(0)
    };
    let sizes: Vec<usize> = (0..columns.len()).map(size).collect();
    let mut shown = columns.len();
    while shown > 3 && sizes[..shown].iter().sum::<usize>() + 2 * (shown - 1) > width {
        shown -= 1;
    }
    let line = |cells: &[Cell]| {
        let mut out = String::new();
        for (at, cell) in cells.iter().take(shown).enumerate() {
            let gap = " ".repeat(sizes[at] - cell.text.chars().count());
            let text = cell.tone.paint(&cell.text, colours);
            out.push_str(&if columns[at].1 { format!("{gap}{text}") } else { format!("{text}{gap}") });
            if at + 1 < shown {
                out.push_str("  ");
            }
        }
        format!("{}\n", out.trim_end())
    };
    let heading: Vec<Cell> = columns.iter().map(|(name, _)| Cell::toned(*name, Tone::Grey)).collect();
    std::iter::once(line(&heading)).chain(rows.iter().map(|row| line(row))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_fit() {
        let columns = [("uid", false), ("n", true), ("state", false), ("unit", false)];
        let row =
            |uid: &str, n: &str| vec![Cell::new(uid), Cell::new(n), Cell::toned("online", Tone::Green), Cell::new("a-long-unit-name")];
        let rows = [row("api:01", "7"), row("background:01", "1234")];
        assert_eq!(
            render(&columns, &rows, 80, false),
            "uid               n  state   unit\napi:01            7  online  a-long-unit-name\nbackground:01  1234  online  a-long-unit-name\n"
        );
        assert_eq!(render(&columns, &rows, 30, false).lines().next().unwrap(), "uid               n  state");
        assert!(render(&columns, &rows, 80, true).contains("\u{1b}[32monline\u{1b}[0m"));
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
