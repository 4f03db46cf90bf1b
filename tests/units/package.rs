//! `make install`: what a package has.

use std::path::Path;
use std::process::Command;

#[test]
fn make_install_puts_everything_where_the_documents_say() {
    let root = tempfile::tempdir().unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    // A make that runs the tests must not hand its own flags on.
    let made = Command::new("make")
        .current_dir(repository)
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .args(["--silent", "install", concat!("BINARY=", env!("CARGO_BIN_EXE_project-cluster"))])
        .arg(format!("DESTDIR={}", root.path().display()))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let at = |path: &str| root.path().join(path.trim_start_matches('/'));
    let program = Command::new(at("/usr/local/bin/project-cluster")).arg("--version").output().unwrap();
    assert!(program.status.success());
    let document = std::fs::read_to_string(repository.join("docs/config.md")).unwrap();
    let schema = document.split_once("#:schema ").unwrap().1.split_once('`').unwrap().0;
    let installed = std::fs::read(at(schema)).unwrap_or_else(|why| panic!("{schema}: {why}"));
    assert_eq!(installed, std::fs::read(repository.join("docs/cluster.schema.json")).unwrap());
    let paths = [
        "lib/sysusers.d/project-cluster.conf",
        "share/doc/project-cluster/README.md",
        "share/doc/project-cluster/examples/shop",
        "share/man/man1/project-cluster.1",
        "share/man/man5/project-cluster.toml.5",
        "share/man/man7/project-cluster.7",
    ];
    for path in paths {
        assert!(at("/usr/local").join(path).exists(), "{path}");
    }
}
