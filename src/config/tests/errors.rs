//! One case an error: a text, and the code, place and words that it must be told with.

use super::super::load::{MAX_FILE, MAX_FILES};
use super::super::{Problem, Problems, Severity, load};
use super::{Few, load_files, load_text};

/// (the text, code, line, column, a part of message and help)
type Case = (&'static str, &'static str, usize, usize, &'static str);

/// A text of one app that is in order but for what is added.
fn app(rest: &str) -> String {
    format!("[apps.api]\ncommand = \"/bin/app\"\n{rest}\n")
}

fn told(problems: &Problems) -> String {
    let line = |p: &Problem| format!("{:?} {} {}:{} {} | {}\n", p.severity, p.code, p.line, p.column, p.message, p.help);
    problems.list.iter().map(line).collect()
}

/// Each text has exactly this one error.
fn check(cases: &[Case], text: impl Fn(&str) -> String) {
    for (rest, code, line, column, words) in cases {
        let text = text(rest);
        let problems = match load_text(&text) {
            Ok(loaded) => panic!("no error, but {}\nin\n{text}", told(&loaded.warnings)),
            Err(problems) => problems,
        };
        let errors: Vec<&Problem> = problems.list.iter().filter(|problem| problem.severity == Severity::Error).collect();
        let [error] = errors.as_slice() else { panic!("not one error:\n{}in\n{text}", told(&problems)) };
        assert_eq!((error.code, error.line, error.column), (*code, *line, *column), "{}in\n{text}", told(&problems));
        let all = format!("{} | {}", error.message, error.help);
        assert!(all.contains(words), "`{words}` is not in\n{all}\nof\n{text}");
    }
}

#[test]
fn of_the_cluster() {
    check(
        &[
            ("nmae = \"x\"", "unknown-key", 1, 1, "did you mean `name`?"),
            ("[app.api]\ncommand = \"x\"", "unknown-key", 1, 2, "did you mean `apps`?"),
            ("workers = 2", "unknown-key", 1, 1, "belongs into [apps.X]"),
            ("zzzzzzzz = 2", "unknown-key", 1, 1, "known keys are `name`, `api`"),
            ("name = 5", "wrong-type", 1, 8, "found the number 5 | expected string"),
            ("name = \"Shop\"", "bad-cluster-name", 1, 8, "1 to 31 of a-z"),
            ("api = true", "wrong-type", 1, 7, "expected table"),
            ("api.enabled = 1", "wrong-type", 1, 15, "expected true or false"),
            ("[api]\nhost = \"example.org\"", "bad-address", 2, 8, "is not an IP address"),
            ("[api]\nhost = \"127.0.0.1:80\"", "bad-address", 2, 8, "without the port"),
            ("[api]\nauth = \"nobody\"", "bad-choice", 2, 8, "\"token\" or \"none\""),
            ("[api]\nauth = false", "wrong-type", 2, 8, "\"token\" or \"none\""),
            ("[api]\nhost = \"0.0.0.0\"\nauth = \"none\"", "open-door", 3, 8, "only a loopback `host` will do"),
            ("[api]\nauth = \"none\"\nhost = \"192.0.2.1\"", "open-door", 2, 8, "whoever reaches 192.0.2.1"),
            ("[api]\nport = 65536", "out-of-range", 2, 8, "1 to 65535"),
            ("[api]\nport = 0", "out-of-range", 2, 8, "1 to 65535"),
            ("timeout.kill = \"5 sec\"", "bad-duration", 1, 16, "\"5s\" (ms, s, m, h), 1 ms to 1 h"),
            ("timeout.kill = \"2h\"", "out-of-range", 1, 16, "1 ms to 1 h"),
            ("reload.drain = \"2h\"", "out-of-range", 1, 16, "0 to 1 h"),
            ("reload.drain_by = \"me\"", "bad-choice", 1, 19, "\"outside\" or \"self\""),
            ("timeout.kill = -1", "out-of-range", 1, 16, "the number -1 is out of range"),
            ("timeout.kill = 99999999999999999999", "out-of-range", 1, 16, "beyond 64 bits"),
            ("timeout.start = 0", "out-of-range", 1, 17, "1 ms to 24 h"),
            ("timeout.start = 1.5", "wrong-type", 1, 17, "the fraction 1.5"),
            ("reload.max_surge = \"101%\"", "out-of-range", 1, 20, "\"0%\" to \"100%\""),
            ("reload.max_surge = \"1\"", "wrong-type", 1, 20, "number or percentage"),
            ("reload.max_surge = 1025", "out-of-range", 1, 20, "0 to 1024"),
            ("[reload]\nmax_surge = 0", "roll-stuck", 2, 13, "both 0"),
            ("[reload]\nmax_surge = \"0%\"\nmax_unavailable = \"0%\"", "roll-stuck", 2, 13, "max_unavailable = 1"),
            ("[reload]\nmin_ready = \"20m\"", "roll-deadline", 2, 13, "longer than min_ready"),
            ("[reload]\ndeadline = \"1s\"", "roll-deadline", 2, 12, "longer than min_ready"),
            ("[reload]\ncanary = 1", "unknown-key", 2, 1, "known keys are"),
            ("apps = 3", "wrong-type", 1, 8, "table of apps"),
            ("[apps]\napi = 4", "no-command", 2, 1, "app `api` has no command"),
            ("command = \"x\"\n[apps]\napi = true", "wrong-type", 3, 7, "a table such as [apps.api]"),
            ("command = \"x\"\n[apps]\napi = -2", "out-of-range", 3, 7, "0 to 1024; -1 or \"auto\""),
            ("name = \"a\"\nname = \"b\"", "syntax", 2, 1, "duplicate key"),
            ("name = ", "syntax", 1, 8, "not valid TOML"),
            ("é = \"x\"", "syntax", 1, 1, "not valid TOML"),
            ("a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a = 1", "too-deep", 1, 66, "more than 32 deep"),
        ],
        str::to_string,
    );
}

#[test]
fn of_an_apps_name() {
    let long = "x".repeat(65);
    for (name, code, words) in [
        ("all", "reserved-name", "`all` is reserved"),
        ("v1", "reserved-name", "reserved"),
        ("stat", "reserved-name", "reserved"),
        ("healthz", "reserved-name", "reserved"),
        ("metrics", "reserved-name", "reserved"),
        ("relay", "reserved-name", "reserved"),
        ("\"../etc\"", "bad-app-name", "letters, digits"),
        ("\"a b\"", "bad-app-name", "letters, digits"),
        ("\"\"", "bad-app-name", "letters, digits"),
        ("-a", "bad-app-name", "beginning with a letter or digit"),
        (long.as_str(), "bad-app-name", "at most 64 bytes"),
    ] {
        check(&[("", code, 1, 7, words)], |_| format!("[apps.{name}]\ncommand = \"x\"\n"));
    }
    check(&[("", "unknown-key", 3, 9, "in [apps.\"a.b\".sandbox]")], |_| "[apps.\"a.b\"]\ncommand = \"x\"\nsandbox.nets = 1\n".into());
    // A slice's name escapes each dash to four bytes.
    let dashes = format!("a{}", "-".repeat(63));
    check(&[("", "unit-name", 1, 7, "counts four times")], |_| format!("[apps.{dashes}]\ncommand = \"x\"\n"));
}

#[test]
fn of_an_app() {
    check(
        &[
            ("worker = 2", "unknown-key", 3, 1, "unknown key `worker` in [apps.api]"),
            ("worker = 2", "unknown-key", 3, 1, "did you mean `workers`?"),
            ("instances = 2", "unknown-key", 3, 1, "here it is called `workers`"),
            ("kill = 2", "unknown-key", 3, 1, "belongs into [timeout] or [apps.api.timeout]"),
            ("hooks = 2", "unknown-key", 3, 1, "known keys are"),
            ("workers = 1025", "out-of-range", 3, 11, "0 to 1024"),
            ("workers = \"many\"", "wrong-type", 3, 11, "\"auto\""),
            ("cwd = \"srv\"", "bad-path", 3, 7, "`srv` is not an absolute path"),
            ("cwd = \"~/srv\"", "bad-path", 3, 7, "not expanded"),
            ("cwd = \"/a\\u0000\"", "nul-byte", 3, 7, "NUL"),
            ("user = \"nobody-here\"", "no-such-user", 3, 8, "there is no user `nobody-here`"),
            ("user = \"toor\"", "root-by-another-name", 3, 8, "write `root`"),
            ("user = \"broken\"", "lookup-failed", 3, 8, "does not answer"),
            ("user = \"project-cluster\"", "user-is-master", 3, 8, "the master's own user"),
            ("user = \"shop\"\ngroup = \"no-group\"", "no-such-group", 4, 9, "there is no group `no-group`"),
            ("group = \"www-data\"", "group-without-user", 3, 9, "write `user` too"),
            ("env = { \"\" = \"x\" }", "bad-env-name", 3, 9, "not empty"),
            ("env = { \"A=B\" = \"x\" }", "bad-env-name", 3, 9, "neither `=`"),
            ("env = { LISTEN_FDS = 1 }", "reserved-env", 3, 9, "`LISTEN_FDS` is set for each worker"),
            ("env = { PROJECT_CLUSTER_X = 1 }", "reserved-env", 3, 9, "drop it"),
            ("env = { A = \"\\u0000\" }", "nul-byte", 3, 13, "NUL"),
            ("env = { A = 1.5 }", "wrong-type", 3, 13, "string, number or true/false"),
            ("env = [\"A=1\"]", "wrong-type", 3, 7, "found an array"),
            ("on_demand = true", "on-demand-without-listen", 3, 1, "write the address as `listen`"),
            ("success_exit_codes = [1, 256]", "out-of-range", 3, 26, "0 to 255"),
            ("success_exit_codes = 1", "wrong-type", 3, 22, "array of numbers"),
            ("swap = \"no\"", "wrong-type", 3, 8, "true or false"),
            ("sandbox.home = 0", "wrong-type", 3, 16, "true or false"),
            ("sandbox.network = true", "unknown-key", 3, 9, "known keys are"),
            ("reload.max_surge = 0", "roll-stuck", 3, 20, "both 0"),
            ("workers = 4\nreload = { max_surge = 0, max_unavailable = \"20%\" }", "roll-stuck", 4, 24, "rounded down to 0"),
        ],
        app,
    );
}

#[test]
fn of_a_command() {
    check(
        &[
            ("command = \"\"", "empty-command", 2, 11, "names no program"),
            ("command = \"  \"", "empty-command", 2, 11, "names no program"),
            ("command = []", "empty-command", 2, 11, "names no program"),
            ("command = [\"\", \"x\"]", "empty-command", 2, 11, "names no program"),
            ("command = [\"a\", 5]", "wrong-type", 2, 17, "expected string"),
            ("command = 5", "wrong-type", 2, 11, "string or array of strings"),
            ("command = \"node 'x\"", "bad-command", 2, 11, "never closed"),
            ("command = \"./run\"", "relative-command", 2, 11, "`./run` is relative, and no `cwd`"),
            ("command = [\"bin/run\"]", "relative-command", 2, 11, "write `cwd`"),
            ("command = \"a \\u0000\"", "nul-byte", 2, 11, "NUL"),
            ("command = \"/a\"\nready = { exec = \"\" }", "empty-command", 3, 18, "`exec` names no program"),
            ("command = \"/a\"\nready = { exec = \"./probe\" }", "relative-command", 3, 18, "no `cwd`"),
        ],
        |rest| format!("[apps.api]\n{rest}\n"),
    );
    check(&[("", "command-too-large", 2, 11, "128 KiB")], |_| format!("[apps.api]\ncommand = \"/a {}\"\n", "x".repeat(131_072)));
    check(&[("", "command-too-large", 2, 11, "1 MiB")], |_| {
        let env: String = (0..10).map(|at| format!("A{at} = \"{}\"\n", "x".repeat(100_000))).collect();
        format!("[apps.api]\ncommand = [\"/a\"{}]\n[apps.api.env]\n{env}", ", \"\"".repeat(9000))
    });
    // A shared command is told once.
    check(&[("command = \"./run\"\n[apps]\na = 1\nb = 2\n", "relative-command", 1, 11, "no `cwd`")], str::to_string);
}

#[test]
fn of_listen() {
    check(
        &[
            ("listen = \"localhost\"", "bad-address", 3, 10, "`localhost` is no address to listen on"),
            ("listen = \"run/x.sock\"", "bad-address", 3, 10, "an absolute path"),
            ("listen = [3000, \"udp://0.0.0.0:53\"]", "udp", 3, 17, "UDP is not supported"),
            ("listen = 0", "out-of-range", 3, 10, "1 to 65535"),
            ("listen = [3000, 70000]", "out-of-range", 3, 17, "1 to 65535"),
            ("listen = true", "wrong-type", 3, 10, "an absolute path"),
            ("listen = {}", "bad-address", 3, 10, "no address"),
            ("listen = { path = \"x.sock\" }", "bad-address", 3, 19, "not an absolute path"),
            ("listen = { path = \"3000\" }", "bad-address", 3, 19, "a TCP address is written as `address`"),
            ("listen = { path = \"/a\", address = 1 }", "bad-address", 3, 25, "in one table"),
            ("listen = { address = 3000, mode = \"0600\" }", "not-for-tcp", 3, 28, "unix sockets"),
            ("listen = { path = \"/a\", mode = 660 }", "bad-mode", 3, 32, "in quotes"),
            ("listen = { path = \"/a\", mode = \"0888\" }", "bad-mode", 3, 32, "octal"),
            ("listen = { path = \"/a\", mode = \"4777\" }", "bad-mode", 3, 32, "octal"),
            ("listen = { path = \"/a\", owner = \"ghost\" }", "no-such-user", 3, 33, "`ghost`"),
            ("listen = { path = \"/a\", group = \"ghost\" }", "no-such-group", 3, 33, "`ghost`"),
            ("listen = { path = \"/a\", backlog = 0 }", "out-of-range", 3, 35, "1 to 65535"),
            ("listen = { path = \"/a\", mod = \"0660\" }", "unknown-key", 3, 25, "did you mean `mode`?"),
            ("listen = [3000, \"127.0.0.1:3000\"]", "address-taken", 3, 17, "overlaps with `[::]:3000`, app `api`'s"),
            ("listen = [\"/a\", \"/a\"]", "address-taken", 3, 17, "is already app `api`'s"),
            ("listen = 8887", "address-taken", 3, 10, "the REST API's own"),
            ("listen = \"/run/project-cluster/api.sock\"", "address-taken", 3, 10, "the REST API's own"),
            ("listen = \"/run/project-cluster-api/x\"", "bad-address", 3, 10, "outside /run/project-cluster-*"),
            ("listen = 9000\n[api]\nport = 9000", "address-taken", 3, 10, "the REST API's own"),
            ("listen = 3000\n[apps.b]\ncommand = \"b\"\nlisten = \"[::1]:3000\"", "address-taken", 6, 10, "app `api`'s"),
        ],
        app,
    );
    let many = (0..33).map(|at| (4000 + at).to_string()).collect::<Vec<_>>().join(", ");
    check(&[("", "too-many", 3, 10, "at most 32")], |_| app(&format!("listen = [{many}]")));
}

#[test]
fn of_ports_and_readiness() {
    check(
        &[
            ("spawn = \"fork\"", "bad-choice", 3, 9, "\"cluster\" or \"child\""),
            ("spawn = 1", "wrong-type", 3, 9, "\"child\""),
            ("port = 4000", "port-without-child", 3, 1, "write `listen`"),
            ("spawn = \"child\"\nlisten = 3000", "child-with-listen", 4, 1, "shares nothing"),
            ("spawn = \"child\"\nports = \"1-2\"", "ports-without-port", 4, 1, "write `port`"),
            ("spawn = \"child\"\nport = 4000", "too-few-ports", 4, 8, "write ports = \"4001-4001\", or max_surge = 0"),
            (
                "spawn = \"child\"\nport = 4000\nworkers = 4\nports = \"4100-4101\"\nreload.max_surge = 3",
                "too-few-ports",
                6,
                9,
                "needs 3 more ports",
            ),
            ("spawn = \"child\"\nport = 65535\nworkers = 2\nports = [1, 2]", "out-of-range", 4, 8, "beyond 65535"),
            ("spawn = \"child\"\nport = 4000\nworkers = 4\nports = \"4003-4010\"", "address-taken", 6, 9, "overlaps with ports 4000-4003"),
            ("spawn = \"child\"\nport = 8880\nworkers = 10\nports = \"1-2\"", "address-taken", 4, 8, "overlaps with `127.0.0.1:8887`"),
            ("spawn = \"child\"\nport = 4000\nports = \"9-8\"", "bad-ports", 5, 9, "\"FIRST-LAST\" or [first, last]"),
            ("spawn = \"child\"\nport = 4000\nports = \"+1-2\"", "bad-ports", 5, 9, "not a range"),
            ("spawn = \"child\"\nport = 4000\nports = [1]", "bad-ports", 5, 9, "not a range"),
            ("spawn = \"child\"\nport = 4000\nports = \"1-1025\"", "bad-ports", 5, 9, "at most 1024 ports"),
            ("spawn = \"child\"\nport = 4000\nports = [0, 5]", "out-of-range", 5, 10, "1 to 65535"),
            ("spawn = \"child\"\nport = 4000\nports = [1, 2]\nenv.PORT = 1", "reserved-env", 6, 5, "`PORT` is each worker's own"),
            (
                "listen = 4000\n[apps.z]\ncommand = \"z\"\nspawn = \"child\"\nport = 4000\nports = [1, 2]",
                "address-taken",
                7,
                8,
                "port 4000 overlaps with `[::]:4000`, app `api`'s",
            ),
            ("ready = \"listen\"", "ready-without-sockets", 3, 9, "\"none\""),
            ("listen = []\nready = \"listen\"", "ready-without-sockets", 4, 9, "\"none\""),
            ("ready = \"tcp\"", "bad-choice", 3, 9, "\"notify\""),
            ("ready = 1", "wrong-type", 3, 9, "\"notify\""),
            ("ready = {}", "bad-ready", 3, 9, "no probe"),
            ("listen = 3000\nready = { http = \"/\" }", "ready-without-port", 4, 18, "a port of their own"),
            ("ready = { http = \"/\", exec = \"a\" }", "bad-ready", 3, 23, "write one of them"),
            ("spawn = \"child\"\nport = 4000\nports = [1, 2]\nready = { http = \"health\" }", "bad-ready", 6, 18, "begins with /"),
            ("spawn = \"child\"\nport = 4000\nports = [1, 2]\nready = { http = \"/a b\" }", "bad-ready", 6, 18, "no space"),
            ("listen = 3000\nsandbox.users = true", "users-hide-ready", 4, 17, "never be ready"),
        ],
        app,
    );
}

#[test]
fn of_directives() {
    check(
        &[
            ("systemd.ExecStart = \"x\"", "directive-refused", 3, 9, "use `command`"),
            ("systemd.execstartpre = \"x\"", "directive-refused", 3, 9, "use `command`"),
            ("systemd.Type = \"simple\"", "directive-refused", 3, 9, "use `ready`"),
            ("systemd.Sockets = \"x\"", "directive-refused", 3, 9, "use `listen`"),
            ("systemd.User = \"x\"", "directive-refused", 3, 9, "use `user`"),
            ("systemd.DynamicUser = false", "directive-refused", 3, 9, "leave `user` out"),
            ("systemd.Restart = \"no\"", "directive-refused", 3, 9, "`timeout.restart`"),
            ("systemd.PrivateUsers = true", "directive-refused", 3, 9, "`users` in [apps.X.sandbox]"),
            ("systemd.After = \"x\"", "directive-refused", 3, 9, "belongs into [Unit]"),
            ("systemd.ConditionPathExists = \"x\"", "directive-refused", 3, 9, "belongs into [Unit]"),
            ("systemd.Nice = \"1\\nExecStart=/x\"", "bad-directive", 3, 16, "more than one line"),
            ("systemd.Nice = \"1\\\\\"", "bad-directive", 3, 16, "backslash"),
            ("systemd.Nice = [\"1\", \"2\\r\"]", "bad-directive", 3, 16, "control character"),
            ("systemd.\"Nice=1\\nUser\" = \"x\"", "bad-directive", 3, 9, "letters and digits"),
            ("systemd.Nice = 1.5", "wrong-type", 3, 16, "array of strings"),
            ("limits.MemoryMx = \"1G\"", "directive-refused", 3, 8, "did you mean `MemoryMax`?"),
            ("limits.Nice = 5", "directive-refused", 3, 8, "systemd.resource-control(5)"),
        ],
        app,
    );
}

#[test]
fn of_generated_users() {
    for (app, words) in [("taken", "there is an account"), ("grouped", "there is a group")] {
        let text = format!("[apps.{app}]\ncommand = \"x\"\n");
        let problems = load_text(&text).unwrap_err();
        assert_eq!((problems.list[0].code, problems.list[0].line, problems.list[0].column), ("user-collides", 1, 7));
        assert!(problems.list[0].message.contains(words), "{}", problems.list[0].message);
        assert!(load_text(&format!("{text}user = \"shop\"\n")).is_ok());
    }
    // A worker that runs must not make the next `check` fail.
    assert!(load_text("[apps.running]\ncommand = \"x\"\n").is_ok());
}

#[test]
fn of_files() {
    let main = b"[apps.api]\ncommand = \"x\"\n[apps.api.env]\nA = 1\n".as_slice();
    let one = |files: &[(&str, &[u8])]| {
        let problems = load_files(files).unwrap_err();
        assert_eq!(problems.list.len(), 1, "{}", told(&problems));
        problems.list[0].clone()
    };
    let twice = one(&[("cluster.toml", main), ("a.toml", b"\n[apps.api.env]\nB = 2\nA = 2\n")]);
    assert_eq!((twice.code, twice.file.as_str(), twice.line, twice.column), ("duplicate-key", "conf.d/a.toml", 4, 1));
    assert!(twice.message.contains("`apps.api.env.A` is written in two files"));
    let first = &twice.related[0];
    assert_eq!((first.file.as_str(), first.line, first.column), ("cluster.toml", 4, 1));
    // A table in braces is closed, and a table is no value.
    assert_eq!(one(&[("cluster.toml", main), ("a.toml", b"apps.api = { env = { B = 1 } }")]).code, "duplicate-key");
    assert_eq!(one(&[("cluster.toml", main), ("a.toml", b"[apps]\napi = 4")]).code, "duplicate-key");

    let bad = one(&[("cluster.toml", b"# gr\xc3\xbc\xc3\x9fe\nname = \"\xff\"\n")]);
    assert_eq!((bad.code, bad.line, bad.column, bad.span.start), ("not-utf8", 2, 9, 18));
    assert!(bad.message.contains("offset 18"), "{}", bad.message);

    let large = vec![b'#'; usize::try_from(MAX_FILE).unwrap() + 1];
    assert_eq!(one(&[("cluster.toml", &large)]).code, "too-large");
    assert_eq!(load_files(&[("cluster.toml", &large[1..])]).unwrap().warnings.list[0].code, "no-apps");

    // A syntax error in one file hides nothing of another.
    let problems = load_files(&[("cluster.toml", b"nam = 1\n"), ("a.toml", b"[apps\n")]).unwrap_err();
    let codes: Vec<_> = problems.list.iter().map(|problem| problem.code).collect();
    assert_eq!(codes, ["unknown-key", "syntax"]);
}

#[test]
fn of_what_is_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cluster.toml");
    let code = || {
        let problems = load(&path, &Few).unwrap_err();
        (problems.list[0].code, problems.list[0].message.clone(), problems.list[0].help.clone())
    };
    let (unreadable, _, help) = code();
    assert_eq!(unreadable, "unreadable");
    assert!(help.contains("project-cluster init"), "{help}");
    std::fs::create_dir(&path).unwrap();
    assert!(code().1.contains("not a regular file"));
    std::fs::remove_dir(&path).unwrap();
    // Nobody writes to this pipe; opening it must not wait.
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    assert!(code().1.contains("not a regular file"));
    std::fs::remove_file(&path).unwrap();

    std::fs::write(&path, "").unwrap();
    let fragments = directory.path().join("conf.d");
    std::fs::write(&fragments, "").unwrap();
    assert_eq!(code().0, "unreadable");
    std::fs::remove_file(&fragments).unwrap();
    std::fs::create_dir(&fragments).unwrap();
    for at in 0..=MAX_FILES {
        std::fs::write(fragments.join(format!("{at}.toml")), "").unwrap();
    }
    assert_eq!(code().0, "too-many");
}

