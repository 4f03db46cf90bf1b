//! Whether a worker accepts from a socket, seen from outside: it is in an epoll set, in the set of a thread in `poll` or
//! `select`, or a thread is blocked in `accept`. What io_uring waits for cannot be seen.
//!
//! Descriptors and threads come and go meanwhile; whatever cannot be read is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;

use crate::worker::procfs::{self, Waiting};
use crate::worker::sys::process::read_memory;

/// Most descriptors of a process that are looked at.
const MAX_DESCRIPTORS: usize = 65_536;
/// Most threads of a process.
const MAX_THREADS: usize = 1024;
/// Most of a fdinfo file: some 70 bytes for each descriptor of an epoll set.
const MAX_INFO: u64 = 4 << 20;
/// Most bytes of a poll set: 4096 descriptors.
const MAX_POLL: u64 = 32 << 10;

/// The sockets of a process, and its epoll descriptors.
#[derive(Debug, Default)]
pub struct Descriptors {
    /// Inode of the socket at each number.
    pub sockets: BTreeMap<i32, u64>,
    /// Numbers of epoll descriptors.
    pub epolls: Vec<i32>,
}

/// Lists a process's descriptors. Those of a process that hides them (not dumpable) are known by `fdinfo` alone, which cannot
/// tell sockets from files: then only the `wanted` inodes count.
pub fn descriptors(process: u32, wanted: &BTreeSet<u64>) -> Descriptors {
    let mut found = Descriptors::default();
    let number = |entry: &fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
    if let Ok(listing) = fs::read_dir(format!("/proc/{process}/fd")) {
        for entry in listing.flatten().take(MAX_DESCRIPTORS) {
            let (Some(fd), Ok(link)) = (number(&entry), fs::read_link(entry.path())) else { continue };
            let link = link.as_os_str().as_bytes();
            if let Some(inode) = procfs::socket_inode(link) {
                found.sockets.insert(fd, inode);
            } else if link == b"anon_inode:[eventpoll]" {
                found.epolls.push(fd);
            }
        }
    } else {
        for entry in fs::read_dir(format!("/proc/{process}/fdinfo")).into_iter().flatten().flatten().take(MAX_DESCRIPTORS) {
            let Some(fd) = number(&entry) else { continue };
            let info = info(process, fd);
            if let Some(inode) = procfs::fd_inode(&info).filter(|inode| wanted.contains(inode)) {
                found.sockets.insert(fd, inode);
            }
            if info.contains("\ntfd:") {
                found.epolls.push(fd);
            }
        }
    }
    found
}

/// What `/proc` says of a descriptor; empty where it cannot be read.
pub fn info(process: u32, fd: i32) -> String {
    let mut text = String::new();
    if let Ok(file) = File::open(format!("/proc/{process}/fdinfo/{fd}")) {
        // What could be read of it is what there is.
        let _ = file.take(MAX_INFO).read_to_string(&mut text);
    }
    text
}

/// Whether one of the `wanted` sockets is non-blocking. The flag is shared by all who hold it, so whichever process may be looked
/// into tells for the others: our own supervisor of binds, where the app hides itself.
pub fn nonblocking(processes: &BTreeSet<u32>, wanted: &BTreeSet<u64>) -> bool {
    processes.iter().any(|process| {
        let flags = |fd: &i32| procfs::fd_flags(&info(*process, *fd)).unwrap_or_default();
        let sockets = descriptors(*process, wanted).sockets;
        sockets.iter().any(|(fd, inode)| wanted.contains(inode) && flags(fd) & libc::O_NONBLOCK as u32 != 0)
    })
}

/// Which of the `wanted` sockets some process accepts from.
pub fn accepted(processes: &BTreeSet<u32>, wanted: &BTreeSet<u64>) -> BTreeSet<u64> {
    let mut accepted = BTreeSet::new();
    for process in processes {
        let descriptors = descriptors(*process, wanted);
        if descriptors.sockets.values().any(|inode| wanted.contains(inode)) {
            for epoll in &descriptors.epolls {
                accepted.extend(procfs::epoll_inodes(&info(*process, *epoll)).filter(|inode| wanted.contains(inode)));
            }
            accepted.extend(blocked(*process, &descriptors).filter(|inode| wanted.contains(inode)));
        }
        if accepted.len() == wanted.len() {
            break;
        }
    }
    accepted
}

/// The sockets that threads of a process wait for in `accept`, `poll` or `select`.
fn blocked(process: u32, descriptors: &Descriptors) -> impl Iterator<Item = u64> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten().take(MAX_THREADS);
    let waiting = threads.filter_map(|thread| procfs::waiting(&fs::read_to_string(thread.path().join("syscall")).ok()?));
    let waited = waiting.flat_map(move |waiting| waited_for(process, waiting));
    waited.filter_map(|fd| descriptors.sockets.get(&fd).copied())
}

/// The descriptors that a thread waits for in `accept`, `poll` or `select`.
pub(crate) fn waited_for(process: u32, waiting: Waiting) -> Vec<i32> {
    match waiting {
        Waiting::Accept(fd) => vec![fd],
        Waiting::Poll(address, count) => procfs::polled(&memory(process, address, count.saturating_mul(8).min(MAX_POLL))).collect(),
        Waiting::Select(address, limit) => {
            let limit = limit.min(MAX_POLL);
            procfs::selected(&memory(process, address, limit.div_ceil(8)), limit).collect()
        }
        Waiting::Epoll(_) => Vec::new(),
    }
}

fn memory(process: u32, address: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    let mut read = 0;
    while read < bytes.len() {
        let end = bytes.len().min(read + 4096);
        match read_memory(process, address.wrapping_add(read as u64), &mut bytes[read..end]) {
            Ok(more) if more > 0 => read += more,
            _ => break,
        }
    }
    bytes.truncate(read);
    bytes
}

/// The sockets of these processes that listen, by the tables of the main process's network.
pub fn listeners(main: u32, processes: &BTreeSet<u32>) -> Vec<(String, u64)> {
    let table = |name: &str| fs::read_to_string(format!("/proc/{main}/net/{name}")).unwrap_or_default();
    let mut listeners: Vec<(String, u64)> = Vec::new();
    for name in ["tcp", "tcp6"] {
        listeners.extend(procfs::tcp_listeners(&table(name)).map(|(address, inode)| (address.to_string(), inode)));
    }
    listeners.extend(procfs::unix_listeners(&table("unix")).map(|(path, inode)| (path.to_owned(), inode)));
    let wanted: BTreeSet<u64> = listeners.iter().map(|(_, inode)| *inode).collect();
    let held: BTreeSet<u64> = processes.iter().flat_map(|process| descriptors(*process, &wanted).sockets.into_values()).collect();
    listeners.retain(|(_, inode)| held.contains(inode));
    listeners
}
