//! How a command ends.

use std::{error::Error, io, process::ExitCode};

/// What a command tells its caller through the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done.
    Done = 0,
    /// It failed at run time.
    Failed = 1,
    /// Wrong usage; clap ends with the same code.
    Usage = 2,
    /// Input was unreadable or malformed; what could be read was processed, the rest reported.
    BadInput = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Whether the reader of our output, `head` for example, has seen enough.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn Error + 'static)| match cause.downcast_ref::<serde_json::Error>() {
        Some(json) => json.io_error_kind(),
        None => cause.downcast_ref::<io::Error>().map(io::Error::kind),
    };
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}
