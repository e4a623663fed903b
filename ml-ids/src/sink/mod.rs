//! Where verdicts go: standard error for people, JSON lines in the shape of Suricata's EVE for machines.

mod console;
mod event;
mod log_file;

pub(crate) use console::protocol_name;
pub use event::event;
pub(crate) use event::timestamp;
pub use log_file::LogFile;

use std::{io, path::Path, sync::Arc};

use crate::{detect::Verdict, model::Model};

/// File that holds every alert.
pub const POSITIVE_LOG: &str = "positive_predictions.log";
/// File that holds every other verdict, when asked for.
pub const NEGATIVE_LOG: &str = "negative_predictions.log";

/// Turns an interface index into its name.
pub type InterfaceNames = Arc<dyn Fn(u32) -> Option<String> + Send + Sync>;

/// All sinks of a running sensor.
pub struct Sinks {
    positive: LogFile,
    negative: Option<LogFile>,
    interfaces: InterfaceNames,
}

impl Sinks {
    /// Opens the log files in `directory`, creating it if need be.
    ///
    /// # Errors
    /// When the directory or a file cannot be made.
    pub fn open(directory: &Path, negative: bool, interfaces: InterfaceNames) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        Ok(Self {
            positive: LogFile::open(&directory.join(POSITIVE_LOG))?,
            negative: negative.then(|| LogFile::open(&directory.join(NEGATIVE_LOG))).transpose()?,
            interfaces,
        })
    }

    /// Hands a verdict to every sink that wants it.
    pub fn write(&mut self, verdict: &Verdict, model: &Model) {
        console::write(verdict, model);
        let file = if verdict.alert { Some(&mut self.positive) } else { self.negative.as_mut() };
        if let Some(file) = file {
            let interface = (self.interfaces)(verdict.record.state().interface);
            file.write(&event(verdict, model, interface.as_deref()));
        }
    }

    /// Makes everything written so far visible to readers of the files.
    pub fn flush(&mut self) {
        self.positive.flush();
        if let Some(negative) = &mut self.negative {
            negative.flush();
        }
    }
}
