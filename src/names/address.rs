//! Listen addresses, in all their spellings, and what of them fits into a unit name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::instance::plain_number;
use super::{NameError, string_serde};

/// A listen address: where a socket unit binds and what an app may declare.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// A TCP address. `[::]` means both families (`BindIPv6Only=both` is written).
    Tcp(SocketAddr),
    /// A stream socket in the file system: an absolute path of at most 107 bytes (`unix(7)`).
    Unix(PathBuf),
}

string_serde!(Address);

impl Address {
    /// Whether binding both would fail or one would take the other's connections.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unix(a), Self::Unix(b)) => a == b,
            (Self::Tcp(a), Self::Tcp(b)) => a.port() == b.port() && ips_overlap(a.ip(), b.ip()),
            _ => false,
        }
    }

    /// What `LISTEN_FDNAMES` says of a socket of ours that is bound here.
    pub fn fd_name(&self) -> String {
        match self {
            Self::Tcp(address) => format!("tcp-{}", address.port()),
            Self::Unix(_) => "unix".into(),
        }
    }

    /// The address as part of a unit name: brackets are not allowed there, a path is escaped. Every form holds a
    /// `:`, which no app's name does: so `a` on `/b/c` and `a-b` on `/c` are two units. None holds a backslash:
    /// `Sockets=` of systemd 252 drops it without a word and the worker gets no socket.
    pub fn unit_part(&self) -> String {
        match self {
            Self::Tcp(SocketAddr::V4(v4)) => v4.to_string(),
            Self::Tcp(SocketAddr::V6(v6)) => format!("{}:{}", v6.ip(), v6.port()),
            Self::Unix(path) => format!("unix{}", escape_path(path)),
        }
    }
}

fn ips_overlap(a: IpAddr, b: IpAddr) -> bool {
    let dual = |ip: IpAddr| ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let any4 = |ip: IpAddr| ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    a == b || dual(a) || dual(b) || (any4(a) && b.is_ipv4()) || (any4(b) && a.is_ipv4())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl FromStr for Address {
    type Err = NameError;
    /// `3000` (both families), `127.0.0.1:3000`, `[::1]:3000`, `*:3000`, `localhost:3000`, `/run/x.sock`, each
    /// also behind `tcp://` or `unix:`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some(rest) = text.strip_prefix("udp:") {
            return Err(NameError::new(format!(
                "UDP is not supported: systemd can hold the socket, but a rolling reload of datagram workers has no drain; `{}` would be TCP",
                rest.trim_start_matches('/')
            )));
        }
        let text = text.strip_prefix("unix:").or_else(|| text.strip_prefix("tcp://")).unwrap_or(text);
        if text.starts_with('/') {
            return unix_address(text);
        }
        let port = |text: &str| {
            plain_number(text)
                .and_then(|number| u16::try_from(number).ok())
                .filter(|number| *number > 0)
                .ok_or_else(|| NameError::new(format!("`{text}` is not a port: 1 to 65535")))
        };
        if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            return Ok(Self::Tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port(text)?))));
        }
        if let Some(rest) = text.strip_prefix("*:") {
            return Ok(Self::Tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port(rest)?))));
        }
        if let Some(rest) = text.strip_prefix("localhost:") {
            return Ok(Self::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port(rest)?))));
        }
        match text.parse::<SocketAddr>() {
            Ok(SocketAddr::V6(v6)) if v6.scope_id() != 0 => Err(NameError::new("a scope (`%2`) is not supported in an address")),
            Ok(address) if address.port() == 0 => Err(NameError::new("port 0 has no meaning for a shared socket: 1 to 65535")),
            Ok(address) => Ok(Self::Tcp(address)),
            Err(_) => Err(NameError::new(
                "not an address: write a port (`3000`), `127.0.0.1:3000`, `[::1]:3000` or an absolute path (`/run/shop/api.sock`)",
            )),
        }
    }
}

fn unix_address(text: &str) -> Result<Address, NameError> {
    if text.len() > 107 {
        return Err(NameError::new("the path of a unix socket has at most 107 bytes (unix(7))"));
    }
    let fine = text.len() > 1
        && !text.ends_with('/')
        && text[1..].split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && !text.chars().any(char::is_control);
    if !fine {
        return Err(NameError::new(
            "the path of a unix socket is absolute and plain: no `.`, `..`, `//`, trailing slash or control character",
        ));
    }
    Ok(Address::Unix(PathBuf::from(text)))
}

/// An absolute path as part of a unit name: `/` becomes `:`, what a unit name cannot hold becomes `::NN`. No two
/// paths become the same, since none holds `//`.
fn escape_path(path: &Path) -> String {
    let mut out = String::new();
    for byte in path.to_string_lossy().bytes() {
        match byte {
            b'/' => out.push(':'),
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.') => out.push(char::from(b)),
            b => out.push_str(&format!("::{b:02x}")),
        }
    }
    out
}
