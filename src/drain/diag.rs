//! Questions to the kernel about sockets, and its answers, as bytes (`sock_diag(7)`).
//!
//! Pure. The answers are the kernel's own, and read as if they were not.

use std::path::Path;

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// Length of a `nlmsghdr`.
const HEADER: usize = 16;
/// Length of an `inet_diag_msg`.
const INET: usize = 72;
/// Length of a `unix_diag_msg`.
const UNIX: usize = 16;
/// `UNIX_DIAG_NAME`.
const NAME: u16 = 0;
/// `UDIAG_SHOW_NAME`.
const SHOW_NAME: u32 = 1;

/// Connections that still carry something: `ESTABLISHED`, `FIN_WAIT1` (the app has shut down its side, and what it wrote is
/// still on its way) and `CLOSE_WAIT` (the client has, and may wait for an answer).
const OPEN: u32 = 1 << 1 | 1 << 4 | 1 << 8;
/// `ESTABLISHED` of unix sockets.
const CONNECTED: u32 = 1 << 1;

/// The groups that tell of the ends of TCP sockets, `SKNLGRP_INET_TCP_DESTROY` and `SKNLGRP_INET6_TCP_DESTROY`, as bits.
pub(super) const ENDS: u32 = 1 << 0 | 1 << 2;

fn header(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + length);
    bytes.extend(((HEADER + length) as u32).to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes
}

/// Asks for the open connections of this local port, of IPv4 or IPv6.
pub(super) fn tcp_question(v6: bool, port: u16) -> Vec<u8> {
    let mut bytes = header(56);
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    bytes.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    bytes.extend(OPEN.to_ne_bytes());
    bytes.extend(port.to_be_bytes());
    // Any port and address, any interface, any cookie.
    bytes.extend([0; 38]);
    bytes.extend([0xff; 8]);
    bytes
}

/// Asks for the connected unix sockets, with their names.
pub(super) fn unix_question() -> Vec<u8> {
    let mut bytes = header(24);
    bytes.extend([libc::AF_UNIX as u8, 0, 0, 0]);
    bytes.extend(CONNECTED.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(SHOW_NAME.to_ne_bytes());
    bytes.extend([0xff; 8]);
    bytes
}

/// What one message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told<'a> {
    /// A TCP socket: its inode, 0 where no process has it any more, and its local port.
    Tcp(u64, u16),
    /// A unix socket, and the path that it was reached by.
    Unix(u64, &'a Path),
    /// The answer is complete.
    Done,
    /// The kernel refuses, with this `errno`.
    Error(i32),
}

/// The messages in what was read at once. What makes no sense ends it.
pub(super) fn told(mut bytes: &[u8]) -> impl Iterator<Item = Told<'_>> {
    std::iter::from_fn(move || {
        loop {
            let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
            let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
            let body = bytes.get(HEADER..length)?;
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            let told = match i32::from(kind) {
                libc::NLMSG_DONE => Some(Told::Done),
                libc::NLMSG_ERROR => Some(Told::Error(body.get(..4).and_then(|code| Some(-i32::from_ne_bytes(code.try_into().ok()?)))?)),
                _ if kind == BY_FAMILY => socket(body),
                _ => None,
            };
            if told.is_some() {
                return told;
            }
        }
    })
}

fn socket(body: &[u8]) -> Option<Told<'_>> {
    match i32::from(*body.first()?) {
        libc::AF_INET | libc::AF_INET6 => {
            let message = body.get(..INET)?;
            let port = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
            let inode = u32::from_ne_bytes(message.get(68..72)?.try_into().ok()?);
            Some(Told::Tcp(inode.into(), port))
        }
        libc::AF_UNIX => {
            let inode = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
            Some(Told::Unix(inode.into(), name(body.get(UNIX..)?)?))
        }
        _ => None,
    }
}

/// The path among the attributes of a unix socket.
fn name(mut attributes: &[u8]) -> Option<&Path> {
    use std::os::unix::ffi::OsStrExt as _;
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        let value = attributes.get(4..length)?;
        if kind == NAME {
            let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
            return (end > 0).then(|| Path::new(std::ffi::OsStr::from_bytes(&value[..end])));
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn questions_are_as_long_as_they_say() {
        for question in [tcp_question(false, 3000), tcp_question(true, 3000), unix_question()] {
            assert_eq!(u32::from_ne_bytes(question[..4].try_into().unwrap()) as usize, question.len());
        }
        assert_eq!((tcp_question(true, 3000).len(), unix_question().len()), (72, 40));
    }

    #[test]
    fn answers_are_read_and_nonsense_is_nothing() {
        let mut tcp = vec![0; INET];
        tcp[0] = libc::AF_INET6 as u8;
        tcp[4..6].copy_from_slice(&3000_u16.to_be_bytes());
        tcp[68..].copy_from_slice(&77_u32.to_ne_bytes());
        let mut unix = vec![0; UNIX];
        unix[0] = libc::AF_UNIX as u8;
        unix[4..8].copy_from_slice(&78_u32.to_ne_bytes());
        // Another attribute, of an odd length, comes first.
        unix.extend([5, 0, 2, 0, 9, 0, 0, 0]);
        unix.extend([11, 0, 0, 0]);
        unix.extend(b"/run/x\0");
        let refused = (-libc::ENOENT).to_ne_bytes();
        let whole =
            [message(BY_FAMILY, &tcp), message(9, b"?"), message(BY_FAMILY, &unix), message(2, &refused), message(3, &[0; 4])].concat();
        let all = [Told::Tcp(77, 3000), Told::Unix(78, Path::new("/run/x")), Told::Error(libc::ENOENT), Told::Done];
        assert_eq!(told(&whole).collect::<Vec<_>>(), all);
        for end in 0..whole.len() {
            assert!(told(&whole[..end]).count() <= 4);
        }
        assert_eq!(told(&message(BY_FAMILY, &unix[..UNIX])).count(), 0, "without a name it is nobody's");
    }
}
