//! The worker, looked at: its processes, what is in their epoll sets, its threads. Every list has a bound, and so has every look.
//!
//! The worker controls its descriptors' numbers, and what is behind them from one moment to the next. So a process is held by
//! its pidfd and its control group asked for behind that; a set or a socket is duplicated first and asked what it is then, as
//! our own, which cannot become another's. What cannot be read is not there.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::time::{Duration, Instant};

use super::group::is_member;
use super::plan::{Entry, Seen, Thread};
use super::record::How;
use super::sets::Sets;
use super::{change, kernel};
use crate::names::Address;
use crate::worker::inherited::{Socket, bound_to};
use crate::worker::procfs::{self, Waiting};
use crate::worker::ready::look::waited_for;
use crate::worker::ready::members::members;
use crate::worker::sys::epoll::Control;
use crate::worker::sys::process::{self, pidfd_getfd, pidfd_open};
use crate::worker::sys::sockets::{is_listening, is_nonblocking, is_stream};

/// Most descriptors of all processes together.
const MAX_DESCRIPTORS: usize = 100_000;
/// Most sets: a process has one or a few, and a worker as many processes as cores.
const MAX_SETS: usize = 4096;
/// Most threads of all processes together.
const MAX_THREADS: usize = 4096;
/// Most of what is read of one set, some 70 bytes a member, and of all.
pub(super) const MAX_INFO: usize = 8 << 20;
const MAX_INFOS: usize = 32 << 20;
/// Bytes of a link that are read: those that count are shorter.
const LINK: usize = 64;
/// The longest that each part of a look may take, so that no more time has to be asked for within one: a worker of 1,000
/// connections takes some milliseconds.
pub(super) const LONGEST: Duration = Duration::from_secs(2);

/// Connections, by the process that has one, its number there, and its inode.
pub(super) type Open = BTreeMap<(u32, i32), u64>;

/// States of TCP that still carry something: `ESTABLISHED`, `SYN_RECV` (one that is accepted has sent its request along, by TCP Fast
/// Open), `FIN_WAIT1` (the app has shut down its side, and what it wrote is still on its way) and `CLOSE_WAIT` (the client has,
/// and may wait for an answer).
const OPEN: [u8; 4] = [1, 3, 4, 8];

/// A process of the worker that has one of its shared sockets.
struct Holder {
    pid: u32,
    /// The very process, whatever becomes of its number.
    pidfd: OwnedFd,
    /// Its own numbers of sets, and which set that is.
    sets: BTreeMap<i32, usize>,
    /// Its own numbers of the shared sockets.
    sockets: BTreeMap<i32, u64>,
    uring: bool,
}

/// A worker as the last look found it.
#[derive(Default)]
pub(super) struct Look {
    holders: Vec<Holder>,
    /// Each set that was ever seen, once, by a duplicate of ours.
    pub(super) sets: Sets,
    /// A duplicate of each shared socket that is still held.
    shared: BTreeMap<u64, OwnedFd>,
    /// Its open connections of the shared sockets.
    pub open: Open,
    /// Of each socket, whether it is such a connection: asked once.
    kinds: BTreeMap<u64, bool>,
    /// The same of the look before.
    before: BTreeMap<u64, bool>,
    /// The kernel does not let us look into one of the processes.
    pub refused: bool,
    /// A bound was reached.
    pub partly: bool,
    /// The kernel told of some descriptor. Of a process whose first thread has ended it tells of none.
    told: bool,
}

/// What to look for.
pub(super) struct Target<'a> {
    /// The main process.
    pub main: u32,
    /// The shared sockets, as the worker's own file says.
    pub sockets: &'a [Socket],
    /// Our own processes in the worker's control group.
    pub ours: &'a [u32],
    /// That group: our own, which no number that has become another's leads out of.
    pub group: &'a [u8],
}

/// What bounds a look.
struct Budget {
    end: Instant,
    descriptors: usize,
    partly: bool,
}

impl Budget {
    fn new() -> Self {
        Self { end: Instant::now() + LONGEST, descriptors: MAX_DESCRIPTORS, partly: false }
    }
    fn spend(&mut self) -> bool {
        self.descriptors = self.descriptors.saturating_sub(1);
        self.lasts()
    }
    fn lasts(&mut self) -> bool {
        self.partly |= self.descriptors == 0 || Instant::now() >= self.end;
        !self.partly
    }
}

