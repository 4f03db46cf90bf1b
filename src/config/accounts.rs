//! The accounts of this machine, behind a narrow trait so that validation can be tested without them.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

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
}

/// The range that systemd takes dynamic users from (`systemd.io/UIDS-GIDS`). While a worker runs, its dynamic user
/// can be looked up like an account; it is none.
pub const DYNAMIC: std::ops::RangeInclusive<u32> = 61184..=65519;

/// This machine's accounts, by way of the C library and so of everything in `nsswitch.conf(5)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemAccounts;

/// First size of the lookup's buffer; a group with many members needs more.
const BUFFER: usize = 4096;
/// Its last size: more than any sane entry.
const MAX_BUFFER: usize = 1 << 20;

/// Calls a `get..nam_r` with a growing buffer; `call` fills the entry and answers (return code, whether found).
fn lookup(mut call: impl FnMut(&mut [libc::c_char]) -> (i32, Option<u32>)) -> io::Result<Option<u32>> {
    let mut size = BUFFER;
    loop {
        let mut buffer = vec![0; size];
        match call(&mut buffer) {
            (0, found) => return Ok(found),
            (libc::ERANGE, _) if size < MAX_BUFFER => size *= 2,
            (libc::EINTR, _) => {}
            // What `getpwnam(3)` lists as "not found" besides 0.
            (libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM, _) => return Ok(None),
            (code, _) => return Err(io::Error::from_raw_os_error(code)),
        }
    }
}

impl Accounts for SystemAccounts {
    fn user(&self, name: &str) -> io::Result<Option<u32>> {
        let Ok(name) = CString::new(name) else { return Ok(None) };
        lookup(|buffer| {
            let mut entry = MaybeUninit::<libc::passwd>::uninit();
            let mut found = ptr::null_mut();
            // SAFETY: `name` is a C string, `entry`, `buffer` and `found` are valid for writes of the sizes given
            // and outlive the call; nothing else points to them.
            let code = unsafe { libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &mut found) };
            // SAFETY: on success a found entry points to `entry`, which the call has then filled.
            let id = (code == 0 && !found.is_null()).then(|| unsafe { (*found).pw_uid });
            (code, id)
        })
    }

    fn group(&self, name: &str) -> io::Result<Option<u32>> {
        let Ok(name) = CString::new(name) else { return Ok(None) };
        lookup(|buffer| {
            let mut entry = MaybeUninit::<libc::group>::uninit();
            let mut found = ptr::null_mut();
            // SAFETY: as in `user`.
            let code = unsafe { libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &mut found) };
            // SAFETY: as in `user`.
            let id = (code == 0 && !found.is_null()).then(|| unsafe { (*found).gr_gid });
            (code, id)
        })
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
    fn a_long_entry_grows_the_buffer() {
        let mut sizes = Vec::new();
        let found = lookup(|buffer| {
            sizes.push(buffer.len());
            if buffer.len() < 20_000 { (libc::ERANGE, None) } else { (0, Some(7)) }
        });
        assert_eq!(found.unwrap(), Some(7));
        assert_eq!(sizes, [4096, 8192, 16384, 32768]);
        assert_eq!(lookup(|_| (libc::ERANGE, None)).unwrap_err().raw_os_error(), Some(libc::ERANGE));
    }
}
