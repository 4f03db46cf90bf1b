//! What was seen of a worker -> what to take out of its epoll sets, or why that is of no use; and when it is quiet.
//!
//! Pure: no I/O, no clock. What it is given may be a lie of the worker's, who harms itself alone by it.

use std::collections::{BTreeMap, BTreeSet};

use super::record::How;
use crate::worker::procfs::Watched;
use crate::worker::sys::epoll::Control;

/// The bits that make a member of a set report a connection. ONESHOT is among them: a member that fired once is armed again by
/// its app, and is looked for again.
const READS: u32 = (libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLRDNORM | libc::EPOLLRDBAND | libc::EPOLLRDHUP | libc::EPOLLONESHOT) as u32;

/// A shared socket in an epoll set of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Which set.
    pub set: usize,
    /// As the set knows it.
    pub watched: Watched,
}

/// All that was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Every entry of a shared socket.
    pub entries: Vec<Entry>,
    /// What threads wait in for a shared socket, beside epoll.
    pub waits: BTreeSet<How>,
    /// A process that has a shared socket has an io_uring.
    pub uring: bool,
    /// The kernel told of some process's descriptors.
    pub told: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Change these entries; behind that no connection reaches the worker.
    Quiet(Vec<(Entry, Control)>),
    /// It accepts in a way that cannot be ended from outside.
    ByItself(How),
}

/// Judges a worker that is about to drain. `expected` is how it accepted when it got ready: a server that handles one request
/// at a time is not seen to accept meanwhile, and one that has no room for another connection takes its socket out of its set
/// until it has. That one has the most to lose; what it puts back is found by a later look.
pub(super) fn judge(seen: &Seen, expected: Option<How>) -> Verdict {
    // One thread that accepts otherwise, and whatever is taken out of sets ends nothing.
    if let Some(how) = seen.waits.first() {
        return Verdict::ByItself(*how);
    }
    if !seen.entries.is_empty() {
        return Verdict::Quiet(takes(seen));
    }
    match expected {
        Some(how) if how != How::Epoll => Verdict::ByItself(how),
        _ if seen.uring => Verdict::ByItself(How::IoUring),
        Some(How::Epoll) if seen.told => Verdict::Quiet(vec![]),
        _ => Verdict::ByItself(How::Unseen),
    }
}

/// How it accepts, where that was seen.
pub(super) fn how(seen: &Seen) -> Option<How> {
    match judge(seen, None) {
        Verdict::Quiet(_) => Some(How::Epoll),
        Verdict::ByItself(How::Unseen) => None,
        Verdict::ByItself(how) => Some(how),
    }
}

/// The changes that end its accepting.
///
/// An entry is masked rather than removed: the app may change it later, and many take it for a mistake of their own when it is
/// not there. One with EPOLLEXCLUSIVE the kernel only lets be removed.
pub(super) fn takes(seen: &Seen) -> Vec<(Entry, Control)> {
    let live = seen.entries.iter().filter(|entry| entry.watched.events & READS & !(libc::EPOLLONESHOT as u32) != 0);
    live.map(|entry| {
        let Watched { events, data, .. } = entry.watched;
        let exclusive = events & libc::EPOLLEXCLUSIVE as u32 != 0;
        (*entry, if exclusive { Control::Remove } else { Control::Change(events & !READS, data) })
    })
    .collect()
}

/// A thread, as one look found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Thread {
    /// Process and thread.
    pub id: (u32, u32),
    /// How long and how often it has run; none where it runs, or where the kernel does not say.
    pub slept: Option<(u64, u64)>,
    /// The set that it waits for, of those that a socket was taken out of.
    pub waits_for: Option<usize>,
}

/// The grace: a thread may have come back from `epoll_wait` with a connection's event just before the socket was taken out.
///
/// It is over when each thread was seen asleep twice without having run between, and for each set one of them waits for it.
#[derive(Debug, Default)]
pub(super) struct Grace {
    last: BTreeMap<(u32, u32), (u64, u64)>,
    settled: BTreeMap<(u32, u32), Option<usize>>,
}

impl Grace {
    /// One more look; whether the grace is over. `sets` are those that a socket was taken out of.
    pub(super) fn look(&mut self, threads: &[Thread], sets: &BTreeSet<usize>) -> bool {
        let mut now = BTreeMap::new();
        for thread in threads {
            let Some(slept) = thread.slept else { continue };
            now.insert(thread.id, slept);
            if self.last.get(&thread.id) == Some(&slept) {
                // Where it sleeps elsewhere, on a lock or a file, it may still hold the event: that it waits for the set tells.
                let settled = self.settled.entry(thread.id).or_insert(None);
                *settled = thread.waits_for.or(*settled);
            }
        }
        self.last = now;
        let waited: BTreeSet<usize> = self.settled.values().flatten().copied().collect();
        let all = threads.iter().all(|thread| self.settled.contains_key(&thread.id));
        all && !threads.is_empty() && sets.is_subset(&waited)
    }

