//! Processes: their descriptors and memory seen from outside, and what a process may still do.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{check, check_long, retry};

/// The capability that lets a process look into others (`capabilities(7)`).
pub const CAP_SYS_PTRACE: u32 = 19;
/// The one that reads what its owner alone may, the descriptors of a process that hides them for example.
pub const CAP_DAC_READ_SEARCH: u32 = 2;
/// The one that signals processes of others.
pub const CAP_KILL: u32 = 5;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// A descriptor of a process, which stays that very process whatever becomes of its number. Readable when it has ended.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = check_long(unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) })?;
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// A duplicate of another process's descriptor.
pub fn pidfd_getfd(process: BorrowedFd<'_>, number: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only; the descriptor is borrowed and so open.
    let fd = check_long(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })?;
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Reads another process's memory at `address`; returns how much could be read, which ends at the first page that
/// is not there.
pub fn read_memory(pid: u32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // Split at a page's end: a transfer may stop only between two pieces.
    let page = 4096 - (address as usize & 4095);
    let (first, second) = (buffer.len().min(page), buffer.len().saturating_sub(page).min(4096));
    let remote = [
        libc::iovec { iov_base: address as *mut libc::c_void, iov_len: first },
        libc::iovec { iov_base: address.wrapping_add(first as u64) as *mut libc::c_void, iov_len: second },
    ];
    // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer`, which is borrowed mutably; the remote
    // addresses belong to another process and are checked by the kernel.
    let read = unsafe { libc::process_vm_readv(pid as libc::pid_t, &raw const local, 1, remote.as_ptr(), 2, 0) };
    if read < 0 { Err(io::Error::last_os_error()) } else { Ok(read as usize) }
}

/// Waits until one of the descriptors is readable or hung up, at most `limit` (`None`: for ever); returns which are.
/// An interrupting signal counts as nothing readable.
pub fn poll<const N: usize>(descriptors: [BorrowedFd<'_>; N], limit: Option<Duration>) -> io::Result<[i16; N]> {
    let mut set = descriptors.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    // Rounded up: a limit under a millisecond must not become a busy loop.
    let limit = limit.map_or(-1, |limit| i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
    // SAFETY: `set` is an array of N pollfd, borrowed mutably through the call.
    match check(unsafe { libc::poll(set.as_mut_ptr(), N as libc::nfds_t, limit) }) {
        Ok(_) => Ok(set.map(|entry| entry.revents)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok([0; N]),
        Err(error) => Err(error),
    }
}

/// Names this process in `ps` and `/proc/PID/comm`.
pub fn set_name(name: &CStr) {
    // SAFETY: the kernel copies at most 16 bytes of a string that ends in NUL. Without the name all works the same.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Lets `pid` look into this process where Yama would refuse it; without Yama there is nothing to allow.
pub fn allow_tracer(pid: u32) {
    // SAFETY: takes numbers only. EINVAL says that the kernel has no Yama.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::c_ulong::from(pid), 0, 0, 0) };
}

/// From now on no `execve` gains privileges.
pub fn no_new_privileges() -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}

/// Whether this process has a capability in effect.
pub fn has_capability(capability: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|set| set & (1 << capability) != 0)
}

/// The effective user.
pub fn effective_uid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Becomes `uid` and `gid` for ever, without supplementary groups, keeping these `capabilities` alone and gaining nothing
/// by a later `execve`; other processes of that user cannot look into this one.
pub fn drop_to(uid: u32, gid: u32, capabilities: &[u32]) -> io::Result<()> {
    // SAFETY: these calls take numbers, or nothing at all; each is checked, so that no failure leaves more rights than asked for.
    unsafe {
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(gid, gid, gid))?;
        check(libc::setresuid(uid, uid, uid))?;
    }
    keep_capabilities(capabilities)?;
    no_new_privileges()?;
    hide()
}

/// From now on processes of the same user without capabilities cannot look into this one.
pub fn hide() -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }).map(drop)
}

