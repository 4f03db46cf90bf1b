//! One question and its whole answer without an event queue: what `ls` needs, at a third of the time.
//!
//! HTTP/1.1 with a `content-length`, which the master gives every answer that has an end.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde::de::DeserializeOwned;
use socket2::{Domain, SockAddr, Socket, Type};

use super::client::{ANSWER, AWAY, Client, Error, PAUSE, VERSION};

/// The first size of the buffer: the answer about 32 workers.
const BUFFER: usize = 32 * 1024;
/// Headers of an answer that are read; the master sends three.
const HEADERS: usize = 32;

impl Client {
    /// [`Self::insist`] with `GET`, for who does nothing else meanwhile.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn fetch<T: DeserializeOwned>(&self, uri: &str, limit: Duration) -> Result<T, Error> {
        let end = Instant::now() + AWAY;
        loop {
            match self.ask(uri, limit).and_then(|answer| self.read(answer)) {
                Err(error) if Instant::now() < end && (matches!(error, Error::Broken(_)) || error.code() == Some("busy")) => {
                    std::thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
    }

    fn ask(&self, uri: &str, limit: Duration) -> Result<(StatusCode, Vec<u8>), Error> {
        let end = Instant::now() + limit;
        let failed = |why: std::io::Error| match why.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.late(limit),
            _ => Error::Broken(why.to_string()),
        };
        let mut stream = self.connect(limit)?;
        stream.write_all(format!("GET {uri} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes()).map_err(failed)?;
        let (mut answer, mut have) = (vec![0; BUFFER], 0);
        let mut head: Option<Head> = None;
        while head.as_ref().is_none_or(|head| have < head.end) {
            if have == answer.len() {
                if have >= ANSWER {
                    return Err(Error::Strange("it is too long".into()));
                }
                answer.resize(2 * have, 0);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.late(limit));
            }
            stream.set_read_timeout(Some(left)).map_err(failed)?;
            match stream.read(&mut answer[have..]) {
                Ok(0) => return Err(Error::Broken("it ended".into())),
                Ok(count) => have += count,
                Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                Err(why) => return Err(failed(why)),
            }
            if head.is_none() {
                head = Head::parse(&answer[..have], |version| self.hear(Some(version)))?;
            }
        }
        let Some(Head { status, begin, end }) = head else { return Err(Error::Strange("it has no head".into())) };
        answer.truncate(end);
        answer.drain(..begin);
        Ok((status, answer))
    }

    fn connect(&self, limit: Duration) -> Result<UnixStream, Error> {
        let connect = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            // It bounds the wait for a place in the queue of a master that accepts nobody as well.
            socket.set_write_timeout(Some(limit))?;
            socket.connect(&SockAddr::unix(self.path())?)?;
            Ok::<_, std::io::Error>(socket)
        };
        match connect() {
            Ok(socket) => Ok(std::os::fd::OwnedFd::from(socket).into()),
            Err(why) if why.kind() == ErrorKind::WouldBlock => Err(self.late(limit)),
            Err(why) => Err(self.unreachable(&why)),
        }
    }
}

/// What the head of an answer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    status: StatusCode,
    /// Where its body begins.
    pub(super) begin: usize,
    /// Where that ends.
    pub(super) end: usize,
}

impl Head {
    /// None while it is not whole.
    pub(super) fn parse(answer: &[u8], hear: impl FnOnce(&[u8])) -> Result<Option<Self>, Error> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let strange = |why: &dyn std::fmt::Display| Error::Strange(why.to_string());
        let httparse::Status::Complete(begin) = response.parse(answer).map_err(|why| strange(&why))? else { return Ok(None) };
        let status = StatusCode::from_u16(response.code.unwrap_or_default()).map_err(|why| strange(&why))?;
        let value = |name: &str| response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value);
        if let Some(version) = value(VERSION) {
            hear(version);
        }
        let length = value("content-length").and_then(|length| str::from_utf8(length).ok()?.parse::<usize>().ok());
        let length = length.filter(|length| *length <= ANSWER).ok_or_else(|| strange(&"it does not say how long it is, or is too long"))?;
        Ok(Some(Self { status, begin, end: begin + length }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::error::{Code, Refusal};
    use crate::names::ClusterName;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_head_is_taken_when_it_is_whole() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(Head::parse(&answer[..30], |_| ()).unwrap(), None);
        let head = Head { status: StatusCode::OK, begin: answer.len() - 3, end: answer.len() };
        assert_eq!(Head::parse(answer, |_| ()).unwrap(), Some(head));
        for strange in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", "SSH-2.0\r\n\r\n"] {
            assert!(matches!(Head::parse(strange.as_bytes(), |_| ()), Err(Error::Strange(_))), "{strange}");
        }
    }

    #[test]
    fn a_master_that_dies_under_a_question_is_asked_again_and_one_that_is_silent_is_late() {
        let directory = tempfile::tempdir().unwrap();
        let client = Client::at(&ClusterName::default(), directory.path().join("api.sock"));
        let limit = Duration::from_secs(10);
        assert!(matches!(client.fetch::<u32>("/", limit), Err(Error::Unreachable(_))), "at once");
        let listener = UnixListener::bind(client.path()).unwrap();
        let master = std::thread::spawn(move || {
            let busy = serde_json::to_string(&Refusal::new(Code::Busy, "later").problem()).unwrap();
            let busy = format!("HTTP/1.1 503 X\r\ncontent-length: {}\r\n\r\n{busy}", busy.len());
            for answer in ["", &busy, "HTTP/1.1 200 OK\r\ncontent-len", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n7"] {
                let (mut stream, _) = listener.accept().unwrap();
                assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
            }
            listener
        });
        assert_eq!(client.fetch::<u32>("/v1/workers", limit).unwrap(), 7);
        let _silent = master.join().unwrap();
        assert!(matches!(client.fetch::<u32>("/", Duration::from_millis(50)), Err(Error::Late(..))));
    }
}
