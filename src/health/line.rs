//! The one line of a crash that says most: where there is room for one.

/// Words by which runtimes begin the line that names the error (Node, Python, Java; Go, Rust; most servers).
const WORDS: [&str; 4] = ["error", "exception", "panic", "fatal"];

/// The line to show of what a process wrote last: the last one that names an error and is no line of its stack, else the
/// last one. (Node ends with its version, Go and Rust with stacks and hints.)
pub fn telling(lines: &[String]) -> Option<&str> {
    let names_error = |line: &&String| {
        let lower = line.to_lowercase();
        !line.starts_with([' ', '\t']) && WORDS.iter().any(|word| lower.contains(word))
    };
    lines.iter().rev().find(names_error).or(lines.last()).map(|line| line.trim())
}

#[cfg(test)]
mod tests {
    use super::telling;

    #[test]
    fn the_line_that_names_the_error() {
        let table = [
            (
                "/srv/app.js:1\nthrow new Error('boom')\n^\n\nError: boom\n    at Object.<anonymous> (/srv/app.js:1:7)\n\nNode.js v18.19.0",
                "Error: boom",
            ),
            ("Traceback (most recent call last):\n  File \"a.py\", line 1\nValueError: boom", "ValueError: boom"),
            ("panic: boom\n\ngoroutine 1 [running]:\nmain.main()\n\t/srv/main.go:4 +0x1d", "panic: boom"),
            (
                "thread 'main' panicked at src/main.rs:2:5:\nboom\nnote: run with `RUST_BACKTRACE=1`",
                "thread 'main' panicked at src/main.rs:2:5:",
            ),
            (
                "Exception in thread \"main\" java.lang.IllegalStateException: boom\n\tat A.main(A.java:3)",
                "Exception in thread \"main\" java.lang.IllegalStateException: boom",
            ),
            ("starting\ncannot open /srv/db", "cannot open /srv/db"),
        ];
        for (text, expected) in table {
            let lines: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(String::from).collect();
            assert_eq!(telling(&lines), Some(expected));
        }
        assert_eq!(telling(&[]), None);
    }
}
