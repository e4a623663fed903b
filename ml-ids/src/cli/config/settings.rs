//! The settings in the text of a configuration file: names and values checked against the options of the commands, each with
//! the line that it stands in.

use clap::{Arg, Command, builder::Resettable, error::ContextKind, error::ContextValue, error::ErrorKind};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    catalogue::{
        Kind, commands, conflicts, holds_login, homes, is_address, is_list, is_secret, is_shared, is_table, kind,
        nearest, option, options, takes_settings,
    },
    problem::Problem,
};
use crate::cli::sinks;

/// One option that the file sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// The command whose section it stands in, from the program's name on; empty before all sections.
    section: Vec<String>,
    /// The option's long name.
    pub(super) long: String,
    /// Its values as they would stand on the command line.
    pub(super) values: Vec<String>,
    /// Where it stands.
    pub(super) line: usize,
}

impl Setting {
    /// Whether it stands before all sections.
    pub(super) const fn is_shared(&self) -> bool {
        self.section.is_empty()
    }
}

/// What a file sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Settings(Vec<Setting>);

impl Settings {
    /// Reads the text. All of it is checked, whatever command it is read for.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of lines.
    pub(super) fn parse(text: &str, root: &Command) -> Result<Self, Vec<Problem>> {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut reading = Reading { text, commands: commands(root), settings: Vec::new(), problems: Vec::new() };
        for error in &errors {
            let at = error.span().map_or(0, |span| span.start);
            reading.complain(at, format!("no TOML: {}", error.message().replace('\n', ", ")));
        }
        // What stands behind an error in the syntax may mean something else than it says.
        if errors.is_empty() {
            reading.section(&[], table.get_ref());
            reading.contradictions();
        }
        let Reading { settings, mut problems, .. } = reading;
        problems.sort_by_key(|problem| problem.line);
        if problems.is_empty() { Ok(Self(settings)) } else { Err(problems) }
    }

    /// How many there are.
    pub(super) const fn count(&self) -> usize {
        self.0.len()
    }

    /// The setting of an option of a command: its section's, else what stands before all sections.
    pub(super) fn of(&self, path: &[String], long: &str) -> Option<&Setting> {
        let of = |section: &[String]| self.0.iter().find(|found| found.section == section && found.long == long);
        of(path).or_else(|| of(&[]))
    }
}

/// A text being read.
struct Reading<'a> {
    text: &'a str,
    commands: Vec<(Vec<String>, &'a Command)>,
    settings: Vec<Setting>,
    problems: Vec<Problem>,
}

