//! The smallest HTTP client: does a path answer?

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long one request may take: a server that needs longer for its health is asked again.
const LIMIT: Duration = Duration::from_secs(5);

/// A time limit of 0 would mean none.
const SHORTEST: Duration = Duration::from_millis(1);

/// The status of a GET of `path` on this machine's `port`, over IPv4, else IPv6.
pub fn get(port: u16, path: &str, remaining: Duration) -> io::Result<u16> {
    let limit = LIMIT.min(remaining).max(SHORTEST);
    let end = Instant::now() + limit;
    let v4 = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), limit);
    let mut stream = v4.or_else(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => TcpStream::connect_timeout(&SocketAddr::from((Ipv6Addr::LOCALHOST, port)), limit),
        _ => Err(error),
    })?;
    stream.set_write_timeout(Some(limit))?;
    // One write: servers that read once would see half a request.
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: project-cluster\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut line = Vec::new();
    let mut byte = [0];
    // `HTTP/1.1 200` is all that is needed.
    while line.len() < 12 {
        // Of the whole answer: a server that drips bytes must not make it twelve times as long.
        stream.set_read_timeout(Some(end.saturating_duration_since(Instant::now()).max(SHORTEST)))?;
        if stream.read(&mut byte)? == 0 {
            break;
        }
        line.push(byte[0]);
    }
    status(&line).ok_or_else(|| io::Error::other("the answer is no HTTP"))
}

/// The status of an answer that begins with these bytes, where it is one of HTTP/1.
pub(in crate::worker) fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line).ok()?;
    line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read() {
        assert_eq!(status(b"HTTP/1.1 204"), Some(204));
        assert_eq!(status(b"HTTP/1.0 503"), Some(503));
        for line in [&b"HTTP/1.1"[..], b"SSH-2.0-x", b"", b"HTTP/1.1 2x4", b"\xff"] {
            assert_eq!(status(line), None);
        }
    }

    #[test]
    fn a_port_without_listener_refuses() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert_eq!(get(port, "/", Duration::from_secs(1)).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
