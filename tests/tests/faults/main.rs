//! What breaks around the sensor, broken for real: the kernel refuses, memory is short, the clock is set back, servers hang or
//! talk nonsense, and everybody wants something at once. `docs/OPERATIONS.md` has a row for each.

mod clock;
mod flood;
mod kernel;
mod servers;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    binary,
    lab::{Lab, SERVER_IF, SERVER_V4, Side, wait_until},
    sensor,
};
use serde_json::Value;

/// Longest wait for what takes a second on an idle machine.
const LIMIT: Duration = Duration::from_secs(90);

/// The command line of a sensor on the server's interface, which `before` leads to.
fn command(lab: &Lab, before: &[&str], more: &[&str]) -> Result<Vec<String>> {
    let (binary, logs) = (binary()?, lab.directory().join("logs"));
    let (binary, logs) = (binary.to_string_lossy(), logs.to_string_lossy());
    let run = [&*binary, "run", "-i", SERVER_IF, "--attach", "host", "--log-dir", &*logs];
    Ok([before, &run, more].concat().into_iter().map(str::to_owned).collect())
}

/// Starts a sensor behind other programs, and waits until it is ready.
fn start(lab: &mut Lab, before: &[&str], more: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let command = command(lab, before, more)?;
    let argv: Vec<&str> = command.iter().map(String::as_str).collect();
    let environment = [&[("LOG_NEGATIVE_PREDICTIONS", "true")], environment].concat();
    lab.start(Side::Server, "sensor", &argv, &environment)?;
    let ready = || lab.get("http://127.0.0.1:8000/health/ready").is_ok_and(|body| body.contains("ready"));
    wait_until(LIMIT, ready).with_context(|| format!("the sensor did not become ready:\n{}", lab.log("sensor")))
}

/// Starts a sensor that cannot: it ends by itself with exit code 1 and these words, and says nothing of a panic.
fn refuses(lab: &mut Lab, before: &[&str], more: &[&str], words: &[&str]) -> Result<()> {
    let command = command(lab, before, more)?;
    let argv: Vec<&str> = command.iter().map(String::as_str).collect();
    lab.start(Side::Server, "refused", &argv, &[])?;
    let code = lab.wait("refused", LIMIT).with_context(|| lab.log("refused"))?;
    let log = lab.log("refused");
    ensure!(code == Some(1) && !log.contains("panicked"), "it ended with {code:?}:\n{log}");
    for words in words {
        ensure!(log.contains(words), "`{words}` is not in:\n{log}");
    }
    let link = lab.succeed(Side::Server, &["ip", "-details", "link", "show", "dev", SERVER_IF])?;
    ensure!(!link.contains("xdp"), "a program is still attached:\n{link}");
    Ok(())
}

/// Sends datagrams from the client, each a flow of its own.
fn datagrams(lab: &Lab, count: u32) -> Result<()> {
    let script = format!(
        "import socket\nfor _ in range({count}):\n with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: \
         s.sendto(b'x', ('{SERVER_V4}', 9))"
    );
    lab.succeed(Side::Client, &["python3", "-c", &script]).map(drop)
}

/// The sensor sees packets and ends with balanced books.
fn watches(lab: &mut Lab) -> Result<()> {
    datagrams(lab, 25)?;
    let counted = |health: &Value| health["sensor"]["packets"]["ingress"]["in_flow"].as_u64() >= Some(25);
    wait_until(LIMIT, || sensor::health(lab).is_ok_and(|health| counted(&health)))
        .with_context(|| format!("no packets: {:?}\n{}", sensor::health(lab), lab.log("sensor")))?;
    sensor::stop(lab, libc::SIGTERM)
}
