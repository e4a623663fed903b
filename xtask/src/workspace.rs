//! Where things are: the repository, its build output, and the cache that outlives both.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// Cargo's build output, `CARGO_TARGET_DIR` honoured.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        // A relative one is relative to where cargo was started, which is also where this program was.
        Some(target) => std::path::absolute(&target).unwrap_or_else(|_| PathBuf::from(target)),
        None => root().join("target"),
    }
}

/// What setup puts in place: `ML_IDS_CACHE`, otherwise `~/.cache/ml-ids`.
pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    if let Some(cache) = env::var_os("ML_IDS_CACHE") {
        return Ok(cache.into());
    }
    let home = env::var_os("HOME").context("neither ML_IDS_CACHE nor HOME is set: set one of them")?;
    Ok(PathBuf::from(home).join(".cache/ml-ids"))
}

/// The agent of a build profile's folder (`debug`, `release`).
pub(crate) fn agent(folder: &str) -> PathBuf {
    target().join(folder).join("ml-ids")
}
