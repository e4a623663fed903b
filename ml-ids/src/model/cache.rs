//! The last good model of each source on the disk, for the day on which the source is away.
//!
//! ```text
//! DIR/KEY/current.json    what is there: source, version, SHA-256, size
//! DIR/KEY/SHA256.onnx     the file, named by its own hash
//! ```
//!
//! The file is whole before `current.json` names it, and either is put in place by renaming: whoever reads finds a whole
//! model or none. What others may write to is not read.

use std::{
    fs::{self, DirBuilder, File, Metadata},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::{hex, source::Source};
use crate::privilege::file_owner;

/// Most bytes of `current.json` that are read.
const CARD_BYTES: u64 = 64 << 10;
/// Characters of a key: 64 bits tell sources apart that nobody chose to collide.
const KEY_CHARACTERS: usize = 16;
const CARD: &str = "current.json";
/// Bits of a mode that let others write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A directory of models.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
    read_only: bool,
}

/// Why the cache does not help.
#[derive(Debug, Error)]
pub enum CacheError {
    /// Nothing was ever kept of this source.
    #[error("the cache in {0} holds no model of this source")]
    Empty(PathBuf),
    /// The system said no.
    #[error("the cache cannot use {path}: {error}")]
    Io {
        /// What was to be read or written.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Somebody else may have written it.
    #[error("{0} in the cache is not used because others may write to it; remove it, or chmod go-w and chown it")]
    Exposed(PathBuf),
    /// It is not what was kept.
    #[error("{path} in the cache is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// What is said of a kept file.
#[derive(Debug, Serialize, Deserialize)]
struct Card {
    source: String,
    #[serde(default)]
    resolved: Option<String>,
    sha256: String,
    bytes: u64,
}

/// A model from the cache.
#[derive(Debug)]
pub struct Kept {
    /// The file.
    pub bytes: Vec<u8>,
    /// What the source stood for when it was fetched.
    pub resolved: Option<String>,
}

impl Cache {
    /// A cache in this directory, which is made when something is kept.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self { directory, read_only: false }
    }

    /// The same, but nothing is written to it.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Keeps a good model of a source in place of the one before. `authority` is the server that the source is asked of.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(
        &self,
        (source, authority): (&Source, &str),
        bytes: &[u8],
        resolved: Option<&str>,
    ) -> Result<(), CacheError> {
        if self.read_only {
            return Ok(());
        }
        let folder = self.folder(source, authority);
        let io = |error| CacheError::Io { path: folder.clone(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(io)?;
        private(&folder, &fs::metadata(&folder).map_err(io)?)?;
        let sha256 = hex(&Sha256::digest(bytes));
        let file = format!("{sha256}.onnx");
        write(&folder, &file, bytes)?;
        let card = Card {
            source: source.to_string(),
            resolved: resolved.map(str::to_owned),
            sha256,
            bytes: bytes.len() as u64,
        };
        let card = serde_json::to_vec_pretty(&card).map_err(|error| io(error.into()))?;
        write(&folder, CARD, &card)?;
        remove_others(&folder, &file);
        Ok(())
    }

    /// The last good model of a source.
    ///
    /// # Errors
    /// When there is none, or none that can be trusted.
    pub fn last_good(&self, (source, authority): (&Source, &str), max_bytes: u64) -> Result<Kept, CacheError> {
        let folder = self.folder(source, authority);
        let data = match fs::metadata(&folder) {
            Ok(data) => data,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(CacheError::Empty(self.directory.clone()));
            }
            Err(error) => return Err(CacheError::Io { path: folder, error }),
        };
        private(&folder, &data)?;
        let path = folder.join(CARD);
        let damaged =
            |path: &Path, reason: &str| CacheError::Damaged { path: path.to_owned(), reason: reason.to_owned() };
        let card: Card =
            serde_json::from_slice(&read(&path, CARD_BYTES)?).map_err(|error| damaged(&path, &error.to_string()))?;
        // It becomes part of a path.
        if card.sha256.len() != 64 || !card.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(damaged(&path, "it names no SHA-256"));
        }
        let path = folder.join(format!("{}.onnx", card.sha256));
        let bytes = read(&path, max_bytes)?;
        if hex(&Sha256::digest(&bytes)) != card.sha256 {
            return Err(damaged(&path, "its SHA-256 is another"));
        }
        Ok(Kept { bytes, resolved: card.resolved })
    }

    fn folder(&self, source: &Source, authority: &str) -> PathBuf {
        let mut key = hex(&Sha256::digest(format!("{source}\n{authority}")));
        key.truncate(KEY_CHARACTERS);
        self.directory.join(key)
    }
}

/// Requires that nobody but this user and root may have written it.
fn private(path: &Path, data: &Metadata) -> Result<(), CacheError> {
    let trusted = (data.uid() == file_owner() || data.uid() == 0) && data.mode() & WRITABLE_BY_OTHERS == 0;
    if trusted { Ok(()) } else { Err(CacheError::Exposed(path.to_owned())) }
}

fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, CacheError> {
    let io = |error| CacheError::Io { path: path.to_owned(), error };
    let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).map_err(io)?;
    private(path, &file.metadata().map_err(io)?)?;
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > max_bytes {
        let reason = format!("it is larger than the limit of {max_bytes} bytes");
        return Err(CacheError::Damaged { path: path.to_owned(), reason });
    }
    Ok(bytes)
}

/// Puts a file in place, whole or not at all, also when the power fails.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), CacheError> {
    let path = folder.join(name);
    replace_file(&path, bytes, 0o600).map_err(|error| CacheError::Io { path, error })
}

/// Replaces a file by another of that name, whole or not at all.
///
/// # Errors
/// When it cannot be written; then there is what was there before.
pub(crate) fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| io::Error::other("it has no name"))?.to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = (|| {
        // One that a killed process left behind is in nobody's use.
        let _ = fs::remove_file(&temporary);
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Removes models that the card no longer names. What cannot be removed takes room and does no other harm.
fn remove_others(folder: &Path, keep: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".onnx") && !name.starts_with('.') && name != keep {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Place {
        folder: tempfile::TempDir,
        cache: Cache,
    }

    const MAX: u64 = 1 << 20;

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("a/b"));
        Place { folder, cache }
    }

    fn source(text: &str) -> Source {
        text.parse().unwrap()
    }

    /// Every file of a folder and below.
    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
        }
        found
    }

    #[test]
    fn the_last_model_of_each_source_and_server_is_kept_and_no_other() {
        let Place { folder, cache } = place();
        let (ids, other) = (source("mlflow:ids@prod"), source("mlflow:ids@next"));
        assert!(matches!(cache.last_good((&ids, "a"), MAX), Err(CacheError::Empty(_))));
        cache.keep((&ids, "a"), b"one", Some("mlflow:ids/1")).unwrap();
        cache.keep((&ids, "a"), b"two", Some("mlflow:ids/2")).unwrap();
        cache.keep((&ids, "b"), b"three", None).unwrap();
        let kept = cache.last_good((&ids, "a"), MAX).unwrap();
        assert_eq!((kept.bytes.as_slice(), kept.resolved.as_deref()), (&b"two"[..], Some("mlflow:ids/2")));
        assert_eq!(cache.last_good((&ids, "b"), MAX).unwrap().bytes, b"three");
        assert!(cache.last_good((&other, "a"), MAX).is_err());
        assert_eq!(files(folder.path()).len(), 4, "two cards and two models");
    }

    #[test]
    fn nobody_else_may_read_or_write_what_is_kept() {
        let Place { folder, cache } = place();
        cache.keep((&source("mlflow:ids"), ""), b"one", None).unwrap();
        for file in files(folder.path()) {
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600, "{}", file.display());
            assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn what_others_may_write_to_is_not_read() {
        for at in [CARD, ".onnx", ""] {
            let Place { folder, cache } = place();
            let ids = source("mlflow:ids");
            cache.keep((&ids, ""), b"one", None).unwrap();
            let found = files(folder.path());
            let file = found.iter().find(|file| file.to_string_lossy().ends_with(at)).unwrap();
            let exposed = if at.is_empty() { file.parent().unwrap() } else { file };
            fs::set_permissions(exposed, fs::Permissions::from_mode(0o777)).unwrap();
            let error = cache.last_good((&ids, ""), MAX).unwrap_err();
            assert!(matches!(&error, CacheError::Exposed(path) if path == exposed), "{error}");
        }
    }

    #[test]
    fn a_damaged_foreign_or_oversized_file_is_not_read() {
        let Place { folder, cache } = place();
        let ids = source("mlflow:ids");
        cache.keep((&ids, ""), b"one", None).unwrap();
        assert!(matches!(cache.last_good((&ids, ""), 2), Err(CacheError::Damaged { .. })));
        let found = files(folder.path());
        let ending = |end: &str| found.iter().find(|file| file.to_string_lossy().ends_with(end)).unwrap();
        fs::write(ending(".onnx"), b"two").unwrap();
        let error = cache.last_good((&ids, ""), MAX).unwrap_err().to_string();
        assert!(error.contains("SHA-256"), "{error}");
        let card = r#"{"source":"","sha256":"../../../../etc/passwd","bytes":1}"#;
        fs::write(ending(CARD), card).unwrap();
        assert!(matches!(cache.last_good((&ids, ""), MAX), Err(CacheError::Damaged { .. })));
        fs::remove_file(ending(CARD)).unwrap();
        std::os::unix::fs::symlink(ending(".onnx"), ending(CARD)).unwrap();
        assert!(matches!(cache.last_good((&ids, ""), MAX), Err(CacheError::Io { .. })));
    }
}
