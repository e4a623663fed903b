//! The front door: `cargo xtask setup`, `run`, `test`, `train`, `bench`, `docs`, `vm-test`, `dist`.

mod bench;
mod dist;
mod docs;
mod process;
mod run;
mod setup;
mod soak;
mod test;
mod train;
mod vm_test;
mod wire;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sets up, runs, tests and measures ML-IDS.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what building the kernel programs needs; says what before doing it
    Setup(setup::Arguments),
    /// Set up, build a release and start the sensor
    Run(run::Arguments),
    /// Set up, build a release and see what the sensor does: a replay, without privileges
    Demo(run::Arguments),
    /// Set up and run every check and test
    Test(test::Arguments),
    /// Set up the Python environment and train a model; `cargo xtask train --help` tells the options
    Train(train::Arguments),
    /// Measure a release build
    Bench(bench::Arguments),
    /// Make the parts of documents anew that a program prints
    Docs(docs::Arguments),
    /// Let the sensor run under load for long, then kill it again and again (needs root)
    Soak(soak::Arguments),
    /// Boot the kernels of several Debian releases in emulated machines and run the sensor in each
    VmTest(vm_test::Arguments),
    /// Make what is handed to others: a tarball and a Debian package
    Dist(dist::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Setup(arguments) => setup::main(&arguments),
        Command::Run(arguments) => run::main(&arguments),
        Command::Demo(arguments) => run::demo(&arguments),
        Command::Test(arguments) => test::main(&arguments),
        Command::Train(arguments) => train::main(&arguments),
        Command::Bench(arguments) => bench::main(&arguments),
        Command::Docs(arguments) => docs::main(&arguments),
        Command::Soak(arguments) => soak::main(&arguments),
        Command::VmTest(arguments) => vm_test::main(&arguments),
        Command::Dist(arguments) => dist::main(&arguments),
    };
    // Not returned: a person at the front door is not shown a backtrace.
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Arguments::command().debug_assert();
    }
}
