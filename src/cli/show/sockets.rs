//! How many connections a listening socket has, and how many wait to be accepted, by the kernel's tables in `/proc/net`.
//!
//! They are of our own network namespace, which is PID 1's: it holds the sockets. A table is read line by line, so that
//! one of a hundred thousand connections costs time and no memory.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use serde::Serialize;

use crate::names::Address;

/// The connections of one address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Connections {
    /// How many wait to be accepted.
    pub waiting: u64,
    /// How many may wait: more are refused, or retried by the client's kernel. Null where the configuration cannot be read.
    pub limit: Option<u64>,
    /// How many some process holds.
    pub accepted: u64,
}

/// Of this address, with this length of its queue configured; none where the tables do not show it.
pub fn of(address: &Address, backlog: Option<u32>) -> Option<Connections> {
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let limit = backlog.map(|backlog| most.map_or(backlog.into(), |most| most.min(backlog.into())));
    let table = |name: &str| File::open(Path::new("/proc/net").join(name)).map(BufReader::new).ok();
    let counted = match address {
        Address::Unix(path) => unix(table("unix")?, &path.to_string_lossy()),
        Address::Tcp(address) => {
            let tables = if address.is_ipv4() { ["tcp", "tcp"] } else { ["tcp6", "tcp"] };
            let first = tcp(table(tables[0])?, *address);
            // Connections of a socket for both families are in the table of the second alone.
            first.or_else(|| tcp(table(tables[1])?, *address))
        }
    };
    counted.map(|counted| Connections { limit, ..counted })
}

/// From `/proc/net/tcp` or `tcp6`; none where nobody listens there.
pub(super) fn tcp(table: impl BufRead, listener: SocketAddr) -> Option<Connections> {
    let (mut counted, mut listens) = (Connections::default(), false);
    for line in table.lines().map_while(Result::ok) {
        let mut words = line.split_whitespace();
        let (Some(local), Some(state), Some(queues)) = (words.nth(1), words.nth(1), words.next()) else { continue };
        let Some(local) = address(local) else { continue };
        let inode = words.nth(4).unwrap_or("0");
        match state {
            // The receive queue of one that listens is its accept queue.
            "0A" if local == listener => {
                listens = true;
                counted.waiting = counted
                    .waiting
                    .saturating_add(queues.split_once(':').and_then(|(_, waiting)| u64::from_str_radix(waiting, 16).ok()).unwrap_or(0));
            }
            "0A" => {}
            // One without an inode belongs to no process: it waits to be accepted, or is over.
            _ if local.port() == listener.port() && within(listener.ip(), local.ip()) && inode != "0" => counted.accepted += 1,
            _ => {}
        }
    }
    listens.then_some(counted)
}

/// Whether a connection to `local` comes to who listens there.
fn within(listener: IpAddr, local: IpAddr) -> bool {
    listener.is_unspecified() || listener.to_canonical() == local.to_canonical()
}

/// `0100007F:0BB8`: words of 32 bits in the machine's own order, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(8 * at..8 * at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let bytes: [u8; 16] = [word(0)?, word(1)?, word(2)?, word(3)?].concat().try_into().ok()?;
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// From `/proc/net/unix`; none where nobody listens there.
pub(super) fn unix(table: impl BufRead, path: &str) -> Option<Connections> {
    let (mut counted, mut listens) = (Connections::default(), false);
    for line in table.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let mut words = line.split_whitespace();
        let (Some(flags), Some(state)) = (words.nth(3), words.nth(1)) else { continue };
        // The path may hold spaces: it is all that is left behind the inode.
        if words.next().is_none() || !line.ends_with(path) || !line.trim_end_matches(path).ends_with(' ') {
            continue;
        }
        match (flags, state) {
            ("00010000", _) => listens = true,
            // Connected, and no process has accepted it yet.
            (_, "02") => counted.waiting += 1,
            (_, "03") => counted.accepted += 1,
            _ => {}
        }
    }
    listens.then_some(counted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_listener_of_both_families_has_the_connections_of_both() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
           0: 00000000000000000000000000000000:0BB8 00000000000000000000000000000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 111 1\n\
           1: 0000000000000000FFFF00000100007F:0BB8 0000000000000000FFFF00000100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 222 1\n\
           2: 0000000000000000FFFF00000100007F:0BB8 0000000000000000FFFF00000100007F:D432 01 00000000:00000000 00:00000000 00000000     0        0 0 1\n\
           3: 0000000000000000FFFF00000100007F:0BB9 0000000000000000FFFF00000100007F:D433 01 00000000:00000000 00:00000000 00000000     0        0 333 1\n";
        let at = |text: &str| tcp(table.as_bytes(), text.parse().unwrap());
        assert_eq!(at("[::]:3000"), Some(Connections { waiting: 2, limit: None, accepted: 1 }));
        assert_eq!(at("[::]:3001"), None);
        assert_eq!(tcp("".as_bytes(), "[::]:3000".parse().unwrap()), None);
    }

    #[test]
    fn what_the_kernel_says_of_sockets_of_ours() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        let held = listener.accept().unwrap();
        let counted = of(&Address::Tcp(address), Some(7)).unwrap();
        assert_eq!(counted, Connections { waiting: 2, limit: Some(7), accepted: 1 });
        drop((clients, held, listener));

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a b.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let mut clients: Vec<UnixStream> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
        clients[0].write_all(b"x").unwrap();
        let held = listener.accept().unwrap();
        let counted = of(&Address::Unix(path.clone()), None).unwrap();
        assert_eq!(counted, Connections { waiting: 2, limit: None, accepted: 1 });
        drop((held, listener));
        assert_eq!(of(&Address::Unix(directory.path().join("none.sock")), None), None);
    }
}
