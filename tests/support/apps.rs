//! The servers of `tests/apps`, which every sandbox has at [`INSIDE`].

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use super::evidence;

/// Where `tests/apps` lies inside.
pub const INSIDE: &str = "/srv/apps";

/// The static Go server, and where tests have it inside: an entry of `Options::shown`.
#[track_caller]
pub fn go() -> (PathBuf, PathBuf) {
    (built_go(), PathBuf::from("/usr/local/bin/hello-go"))
}

/// Builds it where it is older than its source.
#[track_caller]
fn built_go() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps/go");
    let program = evidence::target().join("test-apps/hello-go");
    let newest = ["main.go", "go.mod"].iter().filter_map(|name| changed(&source.join(name))).max();
    if changed(&program).is_some_and(|built| Some(built) > newest) {
        return program;
    }
    // Several tests may build it at once: each under a name of its own, and the last rename wins.
    fs::create_dir_all(program.parent().expect("it has a directory")).expect("cargo's own directory");
    let mine = program.with_extension(std::process::id().to_string());
    let built =
        Command::new("go").args(["build", "-trimpath", "-o"]).arg(&mine).arg(".").current_dir(&source).env("CGO_ENABLED", "0").output();
    let built = built.unwrap_or_else(|error| panic!("cannot run go: {error}; tests/setup.sh installs it"));
    assert!(built.status.success(), "go build failed: {}", String::from_utf8_lossy(&built.stderr));
    fs::set_permissions(&mine, fs::Permissions::from_mode(0o755)).expect("our own file");
    fs::rename(&mine, &program).expect("the same directory");
    program
}

/// The axum server of `examples/`, and where tests have it inside.
#[track_caller]
pub fn axum() -> (PathBuf, PathBuf) {
    let program = evidence::target().join(if cfg!(debug_assertions) { "debug" } else { "release" }).join("examples/hello_axum");
    assert!(program.exists(), "{} is missing: `cargo build --example hello_axum`", program.display());
    (program, PathBuf::from("/usr/local/bin/hello-axum"))
}

/// What uvicorn is made of, and where Python finds it inside: `PYTHONPATH`.
#[track_caller]
pub fn uvicorn() -> (PathBuf, PathBuf) {
    let modules = evidence::target().join("uvicorn/modules");
    assert!(modules.join("uvicorn").exists(), "{} has no uvicorn: `tests/setup.sh full` installs it", modules.display());
    (modules, PathBuf::from("/usr/local/lib/uvicorn"))
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
