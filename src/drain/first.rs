//! The quick way to a worker that gets no new connections: the sets that its threads wait for at this moment.
//!
//! A look at everything follows in any case, and judges. It asks for each descriptor of each process, which of a worker of a
//! thousand connections takes several times as long as this; what this one did is confirmed by it, or made whole.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Instant;

use super::change;
use super::group::is_member;
use super::look::{Look, MAX_INFO, Target, duplicate, is_set, members_of, read_set, tasks};
use super::plan::{Entry, Seen, takes};
use crate::worker::procfs::{self, Waiting};
use crate::worker::sys::epoll::Control;
use crate::worker::sys::process::pidfd_open;

/// Most threads that are asked, of all processes: an idle one is soon found.
const MAX_THREADS: usize = 256;
/// Most sets.
const MAX_SETS: usize = 64;

impl Look {
    /// Masks the shared sockets in the sets that threads wait for; whether there were any. What is not as usual - an entry that the kernel
    /// lets only be removed, a number that is another file's by now - is left to the look that follows.
    pub(super) fn first(&mut self, target: &Target<'_>, end: Instant) -> bool {
        let (mut threads, mut sets, mut any) = (0, 0, false);
        for pid in members_of(target) {
            let Ok(process) = pidfd_open(pid) else { continue };
            // Behind the pidfd, as in any look.
            if !is_member(pid, target.group) {
                continue;
            }
            let mut waited = BTreeSet::new();
            for thread in tasks(pid) {
                threads += 1;
                if threads > MAX_THREADS || Instant::now() >= end {
                    return any;
                }
                let line = fs::read_to_string(format!("/proc/{pid}/task/{thread}/syscall")).unwrap_or_default();
                if let Some(Waiting::Epoll(number)) = procfs::waiting(&line) {
                    waited.insert(number);
                }
            }
            for number in waited {
                sets += 1;
                if sets > MAX_SETS || Instant::now() >= end {
                    return any;
                }
                let Some(set) = duplicate(&process, number, self, is_set) else { continue };
                any |= self.mask(target, &process, &set);
                self.sets.known((pid, number), set);
            }
        }
        any
    }

    /// Masks the shared sockets in this set, whose numbers there are those of this process.
    fn mask(&mut self, target: &Target<'_>, process: &OwnedFd, set: &OwnedFd) -> bool {
        let Some(text) = read_set(set, MAX_INFO) else { return false };
        let wanted = procfs::watched(&text).filter(|watched| target.wanted(watched.inode).is_some());
        let seen = Seen { entries: wanted.map(|watched| Entry { set: 0, watched }).collect(), ..Seen::default() };
        let mut any = false;
        for (Entry { watched, .. }, control) in takes(&seen) {
            if control == Control::Remove {
                continue;
            }
            let is = |own: &OwnedFd| target.is_shared(own, watched.inode);
            let Some(socket) = duplicate(process, watched.fd, self, is) else { continue };
            any |= change::carry_out(set.as_fd(), socket.as_fd(), &watched, control).is_ok();
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::super::group::own_group;
    use super::super::{kernel, look};
    use super::*;
    use crate::names::Address;
    use crate::worker::inherited::Socket;

    /// Two sets with its standard input, and waits for one of them.
    const SERVER: &str = "import select, sys
sets = [select.epoll() for _ in range(2)]
for one in sets: one.register(0, select.EPOLLIN)
print('waits', flush=True)
sets[0].poll()";

    #[test]
    fn the_set_that_a_thread_waits_for_is_masked_and_the_look_behind_it_finds_the_others() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets = [Socket { address: Address::Tcp(listener.local_addr().unwrap()), inode: kernel::inode(listener.as_fd()).unwrap() }];
        let mut server = Command::new("python3");
        server.args(["-c", SERVER]).stdin(listener.as_fd().try_clone_to_owned().unwrap()).stdout(Stdio::piped());
        let mut server = server.spawn().unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "waits");
        let group = own_group();
        let target = Target { main: server.id(), sockets: &sockets, ours: &[], group: &group };
        let mut look = Look::default();
        let end = Instant::now() + Duration::from_secs(20);
        // It says that it waits before it does.
        while !look.first(&target, end) {
            assert!(Instant::now() < end, "its set was not found");
        }
        assert!(!look.first(&target, end), "masked already");
        target.look(&mut look, false);
        let left = takes(&look.seen(&target, false, Instant::now() + look::LONGEST));
        assert_eq!(left.len(), 1, "the set that nobody waits for: {left:?}");
        server.kill().unwrap();
        server.wait().unwrap();
    }
}
