//! The training package in its own Python environment, and an office to train on: captures of a web server that is scanned.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{
    agent::{LIMIT, ml_ids, run},
    cached, fixture, root,
};

/// Address of the office's scanner.
pub const SCANNER: &str = "203.0.113.9";
/// Conversations of an office's day; there are as many probes of the scanner.
pub const CONVERSATIONS: usize = 60;
/// Says which flows of the office are the scanner's.
const LABELS: &str = "src_ip,src_port,dst_ip,dst_port,protocol,start,end,label\n\
                      203.0.113.9,,10.0.0.0/8,,tcp,2024-05-01T10:00:00Z,2024-05-01T10:30:00Z,PortScan\n";
/// A small model, in seconds.
const QUICK: [&str; 6] = ["--trees", "10", "--repeats", "0", "--no-compare-port", "--no-figures"];

/// The training package.
#[derive(Clone, Debug)]
pub struct Training {
    python: PathBuf,
}

impl Training {
    /// Finds it. `None`, said loudly, if its environment is missing; the caller then skips.
    ///
    /// # Errors
    /// When there is no place to look for it.
    pub fn find() -> Result<Option<Self>> {
        Ok(cached("venv/bin/python")?.map(|python| Self { python }))
    }

    /// The command line of the package with these arguments.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Vec<String> {
        let path = format!("PYTHONPATH={}", root().join("training").display());
        let start = ["env", &path, &self.python.to_string_lossy(), "-m", "ml_ids_training"].map(str::to_owned);
        start.into_iter().chain(arguments.iter().map(|&argument| argument.to_owned())).collect()
    }

    /// The command line that trains a small forest on a day of the office, into `office.onnx`. Capture, flows and labels
    /// are in the folder when this returns.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn office(&self, folder: &Path, arguments: &[&str]) -> Result<Vec<String>> {
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let (flows, labels, model) = (path("office.csv"), path("labels.csv"), path("office.onnx"));
        let capture = office_day(folder, 1)?;
        ml_ids(&["extract", &capture, "--profile", "fixed", "-o", &flows], b"")?.expect(0)?;
        fs::write(&labels, LABELS)?;
        let train = ["train", &flows, "--profile", "fixed", "--labels", &labels, "--out", &model];
        Ok(self.command(&[&train[..], &QUICK, arguments].concat()))
    }
}

/// Writes the capture of a day of the office. Returns its path.
///
/// # Errors
/// When it cannot be written.
pub fn office_day(folder: &Path, seed: u32) -> Result<String> {
    let capture = folder.join(format!("day{seed}.pcap"));
    run(Command::new("python3").arg(fixture("office.py")).arg(&capture).arg(seed.to_string()), b"", LIMIT)?
        .expect(0)?;
    Ok(capture.to_string_lossy().into_owned())
}
