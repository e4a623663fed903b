//! From the command line to a command: flags, then variables, then the configuration file, then defaults.

use std::{env, ffi::OsString, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory as _, builder::Resettable};

use super::{
    Cli,
    config::{Applied, ConfigError, Settings, layer, locate, read_settings, takes_settings},
    help::{is_laid_out, lay_out},
};

/// A command line that has been understood.
pub(super) struct Line {
    /// What it says, the file's settings among the defaults.
    pub(super) matches: ArgMatches,
    /// The program with the file's settings as defaults.
    pub(super) command: Command,
    /// The names of the command and of those below it.
    pub(super) path: Vec<String>,
    /// The configuration file, if there is one.
    pub(super) file: Option<PathBuf>,
    /// What the file sets.
    pub(super) applied: Vec<Applied>,
}

/// Why a command line cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum ParseError {
    /// The line itself, or a request for help.
    #[error(transparent)]
    Line(#[from] clap::Error),
    /// The configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The program as it takes its arguments: a variable that is empty counts as not set, as Compose files and unit files leave
/// them.
pub(super) fn program() -> Command {
    each_arg(laid_out(Cli::command()), &|arg| match arg.get_env() {
        Some(name) if env::var_os(name).is_some_and(|value| value.is_empty()) => arg.env(Resettable::Reset),
        _ => arg,
    })
}

/// Understands a command line, the program's name first.
///
/// # Errors
/// When it is wrong or asks for help, or the configuration file is wrong.
pub(super) fn parse(line: &[OsString]) -> Result<Line, ParseError> {
    // The plain program prints help and errors; switches that can be switched off are more than it needs to show.
    let lenient = each_arg(program(), &switchable);
    let Ok(matches) = lenient.clone().try_get_matches_from(line) else {
        let command = program();
        let matches = command.clone().try_get_matches_from(line)?;
        let path = path(&matches);
        return Ok(Line { matches, command, path, file: None, applied: Vec::new() });
    };
    let path = path(&matches);
    let wants = path.first().is_some_and(|command| takes_settings(command));
    let Some(file) = locate(matches.get_one::<PathBuf>("config")).filter(|_| wants) else {
        return Ok(Line { matches, command: lenient, path, file: None, applied: Vec::new() });
    };
    let settings: Settings = read_settings(&file, &program())?;
    let (command, applied) = layer(lenient, &path, &settings, &matches);
    let matches = command.clone().try_get_matches_from(line)?;
    Ok(Line { matches, command, path, file: Some(file), applied })
}

/// The names of the commands that were given.
fn path(matches: &ArgMatches) -> Vec<String> {
    let mut path = Vec::new();
    let mut next = matches.subcommand();
    while let Some((name, inner)) = next {
        path.push(name.to_owned());
        next = inner.subcommand();
    }
    path
}

/// Puts options under headings, where there are many.
fn laid_out(command: Command) -> Command {
    let command = if is_laid_out(&command) { command.mut_args(lay_out) } else { command };
    command.mut_subcommands(laid_out)
}

/// Changes every option of every command.
fn each_arg(command: Command, change: &impl Fn(Arg) -> Arg) -> Command {
    command.mut_args(change).mut_subcommands(|inner| each_arg(inner, change))
}

/// Lets a switch be switched off, `--pin=false`: else what a file has switched on could not be.
fn switchable(arg: Arg) -> Arg {
    match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false"),
        _ => arg,
    }
}
