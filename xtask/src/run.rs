//! `cargo xtask run`: from a fresh clone to a running sensor.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::Context as _;

use crate::{process, setup, workspace};

/// What `ml-ids run` is to be told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Passed on to `ml-ids run`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    arguments: Vec<String>,
}

/// Sets up, builds, and becomes the sensor. Loading kernel programs takes root: anybody else is told the command.
pub(crate) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    setup::build_tools()?;
    process::visible(&mut process::cargo(["build", "--release", "--package", "ml-ids"]))?;
    let mut sensor = Command::new(workspace::agent("release"));
    sensor.arg("run").args(&arguments.arguments);
    if !process::is_root() {
        eprintln!("the sensor is built; loading its kernel programs takes root, so start it with:");
        eprintln!("  sudo {}", process::shown(&sensor));
        return Ok(ExitCode::FAILURE);
    }
    // Only returns when it fails.
    let error = sensor.exec();
    Err(error).with_context(|| format!("cannot start {}", process::shown(&sensor)))
}
