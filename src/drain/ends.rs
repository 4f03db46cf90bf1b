//! The kernel's word that a TCP connection has ended (`sock_diag(7)`), so that a drain ends with its last one.
//!
//! It tells that something ended, not what is left: that is seen by the worker's descriptors. To ask the same interface which
//! connections there are takes the kernel 11 ms here, and as much longer as a machine's table of connections is larger.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::diag::{self, Ended};
use super::kernel;
use crate::names::Address;
use crate::worker::inherited::Socket;

/// What is read at once: more than one message has.
const PIECE: usize = 8 << 10;
/// As many as a busy machine ends in ten milliseconds, and then some; the next look takes the rest.
const AT_ONCE: usize = 4096;

/// Who tells.
pub(super) struct Ends {
    ports: BTreeSet<u16>,
    /// None where the kernel does not tell, or not of all: ends of unix sockets are not told.
    told: Option<OwnedFd>,
}

impl Ends {
    /// Those of connections of these sockets.
    pub(super) fn of(sockets: &[Socket]) -> Self {
        let port = |socket: &Socket| match &socket.address {
            Address::Tcp(address) => Some(address.port()),
            Address::Unix(_) => None,
        };
        let ports: Option<BTreeSet<u16>> = sockets.iter().map(port).collect();
        let told = ports.is_some().then(|| kernel::diagnosis(diag::ENDS).ok()).flatten();
        Self { ports: ports.unwrap_or_default(), told }
    }

    /// Readable when a TCP connection, of anybody's, has ended.
    pub(super) fn told(&self) -> Option<BorrowedFd<'_>> {
        self.told.as_ref().map(|told| told.as_fd())
    }

    /// Takes what was told; whether one of these sockets' connections was among it, or some was lost.
    pub(super) fn any(&mut self) -> bool {
        let Some(told) = &self.told else { return false };
        let (mut buffer, mut any) = (vec![0; PIECE], false);
        for _ in 0..AT_ONCE {
            match kernel::hear(told.as_fd(), &mut buffer) {
                Ok(length) => any |= diag::ended(&buffer[..length]).any(|Ended { port }| self.ports.contains(&port)),
                // More than its queue holds.
                Err(why) if why.raw_os_error() == Some(libc::ENOBUFS) => any = true,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return any,
                Err(_) => {
                    self.told = None;
                    return true;
                }
            }
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::sys::process::poll;
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    #[test]
    fn the_end_of_a_connection_is_told_of_either_family() {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let address = listener.local_addr().unwrap();
        for host in ["127.0.0.1", "::1"] {
            let mut ends = Ends::of(&[Socket { address: Address::Tcp(address), inode: 0 }]);
            let client = TcpStream::connect((host, address.port())).unwrap();
            let served = listener.accept().unwrap().0;
            assert!(!ends.any());
            drop((client, served));
            let end = Instant::now() + Duration::from_secs(10);
            while !ends.any() {
                assert!(Instant::now() < end, "{host}: no end was told");
                poll([ends.told().unwrap()], Some(Duration::from_millis(100))).unwrap();
            }
        }
        let unix = Socket { address: Address::Unix("/run/x".into()), inode: 0 };
        assert!(Ends::of(&[unix]).told().is_none());
    }
}
