//! Swap at bind: an app that opens a declared address by itself gets the socket that systemd holds.
//!
//! `exec` installs a seccomp filter that reports `bind` and `listen`, and a tiny process, the supervisor, puts the inherited
//! socket at the descriptor the app wanted to bind. No preload, no privilege, any language.
//!
//! The app keeps the PID that systemd knows, so the supervisor is the one that is forked off; twice, so that an app which waits
//! for all its children does not wait for it. It lives in the worker's control group and leaves when the last process under the
//! filter has left; its parent, the watcher, stays to say so when somebody kills it. Under Yama's `ptrace_scope=1` it may look into the
//! main process, which names it, and not into the app's children; under 2 it may look into nobody. Then binds go on as usual,
//! with one line that says so.

mod filter;
mod kernel;
mod supervisor;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use super::sys::{process, sockets};
use crate::names::Address;

/// How long `exec` and the supervisor wait for each other's next word, which takes a millisecond. When a starved machine takes
/// longer the start fails and systemd tries again.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The capability with which a filter needs no `no_new_privs`.
const CAP_SYS_ADMIN: u32 = 21;

/// A socket that the app may be given.
#[derive(Debug)]
pub struct Shared {
    /// Our duplicate of it.
    pub socket: OwnedFd,
    /// Where it was declared.
    pub address: Address,
    /// Its number in the kernel.
    pub inode: u64,
    /// The configured length of the accept queue.
    pub backlog: u32,
}

/// Why there is no swap.
#[derive(Debug)]
pub enum Refusal {
    /// The worker can go on without: a clause that says why.
    Without(String),
    /// The filter is there and nobody listens to it: each bind would fail, so the start must.
    Fatal(String),
}

/// Forks off the supervisor and puts this process, and all it becomes, under the filter. Returns the supervisor's PID.
///
/// Marks that `ready` reads are made in `directory`. Must be called with one thread.
pub fn install(shared: &[Shared], directory: &File) -> Result<u32, Refusal> {
    let without = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| Refusal::Without(format!("{what}: {error}"))
    };
    match kernel::sizes_fit() {
        Ok(true) => {}
        Ok(false) => return Err(Refusal::Without("this kernel's seccomp reports are larger than known".into())),
        Err(error) => return Err(Refusal::Without(format!("seccomp reports are not available here: {error}"))),
    }
    let (ours, theirs) = sockets::pair(HANDSHAKE).map_err(without("no socket pair for its supervisor"))?;
    let main = std::process::id();
    process::spawn_orphan(|| supervisor::main(theirs.as_fd(), shared, directory, main))
        .map_err(without("its supervisor cannot be forked"))?;
    drop(theirs);
    let (pid, _) = sockets::receive(ours.as_fd()).map_err(without("its supervisor did not answer"))?;
    process::allow_tracer(pid);
    if !process::has_capability(CAP_SYS_ADMIN) {
        process::no_new_privileges().map_err(without("no_new_privs cannot be set"))?;
    }
    let unix = shared.iter().any(|shared| matches!(shared.address, Address::Unix(_)));
    // When this fails the supervisor finds the pair closed and leaves.
    let listener = kernel::install(&filter::program(unix)).map_err(|error| {
        Refusal::Without(match error.raw_os_error() {
            Some(libc::EBUSY) => "another seccomp listener is installed already (a container's?)".into(),
            _ => format!("the seccomp filter cannot be installed: {error}"),
        })
    })?;
    sockets::send(ours.as_fd(), pid, Some(listener.as_fd()))
        .and_then(|()| sockets::receive(ours.as_fd()))
        .map_err(|error| Refusal::Fatal(format!("the bind supervisor went away before the app started: {error}")))?;
    Ok(pid)
}
