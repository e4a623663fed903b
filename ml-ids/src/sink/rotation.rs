//! When a log file is closed and another begun, and what becomes of the closed ones.
//!
//! A closed file has the time of its closing behind its name, `eve.json.20261127T080000.000000Z`, so that nothing that is
//! closed is ever renamed again, whoever reads it. Compressing and removing is the work of a short-lived thread: what waits
//! to be written does not wait for it. Whatever moment it is killed in, the next one goes on: a compressed file is complete
//! once it has its name, and the plain one is there until then.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use log::warn;
use time::{OffsetDateTime, PrimitiveDateTime, format_description::BorrowedFormatItem, macros::format_description};

/// The ending of a closed file. Its order is that of time.
const ENDING: &[BorrowedFormatItem<'static>] =
    format_description!("[year][month][day]T[hour][minute][second].[subsecond digits:6]Z");
const GZIP: &str = ".gz";
const HALF_DONE: &str = ".gz.tmp";

/// When a log file is closed, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes that a file may have.
    pub bytes: u64,
    /// How old a file may be that holds anything; `None`: as old as it likes.
    pub age: Option<Duration>,
    /// Closed files that are kept; the oldest are removed.
    pub keep: usize,
    /// Whether closed files are compressed.
    pub gzip: bool,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { bytes: 100 << 20, age: None, keep: 7, gzip: false }
    }
}

/// The closed files of one log.
#[derive(Debug)]
pub(super) struct Closed {
    path: PathBuf,
    rotation: Rotation,
    tidying: Option<JoinHandle<()>>,
    /// A file was closed since the thread began.
    again: bool,
}

impl Closed {
    /// Those beside `path`. What an earlier process has left undone is done now.
    pub(super) fn of(path: &Path, rotation: Rotation) -> Self {
        let mut closed = Self { path: path.to_owned(), rotation, tidying: None, again: true };
        closed.tidy();
        closed
    }

    /// Whether a file of these bytes and this age must not get any longer by `more`.
    pub(super) fn is_due(&self, bytes: u64, age: Option<Duration>, more: u64) -> bool {
        let too_old = || matches!((age, self.rotation.age), (Some(age), Some(limit)) if age >= limit);
        bytes > 0 && (bytes.saturating_add(more) > self.rotation.bytes || too_old())
    }

    /// Gives the file at the path the name of a closed one.
    pub(super) fn close(&mut self) -> io::Result<()> {
        let newest = closed_files(&self.path)?.pop();
        let newest = newest.and_then(|file| PrimitiveDateTime::parse(&file.time, ENDING).ok());
        let now = OffsetDateTime::now_utc();
        // Also where the clock was set back, the order of names is that of closing.
        let next = newest.and_then(|newest| newest.assume_utc().checked_add(time::Duration::MICROSECOND));
        let time = next.map_or(now, |next| now.max(next));
        let ending = time.format(ENDING).map_err(io::Error::other)?;
        fs::rename(&self.path, with_ending(&self.path, &format!(".{ending}")))?;
        self.again = true;
        self.tidy();
        Ok(())
    }

    /// Starts the thread if there is something to do and none is at work.
    pub(super) fn tidy(&mut self) {
        if !self.again || self.tidying.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        self.again = false;
        let (path, rotation) = (self.path.clone(), self.rotation);
        let work = move || {
            if let Err(error) = tidy(&path, rotation) {
                warn!(
                    "cannot compress or remove the closed files of {}: {error}; they take space until somebody does",
                    path.display()
                );
            }
        };
        match thread::Builder::new().name("ml-ids-tidy".to_owned()).spawn(work) {
            Ok(thread) => self.tidying = Some(thread),
            Err(error) => warn!("cannot start a thread to compress and remove old log files: {error}"),
        }
    }
}

/// A closed file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ClosedFile {
    /// When, as in the name.
    time: String,
    path: PathBuf,
    compressed: bool,
}

/// The closed files beside `path`, the oldest first. Files with other endings are somebody else's.
fn closed_files(path: &Path) -> io::Result<Vec<ClosedFile>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })? {
        let entry = entry?;
        let found = entry.file_name();
        let ending = found.to_str().and_then(|found| found.strip_prefix(name)?.strip_prefix('.'));
        let Some(ending) = ending else { continue };
        let (time, compressed) = ending.strip_suffix(GZIP).map_or((ending, false), |time| (time, true));
        if PrimitiveDateTime::parse(time, ENDING).is_ok() {
            files.push(ClosedFile { time: time.to_owned(), path: entry.path(), compressed });
        }
    }
    files.sort();
    Ok(files)
}

