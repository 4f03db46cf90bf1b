//! The supervisor: answers the app's reported calls until the app has left.
//!
//! What the app says may change between our look and the kernel's: it can fool only itself, since all it can get is a socket
//! that was meant for it. Whatever is not clearly ours goes on as usual.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::Shared;
use super::kernel::{self, Answer, Report};
use crate::names::Address;
use crate::worker::error::{Priority, say};
use crate::worker::inherited::Sockets;
use crate::worker::procfs::{self, Watched};
use crate::worker::ready::look;
use crate::worker::sys::epoll::add_as;
use crate::worker::sys::sockets::{self, SOCKADDR_MAX, SockAddr};
use crate::worker::sys::{files, process};

/// Seconds that a read of a report may take: it was announced, but its thread may die in between, and kernels before 6.11 then
/// wait for the next one, perhaps for ever.
const ANNOUNCED: u32 = 1;

/// The life of the supervisor, and of the watcher that stays as its parent; returns the exit status of either.
pub fn main(parent: BorrowedFd<'_>, shared: &[Shared], directory: &File, main: u32) -> i32 {
    process::new_session();
    process::ignore_signals(&[
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGPIPE,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGTSTP,
    ]);
    match process::fork() {
        Ok(None) => supervise(parent, shared, directory, main),
        Ok(Some(supervisor)) => watch(supervisor, main),
        Err(_) => 1,
    }
}

/// Waits for the supervisor and says so when it was killed under the app: without it the kernel refuses the app's next
/// bind (ENOSYS), which nobody would understand. Nearly all its memory is shared with the supervisor.
fn watch(supervisor: i32, main: u32) -> i32 {
    process::close_all_but(vec![libc::STDERR_FILENO]);
    process::set_name(c"pc-swap-watch");
    let _ = std::env::set_current_dir("/");
    let Ok(app) = process::pidfd_open(main) else { return 0 };
    let Ok(Some(signal)) = process::wait(supervisor) else { return 0 };
    // At the end of a worker systemd kills all that is left of it.
    let runs = process::poll([app.as_fd()], Some(std::time::Duration::ZERO)).is_ok_and(|[events]| events == 0);
    if runs {
        say(
            Priority::Error,
            &format!(
                "the bind supervisor of this worker was killed (signal {signal}): the app's next bind fails (ENOSYS); restart the worker"
            ),
        );
    }
    0
}

fn supervise(parent: BorrowedFd<'_>, shared: &[Shared], directory: &File, main: u32) -> i32 {
    // The other side's end of the pair too: else its death would not be seen.
    close_all_but(&[parent.as_raw_fd()], shared, directory);
    process::set_name(c"pc-swap");
    // The release must not be kept from being removed or unmounted.
    let _ = std::env::set_current_dir("/");
    let Ok(()) = process::interrupt_on_alarm().and_then(|()| sockets::send(parent, std::process::id(), None)) else { return 1 };
    // Without a filter the other side just closes: nothing to do.
    let Ok((_, Some(listener))) = sockets::receive(parent) else { return 0 };
    if sockets::send(parent, 0, None).is_err() {
        return 1;
    }
    close_all_but(&[listener.as_raw_fd()], shared, directory);
    let mut supervisor = Supervisor { listener, shared, directory, main, said: Said::default() };
    match supervisor.serve() {
        Ok(()) => 0,
        Err(error) => {
            say(Priority::Error, &format!("the bind supervisor ends: {error}; the app's next bind fails, restart the worker"));
            1
        }
    }
}

/// Closes what the supervisor does not need: `keep`, stderr, the shared sockets and the directory stay.
fn close_all_but(keep: &[RawFd], shared: &[Shared], directory: &File) {
    let own = shared.iter().map(|shared| shared.socket.as_raw_fd()).chain([2, directory.as_raw_fd()]);
    process::close_all_but(own.chain(keep.iter().copied()).collect());
}

/// Which warnings were written: each once, or a loop of the app would fill the journal.
#[derive(Debug, Default)]
struct Said {
    unreadable: bool,
    refused: bool,
    listener: bool,
}

struct Supervisor<'a> {
    listener: OwnedFd,
    shared: &'a [Shared],
    directory: &'a File,
    main: u32,
    said: Said,
}

