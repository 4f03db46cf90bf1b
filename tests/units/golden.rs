//! Golden trees: `UPDATE_GOLDEN=1 cargo test --test units` writes them anew; read the difference before committing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use project_cluster::config::settings::Settings;
use project_cluster::place::Place;
use project_cluster::units::model::{Host, Owner};
use project_cluster::units::render::render;

use crate::samples;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A tree as files below a directory, and a MANIFEST of modes and owners.
fn rendered(clusters: &[Settings]) -> BTreeMap<PathBuf, String> {
    rendered_for(clusters, &Host::default())
}

fn rendered_for(clusters: &[Settings], host: &Host) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let mut manifest = BTreeMap::new();
    for settings in clusters {
        let tree = render(settings, host);
        for (path, mode) in &tree.directories {
            manifest.insert(path.clone(), format!("{mode:04o} root:root {}/", path.display()));
        }
        for (path, file) in tree.files {
            let group = if file.owner == Owner::Root { "root" } else { settings.name.as_str() };
            manifest.insert(path.clone(), format!("{:04o} root:{group} {}", file.mode, path.display()));
            let path = path.strip_prefix("/").unwrap().to_owned();
            assert_eq!(files.insert(path.clone(), file.contents), None, "two clusters write {path:?}");
        }
    }
    let mut text = String::new();
    for line in manifest.values() {
        writeln!(text, "{line}").unwrap();
    }
    files.insert("MANIFEST".into(), text);
    files
}

fn on_disk(directory: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(top: &Path, directory: &Path, files: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(top, &path, files);
            } else {
                files.insert(path.strip_prefix(top).unwrap().to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(directory, directory, &mut files);
    files
}

/// Compares, or writes where asked to.
fn check(directory: &Path, expected: &BTreeMap<PathBuf, String>) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        if directory.exists() {
            fs::remove_dir_all(directory).unwrap();
        }
        for (path, contents) in expected {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        }
    }
    let found = on_disk(directory);
    let names = |files: &BTreeMap<PathBuf, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(expected), "files of {}", directory.display());
    for (path, contents) in expected {
        assert_eq!(&found[path], contents, "{}", directory.join(path).display());
    }
}

#[test]
fn golden_trees() {
    for (name, clusters) in samples::all() {
        check(&repository().join("tests/golden").join(name), &rendered(&clusters));
    }
}

/// The same for an ordinary user's systemd: no other user, no step of root's, nothing that needs a mount or a namespace.
#[test]
fn golden_tree_of_a_user() {
    let host = Host::of(Place::user((1500, 1500), Path::new("/home/ada"), Path::new("/run/user/1500")));
    let files = rendered_for(&[samples::rootless()], &host);
    for (path, text) in files.iter().filter(|(path, _)| path.starts_with("home/ada/.config")) {
        let directives = text.lines().filter(|line| !line.starts_with('#'));
        for line in directives {
            let key = line.split_once('=').map_or(line, |(key, _)| key);
            let root = key.starts_with("Private") || key.starts_with("Protect") || key.ends_with("User") || key == "SupplementaryGroups";
            assert!(!root && key != "CapabilityBoundingSet" && !line.contains("=+"), "{}: {line}", path.display());
            let outside = line.contains("/etc/") || line.contains("/var/") || line.contains("/run/project");
            assert!(!outside, "{}: {line}", path.display());
        }
    }
    check(&repository().join("tests/golden/rootless"), &files);
}

/// `units/`: the same templates for people, of the sample in its README.
#[test]
fn shipped_templates() {
    let mut flat = BTreeMap::new();
    for (path, contents) in rendered(&[samples::shop()]) {
        let units = path.strip_prefix("etc/systemd/system").map(Path::to_owned);
        let rest = || path.starts_with("etc").then(|| PathBuf::from(path.file_name().unwrap()));
        if let Some(path) = units.ok().or_else(rest) {
            flat.insert(path, contents);
        }
    }
    flat.insert("README.md".into(), README.into());
    check(&repository().join("units"), &flat);
}

/// Kept here so that one command writes the whole directory.
const README: &str = r#"# The units, as a person would read them

What `project-cluster install` writes for this `cluster.toml`:

```toml
[apps.api]
workers = 4
command = "node apps/api.js"
cwd = "/srv/shop"
user = "shop"
listen = ["0.0.0.0:3000"]
env = { NODE_ENV = "production" }

[apps.bg]
workers = 2
command = "node apps/bg.js"
cwd = "/srv/shop"
user = "shop"
```

| file | what it is |
|---|---|
| `project-cluster.target` | everything of the cluster |
| `project-cluster.service`, `.socket` | the master and its API |
| `project-cluster@.service` | the handle: `systemctl start`, `stop`, `restart`, `reload project-cluster@api` |
| `project-cluster@api.service.d/50-app.conf` | what the handle of `api` stands for |
| `project-cluster-api-0.0.0.0:3000.socket` | the port, held by PID 1 |
| `project-cluster-first@.service` | what a connection to an app without workers starts |
| `project-cluster-api@.service` | a worker of `api`; its instance is `SLOT.GENERATION.TRY` |
| `project-cluster.conf` | the system user of the master (`/etc/sysusers.d`) |
| `50-project-cluster.rules` | what that user may ask of systemd (`/etc/polkit-1/rules.d`) |

Generated: `UPDATE_GOLDEN=1 cargo test --test units` writes this directory, a test compares it.
"#;

#[test]
fn the_package_declares_the_same_user_as_an_install() {
    let line = |text: &str| text.lines().find(|line| line.starts_with("u ")).map(str::to_owned);
    let packaged = fs::read_to_string(repository().join("packaging/sysusers.d/project-cluster.conf")).unwrap();
    let rendered = render(&samples::minimal(), &Host::default());
    let rendered = &rendered.files[Path::new("/etc/sysusers.d/project-cluster.conf")].contents;
    assert!(line(&packaged).is_some());
    assert_eq!(line(&packaged), line(rendered));
}
