//! What the end-to-end tests share: where the data and the binary are, and laboratories of network namespaces.

pub mod lab;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

/// The workspace's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The captures and tables outside the repository: `$ML_IDS_DATA`, else `../shared/data`. `None`, said loudly, when
/// they are not there.
#[must_use]
pub fn shared_data() -> Option<PathBuf> {
    let data = env::var_os("ML_IDS_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    if data.is_dir() {
        return Some(data);
    }
    eprintln!("SKIPPED: no data at {}; set ML_IDS_DATA", data.display());
    None
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