impl Target<'_> {
    pub(super) fn wanted(&self, inode: u64) -> Option<&Address> {
        self.sockets.iter().find(|socket| socket.inode == inode).map(|socket| &socket.address)
    }

    /// Looks at all processes of the worker, once more where there was a look before. `connections`: at these too, which takes
    /// longer than all the rest.
    pub(super) fn look(&self, look: &mut Look, connections: bool) {
        *look = Look { sets: std::mem::take(&mut look.sets), before: std::mem::take(&mut look.kinds), ..Look::default() };
        let mut budget = Budget::new();
        for pid in members_of(self) {
            if !budget.lasts() {
                break;
            }
            let Ok(pidfd) = pidfd_open(pid) else { continue };
            // Behind the pidfd: the number could have been another's before.
            if !is_member(pid, self.group) {
                continue;
            }
            self.process(pid, pidfd, look, connections, &mut budget);
        }
        look.partly = budget.partly;
    }

    fn process(&self, pid: u32, pidfd: OwnedFd, look: &mut Look, connections: bool, budget: &mut Budget) {
        let descriptors = format!("/proc/{pid}/fd");
        let (directory, listing) = match fs::File::open(&descriptors).and_then(|open| Ok((open, fs::read_dir(&descriptors)?))) {
            Ok(both) => both,
            Err(why) => {
                look.refused |= why.kind() == io::ErrorKind::PermissionDenied;
                return;
            }
        };
        let mut holder = Holder { pid, pidfd, sets: BTreeMap::new(), sockets: BTreeMap::new(), uring: false };
        let mut sets = Vec::new();
        for entry in listing.flatten() {
            if !budget.spend() {
                break;
            }
            look.told = true;
            let Some(name) = CString::new(entry.file_name().into_vec()).ok() else { continue };
            let Some(number) = name.to_str().ok().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let mut buffer = [0; LINK];
            let link = match kernel::link(directory.as_fd(), &name, &mut buffer) {
                Ok(link) => link,
                Err(why) => {
                    look.refused |= why.kind() == io::ErrorKind::PermissionDenied;
                    continue;
                }
            };
            match link {
                b"anon_inode:[eventpoll]" => sets.push(number),
                b"anon_inode:[io_uring]" => holder.uring = true,
                link => {
                    let Some(inode) = procfs::socket_inode(link) else { continue };
                    if self.wanted(inode).is_some() {
                        holder.sockets.insert(number, inode);
                    } else if connections && self.is_connection(&holder.pidfd, number, inode, look) {
                        look.open.insert((pid, number), inode);
                    }
                }
            }
        }
        // A child may have the set of its parent without the socket: all sets are looked at.
        for number in sets {
            if look.sets.all.len() >= MAX_SETS || !budget.spend() {
                budget.partly = true;
                break;
            }
            let Some(set) = duplicate(&holder.pidfd, number, look, is_set) else { continue };
            holder.sets.insert(number, look.sets.known((pid, number), set));
        }
        for (number, inode) in &holder.sockets {
            if !look.shared.contains_key(inode)
                && let Some(own) = duplicate(&holder.pidfd, *number, look, |own| self.is_shared(own, *inode))
            {
                look.shared.insert(*inode, own);
            }
        }
        if !holder.sockets.is_empty() || !holder.sets.is_empty() {
            look.holders.push(holder);
        }
    }

    /// Whether a socket of the worker's is an open connection of a shared one.
    fn is_connection(&self, pidfd: &OwnedFd, number: i32, inode: u64, look: &mut Look) -> bool {
        if let Some(known) = look.kinds.get(&inode).or_else(|| look.before.get(&inode)).copied() {
            look.kinds.insert(inode, known);
            return known;
        }
        let Some(own) = duplicate(pidfd, number, look, |own| is_inode(own, inode)) else { return false };
        // What was accepted is bound to the listener's port, or path: asked first, for of all others it is all that is asked.
        let here = |bound: &Address| {
            self.sockets.iter().any(|socket| match (&socket.address, bound) {
                (Address::Tcp(listener), Address::Tcp(at)) => listener.port() == at.port(),
                (Address::Unix(listener), Address::Unix(at)) => listener == at,
                _ => false,
            })
        };
        let is = bound_to(own.as_fd()).filter(here).is_some_and(|bound| match kernel::tcp_state(own.as_fd()) {
            Some(state) => OPEN.contains(&state),
            // A path's; a datagram socket, of HTTP/3 say, may be bound to the port as well.
            None => is_stream(own.as_fd(), matches!(bound, Address::Unix(_))) && !is_listening(own.as_fd()),
        });
        look.kinds.insert(inode, is);
        is
    }

    /// Whether our duplicate is what it should be: a listening socket of this inode, at the address it was declared for.
    pub(super) fn is_shared(&self, own: &OwnedFd, inode: u64) -> bool {
        let address = self.wanted(inode);
        let bound = bound_to(own.as_fd());
        is_inode(own, inode)
            && is_listening(own.as_fd())
            && address.zip(bound).is_some_and(|(address, bound)| bound == *address || bound.overlaps(address))
    }
}

