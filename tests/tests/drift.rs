//! Drift from one end to the other: traffic unlike the training data is warned of and flagged, by `score` and live, and
//! traffic like it is not.

use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ml_ids::features::FEATURES;
use ml_ids_tests::{
    agent::{Scratch, ml_ids},
    default_model,
    lab::{Lab, SERVER_IF, SERVER_V4, Side, wait_until},
    onnx::with_metadata,
    sensor,
};
use serde_json::{Value, json};

/// Flows that close two windows, with room for some that are lost or not compared.
const CONNECTIONS: usize = 26_000;
const PORT: u16 = 9000;

/// The default model, as if every feature had been spread evenly from 0 to 10 in its training data.
fn model(scratch: &Scratch) -> Result<String> {
    let feature = json!({
        "edges": [1, 2, 3, 4, 5, 6, 7, 8, 9], "shares": vec![0.1; 10], "benign_shares": vec![0.1; 10],
        "min": 0, "max": 10, "benign": [0, 1, 5, 9, 10],
    });
    let known = json!({
        "rows": 1000, "benign_rows": 900, "features": vec![feature; 78],
        "score": {"edges": [0.5], "shares": [0.5, 0.5], "benign_shares": [0.99, 0.01]},
        "benign_alert_rate": 0.001, "rows_benign_heldout": 200,
    });
    let model = with_metadata(&fs::read(default_model())?, "ml_ids.distribution", &known.to_string())?;
    scratch.file("model.onnx", model)
}

/// A CSV of rows that are spread evenly, but for the features in `moved`, which are always `value`.
fn rows(count: usize, moved: &[usize], value: f64) -> String {
    let mut text = FEATURES.iter().map(|feature| feature.name).collect::<Vec<_>>().join(",") + "\n";
    for row in 0..count {
        for feature in 0..FEATURES.len() {
            let value = if moved.contains(&feature) { value } else { (row % 10) as f64 + 0.5 };
            let end = if feature + 1 == FEATURES.len() { "\n" } else { "," };
            // Writing to a string cannot fail.
            let _ = write!(text, "{value}{end}");
        }
    }
    text
}

/// What `score` says of rows, and its verdicts.
fn scored(scratch: &Scratch, rows: &str) -> Result<(String, Vec<Value>)> {
    let (model, rows) = (model(scratch)?, scratch.file("rows.csv", rows)?);
    let ended = ml_ids(&["score", &rows, "--model", &model], b"")?.expect(0)?;
    let verdicts = ended.text()?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    Ok((ended.stderr, verdicts))
}

#[test]
fn rows_like_the_training_data_are_scored_without_a_word_of_drift() -> Result<()> {
    let scratch = Scratch::new("no-drift")?;
    let (said, verdicts) = scored(&scratch, &rows(2_000, &[], 0.0))?;
    ensure!(!said.contains("warning") && !said.contains("far outside"), "{said}");
    ensure!(verdicts.len() == 2_000, "{} verdicts", verdicts.len());
    ensure!(verdicts.iter().all(|verdict| verdict["out_of_distribution"] == false), "{:?}", verdicts.first());
    Ok(())
}

#[test]
fn rows_unlike_the_training_data_are_named_and_flagged() -> Result<()> {
    let scratch = Scratch::new("drift")?;
    let (said, verdicts) = scored(&scratch, &rows(2_000, &[1, 18], 98.4e6))?;
    ensure!(said.contains("2000 of 2000 verdicts are guesses"), "{said}");
    ensure!(said.contains("warning: 2 of 76 features are not as in the benign training data"), "{said}");
    ensure!(
        said.contains("Flow IAT Max (100.0 % of flows above 9 µs, 10.0 % of benign training flows; PSI "),
        "{said}"
    );
    ensure!(verdicts.iter().all(|verdict| verdict["out_of_distribution"] == true), "{:?}", verdicts.first());
    Ok(())
}

#[test]
fn rows_that_have_shifted_within_the_training_range_are_named_but_not_flagged() -> Result<()> {
    let scratch = Scratch::new("shift")?;
    let (said, verdicts) = scored(&scratch, &rows(2_000, &[1], 9.5))?;
    ensure!(said.contains("warning: 1 of 76 features") && said.contains("Flow Duration ("), "{said}");
    ensure!(verdicts.iter().all(|verdict| verdict["out_of_distribution"] == false), "{:?}", verdicts.first());
    Ok(())
}

