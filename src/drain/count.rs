//! The open connections of the shared sockets, whoever has them: asked of the kernel (`sock_diag(7)`), which also tells when
//! one of TCP ends. Where it has no such interface, its tables in `/proc` are read.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::diag::{self, Told};
use super::kernel;
use crate::names::Address;
use crate::worker::inherited::Socket;
use crate::worker::procfs;
use crate::worker::sys::process::poll;

/// The kernel answers as it is read; this is for one that does not.
const ANSWER: Duration = Duration::from_secs(1);
/// What is read at once: as much as the kernel fills a message with.
const PIECE: usize = 32 << 10;
/// Most connections that are looked at, of all workers.
const MOST: usize = 1 << 20;

/// Who is asked, and after what.
pub(super) struct Connections {
    ports: BTreeSet<u16>,
    paths: BTreeSet<PathBuf>,
    /// None where the kernel has no such interface.
    asked: Option<OwnedFd>,
    ends: Option<OwnedFd>,
}

impl Connections {
    /// Those of these sockets.
    pub(super) fn of(sockets: &[Socket]) -> Self {
        let mut connections = Self { ports: BTreeSet::new(), paths: BTreeSet::new(), asked: kernel::diagnosis(0).ok(), ends: None };
        for socket in sockets {
            match &socket.address {
                Address::Tcp(address) => drop(connections.ports.insert(address.port())),
                Address::Unix(path) => drop(connections.paths.insert(path.clone())),
            }
        }
        // Ends of unix sockets are not told.
        connections.ends = Some(diag::ENDS).filter(|_| connections.paths.is_empty()).and_then(|groups| kernel::diagnosis(groups).ok());
        connections
    }

    /// Their inodes.
    pub(super) fn open(&mut self) -> BTreeSet<u64> {
        if self.asked.is_some() {
            match self.diagnosed() {
                Ok(open) => return open,
                Err(_) => (self.asked, self.ends) = (None, None),
            }
        }
        let table = |name: &str| fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default();
        let mut open = BTreeSet::new();
        for port in &self.ports {
            ["tcp", "tcp6"].iter().for_each(|name| open.extend(procfs::tcp_connections(&table(name), *port)));
        }
        if !self.paths.is_empty() {
            open.extend(
                procfs::unix_connections(&table("unix")).filter(|(path, _)| self.paths.contains(Path::new(path))).map(|(_, inode)| inode),
            );
        }
        open
    }

    fn diagnosed(&self) -> io::Result<BTreeSet<u64>> {
        let mut open = BTreeSet::new();
        for port in &self.ports {
            for v6 in [false, true] {
                self.ask(&diag::tcp_question(v6, *port), |told| match told {
                    // 0: the app has closed it, and what it wrote is on its way.
                    Told::Tcp(inode, told) if told == *port && inode != 0 => drop(open.insert(inode)),
                    _ => {}
                })?;
            }
        }
        if !self.paths.is_empty() {
            self.ask(&diag::unix_question(), |told| match told {
                Told::Unix(inode, path) if self.paths.contains(path) => drop(open.insert(inode)),
                _ => {}
            })?;
        }
        Ok(open)
    }

    fn ask(&self, question: &[u8], mut hear: impl FnMut(Told<'_>)) -> io::Result<()> {
        let Some(asked) = &self.asked else { return Err(io::ErrorKind::Unsupported.into()) };
        kernel::ask(asked.as_fd(), question)?;
        let (mut buffer, mut heard) = (vec![0; PIECE], 0);
        loop {
            let length = match kernel::hear(asked.as_fd(), &mut buffer) {
                Ok(length) => length,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                    if poll([asked.as_fd()], Some(ANSWER))? == [0] {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    continue;
                }
                Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                Err(why) => return Err(why),
            };
            for told in diag::told(&buffer[..length]) {
                match told {
                    Told::Done => return Ok(()),
                    Told::Error(code) => return Err(io::Error::from_raw_os_error(code)),
                    told => hear(told),
                }
                heard += 1;
                if heard > MOST {
                    return Err(io::Error::other("more connections than are counted"));
                }
            }
        }
    }

    /// Readable when a TCP connection, of anybody's, has ended.
    pub(super) fn ends(&self) -> Option<BorrowedFd<'_>> {
        self.ends.as_ref().map(|ends| ends.as_fd())
    }

    /// Takes what was told of ends; whether one of these sockets' was among them, or some were lost.
    pub(super) fn some_ended(&mut self) -> bool {
        let Some(ends) = &self.ends else { return false };
        let (mut buffer, mut any) = (vec![0; PIECE], false);
        // As many as a busy machine ends in ten milliseconds, and then some; the next look takes the rest.
        for _ in 0..4096 {
            match kernel::hear(ends.as_fd(), &mut buffer) {
                Ok(length) => {
                    any |= diag::told(&buffer[..length]).any(|told| matches!(told, Told::Tcp(_, port) if self.ports.contains(&port)));
                }
                Err(why) if why.raw_os_error() == Some(libc::ENOBUFS) => any = true,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return any,
                Err(_) => {
                    self.ends = None;
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
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn inode(socket: impl Into<OwnedFd>) -> u64 {
        std::fs::File::from(socket.into()).metadata().unwrap().ino()
    }

    #[test]
    fn connections_are_counted_of_both_families_and_of_paths_by_either_interface() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let (dual, unix) = (TcpListener::bind("[::]:0").unwrap(), UnixListener::bind(&path).unwrap());
        let port = dual.local_addr().unwrap().port();
        let clients = (TcpStream::connect(("127.0.0.1", port)).unwrap(), TcpStream::connect(("::1", port)).unwrap());
        let local = UnixStream::connect(&path).unwrap();
        let served = [dual.accept().unwrap().0, dual.accept().unwrap().0];
        let here = unix.accept().unwrap().0;
        let expected: BTreeSet<u64> =
            served.iter().map(|it| inode(it.try_clone().unwrap())).chain([inode(here.try_clone().unwrap())]).collect();
        let socket = |address: Address| Socket { address, inode: 0 };
        let sockets = [socket(Address::Tcp(dual.local_addr().unwrap())), socket(Address::Unix(path.clone()))];
        let mut asked = Connections::of(&sockets);
        let mut read = Connections { asked: None, ends: None, ..Connections::of(&sockets) };
        assert!(asked.asked.is_some(), "this kernel has the interface");
        for connections in [&mut asked, &mut read] {
            assert!(expected.is_subset(&connections.open()), "{expected:?}, {:?}", connections.open());
        }
        // Its ends are told, where there are no paths.
        let mut ends = Connections::of(&sockets[..1]);
        assert!(!ends.some_ended());
        drop(clients);
        drop(served);
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while !ends.some_ended() && std::time::Instant::now() < end {
            poll([ends.ends().unwrap()], Some(Duration::from_millis(100))).unwrap();
        }
        assert!(std::time::Instant::now() < end, "no end was told");
        drop((local, here));
        assert_eq!([asked.open().intersection(&expected).count(), read.open().intersection(&expected).count()], [0, 0]);
    }
}
