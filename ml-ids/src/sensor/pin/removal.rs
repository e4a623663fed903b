//! Removing pins: links first, so that the hooks detach, then maps, then directories.

use std::{
    fs,
    path::{Path, PathBuf},
};

use log::warn;

use super::{
    PinError,
    bpffs::{Lock, entries},
    links,
    table::{Census, owner},
};

/// What was removed.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    /// Hooks that were detached, each by its name and interface.
    pub hooks: Vec<String>,
    /// Other pins: maps.
    pub maps: usize,
    /// Live flows that were given up; slots in use where `exact` is not set.
    pub flows: u64,
    /// Whether that is the number of flows.
    pub exact: bool,
    /// Finished flows that nobody had read.
    pub records: u64,
}

/// Removes everything below a directory of pins, and the directory. `None` if there is none.
///
/// # Errors
/// When a running sensor has the directory or one in it, unless `force` is set.
pub fn remove_all(root: &Path, force: bool) -> Result<Option<Removed>, PinError> {
    if !root.is_dir() {
        return Ok(None);
    }
    let directories: Vec<PathBuf> = entries(root).into_iter().filter(|path| path.is_dir()).collect();
    // Held until everything is gone. A sensor without --pin that blocks has a directory here as well, and locks that alone.
    let mut locks = Vec::new();
    for directory in std::iter::once(root).chain(directories.iter().map(PathBuf::as_path)) {
        let lock = Lock::take(directory)?;
        if lock.is_none() && !force {
            let advice = "stop it first, or take its pins away from it with --force";
            return Err(PinError::Locked { directory: directory.to_owned(), owner: owner(root), advice });
        }
        locks.push(lock);
    }
    let idle = locks.first().is_some_and(Option::is_some);
    let mut removed = Removed { exact: true, ..Removed::default() };
    for directory in directories {
        removed.hooks.extend(remove_links(&directory));
        if is_table(&directory) {
            let census = if idle { Census::of(&directory) } else { Census::of_running(&directory) };
            removed.flows += census.flows;
            removed.records += census.records;
            removed.exact &= census.exact;
        }
    }
    removed.maps = remove_tree(root);
    Ok(Some(removed))
}

/// Whether a directory's name is a layout version.
pub(super) fn is_table(directory: &Path) -> bool {
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix('v')
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(number, _)| number.parse::<u32>().is_ok())
}

/// Detaches the hooks of a table. Returns what they were.
pub(super) fn remove_links(table: &Path) -> Vec<String> {
    let found: Vec<PathBuf> = entries(&links::directory(table));
    found.iter().for_each(|path| links::remove(path));
    found.iter().map(|path| links::describe(path)).collect()
}

/// Removes a directory with all that is in it. Returns how many files that were; says what could not be removed.
pub(super) fn remove_tree(directory: &Path) -> usize {
    let mut files = 0;
    remove_links(directory);
    for path in entries(directory) {
        if path.is_dir() {
            files += remove_tree(&path);
        } else if let Err(error) = fs::remove_file(&path) {
            warn!("cannot remove {}: {error}; remove it with rm", path.display());
        } else {
            files += 1;
        }
    }
    if let Err(error) = fs::remove_dir(directory) {
        warn!("cannot remove {}: {error}; remove it with rmdir", directory.display());
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_layout_versions_are_told_from_others() {
        let tables = ["v1-0123abcd", "v2-ffffffff", "v12-00000000"];
        let others = ["block", "v1", "version-1", "vx-1", "links"];
        assert!(tables.iter().all(|name| is_table(Path::new(name))));
        assert!(!others.iter().any(|name| is_table(Path::new(name))));
    }

    #[test]
    fn what_a_running_sensor_has_locked_in_the_directory_is_removed_by_force_only() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("ml-ids");
        let block = root.join("block");
        fs::create_dir_all(&block).unwrap();
        fs::write(block.join("blocked"), "").unwrap();
        let sensor = Lock::take(&block).unwrap();
        let error = remove_all(&root, false).unwrap_err().to_string();
        assert!(error.contains("block is in use by a running sensor") && error.contains("--force"), "{error}");
        assert!(block.join("blocked").exists());
        assert_eq!(remove_all(&root, true).unwrap().unwrap().maps, 1);
        assert!(!root.exists());
        drop(sensor);
    }

    #[test]
    fn nothing_pinned_is_nothing_to_remove() {
        let scratch = tempfile::tempdir().unwrap();
        assert!(remove_all(&scratch.path().join("none"), false).unwrap().is_none());
    }
}
