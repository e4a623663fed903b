//! The live sensor in a laboratory: started, asked how it is, stopped, and what it has logged.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use time::{OffsetDateTime, macros::format_description};

use crate::{
    binary,
    lab::{Lab, SERVER_IF, Side, wait_until},
};

/// Where it tells how it is, in the server's namespace.
pub const HEALTH: &str = "http://127.0.0.1:8000/health";

/// Starts the sensor, in host mode on the server's interface unless told otherwise, and waits until it is attached and its
/// model is loaded.
///
/// # Errors
/// When it does not become ready.
pub fn start(lab: &mut Lab, arguments: &[&str]) -> Result<()> {
    begin(lab, arguments)?;
    let ready = || lab.get("http://127.0.0.1:8000/health/ready").is_ok_and(|body| body.contains("ready"));
    wait_until(Duration::from_secs(30), ready)
        .with_context(|| format!("the sensor did not become ready:\n{}", lab.log("sensor")))
}

/// Starts the sensor and waits until its model is loaded, attached or not.
///
/// # Errors
/// When it does not get that far.
pub fn begin(lab: &mut Lab, arguments: &[&str]) -> Result<()> {
    let binary = binary()?;
    let logs = lab.directory().join("logs");
    let (binary, logs) = (binary.to_string_lossy().into_owned(), logs.to_string_lossy().into_owned());
    let mut argv = vec![binary.as_str(), "run", "--log-dir", &logs];
    argv.extend_from_slice(if arguments.is_empty() { &["-i", SERVER_IF, "--attach", "host"] } else { arguments });
    lab.start(Side::Server, "sensor", &argv, &[("LOG_NEGATIVE_PREDICTIONS", "true")])?;
    wait_until(Duration::from_secs(30), || health(lab).is_ok_and(|health| !health["sensor"].is_null()))
        .with_context(|| format!("the sensor did not start:\n{}", lab.log("sensor")))
}

/// Stops the sensor by a signal: it ends well, its hooks are gone, and every packet and flow is accounted for.
///
/// # Errors
/// When anything of that does not hold.
pub fn stop(lab: &mut Lab, signal: libc::c_int) -> Result<()> {
    let code = lab.stop("sensor", signal)?;
    let log = lab.log("sensor");
    ensure!(code == Some(0) && log.contains("the books balance"), "the sensor ended with {code:?}:\n{log}");
    let link = lab.succeed(Side::Server, &["ip", "-details", "link", "show", "dev", SERVER_IF])?;
    ensure!(!link.contains("xdp"), "a program is still attached:\n{link}");
    Ok(())
}

/// What `/health` says.
///
/// # Errors
/// When it does not answer.
pub fn health(lab: &Lab) -> Result<Value> {
    Ok(serde_json::from_str(&lab.get(HEALTH)?)?)
}

/// What `/health` says of an interface; null if it says nothing.
///
/// # Errors
/// When it does not answer.
pub fn interface(lab: &Lab, name: &str) -> Result<Value> {
    let health = health(lab)?;
    let interfaces = health.pointer("/sensor/interfaces").and_then(Value::as_array);
    let found = interfaces.and_then(|all| all.iter().find(|interface| interface["name"] == name));
    Ok(found.cloned().unwrap_or(Value::Null))
}

/// Waits until `/health` says that an interface is in a state. Returns what it says of it.
///
/// # Errors
/// When it does not within 10 s.
pub fn wait_for_state(lab: &Lab, name: &str, state: &str) -> Result<Value> {
    let mut found = Value::Null;
    wait_until(Duration::from_secs(10), || {
        found = interface(lab, name).unwrap_or_default();
        found["state"] == state
    })
    .with_context(|| format!("{name} is not {state} but {found}\n{}", lab.log("sensor")))?;
    Ok(found)
}

/// The time of an event, in seconds since 1970.
///
/// # Errors
/// When it is not written as Suricata writes times.
pub fn unix_seconds(time: &str) -> Result<f64> {
    let format = format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6][offset_hour sign:mandatory][offset_minute]"
    );
    let time = OffsetDateTime::parse(time, format).with_context(|| time.to_owned())?;
    Ok(time.unix_timestamp_nanos() as f64 / 1e9)
}

/// All events of both logs.
///
/// # Errors
/// When a log is not there or holds no JSON.
pub fn events(lab: &Lab) -> Result<Vec<Value>> {
    let mut events = Vec::new();
    for name in ["positive_predictions.log", "negative_predictions.log"] {
        let text = fs::read_to_string(lab.directory().join("logs").join(name))?;
        for line in text.lines() {
            events.push(serde_json::from_str(line).with_context(|| format!("{name}: {line}"))?);
        }
    }
    Ok(events)
}
