//! What a package's scripts do: units anew at an upgrade, nothing but what is kept after a removal, and back again.

use std::fs;
use std::path::Path;

use project_cluster::units::install::{Error, FORMAT, Live, clusters, install, retire, uninstall, upgrade};

use super::{Fake, everything, furnished};
use crate::samples;

const LEDGER: &str = "var/lib/project-cluster/pins/installed.json";

/// An installed cluster that is up, and was written by some other version.
fn up(directory: &Path, live: &Fake) -> String {
    let settings = samples::shop();
    let options = super::Options { root: directory.to_owned(), ..super::Options::default() };
    install(&settings, &options, Some(live)).unwrap();
    let unit = directory.join("etc/systemd/system/project-cluster-api@.service");
    let now = fs::read_to_string(&unit).unwrap();
    fs::write(&unit, now.replace("[Service]\n", "[Service]\nNice=7\n")).unwrap();
    live.running.borrow_mut().extend(["project-cluster.service", "project-cluster.target"].map(String::from));
    live.take();
    now
}

#[test]
fn an_upgrade_writes_the_units_anew_and_restarts_the_master_alone() {
    let (directory, options) = furnished();
    let live = Fake::new(directory.path());
    let now = up(directory.path(), &live);
    assert_eq!(clusters(&options).unwrap(), ["project-cluster".parse().unwrap()]);
    let cluster = "project-cluster".parse().unwrap();
    let report = upgrade(&cluster, &options, Some(&live)).unwrap();
    assert_eq!(fs::read_to_string(directory.path().join("etc/systemd/system/project-cluster-api@.service")).unwrap(), now);
    assert_eq!(live.take(), ["sysusers etc/sysusers.d/project-cluster.conf", "daemon-reload", "restart project-cluster.service"]);
    assert!(report.notes.iter().any(|note| note.contains("systemctl reload project-cluster@api")), "{report}");
    // The new program is what counts, even where it writes the same.
    upgrade(&cluster, &options, Some(&live)).unwrap();
    assert_eq!(live.take(), ["restart project-cluster.service"]);
    // One that is down stays down.
    live.running.borrow_mut().clear();
    upgrade(&cluster, &options, Some(&live)).unwrap();
    assert_eq!(live.take(), Vec::<String>::new());
}

#[test]
fn a_cluster_of_another_program_is_left_alone() {
    let (directory, mut options) = furnished();
    let live = Fake::new(directory.path());
    up(directory.path(), &live);
    options.host.program = "/usr/local/bin/project-cluster".into();
    let before = everything(directory.path());
    let report = upgrade(&"project-cluster".parse().unwrap(), &options, Some(&live)).unwrap();
    assert!(report.notes[0].contains("of a program other than /usr/local/bin/project-cluster"), "{report}");
    assert_eq!((everything(directory.path()), live.take()), (before, Vec::new()));
}

#[test]
fn what_a_newer_version_keeps_is_refused_before_anything_changes() {
    let (directory, options) = furnished();
    let live = Fake::new(directory.path());
    up(directory.path(), &live);
    let ledger = directory.path().join(LEDGER);
    let newer = format!("\"format\": {}", FORMAT + 1);
    let text = fs::read_to_string(&ledger).unwrap().replace(&format!("\"format\": {FORMAT}"), &newer);
    // What else a newer version may have changed in it.
    fs::write(&ledger, text.replace("\"complete\": true", "\"complete\": \"wholly\"")).unwrap();
    let cluster = "project-cluster".parse().unwrap();
    let before = everything(directory.path());
    for refused in [
        upgrade(&cluster, &options, Some(&live)),
        retire(&cluster, &options, Some(&live)),
        install(&samples::shop(), &options, Some(&live)),
        uninstall(&cluster, &options, Some(&live)),
    ] {
        let why = refused.unwrap_err();
        assert!(matches!(why, Error::Newer(_)), "{why}");
        let said = why.to_string();
        assert!(said.lines().count() == 1 && said.contains("by a newer project-cluster") && said.contains("nothing was changed"), "{said}");
    }
    assert_eq!((everything(directory.path()), live.take()), (before, Vec::new()));
}

#[test]
fn lost_settings_are_told_and_change_nothing() {
    let (directory, options) = furnished();
    let live = Fake::new(directory.path());
    up(directory.path(), &live);
    fs::write(directory.path().join("var/lib/project-cluster/pins/settings.json"), "{").unwrap();
    let before = everything(directory.path());
    let why = upgrade(&"project-cluster".parse().unwrap(), &options, Some(&live)).unwrap_err();
    assert!(matches!(why, Error::Lost { .. }) && why.to_string().contains("`project-cluster install` writes"), "{why}");
    assert_eq!((everything(directory.path()), live.take()), (before, Vec::new()));
}

#[test]
fn a_removal_keeps_what_is_kept_and_the_next_package_brings_the_rest_back() {
    let (directory, options) = furnished();
    let bare = everything(directory.path());
    let live = Fake::new(directory.path());
    let now = up(directory.path(), &live);
    let wants = directory.path().join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir(&wants).unwrap();
    std::os::unix::fs::symlink("../project-cluster.target", wants.join("project-cluster.target")).unwrap();
    let cluster = "project-cluster".parse().unwrap();

    retire(&cluster, &options, Some(&live)).unwrap();
    let calls = live.take();
    assert!(calls[0].starts_with("stop project-cluster.target project-cluster@api.service "), "{calls:?}");
    assert_eq!(calls[1..], ["disable project-cluster.target", "daemon-reload"], "the user stays");
    let left = everything(directory.path());
    let added: Vec<_> = left
        .keys()
        .filter(|path| !bare.contains_key(*path) && !path.starts_with(&wants))
        .map(|path| path.strip_prefix(directory.path()).unwrap())
        .collect();
    assert!(!added.is_empty() && added.iter().all(|path| path.starts_with("var/lib/project-cluster")), "{added:?}");
    // A second one, of a script that ran twice.
    live.running.borrow_mut().clear();
    retire(&cluster, &options, Some(&live)).unwrap();
    assert_eq!((live.take(), everything(directory.path())), (Vec::new(), left));

    upgrade(&cluster, &options, Some(&live)).unwrap();
    let calls = live.take();
    assert_eq!(calls[calls.len() - 2..], ["enable project-cluster.target", "start project-cluster.target"], "{calls:?}");
    assert_eq!(fs::read_to_string(directory.path().join("etc/systemd/system/project-cluster-api@.service")).unwrap(), now);
    // And that once.
    upgrade(&cluster, &options, Some(&live)).unwrap();
    assert_eq!(live.take(), Vec::<String>::new());
}

#[test]
fn without_systemd_a_removal_takes_the_files_alone() {
    let (directory, options) = furnished();
    let live = Fake::new(directory.path());
    up(directory.path(), &live);
    let none: Option<&dyn Live> = None;
    retire(&"project-cluster".parse().unwrap(), &options, none).unwrap();
    assert!(!directory.path().join("etc/systemd/system/project-cluster.service").exists());
    assert!(directory.path().join(LEDGER).exists());
}
