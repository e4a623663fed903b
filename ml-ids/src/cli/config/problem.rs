//! What is wrong with a configuration file, and where.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Problem {
    /// Line of the file, from 1.
    pub(super) line: usize,
    /// What, and what to do.
    pub(super) what: String,
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ConfigError {
    /// It cannot be read.
    #[error(
        "cannot read the configuration file {}: {source}; name another with --config, or --config /dev/null for none", path.display()
    )]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{}", listed(path, problems))]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// All that is wrong, in the order of lines; never empty.
        problems: Vec<Problem>,
    },
}

/// One line a problem, each with the place.
fn listed(path: &Path, problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(|problem| format!("{}:{problem}", path.display())).collect();
    lines.join("\nerror: ")
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.what)
    }
}
