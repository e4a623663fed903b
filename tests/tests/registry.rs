//! Models from a real MLflow server: loaded by alias, followed while traffic flows, kept when the server dies and followed
//! again when it is back.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    binary,
    lab::{Lab, SERVER_IF, SERVER_V4, Side, wait_until},
    registry::{MLFLOW, Tools, ml_ids},
    sensor,
};
use serde_json::Value;

/// Longest wait for what takes a second on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);
const RELOAD: &str = "http://127.0.0.1:8000/model/reload";

/// Connections from the client, one after another, until the laboratory ends or the hour is over.
fn start_traffic(lab: &mut Lab) -> Result<()> {
    let www = lab.directory().join("www");
    fs::create_dir_all(&www)?;
    fs::write(www.join("page"), "page")?;
    let www = www.to_string_lossy().into_owned();
    let serve = ["python3", "-m", "http.server", "8080", "--bind", SERVER_V4, "--directory", &www];
    lab.start(Side::Server, "http", &serve, &[])?;
    wait_until(LIMIT, || lab.succeed(Side::Server, &["ss", "-Htln"]).is_ok_and(|table| table.contains(":8080")))?;
    let script = format!(
        "import time, urllib.request\n\
         for _ in range(30000):\n\
         \x20   urllib.request.urlopen('http://{SERVER_V4}:8080/page', timeout=20).read()\n\
         \x20   time.sleep(0.1)\n"
    );
    lab.start(Side::Client, "traffic", &["python3", "-c", &script], &[])
}

/// Waits until `/health` is as wanted. Returns it.
fn wait_for(lab: &Lab, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut last = Value::Null;
    wait_until(LIMIT, || {
        last = sensor::health(lab).unwrap_or_default();
        wanted(&last)
    })
    .with_context(|| format!("{what} did not happen: {last}\n{}", lab.log("sensor")))?;
    Ok(last)
}

fn scored(health: &Value) -> u64 {
    health["sensor"]["verdicts"]["scored"].as_u64().unwrap_or(0)
}

fn says(health: &Value, words: &str) -> bool {
    let reasons = health["reasons"].as_array();
    reasons.is_some_and(|all| all.iter().any(|reason| reason.as_str().is_some_and(|text| text.contains(words))))
}

/// Waits for further verdicts: flows are judged whatever the model's source does.
fn wait_for_verdicts(lab: &Lab) -> Result<()> {
    let before = scored(&sensor::health(lab)?);
    wait_for(lab, "further verdicts", |health| scored(health) > before + 5).map(drop)
}

#[test]
fn a_sensor_follows_an_alias_while_traffic_flows_and_outlives_the_server() -> Result<()> {
    let (Some(tools), Some(mut lab)) = (Tools::find()?, Lab::build()?) else { return Ok(()) };
    let artefacts = lab.directory().join("artefacts").to_string_lossy().into_owned();
    let proxied = ["--serve-artifacts", "--artifacts-destination", artefacts.as_str()];
    tools.start_mlflow(&mut lab, &proxied, &[])?;
    let register =
        |lab: &Lab, file: &Path, alias| tools.registry(lab, &["register", &file.to_string_lossy(), "ids", alias], &[]);
    let one = tools.variant(&lab, "one.onnx", &["--version", "one"])?;
    let two = tools.variant(&lab, "two.onnx", &["--version", "two", "--rename", " (two)"])?;
    let foreign = tools.variant(&lab, "foreign.onnx", &["--version", "foreign", "--profile", "cic2017"])?;
    ensure!(register(&lab, &one, "prod")? == "1");

    let cache = lab.directory().join("cache").to_string_lossy().into_owned();
    let by_alias = ["-i", SERVER_IF, "--attach", "host", "--model", "mlflow:ids@prod", "--model-cache", &cache];
    let asked = [&by_alias[..], &["--mlflow-tracking-uri", MLFLOW, "--model-refresh", "1s"]].concat();
    sensor::start(&mut lab, &[&asked[..], &["--shadow", "mlflow:ids/1"]].concat())?;
    start_traffic(&mut lab)?;
    let first = wait_for(&lab, "verdicts", |health| scored(health) > 10)?;
    ensure!(first["model"]["resolved"] == "mlflow:ids/1" && first["model"]["version"] == "one", "{first}");

    ensure!(register(&lab, &two, "prod")? == "2");
    let second = wait_for(&lab, "the second model", |health| health["model"]["resolved"] == "mlflow:ids/2")?;
    ensure!(second["model"]["version"] == "two" && second["model"]["cached"] == false, "{second}");
    wait_for_verdicts(&lab)?;

    // A model for flows that are counted otherwise is no model for this sensor.
    ensure!(register(&lab, &foreign, "prod")? == "3");
    let refused = wait_for(&lab, "the refusal", |health| says(health, "profile cic2017"))?;
    ensure!(refused["model"]["version"] == "two" && refused["status"] == "degraded", "{refused}");
    let answer = lab.succeed(Side::Server, &["curl", "-sS", "-X", "POST", "-w", " %{http_code}", RELOAD])?;
    ensure!(answer.contains("profile cic2017") && answer.ends_with(" 422"), "{answer}");
    tools.move_alias(&lab, "ids", "prod", "2")?;
    wait_for(&lab, "the way back", |health| !says(health, "profile cic2017"))?;

    // The shadow is the first model: it calls attacks otherwise than the second.
    let flow = r#"{"Flow Duration": 4987, "Total Fwd Packets": 12}"#;
    lab.succeed(Side::Server, &["curl", "-sSf", "-d", flow, "-H", "content-type: application/json", PREDICT])?;
    let compared = wait_for(&lab, "a disagreement", |health| health["shadow"]["labels_differ"].as_u64() > Some(0))?;
    ensure!(compared["shadow"]["model"]["version"] == "one", "{compared}");

    lab.kill("mlflow")?;
    let alone = wait_for(&lab, "the server's death", |health| says(health, "is away"))?;
    ensure!(alone["model"]["version"] == "two" && alone["status"] == "degraded", "{alone}");
    wait_for_verdicts(&lab)?;
    let answer = lab.succeed(Side::Server, &["curl", "-sS", "-X", "POST", "-w", " %{http_code}", RELOAD])?;
    ensure!(answer.contains("cannot be reached") && answer.ends_with(" 502"), "{answer}");
    // Every flow has its verdict: the books balance.
    sensor::stop(&mut lab, libc::SIGTERM)?;
    let versions: Vec<String> = verdicts_of(&lab)?;
    ensure!(versions.is_sorted() && versions.first().is_some_and(|first| first == "one"), "{versions:?}");
    ensure!(versions.last().is_some_and(|last| last == "two"), "{versions:?}");

    // Started again while the server is away: the last good model works, and that is said.
    sensor::start(&mut lab, &asked)?;
    let cached = wait_for(&lab, "a start from the cache", |health| health["model"]["cached"] == true)?;
    ensure!(cached["model"]["resolved"] == "mlflow:ids/2" && says(&cached, "from the cache"), "{cached}");
    wait_for_verdicts(&lab)?;
    let kept = kept(&lab, 8000)?;
    ensure!(kept["refresh"]["outcome"] == "away" && kept["refresh"]["failures"].as_u64() > Some(0), "{kept}");

    // The server is back, and meanwhile somebody has moved the alias: the sensor follows by itself.
    let store = format!("sqlite:///{}", lab.directory().join("mlflow.db").display());
    tools.registry(&lab, &["alias", "ids", "prod", "1"], &[("MLFLOW_TRACKING_URI", &store)])?;
    tools.start_mlflow(&mut lab, &proxied, &[])?;
    let back = wait_for(&lab, "the server's return", |health| health["model"]["resolved"] == "mlflow:ids/1")?;
    ensure!(back["model"]["version"] == "one" && back["model"]["cached"] == false, "{back}");
    ensure!(back["status"] == "healthy" && back["reasons"].as_array().is_some_and(Vec::is_empty), "{back}");
    wait_for_verdicts(&lab)?;
    sensor::stop(&mut lab, libc::SIGTERM)?;

    follow_at_a_signal(&tools, &mut lab, &[&by_alias[..], &["--mlflow-tracking-uri", MLFLOW]].concat())?;

    // Without a server and a cache there is no model.
    lab.kill("mlflow")?;
    let arguments = ["model", "check", "mlflow:ids@prod", "--mlflow-tracking-uri", MLFLOW];
    let (code, _, error) = ml_ids(&lab, &arguments, &[])?;
    ensure!(code == Some(3) && error.contains("cannot be reached"), "{code:?}: {error}");
    Ok(())
}