/// Connections that are reset at once: flows of four packets that end without waiting.
fn connect_and_reset(lab: &Lab, count: usize) -> Result<()> {
    let server: SocketAddr = format!("{SERVER_V4}:{PORT}").parse()?;
    let listener = lab.within(Side::Server, || Ok(TcpListener::bind(server)?))?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| listener.incoming().take_while(|taken| taken.is_ok() && !done.load(Ordering::Relaxed)).count());
        let connected = lab.within(Side::Client, || {
            for _ in 0..count {
                let stream = TcpStream::connect_timeout(&server, Duration::from_secs(10))?;
                let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
                // SAFETY: an open socket, and a struct of the length that is given.
                let set = unsafe {
                    libc::setsockopt(
                        stream.as_raw_fd(),
                        libc::SOL_SOCKET,
                        libc::SO_LINGER,
                        (&raw const at_once).cast(),
                        size_of_val(&at_once) as libc::socklen_t,
                    )
                };
                ensure!(set == 0, "SO_LINGER: {}", std::io::Error::last_os_error());
            }
            Ok(())
        });
        done.store(true, Ordering::Relaxed);
        // Wakes the server up, so that it sees that it is done.
        let woken = lab.within(Side::Client, || Ok(TcpStream::connect_timeout(&server, Duration::from_secs(10))?));
        connected.and(woken.map(drop))
    })
}

#[test]
fn live_traffic_unlike_the_training_data_is_warned_of_once_and_shown_everywhere() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let scratch = Scratch::new("live-drift")?;
    let model = model(&scratch)?;
    sensor::start(&mut lab, &["-i", SERVER_IF, "--attach", "host", "--model", &model])?;
    let get = |lab: &Lab, path: &str| -> Result<String> { lab.get(&format!("http://127.0.0.1:8000{path}")) };
    let drift =
        |lab: &Lab| -> Result<Value> { Ok(serde_json::from_str::<Value>(&get(lab, "/model")?)?["drift"].take()) };
    ensure!(drift(&lab)?["windows"] == 0, "{}", drift(&lab)?);

    connect_and_reset(&lab, CONNECTIONS)?;
    wait_until(Duration::from_secs(30), || drift(&lab).is_ok_and(|drift| drift["windows"].as_u64() >= Some(2)))
        .with_context(|| format!("two windows did not close: {:?}\n{}", drift(&lab), lab.log("sensor")))?;

    let drift = drift(&lab)?;
    let left = drift["left"].as_array().context("a list")?;
    ensure!(left.iter().any(|feature| feature == "Flow Duration") && left.len() > 10, "{drift}");
    ensure!(
        drift["window"]["flows"] == 10_000 && drift["window"]["features"][0]["psi"].as_f64() > Some(0.25),
        "{drift}"
    );
    ensure!(drift["window"]["out_of_distribution_share"] == 1.0, "{drift}");

    let metrics = get(&lab, "/metrics")?;
    for name in
        ["ml_ids_feature_drift_psi{feature=\"Flow Duration\"}", "ml_ids_verdicts_total{class=", "ml_ids_model_info{"]
    {
        ensure!(metrics.contains(name), "{name} is not in:\n{metrics}");
    }
    let health = sensor::health(&lab)?;
    ensure!(health["notes"][0].as_str().is_some_and(|note| note.contains("training world")), "{health}");
    ensure!(!health["reasons"].to_string().contains("training"), "{health}");

    sensor::stop(&mut lab, libc::SIGTERM)?;
    let log = lab.log("sensor");
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("has left the training world")).collect();
    ensure!(warnings.len() == 1 && warnings[0].contains("WARN"), "{} warnings: {warnings:?}", warnings.len());
    ensure!(warnings[0].contains("; PSI ") && warnings[0].contains(" of benign training flows"), "{}", warnings[0]);
    let flags = sensor::events(&lab)?;
    let ours = flags.iter().filter(|event| event["dest_port"] == PORT).collect::<Vec<_>>();
    ensure!(ours.len() >= 20_000, "{} flows", ours.len());
    for event in ours {
        ensure!(event["ml"]["out_of_distribution"] == true, "{event}");
        let far = event["ml"]["far_outside"][0].as_str().context("in words")?;
        ensure!(far.contains("(training data: at most "), "{far}");
    }
    Ok(())
}
