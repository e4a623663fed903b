//! A real MLflow server and a real S3 service in the server's namespace of a laboratory, and models in them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    default_model, fixture,
    lab::{Lab, Side, wait_until},
};

/// Where the MLflow server listens, in the server's namespace.
pub const MLFLOW: &str = "http://127.0.0.1:5000";
/// Where S3 listens, in the server's namespace.
pub const S3: &str = "http://127.0.0.1:9000";
/// The bucket that is there from the start.
pub const BUCKET: &str = "models";
/// Key that S3 knows.
pub const S3_KEY: (&str, &str) = ("AKIDEXAMPLE", "a-secret-for-tests");
/// User that a server with passwords knows.
pub const USER: (&str, &str) = ("admin", "a-password-for-tests");
/// The server takes 16 to 24 s on an idle machine.
const STARTS_WITHIN: Duration = Duration::from_secs(180);

/// Programs that setup has put into the cache.
#[derive(Clone, Debug)]
pub struct Tools {
    python: PathBuf,
    s3: PathBuf,
}

impl Tools {
    /// Finds them. `None`, said loudly, if one is missing; the caller then skips.
    ///
    /// # Errors
    /// When there is no place to look for them.
    pub fn find() -> Result<Option<Self>> {
        let cache = match env::var_os("ML_IDS_CACHE") {
            Some(cache) => PathBuf::from(cache),
            None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache/ml-ids"),
        };
        let tools = Self { python: cache.join("venv-mlflow/bin/python"), s3: cache.join("tools/bin/s3s-fs") };
        let mlflow = cache.join("venv-mlflow/bin/mlflow");
        for file in [&tools.python, &mlflow, &tools.s3] {
            if !file.exists() {
                eprintln!("SKIPPED: {} is not there; `cargo xtask setup --tests` makes it", file.display());
                return Ok(None);
            }
        }
        Ok(Some(tools))
    }

    /// Starts an MLflow server and waits until it answers. Its data are in the laboratory's directory.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_mlflow(&self, lab: &mut Lab, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
        let python = self.python.to_string_lossy().into_owned();
        let database = format!("sqlite:///{}", lab.directory().join("mlflow.db").display());
        let mut argv = vec![python.as_str(), "-m", "mlflow", "server", "--backend-store-uri", &database];
        argv.extend(["--host", "127.0.0.1", "--port", "5000", "--workers", "1"]);
        argv.extend(arguments);
        let mut all = vec![("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false"), ("MLFLOW_DISABLE_TELEMETRY", "true")];
        all.extend(environment);
        lab.start_group(Side::Server, "mlflow", &argv, &all)?;
        let health = format!("{MLFLOW}/health");
        let up = || lab.succeed(Side::Server, &["curl", "-sSf", "--max-time", "5", &health]).is_ok();
        wait_until(STARTS_WITHIN, up).with_context(|| format!("no MLflow server:\n{}", lab.log("mlflow")))
    }

    /// Starts an S3 service that checks signatures, with one bucket, and waits until it answers.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_s3(&self, lab: &mut Lab) -> Result<()> {
        let folder = lab.directory().join("s3");
        fs::create_dir_all(folder.join(BUCKET))?;
        let (program, folder) = (self.s3.to_string_lossy().into_owned(), folder.to_string_lossy().into_owned());
        let (id, secret) = S3_KEY;
        let mut argv = vec![program.as_str(), "--access-key", id, "--secret-key", secret];
        argv.extend(["--host", "127.0.0.1", "--port", "9000", &folder]);
        lab.start(Side::Server, "s3", &argv, &[])?;
        let up = || lab.succeed(Side::Server, &["curl", "-sS", "--max-time", "5", "-o", "/dev/null", S3]).is_ok();
        wait_until(STARTS_WITHIN, up).with_context(|| format!("no S3 service:\n{}", lab.log("s3")))
    }

    /// Starts a web server with TLS on the laboratory's directory, at `https://localhost:8443`. Returns the file of its
    /// certificate.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_https(&self, lab: &mut Lab) -> Result<String> {
        let (folder, certificate) = (lab.directory().to_owned(), lab.directory().join("certificate.pem"));
        let (python, script) = (self.python.to_string_lossy().into_owned(), fixture("https_server.py"));
        let argv = [python.as_str(), text(&script), text(&folder), "8443", text(&certificate)];
        lab.start(Side::Server, "https", &argv, &[])?;
        lab.wait_for_log("https", "ready")?;
        Ok(certificate.to_string_lossy().into_owned())
    }

    /// Runs `tests/data/registry.py` in the server's namespace with further variables. Returns what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn registry(&self, lab: &Lab, arguments: &[&str], environment: &[(&str, &str)]) -> Result<String> {
        let (python, script) = (self.python.to_string_lossy(), fixture("registry.py"));
        let tracking = format!("MLFLOW_TRACKING_URI={MLFLOW}");
        let variables: Vec<String> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let script = script.to_string_lossy();
        let mut argv = vec!["env", &tracking, "MLFLOW_DISABLE_TELEMETRY=true", "GIT_PYTHON_REFRESH=quiet"];
        argv.extend(variables.iter().map(String::as_str));
        argv.extend([&*python, &*script]);
        argv.extend(arguments);
        let printed = lab.succeed(Side::Server, &argv)?;
        // MLflow prints for people, too, and before us.
        Ok(printed.lines().last().unwrap_or_default().to_owned())
    }

    /// A variant of the default model in the laboratory's directory. Returns its path.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn variant(&self, lab: &Lab, file: &str, changes: &[&str]) -> Result<PathBuf> {
        let path = lab.directory().join(file);
        let (from, to) = (default_model(), path.to_string_lossy().into_owned());
        let mut arguments = vec!["variant", text(&from), &to];
        arguments.extend(changes);
        self.registry(lab, &arguments, &[])?;
        Ok(path)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}