/// Whether a descriptor of ours is of this inode.
fn is_inode(own: &OwnedFd, inode: u64) -> bool {
    kernel::inode(own.as_fd()) == Some(inode)
}

/// Which of these connections are still there, at their numbers; those that are not looked at in time are.
pub(super) fn still(open: &mut Open, end: Instant) {
    open.retain(|(pid, number), inode| {
        if Instant::now() >= end {
            return true;
        }
        let link = fs::read_link(format!("/proc/{pid}/fd/{number}"));
        link.is_ok_and(|link| procfs::socket_inode(link.as_os_str().as_bytes()) == Some(*inode))
    });
}

/// The worker's processes, without ours.
pub(super) fn members_of(target: &Target<'_>) -> impl Iterator<Item = u32> {
    members(target.main).into_iter().filter(|pid| !target.ours.contains(pid))
}

/// Whether a descriptor of ours is an epoll set.
pub(super) fn is_set(own: &OwnedFd) -> bool {
    fs::read_link(format!("/proc/self/fd/{}", own.as_raw_fd())).is_ok_and(|link| link.as_os_str() == "anon_inode:[eventpoll]")
}

/// What is in a set of ours, as the kernel tells it, up to so many bytes.
pub(super) fn read_set(set: &OwnedFd, most: usize) -> Option<String> {
    let mut text = String::new();
    let info = fs::File::open(format!("/proc/self/fdinfo/{}", set.as_raw_fd()));
    info.and_then(|info| info.take(most as u64).read_to_string(&mut text)).is_ok().then_some(text)
}

/// A duplicate of a descriptor, where it is what it should be.
pub(super) fn duplicate(pidfd: &OwnedFd, number: i32, look: &mut Look, is: impl Fn(&OwnedFd) -> bool) -> Option<OwnedFd> {
    match pidfd_getfd(pidfd.as_fd(), number) {
        Ok(own) => Some(own).filter(is),
        Err(why) => {
            look.refused |= why.kind() == io::ErrorKind::PermissionDenied;
            None
        }
    }
}

impl Look {
    /// The shared sockets in the sets, and what threads wait in for one. `threads`: look at these too.
    pub(super) fn seen(&mut self, target: &Target<'_>, threads: bool, end: Instant) -> Seen {
        let mut seen = Seen {
            uring: self.holders.iter().any(|holder| holder.uring && !holder.sockets.is_empty()),
            told: self.told,
            ..Seen::default()
        };
        let (mut left, count, first) = (MAX_INFOS, self.sets.all.len(), self.sets.next);
        for set in (first..count).chain(0..first.min(count)) {
            if left == 0 || Instant::now() >= end {
                (self.partly, self.sets.next) = (true, set);
                break;
            }
            let most = left.min(MAX_INFO);
            if let Some(text) = read_set(&self.sets.all[set], most) {
                self.partly |= text.len() >= most;
                left -= text.len();
                seen.entries.extend(
                    procfs::watched(&text).filter(|watched| target.wanted(watched.inode).is_some()).map(|watched| Entry { set, watched }),
                );
            }
        }
        if threads {
            let mut looked = 0;
            for holder in self.holders.iter().filter(|holder| !holder.sockets.is_empty()) {
                for thread in tasks(holder.pid) {
                    looked += 1;
                    if looked > MAX_THREADS || Instant::now() >= end {
                        self.partly = true;
                        return seen;
                    }
                    let line = fs::read_to_string(format!("/proc/{}/task/{thread}/syscall", holder.pid));
                    if let Err(why) = &line {
                        self.refused |= why.kind() == io::ErrorKind::PermissionDenied;
                    }
                    let Some(waiting) = line.ok().and_then(|line| procfs::waiting(&line)) else { continue };
                    let how = match waiting {
                        // It passes through: the kernel lets it wait for the socket's lock, never for a connection.
                        Waiting::Accept(number) if self.never_blocks(holder, number) => continue,
                        Waiting::Accept(_) => How::Accept,
                        Waiting::Poll(..) => How::Poll,
                        Waiting::Select(..) => How::Select,
                        Waiting::Epoll(_) => continue,
                    };
                    if waited_for(holder.pid, waiting).iter().any(|number| holder.sockets.contains_key(number)) {
                        seen.waits.insert(how);
                    }
                }
            }
        }
        seen
    }

