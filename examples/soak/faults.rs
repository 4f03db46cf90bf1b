//! One fault every half a minute: those of `tests/it/faults` that kill no worker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::Sandbox;

const EVERY: Duration = Duration::from_secs(30);

/// What it is, and what makes it.
const FAULTS: [(&str, &str); 12] = [
    ("`kill -9` of the master", "systemctl kill -s KILL project-cluster.service"),
    ("`daemon-reload`", "systemctl daemon-reload"),
    ("`systemctl restart dbus`", "systemctl restart dbus.service"),
    ("`daemon-reexec`", "systemctl daemon-reexec"),
    (
        "SIGSTOP of the master for 3 s",
        "systemctl kill -s STOP project-cluster.service; sleep 3; systemctl kill -s CONT project-cluster.service",
    ),
    ("`systemctl restart polkit`", "systemctl restart polkit.service"),
    ("`systemctl restart systemd-journald`", "systemctl restart systemd-journald.service"),
    ("`install`", "project-cluster install"),
    ("`systemctl restart` of the master", "systemctl restart project-cluster.service"),
    ("20 clients ask for the same reload", "for i in $(seq 20); do project-cluster reload node & done; wait"),
    (
        "100 readers of events that never read, for 5 s",
        "python3 -c \"\nimport socket, time\nheld = []\nfor _ in range(100):\n    one = socket.socket(socket.AF_UNIX)\n    one.connect('/run/project-cluster/api.sock')\n    one.sendall(b'GET /v1/events HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')\n    held.append(one)\ntime.sleep(5)\n\"",
    ),
    ("`systemctl stop` of the master", "systemctl stop project-cluster.service"),
];

/// Plays them in turn until it is over; what was played.
pub fn play(sandbox: &Sandbox, over: &AtomicBool, begun: Instant) -> Vec<String> {
    let mut played = Vec::new();
    for (what, script) in FAULTS.iter().cycle() {
        let next = begun + EVERY * u32::try_from(played.len() + 1).unwrap_or(u32::MAX);
        while Instant::now() < next {
            if over.load(Ordering::Relaxed) {
                return played;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        // It may fail: what counts is what it does to others.
        drop(sandbox.spawn(&["bash", "-c", script]).try_wait(EVERY));
        played.push((*what).to_owned());
    }
    played
}
