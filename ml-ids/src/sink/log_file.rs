//! A file of JSON lines. A full disk never stops the sensor: what could not be written is counted, and logged once.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use log::error;
use serde_json::Value;

/// An append-only file of JSON lines.
pub struct LogFile {
    path: PathBuf,
    file: BufWriter<File>,
    lost: u64,
}

impl LogFile {
    /// Opens the file for appending.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), lost: 0 })
    }

    /// Appends one line.
    pub fn write(&mut self, line: &Value) {
        let written = serde_json::to_writer(&mut self.file, line)
            .map_err(io::Error::from)
            .and_then(|()| self.file.write_all(b"\n"));
        self.check(written);
    }

    /// Hands everything to the operating system.
    pub fn flush(&mut self) {
        let flushed = self.file.flush();
        self.check(flushed);
    }

    /// Writes that failed.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    fn check(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            if self.lost == 0 {
                error!("cannot write {}: {error}; further failures are counted only", self.path.display());
            }
            self.lost += 1;
        }
    }
}
