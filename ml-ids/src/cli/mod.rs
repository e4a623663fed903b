//! The command line: one file a command. Exit codes: 0 done, 1 failed at run time, 2 wrong usage, 3 input unreadable or
//! malformed.

mod alerts;
mod alerts_args;
mod alerts_print;
mod bench;
mod block;
mod csv_rows;
mod decap;
mod events;
mod exit;
mod extract;
mod hangup;
mod keep;
mod load;
mod logging;
mod model;
mod model_view;
mod presence;
mod privileges;
mod response;
mod rows;
mod run;
mod score;
mod score_alerts;
mod score_capture;
mod serve;
mod sinks;
mod source;
mod speed;
mod state_dir;
mod tally;
mod unpin;
mod wiring;

use std::{env, process::ExitCode};

use clap::{Arg, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, builder::Resettable};
use logging::LogFormat;

const EXAMPLES: &str = "\
Examples:
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

RUST_LOG sets the log level (error, warn, info, debug); RUST_LOG=info,verdict=warn shows alerts only.";

/// Network intrusion detection: flows counted in the kernel, CICFlowMeter features, ONNX models.
#[derive(Parser)]
#[command(name = "ml-ids", version, after_help = EXAMPLES)]
struct Cli {
    /// How the log on standard error is written
    #[arg(long, global = true, value_enum, default_value_t, env = "ML_IDS_LOG_FORMAT")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(Box<run::Args>),
    Serve(serve::Args),
    Extract(extract::Args),
    Score(score::ScoreArgs),
    Model(model::ModelArgs),
    Unpin(unpin::Args),
    Block(block::Args),
    Alerts(alerts::Args),
    #[command(hide = true)]
    Bench(bench::Args),
}

/// Runs the command that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { log_format, command } = parse();
    logging::start(log_format);
    let result = match command {
        Command::Run(args) => run::run(*args),
        Command::Serve(args) => serve::run(args),
        Command::Extract(args) => extract::run(&args),
        Command::Score(args) => score::run(&args),
        Command::Model(args) => model::run(&args),
        Command::Unpin(args) => unpin::run(&args),
        Command::Block(args) => block::run(&args),
        Command::Alerts(args) => alerts::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    let exit = result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        exit::Exit::Failed
    });
    exit.into()
}

/// Parses the command line. A variable that is empty counts as not set, as Compose files and unit files leave them.
fn parse() -> Cli {
    let unless_empty = |arg: Arg| match arg.get_env() {
        Some(name) if env::var_os(name).is_some_and(|value| value.is_empty()) => arg.env(Resettable::Reset),
        _ => arg,
    };
    let matches = Cli::command()
        .mut_args(unless_empty)
        .mut_subcommands(|command| command.mut_args(unless_empty).mut_subcommands(|inner| inner.mut_args(unless_empty)))
        .get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}