/// What `/model` says of how the model is kept.
fn kept(lab: &Lab, port: u16) -> Result<Value> {
    Ok(serde_json::from_str(&lab.get(&format!("http://127.0.0.1:{port}/model"))?)?)
}

/// Without an interval nothing but a request or a signal makes `run` and `serve` look. The alias is at the first model.
fn follow_at_a_signal(tools: &Tools, lab: &mut Lab, run: &[&str]) -> Result<()> {
    sensor::start(lab, run)?;
    let binary = binary()?.to_string_lossy().into_owned();
    let serve = ["serve", "--listen", "127.0.0.1:8001", "--no-model-cache", "--model", "mlflow:ids@prod"];
    let serve = [&[&*binary], &serve[..], &["--mlflow-tracking-uri", MLFLOW]].concat();
    lab.start(Side::Server, "serve", &serve, &[("RUST_LOG", "info")])?;
    let both = |lab: &Lab, version: &str| {
        [8000, 8001].iter().all(|port| kept(lab, *port).is_ok_and(|model| model["version"] == version))
    };
    wait_until(LIMIT, || both(lab, "one")).with_context(|| lab.log("serve"))?;
    tools.move_alias(lab, "ids", "prod", "2")?;
    let before = kept(lab, 8000)?;
    ensure!(before["refresh"]["interval_seconds"].is_null() && before["refresh"]["outcome"] == "loaded", "{before}");
    ensure!(both(lab, "one"), "followed unasked: {}{}", lab.log("sensor"), lab.log("serve"));
    for name in ["sensor", "serve"] {
        lab.signal(name, libc::SIGHUP)?;
    }
    wait_until(LIMIT, || both(lab, "two"))
        .with_context(|| format!("not followed: {}{}", lab.log("sensor"), lab.log("serve")))?;
    let after = kept(lab, 8001)?;
    ensure!(after["refresh"]["outcome"] == "swapped" && after["resolved"] == "mlflow:ids/2", "{after}");
    ensure!(lab.stop("serve", libc::SIGTERM)? == Some(0), "{}", lab.log("serve"));
    wait_for_verdicts(lab)?;
    sensor::stop(lab, libc::SIGTERM)
}

const PREDICT: &str = "http://127.0.0.1:8000/predict";

/// The models' versions in the order in which verdicts that are no alerts were written.
fn verdicts_of(lab: &Lab) -> Result<Vec<String>> {
    let text = fs::read_to_string(lab.directory().join("logs/negative_predictions.log"))?;
    let version = |line: &str| {
        let event: Value = serde_json::from_str(line)?;
        Ok(event["ml"]["version"].as_str().unwrap_or_default().to_owned())
    };
    text.lines().map(version).collect()
}
