//! A file of JSON lines that holds whole lines only: a write that fails half way, on a full disk, is taken back, and a line
//! that a crash has cut short is cut off.
//!
//! A file that was moved or removed is noticed and made anew, its folder too. One that has become too long or too old is
//! closed and another begun ([`super::rotation`]).

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use log::warn;

use super::{
    event::Event,
    hub::{First, Sink, Undelivered},
    rotation::{Closed, Rotation},
};

/// Bytes before the end of a file that are searched for the end of its last whole line.
const LONGEST_LINE: u64 = 1 << 20;

/// An append-only file of JSON lines.
pub struct LogFile {
    path: PathBuf,
    file: File,
    closed: Closed,
    /// It could not be closed, which has been said.
    stuck: bool,
    /// It may end within a line.
    torn: bool,
    /// Lines on their way to the file; kept so that no memory is asked for again.
    buffer: Vec<u8>,
}

impl LogFile {
    /// Opens the file for appending, creating it and its folder if need be.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let file = open(path)?;
        let closed = Closed::of(path, rotation);
        Ok(Self { path: path.to_owned(), file, closed, stuck: false, torn: false, buffer: Vec::new() })
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
        self.buffer.clear();
        for line in lines {
            self.buffer.extend_from_slice(line.as_bytes());
            self.buffer.push(b'\n');
        }
        let length = self.make_room(self.buffer.len() as u64)?;
        self.file.write_all(&self.buffer).inspect_err(|_| {
            // What cannot even be taken back now is cut off before anything else is written.
            self.torn = self.file.set_len(length).is_err();
        })
    }

    /// Sees to it that the open file is the one of that name and may get longer by `more`. Returns its length.
    fn make_room(&mut self, more: u64) -> io::Result<u64> {
        if self.vanished() {
            self.file = open(&self.path)?;
        } else if self.torn {
            cut_off(&self.file)?;
        }
        self.torn = false;
        let data = self.file.metadata()?;
        // Where a file system keeps no time of birth, age is counted from the last change, and quiet files are closed.
        let begun = data.created().or_else(|_| data.modified())?;
        let age = SystemTime::now().duration_since(begun).unwrap_or(Duration::ZERO);
        if !self.closed.is_due(data.len(), Some(age), more) {
            return Ok(data.len());
        }
        match self.closed.close() {
            Ok(()) => {
                self.stuck = false;
                self.file = open(&self.path)?;
                Ok(0)
            }
            Err(error) => {
                if !self.stuck {
                    warn!(
                        "cannot close {}, so it gets longer than it should: {error}; may the sensor rename files there?",
                        self.path.display()
                    );
                }
                self.stuck = true;
                Ok(data.len())
            }
        }
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
    let file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
    cut_off(&file)?;
    Ok(file)
}

/// Cuts off what follows the last line end.
fn cut_off(file: &File) -> io::Result<()> {
    let data = file.metadata()?;
    let (length, mut end) = (data.len(), [0]);
    // A pipe or a device has no end to look at.
    if !data.is_file() || length == 0 || (file.read_exact_at(&mut end, length - 1).is_ok() && end == *b"\n") {
        return Ok(());
    }
    let from = length.saturating_sub(LONGEST_LINE);
    let mut tail = vec![0; usize::try_from(length - from).unwrap_or(0)];
    file.read_exact_at(&mut tail, from)?;
    match tail.iter().rposition(|byte| *byte == b'\n') {
        Some(last) => file.set_len(from + last as u64 + 1),
        None if from == 0 => file.set_len(0),
        // No line of ours; whatever it is, ours begin after it.
        None => (&*file).write_all(b"\n"),
    }
}

impl Sink for LogFile {
    fn deliver(&mut self, events: &[Event]) -> Result<(), Undelivered> {
        self.append(events.iter().map(Event::line)).map_err(|error| Undelivered {
            delivered: 0,
            first: First::Retry,
            error: format!("cannot write {}: {error}", self.path.display()).into(),
        })
    }

    fn reopen(&mut self) {
        match open(&self.path) {
            Ok(file) => self.file = file,
            Err(error) => warn!("cannot open {} again: {error}; tried again with the next event", self.path.display()),
        }
    }

    fn idle(&mut self) {
        // A file that nothing is written to gets old, too. What fails is said when there is something to write.
        if !self.vanished() {
            let _ = self.make_room(0);
        }
        self.closed.tidy();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_file(path: &Path) -> LogFile {
        LogFile::open(path, Rotation::default()).unwrap()
    }

    #[test]
    fn a_file_that_was_moved_or_whose_folder_is_gone_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/events.json");
        let mut file = log_file(&path);
        file.append(["one", "two"]).unwrap();
        let moved = folder.path().join("moved");
        std::fs::rename(&path, &moved).unwrap();
        file.append(["three"]).unwrap();
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        file.append(["four"]).unwrap();
        assert_eq!(std::fs::read_to_string(moved).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "four\n");
    }

    #[test]
    fn a_line_that_a_crash_has_cut_short_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.json");
        for (before, after) in [("one\ntw", "one\nnext\n"), ("on", "next\n"), ("one\n", "one\nnext\n"), ("", "next\n")]
        {
            std::fs::write(&path, before).unwrap();
            log_file(&path).append(["next"]).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after, "{before:?}");
        }
    }

    #[test]
    fn a_file_that_is_too_long_is_closed_between_two_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.json");
        let mut file = LogFile::open(&path, Rotation { bytes: 10, keep: 100, ..Rotation::default() }).unwrap();
        for number in 1000..1021 {
            file.append([number.to_string().as_str()]).unwrap();
        }
        let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        assert_eq!(names.len(), 11);
        // The open file comes first by name and last by age.
        names.rotate_left(1);
        let text: String = names.iter().map(|name| std::fs::read_to_string(name).unwrap()).collect();
        let expected: String = (1000..1021).map(|number| format!("{number}\n")).collect();
        assert_eq!(text, expected);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 5);
    }

    #[test]
    fn a_quiet_file_is_closed_when_it_is_old_enough() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.json");
        let rotation = Rotation { age: Some(Duration::from_millis(1)), ..Rotation::default() };
        let mut file = LogFile::open(&path, rotation).unwrap();
        file.append(["one"]).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        file.idle();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        file.idle();
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 2, "an empty file was closed");
    }
}
