//! What `/proc` says, as data. Pure: texts in, values out; a line that is not understood is no value, never a failure, since
//! a worker can put much of this text there itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The socket of a descriptor's link, `socket:[12345]`.
pub fn socket_inode(link: &[u8]) -> Option<u64> {
    let number = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// A field of `/proc/PID/fdinfo/N`, `ino:` for example, that is a single word.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The flags of a descriptor, `O_CLOEXEC` among them.
pub fn fd_flags(info: &str) -> Option<u32> {
    u32::from_str_radix(field(info, "flags:")?, 8).ok()
}

/// The inode of a descriptor (kernels from 5.14).
pub fn fd_inode(info: &str) -> Option<u64> {
    field(info, "ino:")?.parse().ok()
}

/// A member of an epoll set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// The descriptor's number when it was added.
    pub fd: i32,
    /// What is waited for, `EPOLLIN` and others.
    pub events: u32,
    /// The app's own word for it.
    pub data: u64,
    /// Its inode.
    pub inode: u64,
}

/// The members of an epoll descriptor's set.
pub fn watched(info: &str) -> impl Iterator<Item = Watched> {
    info.lines().filter_map(|line| {
        let mut words = line.strip_prefix("tfd:")?.split_ascii_whitespace();
        let fd = words.next()?.parse().ok()?;
        let (mut events, mut data, mut inode) = (None, None, None);
        while let Some(word) = words.next() {
            match word {
                "events:" => events = u32::from_str_radix(words.next()?, 16).ok(),
                "data:" => data = u64::from_str_radix(words.next()?, 16).ok(),
                _ => inode = inode.or_else(|| u64::from_str_radix(word.strip_prefix("ino:")?, 16).ok()),
            }
        }
        Some(Watched { fd, events: events?, data: data?, inode: inode? })
    })
}

/// The inodes that an epoll descriptor watches for reading (`EPOLLIN`).
pub fn epoll_inodes(info: &str) -> impl Iterator<Item = u64> {
    watched(info).filter(|watched| watched.events & libc::EPOLLIN as u32 != 0).map(|watched| watched.inode)
}

/// What a thread waits for in a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// `accept` of this descriptor.
    Accept(i32),
    /// `poll` of so many `pollfd` at this address of its memory.
    Poll(u64, u64),
    /// `select` with readers at this address, descriptors below this number.
    Select(u64, u64),
    /// `epoll_wait` of this descriptor.
    Epoll(i32),
}

/// Reads `/proc/PID/task/TID/syscall`: number and six arguments, or `running`.
pub fn waiting(line: &str) -> Option<Waiting> {
    let mut words = line.split_ascii_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    let mut argument = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let (first, second) = (argument()?, argument()?);
    match number {
        libc::SYS_accept | libc::SYS_accept4 => Some(Waiting::Accept(first as i32)),
        libc::SYS_ppoll => Some(Waiting::Poll(first, second)),
        libc::SYS_pselect6 => Some(Waiting::Select(second, first)),
        libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 => Some(Waiting::Epoll(first as i32)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait => Some(Waiting::Epoll(first as i32)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll => Some(Waiting::Poll(first, second)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_select => Some(Waiting::Select(second, first)),
        _ => None,
    }
}

/// Whether a thread sleeps, in whatever call, by the same line.
pub fn is_asleep(line: &str) -> bool {
    line.split_ascii_whitespace().next().is_some_and(|word| word.parse::<i64>().is_ok())
}

/// How often and how long a thread has run, of `/proc/PID/task/TID/schedstat`: the same twice, and it has not run between.
pub fn runs(schedstat: &str) -> Option<(u64, u64)> {
    let mut words = schedstat.split_ascii_whitespace().map(str::parse);
    let (Some(Ok(time)), Some(_), Some(Ok(turns))) = (words.next(), words.next(), words.next()) else { return None };
    Some((time, turns))
}

/// The letter of a process's state in `/proc/PID/stat`; its name, which it chooses, may hold anything.
pub fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Who a process is, by `/proc/PID/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Real, effective, saved and file system user.
    pub uids: [u32; 4],
    /// The same of its group.
    pub gids: [u32; 4],
    /// Its permitted capabilities.
    pub permitted: u64,
}

/// Reads `/proc/PID/status`.
pub fn identity(status: &str) -> Option<Identity> {
    let four = |name| -> Option<[u32; 4]> {
        let words = status.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace();
        words.map(|word| word.parse().ok()).collect::<Option<Vec<_>>>()?.try_into().ok()
    };
    let permitted = u64::from_str_radix(field(status, "CapPrm:")?, 16).ok()?;
    Some(Identity { uids: four("Uid:")?, gids: four("Gid:")?, permitted })
}

/// The descriptors in the bytes of `pollfd`s that wait for reading.
pub fn polled(bytes: &[u8]) -> impl Iterator<Item = i32> {
    bytes.as_chunks::<8>().0.iter().filter_map(|[a, b, c, d, e, f, ..]| {
        let (fd, events) = (i32::from_ne_bytes([*a, *b, *c, *d]), i16::from_ne_bytes([*e, *f]));
        (fd >= 0 && events & (libc::POLLIN | libc::POLLRDNORM) != 0).then_some(fd)
    })
}

/// The descriptors below `limit` in the bytes of an `fd_set`.
pub fn selected(bytes: &[u8], limit: u64) -> impl Iterator<Item = i32> {
    let bits =
        bytes.iter().enumerate().flat_map(|(at, byte)| (0..8).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| at * 8 + bit));
    bits.take_while(move |fd| (*fd as u64) < limit).filter_map(|fd| i32::try_from(fd).ok())
}

/// The listening sockets of `/proc/PID/net/tcp` or `tcp6`, with their inodes.
pub fn tcp_listeners(table: &str) -> impl Iterator<Item = (SocketAddr, u64)> {
    table.lines().skip(1).filter_map(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let [_, local, _, "0A", _, _, _, _, _, inode, ..] = words[..] else { return None };
        let (ip, port) = local.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
        let ip = match ip.len() {
            8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
            32 => {
                let mut bytes = [0; 16];
                for (part, at) in bytes.as_chunks_mut::<4>().0.iter_mut().zip([0, 8, 16, 24]) {
                    *part = word(at)?;
                }
                IpAddr::V6(Ipv6Addr::from(bytes))
            }
            _ => return None,
        };
        Some((SocketAddr::new(ip, port), inode.parse().ok()?))
    })
}

/// The listening stream sockets of `/proc/PID/net/unix` that have a path, with their inodes.
pub fn unix_listeners(table: &str) -> impl Iterator<Item = (&str, u64)> {
    table.lines().skip(1).filter_map(|line| {
        // No field before the path holds a slash; the path may hold blanks.
        let at = line.find('/')?;
        let [_, _, _, flags, kind, _, inode] = line[..at].split_ascii_whitespace().collect::<Vec<_>>()[..] else { return None };
        // __SO_ACCEPTCON, and SOCK_STREAM.
        let listens = u32::from_str_radix(flags, 16).ok()? & 0x1_0000 != 0 && kind == "0001";
        Some((&line[at..], inode.parse().ok().filter(|_| listens)?))
    })
}

/// Where a process lies in the unified hierarchy, and in systemd's own of a cgroup v1 host: `/proc/PID/cgroup`.
pub fn cgroups(text: &str) -> (Option<&str>, Option<&str>) {
    let find = |prefix| text.lines().find_map(|line| line.split_once(':')?.1.strip_prefix(prefix));
    (find(":"), find("name=systemd:"))
}

#[cfg(test)]
mod tests;
