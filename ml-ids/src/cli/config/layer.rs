//! The file's settings under the command line: they become the defaults of the options, so that flags and variables win by
//! themselves and every value goes through the option's own parser.

use clap::{ArgMatches, Command, parser::ValueSource};

use super::{
    catalogue::{conflicts, options},
    settings::{Setting, Settings, is_on, set_default},
};

/// A setting that has become the default of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Applied {
    /// How deep the command is that has the option; the program itself is 0.
    pub(super) depth: usize,
    /// The option's long name.
    pub(super) long: String,
    /// The line that sets it.
    pub(super) line: usize,
}

/// Whether somebody has given the option by flag or variable.
pub(super) fn is_given(matches: &ArgMatches, id: &str) -> bool {
    // Global options are known to the commands below only while these are parsed.
    let known = matches.try_contains_id(id).is_ok();
    known && matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

/// Gives the options of the commands along a path the file's values. `matches` is what the command line says without the
/// file: what contradicts a flag or a variable is left out.
pub(in crate::cli) fn layer(
    command: Command,
    path: &[String],
    settings: &Settings,
    matches: &ArgMatches,
) -> (Command, Vec<Applied>) {
    let mut applied = Vec::new();
    let command = below(command, path, 0, settings, matches, &mut applied);
    (command, applied)
}

fn below(
    mut command: Command,
    path: &[String],
    depth: usize,
    settings: &Settings,
    matches: &ArgMatches,
    applied: &mut Vec<Applied>,
) -> Command {
    let here = path.get(..depth).unwrap_or_default();
    let wanted: Vec<(String, String, Setting)> = options(&command)
        .filter_map(|(long, arg)| {
            let setting = settings.of(here, long)?;
            let rivals = conflicts(&command, arg);
            let beaten =
                |rival: &String| is_given(matches, rival) || outranked(&command, rival, setting, here, settings);
            let loses = rivals.iter().any(beaten);
            (!loses).then(|| (arg.get_id().to_string(), long.to_owned(), setting.clone()))
        })
        .collect();
    for (id, long, setting) in wanted {
        command = set_default(command, &id, &setting.values);
        applied.push(Applied { depth, long, line: setting.line });
    }
    let (Some(next), Some((_, inner))) = (path.get(depth), matches.subcommand()) else { return command };
    command.mut_subcommand(next, |next| below(next, path, depth + 1, settings, inner, applied))
}

/// Whether a rival is set in the command's own section while this one is set for all commands.
fn outranked(command: &Command, rival: &str, setting: &Setting, here: &[String], settings: &Settings) -> bool {
    let rival = command.get_arguments().find(|arg| arg.get_id().as_str() == rival);
    let Some((rival, long)) = rival.and_then(|arg| Some((arg, arg.get_long()?))) else { return false };
    setting.is_shared()
        && settings.of(here, long).is_some_and(|other| !other.is_shared() && is_on(rival, &other.values))
}