    /// Something was taken out once more: all begins anew.
    pub(super) fn again(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN: u32 = libc::EPOLLIN as u32;

    fn entry(set: usize, events: u32) -> Entry {
        Entry { set, watched: Watched { fd: 3, events, data: 7, inode: 1 } }
    }

    #[test]
    fn entries_are_masked_and_exclusive_ones_removed() {
        let (et, exclusive) = (libc::EPOLLET as u32, libc::EPOLLEXCLUSIVE as u32);
        let seen = Seen { entries: vec![entry(0, IN | et), entry(1, IN | exclusive), entry(1, et)], ..Seen::default() };
        let expected = vec![(entry(0, IN | et), Control::Change(et, 7)), (entry(1, IN | exclusive), Control::Remove)];
        assert_eq!(judge(&seen, None), Verdict::Quiet(expected));
        // One that fired once and is not armed: there is nothing to change yet, and it is epoll all the same.
        let fired = Seen { entries: vec![entry(0, libc::EPOLLONESHOT as u32)], ..Seen::default() };
        assert_eq!((judge(&fired, None), how(&fired)), (Verdict::Quiet(vec![]), Some(How::Epoll)));
    }

    #[test]
    fn one_thread_that_accepts_otherwise_is_enough() {
        let both = Seen { entries: vec![entry(0, IN)], waits: BTreeSet::from([How::Poll, How::Accept]), uring: true, told: true };
        assert_eq!(judge(&both, Some(How::Epoll)), Verdict::ByItself(How::Accept));
        let ring = Seen { uring: true, told: true, ..Seen::default() };
        let nothing = Seen { told: true, ..Seen::default() };
        for (seen, expected, how) in [
            (&ring, None, How::IoUring),
            (&ring, Some(How::Select), How::Select),
            (&ring, Some(How::Epoll), How::IoUring),
            (&nothing, None, How::Unseen),
            (&nothing, Some(How::Poll), How::Poll),
            (&nothing, Some(How::Refused), How::Refused),
        ] {
            assert_eq!(judge(seen, expected), Verdict::ByItself(how));
        }
        assert_eq!((how(&nothing), how(&ring)), (None, Some(How::IoUring)));
    }

    #[test]
    fn a_worker_that_has_taken_its_socket_out_for_want_of_room_is_waited_for() {
        let full = Seen { told: true, ..Seen::default() };
        assert_eq!(judge(&full, Some(How::Epoll)), Verdict::Quiet(vec![]));
        assert_eq!(how(&full), None, "of one that gets ready it says nothing");
        let waits = Seen { waits: BTreeSet::from([How::Accept]), ..full };
        assert_eq!(judge(&waits, Some(How::Epoll)), Verdict::ByItself(How::Accept));
        assert_eq!(judge(&Seen::default(), Some(How::Epoll)), Verdict::ByItself(How::Unseen), "its first thread is gone, and all with it");
    }

    fn thread(tid: u32, slept: Option<u64>, waits_for: Option<usize>) -> Thread {
        Thread { id: (1, tid), slept: slept.map(|turns| (turns * 1000, turns)), waits_for }
    }

    #[test]
    fn the_grace_ends_when_all_have_slept_and_each_set_is_waited_for() {
        let sets = BTreeSet::from([0]);
        let mut grace = Grace::default();
        let pool = |turns| thread(2, Some(turns), None);
        assert!(!grace.look(&[thread(1, Some(5), Some(0)), pool(1)], &sets), "once is not enough");
        assert!(!grace.look(&[thread(1, None, None), pool(1)], &sets), "it runs");
        assert!(!grace.look(&[thread(1, Some(6), Some(0)), pool(2)], &sets), "both have run");
        assert!(grace.look(&[thread(1, Some(6), Some(0)), pool(2)], &sets));
        assert!(!grace.look(&[thread(1, Some(6), Some(0)), pool(2), thread(3, Some(1), None)], &sets), "one more");
        grace.again();
        assert!(!grace.look(&[thread(1, Some(6), Some(0)), pool(2)], &sets));
        assert!(!grace.look(&[thread(1, Some(6), Some(0)), pool(2)], &BTreeSet::from([0, 1])), "nobody waits for the other set");
        assert!(!Grace::default().look(&[], &sets));
    }

    #[test]
    fn a_loop_that_sleeps_elsewhere_with_the_event_in_its_hands_is_waited_for() {
        let (mut grace, sets) = (Grace::default(), BTreeSet::from([0]));
        for _ in 0..5 {
            assert!(!grace.look(&[thread(1, Some(5), None)], &sets));
        }
        // Busy with what is left, and seen in its set once without having run: later it may run as it likes.
        grace.look(&[thread(1, Some(9), Some(0))], &sets);
        assert!(grace.look(&[thread(1, Some(9), Some(0))], &sets));
        assert!(grace.look(&[thread(1, None, None)], &sets));
    }
}
