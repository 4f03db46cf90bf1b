//! The command line on a terminal: progress, questions, Ctrl-C.

use super::cluster::{Cluster, HELLO, SOON, cluster, node, shop};
use super::support::{Output, Running};

/// A terminal of so many columns and rows. Each further argument is a step: `?TEXT` waits until that has come, `<KEYS` types,
/// `=COLUMNSxROWS` resizes; behind `--` stands the command. Prints all that came; its exit code is the command's.
const PTY: &str = r#"
import fcntl, os, pty, select, signal, struct, sys, termios, time
at = sys.argv.index('--')
steps, command = sys.argv[1:at], sys.argv[at + 1:]
pid, fd = pty.fork()
if pid == 0:
    # The first step is the first size: the command begins behind it.
    columns, rows = steps[0][1:].split('x')
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', int(rows), int(columns), 0, 0))
    os.environ['TERM'] = 'xterm'
    os.execvp(command[0], command)
def sized(value):
    columns, rows = value.split('x')
    # What xterm itself would take for it (XTWINOPS).
    return b'\x1b[8;%s;%st' % (rows.encode(), columns.encode())
got, end = sized(steps[0][1:]), time.monotonic() + 40
def more():
    global got
    if time.monotonic() > end:
        os.kill(pid, signal.SIGKILL)
        sys.exit('nothing more came behind: %r' % got)
    if select.select([fd], [], [], 1)[0]:
        try:
            data = os.read(fd, 65536)
        except OSError:
            data = b''
        got += data
        return bool(data)
    return True
seen = 0
for step in steps[1:]:
    kind, value = step[0], step[1:]
    if kind == '?':
        while value.encode() not in got[seen:]:
            if not more():
                sys.exit('it ended without %r: %r' % (value, got))
        seen = got.index(value.encode(), seen) + len(value)
    elif kind == '<':
        os.write(fd, value.encode())
    else:
        while select.select([fd], [], [], 0)[0] and more():
            pass
        columns, rows = value.split('x')
        got += sized(value)
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', int(rows), int(columns), 0, 0))
while more():
    pass
sys.stdout.buffer.write(got)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)
"#;

/// A command on a terminal.
fn terminal(cluster: &Cluster, steps: &[&str], command: &[&str]) -> Running {
    let words: Vec<&str> = ["python3", "-c", PTY].into_iter().chain(steps.iter().copied()).chain(["--"]).collect();
    cluster.spawn(&[&words, command].concat())
}

#[track_caller]
fn on(cluster: &Cluster, steps: &[&str], command: &[&str]) -> Output {
    terminal(cluster, steps, &[&["project-cluster"], command].concat()).wait(3 * SOON)
}

/// What a terminal has shown at the end: its lines, each whole however many rows it takes. Of a terminal that wraps them anew
/// when it is resized: then who goes up must know how many rows each takes by now.
fn screen(output: &str) -> Vec<String> {
    let (mut lines, mut at, mut columns) = (vec![String::new()], 0, usize::MAX);
    let mut rest = output;
    while let Some(ch) = rest.chars().next() {
        let Some(sequence) = rest.strip_prefix("\u{1b}[") else {
            rest = &rest[ch.len_utf8()..];
            match ch {
                '\r' => {}
                '\n' => {
                    at += 1;
                    lines.resize(lines.len().max(at + 1), String::new());
                }
                ch => lines[at].push(ch),
            }
            continue;
        };
        let end = sequence.find(|ch: char| ch.is_ascii_alphabetic()).expect("a sequence ends");
        let (numbers, kind) = (&sequence[..end], &sequence[end..=end]);
        match kind {
            "t" => columns = numbers.split(';').next_back().unwrap().parse().unwrap(),
            "A" => {
                let mut rows: usize = numbers.parse().unwrap();
                while rows > 0 {
                    at -= 1;
                    let taken = lines[at].chars().count().div_ceil(columns).max(1);
                    assert!(rows >= taken, "it goes up into the middle of {:?}, {columns} columns: {output:?}", lines[at]);
                    rows -= taken;
                }
            }
            "J" => {
                lines.truncate(at + 1);
                lines[at].clear();
            }
            _ => {}
        }
        rest = &sequence[end + 1..];
    }
    lines
}

/// Workers that take a moment to get ready.
const SLOW: &str = "setTimeout(() => require('/srv/apps/hello.js'), 1500);";

