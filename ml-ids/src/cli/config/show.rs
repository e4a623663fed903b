//! `ml-ids config show`: the settings in force, written as a file that has the same effect.

use clap::{Arg, ArgMatches, parser::ValueSource};

use super::{
    catalogue::{Kind, holds_login, is_list, is_secret, kind, options},
    layer::Applied,
};
use crate::cli::parse::Line;

/// The file. Nothing that may be a secret is in it.
pub(super) fn shown(line: &Line, origin: bool) -> String {
    let mut text = String::new();
    if origin {
        text += &match &line.file {
            Some(file) => format!("# file: {}\n", file.display()),
            None => "# file: none\n".to_owned(),
        };
    }
    let (mut command, mut matches) = (&line.command, &line.matches);
    for depth in 0..=line.path.len() {
        if depth > 0 {
            let name = line.path.get(depth - 1).map(String::as_str).unwrap_or_default();
            let (Some(inner), Some(below)) = (command.find_subcommand(name), matches.subcommand_matches(name)) else {
                break;
            };
            (command, matches) = (inner, below);
        }
        let lines: String =
            options(command).filter_map(|(long, arg)| setting(line, depth, (long, arg), matches, origin)).collect();
        if !lines.is_empty() && depth > 0 {
            text += &format!("\n[{}]\n", line.path.get(..depth).unwrap_or_default().join("."));
        }
        text += &lines;
    }
    text.trim_start().to_owned()
}

fn setting(line: &Line, depth: usize, (long, arg): (&str, &Arg), matches: &ArgMatches, origin: bool) -> Option<String> {
    let id = arg.get_id().as_str();
    let source = matches.value_source(id)?;
    let raw: Vec<String> = matches.get_raw(id)?.map(|value| value.to_string_lossy().into_owned()).collect();
    let from =
        origin_of(source, arg, line.applied.iter().find(|applied| applied.depth == depth && applied.long == long));
    if is_secret(arg) || raw.iter().any(|value| is_private(long, value)) {
        return Some(format!("# {long} is set ({from}) and not shown: it holds a secret\n"));
    }
    let value = match kind(arg) {
        Kind::Switch => matches.get_flag(id).to_string(),
        _ if is_list(arg) => {
            let values: Vec<String> = raw.iter().map(|value| quoted(value)).collect();
            format!("[{}]", values.join(", "))
        }
        Kind::Number => raw.first().filter(|value| is_number(value)).cloned().unwrap_or_else(|| first(&raw)),
        Kind::Text => first(&raw),
    };
    let from = if origin { format!("  # {from}") } else { String::new() };
    Some(format!("{long} = {value}{from}\n"))
}

fn first(raw: &[String]) -> String {
    quoted(raw.first().map(String::as_str).unwrap_or_default())
}

fn origin_of(source: ValueSource, arg: &Arg, applied: Option<&Applied>) -> String {
    match (source, applied) {
        (ValueSource::CommandLine, _) => "flag".to_owned(),
        (ValueSource::EnvVariable, _) => {
            format!("environment {}", arg.get_env().unwrap_or_default().to_string_lossy())
        }
        (_, Some(applied)) => format!("file, line {}", applied.line),
        _ => "default".to_owned(),
    }
}

/// Whether a value may hold a secret: a login, a signature, or the path of a webhook.
fn is_private(long: &str, value: &str) -> bool {
    let signed = value.contains("://") && value.split_once('?').is_some_and(|(_, query)| !query.starts_with("types="));
    holds_login(value) || signed || (long == "sink" && value.contains("http"))
}

/// Whether the file takes it without quotes.
fn is_number(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|number| number.to_string() == text)
        || (text.contains('.') && text.parse::<f64>().is_ok_and(|number| number.to_string() == text))
}

/// A text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A default as the file would set it.
pub(super) fn written(arg: &Arg, values: &[String]) -> String {
    match kind(arg) {
        Kind::Switch => values.first().cloned().unwrap_or_else(|| "false".to_owned()),
        _ if is_list(arg) => format!("[{}]", values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(", ")),
        Kind::Number if values.first().is_some_and(|value| is_number(value)) => values.concat(),
        _ => first(values),
    }
}
