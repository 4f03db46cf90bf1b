//! `logs`: what workers wrote, from the journal. journald keeps the lines and `journalctl` finds them; here they get their
//! worker's name and colour, and lose what would steer a terminal.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::Method;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::args::Logs;
use super::entry::Entry;
use super::{Choice, Context, Failure, complain, marks, past_selection, print, print_json_line, reader_gone, table};
use crate::api::types::App;
use crate::journal::clean;
use crate::names::AppUnits;
use crate::place::Place;

/// Lines to begin with, where nothing else is said.
const LINES: u32 = 50;
/// The longest entry that is read, bytes of JSON: a line of journald's default limit of 48 KiB, each byte written as a number.
const LONGEST: u64 = 1 << 20;
/// What journalctl says when it fails: a sentence.
const COMPLAINT: u64 = 8192;

pub(crate) async fn run(context: &Context, options: &Logs) -> Result<(), Failure> {
    let apps = apps(context).await?;
    let all = ["all".to_owned()];
    let select = if options.select.is_empty() { &all[..] } else { &options.select };
    let chosen = past_selection(&apps, select)?;
    may_read(&["/var/log/journal", "/run/log/journal"].map(Path::new), context.place)?;
    let mut arguments = bounds(options);
    arguments.extend(past(context, &apps, &chosen));
    let show = Show { context, wide: widest(&apps, &chosen), chosen: &chosen };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|why| Failure::Failed(why.to_string()))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|why| Failure::Failed(why.to_string()))?;
    // Lines are stamped by this clock.
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let shown = async {
        let last = journal(context, &arguments, |entry| show.line(entry)).await?;
        if !options.follow {
            return Ok(());
        }
        // Everything behind the last line that was shown: nothing is missed between the two readings.
        let mut arguments = vec!["--follow".to_owned(), "--lines=all".to_owned()];
        let since = || format!("--since=@{}.{:06}", begun.as_secs(), begun.subsec_micros());
        arguments.push(last.map_or_else(since, |cursor| format!("--after-cursor={cursor}")));
        arguments.extend(options.grep.iter().map(|pattern| format!("--grep={pattern}")));
        arguments.extend(followed(context, &apps, &chosen));
        journal(context, &arguments, |entry| show.line(entry)).await.map(drop)
    };
    tokio::select! {
        ended = shown => ended,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        () = reader_gone() => Ok(()),
    }
}

/// How long the master is waited for: the lines are journald's.
const ASKED: Duration = Duration::from_secs(3);

/// The apps, as the master says; where it is the one that broke, as it was last told.
async fn apps(context: &Context) -> Result<Vec<App>, Failure> {
    let error = match context.client.call(Method::GET, "/v1/apps", ASKED).await {
        Ok(apps) => return Ok(apps),
        Err(error) => error,
    };
    let Some(settings) = marks::master_settings(context) else { return Err(error.into()) };
    if context.look.says {
        complain(&format!("project-cluster: {error}. The lines of what was last installed:\n"));
    }
    Ok(marks::apps_of(&settings))
}

/// How many entries are read for each line that is wanted: a start and an end are six of systemd's own.
const AROUND: u32 = 20;

/// The last lines that workers themselves wrote, of what is chosen, as `logs` shows them, without colours: at most so many, none
/// where the journal cannot be read.
pub(super) async fn last(context: &Context, apps: &[App], chosen: &[Choice], count: u32) -> Vec<String> {
    let mut arguments = vec![format!("--lines={}", count * AROUND)];
    arguments.extend(past(context, apps, chosen));
    let show = Show { context, wide: widest(apps, chosen), chosen };
    let mut lines = Vec::new();
    let read = journal(context, &arguments, |entry| {
        if !entry.systemd && entry.hook.is_none() {
            lines.extend(entry.line(show.wide, false).lines().map(str::to_owned));
        }
        Ok(())
    });
    let read = tokio::time::timeout(super::READ, read).await.is_ok_and(|read| read.is_ok());
    if read { lines.split_off(lines.len().saturating_sub(count as usize)) } else { Vec::new() }
}

