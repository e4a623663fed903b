//! Where a model comes from, and reading what lies on this host into memory within limits; `remote` reads the rest.

mod registered;
mod secret;
mod web;

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

pub use self::{
    registered::{Pick, Registered},
    secret::{Auth, Secret},
    web::WebUrl,
};

/// Largest model file that is read unless the caller says otherwise, in bytes.
pub const DEFAULT_MAX_BYTES: u64 = 256 << 20;

/// The model that is part of the program; `models/default.md` says what it is.
static EMBEDDED: &[u8] = include_bytes!("../../../../models/default.onnx");

/// What a source may look like, for errors.
const SPELLINGS: &str = "`embedded`, the path of an .onnx file, mlflow:NAME@ALIAS, mlflow:NAME/VERSION, \
                         s3://BUCKET/KEY or https://…";

/// Where a model comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The model that is part of the program.
    #[default]
    Embedded,
    /// An ONNX file.
    File(PathBuf),
    /// A model in an MLflow registry.
    Registered(Registered),
    /// An object in S3 or what speaks its language.
    S3 {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
    },
    /// An address on the web.
    Web(WebUrl),
}

/// Why a source could not be understood or read.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The source is empty.
    #[error("the model source is empty; give {SPELLINGS}")]
    Empty,
    /// It begins like a registered model and does not go on like one.
    #[error(
        "model source `{0}` names no registered model; write mlflow:NAME@ALIAS, mlflow:NAME/VERSION, mlflow:NAME for \
         the newest version, or models:/NAME/STAGE"
    )]
    Registered(String),
    /// It begins like an object in S3 and does not go on like one.
    #[error("model source `{0}` names no object; write s3://BUCKET/KEY")]
    S3(String),
    /// It is no address on the web. Not shown, as it may hold a password.
    #[error("this is no address; write https://HOST/PATH")]
    Address,
    /// Something else with `://`, which is nobody's file.
    #[error("model source `{0}` is of an unknown kind; give {SPELLINGS}")]
    Unknown(String),
    /// It does not lie on this host.
    #[error("model source `{0}` has to be fetched first: `ml-ids model fetch {0} -o FILE`")]
    Remote(String),
    /// The file cannot be opened or read.
    #[error("cannot read model file `{path}`: {error}; is the path right, and may this user read it?")]
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
            "" => return Err(SourceError::Empty),
            "embedded" => return Ok(Self::Embedded),
            _ => {}
        }
        if let Some(registered) = Registered::parse(text) {
            return registered.map(Self::Registered);
        }
        match text.split_once("://") {
            Some(("s3", object)) => match object.split_once('/') {
                Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
                    Ok(Self::S3 { bucket: bucket.to_owned(), key: key.to_owned() })
                }
                _ => Err(SourceError::S3(text.to_owned())),
            },
            Some(("http" | "https", _)) => text.parse().map(Self::Web),
            // A path may hold anything, but hardly begins with a scheme.
            Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) => {
                Err(SourceError::Unknown(format!("{scheme}://…")))
            }
            _ => Ok(Self::File(PathBuf::from(text))),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::File(path) => path.display().fmt(f),
            Self::Registered(registered) => registered.fmt(f),
            Self::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
            Self::Web(url) => url.fmt(f),
        }
    }
}

impl Source {
    /// Whether the model lies on another host, or may.
    #[must_use]
    pub const fn is_remote(&self) -> bool {
        matches!(self, Self::Registered(_) | Self::S3 { .. } | Self::Web(_))
    }

    /// Reads the model's bytes into memory. Never a memory map: what another process writes to the file after the
    /// checks would then change the checked model. A named pipe is waited for until its writer has closed it.
    ///
    /// # Errors
    ///
    /// If the file is missing, neither a regular file nor a pipe, or larger than `max_bytes`; or if the model does not
    /// lie on this host.
    pub fn read(&self, max_bytes: u64) -> Result<Cow<'static, [u8]>, SourceError> {
        let path = match self {
            Self::Embedded => return Ok(Cow::Borrowed(EMBEDDED)),
            Self::File(path) => path,
            Self::Registered(_) | Self::S3 { .. } | Self::Web(_) => return Err(SourceError::Remote(self.to_string())),
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
    fn remote_sources_are_told_from_paths_and_shown_as_they_were_written() {
        for text in ["mlflow:ids@prod", "mlflow:ids/1", "s3://bucket/a/b.onnx", "https://host/m", "http://host:1/m"] {
            let source: Source = text.parse().unwrap();
            assert!(!matches!(source, Source::File(_) | Source::Embedded), "{text}");
            assert_eq!(source.to_string(), text);
            assert!(matches!(source.read(1), Err(SourceError::Remote(_))));
        }
    }

    #[test]
    fn what_is_no_source_is_refused_with_the_spellings() {
        for text in ["", "s3://bucket", "s3:///key", "mlflow:", "https://", "ftp://host/m", "S3://bucket/key"] {
            let error = text.parse::<Source>().unwrap_err().to_string();
            assert!(error.contains("s3://") || error.contains("https://") || error.contains("mlflow:"), "{error}");
        }
        assert_eq!("a b://c".parse::<Source>().unwrap(), Source::File("a b://c".into()));
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
