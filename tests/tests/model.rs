//! From flows on disk to verdicts: the training command makes the committed model byte for byte, the agent answers as
//! the fitted model of every kind does on every held-out row, and the model finds the attacks of a real capture.

use std::{collections::HashMap, env, fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    agent::{Scratch, Server, ml_ids, run},
    data, default_model, root,
};
use serde_json::{Value, json};

/// Longest time that training may take; the committed model takes about a minute of one core.
const TRAINING_LIMIT: Duration = Duration::from_secs(1200);
/// Largest difference of a probability from scikit-learn's or LightGBM's.
const TOLERANCE: f64 = 1e-5;
/// What makes the committed model, besides the data: what its card tells, without the kinds that lost.
const DEFAULT_MODEL: &[&str] = &["--model", "boosted", "--fit-all", "--date", "2026-11-25", "--jobs", "1"];

/// The Python of the training environment; `None`, said loudly, if there is none.
fn python() -> Result<Option<PathBuf>> {
    let cache = match env::var_os("ML_IDS_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache/ml-ids"),
    };
    let python = cache.join("venv/bin/python");
    if python.exists() {
        return Ok(Some(python));
    }
    eprintln!("SKIPPED: {} is not there; `cargo xtask setup --tests` makes it", python.display());
    Ok(None)
}

/// Runs the training command without what only judges further models. `None` if the data or Python are missing.
fn train(model: &str, rows: &str, further: &[&str]) -> Result<Option<()>> {
    let (Some(flows), Some(python)) = (data("cicids2017-corrected"), python()?) else { return Ok(None) };
    let mut command = Command::new(python);
    command
        .args(["-m", "ml_ids_training", "train"])
        .arg(flows)
        .args(["--profile", "cns2022", "--repeats", "0", "--no-compare-port"])
        .args(["--out", model, "--test-rows", rows])
        .args(further)
        .env("PYTHONPATH", root().join("training"));
    run(&mut command, b"", TRAINING_LIMIT)?.expect(0)?;
    Ok(Some(()))
}

/// The rows of a CSV as maps from column to value.
fn table(csv: &[u8]) -> Result<Vec<HashMap<String, String>>> {
    Ok(csv::Reader::from_reader(csv).deserialize().collect::<Result<_, _>>()?)
}

/// Scores held-out rows with the agent and compares with the answers stored beside them: the same label on each, and no
/// probability further off than [`TOLERANCE`]. Returns how many rows that were.
fn answers_as_fitted(model: &str, rows: &str) -> Result<usize> {
    let ended = ml_ids(&["score", rows, "--format", "csv", "--model", model], b"")?.expect(0)?;
    let (expected, scored) = (table(&fs::read(rows)?)?, table(&ended.stdout)?);
    ensure!(scored.len() == expected.len(), "{} verdicts on {} rows", scored.len(), expected.len());
    let mut greatest = 0.0_f64;
    for (row, (expected, scored)) in expected.iter().zip(&scored).enumerate() {
        let (label, wanted) = (&scored["label"], &expected["sklearn_label"]);
        ensure!(label == wanted, "{model}, row {row}: {label}, the fitted model says {wanted}");
        let wanted: f64 = expected["sklearn_probability"].parse()?;
        greatest = greatest.max((scored["probability"].parse::<f64>()? - wanted).abs());
    }
    println!("{model}: {} rows, same label on each, greatest difference {greatest:e}", expected.len());
    ensure!(greatest <= TOLERANCE, "{model}: probabilities differ by up to {greatest:e}");
    Ok(expected.len())
}

#[test]
fn training_makes_the_committed_model_and_the_agent_answers_as_the_fitted_one_does() -> Result<()> {
    let scratch = Scratch::new("training")?;
    let (model, rows) = (scratch.path("model.onnx"), scratch.path("rows.csv"));
    if train(&model, &rows, DEFAULT_MODEL)?.is_none() {
        return Ok(());
    }
    ensure!(fs::read(&model)? == fs::read(default_model())?, "the command makes other bytes than models/default.onnx");
    let compared = answers_as_fitted(&model, &rows)?;
    ensure!(compared > 6_000, "{compared} rows are too few to tell");
    Ok(())
}