#[test]
fn a_wait_shows_how_far_it_is_and_leaves_its_steps() {
    let cluster = shop(2, "");
    cluster.deploy("v2", SLOW);
    let reload = on(
        &cluster,
        &[
            "=80x24",
            "?of 2 ready",
            "?starting (timeout.start 30 s)",
            "=30x8",
            "?reload api",
            "=50x8",
            "?reload api",
            "=9x2",
            "?reload",
            "=80x24",
        ],
        &["reload", "api"],
    )
    .exits(0);
    let shown = screen(&reload.stdout);
    assert!(shown.iter().any(|line| line.contains("api:01 (generation 2) is ready")), "{shown:#?}");
    assert!(shown.iter().any(|line| line.contains("done: generation 2, 2 of 2 ready")), "{shown:#?}");
    assert!(!shown.iter().any(|line| line.contains("reload api")), "nothing of the foot stays: {shown:#?}");
    assert!(reload.stdout.contains("reload api  0 of 2 ready"), "{}", reload.stdout);
    // By the handle, without a roll.
    cluster.cli(&["stop", "api"]).ok();
    let start = on(&cluster, &["=200x24", "?api:01 and 1 more starting (timeout.start 30 s)"], &["start", "api"]).exits(0);
    assert_eq!(screen(&start.stdout).iter().filter(|line| line.contains("2 of 2 ready")).count(), 1, "{}", start.stdout);
    // Neither in a pipe nor where nothing is to be said.
    assert!(!cluster.cli(&["restart", "api"]).ok().contains("\u{1b}"));
    for arguments in [&["reload", "api", "--quiet"][..], &["stop", "api", "-q"], &["start", "api", "-q"]] {
        assert_eq!(screen(&on(&cluster, &["=80x24"], arguments).exits(0).stdout), [""], "{arguments:?}");
    }
}

#[test]
fn ctrl_c_ends_the_waiting_and_not_the_roll() {
    let cluster = shop(2, "");
    cluster.deploy("v2", SLOW);
    let left = on(&cluster, &["=80x24", "?of 2 ready", "<\u{3}"], &["reload", "api"]).exits(1);
    let said = ["it goes on", "`project-cluster show api`", "`project-cluster events api -f`", "`project-cluster abort api` goes back"];
    assert!(said.iter().all(|said| left.stdout.contains(said)), "{}", left.stdout);
    cluster.wait_until("the roll ends", SOON, || cluster.generations("api") == [2]);
}

#[test]
fn each_verb_shows_how_far_it_is() {
    let cluster = shop(1, "");
    cluster.program("v1", SLOW);
    cluster.cli(&["stop", "api"]).ok();
    for (words, waits) in [
        (&["start", "api"][..], "start api  [............] 0 of 1 ready"),
        (&["restart", "api"], "restart api  [............] 0 of 1 ready"),
        (&["restart", "api:01"], "restart api  [............] 0 of 1 ready"),
        (&["scale", "api", "2"], "scale api  [............] 0 of 1 ready"),
    ] {
        let shown = on(&cluster, &["=120x24", &format!("?{waits}"), "?starting"], words).exits(0);
        assert!(screen(&shown.stdout).iter().all(|line| !line.contains("...]")), "nothing of the foot stays: {}", shown.stdout);
    }
    // A worker that does not heed SIGTERM is killed after timeout.kill.
    cluster.program("v1", &format!("process.on('SIGTERM', () => {{}}); {HELLO}"));
    cluster.cli(&["reload", "api"]).ok();
    let stop = on(&cluster, &["=120x24", "?0 of 2 stopped", "?ending (timeout.kill 2.0 s)"], &["stop", "api"]).exits(0);
    assert_eq!(screen(&stop.stdout), ["api: stopped", ""], "{}", stop.stdout);
}

#[test]
fn ctrl_c_of_what_systemd_carries_out_says_that_it_goes_on_and_a_second_one_leaves_at_once() {
    let cluster = shop(1, "");
    cluster.program("v1", SLOW);
    cluster.cli(&["stop", "api"]).ok();
    let start = on(&cluster, &["=120x24", "?starting", "<\u{3}"], &["start", "api"]).exits(1);
    assert!(start.stdout.contains("it goes on") && start.stdout.contains("`project-cluster stop api` ends it"), "{}", start.stdout);
    cluster.wait_until("it starts all the same", SOON, || cluster.workers("api").len() == 1);
    cluster.program("v1", &format!("process.on('SIGTERM', () => {{}}); {HELLO}"));
    cluster.cli(&["reload", "api"]).ok();
    let stop = on(&cluster, &["=120x24", "?ending", "<\u{3}"], &["stop", "api"]).exits(1);
    assert!(stop.stdout.contains("it goes on") && !stop.stdout.contains("ends it"), "{}", stop.stdout);
    cluster.wait_until("it stops all the same", SOON, || cluster.workers("api").is_empty());
    // The master hangs: nobody can tell whether an order was taken, and who is in a hurry leaves.
    cluster.cli(&["start", "api"]).ok();
    let master = cluster.main_pid("project-cluster.service").unwrap();
    let stopping = "while systemctl is-active --quiet project-cluster@api; do sleep 0.1; done";
    let hangs = format!("({stopping}; kill -STOP {master}; echo it hangs) & exec project-cluster stop api");
    let steps = ["=120x24", "?it hangs", "<\u{3}", "?how it stands", "<\u{3}"];
    let stop = terminal(&cluster, &steps, &["sh", "-c", &hangs]).wait(3 * SOON);
    cluster.kill(master, "CONT");
    assert_eq!(stop.code, 1, "{}", stop.stdout);
    assert!(stop.stdout.contains("interrupted twice") && stop.stdout.contains("`project-cluster ls`"), "{}", stop.stdout);
}

