//! The scripts of the packages without the packages: in a root directory that dpkg would name to them, and by what they call,
//! on a real systemd. `packages::` goes through all of it with what is really installed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::{Command, Output};

use super::cluster::{ADDRESS, SOON, app, cluster, installed, node};

const NOBODY: u32 = 65534;
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Runs a script of the .deb for the system below this directory.
fn script(root: &Path, name: &str, argument: &str) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/debian").join(name);
    Command::new("sh").arg(script).arg(argument).env("DPKG_ROOT", root).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A ledger as root writes it, of this format.
fn ledger(root: &Path, cluster: &str, format: u32) {
    let pins = root.join("var/lib").join(cluster).join("pins");
    fs::create_dir_all(&pins).unwrap();
    fs::create_dir_all(root.join("run").join(cluster)).unwrap();
    fs::write(pins.join("installed.json"), format!("{{\n  \"format\": {format},\n  \"name\": \"{cluster}\"\n}}\n")).unwrap();
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Everything that is wrong with a ledger that root alone did not write, each in a cluster of its own.
fn forge(root: &Path) -> [&'static str; 6] {
    let names = ["of-nobody", "pins-of-nobody", "file-of-nobody", "open-pins", "open-file", "a-link"];
    names.iter().for_each(|name| ledger(root, name, 999));
    let at = |path: &str| root.join("var/lib").join(path);
    chown(at("of-nobody"), Some(NOBODY), Some(NOBODY)).unwrap();
    chown(at("pins-of-nobody/pins"), Some(NOBODY), Some(NOBODY)).unwrap();
    chown(at("file-of-nobody/pins/installed.json"), Some(NOBODY), Some(NOBODY)).unwrap();
    mode(&at("open-pins/pins"), 0o775);
    mode(&at("open-file/pins/installed.json"), 0o666);
    fs::rename(at("a-link/pins/installed.json"), root.join("elsewhere")).unwrap();
    symlink(root.join("elsewhere"), at("a-link/pins/installed.json")).unwrap();
    names
}

#[test]
fn a_ledger_that_others_than_root_can_write_stops_no_upgrade() {
    let root = tempfile::tempdir().unwrap();
    ledger(root.path(), "mine", 1);
    forge(root.path());
    let passes = script(root.path(), "preinst", "upgrade");
    assert!(passes.status.success(), "{}", said(&passes));
    // One of root's does.
    ledger(root.path(), "mine", 999);
    let refused = script(root.path(), "preinst", "upgrade");
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("cannot take over cluster mine") && said(&refused).contains("is of format 999"), "{}", said(&refused));
}

#[test]
fn a_purge_removes_what_is_ours_and_no_more() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    let forged = forge(root.path());
    // With a ledger; with a damaged one, and an operator in its group; moved to another disk; with an account and in hands of others.
    ledger(root.path(), "mine", 2);
    ledger(root.path(), "damaged", 2);
    fs::write(at("var/lib/damaged/pins/installed.json"), "{").unwrap();
    fs::create_dir_all(at("srv/moved")).unwrap();
    symlink("/srv/moved", at("var/lib/moved")).unwrap();
    ledger(root.path(), "open", 2);
    mode(&at("var/lib/open"), 0o777);
    fs::create_dir_all(at("var/lib/mail/pins")).unwrap();
    fs::create_dir_all(at("etc/project-cluster")).unwrap();
    let account =
        |number: u32, name: &str| format!("{name}:x:{number}:{number}:project-cluster master of cluster {name}:/:/usr/sbin/nologin\n");
    let accounts: String = ["damaged", "moved", "open"].iter().zip(900..).map(|(name, number)| account(number, name)).collect();
    let others = "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/:/bin/sh\nmail:x:8:8:mail:/:/usr/sbin/nologin\n";
    fs::write(at("etc/passwd"), format!("{others}{accounts}")).unwrap();
    fs::write(at("etc/group"), "root:x:0:\nada:x:1000:\nmail:x:8:\ndamaged:x:900:ada\nmoved:x:901:\nopen:x:902:\n").unwrap();

    let done = script(root.path(), "postrm", "purge");
    assert!(done.status.success(), "{}", said(&done));
    let mut left: Vec<String> =
        fs::read_dir(at("var/lib")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    let mut stays = [&forged[..], &["mail", "open"]].concat();
    stays.sort_unstable();
    assert_eq!(left, stays);
    assert!(!at("run/mine").exists() && !at("run/damaged").exists() && at("run/of-nobody").exists() && !at("etc/project-cluster").exists());
    assert_eq!(fs::read_to_string(at("etc/passwd")).unwrap(), others);
    assert_eq!(fs::read_to_string(at("etc/group")).unwrap(), "root:x:0:\nada:x:1000:\nmail:x:8:\n", "{}", said(&done));
    assert!(at("srv/moved").exists() && said(&done).contains("was a link to /srv/moved, which stays"), "{}", said(&done));
    assert!(said(&done).contains("var/lib/open stays, since others than root can write there"), "{}", said(&done));
}