impl Supervisor<'_> {
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let [events] = process::poll([self.listener.as_fd()], None)?;
            if events & libc::POLLIN == 0 {
                if events & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0 {
                    return Ok(());
                }
                continue;
            }
            process::alarm(ANNOUNCED);
            let report = kernel::receive(self.listener.as_fd());
            process::alarm(0);
            match report {
                Ok(report) => {
                    let answer = self.judge(&report);
                    kernel::answer(self.listener.as_fd(), report.id, answer);
                }
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ENOENT)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn judge(&mut self, report: &Report) -> Answer {
        let done = match report.call {
            libc::SYS_bind => self.bind(report),
            libc::SYS_listen => self.listen(report),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_unlink => self.unlink(report, libc::AT_FDCWD, report.arguments[0]),
            // Not of a directory; of an `int` only the low half of the register counts.
            libc::SYS_unlinkat if report.arguments[2] as u32 == 0 => self.unlink(report, report.arguments[0] as i32, report.arguments[1]),
            libc::SYS_seccomp => {
                if !std::mem::replace(&mut self.said.listener, true) {
                    say(
                        Priority::Warning,
                        "this app installs a seccomp listener of its own, which the kernel refuses (EBUSY) while swap at bind is on: set `swap = false` for it",
                    );
                }
                false
            }
            _ => false,
        };
        if done { Answer::Done } else { Answer::Continue }
    }

    /// A bind of a declared address gets the inherited socket.
    fn bind(&mut self, report: &Report) -> bool {
        let [fd, address, length, ..] = report.arguments;
        let Ok(fd) = i32::try_from(fd as u32) else { return false };
        let mut buffer = [0; SOCKADDR_MAX];
        let length = (length as u32 as usize).min(SOCKADDR_MAX);
        let read = match self.read(report, address, &mut buffer[..length]) {
            Some(read) if kernel::valid(self.listener.as_fd(), report.id) => read,
            _ => return false,
        };
        let found = match sockets::parse_sockaddr(&buffer[..read]) {
            Some(SockAddr::Tcp(address)) => choose(self.shared, address),
            Some(SockAddr::Unix(path)) => self.declared_path(report.thread, libc::AT_FDCWD, path),
            None => None,
        };
        let Some(index) = found else { return false };
        let shared = &self.shared[index];
        match self.swap(report, fd, shared) {
            Ok(done) => done,
            Err(error) => {
                if !std::mem::replace(&mut self.said.refused, true) {
                    let hint = if error.raw_os_error() == Some(libc::EPERM) { ": is kernel.yama.ptrace_scope above 0?" } else { "" };
                    say(
                        Priority::Warning,
                        &format!("process {} binds {} and cannot be given systemd's socket: {error}{hint}", report.thread, shared.address),
                    );
                }
                false
            }
        }
    }

    fn swap(&self, report: &Report, fd: i32, shared: &Shared) -> io::Result<bool> {
        let process = thread_group(report.thread)?;
        let pidfd = process::pidfd_open(process)?;
        let theirs = process::pidfd_getfd(pidfd.as_fd(), fd)?;
        if inode(theirs.as_fd())? == shared.inode {
            // Bound already: a signal interrupted the first try after the swap, or the app binds an inherited descriptor.
            return Ok(true);
        }
        if !sockets::is_stream(theirs.as_fd(), matches!(shared.address, Address::Unix(_))) {
            return Ok(false);
        }
        let cloexec = close_on_exec(report.thread, fd)?;
        // Flags of a description are shared by all workers: event loops need it, and one that blocked would hang after a lost
        // race for a connection. So it is set when one wants it and never cleared.
        if sockets::is_nonblocking(theirs.as_fd())? && !sockets::is_nonblocking(shared.socket.as_fd())? {
            sockets::set_nonblocking(shared.socket.as_fd(), true)?;
        }
        let registered = registered(process, fd, inode(theirs.as_fd())?);
        kernel::replace_fd(self.listener.as_fd(), report.id, shared.socket.as_fd(), fd as u32, cloexec)?;
        // Netty's native transport adds its socket to the epoll set before it binds; the kernel took the old one out.
        for (epoll, watched) in registered {
            process::pidfd_getfd(pidfd.as_fd(), epoll)
                .and_then(|epoll| add_as(epoll.as_fd(), shared.socket.as_fd(), fd, watched.events, watched.data))
                .unwrap_or_else(|error| say(Priority::Warning, &format!("{} was swapped and cannot be put back into the app's epoll set: {error}; set `swap = false` and let the app use LISTEN_FDS", shared.address)));
        }
        Ok(true)
    }

    /// A listen on a shared socket would set all workers' accept queue to the app's wish (511, 100, ...): ours is set instead.
    fn listen(&mut self, report: &Report) -> bool {
        let Ok(link) = fs::read_link(format!("/proc/{}/fd/{}", report.thread, report.arguments[0] as i32)) else { return false };
        let Some(inode) = procfs::socket_inode(link.as_os_str().as_bytes()) else { return false };
        let Some(index) = self.shared.iter().position(|shared| shared.inode == inode) else { return false };
        let shared = &self.shared[index];
        if sockets::listen(shared.socket.as_fd(), shared.backlog).is_err() {
            return false;
        }
        if let Ok(name) = CString::new(Sockets::mark(self.main, index)) {
            // Where the mark cannot be made `ready` still sees the app accept.
            let _ = files::open_at(self.directory.as_fd(), &name, libc::O_CREAT | libc::O_WRONLY | libc::O_NOFOLLOW, 0o400);
            files::ring(self.directory.as_fd(), Sockets::BELL);
        }
        true
    }

    /// Removing the declared path before binding it would orphan the socket that systemd holds.
    fn unlink(&mut self, report: &Report, directory: i32, path: u64) -> bool {
        let mut buffer = [0; SOCKADDR_MAX];
        let Some(read) = self.read(report, path, &mut buffer) else { return false };
        let Some(end) = buffer[..read].iter().position(|byte| *byte == 0) else { return false };
        let path = Path::new(std::ffi::OsStr::from_bytes(&buffer[..end]));
        self.declared_path(report.thread, directory, path).is_some() && kernel::valid(self.listener.as_fd(), report.id)
    }

    /// The declared unix socket that this path of the app names.
    fn declared_path(&self, thread: u32, directory: i32, path: &Path) -> Option<usize> {
        let find =
            |path: &Path| self.shared.iter().position(|shared| matches!(&shared.address, Address::Unix(declared) if declared == path));
        if path.is_absolute() {
            return find(path);
        }
        let base = match directory {
            libc::AT_FDCWD => fs::read_link(format!("/proc/{thread}/cwd")),
            fd => fs::read_link(format!("/proc/{thread}/fd/{fd}")),
        };
        find(&plain(&base.ok()?, path))
    }

    fn read(&mut self, report: &Report, address: u64, buffer: &mut [u8]) -> Option<usize> {
        match process::read_memory(report.thread, address, buffer) {
            Ok(read) => Some(read),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                if !std::mem::replace(&mut self.said.unreadable, true) {
                    say(
                        Priority::Warning,
                        &format!(
                            "the addresses that process {} binds cannot be seen ({error}), so it gets none of systemd's sockets: {}, or use LISTEN_FDS",
                            report.thread,
                            unseen(&fs::read_to_string(YAMA).unwrap_or_default())
                        ),
                    );
                }
                None
            }
            // A bad address, or the thread has died: the kernel says it better.
            Err(_) => None,
        }
    }
}

