//! The configuration of an ordinary user's cluster: nobody else can be had, and no switch of the sandbox that mounts.

use std::path::Path;

use super::super::settings::{Sandbox, User};
use super::super::{Accounts, Loaded, Problems, load};
use super::Few;
use crate::place::Place;

/// A machine whose user has a systemd of her own.
struct Ada;

impl Accounts for Ada {
    fn user(&self, name: &str) -> std::io::Result<Option<u32>> {
        Few.user(name)
    }
    fn group(&self, name: &str) -> std::io::Result<Option<u32>> {
        Few.group(name)
    }
    fn place(&self) -> Place {
        Place::user((1500, 1500), Path::new("/home/ada"), Path::new("/run/user/1500"))
    }
}

fn loaded(more: &str) -> Result<Loaded, Problems> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cluster.toml");
    let text = format!("[apps.api]\ncommand = \"/home/ada/app\"\ncwd = \"/home/ada\"\nlisten = 3000\n{more}");
    std::fs::write(&path, text).unwrap();
    load(&path, &Ada)
}

#[test]
fn an_app_runs_as_its_owner_with_what_a_process_can_do_to_itself() {
    let loaded = loaded("sandbox = { home = false, families = false }").unwrap();
    let api = &loaded.settings.apps[&"api".parse().unwrap()];
    assert_eq!((&api.user, api.sandbox), (&User::Own, Sandbox { families: false, ..Sandbox::rootless() }));
    assert!(loaded.warnings.list.is_empty(), "her home is there: {}", loaded.warnings);
}

#[test]
fn what_she_cannot_have_is_refused() {
    for more in ["user = \"shop\"", "sandbox.tmp = true", "ready = \"none\"\nsandbox.users = true", "sandbox.system = true"] {
        let problems = loaded(more).unwrap_err();
        assert_eq!(problems.list.iter().filter(|one| one.code == "not-rootless").count(), 1, "{more}: {problems}");
    }
    let owned = loaded("[apps.b]\ncommand = \"x\"\nlisten = { path = \"/run/user/1500/a\", owner = \"shop\" }").unwrap_err();
    assert_eq!(owned.list.iter().filter(|one| one.code == "not-rootless").count(), 1, "{owned}");
    let low = loaded("[apps.b]\ncommand = \"x\"\nlisten = 80").unwrap();
    assert!(low.warnings.list.iter().any(|one| one.code == "low-port"), "{}", low.warnings);
    let taken = loaded("[apps.b]\ncommand = \"x\"\nlisten = \"/run/user/1500/project-cluster/api.sock\"").unwrap_err();
    assert!(taken.to_string().contains("the REST API's own"), "{taken}");
}
