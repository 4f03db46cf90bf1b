//! The packages in bare Debian 12 and 13: installed, upgraded under load and in the middle of a roll, downgraded, removed,
//! reinstalled, purged. `tests/packages.sh` makes what is installed here, `tests/root.sh` the roots; the profile `proof` of
//! nextest runs this module, the default one leaves it out.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::cluster::{ADDRESS, Cluster, SOON, app};
use super::support::sandbox::Options;
use super::support::{Output, Sandbox};
use super::tree::{same, tree};

type Tree = std::collections::BTreeMap<String, String>;

const MASTER: &str = "project-cluster.service";
/// "Starting a unit", the message of systemd with that number in its catalogue.
const STARTING: &str = "7d4958e842da4a758f6c1cdc7b36dcc5";
/// What the package managers and systemd themselves keep.
const MANAGERS: [&str; 4] = ["/var/lib/dpkg", "/var/lib/rpm", "/var/lib/systemd", "/run/systemd"];

/// A server that ends what it has begun: at SIGTERM it accepts no more, and ends with its last connection.
const GRACEFUL: &str = "const { server, listen, port } = require('/srv/apps/common.js'); const it = server(); listen(it, port());
process.on('SIGTERM', () => require('net').Server.prototype.close.call(it, () => process.exit()));";

/// A bare system of this release with the packages at /mnt/packages.
fn bare(suite: &str) -> Sandbox {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = repository.join("target/test-packages");
    for name in ["this.deb", "next.deb", "newer.deb", "this.rpm", "next.rpm", "newer.rpm"] {
        assert!(packages.join(name).exists(), "{name} is not there: tests/packages.sh makes it");
    }
    let root = Command::new(repository.join("tests/root.sh")).arg(suite).output().unwrap();
    assert!(root.status.success(), "{}", String::from_utf8_lossy(&root.stderr));
    let root = PathBuf::from(String::from_utf8(root.stdout).unwrap().trim());
    let shown = ["this", "next", "newer"]
        .into_iter()
        .flat_map(|name| ["deb", "rpm"].map(|kind| format!("{name}.{kind}")))
        .map(|file| (packages.join(&file), Path::new("/mnt").join(&file)));
    let sandbox = Sandbox::start_with(Options { root: Some(root), bare: true, shown: shown.collect(), ..Options::default() });
    assert!(!sandbox.exists("/usr/bin/project-cluster"), "a package brings the program");
    sandbox
}

fn dpkg(cluster: &Cluster, arguments: &[&str]) -> Output {
    cluster.run_within(6 * SOON, &[&["dpkg"], arguments].concat())
}

/// Without dependencies, which have other names in Debian; its rpm up to 4.18 wants a word more before it installs anything.
fn rpm(cluster: &Cluster, arguments: &[&str]) -> Output {
    const RPM: &str = r#"rpm --help | grep -q force-debian && set -- --force-debian "$@"; exec rpm --nodeps "$@""#;
    cluster.run_within(6 * SOON, &[&["sh", "-c", RPM, "rpm"], arguments].concat())
}

fn version(cluster: &Cluster) -> String {
    cluster.run(&["project-cluster", "--version"]).ok()
}

/// How often the master was started.
fn masters(cluster: &Cluster) -> usize {
    let id = format!("MESSAGE_ID={STARTING}");
    cluster.journal(&["_PID=1", &format!("UNIT={MASTER}"), &id, "--output=cat"]).lines().filter(|line| !line.is_empty()).count()
}

/// Does this under load: no connection fails, the socket stays, and the master is another one, once. Workers are the same
/// unless a roll replaces them meanwhile.
#[track_caller]
fn under_load(cluster: &Cluster, what: &str, rolls: bool, does: impl FnOnce()) {
    let (inode, workers, started, master) = (cluster.socket_inode(3000), cluster.pids("api"), masters(cluster), cluster.main_pid(MASTER));
    let load = cluster.load(ADDRESS).start();
    load.wait_for_answers(200);
    does();
    cluster.wait_until("the master answers", SOON, || cluster.run(&["project-cluster", "ls"]).success());
    load.wait_for_answers(200);
    let report = load.stop();
    println!(
        "{what}: {} requests over new connections, {} failed; slowest {} ms",
        report.sent,
        report.failed(),
        report.slowest.as_millis()
    );
    report.none_failed(400);
    assert_eq!(cluster.socket_inode(3000), inode, "{what}: the same socket");
    if !rolls {
        assert_eq!(cluster.pids("api"), workers, "{what}: the same workers");
    }
    assert_ne!(cluster.main_pid(MASTER), master, "{what}: another master");
    cluster.wait_until("the journal has it", SOON, || masters(cluster) > started);
    assert_eq!(masters(cluster), started + 1, "{what}: once");
}

