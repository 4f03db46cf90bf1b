//! What a compromised master answers to root's command line.

use std::time::Duration;

use super::Tries;
use crate::cluster::{SOON, app, cluster};

/// Answers each request with what lies in /srv/answer, `endless` with bytes for ever.
const LIAR: &str = r#"
import os, socket, threading
path = '/run/project-cluster/api.sock'
if os.path.exists(path): os.unlink(path)
server = socket.socket(socket.AF_UNIX)
server.bind(path); server.listen(64)
print('listens', flush=True)
def answer(client):
    try:
        client.recv(65536)
        body = open('/srv/answer', 'rb').read()
        head = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n'
        if body == b'endless':
            client.sendall(head + b'\r\n[')
            while True: client.sendall(b'0,' * 32768)
        if body == b'silent':
            client.recv(1)
        client.sendall(head + b'Content-Length: %d\r\nConnection: close\r\n\r\n' % len(body) + body)
    except OSError: pass
    finally: client.close()
while True:
    threading.Thread(target=answer, args=server.accept()[:1], daemon=True).start()
"#;

#[test]
fn root_s_command_line_takes_a_lying_master_for_what_it_is() {
    let cluster = cluster(&app("api", 1, "node /srv/apps/worker.js", "ready = \"none\""));
    let true_answer = cluster.sh("curl -sS --unix-socket /run/project-cluster/api.sock http://localhost/v1/workers").ok();
    assert!(true_answer.contains("\"api:01\""), "{true_answer}");
    cluster.systemctl(&["stop", "project-cluster.service", "project-cluster.socket"]).ok();
    let liar = cluster.spawn(&["python3", "-c", LIAR]);
    cluster.wait_until("it listens", SOON, || liar.stdout().contains("listens"));
    let mut by = Tries::by("what a compromised master answers");
    let raw = |text: &str| text.chars().any(|ch| ch.is_control() && !matches!(ch, '\n' | '\t' | '\r'));
    let escapes = true_answer.replace("online", "\\u001b]0;owned\\u0007\\u001b[2Jonline").replace("api:01", "api:01\\u001b[31m");
    let rows = [
        ("names and states with escape sequences for root's terminal", escapes, "shown as text, or refused"),
        ("JSON of another shape", "{\"a\": [1, 2".into(), "exit 1 or 3, with a message"),
        (
            "numbers beyond all bounds",
            true_answer.replace("\"generation\":1", "\"generation\":99999999999999999999999"),
            "exit 1 or 3, with a message",
        ),
        ("an answer without an end", "endless".into(), "read up to a bound; exit 1 or 3, with a message"),
    ];
    for (what, answer, happens) in rows {
        cluster.write("/srv/answer", &answer);
        // Its memory is bounded, so that what it would gather of an endless answer shows.
        let ends: Vec<_> = [&["ls"][..], &["show", "api"], &["reset", "api"]]
            .into_iter()
            .map(|command| {
                let bounded = [&["sh", "-c", "ulimit -v 400000; exec project-cluster \"$@\"", "sh"][..], command].concat();
                cluster.run_within(Duration::from_secs(50), &bounded)
            })
            .collect();
        let holds = ends.iter().all(|end| {
            let text = format!("{}{}", end.stdout, end.stderr);
            !raw(&text)
                && (end.success() || ([1, 3].contains(&end.code) && !end.stderr.trim().is_empty() && !end.stderr.contains("panicked")))
        });
        let failed = ends.iter().any(|end| !end.success()) || what.contains("escape");
        by.row(what, happens, holds && failed, ends);
    }
    by.end();
}
