//! Where a model comes from, and reading it into memory within limits.

use std::{
    borrow::Cow,
    fmt,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::PathBuf,
    str::FromStr,
};

use thiserror::Error;

/// Largest model file that is read unless the caller says otherwise, in bytes.
pub const DEFAULT_MAX_BYTES: u64 = 256 << 20;

/// The model that is part of the program; `models/default.md` says what it is.
static EMBEDDED: &[u8] = include_bytes!("../../../models/default.onnx");

/// Prefixes of sources that are not files, refused by name instead of searched for on the disk.
const REMOTE: [&str; 5] = ["mlflow:", "models:/", "s3://", "http://", "https://"];

/// Where a model comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The model that is part of the program.
    #[default]
    Embedded,
    /// An ONNX file.
    File(PathBuf),
}

/// Why a source could not be understood or read.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The source is empty.
    #[error("the model source is empty; give `embedded` or the path of an .onnx file")]
    Empty,
    /// A kind of source that this version cannot read.
    #[error("model source `{0}` is not supported by this version: use a file")]
    NotSupported(String),
    /// The file cannot be opened or read.
    #[error("cannot read model file `{path}`: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A directory, a device or a socket.
    #[error("model source `{0}` is neither a regular file nor a pipe")]
    NotAFile(PathBuf),
    /// The file is larger than the limit.
    #[error("model file `{path}` is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        match text {
            "" => Err(SourceError::Empty),
            "embedded" => Ok(Self::Embedded),
            _ if REMOTE.iter().any(|prefix| text.starts_with(prefix)) => {
                Err(SourceError::NotSupported(text.to_owned()))
            }
            path => Ok(Self::File(PathBuf::from(path))),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl Source {
    /// Reads the model's bytes into memory. Never a memory map: what another process writes to the file after the
    /// checks would then change the checked model. A named pipe is waited for until its writer has closed it.
    ///
    /// # Errors
    ///
    /// If the file is missing, neither a regular file nor a pipe, or larger than `max_bytes`.
    pub fn read(&self, max_bytes: u64) -> Result<Cow<'static, [u8]>, SourceError> {
        let path = match self {
            Self::Embedded => return Ok(Cow::Borrowed(EMBEDDED)),
            Self::File(path) => path,
        };
        let unreadable = |error| SourceError::Unreadable { path: path.clone(), error };
        // Opening a pipe waits for its writer, as it should; opening a device may wait for ever, so it must not.
        let is_pipe = std::fs::metadata(path).map_err(unreadable)?.file_type().is_fifo();
        let flags = if is_pipe { 0 } else { libc::O_NONBLOCK };
        let file = File::options().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !(metadata.is_file() || is_pipe && metadata.file_type().is_fifo()) {
            return Err(SourceError::NotAFile(path.clone()));
        }
        let too_large = || SourceError::TooLarge { path: path.clone(), limit: max_bytes };
        if metadata.len() > max_bytes {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        // The file may have grown since its size was asked for.
        file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > max_bytes {
            return Err(too_large());
        }
        Ok(Cow::Owned(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_and_paths_are_sources() {
        assert_eq!("embedded".parse::<Source>().unwrap(), Source::Embedded);
        assert_eq!("a/b.onnx".parse::<Source>().unwrap(), Source::File("a/b.onnx".into()));
        assert_eq!("a/b.onnx".parse::<Source>().unwrap().to_string(), "a/b.onnx");
        assert_eq!(Source::default().to_string(), "embedded");
    }

    #[test]
    fn remote_sources_are_refused_with_what_to_do() {
        for text in ["mlflow:ids@prod", "models:/ids/1", "s3://bucket/key", "http://host/m", "https://host/m"] {
            let message = text.parse::<Source>().unwrap_err().to_string();
            assert_eq!(message, format!("model source `{text}` is not supported by this version: use a file"));
        }
        assert!(matches!("".parse::<Source>(), Err(SourceError::Empty)));
    }

    #[test]
    fn a_file_over_the_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        std::fs::write(&path, [0; 100]).unwrap();
        let source = Source::File(path);
        assert_eq!(source.read(100).unwrap().len(), 100);
        assert!(matches!(source.read(99), Err(SourceError::TooLarge { limit: 99, .. })));
    }

    #[test]
    fn a_pipe_is_read_to_its_end_and_no_further_than_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success(), "mkfifo ended with {made}");
        let write = || {
            let path = path.clone();
            std::thread::spawn(move || std::fs::write(path, [7; 100]).unwrap())
        };
        for (limit, expected) in [(100, Some(100)), (99, None)] {
            let writer = write();
            let read = Source::File(path.clone()).read(limit);
            match expected {
                Some(length) => assert_eq!(read.unwrap().len(), length),
                None => assert!(matches!(read, Err(SourceError::TooLarge { limit: 99, .. }))),
            }
            writer.join().unwrap();
        }
    }

    #[test]
    fn directories_devices_and_missing_files_are_refused() {
        let read = |path: &str| Source::File(path.into()).read(DEFAULT_MAX_BYTES);
        assert!(matches!(read("/"), Err(SourceError::NotAFile(_))));
        assert!(matches!(read("/dev/zero"), Err(SourceError::NotAFile(_))));
        let message = read("/nonexistent/m.onnx").unwrap_err().to_string();
        assert!(message.starts_with("cannot read model file `/nonexistent/m.onnx`: "), "{message}");
    }
}
