//! The load generator: that it hides nothing.

use std::time::Duration;

use super::support::Sandbox;
use super::support::http::Failure;

/// A server that misbehaves by path, and counts what it was asked.
const RUDE: &str = r#"
import socket, struct, threading, time
asked = 0
def serve(client):
    global asked
    head = b""
    while b"\r\n\r\n" not in head:
        more = client.recv(4096)
        if not more: return client.close()
        head += more
    path = head.split()[1]
    if path == b"/asked":
        body = b"%d" % asked
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        return client.close()
    asked += 1
    if path == b"/half": client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    elif path == b"/none": pass
    elif path == b"/500": client.sendall(b"HTTP/1.1 500 Oh\r\nContent-Length: 3\r\n\r\noh\n")
    elif path == b"/reset": client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif path == b"/slow": time.sleep(5)
    elif path == b"/chunked": client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nv1 \r\n2\r\n42\r\n0\r\n\r\n")
    elif path == b"/unchunked": client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nv1 \r\n")
    else: client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nv1 42")
    client.close()
server = socket.create_server(("127.0.0.1", 3000), backlog=128)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"#;

fn rude() -> Sandbox {
    let sandbox = Sandbox::start();
    sandbox.write("/srv/rude.py", RUDE);
    sandbox.sh("systemd-run -q -u rude python3 /srv/rude.py").ok();
    sandbox.wait_for_http("127.0.0.1:3000");
    sandbox
}

#[test]
fn each_failure_has_its_kind() {
    let sandbox = rude();
    let get = |path: &str| sandbox.get("127.0.0.1:3000", path).map(|response| (response.status, response.body));
    assert_eq!(get("/"), Ok((200, "v1 42".into())));
    assert_eq!(get("/chunked"), Ok((200, "v1 42".into())));
    assert_eq!(get("/half"), Err(Failure::Eof));
    assert_eq!(get("/none"), Err(Failure::Eof));
    assert_eq!(get("/unchunked"), Err(Failure::Eof));
    assert_eq!(get("/reset"), Err(Failure::Reset));
    assert_eq!(get("/500"), Ok((500, "oh\n".into())));
    assert_eq!(sandbox.get("127.0.0.1:3001", "/").map(|response| response.body), Err(Failure::Refused));
    for (path, kind) in [("/half", "eof"), ("/reset", "reset"), ("/500", "status"), ("/slow", "timeout")] {
        let load = sandbox.load("127.0.0.1:3000").path(path).connections(2).timeout(Duration::from_millis(100)).start();
        super::support::wait_until("some fail", Duration::from_secs(10), || load.so_far().failed() >= 4);
        let report = load.stop();
        assert_eq!((report.ok, report.failed_by_kind.keys().copied().collect::<Vec<_>>()), (0, vec![kind]), "{report}");
        assert_eq!(report.sent, report.failed());
    }
    let report = {
        let load = sandbox.load("127.0.0.1:3000").expect(|body| body == "v2 42").start();
        super::support::wait_until("some fail", Duration::from_secs(10), || load.so_far().failed() >= 4);
        load.stop()
    };
    assert_eq!((report.ok, report.samples[0].1.clone()), (0, Failure::Body("v1 42".into())));
}

#[test]
fn it_counts_what_the_server_counts() {
    let sandbox = rude();
    let asked = || sandbox.get("127.0.0.1:3000", "/asked").unwrap().body.parse::<u64>().unwrap();
    let before = asked();
    let load = sandbox.load("127.0.0.1:3000").connections(8).start();
    load.wait_for_answers(500);
    let report = load.stop();
    report.none_failed(500);
    assert_eq!(report.sent, asked() - before);
    assert_eq!(report.connections, report.sent);
    assert_eq!((report.versions()["v1"], report.pids()["42"]), (report.ok, report.ok));
}

#[test]
fn a_dying_server_fails_requests_and_a_new_one_answers_again() {
    let sandbox = Sandbox::start();
    let start = |version: &str| sandbox.sh(&format!("systemd-run -q -u hello -E VERSION={version} node /srv/apps/hello.js 3000")).ok();
    start("v1");
    sandbox.wait_for_http("127.0.0.1:3000");
    let load = sandbox.load("127.0.0.1:3000").connections(8).start();
    load.wait_for_answers(200);
    sandbox.systemctl(&["stop", "hello"]).ok();
    start("v2");
    load.wait_for_body("v2 ");
    load.wait_for_answers(100);
    let report = load.stop();
    assert!(report.failed_by_kind["refused"] > 0, "{report}");
    assert_eq!(report.sent, report.ok + report.failed());
    assert_eq!(report.versions().keys().collect::<Vec<_>>(), ["v1", "v2"]);
    assert!(report.to_string().contains(" by v2, "), "{report}");
}

#[test]
fn kept_connections_are_kept() {
    let sandbox = Sandbox::start();
    sandbox.sh("systemd-run -q -u tcp node /srv/apps/hello.js 3000; systemd-run -q -u unix node /srv/apps/hello.js /run/hello.sock").ok();
    for address in ["127.0.0.1:3000", "[::1]:3000", "/run/hello.sock"] {
        sandbox.wait_for_http(address);
        let load = sandbox.load(address).connections(4).keep_alive().start();
        load.wait_for_answers(200);
        let report = load.stop();
        report.none_failed(200);
        assert_eq!(report.connections, 4, "{address}: {report}");
    }
}
