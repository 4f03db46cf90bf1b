//! What one listener of the API takes on at most, all in one place. docs/architecture.md has the same table; a test compares.
//!
//! The two listeners share nothing of it: whoever exhausts TCP takes nothing from those who use the unix socket.

use std::time::Duration;

/// What one listener takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Connections at once; one more is answered 503 and closed.
    pub connections: usize,
    /// Requests that are being answered at once; one more is answered 503.
    pub requests: usize,
    /// Orders that are being carried out at once, whether or not their clients still wait; one more is answered 503.
    pub orders: usize,
    /// Event streams among the connections; one more is answered 503. Of all listeners as many as the master has readers.
    pub streams: usize,
}

/// Of the unix socket: operators and their monitors. With [`TCP`] less than the 1024 descriptors that systemd gives.
pub const UNIX: Budget = Budget { connections: 512, requests: 256, orders: 256, streams: 208 };

/// Of the TCP listener.
pub const TCP: Budget = Budget { connections: 256, requests: 32, orders: 32, streams: 48 };

/// systemd's `LimitNOFILE=` is 1024, and the master has other descriptors open.
const _: () = assert!(UNIX.connections + TCP.connections < 1024 - 100);

/// Bytes of a request's first line and headers. hyper's least is 8192; tokens and selectors are some hundred.
pub const HEAD: usize = 16 * 1024;

/// Headers of a request: hyper's own limit, which costs nothing.
pub const HEADERS: usize = 100;

/// Bytes of a request's path and query. `?slots=` with all 1024 slots is 4 KiB.
pub const URL: usize = 8 * 1024;

/// Bytes of a request's body. No route takes a large one.
pub const BODY: usize = 64 * 1024;

/// Until the head of a request is complete, and how long a connection may rest between two requests: to hyper it is one wait.
pub const HEAD_TIME: Duration = Duration::from_secs(15);

/// Until the body of a request is complete.
pub const BODY_TIME: Duration = Duration::from_secs(10);

/// Until a question is answered: the longest wait that one may ask for (60 s), and some. An order is answered when it ends,
/// which its own deadlines bound; an event stream has no end.
pub const ANSWER_TIME: Duration = Duration::from_secs(75);

/// How long a request over TCP keeps the next one from beginning: a question takes a few milliseconds, and what takes longer
/// waits for something and costs nobody anything.
pub const TURN: Duration = Duration::from_millis(25);

/// How long a client may take nothing of its answer. More than an event stream's heartbeat.
pub const STALL: Duration = Duration::from_secs(30);

/// After a failed `accept`: no descriptor is free, and one may be a moment later.
pub const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_figures() {
        let document = include_str!("../../docs/architecture.md");
        let (_, section) = document.split_once("## Security of the API").unwrap();
        let rows = [
            format!("| connections at once | {} | {} |", UNIX.connections, TCP.connections),
            format!("| requests being answered at once | {} | {} |", UNIX.requests, TCP.requests),
            format!("| orders being carried out at once | {} | {} |", UNIX.orders, TCP.orders),
            format!("| event streams at once | {} | {} |", UNIX.streams, TCP.streams),
            format!("| first line and headers | {} KiB, {HEADERS} headers |", HEAD / 1024),
            format!("| path and query | {} KiB |", URL / 1024),
            format!("| body | {} KiB |", BODY / 1024),
            format!("| until the head is complete, and between two requests | {} s |", HEAD_TIME.as_secs()),
            format!("| until the body is complete | {} s |", BODY_TIME.as_secs()),
            format!("| until a question is answered | {} s |", ANSWER_TIME.as_secs()),
            format!("| a client that takes nothing of its answer | {} s |", STALL.as_secs()),
        ];
        for row in rows {
            assert!(section.contains(&row), "docs/architecture.md lacks: {row}");
        }
        assert_eq!(UNIX.streams + TCP.streams, crate::master::events::READERS, "TCP takes no reader's place from the unix socket");
    }
}