/// Where the kernel says who may look into whom.
const YAMA: &str = "/proc/sys/kernel/yama/ptrace_scope";

/// Why what an app binds cannot be seen under this scope of Yama, and the remedy.
fn unseen(scope: &str) -> String {
    match scope.trim() {
        scope @ ("2" | "3") => {
            format!("kernel.yama.ptrace_scope is {scope}, which lets root alone look: `sudo sysctl -w kernel.yama.ptrace_scope=1`")
        }
        _ => "kernel.yama.ptrace_scope above 0 allows it for the main process alone, and not for a program without read permission; let the main process bind".to_owned(),
    }
}

/// The shared socket for a TCP address: the very same, else one of the same family that overlaps, else any that does. What the
/// configuration declares wins over what the app writes: `0.0.0.0:3000` of the app gets a declared `127.0.0.1:3000`.
fn choose(shared: &[Shared], wanted: SocketAddr) -> Option<usize> {
    // `::ffff:127.0.0.1` is how Java and others bind IPv4.
    let wanted = SocketAddr::new(wanted.ip().to_canonical(), wanted.port());
    let tcp = |shared: &Shared| match shared.address {
        Address::Tcp(address) => Some(address),
        Address::Unix(_) => None,
    };
    let overlaps = |shared: &&Shared| shared.address.overlaps(&Address::Tcp(wanted));
    let place = |test: &dyn Fn(&Shared) -> bool| shared.iter().position(test);
    place(&|shared| tcp(shared) == Some(wanted))
        .or_else(|| place(&|shared| overlaps(&shared) && tcp(shared).is_some_and(|declared| declared.is_ipv4() == wanted.is_ipv4())))
        .or_else(|| place(&|shared| overlaps(&shared)))
}

