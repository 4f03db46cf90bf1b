//! Members of another process's epoll set.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use super::files::duplicate_above;
use super::{check, retry};

/// What is to become of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// It becomes one, waiting for these events under this word of the app's.
    Add(u32, u64),
    /// It waits for these events instead, under this word.
    Change(u32, u64),
    /// It is none any more.
    Remove,
}

/// Adds `socket` to the set `epoll`, a duplicate of another process's, as that process's descriptor `number`.
pub fn add_as(epoll: BorrowedFd<'_>, socket: BorrowedFd<'_>, number: i32, events: u32, data: u64) -> io::Result<()> {
    control_as(epoll, socket, number, Control::Add(events, data))
}

/// Changes the set `epoll`, a duplicate of another process's, as that process would do with its descriptor `number`.
///
/// The kernel knows a member by its file and the number it had when added, so the socket must lie at that number for a
/// moment. What lies there in this process is put aside and back; so only for a process with one thread.
pub fn control_as(epoll: BorrowedFd<'_>, socket: BorrowedFd<'_>, number: i32, control: Control) -> io::Result<()> {
    let above = number.checked_add(1).filter(|above| *above > 0).ok_or(io::ErrorKind::InvalidInput)?;
    // Both out of the way of the number.
    let (epoll, socket) = (duplicate_above(epoll, above)?, duplicate_above(socket, above)?);
    // SAFETY: takes numbers only.
    let taken = unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
    let aside = if taken {
        // SAFETY: `number` is open, was just asked for, and stays so: there is one thread. The borrow ends with the call.
        Some(duplicate_above(unsafe { BorrowedFd::borrow_raw(number) }, above)?)
    } else {
        None
    };
    // SAFETY: takes numbers only. What was at `number` has a duplicate, which is put back below.
    retry(|| check(unsafe { libc::dup3(socket.as_raw_fd(), number, libc::O_CLOEXEC) }))?;
    let (operation, events, data) = match control {
        Control::Add(events, data) => (libc::EPOLL_CTL_ADD, events, data),
        Control::Change(events, data) => (libc::EPOLL_CTL_MOD, events, data),
        Control::Remove => (libc::EPOLL_CTL_DEL, 0, 0),
    };
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: the kernel reads one epoll_event, borrowed mutably through the call.
    let done = check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), operation, number, &raw mut event) });
    match &aside {
        // SAFETY: takes numbers only; `number` gets back the file that its owner here expects.
        Some(aside) => retry(|| check(unsafe { libc::dup3(aside.as_fd().as_raw_fd(), number, libc::O_CLOEXEC) })).map(drop)?,
        // SAFETY: takes a number that this function opened and that nobody owns.
        None => drop(unsafe { libc::close(number) }),
    }
    done.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    #[test]
    fn a_number_in_use_keeps_its_file() {
        let epoll = check(
            // SAFETY: takes numbers only.
            unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) },
        )
        .unwrap();
        // SAFETY: the call succeeded, so it is a new descriptor that nobody else owns.
        let epoll: OwnedFd = unsafe { std::os::fd::FromRawFd::from_raw_fd(epoll) };
        let (socket, other) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), std::fs::File::open("/proc/self/stat").unwrap());
        // A number of our own: other tests' threads open descriptors meanwhile, never this high.
        for (number, taken) in [(700, false), (701, true)] {
            let at = taken.then(|| duplicate_above(other.as_fd(), number).unwrap());
            add_as(epoll.as_fd(), socket.as_fd(), number, libc::EPOLLIN as u32, 0x1234).unwrap();
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", epoll.as_raw_fd())).unwrap();
            let added = crate::worker::procfs::watched(&info).find(|watched| watched.fd == number).unwrap();
            assert_eq!((added.events & libc::EPOLLIN as u32, added.data), (libc::EPOLLIN as u32, 0x1234));
            control_as(epoll.as_fd(), socket.as_fd(), number, Control::Change(libc::EPOLLET as u32, 0x1234)).unwrap();
            let member = |info: String| crate::worker::procfs::watched(&info).find(|watched| watched.fd == number);
            let changed = member(std::fs::read_to_string(format!("/proc/self/fdinfo/{}", epoll.as_raw_fd())).unwrap()).unwrap();
            assert_eq!((changed.events & (libc::EPOLLIN | libc::EPOLLET) as u32, changed.data), (libc::EPOLLET as u32, 0x1234));
            control_as(epoll.as_fd(), socket.as_fd(), number, Control::Remove).unwrap();
            assert_eq!(member(std::fs::read_to_string(format!("/proc/self/fdinfo/{}", epoll.as_raw_fd())).unwrap()), None);
            let link = std::fs::read_link(format!("/proc/self/fd/{number}"));
            assert_eq!(link.is_ok_and(|link| link.ends_with("stat")), at.is_some_and(|at| at.as_raw_fd() == number));
        }
    }
}
