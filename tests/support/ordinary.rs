//! An ordinary user in a sandbox, with a systemd of their own that lingers: `project-cluster --user` in the place of root's.
//!
//! A test says `systemctl`, `project-cluster` and the places of root's cluster, and means the user's: what it types and what it
//! reads is translated here, so that one test is run in both modes. It must not hide what differs: the tests of `rootless` that
//! are about that look by themselves, as root.

use std::ffi::{OsStr, OsString};

/// Where root's cluster has it, and where the user's.
const PLACES: [(&str, &str); 8] = [
    ("/etc/project-cluster", "/home/ada/.config/project-cluster"),
    ("/etc/other.toml", "/home/ada/other.toml"),
    ("/etc/systemd/system/", "/home/ada/.config/systemd/user/"),
    ("/run/systemd/system/", "/run/user/1500/systemd/user/"),
    (r"system-project\x2dcluster", r"app-project\x2dcluster"),
    ("/run/answer", "/run/user/1500/answer"),
    ("/var/lib/project-cluster", "/home/ada/.local/state/project-cluster"),
    ("/run/project-cluster", "/run/user/1500/project-cluster"),
];

/// What stands before a command of theirs. As after `su`: no session, and no `XDG_RUNTIME_DIR`.
const SWITCH: [&str; 9] = [
    "setpriv",
    "--reuid=ada",
    "--regid=ada",
    "--init-groups",
    "--",
    "env",
    "HOME=/home/ada",
    "USER=ada",
    "PATH=/home/ada/bin:/usr/local/bin:/usr/bin:/bin",
];

/// Makes the user, once, and waits until their systemd is up. The linger file is what `loginctl enable-linger` writes, which needs
/// a logind that lives in a real container or machine.
///
/// In the user's own `bin` the tools are those of their systemd.
pub const SETUP: &str = r#"
if ! id ada > /dev/null 2>&1; then
    useradd --create-home --uid 1500 --shell /bin/bash ada
    mkdir -p /var/lib/systemd/linger /srv/shop /home/ada/bin
    touch /var/lib/systemd/linger/ada
    chown ada: /srv /srv/shop
    cat > /home/ada/bin/systemctl <<'END'
#!/bin/sh
XDG_RUNTIME_DIR=/run/user/1500 exec /usr/bin/systemctl --user "$@"
END
    cat > /home/ada/bin/journalctl <<'END'
#!/bin/bash
words=("$@")
for at in "${!words[@]}"; do
    case ${words[at]} in
        UNIT=*) words[at]=USER_${words[at]} ;;
        _SYSTEMD_UNIT=*) words[at]=_SYSTEMD_USER_UNIT=${words[at]#*=} ;;
    esac
done
exec /usr/bin/journalctl --user "${words[@]}"
END
    cat > /home/ada/bin/project-cluster <<'END'
#!/bin/sh
exec /usr/bin/project-cluster --user "$@"
END
    chmod 755 /home/ada/bin/*
fi
mkdir -p /run/shop
chown ada: /run/shop
systemctl start user@1500.service
"#;

/// The user's command for one of root's.
pub fn command(words: &[&OsStr]) -> Vec<OsString> {
    // Their master is they themselves.
    let words = if words.get(3..5).is_some_and(|who| who == ["run_as", "project-cluster"]) { &words[5..] } else { words };
    SWITCH.map(OsString::from).into_iter().chain(places(words)).collect()
}

/// A command that means the user's places, for root while nothing is up.
pub fn places(words: &[&OsStr]) -> Vec<OsString> {
    let translated = words.iter().map(|word| match word.to_str() {
        Some(text) => PLACES.iter().fold(text.to_owned(), |text, (root, user)| text.replace(root, user)).into(),
        None => OsString::from(word),
    });
    translated.collect()
}

/// What it said, in the words of root's cluster.
pub fn said(text: &str) -> String {
    let words = [
        ("`project-cluster --user apply`", "`sudo project-cluster apply`"),
        ("systemctl --user ", "systemctl "),
        ("journalctl --user ", "journalctl "),
        ("project-cluster --user ", "project-cluster "),
        ("user 1500", "user 0"),
        ("by ada", "by root"),
    ];
    let places = PLACES.iter().map(|(root, user)| (*user, *root));
    words.into_iter().chain(places).fold(text.to_owned(), |text, (user, root)| text.replace(user, root))
}
