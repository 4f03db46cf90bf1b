//! How problems look to people and to editors.

use super::{load_files, load_text};

/// The lines without blanks at their ends.
fn trimmed(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

const MAIN: &str = r#"name = "shop"

[apps.api]
workers = 2000
comand = "node api.js"
command = "/srv/api/run"
listen = [3000, "udp://0.0.0.0:53"]

[apps.bg]
command = "npm start"
cwd = "/srv/bg"
listen = 3000
"#;

const MORE: &str = "[apps.bg]\n  # größer\n\tcwd = \"/srv/other\"\n";

const SHOWN: &str = r#"
out-of-range

  × the number 2000 is out of range
   ╭─[cluster.toml:4:11]
 4 │ workers = 2000
   ·           ────
   ╰────
  help: expected number or "auto": 0 to 1024; -1 or "auto": one per core

unknown-key

  × unknown key `comand` in [apps.api]
   ╭─[cluster.toml:5:1]
 5 │ comand = "node api.js"
   · ──────
   ╰────
  help: did you mean `command`?

udp

  × `udp://0.0.0.0:53` is UDP
   ╭─[cluster.toml:7:17]
 7 │ listen = [3000, "udp://0.0.0.0:53"]
   ·                 ──────────────────
   ╰────
  help: UDP is not supported: systemd can hold the socket, but a rolling reload of datagram workers has no drain;
        `0.0.0.0:53` would be TCP

wrapper

  ⚠ `npm` stands between systemd and the app and swallows SIGTERM
    ╭─[cluster.toml:10:11]
 10 │ command = "npm start"
    ·           ───────────
    ╰────
  help: write the program itself: "node FILE" (what the script in package.json runs)

address-taken

  × `[::]:3000` is already app `api`'s
    ╭─[cluster.toml:12:10]
 12 │ listen = 3000
    ·          ────
    ╰────
  help: write another port or path here or there

Advice:
  ☞ taken here
   ╭─[cluster.toml:7:11]
 7 │ listen = [3000, "udp://0.0.0.0:53"]
   ·           ────
   ╰────

duplicate-key

  × `apps.bg.cwd` is written in two files
   ╭─[conf.d/10-bg.toml:3:2]
 3 │  cwd = "/srv/other"
   ·  ───
   ╰────
  help: keep one of them; tables may be spread over files, a single key may not

Advice:
  ☞ first written here
    ╭─[cluster.toml:11:1]
 11 │ cwd = "/srv/bg"
    · ───
    ╰────

5 errors, 1 warning
"#;

#[test]
fn many_problems_at_once_as_a_person_sees_them() {
    let problems = load_files(&[("cluster.toml", MAIN.as_bytes()), ("10-bg.toml", MORE.as_bytes())]).unwrap_err();
    let shown = trimmed(&problems.to_string());
    assert_eq!(shown, &SHOWN[1..], "\n{shown}");
    assert!(problems.render(true).contains("\u{1b}["));
    // On a narrow terminal the words break, and the lines of the configuration stay as they are.
    let narrow = problems.render_within(false, 60);
    let words = narrow.lines().filter(|line| !line.contains(['│', '╭', '╰', '·']));
    assert!(narrow != problems.render(false) && words.clone().all(|line| line.chars().count() <= 60), "{narrow}");
}

#[test]
fn problems_as_an_editor_reads_them() {
    let problems = load_files(&[("cluster.toml", MAIN.as_bytes()), ("10-bg.toml", MORE.as_bytes())]).unwrap_err();
    let json = problems.to_json();
    assert_eq!(
        json[1],
        serde_json::json!({
            "code": "unknown-key", "severity": "error", "message": "unknown key `comand` in [apps.api]",
            "help": "did you mean `command`?", "file": "cluster.toml", "line": 5, "column": 1,
            "span": { "start": 41, "end": 47 }, "related": []
        })
    );
    assert_eq!(&MAIN[41..47], "comand");
    assert_eq!(json[3]["severity"], "warning");
    assert_eq!(
        json[5]["related"],
        serde_json::json!([{
            "message": "first written here", "file": "cluster.toml", "line": 11, "column": 1, "span": { "start": 158, "end": 161 }
        }])
    );
    assert_eq!(&MAIN[158..161], "cwd");
}

/// Neither the text of a file nor its name moves anybody's cursor.
#[test]
fn nothing_of_a_file_reaches_the_terminal_as_a_command() {
    let evil = "[apps.\"\\u001b[2J\\u202e\"]\n\"\\u009b31m\" = 1\n\u{202e}= 1 # \u{1b}]0;owned\u{7}\u{9b}2J\r\u{0}\n";
    let texts = [evil.to_string(), "cwd = \"\u{1b}[2J\"\n".into(), "\"k\\u001b[2J\" = \"\u{202e}\u{2066}\u{200f}\"".into()];
    for text in texts {
        for name in ["cluster.toml", "e\u{1b}[2J\u{202e}vil.toml"] {
            let shown = load_files(&[(name, text.as_bytes())]).unwrap_err().to_string();
            let bad = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{2066}' | '\u{200f}');
            assert!(!shown.contains(bad), "{shown:?}");
        }
    }
}

#[test]
fn long_lines_and_many_problems_stay_readable() {
    let text = format!("x = [{}\"\", {}]\nname = \"{}\"\n", "1, ".repeat(30_000), "2, ".repeat(30_000), "n".repeat(100_000));
    let shown = load_text(&text).unwrap_err().to_string();
    assert!(shown.len() < 2000, "{}", shown.len());
    assert!(shown.contains("nnnn…"), "{shown}");

    let text: String = (0..20_000).map(|at| format!("key{at} = 1\n")).collect();
    let problems = load_text(&format!("{text}[apps]\n")).unwrap_err();
    assert_eq!((problems.list.len(), problems.more), (1000, 19_000));
    let shown = problems.to_string();
    assert!(shown.ends_with("and 19950 more\n20000 errors, 0 warnings\n"), "{}", &shown[shown.len() - 200..]);
    // The caret far to the right of a long line is shown where it belongs.
    let text = format!("env = {{ {}, B = 1.5 }}", "A = \"ü\"".replace('A', &"A".repeat(500)));
    let shown = load_text(&format!("apps.x = {{ command = \"/a\", {text} }}")).unwrap_err().to_string();
    assert!(shown.contains("= 1.5 } }"), "{shown}");
}
