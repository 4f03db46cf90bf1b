//! The figures of `docs/benchmarks.md`: `make bench`. As root. With names of parts as arguments it measures those alone and
//! writes nothing.
//!
//! | file | |
//! |---|---|
//! | `drains` | reloads and drains |
//! | `inside` | what is measured inside the sandbox, by this same program |
//! | `report` | the page |
//! | `switches` | what each switch of the sandbox costs |

#[path = "../../tests/support/mod.rs"]
mod support;

mod drains;
mod inside;
mod report;
mod switches;

use std::time::Duration;

use report::{Bound, Line};
use support::sandbox::Options;
use support::{Sandbox, documents};

/// Where this program lies inside.
const SELF: &str = "/usr/local/bin/figures";
/// Longer than any measurement.
const LIMIT: Duration = Duration::from_secs(600);

type Part = (&'static str, fn(&mut Vec<Line>) -> Result<(), String>);
const PARTS: [Part; 5] = [("lists", lists), ("starts", starts), ("crash", crash), ("connections", connections), ("drains", drains::drains)];

fn main() -> Result<(), String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|word| word == "inside") {
        return inside::run(&args[1..]);
    }
    let machine = report::machine();
    let mut lines = Vec::new();
    for (name, part) in PARTS {
        if args.is_empty() || args.iter().any(|word| word == name) {
            let before = lines.len();
            part(&mut lines)?;
            lines[before..].iter().for_each(|line| println!("{}", line.told()));
        }
    }
    let mut switched = Vec::new();
    if args.is_empty() || args.iter().any(|word| word == "switches") {
        switched = switches::switches()?;
        switched.iter().for_each(|(what, ms)| println!("{what}: {ms:.1} ms"));
    }
    if !args.is_empty() {
        return Ok(());
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks.md");
    // Another program's part stays as that wrote it.
    let kept = documents::part("docs/benchmarks.md", "reloads")?;
    std::fs::write(path, report::page(&machine, &lines, &switched)).map_err(|why| format!("{path}: {why}"))?;
    documents::replace("docs/benchmarks.md", "reloads", &kept)
}

/// A sandbox with this program in it.
fn bare() -> Result<Sandbox, String> {
    let own = std::env::current_exe().map_err(|why| why.to_string())?;
    Ok(Sandbox::start_with(Options { shown: vec![(own, SELF.into())], ..Options::default() }))
}

/// A sandbox with this configuration, installed and up.
fn cluster(config: &str) -> Result<Sandbox, String> {
    let sandbox = bare()?;
    sandbox.write("/etc/project-cluster/cluster.toml", config);
    sandbox.run_within(LIMIT, &["project-cluster", "install", "--now"]).ok();
    Ok(sandbox)
}

/// The numbers that a verb of `inside` prints.
fn inside(sandbox: &Sandbox, prefix: &[&str], words: &[&str]) -> Result<Vec<f64>, String> {
    let command = [prefix, &[SELF, "inside"], words].concat();
    let text = sandbox.run_within(LIMIT, &command).ok();
    text.lines().map(|line| line.parse().map_err(|why| format!("{command:?} prints {line}: {why}"))).collect()
}

fn ms(us: f64) -> String {
    format!("{:.2} ms", us / 1000.0)
}

const LS: [&str; 12] =
    ["project-cluster", "ls", "--", "systemctl", "list-units", "project-cluster*", "--", "true", "--", "!", "project-cluster", "worker"];

