//! A real MLflow server and a real S3 service in the server's namespace of a laboratory, and models in them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    binary, cached, default_model, fixture,
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
/// Token that a server with tokens knows.
pub const TOKEN: &str = "a-token-for-tests";
/// What lets MLflow's own client speak to S3 services other than Amazon's.
pub const PLAIN_S3: [(&str, &str); 2] =
    [("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required"), ("AWS_DEFAULT_REGION", "us-east-1")];

/// How a server asks who is there.
#[derive(Clone, Copy, Debug)]
pub enum Door {
    /// By name and password: [`USER`].
    Password,
    /// By a token: [`TOKEN`].
    Token,
}
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
        // The folder of the environment may be there without the server in it.
        let (Some(_), Some(python), Some(s3)) =
            (cached("venv-mlflow/bin/mlflow")?, cached("venv-mlflow/bin/python")?, cached("tools/bin/s3s-fs")?)
        else {
            return Ok(None);
        };
        Ok(Some(Self { python, s3 }))
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

    /// Starts an MLflow server that lets in who is known, and waits until it answers.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_guarded_mlflow(
        &self,
        lab: &mut Lab,
        door: Door,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<()> {
        let (user, password) = USER;
        let check = match door {
            Door::Password => "mlflow.server.auth:authenticate_request_basic_auth",
            Door::Token => "mlflow_token:authenticate",
        };
        let (config, users) = (lab.directory().join("auth.ini"), lab.directory().join("users.db"));
        fs::write(
            &config,
            format!(
                "[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{}\nadmin_username = {user}\n\
                 admin_password = {password}\nauthorization_function = {check}\n",
                users.display()
            ),
        )?;
        let modules = fixture("");
        let mut all = vec![("MLFLOW_AUTH_CONFIG_PATH", text(&config)), ("MLFLOW_FLASK_SERVER_SECRET_KEY", "for-tests")];
        all.extend([("PYTHONPATH", text(&modules)), ("ML_IDS_TEST_USER", user), ("ML_IDS_TEST_TOKEN", TOKEN)]);
        all.extend(environment);
        self.start_mlflow(lab, &[&["--app-name", "basic-auth"], arguments].concat(), &all)
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

    /// Moves an alias, as whoever has no MLflow of his own does.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn move_alias(&self, lab: &Lab, name: &str, alias: &str, version: &str) -> Result<()> {
        let body = serde_json::json!({ "name": name, "alias": alias, "version": version }).to_string();
        let url = format!("{MLFLOW}/api/2.0/mlflow/registered-models/alias");
        let post = ["curl", "-sSf", "--max-time", "60", "-H", "content-type: application/json", "-d", &body, &url];
        lab.succeed(Side::Server, &post).map(drop)
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

/// Runs `ml-ids` in the server's namespace with further variables. Returns its exit code and what it printed.
///
/// # Errors
/// When it cannot be started.
pub fn ml_ids(lab: &Lab, arguments: &[&str], environment: &[(&str, &str)]) -> Result<(Option<i32>, String, String)> {
    let binary = binary()?;
    run(lab, &[&[text(&binary)], arguments].concat(), environment)
}

/// Runs a command in the server's namespace with further variables. Returns its exit code and what it printed.
///
/// # Errors
/// When it cannot be started.
pub fn run(lab: &Lab, command: &[&str], environment: &[(&str, &str)]) -> Result<(Option<i32>, String, String)> {
    let variables: Vec<String> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut argv = vec!["env"];
    argv.extend(variables.iter().map(String::as_str));
    argv.extend(command);
    let output = lab.output(Side::Server, &argv)?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

/// Requires that a command refuses its input, in these words, and shows no secret.
///
/// # Errors
/// When it does not.
pub fn ensure_refused(
    (code, output, error): (Option<i32>, String, String),
    words: &[&str],
    secrets: &[&str],
) -> Result<()> {
    ensure!(code == Some(3), "ended with {code:?}: {output}{error}");
    for words in words {
        ensure!(error.contains(words), "`{words}` is not in: {error}");
    }
    for secret in secrets {
        ensure!(!error.contains(secret) && !output.contains(secret), "a secret is shown: {error}");
    }
    Ok(())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}
