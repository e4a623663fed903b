//! `cargo xtask run` and `cargo xtask demo`: from a fresh clone to a running sensor, or to one that shows what it does.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::Context as _;

use crate::{process, setup, workspace};

/// What `ml-ids run`, or `ml-ids demo`, is to be told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Passed on to the sensor
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    arguments: Vec<String>,
}

/// Sets up, builds, and becomes the sensor. Loading kernel programs takes root: anybody else is told the command.
pub(crate) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let sensor = built("run", arguments)?;
    if !process::is_root() {
        eprintln!("the sensor is built; loading its kernel programs takes root, so start it with:");
        eprintln!("  sudo {}", process::shown(&sensor));
        return Ok(ExitCode::FAILURE);
    }
    become_it(sensor)
}

/// Sets up, builds, and becomes the demonstration, which takes no privileges.
pub(crate) fn demo(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    become_it(built("demo", arguments)?)
}

fn built(command: &str, Arguments { arguments }: &Arguments) -> anyhow::Result<Command> {
    setup::build_tools()?;
    process::visible(&mut process::cargo(["build", "--release", "--package", "ml-ids"]))?;
    let mut sensor = Command::new(workspace::agent("release"));
    sensor.arg(command).args(arguments);
    Ok(sensor)
}

fn become_it(mut sensor: Command) -> anyhow::Result<ExitCode> {
    // Only returns when it fails.
    let error = sensor.exec();
    Err(error).with_context(|| format!("cannot start {}", process::shown(&sensor)))
}
