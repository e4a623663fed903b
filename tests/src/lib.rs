//! Shared between the end-to-end tests: where data lies, and flows in a form that can be compared.

pub mod flows;

use std::{
    env,
    path::{Path, PathBuf},
};

/// Data that may not be in the repository: `$ML_IDS_DATA`, or `../shared/data` beside the workspace. `None`, said
/// loudly, if it is not there; the caller then skips.
#[must_use]
pub fn data(part: &str) -> Option<PathBuf> {
    let root = match env::var_os("ML_IDS_DATA") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
    };
    let path = root.join(part);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not there; set ML_IDS_DATA to test with it", path.display());
    None
}

/// A fixture of this crate.
#[must_use]
pub fn fixture(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(part)
}
