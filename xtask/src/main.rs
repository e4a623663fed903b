//! The front door: `cargo xtask setup`, `run`, `test`, `train`, `bench`, `docs`, `vm-test`, `dist`,
//! `image`, `manifests`, `audit`, `fuzz`, `miri`.

mod archive;
mod audit;
mod bench;
mod deploy;
mod dist;
mod docs;
mod fuzz;
mod image;
mod miri;
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
    /// Build the container image and try it out with a Docker of its own (needs root)
    Image(image::Arguments),
    /// Hold what is deployed (Kubernetes, Compose, CI) against the schemas of those who read it
    Manifests,
    /// Look at the dependencies: licences, sources, duplicates, and those that nothing uses
    Audit(audit::Arguments),
    /// Fuzz what strangers send, guided by coverage where a nightly toolchain is there
    Fuzz(fuzz::Arguments),
    /// Run the tests of the flow engine under Miri
    Miri,
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
        Command::Image(arguments) => image::main(&arguments),
        Command::Manifests => deploy::main(),
        Command::Audit(arguments) => audit::main(&arguments),
        Command::Fuzz(arguments) => fuzz::main(&arguments),
        Command::Miri => miri::main(),
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