#[test]
fn warnings() {
    let told_of_api = |more: &str| told(&load_text(&format!("[api]\n{more}\n[apps.api]\ncommand = \"app\"\n")).unwrap().warnings);
    for fine in ["port = 9000", "auth = \"none\"", "host = \"::1\"\nauth = \"none\"", "enabled = false\nhost = \"0.0.0.0\""] {
        assert_eq!(told_of_api(fine), "");
    }
    assert!(told_of_api("host = \"0.0.0.0\"").contains("the token travels to 0.0.0.0 unencrypted"));
    for (rest, code, line, column, words) in [
        ("command = \"npm start\"", "wrapper", 2, 11, "node FILE"),
        ("command = \"npm run serve\"", "wrapper", 2, 11, "swallows SIGTERM"),
        ("command = [\"/usr/bin/yarn\", \"start\"]", "wrapper", 2, 11, "swallows SIGTERM"),
        ("command = \"pnpm dev\"", "wrapper", 2, 11, "swallows SIGTERM"),
        ("command = ['sh', '-c', 'a && b']", "shell-without-exec", 2, 11, "write `exec`"),
        ("command = ['bash', '-lc', 'node a']", "shell-without-exec", 2, 11, "write `exec`"),
        ("command = \"/bin/app | tee log\"", "no-shell", 2, 11, "`|` reaches the program as it is"),
        ("command = \"/bin/app $PORT\"", "no-shell", 2, 11, "variables as `env`"),
        ("command = \"/srv/{type}\"", "type-not-replaced", 2, 11, "write `api`"),
        ("command = \"PORT=1 app\"", "env-in-command", 2, 11, "env = { NAME"),
        ("command = \"node server.js\"", "no-cwd", 2, 11, "write `cwd`"),
        ("command = \"/home/me/app\"", "hidden-home", 2, 11, "`home = false` in [apps.X.sandbox]"),
        ("command = \"app\"\ncwd = \"/root\"", "hidden-home", 3, 7, "`home = false`"),
        ("command = \"node /tmp/x.js\"", "hidden-tmp", 2, 11, "write `user` and"),
        ("command = \"app\"\ncwd = \"/var/tmp/x\"\nuser = \"shop\"", "hidden-tmp", 3, 7, "write `tmp = false`"),
        ("command = \"app\"\nuser = \"root\"", "runs-as-root", 3, 8, "leave `user` out"),
        ("command = \"app\"\nlisten = 80\nsandbox.privileges = false", "swap-privileges", 4, 22, "swap = false"),
    ] {
        let text = format!("[apps.api]\n{rest}\n");
        let loaded = load_text(&text).unwrap_or_else(|problems| panic!("{problems}"));
        let [warning] = loaded.warnings.list.as_slice() else { panic!("{}in\n{text}", told(&loaded.warnings)) };
        assert_eq!((warning.code, warning.line, warning.column), (code, line, column), "{text}");
        assert!(format!("{} {}", warning.message, warning.help).contains(words), "{}", told(&loaded.warnings));
    }
    for rest in [
        "command = \"npm-check\"",
        "command = ['sh', '-c', 'a && exec b']",
        "command = \"node server.js\"\ncwd = \"/srv/x\"",
        "command = \"/homes/app /tmpfs/x\"",
        "command = \"app\"\ncwd = \"/home/x\"\nsandbox.home = false",
        "command = \"app\"\ncwd = \"/tmp/x\"\nuser = \"shop\"\nsandbox.tmp = false",
        "command = ['app', '$PORT', '|', '*']",
        "command = \"app '$PORT' \\\"a|b\\\"\"",
    ] {
        let loaded = load_text(&format!("[apps.api]\n{rest}\n")).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(told(&loaded.warnings), "", "{rest}");
    }
}
