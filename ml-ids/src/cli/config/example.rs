//! `ml-ids config example`: a file with every option as a comment. It is made of what the commands know of themselves.

use clap::{Arg, Command};

use super::{
    catalogue::{Kind, commands, help, is_list, is_secret, is_shared, is_table, kind, options},
    show::{quoted, written},
};

/// Longest line of a comment.
const WIDTH: usize = 100;

const HEAD: &str = "\
# Configuration of ml-ids. Read from /etc/ml-ids/config.toml, or from where --config or ML_IDS_CONFIG says.
#
# Flags win over variables, these over this file, and this file over defaults. Options have the names of their flags.
# What stands before all sections holds for every command that has the option; a section is for one command.
# `ml-ids config check` says what is wrong, `ml-ids config show --origin` what is in force.
# The file is read when a command starts; SIGHUP does not read it again. Passwords and tokens do not belong here.
#
# Lines that begin with #name show the default, or what a value looks like where there is none.
";

/// The file.
pub(super) fn example(program: &Command) -> String {
    let commands = commands(program);
    let mut text = HEAD.to_owned();
    let mut shared: Vec<&str> = Vec::new();
    for (_, command) in &commands {
        for (long, arg) in options(command).filter(|(long, arg)| !is_secret(arg) && is_shared(&commands, long)) {
            if !shared.contains(&long) {
                shared.push(long);
                text += &entry(long, arg);
            }
        }
    }
    for (path, command) in commands.iter().filter(|(path, _)| !path.is_empty()) {
        let own = options(command).filter(|(long, arg)| !is_secret(arg) && !shared.contains(long));
        let entries: String = own.map(|(long, arg)| entry(long, arg)).collect();
        if !entries.is_empty() {
            text += &format!("\n[{}]\n{entries}", path.join("."));
        }
    }
    text
}

fn entry(long: &str, arg: &Arg) -> String {
    // A comment in square brackets would look like a section.
    let mut text = format!("\n{}", wrapped(&help(arg).replace('[', "(").replace(']', ")")));
    let possible: Vec<String> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if kind(arg) != Kind::Switch && !possible.is_empty() {
        text += &wrapped(&format!("One of: {}", possible.join(", ")));
    }
    if let Some(variable) = arg.get_env() {
        text += &format!("# Variable: {}\n", variable.to_string_lossy());
    }
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let value = if !defaults.is_empty() || kind(arg) == Kind::Switch {
        written(arg, &defaults)
    } else {
        let shown = arg.get_value_names().and_then(<[_]>::first).map(|name| name.as_str()).unwrap_or("VALUE");
        match shown.split_once('=') {
            Some(_) if is_table(arg) => r#"{ "DoS" = 3 }"#.to_owned(),
            _ if is_list(arg) => format!("[{}]", quoted(shown)),
            _ if kind(arg) == Kind::Number => shown.to_owned(),
            _ => quoted(shown),
        }
    };
    text + &format!("#{long} = {value}\n")
}

/// A comment of as many lines as it takes.
fn wrapped(text: &str) -> String {
    let (mut lines, mut line) = (String::new(), "#".to_owned());
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH && line.len() > 1 {
            lines += &(line + "\n");
            line = "#".to_owned();
        }
        line += " ";
        line += word;
    }
    lines + &line + "\n"
}
