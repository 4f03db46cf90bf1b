//! The kernel's side of `SECCOMP_RET_USER_NOTIF` (`seccomp_unotify(2)`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{seccomp_notif, seccomp_notif_addfd, seccomp_notif_resp, seccomp_notif_sizes, sock_filter, sock_fprog};

/// Room for the kernel's structures, which grow from version to version; they are 80 and 24 bytes today.
const ROOM: usize = 64;

/// Whether this kernel's structures fit into ours. Errors are those of the call: ENOSYS, EPERM under a filter.
pub fn sizes_fit() -> io::Result<bool> {
    let mut sizes = seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
    // SAFETY: the kernel writes one seccomp_notif_sizes, borrowed mutably.
    if unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, &raw mut sizes) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let room = ROOM * size_of::<u64>();
    Ok(usize::from(sizes.seccomp_notif) <= room && usize::from(sizes.seccomp_notif_resp) <= room)
}

/// Installs the filter on this (single) thread for ever, and returns the descriptor that its reports come to.
pub fn install(program: &[sock_filter]) -> io::Result<OwnedFd> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let attempt = |flags: libc::c_ulong| {
        // SAFETY: `program` points to `length` instructions that live through the call; the kernel copies and checks them and
        // does not write despite the pointer's type.
        let fd = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
    };
    // Once a report is read, a signal that does not kill must not interrupt and repeat the call (Go preempts by signals).
    // Kernels before 5.19 do not know the flag; the supervisor copes with a repeated bind.
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let fd = match attempt(flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => attempt(flags)?,
        other => other?,
    };
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// A reported call.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Its number for [`valid`] and [`answer`].
    pub id: u64,
    /// The *thread* that waits.
    pub thread: u32,
    /// Number of the system call.
    pub call: i64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// Takes the next report. `NotFound` (ENOENT): its thread has died meanwhile; `Interrupted`: a signal came.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Report> {
    // The kernel wants the room zeroed.
    let mut room = [0_u64; ROOM];
    // SAFETY: `room` is larger than the kernel's structure ([`sizes_fit`]), zeroed and aligned for it.
    if unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, room.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel filled in a seccomp_notif, all fields of which are plain numbers; `room` is larger and aligned to 8.
    let report = unsafe { room.as_ptr().cast::<seccomp_notif>().read() };
    Ok(Report { id: report.id, thread: report.pid, call: i64::from(report.data.nr), arguments: report.data.args })
}

/// Whether the reported call still waits: what was read of its thread before this holds.
pub fn valid(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads eight bytes of `id`, which lives through the call.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
}

/// Puts our descriptor `source` at the number `target` of the reported process, closing what was there.
pub fn replace_fd(listener: BorrowedFd<'_>, id: u64, source: BorrowedFd<'_>, target: u32, cloexec: bool) -> io::Result<()> {
    let request = seccomp_notif_addfd {
        id,
        flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
        srcfd: source.as_raw_fd() as u32,
        newfd: target,
        newfd_flags: if cloexec { libc::O_CLOEXEC as u32 } else { 0 },
    };
    // SAFETY: the kernel reads one seccomp_notif_addfd, which lives through the call.
    let done = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// How a reported call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The kernel carries it out as usual.
    Continue,
    /// It was done for the app: it returns 0.
    Done,
}

/// Ends a reported call. Its thread may have died meanwhile: then there is nobody to answer.
pub fn answer(listener: BorrowedFd<'_>, id: u64, answer: Answer) {
    let flags = if answer == Answer::Continue { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 } else { 0 };
    let mut room = [0_u64; ROOM];
    // SAFETY: `room` is larger than a seccomp_notif_resp and aligned to 8.
    unsafe { room.as_mut_ptr().cast::<seccomp_notif_resp>().write(seccomp_notif_resp { id, val: 0, error: 0, flags }) };
    // SAFETY: the kernel reads its structure from `room`, which is larger ([`sizes_fit`]) and zero behind ours.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, room.as_ptr()) };
}