#[test]
fn what_a_package_calls_keeps_to_the_administrator_and_to_this_machine() {
    const WITHOUT_PROC: &str = "mount -t tmpfs none /proc; exec project-cluster package remove";
    // The host's, all of it, but in another root.
    const CHROOT: &str = "mount -t tmpfs none /mnt
for directory in dev etc proc run usr var; do mkdir /mnt/$directory; mount --rbind /$directory /mnt/$directory; done
for link in bin lib lib64; do ln -s usr/$link /mnt/$link; done
exec chroot /mnt project-cluster package upgrade";
    let apart = |script: &'static str| ["unshare", "--mount", "sh", "-euc", script];
    const SERVES: &str = "const { server, listen, port } = require('/srv/apps/common.js'); listen(server(), port());";
    let cluster = installed(&app("api", 2, "node app.js 3000", "listen = 3000"));
    cluster.program("v1", SERVES);
    assert_eq!(cluster.run(&apart(WITHOUT_PROC)).ok(), "", "there is no cluster, and no need of /proc to see that");
    cluster.cli(&["install", "--now"]).ok();
    let (master, workers) = (cluster.main_pid("project-cluster.service"), cluster.pids("api"));

    assert_eq!(cluster.run(&apart(CHROOT)).ok(), "");
    assert_eq!(cluster.main_pid("project-cluster.service"), master, "a chroot is not this machine");

    cluster.write(POLICY, "#!/bin/sh\necho \"$@\" >> /run/asked\nexit 101\n");
    cluster.run(&["chmod", "755", POLICY]).ok();
    let kept = cluster.run(&["project-cluster", "package", "upgrade"]).ok();
    assert!(
        kept.contains("forbids to restart") && kept.contains("`systemctl daemon-reload && systemctl restart project-cluster.service`"),
        "{kept}"
    );
    assert_eq!(cluster.main_pid("project-cluster.service"), master);
    assert_eq!(cluster.read("/run/asked"), "project-cluster.service restart\n");

    cluster.write(POLICY, "#!/bin/sh\nexit 104\n");
    cluster.run(&["project-cluster", "package", "upgrade"]).ok();
    assert_ne!(cluster.main_pid("project-cluster.service"), master);
    assert_eq!(cluster.pids("api"), workers);

    // Removed, and brought back: forbidden, then not.
    cluster.run(&["project-cluster", "package", "remove"]).ok();
    assert!(cluster.get(ADDRESS, "/").is_err() && !cluster.exists("/etc/systemd/system/project-cluster.service"));
    assert_eq!(cluster.run(&apart(WITHOUT_PROC)).ok(), "");
    cluster.write(POLICY, "#!/bin/sh\nexit 101\n");
    let kept = cluster.run(&["project-cluster", "package", "upgrade"]).ok();
    assert!(kept.contains("forbids to start") && cluster.exists("/etc/systemd/system/project-cluster.service"), "{kept}");
    assert!(cluster.get(ADDRESS, "/").is_err());
    cluster.run(&["rm", POLICY]).ok();
    // By a script that waits for no app, not for one that never gets ready either.
    cluster.program("v1", "setInterval(() => {}, 1000)");
    cluster.run(&["project-cluster", "package", "upgrade"]).ok();
    cluster.wait_until("its app starts", SOON, || cluster.state("project-cluster@api.service") == "activating");
}

#[test]
fn a_removal_fails_where_something_runs_on_and_only_there() {
    let cluster = cluster(&node(1));
    // Its units are read, and cannot be stopped: nobody knows what it has.
    let ledger = cluster.read("/var/lib/project-cluster/pins/installed.json");
    cluster.write("/var/lib/project-cluster/pins/installed.json", "{");
    let refused = cluster.run(&["project-cluster", "package", "remove"]).exits(1);
    assert!(
        refused.stderr.contains("`systemctl stop ") && refused.stderr.contains("project-cluster-api@1.1.1.service"),
        "{}",
        refused.stderr
    );
    assert!(cluster.get(ADDRESS, "/").is_ok());
    cluster.systemctl(&["stop", "project-cluster.target"]).ok();
    cluster.wait_until("all of it ended", SOON, || cluster.units("project-cluster*", &["active", "deactivating"]).is_empty());
    let told = cluster.run(&["project-cluster", "package", "remove"]).exits(0);
    assert!(told.stderr.contains("cluster project-cluster: "), "{}", told.stderr);
    cluster.write("/var/lib/project-cluster/pins/installed.json", &ledger);
    cluster.run(&["project-cluster", "package", "remove"]).ok();
    assert!(!cluster.exists("/etc/systemd/system/project-cluster.service"));
}
