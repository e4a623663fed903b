//! Alerts in the store of a sensor that runs, as if it had found them itself.

use std::{path::Path, process::Command};

use crate::{process, workspace};

/// Writes rows as `alert::store` does; no Rust program but the agent knows SQLite here. The tests of the page use it too.
const SCRIPT: &str = "tests/data/alerts.py";

/// Puts so many alerts into the store of this file, one a second up to now.
pub(super) fn store(path: &Path, count: u64) -> anyhow::Result<()> {
    let mut python = Command::new("python3");
    python.arg(workspace::root().join(SCRIPT)).arg(path).arg(count.to_string());
    process::visible(&mut python)
}