impl<'a> Reading<'a> {
    fn complain(&mut self, at: usize, what: String) {
        let line = self.line(at);
        self.problems.push(Problem { line, what });
    }

    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
    }

    fn command(&self, path: &[String]) -> Option<&'a Command> {
        self.commands.iter().find(|(other, _)| other == path).map(|(_, command)| *command)
    }

    /// What stands in a section, or before all of them.
    fn section(&mut self, path: &[String], table: &DeTable<'_>) {
        let Some(command) = self.command(path) else { return };
        // Of two that say the same, the second is the one too many.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let at = key.span().start;
            let name = key.get_ref().replace('_', "-");
            if let DeValue::Table(inner) = value.get_ref() {
                let below = [path, std::slice::from_ref(&name)].concat();
                if self.command(&below).is_some() {
                    self.section(&below, inner);
                    continue;
                }
                let takes_table = option(command, &name).or_else(|| self.shared(path, &name)).is_some_and(is_table);
                if !takes_table {
                    self.unknown_section(path, command, &name, at);
                    continue;
                }
            }
            match option(command, &name).or_else(|| self.shared(path, &name)) {
                Some(arg) => self.setting(path, arg, &name, at, value),
                None => self.unknown_option(path, command, &name, at),
            }
        }
    }

    /// An option that stands before all sections.
    fn shared(&self, path: &[String], long: &str) -> Option<&'a Arg> {
        let may = path.is_empty() && is_shared(&self.commands, long);
        self.commands.iter().filter(|_| may).find_map(|(_, command)| option(command, long))
    }

    fn unknown_section(&mut self, path: &[String], command: &Command, name: &str, at: usize) {
        let full = [path, &[name.to_owned()]].concat().join(".");
        if command.find_subcommand(name).is_some_and(|found| !takes_settings(found.get_name())) {
            return self
                .complain(at, format!("[{full}]: this command takes nothing from the file; remove the section"));
        }
        if option(command, name).is_some() {
            return self.complain(at, format!("{name} is no table; write {name} = VALUE"));
        }
        let names = command.get_subcommands().map(Command::get_name).filter(|name| takes_settings(name));
        let all = command.get_subcommands().map(Command::get_name).filter(|name| takes_settings(name));
        let advice = match nearest(name, names) {
            Some(near) => format!("did you mean [{}]?", [path, &[near.to_owned()]].concat().join(".")),
            None => {
                let all: Vec<String> =
                    all.map(|name| format!("[{}]", [path, &[name.to_owned()]].concat().join("."))).collect();
                if all.is_empty() { "remove it".to_owned() } else { format!("there are {}", all.join(", ")) }
            }
        };
        self.complain(at, format!("there is no section [{full}]; {advice}"));
    }

    fn unknown_option(&mut self, path: &[String], command: &Command, name: &str, at: usize) {
        let place = if path.is_empty() { "before all sections".to_owned() } else { format!("in [{}]", path.join(".")) };
        let homes = homes(&self.commands, name);
        let what = if is_shared(&self.commands, name) || !homes.is_empty() {
            let top = is_shared(&self.commands, name).then(|| "before all sections".to_owned());
            let homes: Vec<String> = homes.into_iter().chain(top).collect();
            format!("{name} cannot stand {place}; move it to {}", homes.join(" or "))
        } else {
            let here = options(command).map(|(long, _)| long);
            let anywhere = self.commands.iter().flat_map(|(_, command)| options(command)).map(|(long, _)| long);
            match nearest(name, here).map(str::to_owned).or_else(|| nearest(name, anywhere).map(str::to_owned)) {
                Some(near) => format!("there is no option {name}; did you mean {near}?"),
                None => format!("there is no option {name}; `ml-ids config example` prints all that there are"),
            }
        };
        self.complain(at, what);
    }

    fn setting(&mut self, path: &[String], arg: &Arg, long: &str, at: usize, value: &Spanned<DeValue<'_>>) {
        let line = self.line(at);
        if let Some(other) = self.settings.iter().find(|other| other.section == path && other.long == long) {
            let first = other.line;
            return self.complain(at, format!("{long} is already set in line {first}"));
        }
        if is_secret(arg) {
            let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            return self.complain(
                at,
                format!("{long} is a secret and does not belong in this file; set the variable {variable}"),
            );
        }
        let values = match values(arg, value.get_ref()) {
            Ok(values) => values,
            Err(reason) => return self.complain(value.span().start, format!("{long} {reason}")),
        };
        if values.iter().any(|value| holds_login(value)) {
            let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            return self.complain(
                value.span().start,
                format!("{long} holds a login, which does not belong in this file; set the variable {variable}"),
            );
        }
        // An option that several commands share is the same everywhere.
        let owner = self.commands.iter().filter(|(other, _)| path.is_empty() || other == path);
        let owner = owner.map(|(_, command)| *command).find(|command| option(command, long).is_some());
        if let Some(Err(reason)) = owner.map(|command| try_values(command, arg, &values)) {
            // Parsers tell what they refuse, and what is told goes into the journal.
            let hidden = is_address(arg) || values.iter().any(|value| value.contains("://"));
            let reason = if hidden { NO_ADDRESS.to_owned() } else { reason };
            return self.complain(value.span().start, format!("{long}: {reason}"));
        }
        // Not its parser's: clap would show the address, and with it what may be secret.
        if long == "sink"
            && let Some(error) = values.iter().find_map(|value| sinks::mistake(value))
        {
            return self.complain(value.span().start, format!("{long}: {error}"));
        }
        self.settings.push(Setting { section: path.to_vec(), long: long.to_owned(), values, line });
    }

    /// Options that cannot be given together and stand in one place.
    fn contradictions(&mut self) {
        let mut found = Vec::new();
        for (path, command) in &self.commands {
            for place in [path.as_slice(), &[]] {
                let set = |arg: &Arg| {
                    let long = arg.get_long()?;
                    let mut here = self.settings.iter().filter(|setting| setting.section == place);
                    here.find(|setting| setting.long == long && is_on(arg, &setting.values))
                };
                for (first, arg) in options(command).filter_map(|(_, arg)| Some((set(arg)?, arg))) {
                    let rivals = conflicts(command, arg);
                    let rivals = command.get_arguments().filter(|other| rivals.iter().any(|id| other.get_id() == id));
                    for second in rivals.filter_map(set).filter(|second| second.line > first.line) {
                        let (one, other, line) = (&second.long, &first.long, first.line);
                        let what = format!("{one} cannot be set together with {other} in line {line}");
                        found.push(Problem { line: second.line, what });
                    }
                }
            }
        }
        // What stands before all sections is met once for each command.
        found.sort_by(|one, other| (one.line, &one.what).cmp(&(other.line, &other.what)));
        found.dedup();
        self.problems.extend(found);
    }
}