/// In the middle of a roll, which the new master takes up.
#[track_caller]
fn in_a_roll(cluster: &Cluster, what: &str, does: impl FnOnce()) {
    let before = cluster.generations("api");
    under_load(cluster, what, true, || {
        let roll = cluster.spawn(&["project-cluster", "reload", "api"]);
        cluster.wait_until("a new worker is ready", SOON, || roll.stdout().contains("is ready"));
        does();
        let said = roll.wait(3 * SOON).ok();
        assert!(said.contains("4 of 4 ready"), "{what}: {said}");
    });
    assert_eq!(cluster.generations("api"), [before[0] + 1], "{what}");
    assert_eq!(cluster.workers("api").len(), 4, "{what}");
}

/// Four workers on a bare system of this release, and nothing installed yet; a roll of them takes some seconds.
fn stage(sandbox: Sandbox) -> Cluster {
    let cluster = Cluster::on(sandbox, &app("api", 4, "node app.js 3000", "listen = 3000\nreload.min_ready = \"500ms\""));
    cluster.program("v1", GRACEFUL);
    cluster
}

/// By the package that was just installed.
fn first_cluster(cluster: &Cluster) {
    cluster.cli(&["install", "--now"]).ok();
    cluster.wait_for_http(ADDRESS);
}

fn managers(path: &str) -> bool {
    MANAGERS.iter().any(|manager| path.starts_with(manager))
}

fn without_managers(mut tree: Tree) -> Tree {
    tree.retain(|path, _| !managers(path));
    tree
}

/// What is of ours below /etc, /run, /var and /usr, a line each.
fn ours(cluster: &Cluster) -> Vec<String> {
    let found = cluster.sh("find /etc /run /var /usr -xdev -name '*project-cluster*' ! -path '/run/sandbox*' | sort").ok();
    found.lines().filter(|path| !managers(path)).map(String::from).collect()
}

