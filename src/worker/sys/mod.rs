//! Safe wrappers for the few system calls that std has no name for. Beside `swap` the only place of `unsafe` in
//! this room.
//!
//! It must not know workers, pins or units: each function is one system call (or one tiny protocol of
//! them) with owned descriptors, `io::Error` and nothing else.

pub mod epoll;
pub mod files;
pub mod process;
pub mod sockets;

use std::io;

/// Result of a libc call that says -1 and `errno`.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for calls that return a `long`.
fn check_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Repeats a call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
