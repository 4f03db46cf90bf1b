//! Sockets: where they are bound, what they are, and descriptors sent from process to process.

use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use super::{check, retry};

/// Largest `sockaddr` that is looked at: `sockaddr_storage`.
pub const SOCKADDR_MAX: usize = 128;

/// What a `sockaddr` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SockAddr<'a> {
    /// IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A path in the file system, as written: perhaps relative.
    Unix(&'a Path),
}

/// Reads a `sockaddr` from its bytes; `None` for other families, abstract and unnamed unix sockets.
pub fn parse_sockaddr(bytes: &[u8]) -> Option<SockAddr<'_>> {
    let family = i32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let port = || Some(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
    match family {
        libc::AF_INET => {
            let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(SockAddr::Tcp(SocketAddr::from((Ipv4Addr::from(ip), port()?))))
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            Some(SockAddr::Tcp(SocketAddr::from((IpAddr::V6(Ipv6Addr::from(ip)), port()?))))
        }
        libc::AF_UNIX => {
            let path = bytes.get(2..)?;
            let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
            (end > 0).then(|| SockAddr::Unix(Path::new(OsStr::from_bytes(&path[..end]))))
        }
        _ => None,
    }
}

/// The bytes of a socket's own address, in `buffer`.
pub fn local_address<'a>(socket: BorrowedFd<'_>, buffer: &'a mut [u8; SOCKADDR_MAX]) -> io::Result<&'a [u8]> {
    let mut length = SOCKADDR_MAX as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `buffer`, which is that long and borrowed mutably.
    check(unsafe { libc::getsockname(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), &raw mut length) })?;
    Ok(&buffer[..(length as usize).min(SOCKADDR_MAX)])
}

/// An integer option of level SOL_SOCKET.
fn option(socket: BorrowedFd<'_>, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `value`, borrowed mutably.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut length) })?;
    Ok(value)
}

/// The supplementary groups that the other side of a connected unix socket had when it connected.
pub fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<libc::gid_t>> {
    // As many as a process can have (`NGROUPS_MAX`), asked for once it is known how many it has.
    let mut groups: Vec<libc::gid_t> = vec![0; 32];
    loop {
        let mut length = size_of_val(&groups[..]) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes into `groups`, which is that long and borrowed mutably.
        let asked = check(unsafe {
            libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERGROUPS, groups.as_mut_ptr().cast(), &raw mut length)
        });
        let count = length as usize / size_of::<libc::gid_t>();
        match asked {
            Ok(_) => {
                groups.truncate(count);
                return Ok(groups);
            }
            Err(why) if why.raw_os_error() == Some(libc::ERANGE) && count > groups.len() && count <= 65_536 => groups.resize(count, 0),
            Err(why) => return Err(why),
        }
    }
}

/// Whether this is a stream socket of TCP (also MPTCP, which new Go listeners use) or of unix, and which of the two.
pub fn is_stream(socket: BorrowedFd<'_>, unix: bool) -> bool {
    if option(socket, libc::SO_TYPE).ok() != Some(libc::SOCK_STREAM) {
        return false;
    }
    match option(socket, libc::SO_DOMAIN) {
        Ok(libc::AF_UNIX) => unix,
        Ok(libc::AF_INET | libc::AF_INET6) => {
            !unix && matches!(option(socket, libc::SO_PROTOCOL), Ok(libc::IPPROTO_TCP | libc::IPPROTO_MPTCP))
        }
        _ => false,
    }
}

/// Whether this is a socket that listens.
pub fn is_listening(socket: BorrowedFd<'_>) -> bool {
    option(socket, libc::SO_ACCEPTCONN).is_ok_and(|value| value != 0)
}

/// Whether the open file description is non-blocking.
pub fn is_nonblocking(socket: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: takes numbers only; the descriptor is borrowed and so open.
    Ok(check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) })? & libc::O_NONBLOCK != 0)
}

/// Makes the open file description, and so all who share it, non-blocking, or blocking.
pub fn set_nonblocking(socket: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    // SAFETY: takes numbers only; the descriptor is borrowed and so open.
    let flags = check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) })?;
    let flags = if on { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    // SAFETY: as above.
    check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFL, flags) }).map(drop)
}

/// Listens, or changes the length of the accept queue of a socket that does.
pub fn listen(socket: BorrowedFd<'_>, backlog: u32) -> io::Result<()> {
    // SAFETY: takes numbers only; the descriptor is borrowed and so open.
    check(unsafe { libc::listen(socket.as_raw_fd(), i32::try_from(backlog).unwrap_or(i32::MAX)) }).map(drop)
}

