//! The command line: one file a command. Exit codes: 0 done, 1 failed at run time, 2 wrong usage, 3 input unreadable or
//! malformed.

mod agent_client;
mod alerts;
mod alerts_args;
mod alerts_print;
mod bench;
mod block;
mod config;
mod csv_rows;
mod decap;
mod demo;
mod events;
mod exit;
mod extract;
mod hangup;
mod health;
mod help;
mod judging;
mod keep;
mod kubernetes;
mod load;
mod logging;
mod manual;
mod model;
mod model_view;
mod output;
mod parse;
mod presence;
mod privileges;
mod progress;
mod response;
mod rows;
mod run;
mod score;
mod score_alerts;
mod score_capture;
mod score_rows;
mod serve;
mod sinks;
mod source;
mod speed;
mod state_dir;
mod summary;
mod tally;
mod top;
mod unpin;
mod verdict_writer;
mod wiring;

use std::{env, path::PathBuf, process::ExitCode};

pub use config::check_text as check_configuration;

use clap::{FromArgMatches as _, Parser, Subcommand};
use logging::LogFormat;

const EXAMPLES: &str = "\
Examples:
  ml-ids demo                                  see what it does, without privileges
  ml-ids run -i eth0                           watch eth0, serve the API on 127.0.0.1:8000
  ml-ids serve                                 the API alone, no capture, no privileges
  ml-ids extract capture.pcap -o flows.csv     78 features of every flow
  ml-ids score capture.pcap                    the same with verdicts
  ml-ids score capture.pcap --alerts           the alerts that a sensor would have made of it
  ml-ids model inspect embedded                what the built-in model is
  ml-ids model check mlflow:ids@candidate      whether a model fits
  ml-ids unpin                                 detach what `run --pin` has left attached
  ml-ids block list                            what a sensor that runs with --block drops
  ml-ids alerts list                           the alerts that a sensor has kept
  ml-ids config example > ml-ids.toml          a configuration file to begin with
  ml-ids top                                   what a running agent sees, live in the terminal

RUST_LOG sets the log level (error, warn, info, debug); RUST_LOG=info,verdict=warn shows alerts only.";

/// Network intrusion detection: flows counted in the kernel, CICFlowMeter features, ONNX models.
#[derive(Parser)]
#[command(name = "ml-ids", version, after_help = EXAMPLES)]
struct Cli {
    /// How the log on standard error is written
    #[arg(long, global = true, value_enum, default_value_t, env = "ML_IDS_LOG_FORMAT")]
    log_format: LogFormat,
    /// Configuration file (TOML) [default: /etc/ml-ids/config.toml, if it is there]
    ///
    /// Flags win over variables, these over the file, and the file over defaults. `ml-ids config example` prints a file to
    /// begin with, `ml-ids config show --origin` what is in force. It is read once: SIGHUP does not read it again.
    #[arg(long, global = true, value_name = "FILE", env = "ML_IDS_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Run(Box<run::Args>),
    Serve(serve::Args),
    Extract(extract::Args),
    Score(score::ScoreArgs),
    Model(model::ModelArgs),
    Unpin(unpin::Args),
    Block(block::Args),
    Alerts(alerts::Args),
    Config(config::Args),
    Health(health::Args),
    Completions(manual::CompletionArgs),
    #[command(hide = true)]
    Man(manual::ManArgs),
    Top(top::Args),
    #[command(hide = true)]
    Bench(bench::Args),
}

/// Runs the command that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    let line: Vec<_> = env::args_os().collect();
    let line = match parse::parse(&line) {
        Ok(line) => line,
        Err(parse::ParseError::Line(error)) => error.exit(),
        Err(error) => {
            eprintln!("error: {error}");
            return exit::Exit::Usage.into();
        }
    };
    let Cli { log_format, config, command } = Cli::from_arg_matches(&line.matches).unwrap_or_else(|error| error.exit());
    logging::start(log_format, if matches!(command, Command::Demo(_)) { demo::LOG_FILTER } else { "info" });
    if let Some(file) = line.file {
        log::debug!("settings are read from {}", file.display());
        config::use_file(file);
    }
    let result = match command {
        Command::Demo(args) => demo::run(&args),
        Command::Run(args) => run::run(*args),
        Command::Serve(args) => serve::run(args),
        Command::Extract(args) => extract::run(&args),
        Command::Score(args) => score::run(&args),
        Command::Model(args) => model::run(&args),
        Command::Unpin(args) => unpin::run(&args),
        Command::Block(args) => block::run(&args),
        Command::Alerts(args) => alerts::run(&args),
        Command::Config(args) => config::run(&args, config.as_ref()),
        Command::Health(args) => health::run(&args),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
        Command::Top(args) => top::run(args),
        Command::Bench(args) => bench::run(&args),
    };
    let exit = result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        exit::Exit::Failed
    });
    exit.into()
}
