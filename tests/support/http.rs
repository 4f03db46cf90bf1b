//! One HTTP/1.1 request and its answer over TCP or a unix socket, strict about what counts as an answer.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest answer that is read: far more than any server of the tests sends.
const MAX_ANSWER: usize = 1 << 20;

/// Where a server listens.
#[derive(Debug, Clone)]
pub enum Address {
    /// IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A unix socket, by a path that this process can open.
    Unix(PathBuf),
}

impl Address {
    /// `127.0.0.1:3000`, `[::1]:3000`, or `/run/x.sock` below `root`.
    pub fn parse(text: &str, root: &Path) -> Self {
        match text.strip_prefix("unix:").unwrap_or(text).strip_prefix('/') {
            Some(path) => Self::Unix(root.join(path)),
            None => Self::Tcp(text.parse().unwrap_or_else(|_| panic!("`{text}` is neither ADDRESS:PORT nor a path"))),
        }
    }
}

/// Why a request was not answered as it should.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// Nobody listens.
    Refused,
    /// The peer reset the connection.
    Reset,
    /// The connection ended before the answer was whole.
    Eof,
    /// Too slow, in connecting or answering.
    Timeout,
    /// A status that is not 2xx.
    Status(u16),
    /// The answer was not the expected one.
    Body(String),
    /// The client's own trouble, such as no free port: says nothing of the server.
    Client(String),
}

impl Failure {
    /// The kind, without its particulars.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Eof => "eof",
            Self::Timeout => "timeout",
            Self::Status(_) => "status",
            Self::Body(_) => "body",
            Self::Client(_) => "client",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Body(body) => write!(f, "body {body:?}"),
            Self::Client(why) => write!(f, "client: {why}"),
            other => f.write_str(other.kind()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A unix socket whose file is gone refuses as well.
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => Self::Reset,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Timeout,
            io::ErrorKind::UnexpectedEof => Self::Eof,
            _ => Self::Client(error.to_string()),
        }
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its head, lines as they came.
    pub head: String,
    /// Its body, broken characters replaced.
    pub body: String,
    /// Whether the connection can carry another request.
    pub reusable: bool,
}

/// A connection to a server.
pub enum Connection {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

impl Connection {
    /// Connects, in the calling thread's network namespace.
    pub fn open(address: &Address, limit: Duration) -> Result<Self, Failure> {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, limit)?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Address::Unix(path) => Ok(Self::Unix(connect_unix(path, limit)?)),
        }
    }

    /// Sends a GET and reads the whole answer before `end`.
    pub fn get(&mut self, path: &str, keep: bool, end: Instant) -> Result<Response, Failure> {
        let connection = if keep { "keep-alive" } else { "close" };
        let head = format!("GET {path} HTTP/1.1\r\nHost: sandbox\r\nConnection: {connection}\r\n\r\n");
        self.exchange(head.as_bytes(), keep, end)
    }

    /// Sends a POST with this body over a connection that is to close, and reads the whole answer before `end`.
    pub fn post(&mut self, path: &str, body: &[u8], end: Instant) -> Result<Response, Failure> {
        let head = format!("POST {path} HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        self.exchange(&[head.as_bytes(), body].concat(), false, end)
    }

    fn exchange(&mut self, request: &[u8], keep: bool, end: Instant) -> Result<Response, Failure> {
        self.set_limit(end)?;
        // One write: a head in pieces would test the server's patience instead.
        self.write_all(request)?;
        let mut bytes = Vec::new();
        let head = loop {
            if let Some(at) = find(&bytes, b"\r\n\r\n") {
                break at;
            }
            if self.more(&mut bytes, end)? == 0 {
                return Err(Failure::Eof);
            }
        };
        let mut body = bytes.split_off(head + 4);
        let head = String::from_utf8_lossy(&bytes).into_owned();
        let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| Failure::Body(head.lines().next().unwrap_or_default().to_owned()))?;
        let length = header(&head, "content-length").and_then(|length| length.parse::<usize>().ok());
        let chunked = header(&head, "transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        let closes = header(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) || head.starts_with("HTTP/1.0");
        let delimited = chunked || length.is_some();
        let body = loop {
            if chunked {
                if let Some(body) = unchunk(&body) {
                    break body;
                }
            } else if let Some(length) = length.filter(|&length| body.len() >= length) {
                break body[..length].to_vec();
            }
            if self.more(&mut body, end)? == 0 {
                if delimited {
                    return Err(Failure::Eof);
                }
                break body;
            }
        };
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Response { status, head, body, reusable: keep && delimited && !closes })
    }

    fn more(&mut self, into: &mut Vec<u8>, end: Instant) -> Result<usize, Failure> {
        self.set_limit(end)?;
        let mut chunk = [0; 8192];
        let count = match self {
            Self::Tcp(stream) => stream.read(&mut chunk)?,
            Self::Unix(stream) => stream.read(&mut chunk)?,
        };
        into.extend_from_slice(&chunk[..count]);
        if into.len() > MAX_ANSWER {
            return Err(Failure::Body(format!("longer than {MAX_ANSWER} bytes")));
        }
        Ok(count)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Unix(stream) => stream.write_all(bytes),
        }
    }

    fn set_limit(&self, end: Instant) -> Result<(), Failure> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Timeout);
        }
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(left)).and_then(|()| stream.set_write_timeout(Some(left)))?,
            Self::Unix(stream) => stream.set_read_timeout(Some(left)).and_then(|()| stream.set_write_timeout(Some(left)))?,
        }
        Ok(())
    }
}

/// `UnixStream::connect` with a limit: it blocks while the server's queue is full.
fn connect_unix(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    // SAFETY: integers only.
    let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor and nobody else has it.
    let stream = UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    stream.set_write_timeout(Some(limit))?;
    // SAFETY: a sockaddr_un is plain data, and zeros are a valid one.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).map_err(io::Error::other)?;
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() {
        return Err(io::Error::other(format!("{} is too long for a unix socket", path.display())));
    }
    for (to, &from) in address.sun_path.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_un>()).map_err(io::Error::other)?;
    // SAFETY: `address` is a live sockaddr_un of that length, its path ends in a zero.
    let result = unsafe { libc::connect(stream.as_raw_fd(), (&raw const address).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(stream) }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name));
    head.lines().skip(1).find_map(value).map(|(_, value)| value.trim())
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// The body of a whole chunked coding; nothing while it is not whole.
fn unchunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = find(bytes, b"\r\n")?;
        let size = std::str::from_utf8(&bytes[..line]).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        bytes = &bytes[line + 2..];
        if size == 0 {
            return bytes.starts_with(b"\r\n").then_some(body);
        }
        body.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size + 2..)?;
    }
}