/// Whether a value does something: a switch that is off does not.
pub(super) fn is_on(arg: &Arg, values: &[String]) -> bool {
    match kind(arg) {
        Kind::Switch => values.iter().any(|value| value == "true"),
        _ => !values.is_empty(),
    }
}

/// The values of an option as they would stand on the command line.
fn values(arg: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    match value {
        DeValue::Array(array) if is_list(arg) => {
            array.iter().map(|value| one(arg, value.get_ref(), ELEMENTS)).collect()
        }
        DeValue::Table(table) if is_table(arg) => {
            let pair = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                one(arg, value.get_ref(), ELEMENTS).map(|value| format!("{key}={value}"))
            };
            table.iter().map(pair).collect()
        }
        value => one(arg, value, "must be").map(|value| vec![value]),
    }
}

/// What a list must be.
const ELEMENTS: &str = "must be a list of";

/// What is said of an address that is refused, whatever stands in it.
const NO_ADDRESS: &str = "this is no address of a kind that the option takes, and is not shown as it may hold a secret; `ml-ids config \
                          example` prints how it is written";

/// A single value.
fn one(arg: &Arg, value: &DeValue<'_>, must: &str) -> Result<String, String> {
    let wanted = match kind(arg) {
        Kind::Switch => "true or false, without quotes",
        Kind::Number => "a number, without quotes",
        Kind::Text if must == ELEMENTS => "texts in quotes",
        Kind::Text => "a text in quotes",
    };
    let wrong = || format!("{must} {wanted}, not {}", value.type_str());
    match (kind(arg), value) {
        (Kind::Switch, DeValue::Boolean(value)) => Ok(value.to_string()),
        (Kind::Switch, _) => Err(wrong()),
        // Sizes are numbers that may be written with their unit.
        (_, DeValue::String(text)) => Ok(text.to_string()),
        (_, DeValue::Integer(number)) => {
            let number = i128::from_str_radix(number.as_str(), number.radix());
            number.map(|number| number.to_string()).map_err(|_| wrong())
        }
        (_, DeValue::Float(number)) => Ok(number.as_str().to_owned()),
        _ => Err(wrong()),
    }
}

/// Lets the option's own parser look at the values. Returns why it refuses them.
fn try_values(command: &Command, arg: &Arg, values: &[String]) -> Result<(), String> {
    let probe = command.clone().subcommand_required(false).arg_required_else_help(false);
    let probe = probe.mut_args(|arg| arg.required(false).env(Resettable::Reset));
    let probe = set_default(probe, arg.get_id().as_str(), values);
    probe.try_get_matches_from(["ml-ids"]).map(drop).map_err(|error| reason(&error))
}

/// Gives an option of a command other values in place of its default.
pub(super) fn set_default(command: Command, id: &str, values: &[String]) -> Command {
    command.mut_arg(id, |arg| arg.default_values(values.iter().map(clap::builder::OsStr::from)))
}

/// What clap says of a value, without the value.
fn reason(error: &clap::Error) -> String {
    match (error.kind(), error.get(ContextKind::ValidValue)) {
        (ErrorKind::InvalidValue, Some(ContextValue::Strings(valid))) if !valid.is_empty() => {
            let invalid = match error.get(ContextKind::InvalidValue) {
                Some(ContextValue::String(text)) => text.as_str(),
                _ => "",
            };
            let near = nearest(invalid, valid.iter().map(String::as_str));
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            format!("must be one of {}{near}", valid.join(", "))
        }
        _ => match std::error::Error::source(error) {
            Some(source) => source.to_string(),
            None => error.kind().as_str().unwrap_or("is refused").to_owned(),
        },
    }
}
