//! An ordinary user in a sandbox, with a systemd of their own that lingers: `project-cluster --user` in the place of root's.

/// Their configuration.
pub const CONFIG: &str = "/home/ada/.config/project-cluster/cluster.toml";

/// What stands before a command of theirs. As after `su`: no session, and no `XDG_RUNTIME_DIR`.
pub const SWITCH: [&str; 9] = [
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
/// In the user's own `bin` the tools are those of their systemd, so that a test says `systemctl` and `project-cluster` and means
/// theirs.
pub const SETUP: &str = r#"
if ! id ada > /dev/null 2>&1; then
    useradd --create-home --uid 1500 --shell /bin/bash ada
    mkdir -p /var/lib/systemd/linger /srv/shop /home/ada/bin
    touch /var/lib/systemd/linger/ada
    chown ada: /srv/shop
    for tool in systemctl journalctl project-cluster; do
        printf '#!/bin/sh\nXDG_RUNTIME_DIR=/run/user/1500 exec /usr/bin/%s --user "$@"\n' $tool > /home/ada/bin/$tool
        chmod 755 /home/ada/bin/$tool
    done
    printf '#!/bin/sh\nexec /usr/bin/project-cluster --user "$@"\n' > /home/ada/bin/project-cluster
fi
systemctl start user@1500.service
"#;
