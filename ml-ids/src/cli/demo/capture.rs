//! The capture: the one that is part of the program, or one of the user's.

use std::{
    io::{Cursor, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::offline::{Capture, CaptureError, OpenCapture, Reopen, source};

/// Ten minutes of a small network, as tests/data/story.py writes them; `cargo xtask docs demo` makes it anew.
static STORY: &[u8] = include_bytes!("../../../assets/demo.pcap.zst");

/// What is replayed.
#[derive(Clone)]
pub(super) struct Recording(Option<Arc<Path>>);

impl Recording {
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self(file.map(Arc::from))
    }

    /// What to call it.
    pub(super) fn name(&self) -> String {
        self.0.as_deref().map_or_else(|| "ten minutes of a small network".to_owned(), |path| path.display().to_string())
    }

    /// Whether it is still there when it has been read.
    pub(super) fn can_be_read_again(&self) -> bool {
        self.0.as_deref().is_none_or(Path::is_file)
    }

    /// Opens it from its beginning.
    ///
    /// # Errors
    /// When it cannot be read, or is no capture.
    pub(super) fn open(&self) -> Result<OpenCapture, CaptureError> {
        let bytes: Box<dyn Read + Send> = match self.0.as_deref() {
            None => Box::new(source::unpack(Cursor::new(STORY))?),
            Some(path) => Box::new(source::unpack(source::open(path)?.file)?),
        };
        Capture::new(bytes)
    }

    /// Opens it for a further round.
    pub(super) fn reopen(&self) -> Reopen {
        let recording = self.clone();
        Box::new(move || recording.open())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capture_in_the_program_is_whole_and_ten_minutes_long() {
        let mut capture = Recording::new(None).open().unwrap();
        let (mut frames, mut first, mut last) = (0, None, 0);
        while let Some(frame) = capture.next_frame().unwrap() {
            first.get_or_insert(frame.time_us);
            last = frame.time_us;
            frames += 1;
        }
        assert!(frames > 10_000);
        assert!((550..=600).contains(&((last - first.unwrap()) / 1_000_000)));
    }
}
