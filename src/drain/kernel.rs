//! The few system calls of a drain that neither std nor `worker::sys` has a name for. All `unsafe` of this room.
//!
//! It must not know workers: descriptors and numbers in, `io::Error` out.

use std::cmp::Ordering;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::time::Duration;

/// `KCMP_FILE` of kcmp(2).
const KCMP_FILE: libc::c_int = 0;
/// As many numbers as the kernel gives by itself (`fs.nr_open`): the app's own may be as high.
const NUMBERS: libc::rlim_t = 1 << 20;
/// Much more than a look at 100,000 descriptors takes; what a process made up beyond that ends this one, and SIGTERM follows.
const MEMORY: libc::rlim_t = 1 << 30;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Whether two descriptors of this process are one open file, and where not, which comes first in an order of the kernel's
/// that stays the same until the next boot. None where the kernel does not say.
pub(super) fn compare(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Option<Ordering> {
    let own = std::process::id() as libc::pid_t;
    // SAFETY: takes numbers only; both descriptors are borrowed and so open.
    match unsafe { libc::syscall(libc::SYS_kcmp, own, own, KCMP_FILE, one.as_raw_fd(), other.as_raw_fd()) } {
        0 => Some(Ordering::Equal),
        1 => Some(Ordering::Less),
        2 => Some(Ordering::Greater),
        _ => None,
    }
}

/// Sends a signal to the very process of this descriptor.
pub(super) fn signal(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: takes numbers only, and a null pointer that stands for no further information.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Bounds what this process may take: as many numbers of descriptors as the app may use, little memory, no dump.
pub(super) fn bound() {
    let set = |resource, least: libc::rlim_t, most: libc::rlim_t| {
        let limit = libc::rlimit { rlim_cur: least, rlim_max: most };
        // SAFETY: the kernel reads one rlimit, which lives through the call.
        unsafe { libc::setrlimit(resource, &raw const limit) == 0 }
    };
    let mut numbers = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // Root may raise its own bound; others go up to it.
    if !set(libc::RLIMIT_NOFILE, NUMBERS, NUMBERS)
        // SAFETY: the kernel writes one rlimit, borrowed mutably through the call.
        && unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut numbers) } == 0
    {
        set(libc::RLIMIT_NOFILE, numbers.rlim_max, numbers.rlim_max);
    }
    set(libc::RLIMIT_AS, MEMORY, MEMORY);
    set(libc::RLIMIT_CORE, 0, 0);
}

/// IOPRIO_WHO_PROCESS of ioprio_set(2).
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
/// The kernel's own, in nanoseconds.
const TIMER_SLACK: libc::c_ulong = 50_000;
/// A bit for each of 8192 processors, as many as a kernel is built for: those that are not there, or not allowed by the
/// control group, the kernel leaves out.
const PROCESSORS: [u8; 1024] = [u8::MAX; 1024];

/// Takes back what the unit takes from its app, and with it from each of its steps, be it of root's or not: a low priority for
/// processor and disk, some of the processors, late timers, an early death where memory is short. What the unit gives stays.
///
/// Root may all of it; others what the kernel lets them, and are as slow as their app for the rest.
pub(super) fn as_any_other() {
    // SAFETY: takes a number; a process knows its own policy.
    if matches!(unsafe { libc::sched_getscheduler(0) }, libc::SCHED_BATCH | libc::SCHED_IDLE) {
        let normal = libc::sched_param { sched_priority: 0 };
        // SAFETY: the kernel reads one sched_param, which lives through the call.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const normal) };
    }
    // SAFETY: take numbers only. A failure reads as -1, which is no low priority either.
    unsafe {
        if libc::getpriority(libc::PRIO_PROCESS, 0) > 0 {
            libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        }
        // No class of its own: that of its priority.
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0);
        libc::prctl(libc::PR_SET_TIMERSLACK, TIMER_SLACK, 0, 0, 0);
    }
    // SAFETY: the kernel reads as many bytes as the array has; what they are called does not matter to it.
    unsafe { libc::sched_setaffinity(0, PROCESSORS.len(), PROCESSORS.as_ptr().cast()) };
    let adjusted = std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse::<i32>().ok());
    if adjusted.is_some_and(|adjusted| adjusted > 0) {
        // One that is killed with its worker, or before it, has nobody to drain.
        let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    }
}

/// The processor's time that this process has had. Not what a clock on the wall shows: on a busy machine a look that costs
/// little takes long.
pub(super) fn spent() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, borrowed mutably through the call; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// A socket that hears of sockets (`sock_diag(7)`), of the groups of these bits.
pub(super) fn diagnosis(groups: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes numbers only.
    let fd = check(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_SOCK_DIAG) })?;
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: a zeroed sockaddr_nl is valid: no process, no groups.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = groups;
    let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `address`, which lives through the call.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(socket)
}

/// What a link in this directory leads to, as far as it fits into the buffer: by its name alone, since to walk down to it and to
/// make room for it takes longer than to read it.
pub(super) fn link<'a>(directory: BorrowedFd<'_>, name: &CStr, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    // SAFETY: the kernel reads `name`, which ends with a zero, and writes at most `buffer.len()` bytes into `buffer`, borrowed mutably.
    let read = unsafe { libc::readlinkat(directory.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    if read < 0 { Err(io::Error::last_os_error()) } else { Ok(buffer.get(..read as usize).unwrap_or_default()) }
}

/// The inode of a descriptor.
pub(super) fn inode(fd: BorrowedFd<'_>) -> Option<u64> {
    // SAFETY: a zeroed stat is valid memory to be written.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one stat, borrowed mutably through the call; the descriptor is borrowed and so open.
    let told = unsafe { libc::fstat(fd.as_raw_fd(), &raw mut stat) };
    (told == 0).then_some(stat.st_ino)
}

/// The state of a TCP socket, as the kernel numbers them; none of another.
pub(super) fn tcp_state(socket: BorrowedFd<'_>) -> Option<u8> {
    let mut state = 0_u8;
    let mut length = 1;
    // SAFETY: the kernel writes at most `length` bytes, one, into `state`, both borrowed mutably. It is the first of `tcp_info`.
    let told = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut state).cast(), &raw mut length) };
    (told == 0 && length == 1).then_some(state)
}

/// Takes one message, or `WouldBlock`. One that did not come from the kernel has length 0.
pub(super) fn hear(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: a zeroed sockaddr_nl is valid memory to be written.
    let mut from: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer` and `length` into `from`, both borrowed mutably.
    let read =
        unsafe { libc::recvfrom(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0, (&raw mut from).cast(), &raw mut length) };
    match read {
        ..0 => Err(io::Error::last_os_error()),
        read if from.nl_pid == 0 => Ok(read as usize),
        _ => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn duplicates_are_one_file_and_the_order_of_others_holds() {
        let (one, other) = (std::fs::File::open("/proc/self/stat").unwrap(), std::fs::File::open("/proc/self/stat").unwrap());
        let again = one.try_clone().unwrap();
        let Some(same) = compare(one.as_fd(), again.as_fd()) else {
            return assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::ENOSYS), "a kernel without kcmp(2)");
        };
        let order = compare(one.as_fd(), other.as_fd()).unwrap();
        assert_eq!((same, compare(other.as_fd(), again.as_fd())), (Ordering::Equal, Some(order.reverse())));
        assert_ne!(order, Ordering::Equal);
    }
}
