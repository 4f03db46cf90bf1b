//! What goes on, on a terminal: lines at the foot that are drawn again, one an app, and above them what is said for good.
//!
//! Without a terminal that can do it the foot is empty and only the rest remains. The lines are made by a function of data
//! ([`foot`]); each is shorter than the terminal is wide at that moment, and lines that a narrower terminal has wrapped
//! since are counted as it shows them.

use std::time::{Duration, Instant};

use hyper::Method;
use std::sync::{Arc, Mutex, PoisonError};

use super::client::Client;
use super::table::{self, Tone};
use super::{out, print};
use crate::api::types::{App, WorkerState};
use crate::config::settings;

/// How often the foot is drawn: often enough to look alive.
pub(super) const FRAME: Duration = Duration::from_millis(200);
/// How often the master is asked how an app stands.
const GLANCE: Duration = Duration::from_millis(500);
/// Most lines of the foot, however high the terminal is.
const MOST: usize = 20;
/// Columns of a bar.
const BAR: usize = 12;

/// What bounds the waits of an app. Times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    start: u64,
    drain: u64,
    kill: u64,
    min_ready: u64,
    deadline: u64,
}

impl Bounds {
    /// Those of these settings.
    pub fn of(app: &settings::App) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            start: ms(app.timeout.start),
            drain: ms(app.drain().unwrap_or_default()),
            kill: ms(app.timeout.kill),
            min_ready: ms(app.reload.min_ready),
            deadline: ms(app.reload.deadline),
        }
    }
}

/// How one errand stands.
#[derive(Debug, Clone)]
struct Row {
    app: String,
    verb: String,
    bounds: Option<Bounds>,
    /// How the app stood when the master was last asked.
    seen: Option<App>,
    over: bool,
}

/// All errands of one command.
pub(super) struct Board {
    live: bool,
    says: bool,
    colours: bool,
    begun: Instant,
    limit: Option<Duration>,
    rows: Vec<Row>,
    /// The lines of the foot as last drawn, each without its colours.
    drawn: Vec<String>,
}

/// A board that the errands share.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Board>>);

impl Shared {
    /// A board for these errands, each an app, a verb and what bounds it; `limit` is how long all of it is waited for.
    pub fn new(look: super::Look, wait: super::args::Wait, errands: Vec<(String, String, Option<Bounds>)>) -> Self {
        let row = |(app, verb, bounds)| Row { app, verb, bounds, seen: None, over: false };
        Self(Arc::new(Mutex::new(Board {
            live: look.live && !wait.no_wait,
            says: look.says,
            colours: look.colours,
            begun: Instant::now(),
            limit: wait.timeout,
            rows: errands.into_iter().map(row).collect(),
            drawn: Vec::new(),
        })))
    }

