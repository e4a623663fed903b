//! `cargo xtask run` and `cargo xtask demo`: from a fresh clone to a running sensor, or to one that shows what it does.

use std::{
    env, fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
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
    let mut sensor = built("run", arguments)?;
    if let Some(folder) = logs_elsewhere(&arguments.arguments) {
        eprintln!("the account that the sensor runs under cannot reach ./logs in here; logs go to {folder}");
        sensor.args(["--log-dir", folder]);
    }
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

/// Where logs go if nobody says it and the folder beside which they would go is closed to other users, as root's home is: the
/// sensor does not stay root.
fn logs_elsewhere(arguments: &[String]) -> Option<&'static str> {
    let is_said = |argument: &String| {
        ["--log-dir", "--user", "--keep-privileges", "--help", "-h"].iter().any(|flag| argument.starts_with(flag))
    };
    let is_open = |folder: &Path| fs::metadata(folder).is_ok_and(|data| data.permissions().mode() & 0o1 != 0);
    let here = env::current_dir().ok()?;
    let said = env::var_os("LOG_DIR").is_some() || arguments.iter().any(is_said);
    (!said && !here.ancestors().all(is_open)).then_some("/var/log/ml-ids")
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
