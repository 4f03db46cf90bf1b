//! Who owns a deploy directory or a worker's runtime directory, while root's steps work there.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};

use project_cluster::config::{SystemAccounts, load};
use project_cluster::worker::paths::Paths;
use project_cluster::worker::prepare::prepare;
use project_cluster::worker::release::{Owner, lookup};
use project_cluster::worker::store::Store;

use super::Tries;
use crate::cluster::{SOON, app, cluster};

/// How often root's step is raced in `make test`; a hundred thousand times in `make proof`.
const SHORT: usize = 2_000;

#[test]
fn a_symlink_in_a_deploy_directory_leads_root_nowhere() {
    let cluster = cluster(&app("api", 1, "node /srv/apps/worker.js", "ready = \"none\"\nuser = \"games\""));
    let mut by = Tries::by("who deploys");
    cluster.sh("mkdir -p /root/private/release; ln -s /root/private/release /root/link; chmod 700 /root /root/private; chown -h games /srv/shop /srv/shop/current").ok();
    let unit = |generation: u32| format!("project-cluster-api@1.{generation}.1.service");
    let copies = || cluster.sh("cat /run/project-cluster-api/*/pin.json").ok();
    let master = cluster.main_pid("project-cluster.service").unwrap();
    for (what, target) in [
        ("leads `cwd` to a directory of root's", "/root/private/release"),
        ("leads it through a link in a directory of root's", "/root/link"),
        ("leads it through another user's process in /proc", &*format!("/proc/{master}/root/root/private")),
        ("leads it through a descriptor of another user's process", &*format!("/proc/{master}/cwd")),
        ("leads it around in a circle", "/srv/shop/current"),
        ("leads it to a file", "/etc/passwd"),
    ] {
        cluster.run_as("games", &["ln", "-sfn", target, "/srv/shop/current"]).ok();
        let mark = cluster.journal_mark();
        let said = cluster.cli(&["reload", "api"]);
        let journal = cluster.journal(&["--since", &mark, "-o", "cat", "-t", "project-cluster-api"]);
        let told = format!("{}{journal}", copies());
        let secret = told.contains("private") || told.contains("/root");
        let refused = said.code != 0 && journal.contains("the working directory of api, /srv/shop/current, cannot be used") && !secret;
        by.row(
            what,
            "the roll fails and tells nothing of what is there; the old worker goes on",
            refused && cluster.workers("api").len() == 1,
            (said, told),
        );
    }
    // The same links work where the user may go, by a group as well.
    cluster
        .sh("groupadd deployers; usermod -aG deployers games; mkdir -p /srv/closed/v9; chgrp deployers /srv/closed; chmod 750 /srv/closed")
        .ok();
    cluster.run_as("games", &["ln", "-sfn", "/srv/closed/v9", "/srv/shop/current"]).ok();
    let said = cluster.cli(&["reload", "api"]);
    by.row(
        "leads it where the app's user may go by a group of its own",
        "(it may: the try itself works)",
        said.success() && copies().contains("/srv/closed/v9"),
        said,
    );
    assert_eq!(cluster.state(&unit(1)), "inactive");
    // A release that changes while workers start.
    cluster.run_as("games", &["sh", "-euc", "rm -f /srv/shop/current; ln -s /srv/shop/v1 /srv/shop/current"]).ok();
    let swaps = "while :; do ln -sfn /root/private/release /srv/shop/current; ln -sfn /srv/shop/v1 /srv/shop/current; done";
    let racer = cluster.spawn(&["setpriv", "--reuid=games", "--regid=games", "--clear-groups", "sh", "-c", swaps]);
    for _ in 0..4 {
        cluster.cli(&["reload", "api", "--no-wait"]);
        cluster.systemctl(&["reload", "project-cluster@api"]);
    }
    drop(racer);
    let pins = cluster.sh("cat /var/lib/project-cluster/pins/api/*.json").ok();
    by.row(
        "changes the link as fast as it can during eight rolls",
        "no pin ever leads to root's directory",
        !pins.contains("private"),
        pins.lines().filter(|line| line.contains("cwd")).collect::<String>(),
    );
    cluster.wait_until("it serves", SOON, || !cluster.workers("api").is_empty());
    by.end();
}

#[test]
fn a_worker_that_races_root_in_its_own_directory_gets_nothing() {
    let through = race(SHORT);
    let mut by = Tries::by("who owns a worker's runtime directory and a deploy directory");
    let happens = "root writes nothing outside of the directory, changes no owner or mode there, tells nothing from there";
    by.row("puts symlinks, hard links, FIFOs, directories and files of its own in root's way, turns the release's link and exchanges a link with a directory, as fast as it can: 2,000 starts here, 100,000 in `make proof`", happens, through > 0, through);
    by.end();
}

/// What races with root in the worker's own directory: each of its tricks in turn, as fast as it can.
const RACER: &str = r#"
import itertools, os, sys
own, victim, secret = sys.argv[1:]
os.chdir(own)
def quietly(act, *arguments):
    try: act(*arguments)
    except OSError: pass
def clear(name):
    quietly(os.unlink, name); quietly(os.rmdir, name)
def forge(name):
    with open(name, 'w') as file: file.write('forged')
