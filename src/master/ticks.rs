//! A clock that wakes once a tick.
//!
//! tokio's own wheel wakes up to three times on its way to a time half a minute away, which for a process that else sleeps is
//! most of what it ever does. The kernel's timer (timerfd_create(2)) is late by as little.

use std::io::{self, Read as _};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Ticks at a fixed interval, the first of them at once.
#[derive(Debug)]
pub(super) struct Ticks {
    timer: AsyncFd<std::fs::File>,
}

impl Ticks {
    /// Needs a tokio runtime. An interval of 0 is one of a millisecond.
    ///
    /// # Errors
    /// When the kernel has no more descriptors.
    pub fn every(interval: Duration) -> io::Result<Self> {
        // SAFETY: constants; the descriptor is nobody else's.
        let timer = unsafe {
            let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let spec = |time: Duration| libc::timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let times = libc::itimerspec { it_interval: spec(interval.max(Duration::from_millis(1))), it_value: spec(Duration::from_nanos(1)) };
        // SAFETY: an open timer and a whole `itimerspec`; the old one is not asked for.
        if unsafe { libc::timerfd_settime(std::os::fd::AsRawFd::as_raw_fd(&timer), 0, &raw const times, std::ptr::null_mut()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the file owns the timer and keeps it as long as it lives.
        let timer = unsafe { AsyncFd::register_with_interest(std::fs::File::from(timer), Interest::READABLE) };
        Ok(Self { timer: timer.map_err(io::Error::from)? })
    }

    /// The next tick; several that nobody waited for are one.
    pub async fn next(&self) {
        loop {
            // Only a runtime that ends gives an error, and then nobody waits any more.
            let Ok(mut ready) = self.timer.readable().await else { return std::future::pending().await };
            if let Ok(Ok(_)) = ready.try_io(|timer| timer.get_ref().read(&mut [0; 8])) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn it_ticks_at_once_and_then_at_its_interval() {
        let interval = Duration::from_millis(40);
        // Before it is made: on a busy machine it has run for a while when it is.
        let begin = Instant::now();
        let ticks = Ticks::every(interval).unwrap();
        ticks.next().await;
        ticks.next().await;
        ticks.next().await;
        assert!(begin.elapsed() >= 2 * interval - Duration::from_millis(1), "{:?}", begin.elapsed());
        assert_eq!(Ticks::every(Duration::ZERO).map(|_| ()).map_err(|why| why.kind()), Ok(()));
    }
}