    fn with<T>(&self, then: impl FnOnce(&mut Board) -> T) -> T {
        then(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says a line for good, of one of several apps with its name, once.
    pub fn say(&self, app: &str, text: &str) {
        self.with(|board| {
            let named = board.rows.len() == 1 || text.strip_prefix(app).is_some_and(|rest| rest.starts_with(": "));
            let line = if named { format!("{text}\n") } else { format!("{app}: {text}\n") };
            match (board.says, board.live) {
                (false, _) => {}
                (true, false) => print(&line),
                (true, true) => board.draw(&line),
            }
        });
    }

    /// Draws the foot as it is now.
    pub fn frame(&self) {
        self.with(|board| {
            if board.live {
                board.draw("")
            }
        });
    }

    /// That an app's errand is over; its line goes.
    pub fn over(&self, app: &str) {
        self.with(|board| {
            board.rows.iter_mut().filter(|row| row.app == app).for_each(|row| row.over = true);
            if board.live {
                board.draw("");
            }
        });
    }

    /// Takes the foot away, for good.
    pub fn clear(&self) {
        self.with(|board| {
            board.rows.iter_mut().for_each(|row| row.over = true);
            if board.live {
                board.draw("");
            }
        });
    }

    /// Looks how an app stands, again and again; without a terminal there is no use. It never ends.
    pub async fn watch(&self, client: &Client, app: &str) -> std::convert::Infallible {
        let live = self.with(|board| board.live);
        loop {
            if !live {
                return std::future::pending().await;
            }
            tokio::time::sleep(GLANCE).await;
            // What cannot be seen now is not shown: the errand itself says what is wrong.
            let seen = client.call::<App>(Method::GET, &format!("/v1/apps/{app}"), super::READ).await.ok();
            self.with(|board| board.rows.iter_mut().filter(|row| row.app == app).for_each(|row| row.seen.clone_from(&seen)));
        }
    }
}

impl Board {
    fn draw(&mut self, above: &str) {
        let (width, height) = out::size();
        let lines = foot(&self.rows, self.begun.elapsed(), self.limit, width, height);
        if above.is_empty() && lines == self.drawn {
            return;
        }
        let up = self.drawn.iter().map(|line| table::width(line).div_ceil(width.max(1)).max(1)).sum();
        let shown: String = lines.iter().map(|line| Tone::Cyan.paint(line, self.colours) + "\n").collect();
        out::redraw(up, above, &shown);
        self.drawn = lines;
    }
}

/// The lines of the foot: of each app that is waited for what is done, how far it is, since when, and what bounds it.
fn foot(rows: &[Row], elapsed: Duration, limit: Option<Duration>, width: usize, height: usize) -> Vec<String> {
    let waits: Vec<&Row> = rows.iter().filter(|row| !row.over).collect();
    let name = |row: &Row| format!("{} {}", row.verb, row.app);
    let longest = waits.iter().map(|row| table::width(&name(row))).max().unwrap_or(0);
    let room = height.saturating_sub(2).clamp(1, MOST);
    let shown = if waits.len() > room { room - 1 } else { waits.len() };
    let seconds = elapsed.as_secs();
    let line = |row: &&Row| {
        let name = name(row);
        let gap = " ".repeat(longest - table::width(&name));
        let (bar, count) = progress(row);
        let parts = bounds(row, limit);
        let whole = format!("{name}{gap}  {bar}{count}{seconds:>3} s{}", parts.concat());
        // The last column stays free: a terminal that stands there may wrap. The bar is the first to go, then what is said last.
        let room = width.saturating_sub(1);
        if table::width(&whole) <= room {
            return whole;
        }
        let mut line = format!("{name}{gap}  {count}{seconds:>3} s");
        for part in parts {
            match table::width(&line) + table::width(&part) <= room {
                true => line.push_str(&part),
                // Without its limit it says less; without who is meant a limit says nothing.
                false if part.starts_with(" (") => {}
                false => break,
            }
        }
        table::cut(&line, room)
    };
    let mut lines: Vec<String> = waits.iter().take(shown).map(line).collect();
    if shown < waits.len() {
        lines.push(table::cut(&format!("and {} more", waits.len() - shown), width.saturating_sub(1)));
    }
    lines
}

/// `[####....] ` and `2 of 4 ready  `.
fn progress(row: &Row) -> (String, String) {
    let Some(app) = &row.seen else { return <(String, String)>::default() };
    let (verb, roll) = (row.verb.as_str(), app.roll.as_ref().filter(|roll| roll.under_way()));
    let (count, of, what) = match (roll, verb) {
        (Some(roll), _) => (roll.ready, roll.target, "ready"),
        (None, "stop" | "sleep" | "remove") => {
            let left = u16::try_from(app.workers.iter().filter(|worker| worker.pid.is_some()).count()).unwrap_or(u16::MAX);
            (app.target.max(left) - left, app.target.max(left), "stopped")
        }
        (None, _) => (app.ready, app.target, "ready"),
    };
    let full = if of == 0 { 0 } else { BAR * usize::from(count.min(of)) / usize::from(of) };
    (format!("[{}{}] ", "#".repeat(full), ".".repeat(BAR - full)), format!("{count} of {of} {what}  "))
}

/// What it waits for and at most how long, the most important first: ` of 60 s`, `  api:03 starting`, ` (timeout.start 30 s)`.
fn bounds(row: &Row, limit: Option<Duration>) -> Vec<String> {
    let mut said: Vec<String> = limit.iter().map(|limit| format!(" of {}", table::time(*limit))).collect();
    let Some(app) = &row.seen else { return said };
    let of = |states: &[WorkerState]| {
        let mut uids = app.workers.iter().filter(|worker| states.contains(&worker.state)).map(|worker| worker.uid.to_string());
        let first = uids.next()?;
        let more = uids.count();
        Some(if more == 0 { first } else { format!("{first} and {more} more") })
    };
    let most = |ms: Option<u64>, key: &str| ms.map_or_else(String::new, |ms| format!(" ({key} {})", table::duration(ms)));
    let starts = of(&[WorkerState::Starting]);
    let ends = of(&[WorkerState::Stopping, WorkerState::Retiring]);
    let again = of(&[WorkerState::Restarting, WorkerState::CrashLoop]);
    let soaks = starts.is_none() && ends.is_none() && again.is_none();
    if let Some(who) = starts {
        said.extend([format!("  {who} starting"), most(row.bounds.map(|bounds| bounds.start), "timeout.start")]);
    }
    if let Some(who) = again {
        said.push(format!("  {who} ended and is tried again"));
    }
    if let Some(who) = ends {
        let drain = row.bounds.map(|bounds| bounds.drain).filter(|drain| *drain > 0);
        let drain = drain.map_or_else(String::new, |drain| most(Some(drain), "drain"));
        said.extend([format!("  {who} ending"), drain, most(row.bounds.map(|bounds| bounds.kill), "timeout.kill")]);
    }
    if app.roll.as_ref().is_some_and(|roll| roll.under_way()) {
        if soaks {
            said.extend(["  proving itself".into(), most(row.bounds.map(|bounds| bounds.min_ready), "min_ready")]);
        }
        let deadline = row.bounds.map(|bounds| table::duration(bounds.deadline));
        said.extend(deadline.map(|deadline| format!("  deadline {deadline}")));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::converge::tests::app;
    use crate::api::types::{AppState, Roll, RollState};

    const BOUNDS: Bounds = Bounds { start: 30_000, drain: 0, kill: 5000, min_ready: 1000, deadline: 600_000 };

    fn row(verb: &str, states: &[WorkerState], roll: Option<(u16, u16)>) -> Row {
        let slots: Vec<u16> = (1..).take(states.len()).collect();
        let mut app = app(AppState::Rolling, &slots);
        app.target = u16::try_from(states.len()).unwrap();
        app.ready = u16::try_from(states.iter().filter(|state| **state == WorkerState::Online).count()).unwrap();
        app.workers.iter_mut().zip(states).for_each(|(worker, state)| {
            worker.state = *state;
            worker.pid = (*state != WorkerState::Offline).then_some(7);
        });
        app.roll = roll.map(|(ready, target)| Roll {
            app: app.name.clone(),
            id: 1,
            asked_by: None,
            generation: None,
            slots: None,
            state: RollState::Running,
            sequence: 0,
            ready,
            target,
            steps: vec![],
            reason: None,
            took_ms: 0,
            cut: 0,
        });
        Row { app: "api".into(), verb: verb.into(), bounds: Some(BOUNDS), seen: Some(app), over: false }
    }

    fn lines(rows: &[Row], width: usize, height: usize) -> Vec<String> {
        foot(rows, Duration::from_secs(12), None, width, height)
    }

    #[test]
    fn a_foot_says_how_far_since_when_and_what_bounds_it() {
        use WorkerState::{Offline, Online, Restarting, Retiring, Starting, Stopping};
        let roll = row("reload", &[Online, Starting, Retiring], Some((1, 3)));
        assert_eq!(
            lines(std::slice::from_ref(&roll), 200, 24),
            [
                "reload api  [####........] 1 of 3 ready   12 s  api:02 starting (timeout.start 30 s)  api:03 ending (timeout.kill 5.0 s)  deadline 10 min"
            ]
        );
        assert_eq!(
            lines(&[row("reload", &[Online, Starting], Some((1, 2)))], 80, 24),
            ["reload api  1 of 2 ready   12 s  api:02 starting (timeout.start 30 s)"]
        );
        let soak = row("reload", &[Online, Online], Some((1, 2)));
        assert!(lines(&[soak], 200, 24)[0].contains("1 of 2 ready   12 s  proving itself (min_ready 1.0 s)  deadline 10 min"));
        let start = row("start", &[Starting, Starting, Restarting], None);
        assert!(
            lines(&[start], 200, 24)[0]
                .ends_with("0 of 3 ready   12 s  api:01 and 1 more starting (timeout.start 30 s)  api:03 ended and is tried again")
        );
        let stop = row("stop", &[Stopping, Offline], None);
        assert!(
            lines(std::slice::from_ref(&stop), 200, 24)[0].starts_with("stop api  [######......] 1 of 2 stopped   12 s  api:01 ending")
        );
        let limited = foot(&[stop], Duration::from_secs(3), Some(Duration::from_secs(60)), 200, 24);
        assert!(limited[0].contains("  3 s of 60 s"), "{limited:?}");
        let nothing = Row { seen: None, ..roll };
        assert_eq!(lines(&[nothing], 80, 24), ["reload api   12 s"]);
    }

    /// A reload in progress, as people see it: a line for each of its apps, drawn anew below the steps.
    #[test]
    fn a_reload_in_progress() {
        use WorkerState::{Online, Retiring, Starting};
        let mut rows = [row("reload", &[Online, Online, Starting, Retiring], Some((2, 4))), row("reload", &[Online, Online], Some((1, 2)))];
        rows[1].app = "background".into();
        let steps = [
            ("16 ms", "api:01 (generation 13) starts"),
            ("412 ms", "api:01 (generation 13) is ready"),
            ("1.4 s", "api:01 (generation 12) retires"),
        ];
        for width in [80, 200] {
            let said: String = steps.iter().map(|(at, text)| format!("api: {at:>8}  {text}\n")).collect();
            let foot = foot(&rows, Duration::from_secs(12), Some(Duration::from_secs(60)), width, 24).join("\n");
            crate::cli::golden::is_golden(&format!("reload-{width}"), &format!("{said}{foot}\n"));
        }
    }

    #[test]
    fn it_fits_however_small_the_terminal_is() {
        let rows: Vec<Row> = (0..30).map(|_| row("reload", &[WorkerState::Starting, WorkerState::Online], Some((1, 2)))).collect();
        for (width, height) in [(80, 24), (20, 5), (5, 1), (1, 1), (0, 0)] {
            let lines = lines(&rows, width, height);
            assert!(lines.iter().all(|line| table::width(line) < width.max(1)), "{width}: {lines:?}");
            assert!((1..=MOST).contains(&lines.len()) && lines.len() <= height.saturating_sub(2).max(1), "{height}: {}", lines.len());
        }
        assert_eq!(lines(&rows, 80, 24).last().unwrap(), "and 11 more");
        let over: Vec<Row> = rows.into_iter().map(|row| Row { over: true, ..row }).collect();
        assert!(lines(&over, 80, 24).is_empty());
    }
}
