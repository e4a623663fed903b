//! Fetching models that lie elsewhere, within limits.
//!
//! ```text
//! Source ─► Fetcher ─┬─ registered ─► mlflow (alias ─► version ─► place) ─► mlmodel ─┬─► http
//!                    ├─ s3:// ──────► s3 (address, signature) ───────────────────────┤
//!                    └─ https:// ────────────────────────────────────────────────────┘
//! ```

mod error;
mod http;
mod mlflow;
mod mlmodel;
mod s3;
#[cfg(test)]
pub(super) mod site;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, os::unix::fs::MetadataExt as _};

use ureq::http::HeaderMap;

use self::http::{Get, Got, Http};
pub use self::{
    error::{Credentials, FetchError},
    http::{Patience, Progress},
    mlflow::MlflowOptions,
    s3::{AwsKey, S3Options},
};
use super::source::Source;

/// How to reach what does not lie on this host.
#[derive(Clone, Debug, Default)]
pub struct RemoteOptions {
    /// The MLflow server, if there is one.
    pub mlflow: Option<MlflowOptions>,
    /// S3.
    pub s3: S3Options,
    /// Allow plain HTTP to other hosts.
    pub insecure_http: bool,
    /// How long things may take.
    pub patience: Patience,
}

/// Reads models from wherever they are.
#[derive(Debug)]
pub struct Fetcher {
    http: Http,
    options: RemoteOptions,
}

/// What tells one state of a source from the next: a version, an entity tag, a file's times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark(String);

/// What a look at a source brought.
#[derive(Debug)]
pub enum Fetched {
    /// The model's bytes.
    Bytes {
        /// The file.
        bytes: Cow<'static, [u8]>,
        /// What to know it by next time; `None` if the source has nothing of the kind.
        mark: Option<Mark>,
        /// What the source stands for now: `mlflow:NAME/VERSION`; `None` where the source says all.
        resolved: Option<String>,
    },
    /// The source is as it was when it bore the known mark.
    Unchanged,
}

impl Fetcher {
    /// A fetcher.
    #[must_use]
    pub fn new(options: RemoteOptions) -> Self {
        Self { http: Http::new(options.insecure_http, options.patience), options }
    }

    /// Reads the model, at most `max_bytes` of it, unless it is as it was when it bore the mark `known`.
    ///
    /// # Errors
    /// If it cannot be reached or read, is larger, or the source says no.
    pub fn fetch(
        &self,
        source: &Source,
        known: Option<&Mark>,
        max_bytes: u64,
        progress: Progress<'_>,
    ) -> Result<Fetched, FetchError> {
        match source {
            Source::Embedded | Source::File(_) => {
                let mark = file_mark(source);
                if known.is_some() && mark.as_ref() == known {
                    return Ok(Fetched::Unchanged);
                }
                Ok(Fetched::Bytes { bytes: source.read(max_bytes)?, mark, resolved: None })
            }
            Source::Registered(wanted) => {
                let mlflow = self.options.mlflow.as_ref().ok_or(FetchError::NoRegistry)?;
                let version = mlflow.resolve(&self.http, wanted)?;
                let mark = Mark(version.mark());
                if known == Some(&mark) {
                    return Ok(Fetched::Unchanged);
                }
                let bytes = mlflow.model(&self.http, &self.options.s3, &version, max_bytes, progress)?;
                Ok(Fetched::Bytes { bytes: Cow::Owned(bytes), mark: Some(mark), resolved: Some(version.resolved()) })
            }
            Source::S3 { bucket, key } => {
                let known = known.map(|mark| mark.0.as_str());
                self.options.s3.get(&self.http, (bucket, key), known, max_bytes, progress).map(fetched)
            }
            Source::Web(url) => {
                let get = Get {
                    url: url.clone(),
                    auth: None,
                    headers: HeaderMap::new(),
                    signed: Credentials::None,
                    known: known.map(|mark| mark.0.as_str()),
                    max_bytes,
                };
                self.http.get(&get, progress).map(fetched)
            }
        }
    }

    /// Whose answer it is that a source means something, for telling sources apart.
    pub(super) fn authority(&self, source: &Source) -> String {
        let RemoteOptions { mlflow, s3, .. } = &self.options;
        match source {
            Source::Registered(_) => mlflow.as_ref().map_or_else(String::new, |mlflow| mlflow.server.to_string()),
            Source::S3 { .. } => s3.endpoint.as_ref().map_or_else(String::new, ToString::to_string),
            Source::Web(url) => url.uri().query().unwrap_or_default().to_owned(),
            Source::Embedded | Source::File(_) => String::new(),
        }
    }
}

fn fetched(got: Got) -> Fetched {
    match got {
        Got::Unchanged => Fetched::Unchanged,
        Got::Body { bytes, mark } => Fetched::Bytes { bytes: Cow::Owned(bytes), mark: mark.map(Mark), resolved: None },
    }
}

/// Looked at before the file is read: a change in between shows as one the next time.
fn file_mark(source: &Source) -> Option<Mark> {
    match source {
        Source::File(path) => {
            let data = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
            let (dev, inode, size) = (data.dev(), data.ino(), data.size());
            Some(Mark(format!("file {dev} {inode} {size} {} {}", data.mtime(), data.mtime_nsec())))
        }
        Source::Embedded => Some(Mark("embedded".to_owned())),
        _ => None,
    }
}
