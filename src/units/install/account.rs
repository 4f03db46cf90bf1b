//! Whether the account of the master exists and is ours, from `/etc/passwd` and `/etc/group`.
//!
//! Pure. Only these files count: an account made by `systemd-sysusers` is always in them.

use crate::names::ClusterName;
use crate::units::gecos;

/// The account of a cluster's master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Account {
    /// None is needed: the master runs as the user who installs, of this group.
    Own {
        /// The group's number.
        gid: u32,
    },
    /// Neither user nor group.
    Absent,
    /// Made by our sysusers file; its primary group.
    Ours {
        /// The group's number.
        gid: u32,
    },
    /// Somebody else's: why.
    Foreign(String),
}

/// Reads both files.
pub(super) fn account(passwd: &str, group: &str, cluster: &ClusterName) -> Account {
    let entry = |text: &str| {
        text.lines()
            .map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>())
            .find(|fields| fields.first().is_some_and(|name| name == cluster.as_str()))
    };
    match (entry(passwd), entry(group)) {
        (None, None) => Account::Absent,
        (None, Some(_)) => Account::Foreign(format!(
            "has no user `{cluster}`, but /etc/group has a group of that name, whose rights the master would get: choose another `name`, or remove it with groupdel"
        )),
        (Some(user), _) => match (user.get(4), user.get(3).and_then(|gid| gid.parse().ok())) {
            (Some(text), Some(gid)) if *text == gecos(cluster) => Account::Ours { gid },
            _ => Account::Foreign(format!(
                "has a user `{cluster}` that project-cluster did not make, and the master would run as it: choose another `name`"
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_account_will_do() {
        let cluster: ClusterName = "mail".parse().unwrap();
        let ours = "root:x:0:0::/root:/bin/sh\nmail:x:990:985:project-cluster master of cluster mail:/:/usr/sbin/nologin\n";
        assert_eq!(account(ours, "mail:x:985:\n", &cluster), Account::Ours { gid: 985 });
        assert_eq!(account("mailer:x:8:8::/:/bin/sh\n", "mailer:x:8:\n", &cluster), Account::Absent);
        assert!(matches!(account("mail:x:8:8:mail:/var/mail:/bin/sh\n", "mail:x:8:\n", &cluster), Account::Foreign(_)));
        assert!(matches!(account("", "mail:x:8:\n", &cluster), Account::Foreign(_)));
        assert!(matches!(account("mail", "", &cluster), Account::Foreign(_)));
    }
}