/// Gives up every capability but these, each of a number below 32.
pub fn keep_capabilities(capabilities: &[u32]) -> io::Result<()> {
    /// `cap_user_header_t` of capget(2).
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    /// `cap_user_data_t` of capget(2).
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let header = Header { version: CAPABILITY_VERSION_3, pid: 0 };
    let bits = capabilities.iter().fold(0, |bits, capability| bits | 1 << capability);
    let data = [Data { effective: bits, permitted: bits, inheritable: 0 }, Data { effective: 0, permitted: 0, inheritable: 0 }];
    // SAFETY: header and data have the layout of version 3 (two data blocks) and live through the call.
    check_long(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// Does something with the effective user, group and supplementary groups of somebody else, and takes root's back. Only for a
/// process with a single thread, and for root.
///
/// # Errors
/// When one of the changes fails; where the way back does, the process is not root any more and should end.
pub fn as_user<T>(uid: u32, gid: u32, groups: &[u32], act: impl FnOnce() -> T) -> io::Result<T> {
    const SAME: u32 = u32::MAX;
    let set_groups = |groups: &[u32]| {
        // SAFETY: the kernel reads as many numbers as the slice, which is borrowed, has.
        check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })
    };
    // SAFETY: takes numbers only; a user of number -1 is "as it is".
    let set_group = |gid: u32| check(unsafe { libc::setresgid(SAME, gid, SAME) });
    // SAFETY: as above.
    let set_user = |uid: u32| check(unsafe { libc::setresuid(SAME, uid, SAME) });
    // SAFETY: with a size of 0 the kernel writes nothing and says how many there are.
    let count = check(unsafe { libc::getgroups(0, std::ptr::null_mut()) })?;
    let mut own = vec![0; usize::try_from(count).unwrap_or_default()];
    // SAFETY: the kernel writes at most `count` numbers into a vector of that many.
    check(unsafe { libc::getgroups(count, own.as_mut_ptr()) })?;
    // SAFETY: takes nothing and cannot fail.
    let own_gid = unsafe { libc::getegid() };
    let own_uid = effective_uid();
    let done = set_groups(groups).and_then(|_| set_group(gid)).and_then(|_| set_user(uid)).map(|_| act());
    set_user(own_uid).and_then(|_| set_group(own_gid)).and_then(|_| set_groups(&own))?;
    done
}

/// Executes a program in this process; returns only when that failed.
pub fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>();
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    restore_sigpipe();
    // SAFETY: both arrays end in a null pointer and point to strings that end in NUL; all outlive the call, which either
    // replaces the process or returns.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Whether SIGPIPE was ignored before Rust's runtime ignored it: what systemd's `IgnoreSIGPIPE=` said.
static SIGPIPE_WAS_DEFAULT: AtomicBool = AtomicBool::new(false);

/// Runs before `main`, where alone the inherited disposition can still be seen.
extern "C" fn remember_sigpipe() {
    // SAFETY: a zeroed sigaction is valid memory to be written; with a null new action the call only reads.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: as above; `action` is borrowed mutably through the call.
    let known = unsafe { libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut action) } == 0;
    SIGPIPE_WAS_DEFAULT.store(known && action.sa_sigaction == libc::SIG_DFL, Ordering::Relaxed);
}

// SAFETY: the section holds pointers to functions that the C runtime calls once, in a single thread, before `main`;
// this one allocates nothing and touches only an atomic and sigaction(2).
#[used]
#[unsafe(link_section = ".init_array")]
static REMEMBER_SIGPIPE: extern "C" fn() = remember_sigpipe;

