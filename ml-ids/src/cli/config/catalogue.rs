//! What can stand in a configuration file: the options of the commands, as clap knows them. There is no second list.

use std::any::TypeId;

use clap::{Arg, ArgAction, Command};

use crate::model::Secret;

/// Commands that take nothing from the file.
const WITHOUT_SETTINGS: [&str; 4] = ["bench", "completions", "config", "man"];
/// Options that say something about one run only.
const NEVER_SET: [&str; 4] = ["config", "dry-run", "help", "version"];
/// Names of values that are addresses or may be.
const ADDRESSES: [&str; 3] = ["ADDRESS", "SOURCE", "URL"];
/// Likeness from which on a name may be the one that was meant; what clap takes for options.
const ALIKE: f64 = 0.7;

/// What the value of an option is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `true` or `false`.
    Switch,
    /// A number.
    Number,
    /// A text; some take numbers too.
    Text,
}

/// The commands with options, by their path from the program's name on, the program itself first.
pub(super) fn commands(root: &Command) -> Vec<(Vec<String>, &Command)> {
    let mut found = Vec::new();
    collect(root, &mut Vec::new(), &mut found);
    found
}

fn collect<'a>(command: &'a Command, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, &'a Command)>) {
    found.push((path.clone(), command));
    for inner in command.get_subcommands().filter(|inner| takes_settings(inner.get_name())) {
        path.push(inner.get_name().to_owned());
        collect(inner, path, found);
        path.pop();
    }
}

/// Whether a command of the program can be set up by the file.
pub(in crate::cli) fn takes_settings(command: &str) -> bool {
    command != "help" && !WITHOUT_SETTINGS.contains(&command)
}

/// The options of a command that the file may name, secrets included.
pub(super) fn options(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    let known = command.get_arguments().filter(|arg| !arg.is_hide_set());
    known.filter_map(|arg| arg.get_long().filter(|long| !NEVER_SET.contains(long)).map(|long| (long, arg)))
}

/// The option of a command by its long name.
pub(super) fn option<'a>(command: &'a Command, long: &str) -> Option<&'a Arg> {
    options(command).find(|(name, _)| *name == long).map(|(_, arg)| arg)
}

/// Whether an option may stand before all sections: it is global, or means the same in several commands.
pub(super) fn is_shared(commands: &[(Vec<String>, &Command)], long: &str) -> bool {
    let mut found = commands.iter().filter_map(|(path, command)| Some((path, option(command, long)?)));
    let Some((path, first)) = found.next() else { return false };
    if path.is_empty() {
        return true;
    }
    let rest: Vec<&Arg> = found.map(|(_, arg)| arg).collect();
    // Flattened from one struct, they have one text. What has one variable is one thing, whatever a command does with it.
    let same_thing =
        |arg: &Arg| help(arg) == help(first) || (arg.get_env().is_some() && arg.get_env() == first.get_env());
    let same = |arg: &&Arg| same_thing(arg) && arg.get_value_names() == first.get_value_names();
    !rest.is_empty() && rest.iter().all(same)
}

/// The sections in which an option may stand.
pub(super) fn homes(commands: &[(Vec<String>, &Command)], long: &str) -> Vec<String> {
    let with = commands.iter().filter(|(path, command)| !path.is_empty() && option(command, long).is_some());
    with.map(|(path, _)| format!("[{}]", path.join("."))).collect()
}

/// How the value of an option is written.
pub(super) fn kind(arg: &Arg) -> Kind {
    let id = arg.get_value_parser().type_id();
    let numbers = [
        TypeId::of::<u16>(),
        TypeId::of::<u32>(),
        TypeId::of::<u64>(),
        TypeId::of::<usize>(),
        TypeId::of::<f32>(),
        TypeId::of::<f64>(),
    ];
    match arg.get_action() {
        ArgAction::SetTrue | ArgAction::SetFalse => Kind::Switch,
        _ if id == TypeId::of::<bool>() => Kind::Switch,
        _ if numbers.iter().any(|number| id == *number) => Kind::Number,
        _ => Kind::Text,
    }
}

/// Whether an option may be given several times.
pub(super) fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// Whether its values are pairs, `CLASS=N`, which can be written as a table.
pub(super) fn is_table(arg: &Arg) -> bool {
    is_list(arg) && arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.contains('=')))
}

/// Whether its value is nobody's business.
pub(super) fn is_secret(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<Secret>()
}

/// Whether its value is an address, a part of which may be nobody's business.
pub(super) fn is_address(arg: &Arg) -> bool {
    let named = |name: &str| ADDRESSES.iter().any(|address| name.contains(address));
    arg.is_hide_env_values_set() || arg.get_value_names().is_some_and(|names| names.iter().any(|name| named(name)))
}

/// Options that cannot be given together with this one.
pub(super) fn conflicts(command: &Command, arg: &Arg) -> Vec<String> {
    let names = |arg: &Arg| command.get_arg_conflicts_with(arg).into_iter().map(|other| other.get_id().to_string());
    let mut all: Vec<String> = names(arg).collect();
    let own = arg.get_id().as_str();
    let reverse = command.get_arguments().filter(|other| names(other).any(|name| name == own));
    all.extend(reverse.map(|other| other.get_id().to_string()));
    all
}

/// What an option is for, in a sentence or two.
pub(super) fn help(arg: &Arg) -> String {
    arg.get_help().map(ToString::to_string).unwrap_or_default()
}

/// The name that is most like one that does not exist.
pub(super) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.map(|other| (strsim::jaro(name, other), other)).filter(|(score, _)| *score > ALIKE);
    scored.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, name)| name)
}

/// Whether an address in the text holds a name or a password before an `@`.
pub(super) fn holds_login(text: &str) -> bool {
    text.match_indices("://").any(|(at, mark)| {
        let rest = text.get(at + mark.len()..).unwrap_or_default();
        let end = rest.find(['/', '?', '#', ' ', ',']).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default().contains('@')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_in_addresses_are_found_and_only_these() {
        for (text, expected) in [
            ("https://ann:x@host/a", true),
            ("nats://token@host:4222", true),
            ("stdout,https://a/b,https://u:p@c/d", true),
            ("mlflow:ids@production", false),
            ("https://host/a@b?c=d@e", false),
            ("ann@example.org", false),
        ] {
            assert_eq!(holds_login(text), expected, "{text}");
        }
    }

    #[test]
    fn the_nearest_name_is_one_that_could_have_been_meant() {
        let names = ["max-flows", "model", "pin"];
        assert_eq!(nearest("max-flow", names.into_iter()), Some("max-flows"));
        assert_eq!(nearest("zzz", names.into_iter()), None);
    }
}
