//! A file of JSON lines that holds whole lines only: a write that fails half way, on a full disk, is taken back.
//!
//! A file that was moved or removed is noticed and made anew, its folder too.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{
    event::Event,
    hub::{First, Sink, Undelivered},
};

/// An append-only file of JSON lines.
pub struct LogFile {
    path: PathBuf,
    file: File,
    /// Lines on their way to the file; kept so that no memory is asked for again.
    buffer: Vec<u8>,
}

impl LogFile {
    /// Opens the file for appending, creating it and its folder if need be.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: open(path)?, buffer: Vec::new() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends lines; all of them are handed to the operating system, or none.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn append<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
        if self.vanished() {
            self.file = open(&self.path)?;
        }
        self.buffer.clear();
        for line in lines {
            self.buffer.extend_from_slice(line.as_bytes());
            self.buffer.push(b'\n');
        }
        let length = self.file.metadata()?.len();
        self.file.write_all(&self.buffer).inspect_err(|_| {
            // What cannot even be taken back ends up as a broken line, which readers of JSON lines skip.
            let _taken_back = self.file.set_len(length).is_ok();
        })
    }

    /// Whether the name no longer leads to the file that is open.
    fn vanished(&self) -> bool {
        let (Ok(open), named) = (self.file.metadata(), std::fs::metadata(&self.path)) else { return true };
        named.map_or(true, |named| (named.dev(), named.ino()) != (open.dev(), open.ino()))
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

impl Sink for LogFile {
    fn deliver(&mut self, events: &[Event]) -> Result<(), Undelivered> {
        self.append(events.iter().map(Event::line)).map_err(|error| Undelivered {
            delivered: 0,
            first: First::Retry,
            error: format!("cannot write {}: {error}", self.path.display()).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_moved_or_whose_folder_is_gone_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/events.json");
        let mut file = LogFile::open(&path).unwrap();
        file.append(["one", "two"]).unwrap();
        let moved = folder.path().join("moved");
        std::fs::rename(&path, &moved).unwrap();
        file.append(["three"]).unwrap();
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        file.append(["four"]).unwrap();
        assert_eq!(std::fs::read_to_string(moved).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "four\n");
    }
}
