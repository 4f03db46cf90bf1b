//! Processes of the machine as /proc and pidfds show them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// One row of /proc.
#[derive(Debug, Clone)]
pub struct Row {
    /// As this process sees it.
    pub pid: i32,
    /// Its parent, likewise.
    pub parent: i32,
    /// Its numbers from here down to its own namespace.
    pub numbers: Vec<i32>,
}

/// All processes that can be seen from here.
pub fn table() -> Vec<Row> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| {
            // A process that ends meanwhile has no status any more.
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            Some(Row {
                pid,
                parent: field(&status, "PPid:")?.parse().ok()?,
                numbers: field(&status, "NSpid:")?.split_whitespace().filter_map(|number| number.parse().ok()).collect(),
            })
        })
        .collect()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The processes below `ancestor`, however deep.
pub fn descendants(ancestor: i32) -> Vec<Row> {
    let table = table();
    let parents: BTreeMap<i32, i32> = table.iter().map(|row| (row.pid, row.parent)).collect();
    let below = |row: &Row| {
        let mut at = row.parent;
        // /proc is read piece by piece, so the chain may be torn; it cannot be longer than the table.
        for _ in 0..parents.len() {
            if at == ancestor {
                return true;
            }
            match parents.get(&at) {
                Some(&parent) => at = parent,
                None => return false,
            }
        }
        false
    };
    table.iter().filter(|row| below(row)).cloned().collect()
}

/// A hold on one process that cannot slip to another one of the same number.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens it.
    pub fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the kernel has just given us this descriptor and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The descriptor's number.
    pub fn raw(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Whether it ended within the limit.
    pub fn ended_within(&self, limit: Duration) -> bool {
        readable_within(&[self.raw()], limit).is_some()
    }

    /// Sends a signal; an ended process is no error.
    pub fn signal(&self, signal: i32) {
        // SAFETY: integers and a null pointer, which the call documents as "no siginfo".
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.raw(), signal, std::ptr::null::<libc::siginfo_t>(), 0) };
    }
}

/// The index of a descriptor that can be read, or has ended, within the limit.
pub fn readable_within(descriptors: &[i32], limit: Duration) -> Option<usize> {
    let end = Instant::now() + limit;
    loop {
        let mut polled: Vec<libc::pollfd> = descriptors.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
        let left = end.saturating_duration_since(Instant::now());
        let milliseconds = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).saturating_add(i32::from(!left.is_zero()));
        let count = libc::nfds_t::try_from(polled.len()).expect("a handful of descriptors");
        // SAFETY: `polled` is a live array of `count` pollfd structures.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), count, milliseconds) };
        if ready > 0 {
            return polled.iter().position(|one| one.revents != 0);
        }
        if ready == 0 && left.is_zero() {
            return None;
        }
        // Interrupted, or a millisecond early: again.
    }
}