/// Removes the oldest closed files and compresses the others, as far as that is wanted.
fn tidy(path: &Path, rotation: Rotation) -> io::Result<()> {
    let files = closed_files(path)?;
    // A file that was compressed and not yet removed counts once.
    let mut times: Vec<&str> = files.iter().map(|file| file.time.as_str()).collect();
    times.dedup();
    let oldest_kept = times.len().checked_sub(rotation.keep).and_then(|first| times.get(first)).copied();
    for file in &files {
        if times.len() > rotation.keep && oldest_kept.is_none_or(|oldest| file.time.as_str() < oldest) {
            fs::remove_file(&file.path)?;
        } else if rotation.gzip && !file.compressed {
            compress(&file.path)?;
        }
    }
    Ok(())
}

/// Replaces a file by a compressed one.
fn compress(path: &Path) -> io::Result<()> {
    let half_done = with_ending(path, HALF_DONE);
    let mut reader = File::open(path)?;
    let file = File::create(&half_done)?;
    // Whoever may not read the one may not read the other.
    file.set_permissions(reader.metadata()?.permissions())?;
    let mut writer = GzEncoder::new(file, Compression::default());
    let written = io::copy(&mut reader, &mut writer).and_then(|_| writer.finish()).and_then(|file| file.sync_all());
    if let Err(error) = written {
        // On a full disk the plain file stays, and this one would only take room.
        let _ = fs::remove_file(&half_done);
        return Err(error);
    }
    fs::rename(&half_done, with_ending(path, GZIP))?;
    fs::remove_file(path)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    /// A log in a new folder that is closed `times` times, and holds its number each time.
    fn closed(rotation: Rotation, times: usize) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eve.json");
        let mut closed = Closed::of(&path, rotation);
        for number in 0..times {
            fs::write(&path, format!("{number}\n")).unwrap();
            closed.close().unwrap();
        }
        while closed.again || closed.tidying.as_ref().is_some_and(|thread| !thread.is_finished()) {
            closed.tidy();
            thread::sleep(Duration::from_millis(1));
        }
        (folder, path)
    }

    #[test]
    fn the_latest_files_are_kept_and_those_of_others_left_alone() {
        let (folder, path) = closed(Rotation { keep: 3, ..Rotation::default() }, 5);
        let others = ["eve.json.old", "eve.json.gz", "eve.jsonx.20261127T080000.000000Z"];
        for other in others {
            fs::write(folder.path().join(other), "").unwrap();
        }
        tidy(&path, Rotation { keep: 2, ..Rotation::default() }).unwrap();
        let kept: Vec<_> = closed_files(&path).unwrap();
        let texts: Vec<_> = kept.iter().map(|file| fs::read_to_string(&file.path).unwrap()).collect();
        assert_eq!(texts, ["3\n", "4\n"]);
        assert!(others.iter().all(|other| folder.path().join(other).exists()));
    }

    #[test]
    fn closed_files_are_compressed_and_what_a_killed_process_left_is_done_again() {
        let rotation = Rotation { gzip: true, ..Rotation::default() };
        let (folder, path) = closed(Rotation::default(), 2);
        let first = closed_files(&path).unwrap().remove(0).path;
        fs::write(with_ending(&first, HALF_DONE), "half").unwrap();
        tidy(&path, rotation).unwrap();
        let kept = closed_files(&path).unwrap();
        for (number, file) in kept.iter().enumerate() {
            let mut text = String::new();
            GzDecoder::new(File::open(&file.path).unwrap()).read_to_string(&mut text).unwrap();
            assert_eq!(text, format!("{number}\n"));
        }
        assert_eq!((kept.len(), fs::read_dir(folder.path()).unwrap().count()), (2, 2));
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_change_the_order() {
        let (folder, path) = closed(Rotation::default(), 0);
        let future = folder.path().join("eve.json.29990101T000000.000000Z");
        fs::write(&future, "first").unwrap();
        fs::write(&path, "second").unwrap();
        Closed::of(&path, Rotation::default()).close().unwrap();
        let last = closed_files(&path).unwrap().pop().unwrap();
        assert_eq!(fs::read_to_string(last.path).unwrap(), "second");
        // After the last moment that there is, the order no longer matters.
        fs::write(folder.path().join("eve.json.99991231T235959.999999Z"), "").unwrap();
        fs::write(&path, "third").unwrap();
        Closed::of(&path, Rotation::default()).close().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_file_is_due_by_size_or_by_age_and_never_when_it_is_empty() {
        let rotation = Rotation { bytes: 100, age: Some(Duration::from_secs(60)), ..Rotation::default() };
        let folder = tempfile::tempdir().unwrap();
        let closed = Closed::of(&folder.path().join("x"), rotation);
        let old = Some(Duration::from_secs(60));
        assert!(closed.is_due(90, None, 11) && !closed.is_due(90, None, 10));
        assert!(closed.is_due(1, old, 1) && !closed.is_due(1, Some(Duration::from_secs(59)), 1));
        assert!(!closed.is_due(0, old, 1000));
    }
}
