//! The sockets a worker gets from systemd: which is which, and what `ready` is told of them.
//!
//! systemd passes the sockets of several units in no particular order; an app that counts descriptors counts in the order of
//! its `listen`. So they are told apart by where they are bound and put in that order.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::pin::Copy;
use super::sys::sockets::{SOCKADDR_MAX, SockAddr, local_address, parse_sockaddr};
use crate::config::settings::Listen;
use crate::formats;
use crate::names::{Address, AppUnits, anew};

/// What `exec` leaves for `ready` as `sockets.json` in the runtime directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sockets {
    /// Format of this file, 1; the first programs wrote none.
    #[serde(default)]
    pub format: u32,
    /// The main process that wrote it: a file of an earlier start of the same instance does not count.
    pub pid: u32,
    /// The bind supervisor, where swap is on.
    pub supervisor: Option<u32>,
    /// The declared sockets, in the order of `listen`.
    pub sockets: Vec<Socket>,
}

formats::numbered!(Sockets, 1);

impl Sockets {
    /// Name of the file in the runtime directory.
    pub const FILE: &str = "sockets.json";

    /// Name of the FIFO by which `exec` and the supervisor wake `ready`: something below is new.
    pub const BELL: &std::ffi::CStr = c"bell";

    /// Name of the empty file by which the supervisor says that the app listens on socket number `index`, swapped or not.
    pub fn mark(pid: u32, index: usize) -> String {
        format!("listens.{pid}.{index}")
    }
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// As declared.
    pub address: Address,
    /// Number of the socket in the kernel: what `/proc` calls `socket:[N]`.
    pub inode: u64,
}

/// Where a socket is bound, if it is TCP or a path.
pub fn bound_to(socket: BorrowedFd<'_>) -> Option<Address> {
    let mut buffer = [0; SOCKADDR_MAX];
    match parse_sockaddr(local_address(socket, &mut buffer).ok()?)? {
        SockAddr::Tcp(address) => Some(Address::Tcp(address)),
        SockAddr::Unix(path) => Some(Address::Unix(path.to_owned())),
    }
}

/// Puts the passed descriptors in the order of the declared addresses, those of others (a drop-in's) behind them.
/// Returns for each the place it had. Left out are sockets of ours, by their `names`, that this generation does not
/// declare: those of another one, which may have a worker beside this.
///
/// # Errors
/// When one of the declared addresses is not among them.
pub fn order(passed: &[Option<Address>], names: &str, copy: &Copy) -> Result<Vec<usize>, Error> {
    let mut order = Vec::with_capacity(passed.len());
    for Listen { address, .. } in &copy.pin.listen {
        let place = |same: &dyn Fn(&Address) -> bool| {
            (0..passed.len()).find(|place| !order.contains(place) && passed[*place].as_ref().is_some_and(same))
        };
        // Without IPv6 systemd makes an IPv4 socket of a bare port.
        let Some(place) =
            place(&|other| other == address).or_else(|| place(&|other| is_any(other) && is_any(address) && other.overlaps(address)))
        else {
            return Err(missing(passed, address, copy));
        };
        order.push(place);
    }
    let names: Vec<_> = names.split(':').collect();
    let ours = |place: usize| match (&passed[place], names.get(place)) {
        (Some(address), Some(name)) => names.len() == passed.len() && *name == address.fd_name(),
        _ => false,
    };
    let rest: Vec<_> = (0..passed.len()).filter(|place| !order.contains(place) && !ours(*place)).collect();
    order.extend(rest);
    Ok(order)
}

fn is_any(address: &Address) -> bool {
    matches!(address, Address::Tcp(address) if address.ip().is_unspecified())
}

fn missing(passed: &[Option<Address>], address: &Address, copy: &Copy) -> Error {
    let units = AppUnits::new(&copy.cluster, &copy.app);
    let declared = copy.pin.listen.len();
    let got: Vec<_> = passed.iter().map(|address| address.as_ref().map_or_else(|| "another kind".into(), ToString::to_string)).collect();
    let got = if got.is_empty() { "none".into() } else { format!("{} ({})", got.len(), got.join(", ")) };
    Error::new(format!(
        "{} should get {declared} sockets and systemd passed {got}: {address} is missing. Its socket unit {} was stopped: `{}`; or its address changed under running workers: `systemctl restart {}`, which takes what is on disk",
        units.worker(&copy.instance),
        units.socket(address),
        anew(&units.handle()),
        units.handle(),
    ))
}

/// The number of descriptors that were passed to this very process (`sd_listen_fds(3)`).
///
/// # Errors
/// When they were passed to another one: something between systemd and us forked.
pub fn count(fds: Option<&str>, pid: Option<&str>, own: u32) -> Result<usize, Error> {
    let Some(count) = fds.and_then(|text| text.parse::<usize>().ok()).filter(|count| *count > 0) else { return Ok(0) };
    if pid.and_then(|text| text.parse::<u32>().ok()) != Some(own) {
        return Err(Error::new(format!(
            "systemd passed {count} sockets to process {} and this is {own}: a launcher between them forked. Remove what `ExecStart=` of a drop-in puts in front of `project-cluster worker exec`",
            pid.unwrap_or("?")
        )));
    }
    Ok(count)
}