/// Which of the lines.
fn bounds(options: &Logs) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |name: &str, value: &Option<String>| arguments.extend(value.iter().map(|value| format!("--{name}={value}")));
    add("since", &options.since);
    add("until", &options.until);
    add("grep", &options.grep);
    let timed = options.since.is_some() || options.until.is_some();
    let lines = options.lines.or_else(|| (!timed).then_some(LINES));
    arguments.push(lines.map_or_else(|| "--lines=all".to_owned(), |lines| format!("--lines={lines}")));
    arguments
}

/// How entries are shown.
struct Show<'a> {
    context: &'a Context,
    wide: usize,
    chosen: &'a [Choice],
}

impl Show<'_> {
    fn line(&self, entry: &Entry) -> Result<(), Failure> {
        let app = |choice: &Choice| match choice {
            Choice::App(name) => entry.app.as_ref().is_some_and(|app| app.as_str() == name),
            Choice::Worker(chosen) => entry.uid.as_ref() == Some(chosen),
        };
        if !self.chosen.iter().any(app) {
            return Ok(());
        }
        if self.context.json {
            return print_json_line(entry);
        }
        print(&entry.line(self.wide, self.context.look.colours));
        Ok(())
    }
}

/// Columns of the longest uid.
fn widest(apps: &[App], chosen: &[Choice]) -> usize {
    let rows = apps.iter().flat_map(|app| &app.workers).filter(|row| chosen.iter().any(|choice| choice.has(row)));
    // Where nothing runs its lines are of the past, and of `api:01` at least.
    let least = apps.iter().filter(|app| chosen.iter().any(|choice| choice.is_of(app))).map(|app| app.name.as_str().len() + ":01".len());
    rows.map(|row| table::width(&row.uid.to_string())).chain(least).max().unwrap_or(0)
}

