//! The configuration file, and `ml-ids config`: what is in force and where it comes from, whether a file is right, and a file
//! to begin with.

mod catalogue;
mod example;
mod layer;
mod problem;
mod settings;
mod show;
#[cfg(test)]
mod tests;

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{LazyLock, OnceLock},
};

use anyhow::Result;
use clap::{Command, Subcommand};

use super::{
    exit::{Exit, is_broken_pipe},
    parse::{self, ParseError},
};

pub(super) use catalogue::takes_settings;
pub(super) use layer::{Applied, layer};
pub(super) use problem::ConfigError;
pub(super) use settings::Settings;

/// The file that is read where none is named, if it is there.
pub(super) const DEFAULT_FILE: &str = "/etc/ml-ids/config.toml";
/// Largest file; one with every option commented has some 30 KB.
const MOST_BYTES: u64 = 1 << 20;

const EXAMPLES: &str = "\
Examples:
  ml-ids config example > ml-ids.toml          all options with their defaults
  ml-ids config check ml-ids.toml              everything that is wrong with a file
  ml-ids config show --origin run -i eth0      what is in force, and where from

Flags win over variables, these over the file, and the file over defaults. The file is read once, when a command starts:
SIGHUP does not read it again.";

/// See and check what commands are set up with
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Print the settings that a command would run with, as a file that can be read back
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Say where each value comes from: flag, environment, file or default
        #[arg(long)]
        origin: bool,
        /// The command with its flags, as it would be started [default: run]
        #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
        line: Vec<OsString>,
    },
    /// Say everything that is wrong with a file: ends with 0 if nothing is, else with 2
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// The file [default: that of --config, ML_IDS_CONFIG or /etc/ml-ids/config.toml]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print a file with every option as a comment: what it does, its variable, its default
    #[command(after_help = EXAMPLE_EXAMPLES)]
    Example,
}

const SHOW_EXAMPLES: &str = "\
Examples:
  ml-ids config show
  ml-ids config show --origin serve
  ml-ids config show --origin run -i eth0 --pin
  ml-ids config show score --model forest.onnx capture.pcap > ml-ids.toml";

const CHECK_EXAMPLES: &str = "\
Examples:
  ml-ids config check ml-ids.toml
  ml-ids config check ml-ids.toml && echo fine";

const EXAMPLE_EXAMPLES: &str = "\
Examples:
  ml-ids config example
  ml-ids config example > ml-ids.toml";

/// The file that this process was set up by.
static IN_USE: OnceLock<PathBuf> = OnceLock::new();

/// Notes the file that this process was set up by.
pub(super) fn use_file(path: PathBuf) {
    // There is one command line a process.
    let _ = IN_USE.set(path);
}

/// The file that this process was set up by.
pub(super) fn in_use() -> Option<&'static Path> {
    IN_USE.get().map(PathBuf::as_path)
}

/// Does it. `named` is the file of `--config` or its variable.
pub(super) fn run(args: &Args, named: Option<&PathBuf>) -> Result<Exit> {
    let done = match &args.command {
        ConfigCommand::Show { origin, line } => return show(*origin, line, named),
        ConfigCommand::Check { file } => return Ok(check(file.as_ref().or(named))),
        ConfigCommand::Example => io::stdout().write_all(example::example(&parse::program()).as_bytes()),
    };
    match done.map_err(anyhow::Error::from) {
        Err(error) if !is_broken_pipe(&error) => Err(error),
        _ => Ok(Exit::Done),
    }
}

fn show(origin: bool, line: &[OsString], named: Option<&PathBuf>) -> Result<Exit> {
    let mut whole: Vec<OsString> = vec!["ml-ids".into()];
    // The variable speaks for itself.
    if let Some(file) = named.filter(|file| env::var_os("ML_IDS_CONFIG").as_deref() != Some(file.as_os_str())) {
        whole.extend(["--config".into(), file.into()]);
    }
    if line.is_empty() {
        whole.push("run".into());
    }
    whole.extend(line.iter().cloned());
    let line = match parse::parse(&whole) {
        Ok(line) => line,
        Err(ParseError::Line(error)) => error.exit(),
        Err(error) => {
            eprintln!("error: {error}");
            return Ok(Exit::Usage);
        }
    };
    if !line.path.first().is_some_and(|command| takes_settings(command)) {
        eprintln!("error: {} takes no settings; name a command such as run, serve or score", line.path.join(" "));
        return Ok(Exit::Usage);
    }
    match io::stdout().write_all(show::shown(&line, origin).as_bytes()).map_err(anyhow::Error::from) {
        Err(error) if !is_broken_pipe(&error) => Err(error),
        _ => Ok(Exit::Done),
    }
}

fn check(file: Option<&PathBuf>) -> Exit {
    let Some(path) = locate(file) else {
        eprintln!("error: there is no {DEFAULT_FILE}; name the file to check");
        return Exit::Usage;
    };
    match read_settings(&path, &parse::program()) {
        Ok(settings) => {
            println!("{}: {} settings, nothing wrong", path.display(), settings.count());
            Exit::Done
        }
        Err(error) => {
            eprintln!("error: {error}");
            Exit::Usage
        }
    }
}

/// The file to read: the one that is named, which must be there, else the usual one if it is there.
pub(super) fn locate(named: Option<&PathBuf>) -> Option<PathBuf> {
    locate_from(named, Path::new(DEFAULT_FILE))
}

fn locate_from(named: Option<&PathBuf>, usual: &Path) -> Option<PathBuf> {
    // One that cannot be looked at may be there: reading it says why not.
    named.cloned().or_else(|| usual.try_exists().unwrap_or(true).then(|| usual.to_owned()))
}

/// Checks the text of a configuration file. Returns how many settings it has.
///
/// # Errors
/// Everything that is wrong, a sentence each with its line.
pub fn check_text(text: &str) -> Result<usize, Vec<String>> {
    static PROGRAM: LazyLock<Command> = LazyLock::new(parse::program);
    let settings = Settings::parse(text, &PROGRAM);
    settings
        .map(|settings| settings.count())
        .map_err(|problems| problems.iter().map(|problem| format!("line {}: {}", problem.line, problem.what)).collect())
}

/// Reads a file.
///
/// # Errors
/// When it cannot be read, or anything in it is wrong.
pub(super) fn read_settings(path: &Path, program: &Command) -> Result<Settings, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(unreadable(io::Error::other(format!("it is larger than {MOST_BYTES} bytes"))));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| unreadable(io::Error::new(io::ErrorKind::InvalidData, "it is no text in UTF-8")))?;
    Settings::parse(&text, program).map_err(|problems| ConfigError::Wrong { path: path.to_owned(), problems })
}