fn deb_from_install_to_purge(suite: &str) {
    let sandbox = bare(suite);
    let before = tree(&sandbox);
    let cluster = stage(sandbox);
    assert!(dpkg(&cluster, &["--install", "/mnt/this.deb"]).ok().contains("Setting up project-cluster"));
    first_cluster(&cluster);
    let this = version(&cluster);
    for path in
        ["/usr/share/doc/project-cluster/copyright", "/usr/share/man/man1/project-cluster.1.gz", "/usr/lib/sysusers.d/project-cluster.conf"]
    {
        assert!(cluster.exists(path), "{path}");
    }
    // The override as Perl and no needrestart: that wants binutils and six Perl libraries more in each root, and lists nothing
    // before a library that runs is another one on disk.
    let override_ = "our %nrconf; do '/etc/needrestart/conf.d/project-cluster.conf' or die; for my $unit (@ARGV) { print grep({ $unit =~ /$_/ } keys %{$nrconf{override_rc}}) ? 0 : 1 }";
    let units = ["project-cluster-api@1.1.1.service", "project-cluster@api.service", MASTER, "ssh.service"];
    assert_eq!(
        cluster.run(&[&["perl", "-e", override_], &units[..]].concat()).ok(),
        "0011",
        "needrestart leaves workers and handles alone"
    );

    under_load(&cluster, "upgrade", false, || drop(dpkg(&cluster, &["--install", "/mnt/next.deb"]).ok()));
    assert_ne!(version(&cluster), this);
    under_load(&cluster, "downgrade", false, || drop(dpkg(&cluster, &["--install", "/mnt/this.deb"]).ok()));
    assert_eq!(version(&cluster), this);
    in_a_roll(&cluster, "upgrade in the middle of a roll", || drop(dpkg(&cluster, &["--install", "/mnt/next.deb"]).ok()));

    // One cluster that cannot be taken over is told of, and the others are.
    cluster.write("/etc/side.toml", "name = \"side\"\n[api]\nenabled = false\n[apps.idle]\nworkers = 1\ncommand = \"sleep 1000\"\n");
    cluster.cli(&["--config", "/etc/side.toml", "install"]).ok();
    cluster.write("/var/lib/side/pins/settings.json", "{");
    let mut said = String::new();
    under_load(&cluster, "upgrade beside a damaged cluster", false, || {
        let output = dpkg(&cluster, &["--install", "/mnt/this.deb"]).exits(0);
        said = output.stdout + &output.stderr;
    });
    assert!(said.contains("cluster side: ") && said.contains("`project-cluster install` writes"), "{said}");

    // Removed: nothing runs, nothing is left that would start at boot; what it keeps and the configuration stay.
    let generation = cluster.generations("api");
    dpkg(&cluster, &["--remove", "project-cluster"]).ok();
    assert!(cluster.get(ADDRESS, "/").is_err());
    assert_eq!(cluster.units("project-cluster*", &["active", "activating", "failed", "deactivating"]), Vec::<String>::new());
    let stays = ["/etc/needrestart/conf.d/project-cluster.conf", "/etc/project-cluster", "/var/lib/project-cluster"];
    assert_eq!(ours(&cluster), stays);
    assert!(cluster.exists("/etc/project-cluster/cluster.toml") && cluster.exists("/var/lib/project-cluster/pins/api"));
    // Reinstalled: as it was.
    dpkg(&cluster, &["--install", "/mnt/this.deb"]).ok();
    // Which waits for no app.
    cluster.systemctl(&["start", "project-cluster.target"]).ok();
    cluster.wait_for_http(ADDRESS);
    assert_eq!((cluster.generations("api"), cluster.workers("api").len()), (generation, 4));
    assert_eq!(cluster.systemctl(&["is-enabled", "project-cluster.target"]).ok(), "enabled");
    cluster.cli(&["reload", "api"]).ok();

    // Purged: nothing, also of a cluster whose ledger is damaged, and with an operator in a group.
    cluster.sh("usermod -aG project-cluster games; usermod -aG side games").ok();
    dpkg(&cluster, &["--remove", "project-cluster"]).ok();
    cluster.write("/var/lib/side/pins/installed.json", "{");
    dpkg(&cluster, &["--purge", "project-cluster"]).ok();
    cluster.run(&["rm", "/etc/side.toml"]).ok();
    assert_eq!(ours(&cluster), Vec::<String>::new());
    same("a purge leaves nothing", &without_managers(before), &without_managers(tree(&cluster)));
    println!("removed, reinstalled and purged: nothing is left in /etc, /var/lib and /run");
}

fn a_downgrade_that_cannot_be(suite: &str) {
    let cluster = stage(bare(suite));
    // Where systemd is not this system's, as when an image is made, a package does nothing to clusters and says nothing.
    let hidden = |deb: &str| {
        cluster.run_within(6 * SOON, &["unshare", "--mount", "sh", "-euc", "mount -t tmpfs none /run/systemd; exec dpkg --install $0", deb])
    };
    hidden("/mnt/this.deb").ok();
    first_cluster(&cluster);
    let master = cluster.main_pid(MASTER);
    let quiet = hidden("/mnt/next.deb").exits(0);
    assert!(!(quiet.stdout + &quiet.stderr).contains("cluster project-cluster"), "nothing is said");
    assert_eq!(cluster.main_pid(MASTER), master, "nothing is done");

    dpkg(&cluster, &["--install", "/mnt/newer.deb"]).ok();
    let (newer, files, workers, master) = (version(&cluster), tree(&cluster), cluster.pids("api"), cluster.main_pid(MASTER));
    let refused = dpkg(&cluster, &["--install", "/mnt/this.deb"]).exits(1);
    for words in
        ["cannot take over cluster project-cluster", "Nothing was\nchanged", "`project-cluster uninstall --cluster project-cluster`"]
    {
        assert!(refused.stderr.contains(words), "{words} in: {}", refused.stderr);
    }
    println!("{}", refused.stderr.lines().filter(|line| !line.starts_with("dpkg")).collect::<Vec<_>>().join("\n"));
    assert_eq!(version(&cluster), newer);
    assert_eq!((cluster.pids("api"), cluster.main_pid(MASTER)), (workers, master), "nothing was restarted");
    same("a refused downgrade", &without_managers(files), &without_managers(tree(&cluster)));
    assert!(cluster.run(&["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}", "project-cluster"]).ok().starts_with("ii"));
    // And at once, without a removal first.
    dpkg(&cluster, &["--purge", "project-cluster"]).ok();
    assert_eq!(ours(&cluster), Vec::<String>::new());
}

