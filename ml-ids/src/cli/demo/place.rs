//! Where logs and alerts go: a directory of its own that is gone at the end, or one to be kept.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use log::warn;
use tempfile::TempDir;

use crate::alert::store::ALERT_DB;

/// A directory. Dropping it removes it, if it is not to be kept.
pub(super) enum Place {
    Passing(TempDir),
    Kept(PathBuf),
}

impl Place {
    /// Makes it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn new(keep: Option<&Path>) -> Result<Self> {
        match keep {
            Some(directory) => {
                fs::create_dir_all(directory).with_context(|| {
                    format!("cannot make {}; choose another place with --keep", directory.display())
                })?;
                Ok(Self::Kept(directory.to_owned()))
            }
            None => {
                let made = tempfile::Builder::new().prefix("ml-ids-demo-").tempdir();
                Ok(Self::Passing(made.context("cannot make a temporary directory; choose a place with --keep")?))
            }
        }
    }

    fn directory(&self) -> &Path {
        match self {
            Self::Passing(directory) => directory.path(),
            Self::Kept(directory) => directory,
        }
    }

    /// Where log files go.
    pub(super) fn logs(&self) -> PathBuf {
        self.directory().join("logs")
    }

    /// The file that alerts are kept in.
    pub(super) fn alerts(&self) -> PathBuf {
        self.directory().join(ALERT_DB)
    }

    /// Says where to find what is kept, and removes what is not.
    pub(super) fn leave(self) {
        match self {
            Self::Passing(directory) => {
                let path = directory.path().to_owned();
                if let Err(error) = directory.close() {
                    warn!("cannot remove {}: {error}", path.display());
                }
            }
            Self::Kept(directory) => {
                let alerts = directory.join(ALERT_DB);
                eprintln!("demo: logs are in {}", directory.join("logs").display());
                eprintln!("demo: alerts: ml-ids alerts list --db {}", alerts.display());
            }
        }
    }
}