names = ('.pin.json.new', 'pin.json')
tricks = [lambda name: quietly(os.symlink, victim, name), lambda name: quietly(os.symlink, secret, name), lambda name: quietly(os.link, victim, name),
    lambda name: quietly(os.mkfifo, name), lambda name: quietly(forge, name), lambda name: quietly(os.mkdir, name),
    lambda name: quietly(os.rename, name, 'away'), lambda name: (quietly(os.rename, 'away', name), clear('away')),
    lambda name: quietly(os.symlink, os.path.dirname(victim), name)]
for trick, name in itertools.cycle(itertools.product(tricks, names)):
    trick(name)
    if os.getpid() % 2: clear(name)
"#;

/// Exchanges two names as fast as it can.
const EXCHANGER: &str = "import ctypes, sys\nlibc, here = ctypes.CDLL(None), -100\na, b = (name.encode() for name in sys.argv[1:])\nwhile libc.renameat2(here, a, here, b, 2) == 0: pass\n";

struct Racers(Vec<Child>);

impl Drop for Racers {
    fn drop(&mut self) {
        for racer in &mut self.0 {
            // One that has ended is gone already; the test looks at them before.
            let _ = racer.kill();
            let _ = racer.wait();
        }
    }
}

/// Races the first step so often; what it wrote outside of its place, and how often it got through.
pub fn race(times: usize) -> usize {
    const USER: u32 = 65_533;
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let at = |path: &str| root.path().join(path);
    let make = |path: &Path, mode: u32| fs::DirBuilder::new().recursive(true).mode(mode).create(path).unwrap();
    let (cluster, name) = ("shop".parse().unwrap(), "api".parse().unwrap());
    let (victims, secrets) = (at("victims"), at("secrets"));
    make(&victims, 0o755);
    make(&secrets.join("release"), 0o700);
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o700)).unwrap();
    let (victim, secret) = (victims.join("file"), secrets.join("file"));
    fs::write(&victim, "of root").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&secret, "secret").unwrap();
    for release in ["v1", "v2"] {
        make(&at(&format!("srv/{release}")), 0o755);
    }
    let own = at("run/shop-api/1.1.1");
    make(&own, 0o755);
    let deploys = at("srv");
    for path in [&own, &deploys] {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
    symlink("v1", deploys.join("current")).unwrap();
    // One that is a directory at one moment and a link at the next.
    let (swapped, beside) = (deploys.join("swapped"), deploys.join("swapped.link"));
    make(&swapped, 0o755);
    symlink(secrets.join("release"), &beside).unwrap();
    let paths = Paths::under(root.path());
    let store = Store::open(&cluster, &paths);
    let toml = at("cluster.toml");
    let config =
        format!("name = \"shop\"\n[apps.api]\ncommand = \"node x\"\ncwd = \"{}\"\nready = \"none\"\n", deploys.join("current").display());
    fs::write(&toml, config).unwrap();
    let settings = load(&toml, &SystemAccounts).unwrap().settings;
    store.write_settings(&settings).unwrap();
    let python = |script: &str, arguments: &[&Path]| {
        Command::new("/usr/bin/python3").args(["-c", script]).args(arguments).uid(USER).gid(USER).spawn().unwrap()
    };
    let flips = "import os, sys\ncurrent, *targets = sys.argv[1:]\nwhile True:\n    for target in targets:\n        os.symlink(target, current + '.new')\n        os.rename(current + '.new', current)\n";
    let flipper = python(flips, &[&deploys.join("current"), &deploys.join("v1"), &secrets.join("release"), &deploys.join("v2"), &victims]);
    let mut racers = Racers(vec![flipper]);
    racers.0.push(python(RACER, &[&own, &victim, &secret]));
    racers.0.push(python(EXCHANGER, &[&swapped, &beside]));
    let (app, owner) = (&settings.apps[&name], Owner { uid: USER, gid: USER });
    let mut seen = [0; 2];
    let mut through = 0;
    for turn in 0..times {
        // A new generation now and then: that is when the release is looked up.
        let instance = if turn % 64 == 1 { format!("1.{}.1", store.counter(&name).unwrap().generation.next()) } else { "1.1.1".to_owned() };
        let directory = paths.workers(&cluster, &name).join(&instance);
        if !directory.exists() {
            make(&directory, 0o700);
            chown(&directory, Some(USER), Some(USER)).unwrap();
        }
        through += usize::from(prepare(&cluster, &name, &instance, &paths, &directory).is_ok());
        match lookup(&swapped, app, owner) {
            Ok(found) => {
                assert_eq!(found, swapped, "root looked where its owner may not");
                seen[0] += 1;
            }
            Err(_) => seen[1] += 1,
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "it was a directory at one look and a link at another: {seen:?}");
    for racer in &mut racers.0 {
        assert!(racer.try_wait().unwrap().is_none(), "it raced to the end");
    }
    drop(racers);
    let meta = victim.metadata().unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777, fs::read_to_string(&victim).unwrap().as_str()), (0, 0o644, "of root"));
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(fs::read_dir(&victims).unwrap().count(), 1, "nothing was written beside it");
    let pins: String =
        fs::read_dir(paths.pins(&cluster).join("api")).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    assert!(!pins.contains("secrets") && pins.contains("/v1"), "{pins}");
    through
}
