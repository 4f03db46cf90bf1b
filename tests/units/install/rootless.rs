//! A cluster of an ordinary user: what her systemd is asked for, and what is made where.

use super::*;
use project_cluster::place::Place;
use project_cluster::units::model::Host;

#[test]
fn a_users_cluster_makes_no_account_and_nothing_outside_her_home() {
    let (directory, options) = furnished();
    let host = Host::of(Place::user((1500, 1500), Path::new("/home/ada"), Path::new("/run/user/1500")));
    let options = Options { host, ..options };
    let before = everything(directory.path());
    let fake = Fake::new(directory.path());
    let settings = samples::rootless();
    install(&settings, &Options { now: true, ..options.clone() }, Some(&fake)).unwrap();
    let calls = fake.take();
    assert!(calls.iter().any(|call| call == "enable shop.target"), "{calls:?}");
    assert!(!calls.iter().any(|call| call.starts_with("sysusers")), "{calls:?}");
    for path in everything(directory.path()).keys().filter(|path| !before.contains_key(*path)) {
        let inside = path.strip_prefix(directory.path()).unwrap();
        assert!(inside.starts_with("home"), "{}", path.display());
        let secret = inside.starts_with("home/ada/.local/state/shop");
        assert!(!secret || fs::metadata(path).unwrap().permissions().mode() & 0o077 == 0, "{} is for others to read", path.display());
    }
    assert!(install(&settings, &options, Some(&fake)).unwrap().is_empty(), "a second one changes nothing");
    fake.take();
    uninstall(&settings.name, &options, Some(&fake)).unwrap();
    assert!(!fake.take().iter().any(|call| call.starts_with("remove-user")));
    assert_eq!(everything(directory.path()), before);
}
