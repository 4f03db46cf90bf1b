//! What the kernel tells of the ends of TCP sockets, as bytes (`sock_diag(7)`).
//!
//! Pure. The messages are the kernel's own, and read as if they were not.

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// Length of a `nlmsghdr`.
const HEADER: usize = 16;
/// Length of an `inet_diag_msg`.
const INET: usize = 72;

/// The groups that tell, `SKNLGRP_INET_TCP_DESTROY` and `SKNLGRP_INET6_TCP_DESTROY`, as bits.
pub(super) const ENDS: u32 = 1 << 0 | 1 << 2;

/// A TCP socket that is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// Its local port.
    pub port: u16,
}

/// The messages in what was read at once. What makes no sense ends it.
pub(super) fn ended(mut bytes: &[u8]) -> impl Iterator<Item = Ended> {
    std::iter::from_fn(move || {
        loop {
            let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
            let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
            let body = bytes.get(HEADER..length)?;
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            if kind == BY_FAMILY
                && let Some(ended) = socket(body)
            {
                return Some(ended);
            }
        }
    })
}

fn socket(body: &[u8]) -> Option<Ended> {
    let message = body.get(..INET)?;
    let inet = [libc::AF_INET, libc::AF_INET6].contains(&i32::from(message[0]));
    let port = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
    inet.then_some(Ended { port })
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
    fn ends_are_read_and_nonsense_is_nothing() {
        let tcp = |family: i32, port: u16| {
            let mut body = vec![0; INET];
            body[0] = family as u8;
            body[4..6].copy_from_slice(&port.to_be_bytes());
            message(BY_FAMILY, &body)
        };
        let whole = [tcp(libc::AF_INET6, 3000), message(9, b"?"), tcp(libc::AF_UNIX, 7), tcp(libc::AF_INET, 3001)].concat();
        assert_eq!(ended(&whole).collect::<Vec<_>>(), [Ended { port: 3000 }, Ended { port: 3001 }]);
        for end in 0..whole.len() {
            assert!(ended(&whole[..end]).count() < 2);
        }
        assert_eq!(ended(&message(BY_FAMILY, &[2; INET - 1])).count(), 0);
        assert_eq!(ended(&[0; 64]).count(), 0, "a length of nothing leads nowhere");
    }
}
