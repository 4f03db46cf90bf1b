//! Files below a directory that is held open: no path is walked twice, no symlink is followed.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::{check, retry};

/// Opens `name` below `dir` (`openat(2)`), always close-on-exec.
pub fn open_at(dir: BorrowedFd<'_>, name: &CStr, flags: i32, mode: libc::mode_t) -> io::Result<File> {
    // SAFETY: `name` ends in NUL and lives through the call; the kernel keeps no reference to it.
    let fd = retry(|| check(unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC, libc::c_uint::from(mode)) }))?;
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Renames `from` to `to` below the same directory, replacing `to`.
pub fn rename_at(dir: BorrowedFd<'_>, from: &CStr, to: &CStr) -> io::Result<()> {
    // SAFETY: both names end in NUL and live through the call.
    check(unsafe { libc::renameat(dir.as_raw_fd(), from.as_ptr(), dir.as_raw_fd(), to.as_ptr()) }).map(drop)
}

/// Removes `name` below `dir`.
pub fn unlink_at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: `name` ends in NUL and lives through the call.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

/// Gives an open file to a user and group.
pub fn chown(file: BorrowedFd<'_>, uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: takes numbers only; the descriptor is borrowed and so open.
    check(unsafe { libc::fchown(file.as_raw_fd(), uid, gid) }).map(drop)
}

/// Whether the effective user may execute `path` (`faccessat(2)` with `AT_EACCESS`).
pub fn may_execute(path: &CStr) -> bool {
    // SAFETY: `path` ends in NUL and lives through the call.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) == 0 }
}

/// Takes an exclusive `flock(2)`, waiting at most `limit`; false when it is still held then.
///
/// The lock ends with the descriptor, so also with a process that was killed.
pub fn lock(file: &File, limit: Duration) -> io::Result<bool> {
    let end = Instant::now() + limit;
    loop {
        // SAFETY: takes numbers only; the descriptor is borrowed and so open.
        match check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        // A holder writes two small files: a millisecond or two.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sets or clears close-on-exec.
pub fn set_cloexec(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    // SAFETY: takes numbers only; the descriptor is borrowed and so open.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, if on { libc::FD_CLOEXEC } else { 0 }) }).map(drop)
}

/// Takes over the descriptors 3, 4, ... that this process was started with (`sd_listen_fds(3)`), at most `count` of them and
/// only those that are open.
///
/// Call it once, before anything else is opened: only then are these numbers nobody's.
pub fn take_inherited(count: usize) -> Vec<OwnedFd> {
    let last = 3_i32.saturating_add(i32::try_from(count).unwrap_or(i32::MAX));
    // SAFETY: takes numbers only; a number that is not open is an error and ends the list.
    let open = (3..last).take_while(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0);
    // SAFETY: the numbers are open and, as this is the first thing the process does with descriptors, have no other owner.
    open.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// Puts the descriptors at the numbers 3, 4, ... in this order, to be inherited by the next program, and gives up owning them.
pub fn leave_inherited(fds: Vec<OwnedFd>) -> io::Result<()> {
    let give_up = |fd: OwnedFd| std::mem::forget(fd);
    let end = 3_i32.saturating_add(i32::try_from(fds.len()).unwrap_or(i32::MAX));
    if fds.iter().zip(3..).all(|(fd, number)| fd.as_raw_fd() == number) {
        fds.into_iter().for_each(give_up);
        return Ok(());
    }
    // Out of the way first: a number may be another one's goal.
    let high = fds.iter().map(|fd| duplicate_above(fd.as_fd(), end)).collect::<io::Result<Vec<_>>>()?;
    fds.into_iter().for_each(give_up);
    for (fd, number) in high.iter().zip(3..) {
        // SAFETY: takes numbers only. `number` is one of those given up above, so no owner's descriptor is replaced.
        retry(|| check(unsafe { libc::dup2(fd.as_raw_fd(), number) }))?;
    }
    Ok(())
}

/// A close-on-exec duplicate numbered at least `least`.
pub fn duplicate_above(fd: BorrowedFd<'_>, least: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only; the descriptor is borrowed and so open.
    let fd = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) })?;
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes a bell, a FIFO that only its owner may use, or takes the one that is there; readable once somebody rang it.
///
/// Not inotify, which needs no help of those who write: closing such a descriptor waits for the kernel's other processors,
/// 14 ms (median, Linux 6.18), and so does the end of a process that has one.
pub fn open_bell(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<File> {
    use std::os::unix::fs::FileTypeExt as _;
    // SAFETY: `name` ends in NUL and lives through the call.
    match check(unsafe { libc::mkfifoat(dir.as_raw_fd(), name.as_ptr(), 0o600) }) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => drop(other?),
    }
    // For writing too: else it would stay readable from the first writer's end on.
    let bell = open_at(dir, name, libc::O_RDWR | libc::O_NONBLOCK | libc::O_NOFOLLOW, 0)?;
    if bell.metadata()?.file_type().is_fifo() { Ok(bell) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Rings the bell `name`, if somebody listens to it.
pub fn ring(dir: BorrowedFd<'_>, name: &CStr) {
    // Where nobody listens there is nobody to wake, and one that was rung and not heard yet is readable.
    if let Ok(mut bell) = open_at(dir, name, libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOFOLLOW, 0) {
        let _ = bell.write(&[0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn a_bell_is_heard_and_can_be_rung_without_a_listener() {
        let directory = tempfile::tempdir().unwrap();
        let dir = File::open(directory.path()).unwrap();
        let heard = |bell: &File| super::super::process::poll([bell.as_fd()], Some(Duration::ZERO)).unwrap() != [0];
        ring(dir.as_fd(), c"bell");
        let mut bell = open_bell(dir.as_fd(), c"bell").unwrap();
        assert!(!heard(&bell));
        ring(dir.as_fd(), c"bell");
        ring(dir.as_fd(), c"bell");
        assert!(heard(&bell));
        assert_eq!(bell.read(&mut [0; 16]).unwrap(), 2);
        assert!(!heard(&bell), "the writers have gone, and it waits for the next");
        drop(bell);
        ring(dir.as_fd(), c"bell");
        assert!(!heard(&open_bell(dir.as_fd(), c"bell").unwrap()));
        std::fs::write(directory.path().join("file"), "").unwrap();
        assert_eq!(open_bell(dir.as_fd(), c"file").unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
