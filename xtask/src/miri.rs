//! `cargo xtask miri`: the tests of the flow engine under Miri, which sees undefined behaviour that no test would.

use std::process::{Command, ExitCode};

use anyhow::bail;

use crate::{process, workspace};

/// Runs them, or says what is missing. Miri is a component of rustup's nightly, which not every machine can fetch.
pub(crate) fn main() -> anyhow::Result<ExitCode> {
    let there = |arguments: &[&str]| process::stdout(Command::new("rustup").args(["run", "nightly"]).args(arguments));
    if there(&["cargo", "miri", "--version"]).is_none() {
        bail!(
            "Miri is missing; install it with `rustup toolchain install nightly --component miri --component rust-src`"
        );
    }
    let mut command = Command::new("rustup");
    command
        .current_dir(workspace::root())
        .args(["run", "nightly", "cargo", "miri", "test", "--package", "ml-ids-common", "--target-dir"])
        .arg(workspace::target().join("miri"))
        // The records that go through bytes have a layout that the tests compare; provenance is what is looked at.
        .env("MIRIFLAGS", "-Zmiri-strict-provenance");
    process::visible(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
