//! `cargo xtask train`: the training package in its own Python environment.

use std::{
    env,
    ffi::OsString,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::Context as _;

use crate::{process, setup, workspace};

/// What `python -m ml_ids_training train` is to be told. `--help` is among it: the package knows its options.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Passed on to `python -m ml_ids_training train`; try `--help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
}

/// Makes the environment, then trains where the user stands, so that paths mean what they say.
pub(crate) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    setup::training_environment()?;
    let mut command = Command::new(setup::training_python()?);
    command.args(["-m", "ml_ids_training", "train"]).args(&arguments.arguments).env("PYTHONPATH", search_path()?);
    let status = command.status().with_context(|| format!("cannot start {}", process::shown(&command)))?;
    // Killed by a signal: there is no code.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The package's folder, then whatever the user has set.
fn search_path() -> anyhow::Result<OsString> {
    let own = workspace::root().join("training");
    let others = env::var_os("PYTHONPATH").unwrap_or_default();
    let others = env::split_paths(&others).filter(|folder| !folder.as_os_str().is_empty());
    env::join_paths(std::iter::once(own).chain(others).collect::<Vec<PathBuf>>())
        .context("the repository's path holds a colon, which PYTHONPATH cannot")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn everything_is_passed_on_help_too() {
        for words in [&["--help"][..], &["a.csv", "--profile", "fixed", "-h"], &["--out", "x"]] {
            let line = Line::try_parse_from([&["train"], words].concat()).ok();
            assert_eq!(line.map(|line| line.arguments.arguments), Some(words.iter().map(OsString::from).collect()));
        }
    }

    #[test]
    fn the_package_is_found_first() {
        let path = search_path().expect("no colon in the path");
        assert_eq!(env::split_paths(&path).next(), Some(workspace::root().join("training")));
    }
}