/// A relative path below `base`, with `.` and `..` taken by their letters: good enough to recognise a declared path.
fn plain(base: &Path, path: &Path) -> PathBuf {
    use std::path::Component;
    let mut out = base.to_owned();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::Normal(name) => out.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// The process of a thread: descriptors are asked for by process.
fn thread_group(thread: u32) -> io::Result<u32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status"))?;
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    group.and_then(|text| text.trim().parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether a descriptor of the app is closed by `execve`.
fn close_on_exec(thread: u32, fd: i32) -> io::Result<bool> {
    let info = fs::read_to_string(format!("/proc/{thread}/fdinfo/{fd}"))?;
    let flags = procfs::fd_flags(&info).ok_or(io::ErrorKind::InvalidData)?;
    Ok(flags & libc::O_CLOEXEC as u32 != 0)
}

/// The epoll sets, by descriptor, in which this socket is a member.
fn registered(process: u32, fd: i32, inode: u64) -> Vec<(i32, Watched)> {
    let descriptors = look::descriptors(process, &BTreeSet::new());
    let sets = descriptors.epolls.into_iter().map(|epoll| (epoll, look::info(process, epoll)));
    sets.filter_map(|(epoll, info)| Some((epoll, procfs::watched(&info).find(|watched| watched.fd == fd && watched.inode == inode)?)))
        .collect()
}

fn inode(fd: BorrowedFd<'_>) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(File::from(fd.try_clone_to_owned()?).metadata()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(addresses: &[&str]) -> Vec<Shared> {
        let make = |address: &&str| Shared {
            socket: File::open("/dev/null").unwrap().into(),
            address: address.parse().unwrap(),
            inode: 0,
            backlog: 0,
        };
        addresses.iter().map(make).collect()
    }

    #[test]
    fn an_address_finds_its_socket() {
        let cases: [(&[&str], &str, Option<usize>); 12] = [
            (&["[::]:3000"], "[::]:3000", Some(0)),
            (&["[::]:3000"], "0.0.0.0:3000", Some(0)),
            (&["[::]:3000"], "127.0.0.1:3000", Some(0)),
            (&["0.0.0.0:3000"], "[::]:3000", Some(0)),
            (&["127.0.0.1:3000"], "[::]:3000", Some(0)),
            (&["127.0.0.1:3000"], "[::ffff:127.0.0.1]:3000", Some(0)),
            (&["127.0.0.1:3000"], "[::1]:3000", None),
            (&["127.0.0.1:3000"], "127.0.0.2:3000", None),
            (&["[::]:3000"], "[::]:3001", None),
            (&["[::1]:3000", "127.0.0.1:3000"], "0.0.0.0:3000", Some(1)),
            (&["0.0.0.0:3000", "[::]:3000"], "[::]:3000", Some(1)),
            (&["/run/x.sock"], "0.0.0.0:3000", None),
        ];
        for (declared, wanted, index) in cases {
            assert_eq!(choose(&shared(declared), wanted.parse().unwrap()), index, "{declared:?} {wanted}");
        }
    }

    #[test]
    fn relative_paths_are_recognised() {
        assert_eq!(plain(Path::new("/srv/shop"), Path::new("./run/../api.sock")), Path::new("/srv/shop/api.sock"));
        assert_eq!(plain(Path::new("/srv/shop"), Path::new("../../../x")), Path::new("/x"));
    }

    #[test]
    fn own_thread_and_descriptors_are_read() {
        let file = File::open("/dev/null").unwrap();
        let thread = fs::read_link("/proc/thread-self").unwrap();
        let thread: u32 = thread.file_name().unwrap().to_str().unwrap().parse().unwrap();
        assert_eq!(thread_group(thread).unwrap(), std::process::id());
        assert!(close_on_exec(thread, file.as_raw_fd()).unwrap());
        files::set_cloexec(file.as_fd(), false).unwrap();
        assert!(!close_on_exec(thread, file.as_raw_fd()).unwrap());
    }
}
