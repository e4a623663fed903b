//! How a command ends.

use std::process::ExitCode;

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