    /// Whether `accept` of this number of a process's is one that returns at once where there is no connection.
    fn never_blocks(&self, holder: &Holder, number: i32) -> bool {
        let own = holder.sockets.get(&number).and_then(|inode| self.shared.get(inode));
        own.is_some_and(|own| is_nonblocking(own.as_fd()).unwrap_or(false))
    }

    /// Carries changes out, as far as there is time: what is left of them is found again. One that is refused, too.
    pub(super) fn change_all(&mut self, changes: &[(Entry, Control)], end: Instant) {
        for (entry, control) in changes {
            if Instant::now() >= end {
                self.partly = true;
                break;
            }
            if let Some(socket) = self.shared.get(&entry.watched.inode) {
                let _ = change::carry_out(self.sets.all[entry.set].as_fd(), socket.as_fd(), &entry.watched, *control);
            }
        }
    }

    /// The threads of the processes that have a shared socket or a set. Where these are too many, one that never sleeps stands
    /// for the rest.
    pub(super) fn threads(&mut self, end: Instant) -> Vec<Thread> {
        let mut threads = Vec::new();
        for holder in &self.holders {
            for thread in tasks(holder.pid) {
                if threads.len() >= MAX_THREADS || Instant::now() >= end {
                    self.partly = true;
                    threads.push(Thread { id: (0, 0), slept: None, waits_for: None });
                    return threads;
                }
                let read = |name: &str| fs::read_to_string(format!("/proc/{}/task/{thread}/{name}", holder.pid)).ok();
                // In this order: one that has run in between has another count the next time.
                let (line, slept) = (read("syscall").unwrap_or_default(), read("schedstat").and_then(|text| procfs::runs(&text)));
                let (waits_for, accepts) = match procfs::waiting(&line) {
                    Some(Waiting::Epoll(number)) => (holder.sets.get(&number).copied(), false),
                    // It waits for the socket's lock, with the event of a connection in its hands.
                    Some(Waiting::Accept(number)) => (None, holder.sockets.contains_key(&number)),
                    _ => (None, false),
                };
                let slept = slept.filter(|_| procfs::is_asleep(&line) && !accepts);
                threads.push(Thread { id: (holder.pid, thread), slept, waits_for });
            }
        }
        threads
    }

    /// Continues the processes that are stopped, once; whether there were any. A worker that was stopped by hand would hold its
    /// requests for as long as the drain may take.
    pub(super) fn carry_on(&self) -> bool {
        let mut any = false;
        for holder in &self.holders {
            let stat = fs::read_to_string(format!("/proc/{}/stat", holder.pid)).unwrap_or_default();
            if procfs::state(&stat) == Some('T') {
                any |= kernel::signal(holder.pidfd.as_fd(), libc::SIGCONT).is_ok();
            }
        }
        any
    }
}

pub(super) fn tasks(pid: u32) -> impl Iterator<Item = u32> {
    let listing = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    listing.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether a process has ended.
pub(super) fn has_ended(pidfd: &OwnedFd) -> bool {
    process::poll([pidfd.as_fd()], Some(Duration::ZERO)).is_ok_and(|[events]| events != 0)
}

#[cfg(test)]
mod tests;