/// Two connected sockets that keep message borders, both close-on-exec; receiving waits at most `limit`.
pub fn pair(limit: Duration) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds: [RawFd; 2] = [-1; 2];
    // SAFETY: the kernel writes two descriptors into `fds`, borrowed mutably.
    check(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so both are new descriptors that nobody else owns.
    let (a, b) = unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) };
    let time = libc::timeval { tv_sec: limit.as_secs() as libc::time_t, tv_usec: libc::suseconds_t::from(limit.subsec_micros()) };
    for socket in [&a, &b] {
        let length = size_of::<libc::timeval>() as libc::socklen_t;
        // SAFETY: the kernel reads `length` bytes of `time`, which lives through the call.
        check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const time).cast(), length) })?;
    }
    Ok((a, b))
}

/// Room for one control message with one descriptor, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Sends four bytes and perhaps a descriptor.
pub fn send(socket: BorrowedFd<'_>, word: u32, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut bytes = word.to_ne_bytes();
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 64]);
    // SAFETY: a zeroed msghdr is valid: no name, no parts, no control message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if let Some(fd) = fd {
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE and CMSG_LEN only compute. 64 bytes hold one header and one descriptor (24), so CMSG_FIRSTHDR
        // points into `control`, which is aligned for it, and CMSG_DATA to four bytes behind it.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(4) as usize;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
            libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd.as_raw_fd());
        }
    }
    retry(|| {
        // SAFETY: `message` points to `part` and `control`, which live through the call.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    })
}

/// Receives what [`send`] sent. An end of the other side is `UnexpectedEof`.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<(u32, Option<OwnedFd>)> {
    let mut bytes = [0; 4];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 64]);
    // SAFETY: a zeroed msghdr is valid: no name, no parts, no control message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    let length = retry(|| {
        // SAFETY: the kernel writes at most four bytes into `bytes` and 64 into `control`; both live through the call.
        let read = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        if read < 0 { Err(io::Error::last_os_error()) } else { Ok(read) }
    })?;
    // SAFETY: the kernel filled `control` and set its length, so the header, where there is one, lies inside; a header of
    // SCM_RIGHTS is followed by at least one descriptor, new and owned by nobody else.
    let fd = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let carries = !header.is_null() && (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS;
        carries.then(|| OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned()))
    };
    if length != 4 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((u32::from_ne_bytes(bytes), fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sockaddr_says_where() {
        let v4 = [2, 0, 0x0b, 0xb8, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(parse_sockaddr(&v4), Some(SockAddr::Tcp("127.0.0.1:3000".parse().unwrap())));
        let mut v6 = [0; 28];
        v6[..4].copy_from_slice(&[10, 0, 0x0b, 0xb8]);
        assert_eq!(parse_sockaddr(&v6), Some(SockAddr::Tcp("[::]:3000".parse().unwrap())));
        assert_eq!(parse_sockaddr(b"\x01\0/run/x\0junk"), Some(SockAddr::Unix(Path::new("/run/x"))));
        assert_eq!(parse_sockaddr(b"\x01\0/run/x"), Some(SockAddr::Unix(Path::new("/run/x"))));
        // Abstract, unnamed, too short, netlink.
        for bytes in [&b"\x01\0\0abstract"[..], b"\x01\0", b"\x02\0\x0b", b"\x02", b"", b"\x10\0\0\0\0\0\0\0"] {
            assert_eq!(parse_sockaddr(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_descriptor_travels() {
        use std::os::fd::AsFd as _;
        let (a, b) = pair(Duration::from_secs(1)).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        send(a.as_fd(), 7, Some(listener.as_fd())).unwrap();
        let (word, fd) = receive(b.as_fd()).unwrap();
        let fd = fd.unwrap();
        let mut buffer = [0; SOCKADDR_MAX];
        let bytes = local_address(fd.as_fd(), &mut buffer).unwrap();
        assert_eq!(parse_sockaddr(bytes), Some(SockAddr::Tcp(listener.local_addr().unwrap())));
        assert_eq!(word, 7);
        assert!(is_stream(fd.as_fd(), false) && !is_stream(fd.as_fd(), true) && is_listening(fd.as_fd()));
        drop(a);
        assert_eq!(receive(b.as_fd()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
