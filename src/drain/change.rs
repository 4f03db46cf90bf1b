//! One change in one of the worker's epoll sets.
//!
//! It must not know what is to be changed, or why.

use std::io;
use std::os::fd::BorrowedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::worker::procfs::Watched;
use crate::worker::sys::epoll::{Control, control_as};
use crate::worker::sys::process::poll;

/// How often a removed entry is given back at most: where siblings are slow the queue is never empty.
const TIMES: u32 = 3;
/// How long each time: who has been woken runs by then, on a busy machine too.
const GIVEN: Duration = Duration::from_millis(30);
const PAUSE: Duration = Duration::from_millis(1);

/// Carries one change of an entry out. One that is not there any more is as it should be.
pub(super) fn carry_out(set: BorrowedFd<'_>, socket: BorrowedFd<'_>, entry: &Watched, control: Control) -> io::Result<()> {
    match control_as(set, socket, entry.fd, control) {
        Err(why) if why.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        // As EPOLLEXCLUSIVE is refused, whatever a kernel to come refuses.
        Err(why) if matches!(control, Control::Change(..)) && why.raw_os_error() == Some(libc::EINVAL) => {
            carry_out(set, socket, entry, Control::Remove)
        }
        Ok(()) if control == Control::Remove => give_back(set, socket, entry),
        other => other,
    }
}

/// With EPOLLEXCLUSIVE, for which alone entries are removed, the kernel wakes one waiter for a connection. Where that was this
/// worker, and its entry is gone before it runs, it sleeps on and nobody else is woken: the connection would lie in the queue until
/// the next one comes. So, while one lies there, the worker gets its entry back, which wakes it anew; what it accepts it answers.
fn give_back(set: BorrowedFd<'_>, socket: BorrowedFd<'_>, entry: &Watched) -> io::Result<()> {
    for _ in 0..TIMES {
        // One that the app has put back by itself is found by the next look.
        if !lies_there(socket) || control_as(set, socket, entry.fd, Control::Add(entry.events, entry.data)).is_err() {
            break;
        }
        let end = Instant::now() + GIVEN;
        while lies_there(socket) && Instant::now() < end {
            sleep(PAUSE);
        }
        match control_as(set, socket, entry.fd, Control::Remove) {
            Err(why) if why.raw_os_error() == Some(libc::ENOENT) => break,
            other => other?,
        }
    }
    Ok(())
}

/// Whether a connection lies in the queue of a listening socket.
fn lies_there(socket: BorrowedFd<'_>) -> bool {
    poll([socket], Some(Duration::ZERO)).is_ok_and(|[events]| events & libc::POLLIN != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::procfs::{self, Waiting};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(20);

    fn make() -> OwnedFd {
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        // SAFETY: a new descriptor that nobody else owns.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }

    fn members(set: &OwnedFd) -> Vec<Watched> {
        procfs::watched(&std::fs::read_to_string(format!("/proc/self/fdinfo/{}", set.as_raw_fd())).unwrap()).collect()
    }

    /// A listener with a connection in its queue, and an exclusive entry of a set in which it lies.
    fn queued(set: &OwnedFd) -> (TcpListener, TcpStream, Watched) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let events = (libc::EPOLLIN | libc::EPOLLEXCLUSIVE) as u32;
        // A number of our own: other threads open descriptors meanwhile, never this high.
        control_as(set.as_fd(), listener.as_fd(), 900, Control::Add(events, 7)).unwrap();
        let entry = members(set)[0];
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let end = Instant::now() + LONG;
        while !lies_there(listener.as_fd()) {
            assert!(Instant::now() < end, "no connection came");
            sleep(PAUSE);
        }
        (listener, client, entry)
    }

    #[test]
    fn a_connection_whose_wake_up_went_with_the_entry_is_accepted_all_the_same() {
        let set = make();
        let (listener, _client, entry) = queued(&set);
        // The worker that was woken for it finds nothing when it runs, and sleeps again.
        control_as(set.as_fd(), listener.as_fd(), entry.fd, Control::Remove).unwrap();
        let (tells, told) = mpsc::channel();
        let (number, accepts) = (set.as_raw_fd(), listener.try_clone().unwrap());
        let worker = std::thread::spawn(move || {
            // SAFETY: takes nothing and cannot fail.
            tells.send(unsafe { libc::gettid() }).unwrap();
            let mut event = libc::epoll_event { events: 0, u64: 0 };
            // SAFETY: the kernel writes one epoll_event, borrowed mutably through the call; the set outlives this thread.
            let count = unsafe { libc::epoll_wait(number, &raw mut event, 1, 20_000) };
            (count, accepts.accept().is_ok())
        });
        let thread = told.recv().unwrap();
        let end = Instant::now() + LONG;
        while procfs::waiting(&std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).unwrap())
            != Some(Waiting::Epoll(number))
        {
            assert!(Instant::now() < end, "it does not wait");
            sleep(PAUSE);
        }
        give_back(set.as_fd(), listener.as_fd(), &entry).unwrap();
        let (count, accepted) = worker.join().unwrap();
        assert_eq!((count, accepted, members(&set)), (1, true, vec![]));
    }

    #[test]
    fn a_queue_that_nobody_empties_holds_nothing_up() {
        let set = make();
        let (listener, _client, entry) = queued(&set);
        carry_out(set.as_fd(), listener.as_fd(), &entry, Control::Remove).unwrap();
        assert_eq!((members(&set), lies_there(listener.as_fd())), (vec![], true));
        carry_out(set.as_fd(), listener.as_fd(), &entry, Control::Remove).unwrap();
        assert_eq!(members(&set), vec![], "what was not there is not put there");
    }
}