#[test]
fn what_ends_all_is_asked_for_where_somebody_can_answer() {
    let cluster = cluster(&node(1));
    let stands = || cluster.workers("api").len();
    for (verb, question) in [("stop", "stop all of cluster project-cluster (api)"), ("remove", "remove all of cluster")] {
        let no = on(&cluster, &["=80x24", &format!("?{question}"), "?[y/N] ", "<\n"], &[verb, "all"]).exits(1);
        assert!(no.stdout.contains("nothing was done") && stands() == 1, "{}", no.stdout);
    }
    let no = on(&cluster, &["=80x24", "?[y/N] ", "<nonsense\n"], &["uninstall"]).exits(1);
    assert!(no.stdout.contains("`--yes`") && stands() == 1, "{}", no.stdout);
    on(&cluster, &["=80x24", "?[y/N] ", "<y\n"], &["stop", "all"]).exits(0);
    assert_eq!(stands(), 0);
    // Where stderr, or all that is said, goes elsewhere: the question does not.
    cluster.cli(&["start", "api"]).ok();
    for elsewhere in ["project-cluster uninstall 2>&1 | tee /tmp/log; ! grep -q removed /tmp/log", "project-cluster stop all 2>/tmp/log"] {
        let no = terminal(&cluster, &["=80x24", "?[y/N] ", "<\n"], &["sh", "-c", elsewhere]).wait(3 * SOON);
        assert!(no.stdout.contains("of cluster project-cluster") || no.stdout.contains("stop cluster"), "{}", no.stdout);
        assert_eq!(stands(), 1, "{elsewhere}: {}", no.stdout);
        assert!(cluster.read("/tmp/log").contains("nothing was done"), "{}", cluster.read("/tmp/log"));
    }
    // One app was named; nobody is there; it was said before.
    cluster.cli(&["start", "api"]).ok();
    on(&cluster, &["=80x24"], &["stop", "api"]).exits(0);
    cluster.cli(&["start", "api"]).ok();
    cluster.cli(&["stop", "all"]).ok();
    on(&cluster, &["=80x24"], &["uninstall", "--yes"]).exits(0);
}

#[test]
fn log_lines_of_several_workers_have_a_colour_each_and_none_of_their_own() {
    let cluster = shop(2, "");
    cluster
        .deploy("v2", &format!("console.log('\\x1b[2J\\x1b]0;title\\x07\\u009b31mred\\u202e', process.env.PROJECT_CLUSTER_UID); {HELLO}"));
    cluster.cli(&["reload", "api"]).ok();
    cluster.run(&["journalctl", "--sync"]).ok();
    let shown = on(&cluster, &["=80x24"], &["logs", "api", "--grep", "red"]).exits(0).stdout;
    for said in ["\u{1b}[36mapi:01\u{1b}[0m  red api:01", "\u{1b}[35mapi:02\u{1b}[0m  red api:02"] {
        assert!(shown.contains(said), "{said:?} in {shown:?}");
    }
    assert!(!["\u{1b}[2J", "\u{1b}]", "title", "\u{9b}", "\u{202e}"].iter().any(|hostile| shown.contains(hostile)), "{shown:?}");
    assert!(!cluster.cli(&["logs", "api", "--grep", "red"]).ok().contains('\u{1b}'));
    let json = cluster.cli(&["logs", "api", "--json", "--grep", "red"]).ok();
    assert!(!json.contains(['\u{1b}', '\u{9b}', '\u{202e}']) && json.contains("\\u202e"), "{json:?}");
}

#[test]
fn shells_complete_verbs_apps_and_workers() {
    let cluster = cluster(&node(2));
    let sources = |shell: &str| format!("source <(project-cluster completions {shell})\n");
    // A prompt of our own tells when the shell is ready. What is completed is carried out: `show api:02`.
    let typed = ["<project-cluster --col\tnev\tsho\tap\t:02\t\n", "?api:02  online  generation 1", "<exit\n"];
    let shells: [(&[&str], String); 3] = [
        (&["bash", "--norc", "--noprofile", "-i"], format!("<PS1='ready''> '; {}", sources("bash"))),
        (&["zsh", "-f", "-i"], format!("<PS1='ready''> '; autoload -Uz compinit; compinit -u; {}", sources("zsh"))),
        (
            &["fish", "--no-config", "-i"],
            "<function fish_prompt; echo -n 'ready''> '; end; project-cluster completions fish | source\n".to_owned(),
        ),
    ];
    for (command, setup) in &shells {
        let steps: Vec<&str> = ["=120x24", setup, "?ready> "].into_iter().chain(typed).collect();
        terminal(&cluster, &steps, command).wait(3 * SOON).exits(0);
    }
    // Where nobody answers, verbs are completed and names are not.
    let words = |line: &str| cluster.sh(&format!("project-cluster complete -- project-cluster {line}")).ok();
    assert!(words("--cluster nowhere sto").starts_with("stop") && words("--cluster nowhere stop ap").is_empty());
    assert!(words("start a").contains("api") && words("start a").contains("all") && words("start api:").contains("api:01"));
    assert!(words("reload api --no").contains("--no-wait") && words("--color ne").starts_with("never"));
}