/// Has journalctl print its entries and takes each; the cursor of the last.
async fn journal(
    context: &Context,
    arguments: &[String],
    mut take: impl FnMut(&Entry) -> Result<(), Failure>,
) -> Result<Option<String>, Failure> {
    let mut command = Command::new("journalctl");
    command.args(["--quiet", "--no-pager", "--all", "--output=json", Entry::FIELDS]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let cannot = |why: io::Error| Failure::Failed(format!("journalctl cannot be run: {why}. It is part of systemd; look at PATH"));
    let mut child = command.spawn().map_err(cannot)?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else { return Ok(None) };
    let said = async {
        let mut said = String::new();
        // What is no text says nothing.
        let _ = stderr.take(COMPLAINT).read_to_string(&mut said).await;
        Ok::<String, Failure>(said)
    };
    let read = async {
        let (mut stdout, mut last) = (BufReader::new(stdout), None);
        while let Some(line) = next(&mut stdout).await.map_err(cannot)? {
            if let Some(entry) = Entry::parse(&context.cluster, context.place.manager, &line) {
                take(&entry)?;
                last = Some(entry.cursor);
            }
        }
        Ok(last)
    };
    let (last, said) = tokio::try_join!(read, said)?;
    let status = child.wait().await.map_err(cannot)?;
    match clean(&said).first() {
        // It exits with 1 where `--grep` finds nothing, and is silent then.
        Some(why) if !status.success() && refuses(why) => Err(Failure::Usage(format!("journalctl: {why}. `project-cluster logs --help`"))),
        Some(why) if !status.success() => {
            Err(Failure::Failed(format!("journalctl: {why}. `journalctl --verify` and `systemctl status systemd-journald` may say more")))
        }
        _ => Ok(last),
    }
}

/// Whether journalctl does not take what was typed, in its words of 252 to 257.
fn refuses(why: &str) -> bool {
    ["Failed to parse", "Bad pattern", "must be before", "Compiled without pattern matching"].iter().any(|words| why.contains(words))
}

/// The next line; of one that is too long its beginning, which is no entry.
async fn next(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let count = (&mut *stream).take(LONGEST).read_until(b'\n', &mut line).await?;
    while line.len() as u64 == LONGEST && !line.ends_with(b"\n") {
        let mut rest = Vec::new();
        let more = (&mut *stream).take(LONGEST).read_until(b'\n', &mut rest).await?;
        if more == 0 || rest.ends_with(b"\n") {
            break;
        }
    }
    Ok((count > 0).then_some(line))
}

/// journalctl would show nothing, and say so in words that name no command.
fn may_read(directories: &[&Path], place: &Place) -> Result<(), Failure> {
    let machines = directories.iter().filter_map(|directory| std::fs::read_dir(directory).ok()).flatten().flatten();
    // journald keeps what an ordinary user's processes write apart, for that user to read; not where all of it is in memory.
    let names = ["system.journal".to_owned(), format!("user-{}.journal", place.owner.0)];
    let opened: Vec<_> = machines.flat_map(|machine| names.each_ref().map(|name| File::open(machine.path().join(name)))).collect();
    let denied = |result: &io::Result<File>| matches!(result, Err(why) if why.kind() == io::ErrorKind::PermissionDenied);
    if opened.iter().any(Result::is_ok) || !opened.iter().any(denied) {
        return Ok(());
    }
    if place.is_user() {
        let how = "you may not read what your own programs wrote, because journald keeps its journal in memory: `sudo mkdir -p /var/log/journal && \
                   sudo journalctl --flush` has it kept on disk, where you may; or join the group that reads all: `sudo usermod -aG systemd-journal \
                   $USER`, then log in again";
        return Err(Failure::Failed(how.into()));
    }
    let how =
        "you may not read the journal: run it as root, or join its group: `sudo usermod -aG systemd-journal $USER`, then log in again";
    Err(Failure::Failed(how.into()))
}

/// Globs of units: journalctl finds all that match in the journal, also those that are long gone.
fn past(context: &Context, apps: &[App], chosen: &[Choice]) -> Vec<String> {
    let globs = |choice: &Choice| match choice {
        Choice::App(name) => {
            let of = |app: &App| {
                let units = AppUnits::new(&context.cluster, &app.name);
                [vec![units.worker_glob()], units.hook_globs().into()].concat()
            };
            apps.iter().find(|app| app.name.as_str() == name).map(of).unwrap_or_default()
        }
        Choice::Worker(uid) => vec![format!("{}@{}.*.service", AppUnits::new(&context.cluster, &uid.app).prefix(), uid.slot.get())],
    };
    chosen.iter().flat_map(globs).map(|unit| format!("{}={unit}", context.place.manager.unit_option())).collect()
}

/// Fields that lines to come will have, too: a glob would name the units that are there now. systemd's own lines about
/// a worker carry our fields, and nobody else can be process 1. Of single workers those of their whole app.
fn followed(context: &Context, apps: &[App], chosen: &[Choice]) -> Vec<String> {
    let of = apps.iter().filter(|app| chosen.iter().any(|choice| choice.is_of(app)));
    let manager = context.place.manager;
    let systemd = if context.place.is_user() { "_SYSTEMD_USER_UNIT=init.scope" } else { "_PID=1" };
    let alternatives = of.flat_map(|app| {
        let ours = [format!("PROJECT_CLUSTER_NAME={}", context.cluster), format!("PROJECT_CLUSTER_APP={}", app.name)];
        let units = AppUnits::new(&context.cluster, &app.name);
        let slices = [units.slice(manager), units.hook_slice(manager)].map(|slice| format!("{}={slice}", manager.slice_field()));
        let [workers, hooks] = slices.map(|slice| vec![slice]);
        [workers, hooks, [&[systemd.to_owned()][..], &ours].concat()]
    });
    alternatives.collect::<Vec<_>>().join(&"+".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_whole_and_what_is_too_long_is_passed_over() {
        let long = "x".repeat(usize::try_from(LONGEST).unwrap() * 2 + 5);
        let text = format!("one\n{long}\ntwo");
        let mut stream = BufReader::new(text.as_bytes());
        let mut lines = Vec::new();
        while let Some(line) = next(&mut stream).await.unwrap() {
            lines.push(String::from_utf8(line).unwrap());
        }
        assert_eq!((lines[0].as_str(), lines[1].len() as u64, lines[2].as_str()), ("one\n", LONGEST, "two"));
    }

    #[test]
    fn all_lines_of_a_time_and_fifty_without_one() {
        let options = |since: Option<&str>, lines| Logs {
            select: vec![],
            follow: false,
            lines,
            since: since.map(str::to_owned),
            until: None,
            grep: Some("-x".into()),
        };
        assert_eq!(bounds(&options(None, None)), ["--grep=-x", "--lines=50"]);
        assert_eq!(bounds(&options(Some("today"), None)), ["--since=today", "--grep=-x", "--lines=all"]);
        assert_eq!(bounds(&options(Some("today"), Some(3))), ["--since=today", "--grep=-x", "--lines=3"]);
    }
}
