//! Epoll sets, each held once by a duplicate of ours, whatever numbers the worker has for it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};

use super::kernel;

/// Sets, each once and for ever at its place.
#[derive(Default)]
pub(super) struct Sets {
    pub all: Vec<OwnedFd>,
    /// Their places in the order of their files: the kernel compares two.
    order: Vec<usize>,
    /// By process and number, for kernels that do not.
    numbers: BTreeMap<(u32, i32), usize>,
    /// With which one the next reading begins: where there was no time for all, with the first that was not read.
    pub next: usize,
}

impl Sets {
    /// The place of a set: an app may have many numbers for one.
    pub(super) fn known(&mut self, number: (u32, i32), set: OwnedFd) -> usize {
        let next = self.all.len();
        let place = if kernel::compare(set.as_fd(), set.as_fd()).is_some() {
            let compare = |at: &usize| kernel::compare(self.all[*at].as_fd(), set.as_fd()).unwrap_or(Ordering::Less);
            match self.order.binary_search_by(compare) {
                Ok(found) => return self.order[found],
                Err(place) => self.order.insert(place, next),
            }
            next
        } else {
            *self.numbers.entry(number).or_insert(next)
        };
        match self.all.get_mut(place) {
            Some(known) => *known = set,
            None => self.all.push(set),
        }
        place
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn make() -> OwnedFd {
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        // SAFETY: a new descriptor that nobody else owns.
        unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) }
    }

    #[test]
    fn a_set_is_known_by_all_its_numbers() {
        let mut sets = Sets::default();
        let all: Vec<OwnedFd> = (0..20).map(|_| make()).collect();
        let mut places = |from: i32| {
            let known = all.iter().zip(from..).map(|(set, number)| sets.known((1, number), set.try_clone().unwrap()));
            known.collect::<Vec<_>>()
        };
        assert_eq!(places(0), (0..20).collect::<Vec<_>>());
        assert_eq!(places(0), (0..20).collect::<Vec<_>>());
        if kernel::compare(all[0].as_fd(), all[0].as_fd()).is_some() {
            assert_eq!(places(50), (0..20).collect::<Vec<_>>());
        }
    }
}
