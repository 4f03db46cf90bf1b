//! The table of `docs/benchmarks.md`.

use std::fmt::Write as _;
use std::process::Command;

/// What a figure is held against.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// At most this.
    Most(f64),
    /// At least this.
    Least(f64),
    /// Told, not judged.
    None,
}

/// One line of the table.
#[derive(Debug)]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// Both sides, or the one.
    pub measured: String,
    /// What is compared: a ratio, or a figure with its unit behind it.
    pub figure: f64,
    /// Its unit; empty for a ratio.
    pub unit: &'static str,
    /// What it is held against.
    pub bound: Bound,
    /// What it is spent on, where it misses: shares that the same run measured.
    pub why: String,
}

impl Line {
    fn verdict(&self) -> (String, &'static str) {
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        let judged = |met: bool| if met { "met" } else { "**missed**" };
        match self.bound {
            Bound::Most(bound) => (format!("at most {bound}{unit}"), judged(self.figure <= bound)),
            Bound::Least(bound) => (format!("at least {bound}{unit}"), judged(self.figure >= bound)),
            Bound::None => ("told".into(), ""),
        }
    }

    fn figure(&self) -> String {
        match (self.figure, self.unit) {
            (ratio, "") => format!("{ratio:.2}"),
            (figure, unit) if figure >= 100.0 => format!("{figure:.0} {unit}"),
            (figure, unit) => format!("{figure:.1} {unit}"),
        }
    }

    /// As it is printed while the rest is measured.
    pub fn told(&self) -> String {
        let (bound, verdict) = self.verdict();
        format!("{}: {} ({bound}) {verdict}; {}", self.what, self.figure(), self.measured)
    }
}

/// The whole file, of what was measured on this machine, and what each switch of the sandbox costs.
pub fn page(machine: &str, lines: &[Line], switches: &[(String, f64)]) -> String {
    let mut page = format!("{}\n{machine}\n\n| | | bound | | measured |\n|---|---|---|---|---|\n", include_str!("head.md"));
    for line in lines {
        let (bound, verdict) = line.verdict();
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| {} | {} | {bound} | {verdict} | {} |", line.what, line.figure(), line.measured);
    }
    let missed: Vec<&Line> = lines.iter().filter(|line| line.verdict().1 == "**missed**").collect();
    if !missed.is_empty() {
        page.push_str("\n## What misses, and what it is spent on\n\n");
    }
    for line in missed {
        let _ = writeln!(page, "- **{}** ({}): {}", line.what, line.figure(), line.why);
    }
    page.push_str("\n## What each switch of the sandbox costs\n\n");
    page.push_str("Of `[apps.X.sandbox]`, at each start of a worker; docs/config.md says what each closes. Mounts cost most: systemd \
                   reads the table of all mounts behind each that it makes. Where `privileges` or `syscalls` is off, `kernel` closes more by \
                   mounts, so that they cost less than nothing.\n\n| | |\n|---|---|\n");
    for (what, ms) in switches {
        let _ = writeln!(page, "| {what} | {ms:.1} ms |");
    }
    page + "\n" + include_str!("tail.md")
}

/// Where and with what; to be asked before the measurements, which are a load themselves.
pub fn machine() -> String {
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output();
        output.map_or_else(|_| "?".to_owned(), |output| String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or("?").to_owned())
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).map_or("?", |name| name.trim_start_matches([' ', '\t', ':']));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{} of `{}`: {} processors ({cpu}), Linux {}, {}, Node {}, release build. Load before it began: {}.",
        said("date", &["-u", "+%F %H:%M"]),
        said("git", &["rev-parse", "--short", "HEAD"]),
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        said("uname", &["-r"]),
        said("systemctl", &["--version"]),
        said("node", &["--version"]),
        load.split(' ').next().unwrap_or("?"),
    )
}
