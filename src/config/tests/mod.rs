//! Tests of the whole way from files to settings or problems.

mod errors;
mod fuzz;
mod loads;
mod rendering;
mod rootless;

use std::path::Path;

pub use super::fuzz::Few;
use super::{Loaded, Problems, load};

/// Loads a configuration of these files: the first is `cluster.toml`, the others lie in `conf.d`.
pub fn load_files(files: &[(&str, &[u8])]) -> Result<Loaded, Problems> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("conf.d")).unwrap();
    for (at, (name, bytes)) in files.iter().enumerate() {
        let path = if at == 0 { directory.path().join(name) } else { directory.path().join("conf.d").join(name) };
        std::fs::write(path, bytes).unwrap();
    }
    relative(load(&directory.path().join(files[0].0), &Few), directory.path())
}

/// Loads one text.
pub fn load_text(text: &str) -> Result<Loaded, Problems> {
    load_files(&[("cluster.toml", text.as_bytes())])
}

/// Takes the temporary directory out of the problems' file names.
fn relative(result: Result<Loaded, Problems>, directory: &Path) -> Result<Loaded, Problems> {
    result.map_err(|mut problems| {
        let prefix = format!("{}/", directory.display());
        for problem in &mut problems.list {
            problem.strip_prefix(&prefix);
        }
        problems
    })
}
