//! The command line.

pub mod extract;

use std::process::ExitCode;

use clap::Parser;

/// Network intrusion detection sensor.
#[derive(Parser)]
#[command(name = "ml-ids", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Extract(extract::Args),
}

/// Runs the command that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Extract(args) => extract::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
