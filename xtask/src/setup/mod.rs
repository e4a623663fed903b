//! `cargo xtask setup`: finds out what is missing, says what it is going to install, installs it. Silent and quick when
//! nothing is missing.

mod apt;
mod axe;
mod cargo_program;
mod kernel;
mod kubectl;
mod python;
mod servers;
mod tools;

use std::process::ExitCode;

pub(crate) use apt::{available as packages_can_be_installed, install as install_packages};
pub(crate) use cargo_program::CargoProgram;
pub(crate) use kernel::Way;
pub(crate) use kubectl::find as kubectl;
pub(crate) use python::{interpreter as training_python, lint_interpreter, provide_lint};

/// What to set up.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Also install what the tests use: network tools, the Python environment of `training/`, an MLflow server, an S3 service, syslog and NATS servers, what checks the API, and Chromium with what checks the page (some 15 minutes and 3 GB)
    #[arg(long)]
    tests: bool,
    /// Also build what `cargo xtask audit` and `cargo xtask fuzz` run, cargo-deny and others (some minutes)
    #[arg(long)]
    audit: bool,
}

/// Runs the set-up. A missing system package that only root can install is a failure with the command to type.
pub(crate) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    build_tools()?;
    if arguments.tests {
        test_tools()?;
    }
    if arguments.audit {
        crate::audit::provide()?;
        crate::fuzz::provide()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Provides what building the kernel programs needs, and says which way it is done.
pub(crate) fn build_tools() -> anyhow::Result<Way> {
    kernel::provide()
}

/// Provides the Python environment of `training/`.
pub(crate) fn training_environment() -> anyhow::Result<()> {
    python::provide()
}

/// Provides a browser and what looks at pages in it.
pub(crate) fn browser() -> anyhow::Result<()> {
    tools::provide_packaged()?;
    axe::provide()
}

/// Provides a client of MLflow.
pub(crate) fn registry_client() -> anyhow::Result<()> {
    python::provide_mlflow()
}

/// Provides what the tests need.
pub(crate) fn test_tools() -> anyhow::Result<()> {
    tools::provide()?;
    servers::provide()?;
    axe::provide()?;
    python::provide()?;
    python::provide_openapi()?;
    python::provide_lint()?;
    kubectl::provide()?;
    python::provide_mlflow()
}
