//! The accounts of this machine, behind a narrow trait so that validation can be tested without them.

use std::io::{self, ErrorKind, Read as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::place::{self, Place};

/// Where users and groups are looked up.
pub trait Accounts {
    /// The user id of an account, none where there is no such account.
    ///
    /// # Errors
    /// When the lookup itself fails, a directory server that does not answer for example.
    fn user(&self, name: &str) -> io::Result<Option<u32>>;
    /// The group id of a group, none where there is no such group.
    ///
    /// # Errors
    /// As for [`Accounts::user`].
    fn group(&self, name: &str) -> io::Result<Option<u32>>;
    /// Whose systemd the cluster is for. Default: the machine's.
    fn place(&self) -> Place {
        Place::system()
    }
}

/// The range that systemd takes dynamic users from (`systemd.io/UIDS-GIDS`). While a worker runs, its dynamic user
/// can be looked up like an account; it is none.
pub const DYNAMIC: std::ops::RangeInclusive<u32> = 61184..=65519;

/// This machine's accounts, by way of `getent(1)` and so of everything in `nsswitch.conf(5)`: the C library that is linked into
/// this program cannot load that itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemAccounts;

/// How long a directory server may take.
const LIMIT: Duration = Duration::from_secs(20);
/// A group with many members is a long line.
const LINE: u64 = 1 << 20;

/// The number in the entry of this name. `getent` takes a number for an id, and finds by it an entry of another name.
fn lookup(program: &str, database: &str, name: &str, limit: Duration) -> io::Result<Option<u32>> {
    let Some(line) = entry(program, database, name, limit)? else { return Ok(None) };
    let mut fields = line.split(':');
    Ok(fields.next().filter(|found| *found == name).and_then(|_| fields.nth(1)?.parse().ok()))
}

/// The id of a group; none where there is no such group.
///
/// # Errors
/// When the lookup itself fails.
pub fn group_id(name: &str) -> io::Result<Option<u32>> {
    SystemAccounts.group(name)
}

/// The supplementary groups of an account, none of one that is not there.
///
/// # Errors
/// When the lookup itself fails.
pub fn groups_of(user: &str) -> io::Result<Vec<u32>> {
    let line = entry("getent", "initgroups", user, LIMIT)?.unwrap_or_default();
    Ok(line.split_whitespace().skip(1).filter_map(|gid| gid.parse().ok()).collect())
}

/// The line of an entry.
fn entry(program: &str, database: &str, name: &str, limit: Duration) -> io::Result<Option<String>> {
    if name.is_empty() || name.contains('\0') {
        return Ok(None);
    }
    let child =
        Command::new(program).args([database, "--", name]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.map_err(|why| io::Error::new(why.kind(), format!("{program}: {why}")))?;
    let end = Instant::now() + limit;
    let stdout = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.map_or(Ok(0), |stdout| stdout.take(LINE).read_to_string(&mut text)).map(|_| text)
    });
    // A step of a millisecond, where a process takes about one.
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(1)),
            None => {
                // One that has just ended is no error.
                let _ = child.kill();
                child.wait()?;
                return Err(io::Error::new(ErrorKind::TimedOut, format!("`{program} {database}` took longer than {limit:?}")));
            }
        }
    };
    match status.code() {
        Some(0) => {}
        // Not found (getent(1)).
        Some(2) => return Ok(None),
        _ => return Err(io::Error::other(format!("`{program} {database}` failed: {status}"))),
    }
    let text = reader.join().map_err(|_| io::Error::other("the reader of getent panicked"))??;
    Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
}

impl Accounts for SystemAccounts {
    fn place(&self) -> Place {
        place::here().clone()
    }
    fn user(&self, name: &str) -> io::Result<Option<u32>> {
        lookup("getent", "passwd", name, LIMIT)
    }

    fn group(&self, name: &str) -> io::Result<Option<u32>> {
        lookup("getent", "group", name, LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_an_account_and_nonsense_is_not() {
        assert_eq!(SystemAccounts.user("root").unwrap(), Some(0));
        assert_eq!(SystemAccounts.group("root").unwrap(), Some(0));
        for name in ["no-such-account-7f3a", "", "a\0b", "0"] {
            assert_eq!(SystemAccounts.user(name).unwrap(), None, "{name:?}");
            assert_eq!(SystemAccounts.group(name).unwrap(), None, "{name:?}");
        }
    }

    #[test]
    fn a_lookup_that_fails_or_takes_too_long_is_no_answer() {
        let short = Duration::from_millis(50);
        let late = |program: &str| lookup(program, "passwd", "root", short).unwrap_err();
        assert_eq!(late("no-such-program").kind(), ErrorKind::NotFound);
        let directory = tempfile::tempdir().unwrap();
        let script = |text: &str| {
            use std::os::unix::fs::PermissionsExt as _;
            let path = directory.path().join(text.len().to_string());
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        assert_eq!(late(&script("exec sleep 60")).kind(), ErrorKind::TimedOut);
        assert!(late(&script("exit 3")).to_string().contains("exit status: 3"));
    }
}