/// `ls`, memory, wake-ups and the API, of 32 and of 500 workers.
fn lists(lines: &mut Vec<Line>) -> Result<(), String> {
    let mut took = Vec::new();
    for workers in [32, 500] {
        let app = |name: &str| {
            format!(
                "[apps.{name}]\nworkers = {}\ncommand = \"sleep infinity\"\nready = \"none\"\nreload.min_ready = \"10ms\"\n",
                workers / 2
            )
        };
        let sandbox = cluster(&(app("api") + &app("bg")))?;
        let times = inside(&sandbox, &[], &[&["race", "100"][..], &LS[..]].concat())?;
        let [ours, systemctl, nothing, idle_start] = times[..] else { return Err(format!("{times:?}")) };
        let question = inside(&sandbox, &[], &["ask", "/run/project-cluster/api.sock", "/v1/apps", "1", "1", "0"])?[1];
        let beside = format!("{} : {}; `true` takes {}", ms(ours), ms(systemctl), ms(nothing));
        took.push(ours);
        lines.push(Line {
            what: format!("`ls`, {workers} workers : `systemctl list-units`"),
            measured: beside,
            figure: ours / systemctl,
            unit: "",
            bound: if workers == 32 { Bound::Most(0.25) } else { Bound::None },
            why: format!(
                "`true`, which does nothing, takes {} of it; a start of this program that does nothing {}, since its 7 MB are position \
                 independent: 29 pages of addresses are written, and code of 20 places is mapped (`perf record -e page-faults`: 78, of a \
                 static program of no size 26). The question and its answer, between two programs that run, take {}: a question to systemd \
                 is part of it, so that what is shown is true. The remaining {} read the configuration and the answer and write the table.",
                ms(nothing),
                ms(idle_start),
                ms(question),
                ms((ours - idle_start - question).max(0.0)),
            ),
        });
        let silence = inside(&sandbox, &[], &["race", "5", "sleep", "1.1", "--", "project-cluster", "ls"])?;
        lines.push(Line {
            what: format!("`ls`, {workers} workers, after a silence"),
            measured: "the same, with memory and CPU of every worker read anew".into(),
            figure: silence[1] / 1000.0,
            unit: "ms",
            bound: Bound::None,
            why: String::new(),
        });
        let pid = sandbox.main_pid("project-cluster.service").ok_or("the master does not run")?.to_string();
        lines.push(memory(&sandbox, &format!("{workers} workers (`sleep`)"), if workers == 32 { 4.0 } else { 8.0 })?);
        if workers == 32 {
            lines.extend(idle(&sandbox, &pid)?);
            lines.extend(asked(&sandbox, &pid)?);
        }
    }
    lines.push(Line {
        what: "`ls`, 500 workers : 32 workers".into(),
        measured: format!("{} : {}", ms(took[1]), ms(took[0])),
        figure: took[1] / took[0],
        unit: "",
        bound: Bound::Most(4.0),
        why: "JSON of 500 workers, made, sent, read, and a table of it: each is work for every worker.".into(),
    });
    Ok(())
}

/// Memory of the master, as it is now.
fn memory(sandbox: &Sandbox, of: &str, bound: f64) -> Result<Line, String> {
    let pid = sandbox.main_pid("project-cluster.service").ok_or("the master does not run")?;
    let smaps = sandbox.read(format!("/proc/{pid}/smaps_rollup"));
    let kb = |key: &str| {
        let value = smaps.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().trim_end_matches(" kB"));
        value.and_then(|value| value.parse::<f64>().ok()).ok_or_else(|| format!("no {key}"))
    };
    Ok(Line {
        what: format!("master's PSS, {of}"),
        measured: format!("RSS {:.1} MB, anonymous {:.1} MB", kb("Rss:")? / 1000.0, kb("Pss_Anon:")? / 1000.0),
        figure: kb("Pss:")? / 1000.0,
        unit: "MB",
        bound: Bound::Most(bound),
        why: "the code of the program, of which nothing else here maps a page (bind supervisors of workers with sockets do): the kernel \
              maps 64 kB around each page that is used, and what is used lies all over its 5 MB."
            .into(),
    })
}

/// How often the master wakes while it is left alone.
fn idle(sandbox: &Sandbox, pid: &str) -> Result<Vec<Line>, String> {
    const ALONE: Duration = Duration::from_secs(30);
    let script = format!("cat /proc/{pid}/task/*/status | awk '/^voluntary_ctxt_switches/ {{ sum += $2 }} END {{ print sum }}'");
    let count = || sandbox.sh(&script).ok().parse::<f64>().map_err(|why| format!("{script}: {why}"));
    let watchdog = sandbox.sh("systemctl show -P WatchdogUSec project-cluster").ok();
    // What came with the start and the questions is over when it has slept for a second on end.
    let mut before = count()?;
    sandbox.wait_until("the master rests", Duration::from_secs(60), || {
        std::thread::sleep(Duration::from_secs(1));
        let now = count();
        let rests = now == Ok(before);
        before = now.unwrap_or(0.0);
        rests
    });
    std::thread::sleep(ALONE);
    Ok(vec![Line {
        what: "wake-ups of the idle master in 30 s, 32 workers".into(),
        measured: format!("the watchdog ({watchdog}) is told at half of its limit, so at most twice in 30 s"),
        figure: count()? - before,
        unit: "times",
        bound: Bound::Most(2.0),
        why: "tokio's timer wheel wakes on its way to a far deadline.".into(),
    }])
}