/// What `ready` is told of the declared sockets, the first of `sockets`.
pub fn describe(sockets: &[OwnedFd], listen: &[Listen]) -> std::io::Result<Vec<Socket>> {
    use std::os::unix::fs::MetadataExt as _;
    let describe = |(socket, listen): (&OwnedFd, &Listen)| {
        let inode = std::fs::File::from(socket.as_fd().try_clone_to_owned()?).metadata()?.ino();
        Ok(Socket { address: listen.address.clone(), inode })
    };
    sockets.iter().zip(listen).map(describe).collect()
}

/// Reorders `LISTEN_FDNAMES` the same way; names that do not fit the descriptors are left as they are.
pub fn reorder_names(names: &str, order: &[usize]) -> String {
    let parts: Vec<_> = names.split(':').collect();
    let reordered: Option<Vec<_>> = order.iter().map(|place| parts.get(*place).copied()).collect();
    reordered.map_or_else(|| names.into(), |names| names.join(":"))
}

/// Reads the worker's copy of its pin from its runtime directory.
pub fn read_copy(directory: &Path) -> Result<Copy, Error> {
    let path = directory.join(Copy::FILE);
    let copy: Option<Copy> = super::files::read_json(&path)?;
    let Some(copy) = copy else {
        return Err(Error::new(format!(
            "{} is missing, so it is not known what to become: the unit's `ExecStartPre=` writes it; run `project-cluster install` if the unit was changed",
            path.display()
        )));
    };
    Ok(copy)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::settings::{Ready, Spawn};
    use crate::names::Generation;
    use crate::worker::pin::{self, Pin};
    use std::collections::BTreeMap;
    use std::time::Duration;

    pub(in crate::worker) fn copy(listen: &[&str]) -> Copy {
        let declare = |address: &&str| Listen { address: address.parse().unwrap(), mode: None, owner: None, group: None, backlog: 4096 };
        Copy {
            format: pin::FORMAT,
            cluster: "shop".parse().unwrap(),
            app: "api".parse().unwrap(),
            instance: "2.7.1".parse().unwrap(),
            port: None,
            nonblocking: None,
            hook: None,
            pin: Pin {
                format: pin::FORMAT,
                generation: Generation(7),
                revision: 0,
                command: vec!["node".into(), "api.js".into()],
                cwd: "/".into(),
                env: BTreeMap::new(),
                listen: listen.iter().map(declare).collect(),
                swap: true,
                spawn: Spawn::Cluster,
                ready: Ready::Listen,
                min_ready: Duration::from_secs(1),
            },
        }
    }

    fn passed(addresses: &[&str]) -> Vec<Option<Address>> {
        addresses.iter().map(|address| address.parse().ok()).collect()
    }

    #[test]
    fn sockets_are_told_apart_by_their_address() {
        let copy = copy(&["3000", "/run/x.sock", "127.0.0.1:80"]);
        assert_eq!(order(&passed(&["127.0.0.1:80", "other", "[::]:3000", "/run/x.sock"]), "", &copy).unwrap(), [2, 3, 0, 1]);
        // A host without IPv6.
        assert_eq!(order(&passed(&["0.0.0.0:3000", "/run/x.sock", "127.0.0.1:80"]), "", &copy).unwrap(), [0, 1, 2]);
        // Another generation's socket is left out, a drop-in's is not.
        let copy = super::tests::copy(&["3001"]);
        let addresses = passed(&["[::]:3000", "[::]:3001", "127.0.0.1:9000"]);
        assert_eq!(order(&addresses, "tcp-3000:tcp-3001:metrics", &copy).unwrap(), [1, 2]);
        assert_eq!(reorder_names("tcp-3000:tcp-3001:metrics", &[1, 2]), "tcp-3001:metrics");
        assert_eq!(reorder_names("a:b:c:d", &[2, 3, 0, 1]), "c:d:a:b");
        assert_eq!(reorder_names("a:b", &[2, 3, 0, 1]), "a:b");
    }

    #[test]
    fn a_missing_socket_is_named_with_what_mends_it() {
        let error = order(&passed(&["127.0.0.1:80"]), "", &copy(&["3000", "127.0.0.1:80"])).unwrap_err().to_string();
        for part in [
            "2 sockets",
            "passed 1 (127.0.0.1:80)",
            "[::]:3000 is missing",
            "shop-api-:::3000.socket",
            "systemctl restart shop@api.service",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(order(&[], "", &copy(&["3000"])).unwrap_err().to_string().contains("passed none"));
    }

    #[test]
    fn descriptors_for_another_process_are_not_taken() {
        assert_eq!(count(Some("2"), Some("77"), 77).unwrap(), 2);
        assert_eq!(count(None, None, 77).unwrap(), 0);
        assert_eq!(count(Some("0"), Some("1"), 77).unwrap(), 0);
        assert!(count(Some("2"), Some("76"), 77).unwrap_err().to_string().contains("forked"));
        assert!(count(Some("2"), None, 77).is_err());
    }
}
