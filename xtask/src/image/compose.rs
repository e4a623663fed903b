//! All of `deploy/compose` at work, in the network of the exercise: a model is registered at its MLflow, stored in its S3 and
//! loaded by the sensor, whose numbers its Prometheus reads, with its Alertmanager in reach.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{
    bases,
    engine::Engine,
    exercise::{CONNECTIONS, Folders, NAMESPACES, Network, WIRE, connect, fetch, until, verdicts},
};
use crate::{process, setup, workspace};

const FOLDER: &str = "deploy/compose";
/// Images that `compose.yaml` builds besides the sensor's, and from which folder.
const OWN: [(&str, &str); 2] = [("ml-ids-mlflow", "mlflow"), ("ml-ids-s3", "s3")];
const MODEL: &str = "ids";
/// MLflow takes half a minute to come up on an idle machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// Builds what `compose.yaml` builds besides the sensor.
pub(super) fn build(engine: &Engine) -> anyhow::Result<()> {
    bases::provide(engine, &bases::ALL)?;
    for (tag, folder) in OWN {
        let mut command = engine.docker(&["build", "--network", "host", "--progress", "plain", "--tag", tag]);
        command.args(["--build-context", "training=training"]);
        process::visible(command.arg(workspace::root().join(FOLDER).join(folder)))?;
    }
    Ok(())
}

/// Brings it up, uses it, takes it down. Returns what was seen, a line each.
pub(super) fn run() -> anyhow::Result<Vec<String>> {
    setup::registry_client()?;
    let mut network = Network::make()?;
    let Folders { logs, site, .. } = Folders::make("compose")?;
    let engine = Engine::start(Some(NAMESPACES[0]))?;
    network.serve(&site)?;
    let project = Project { engine: &engine, logs };
    let mut seen = Vec::new();

    let started = Instant::now();
    project.compose(&["up", "--detach", "--no-build"], &[])?;
    project.wait("the sensor is ready", || Ok(fetch("http://127.0.0.1:8000/health/ready").is_some()))?;
    seen.push(format!("the sensor is ready {:.1} s after `up`", started.elapsed().as_secs_f64()));
    project.wait("MLflow answers", || Ok(fetch("http://127.0.0.1:5000/health").is_some()))?;
    seen.push(format!("MLflow answers after {:.1} s", started.elapsed().as_secs_f64()));

    register()?;
    let stored = project.compose(&["exec", "-T", "s3", "find", "/data/mlflow", "-name", "*.onnx*"], &[])?;
    ensure!(stored.contains(".onnx"), "no model has reached the store:\n{stored}");
    // As the old sensor was told.
    project.compose(&["up", "--detach", "--no-build", "sensor"], &[("MLFLOW_MODEL_NAME", MODEL)])?;
    project.wait("the sensor runs the registered model", || {
        Ok(json("http://127.0.0.1:8000/model").is_some_and(|model| model.to_string().contains("mlflow:ids")))
    })?;
    seen.push("a model registered at MLflow and stored in S3 is loaded by its name alone".to_owned());

    connect()?;
    project.wait("verdicts are in the mounted folder", || Ok(verdicts(&project.logs) >= CONNECTIONS))?;
    seen.push(format!("{} verdicts of {CONNECTIONS} connections in the mounted folder", verdicts(&project.logs)));

    let query = "http://127.0.0.1:9090/api/v1/query?query=sum(ml_ids_packets_total)";
    project.wait("Prometheus has counted packets", || {
        let value = json(query).and_then(|answer| answer.pointer("/data/result/0/value/1")?.as_str()?.parse().ok());
        Ok(value.is_some_and(|packets: f64| packets > 0.0))
    })?;
    let rules = json("http://127.0.0.1:9090/api/v1/rules?type=alert").context("Prometheus lists no rules")?;
    ensure!(rules.to_string().contains("MlIdsPacketsLost"), "Prometheus has not read the alerting rules: {rules}");
    project.wait("Prometheus knows Alertmanager", || {
        let known = json("http://127.0.0.1:9090/api/v1/alertmanagers");
        Ok(known.is_some_and(|known| known.pointer("/data/activeAlertmanagers/0").is_some()))
    })?;
    seen.push("Prometheus reads the sensor, has its rules, and knows Alertmanager".to_owned());

    let stopping = Instant::now();
    project.compose(&["stop", "--timeout", "20", "sensor"], &[])?;
    let took = stopping.elapsed().as_secs_f64();
    let code = project.compose(&["ps", "--all", "--format", "{{.ExitCode}}", "sensor"], &[])?;
    ensure!(code.trim() == "0", "the sensor ended with {}", code.trim());
    seen.push(format!("the sensor ended {took:.1} s after `stop`, exit code 0"));
    Ok(seen)
}

/// What `docker compose` runs; taken down with the value.
struct Project<'a> {
    engine: &'a Engine,
    logs: PathBuf,
}

impl Project<'_> {
    fn compose(&self, arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<String> {
        let mut command = self.engine.docker(&["compose", "--project-directory", FOLDER]);
        command.args(arguments).env("CIC_INTERFACE", WIRE[0]).env("LOG_NEGATIVE_PREDICTIONS", "1");
        command.env("LOG_DIR", &self.logs).envs(environment.iter().copied());
        let output = command.output().with_context(|| format!("cannot start {}", process::shown(&command)))?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "docker compose {} failed:\n{out}{err}", arguments.join(" "));
        Ok(out.into_owned())
    }

    fn wait(&self, what: &str, holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        until(what, PATIENCE, holds)
            .with_context(|| self.compose(&["logs", "--no-color", "--tail", "40"], &[]).unwrap_or_default())
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.compose(&["down", "--volumes", "--timeout", "20"], &[]) {
            eprintln!("{error:#}");
        }
    }
}

/// Registers the default model from the sensor's side of the network, as a data scientist does.
fn register() -> anyhow::Result<()> {
    let root = workspace::root();
    let python = workspace::cache()?.join("venv-mlflow/bin/python");
    let mut command = Command::new("ip");
    command.args(["netns", "exec", NAMESPACES[0]]).arg(python).arg(root.join("tests/data/registry.py"));
    command.arg("register").arg(root.join("models/default.onnx")).args([MODEL, "production"]);
    command.env("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000").env("MLFLOW_DISABLE_TELEMETRY", "true");
    command.env("GIT_PYTHON_REFRESH", "quiet").current_dir(Path::new("/tmp")).stdout(Stdio::null());
    process::visible(&mut command).context("cannot register a model at MLflow")
}

fn json(address: &str) -> Option<Value> {
    serde_json::from_str(&fetch(address)?).ok()
}
