//! What the end-to-end tests share: where data and binary lie, flows in a form that can be compared, and laboratories
//! of network namespaces with what measures in them.

pub mod agent;
pub mod browser;
pub mod fever;
pub mod flows;
pub mod inject;
pub mod lab;
pub mod load;
pub mod onnx;
pub mod prometheus;
pub mod records;
pub mod registry;
pub mod sensor;
pub mod servers;
pub mod tally;
pub mod tcx;
pub mod training;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

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

/// A program that `cargo xtask setup --tests` has put into the cache. `None`, said loudly, if it is not there; the caller
/// then skips.
///
/// # Errors
/// When there is no place to look for it.
pub fn cached(part: &str) -> Result<Option<PathBuf>> {
    let cache = match env::var_os("ML_IDS_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache/ml-ids"),
    };
    let path = cache.join(part);
    if path.exists() {
        return Ok(Some(path));
    }
    eprintln!("SKIPPED: {} is not there; `cargo xtask setup --tests` makes it", path.display());
    Ok(None)
}

/// A fixture of this crate.
#[must_use]
pub fn fixture(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(part)
}

/// The `ml-ids` binary under test: `$ML_IDS_BIN`, else the one that was built beside this test.
///
/// # Errors
/// When there is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("ML_IDS_BIN") {
        return Ok(PathBuf::from(path));
    }
    let test = env::current_exe()?;
    let found = test.ancestors().skip(1).map(|folder| folder.join("ml-ids")).find(|path| path.is_file());
    let Some(path) = found else { bail!("no ml-ids binary beside {}; cargo build -p ml-ids first", test.display()) };
    Ok(path)
}

/// All files of a folder and its subfolders with one of the given endings, in order.
///
/// # Errors
/// When a folder cannot be read.
pub fn files(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            if path.is_dir() {
                folders.push(path);
            } else if endings.contains(&ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The default model's file.
#[must_use]
pub fn default_model() -> PathBuf {
    root().join("models/default.onnx")
}

/// The workspace's folder.
#[must_use]
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}
