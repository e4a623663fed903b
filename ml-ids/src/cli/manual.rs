//! `ml-ids completions` and `ml-ids man`: what shells and `man` are given, made of what the commands know of themselves.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use clap::{Command, ValueHint};
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::{
    exit::{Exit, is_broken_pipe},
    parse::program,
};

const EXAMPLES: &str = "\
Examples:
  ml-ids completions bash > ml-ids.bash        then: . ./ml-ids.bash
  ml-ids completions zsh > _ml-ids             then put it into a folder of $fpath
  ml-ids completions fish > ml-ids.fish        then put it into ~/.config/fish/completions";

/// Print what lets a shell complete command lines
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CompletionArgs {
    /// Which shell
    shell: Shell,
}

/// Write a man page of each command
#[derive(clap::Args)]
pub(super) struct ManArgs {
    /// Folder to write to; it is made if it is not there
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    folder: PathBuf,
}

/// Exit codes, as every command has them.
const EXIT_STATUS: [(&str, &str); 4] = [
    ("0", "Done."),
    ("1", "It failed at run time."),
    ("2", "Wrong usage, or a wrong configuration file."),
    ("3", "Input or a model was unreadable or malformed; what could be read was processed, the rest is reported."),
];

/// Files that commands use without being told.
const FILES: [(&str, &str); 5] = [
    ("/etc/ml-ids/config.toml", "Settings, where --config names no other file."),
    ("/var/lib/ml-ids/alerts.db", "Alerts that a sensor has kept, when it runs as root."),
    ("/var/cache/ml-ids", "The last good model of each remote source, when it runs as root."),
    ("logs/", "Log files of a sensor, where --log-dir names no other folder."),
    ("/sys/fs/bpf/ml-ids", "What run --pin leaves in the kernel, and the lists of run --block."),
];

/// Prints a shell's completions.
pub(super) fn completions(args: &CompletionArgs) -> Result<Exit> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut program(), "ml-ids", &mut text);
    if args.shell == Shell::Bash {
        // The generator spells a program's name that has a dash in two ways, so that no command would be recognised.
        text = String::from_utf8_lossy(&text).replace("ml__subcmd__ids", "ml__ids").into_bytes();
    }
    match io::stdout().write_all(&text).map_err(anyhow::Error::from) {
        Err(error) if !is_broken_pipe(&error) => Err(error),
        _ => Ok(Exit::Done),
    }
}

/// Writes the man pages.
pub(super) fn man(args: &ManArgs) -> Result<Exit> {
    fs::create_dir_all(&args.folder).with_context(|| format!("cannot make {}", args.folder.display()))?;
    let mut program = program().disable_help_subcommand(true);
    program.build();
    let mut count = 0;
    for (name, page) in pages(&program, "ml-ids")? {
        let path = args.folder.join(format!("{name}.1"));
        fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
        count += 1;
    }
    println!("{count} pages in {}", args.folder.display());
    Ok(Exit::Done)
}

/// The pages of a command and of those below it, by name.
fn pages(command: &Command, name: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let mut pages = vec![(name.to_owned(), page(command, name)?)];
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        pages.extend(pages_below(inner, name)?);
    }
    Ok(pages)
}

fn pages_below(command: &Command, above: &str) -> Result<Vec<(String, Vec<u8>)>> {
    pages(command, &format!("{above}-{}", command.get_name()))
}

fn page(command: &Command, name: &str) -> Result<Vec<u8>> {
    // The examples have a section of their own.
    let (examples, after) = examples(command);
    let shown = command.clone().name(name.to_owned()).after_help("").after_long_help("");
    let man = Man::new(shown).title(name.to_uppercase()).manual("ML-IDS manual").date("");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if command.get_arguments().any(|arg| !arg.is_hide_set()) {
        man.render_options_section(&mut text)?;
    }
    if command.get_subcommands().any(|inner| !inner.is_hide_set()) {
        man.render_subcommands_section(&mut text)?;
    }
    let mut roff = Roff::new();
    if !examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]);
        roff.control("nf", []);
        for line in &examples {
            roff.text([roman(line.as_str())]);
        }
        roff.control("fi", []);
    }
    if !after.is_empty() {
        roff.control("SH", ["NOTES"]);
        roff.text([roman(after)]);
    }
    list(&mut roff, "EXIT STATUS", EXIT_STATUS.map(|(code, what)| (code.to_owned(), what.to_owned())));
    let variables = command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(|arg| {
        let variable = arg.get_env()?.to_string_lossy().into_owned();
        let long = arg.get_long().unwrap_or_default();
        Some((variable, format!("As --{long}, which wins over it. Empty counts as not set.")))
    });
    let log =
        ("RUST_LOG".to_owned(), "What is logged: error, warn, info or debug, for parts of the program too.".to_owned());
    list(&mut roff, "ENVIRONMENT", variables.chain([log]));
    list(&mut roff, "FILES", FILES.map(|(path, what)| (path.to_owned(), what.to_owned())));
    roff.to_writer(&mut text)?;
    Ok(text)
}

fn list(roff: &mut Roff, title: &str, entries: impl IntoIterator<Item = (String, String)>) {
    roff.control("SH", [title]);
    for (name, what) in entries {
        roff.control("TP", []);
        roff.text([bold(name)]);
        roff.text([roman(what)]);
    }
}

/// The examples of a command, and what its help says after them.
fn examples(command: &Command) -> (Vec<String>, String) {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (mut examples, mut after) = (Vec::new(), Vec::new());
    for line in text.lines().filter(|line| *line != "Examples:") {
        if line.starts_with("  ") { examples.push(line.trim().to_owned()) } else { after.push(line.trim()) }
    }
    (examples, after.join(" ").trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_all_sections() {
        let mut program = program().disable_help_subcommand(true);
        program.build();
        let pages = pages(&program, "ml-ids").unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.contains(&"ml-ids-model-inspect") && names.contains(&"ml-ids-run"), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("bench") || name.ends_with("-man")), "{names:?}");
        for (name, page) in &pages {
            let page = String::from_utf8(page.clone()).unwrap();
            for section in ["NAME", "SYNOPSIS", "EXAMPLES", "EXIT STATUS", "ENVIRONMENT", "FILES"] {
                let quoted = page.contains(&format!(".SH \"{section}\""));
                assert!(quoted || page.contains(&format!(".SH {section}\n")), "{name}: no {section}\n{page}");
            }
        }
    }
}