/// Gives SIGPIPE back the disposition this process was started with: `execve` hands an ignored signal on.
fn restore_sigpipe() {
    if SIGPIPE_WAS_DEFAULT.load(Ordering::Relaxed) {
        // SAFETY: SIG_DFL is a valid disposition and no handler of ours is replaced.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
}

/// Ignores these signals.
pub fn ignore_signals(signals: &[i32]) {
    for signal in signals {
        // SAFETY: SIG_IGN is a valid disposition; the numbers are those of catchable signals.
        unsafe { libc::signal(*signal, libc::SIG_IGN) };
    }
}

/// A handler that does nothing: its signal merely interrupts a system call.
extern "C" fn wake(_signal: libc::c_int) {}

/// Lets SIGALRM interrupt blocking calls instead of ending the process.
pub fn interrupt_on_alarm() -> io::Result<()> {
    // SAFETY: a zeroed sigaction is valid: no flags (so no SA_RESTART) and an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = wake as *const () as libc::sighandler_t;
    // SAFETY: the handler touches nothing, so it may run anywhere; the old action is not asked for.
    check(unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) }).map(drop)
}

/// Asks for SIGALRM in so many seconds; 0 takes it back.
pub fn alarm(seconds: u32) {
    // SAFETY: takes a number and cannot fail.
    unsafe { libc::alarm(seconds) };
}

/// Sends a signal to a whole process group.
pub fn kill_group(group: u32, signal: i32) {
    // SAFETY: takes numbers only. A group that is gone already is what was wanted.
    unsafe { libc::kill(-(group as libc::pid_t), signal) };
}

/// From now on files are made with the modes that are asked for, less what nobody but the owner should write.
pub fn usual_umask() {
    // SAFETY: takes a number and cannot fail.
    unsafe { libc::umask(0o022) };
}

/// Starts a session of its own, out of reach of signals to the old process group.
pub fn new_session() {
    // SAFETY: takes nothing. It fails only for a group leader, which has such a session already.
    unsafe { libc::setsid() };
}

/// Closes every descriptor but `keep`.
pub fn close_all_but(mut keep: Vec<RawFd>) {
    keep.sort_unstable();
    let mut from: u32 = 0;
    let close = |first: u32, last: u32| {
        if first <= last {
            // SAFETY: takes numbers only. The caller is a process that gave up every owner of a descriptor not in `keep`.
            // Without close_range(2) (kernels before 5.9, which have no ADDFD either) they merely stay open.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    };
    for fd in keep.into_iter().filter_map(|fd| u32::try_from(fd).ok()) {
        if fd >= from {
            if fd > from {
                close(from, fd - 1);
            }
            from = fd + 1;
        }
    }
    close(from, u32::MAX);
}

/// Runs `child` in a process that is nobody's child but PID 1's (or the nearest subreaper's) and ends with its result.
///
/// Returns once the process between has left. Only for a process with a single thread: else the child could find
/// a lock of the allocator held for ever.
pub fn spawn_orphan(child: impl FnOnce() -> i32) -> io::Result<()> {
    // SAFETY: the process has one thread (the caller's promise), so the child may do whatever this process may.
    let between = check(unsafe { libc::fork() })?;
    if between == 0 {
        // SAFETY: as above.
        match unsafe { libc::fork() } {
            0 => exit_now(child()),
            // SAFETY: ends the process at once without running anything of the parent's.
            pid => unsafe { libc::_exit(i32::from(pid < 0)) },
        }
    }
    let mut status = 0;
    // SAFETY: `status` is borrowed mutably through the call; the process between leaves at once, so this ends.
    retry(|| check(unsafe { libc::waitpid(between, &raw mut status, 0) }))?;
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EAGAIN)) }
}

/// Forks; the child gets none, the parent the child's PID. Only for a process with a single thread, as
/// [`spawn_orphan`].
pub fn fork() -> io::Result<Option<i32>> {
    // SAFETY: the process has one thread (the caller's promise), so the child may do whatever this process may.
    check(unsafe { libc::fork() }).map(|pid| (pid != 0).then_some(pid))
}

/// Waits for a child's end, however long that takes; the signal that ended it, where one did.
pub fn wait(child: i32) -> io::Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: `status` is borrowed mutably through the call.
    retry(|| check(unsafe { libc::waitpid(child, &raw mut status, 0) }))?;
    Ok(libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)))
}

/// Ends this process at once, running nothing on the way.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(code) }
}
