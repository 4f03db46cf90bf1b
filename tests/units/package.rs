//! `make install`: what a package has.

use std::path::Path;
use std::process::Command;

/// Installs with these variables of make; the directory that stands for `/`.
fn made(variables: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    // A make that runs the tests must not hand its own flags on.
    let made = Command::new("make")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .args(["--silent", "install", concat!("BINARY=", env!("CARGO_BIN_EXE_project-cluster"))])
        .args(variables)
        .arg(format!("DESTDIR={}", root.path().display()))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    root
}

/// Every file below a directory, as paths in it.
fn files(directory: &Path, below: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            files(&path, below, found);
        } else {
            found.push(path.strip_prefix(below).unwrap().to_str().unwrap().to_owned());
        }
    }
}

#[test]
fn both_packages_have_all_of_what_make_install_has() {
    let root = made(&["PREFIX=/usr", "SYSCONFDIR=/etc"]);
    let mut all = Vec::new();
    files(root.path(), root.path(), &mut all);
    assert!(all.len() > 40, "{all:?}");
    let manifest: toml::Table = include_str!("../../Cargo.toml").parse().unwrap();
    let metadata = &manifest["package"]["metadata"];
    let deb = metadata["deb"]["assets"].as_array().unwrap().iter().map(|asset| asset[0].as_str().unwrap());
    let rpm = metadata["generate-rpm"]["assets"].as_array().unwrap().iter().map(|asset| asset["source"].as_str().unwrap());
    for (kind, patterns) in [("deb", deb.collect::<Vec<_>>()), ("rpm", rpm.collect())] {
        let prefix = format!("target/package/{kind}/");
        // `dir/*` has the files of that directory, `dir/**/*` those below it, too.
        let has = |file: &str| {
            patterns.iter().any(|pattern| {
                let pattern = pattern.strip_prefix(&prefix).unwrap_or_else(|| panic!("{pattern} is not below {prefix}"));
                let directory = pattern.strip_suffix('*').unwrap();
                match directory.strip_suffix("**/") {
                    Some(directory) => file.starts_with(directory),
                    None => file.strip_prefix(directory).is_some_and(|name| !name.contains('/')),
                }
            })
        };
        let left: Vec<_> = all.iter().filter(|file| !has(file)).collect();
        assert!(left.is_empty(), "the .{kind} leaves out {left:?}");
    }
}

#[test]
fn make_install_puts_everything_where_the_documents_say() {
    let root = made(&[]);
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let at = |path: &str| root.path().join(path.trim_start_matches('/'));
    let program = Command::new(at("/usr/local/bin/project-cluster")).arg("--version").output().unwrap();
    assert!(program.status.success());
    let document = std::fs::read_to_string(repository.join("docs/config.md")).unwrap();
    let schema = document.split_once("#:schema ").unwrap().1.split_once('`').unwrap().0;
    let installed = std::fs::read(at(schema)).unwrap_or_else(|why| panic!("{schema}: {why}"));
    assert_eq!(installed, std::fs::read(repository.join("docs/cluster.schema.json")).unwrap());
    let paths = [
        "lib/sysusers.d/project-cluster.conf",
        "lib/tmpfiles.d/project-cluster.conf",
        "share/bash-completion/completions/project-cluster",
        "share/doc/project-cluster/cluster.toml",
        "share/doc/project-cluster/copyright",
        "share/doc/project-cluster/units/project-cluster.service",
        "share/fish/vendor_completions.d/project-cluster.fish",
        "share/zsh/site-functions/_project-cluster",
        "share/doc/project-cluster/README.md",
        "share/doc/project-cluster/examples/shop",
        "share/man/man1/project-cluster.1",
        "share/man/man5/project-cluster.toml.5",
        "share/man/man7/project-cluster.7",
    ];
    for path in paths {
        assert!(at("/usr/local").join(path).exists(), "{path}");
    }
    assert!(!at("/etc").exists(), "nothing is written there unasked");
}