#[test]
fn agent_answers_as_the_fitted_model_of_every_kind_does() -> Result<()> {
    let scratch = Scratch::new("kinds")?;
    for kind in ["forest", "stacking", "boosted"] {
        let (model, rows) = (scratch.path(&format!("{kind}.onnx")), scratch.path(&format!("{kind}.csv")));
        let small = ["--model", kind, "--name", kind, "--limit-per-class", "400", "--trees", "20", "--jobs", "1"];
        if train(&model, &rows, &small)?.is_none() {
            return Ok(());
        }
        let compared = answers_as_fitted(&model, &rows)?;
        ensure!(compared > 500, "{kind}: {compared} rows are too few to tell");
    }
    Ok(())
}

#[test]
fn model_of_a_small_slice_is_inspected_scored_with_and_served() -> Result<()> {
    let scratch = Scratch::new("slice")?;
    let (model, rows) = (scratch.path("slice.onnx"), scratch.path("rows.csv"));
    if train(&model, &rows, &["--limit-per-class", "60", "--name", "slice"])?.is_none() {
        return Ok(());
    }
    ensure!(fs::read(&model)? != fs::read(default_model())?, "the slice makes the very model of all rows");

    let inspected = ml_ids(&["model", "inspect", "--json", &model], b"")?.expect(0)?;
    let inspected: Value = serde_json::from_slice(&inspected.stdout)?;
    ensure!(inspected["name"] == "slice" && inspected["profile"] == "cns2022", "{inspected}");

    let ended = ml_ids(&["score", &rows, "--format", "csv", "--model", &model], b"")?.expect(0)?;
    let (expected, scored) = (table(&fs::read(&rows)?)?, table(&ended.stdout)?);
    ensure!(!expected.is_empty() && scored.len() == expected.len(), "{} of {}", scored.len(), expected.len());
    for (row, (expected, scored)) in expected.iter().zip(&scored).enumerate() {
        ensure!(scored["label"] == expected["sklearn_label"], "row {row}: {scored:?}");
    }

    let server = Server::ready(&["--model", &model])?;
    let health = server.get("/health")?.expect(200)?;
    ensure!(health["model"]["sha256"] == inspected["sha256"], "{health}");
    let flow: serde_json::Map<String, Value> = expected[0]
        .iter()
        .filter(|(name, _)| !name.starts_with("sklearn") && *name != "Label")
        .map(|(name, value)| Ok((name.clone(), json!(value.parse::<f64>()?))))
        .collect::<Result<_>>()?;
    let answer = server.predict(&Value::Object(flow))?.expect(200)?;
    ensure!(answer["label"] == expected[0]["sklearn_label"].as_str() && answer["model"]["name"] == "slice", "{answer}");
    server.stop()
}

/// The attack of 6 July 2017 as it was captured: nine connections of SQL injection, and nothing else.
#[test]
fn sql_injection_is_recognised_in_a_real_capture() -> Result<()> {
    let Some(capture) = data("golden/WebattackSQLinj.pcap") else { return Ok(()) };
    let capture = capture.to_string_lossy();
    let scored = ml_ids(&["score", &capture], b"")?.expect(0)?;
    let flows: Vec<Value> = scored.text()?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let found = flows.iter().filter(|flow| flow["Label"] == "Web Attack - SQL Injection").count();
    let alerts = flows.iter().filter(|flow| flow["Alert"] == true).count();
    println!("{} flows, {found} recognised as SQL injection, {alerts} alerts", flows.len());
    ensure!(flows.len() == 9 && found >= 8 && alerts >= 8, "{found} of {} found, {alerts} alerts", flows.len());
    Ok(())
}