/// `GET /v1/workers`.
fn asked(sandbox: &Sandbox, pid: &str) -> Result<Vec<Line>, String> {
    sandbox.run(&["taskset", "-pc", "0", pid]).ok();
    let ask = |rate: &str| -> Result<Vec<f64>, String> {
        let words = ["ask", "/run/project-cluster/api.sock", "/v1/workers", "50", "3", rate];
        let runs = (0..3).map(|_| inside(sandbox, &["taskset", "-c", "1"], &words)).collect::<Result<Vec<_>, _>>()?;
        let middle = |at: usize| {
            let mut values: Vec<f64> = runs.iter().map(|run| run[at]).collect();
            values.sort_unstable_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Ok((0..3).map(middle).collect())
    };
    let (most, planned) = (ask("0")?, ask("5000")?);
    sandbox.run(&["taskset", "-pc", "0-1", pid]).ok();
    let what = "`GET /v1/workers`, 32 workers, unix socket, 50 clients";
    Ok(vec![
        Line {
            what: what.into(),
            measured: format!("as fast as it goes; half are answered within {}, 99 of 100 within {}", ms(most[1]), ms(most[2])),
            figure: most[0],
            unit: "a second",
            bound: Bound::Least(5000.0),
            why: String::new(),
        },
        Line {
            what: format!("{what}, 5000 asked for in a second: 99 of 100 answered within"),
            measured: format!("half within {}; {:.0} a second were answered", ms(planned[1]), planned[0]),
            figure: planned[2] / 1000.0,
            unit: "ms",
            bound: Bound::Most(2.0),
            why: "one in a second reads memory and CPU of all workers; the bus daemon and PID 1 share the two processors with master and \
                  client."
                .into(),
        },
    ])
}

/// Starts until all answer.
fn starts(lines: &mut Vec<Line>) -> Result<(), String> {
    for workers in [1_usize, 8, 32] {
        let sandbox = cluster(&format!("[apps.api]\nworkers = {workers}\ncommand = \"node /srv/apps/hello.js 3000\"\nlisten = 3000\n"))?;
        units_by_hand(&sandbox)?;
        let ports = |first: usize| (first..first + workers).map(|port| port.to_string()).collect::<Vec<_>>();
        let units = |name: &str, first: usize| ports(first).iter().map(|port| format!("{name}@{port}.service")).collect::<Vec<_>>();
        let verb = |verb: &str, units: &[String]| [&["systemctl".to_owned(), verb.to_owned()], units].concat();
        let way = |units: Vec<String>, ports: Vec<String>| {
            [verb("start", &units), vec!["++".into()], verb("stop", &units), vec!["++".into()], ports].concat()
        };
        if workers == 32 {
            (0..3).for_each(|_| drop(sandbox.run(&["project-cluster", "ls"]).ok()));
            lines.push(memory(&sandbox, "32 workers (Node, one port)", 4.0)?);
        }
        sandbox.systemctl(&["stop", "project-cluster@api"]).ok();
        let ours = way(vec!["project-cluster@api".into()], vec!["3000".into()]);
        let plain = way(units("plain", 4000), ports(4000));
        let stepped = way(units("stepped", 4500), ports(4500));
        let boxed = way(units("boxed", 5000), ports(5000));
        let ways =
            [vec!["starts".into(), "5".into()], ours, vec!["--".into()], plain, vec!["--".into()], stepped, vec!["--".into()], boxed];
        let times = inside(&sandbox, &[], &ways.concat().iter().map(String::as_str).collect::<Vec<_>>())?;
        let [ours, plain, stepped, boxed] = times[..] else { return Err(format!("{times:?}")) };
        let s = if workers == 1 { "" } else { "s" };
        let line = |other: &str, time: f64, bound: f64, why| Line {
            what: format!("start of {workers} Node worker{s} : {other}"),
            measured: format!("{} : {}", ms(ours), ms(time)),
            figure: ours / time,
            unit: "",
            bound: if workers == 1 { Bound::None } else { Bound::Most(bound) },
            why,
        };
        let each = |more: f64| ms(more / workers as f64);
        let spent = format!(
            "of what each worker takes longer than by hand, {}, two steps that do nothing are {}, the sandbox {} (what of it, see below), \
             our handle and steps {}.",
            each(ours - plain),
            each(stepped - plain),
            each(boxed - stepped),
            each(ours - boxed),
        );
        lines.push(line("units by hand", plain, 1.5, spent));
        let own = format!(
            "the handle is a unit more and starts the socket, which each start pays once; the steps make the worker's copy of the pin, \
             set the swap up and wait until it accepts: {} a worker in all.",
            each(ours - boxed)
        );
        lines.push(line("the same sandbox and steps", boxed, 1.1, own));
    }
    Ok(())
}

/// Units that a person would write, and ours without us; their instance is their port.
fn units_by_hand(sandbox: &Sandbox) -> Result<(), String> {
    let node = sandbox.sh("command -v node").ok();
    let run = format!("ExecStart={node} /srv/apps/hello.js %i\n");
    let plain = format!("[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=exec\nUser=nobody\nRestart=always\nRestartSec=100ms\n{run}");
    sandbox.write("/etc/systemd/system/plain@.service", &plain);
    let nothing = "ExecStartPre=+/bin/true\nExecStartPost=+/bin/true\n";
    sandbox.write("/etc/systemd/system/stepped@.service", plain + nothing);
    let text = sandbox.read("/etc/systemd/system/project-cluster-api@.service");
    let boxed = format!("{}\n[Service]\nRuntimeDirectory=boxed/%i\n{run}{nothing}", without_us(&text));
    sandbox.write("/etc/systemd/system/boxed@.service", boxed);
    sandbox.systemctl(&["daemon-reload"]).ok();
    Ok(())
}

/// A worker's unit without what makes it ours.
fn without_us(unit: &str) -> String {
    let own = ["ExecStart", "RuntimeDirectory=", "Sockets=", "NonBlocking="];
    unit.lines().filter(|line| !own.iter().any(|own| line.starts_with(own))).collect::<Vec<_>>().join("\n")
}

const ONE: &str = "[apps.api]\nworkers = 1\ncommand = \"node /srv/apps/hello.js 3000\"\nlisten = 3000\n";

/// The unit of the one worker.
fn worker(sandbox: &Sandbox) -> String {
    sandbox.sh("systemctl list-units --plain --no-legend 'project-cluster-api@*.service' | awk '{ print $1 }'").ok()
}

/// A crash until a new connection is answered.
fn crash(lines: &mut Vec<Line>) -> Result<(), String> {
    let sandbox = cluster(ONE)?;
    units_by_hand(&sandbox)?;
    let others = ["plain@4000.service", "4000", "boxed@5000.service", "5000"];
    let times = inside(&sandbox, &[], &[&["crash", "25", &worker(&sandbox), "3000"][..], &others].concat())?;
    let [ours, plain, boxed] = times[..] else { return Err(format!("{times:?}")) };
    lines.push(Line {
        what: "crash to answering again : plain systemd".into(),
        measured: format!("{} : {}", ms(ours), ms(plain)),
        figure: ours / plain,
        unit: "",
        bound: Bound::Most(1.1),
        why: format!("the same unit with steps that do nothing takes {}: the sandbox and a step, which plain units do without.", ms(boxed)),
    });
    Ok(())
}

/// New connections to a swapped app.
fn connections(lines: &mut Vec<Line>) -> Result<(), String> {
    let sandbox = cluster(ONE)?;
    units_by_hand(&sandbox)?;
    sandbox.systemctl(&["start", "plain@4000.service"]).ok();
    ["127.0.0.1:3000", "127.0.0.1:4000"].iter().for_each(|address| drop(sandbox.wait_for_http(address)));
    let rates = inside(&sandbox, &[], &["connect", "30", "250", "3000", "4000"])?;
    let [ours, plain] = rates[..] else { return Err(format!("{rates:?}")) };
    lines.push(Line {
        what: "new connections to a swapped app : a plain one".into(),
        measured: format!("{ours:.0} : {plain:.0} a second"),
        figure: ours / plain,
        unit: "",
        bound: Bound::Least(0.98),
        why: "nothing of ours is in the way of a connection; what is left is the noise of the machine.".into(),
    });
    Ok(())
}
