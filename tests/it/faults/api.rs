//! What clients of the API do in a roll.

use super::super::cluster::SOON;
use super::stage::{ALL_NEW, HANDLE, Lost, stage};

/// A thousand connections that say nothing, to both listeners; those that the limit lets in are held.
const IDLE: &str = "
import socket, time
held = []
for index in range(1000):
    tcp = index % 4 == 0
    one = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
    one.settimeout(10)
    try:
        one.connect(('127.0.0.1', 8887) if tcp else '/run/project-cluster/api.sock')
        held.append(one)
    except OSError as why:
        print(index, why, flush=True)
print('held', held[-1].recv(99).decode().split()[1], flush=True)
time.sleep(2)
";

#[test]
fn a_thousand_idle_connections() {
    let stage = stage("");
    let reload = stage.begun();
    let crowd = stage.spawn(&["python3", "-c", IDLE]);
    stage.wait_until("no place is left", SOON, || crowd.stdout().contains("held 503"));
    // Who comes now finds none until the crowd's time is over, and asks again.
    let second = stage.spawn(&["systemctl", "reload", HANDLE]);
    stage.ended(reload).exits(0);
    crowd.wait(SOON).ok();
    stage.ends("1,000 idle connections", second, 0, ALL_NEW, Lost::Nothing);
}

#[test]
fn fifty_ask_for_the_same_reload() {
    let stage = stage("");
    let reload = stage.half_way();
    let script = "for i in $(seq 50); do project-cluster reload api > /dev/null 2>&1 & done; code=0; for job in $(jobs -p); do wait $job || code=1; done; exit $code";
    let crowd = stage.spawn(&["bash", "-c", script]);
    stage.ended(crowd).exits(0);
    // Those that come while one rolls are one more together. On a slow machine they come in several such groups.
    let rolls = stage.generations("api").into_iter().max().unwrap() - 1;
    assert!((2..=12).contains(&rolls), "{rolls} rolls");
    stage.ends(&format!("50 clients ask for the same reload: {rolls} rolls"), reload, 0, ALL_NEW, Lost::Nothing);
}

/// Readers of events that read nothing.
const READERS: &str = "
import socket, time
held = []
for _ in range(100):
    one = socket.socket(socket.AF_UNIX)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    one.connect('/run/project-cluster/api.sock')
    one.sendall(b'GET /v1/events HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')
    held.append(one)
print('held', flush=True)
time.sleep(600)
";

#[test]
fn readers_of_events_that_never_read() {
    let stage = stage("");
    let readers = stage.spawn(&["python3", "-c", READERS]);
    stage.wait_until("they are there", SOON, || readers.stdout().contains("held"));
    for _ in 0..2 {
        let reload = stage.begun();
        stage.ended(reload).exits(0);
    }
    let reload = stage.begun();
    stage.ends("100 readers of events that never read, three reloads", reload, 0, ALL_NEW, Lost::Nothing);
    drop(readers);
}
