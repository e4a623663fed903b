//! The Python environments of `training/`, of the tests' MLflow server, of their checks of the API and of what is deployed:
//! made once in the cache, made anew when their list of packages changes.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, bail};

use super::apt;
use crate::{process, workspace};

/// The list that the environment was made from, kept inside it.
const STAMP: &str = "ml-ids-requirements.txt";

/// An environment: its list of packages in `training/`, and its folder in the cache.
struct Environment {
    requirements: &'static str,
    folder: &'static str,
    purpose: &'static str,
}

const TRAINING: Environment = Environment { requirements: "requirements.txt", folder: "venv", purpose: "training/" };
const MLFLOW: Environment = Environment {
    requirements: "requirements-mlflow.txt",
    folder: "venv-mlflow",
    purpose: "the tests' MLflow server (1 GB)",
};

const OPENAPI: Environment = Environment {
    requirements: "requirements-openapi.txt",
    folder: "venv-openapi",
    purpose: "the tests' checks of the HTTP API",
};

const LINT: Environment = Environment {
    requirements: "requirements-lint.txt",
    folder: "venv-lint",
    purpose: "the checks of what is deployed",
};

/// The Python of the training environment.
pub(crate) fn interpreter() -> anyhow::Result<PathBuf> {
    TRAINING.interpreter()
}

/// Makes the training environment unless it is there and of today's list.
pub(super) fn provide() -> anyhow::Result<()> {
    TRAINING.provide()
}

/// Makes the MLflow server's environment unless it is there and of today's list.
pub(super) fn provide_mlflow() -> anyhow::Result<()> {
    MLFLOW.provide()
}

/// Makes the environment of the API's checks unless it is there and of today's list.
pub(super) fn provide_openapi() -> anyhow::Result<()> {
    OPENAPI.provide()
}

/// The Python of the environment that checks what is deployed.
pub(crate) fn lint_interpreter() -> anyhow::Result<PathBuf> {
    LINT.interpreter()
}

/// Makes the environment that checks what is deployed unless it is there and of today's list.
pub(crate) fn provide_lint() -> anyhow::Result<()> {
    LINT.provide()
}

impl Environment {
    fn interpreter(&self) -> anyhow::Result<PathBuf> {
        Ok(self.folder()?.join("bin/python"))
    }

    fn folder(&self) -> anyhow::Result<PathBuf> {
        Ok(workspace::cache()?.join(self.folder))
    }

    fn provide(&self) -> anyhow::Result<()> {
        let requirements = workspace::root().join("training").join(self.requirements);
        if !requirements.exists() {
            return Ok(());
        }
        let wanted =
            fs::read_to_string(&requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
        let folder = self.folder()?;
        let stamp = folder.join(STAMP);
        if self.interpreter()?.exists() && fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == wanted) {
            return Ok(());
        }
        needs_venv()?;
        eprintln!("making a Python environment for {} in {}", self.purpose, folder.display());
        // The stamp goes first: an environment that is left half made is made anew.
        let _ = fs::remove_file(&stamp);
        process::visible(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
        let mut install = Command::new(self.interpreter()?);
        install
            // Compiled when first imported, and most never are: half of the time.
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--requirement"])
            .arg(&requirements);
        process::twice(&mut install)?;
        fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
    }
}

fn needs_venv() -> anyhow::Result<()> {
    let works = || process::stdout(Command::new("python3").args(["-c", "import venv, ensurepip"])).is_some();
    if works() {
        return Ok(());
    }
    if !apt::available() {
        bail!("python3 with its modules venv and ensurepip is missing; install them with your package manager");
    }
    apt::install(&["python3", "python3-venv"])
}