fn rpm_from_install_to_removal(suite: &str) {
    let cluster = stage(bare(suite));
    // What every system with rpm has by its package `filesystem`.
    cluster.sh("mkdir -p /usr/share/bash-completion/completions /usr/share/fish/vendor_completions.d /usr/share/zsh/site-functions /usr/share/man/man1 /usr/share/man/man5 /usr/share/man/man7").ok();
    const USR: &str = "find /usr -xdev ! -path '*/__pycache__*' | sort";
    let usr = cluster.sh(USR).ok();
    rpm(&cluster, &["--install", "/mnt/this.rpm"]).ok();
    let this = version(&cluster);
    first_cluster(&cluster);
    under_load(&cluster, "rpm: upgrade", false, || drop(rpm(&cluster, &["--upgrade", "/mnt/next.rpm"]).ok()));
    assert_ne!(version(&cluster), this);
    under_load(&cluster, "rpm: downgrade", false, || drop(rpm(&cluster, &["--upgrade", "--oldpackage", "/mnt/this.rpm"]).ok()));
    in_a_roll(&cluster, "rpm: upgrade in the middle of a roll", || drop(rpm(&cluster, &["--upgrade", "/mnt/newer.rpm"]).ok()));

    let (files, workers) = (tree(&cluster), cluster.pids("api"));
    let refused = rpm(&cluster, &["--upgrade", "--oldpackage", "/mnt/this.rpm"]);
    assert!(refused.code != 0 && refused.stderr.contains("cannot take over cluster project-cluster"), "{refused:?}");
    assert_ne!(version(&cluster), this);
    assert_eq!(cluster.pids("api"), workers);
    same("a refused downgrade", &without_managers(files), &without_managers(tree(&cluster)));

    rpm(&cluster, &["--erase", "project-cluster"]).ok();
    assert!(cluster.get(ADDRESS, "/").is_err());
    assert_eq!(cluster.units("project-cluster*", &["active", "activating", "failed", "deactivating"]), Vec::<String>::new());
    assert!(cluster.exists("/etc/project-cluster/cluster.toml") && cluster.exists("/var/lib/project-cluster/pins/api"));
    assert_eq!(cluster.sh(USR).ok(), usr, "nothing is left there, no directory either");
    assert!(!cluster.exists("/etc/needrestart"));
    rpm(&cluster, &["--install", "/mnt/newer.rpm"]).ok();
    cluster.wait_for_http(ADDRESS);
}

#[test]
fn a_deb_on_debian_12_from_install_to_purge() {
    deb_from_install_to_purge("bookworm");
}

#[test]
fn a_deb_on_debian_13_from_install_to_purge() {
    deb_from_install_to_purge("trixie");
}

#[test]
fn a_deb_on_debian_12_refuses_what_it_cannot_read() {
    a_downgrade_that_cannot_be("bookworm");
}

#[test]
fn a_deb_on_debian_13_refuses_what_it_cannot_read() {
    a_downgrade_that_cannot_be("trixie");
}

#[test]
fn an_rpm_with_systemd_252_from_install_to_removal() {
    rpm_from_install_to_removal("bookworm");
}

#[test]
fn an_rpm_with_systemd_257_from_install_to_removal() {
    rpm_from_install_to_removal("trixie");
}
