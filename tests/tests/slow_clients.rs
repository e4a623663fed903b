//! slowhttptest's attacks with more connections than the server has places: others go on being answered meanwhile.
//!
//! The attack must still be going on when they have been, and the server must have cut slow clients off: that is what tells an
//! answer in spite of the attack from one after it.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    agent::{LIMIT, Scratch, Server, run},
    lab::wait_until,
};
use serde_json::Value;

/// More than twice the places of the server, as many a second.
const CROWD: [&str; 4] = ["-c", "700", "-r", "700"];
/// Longest time of an attack, in seconds.
const LENGTH: &str = "20";
/// Answers that others get while all places are taken.
const ANSWERS: usize = 10;

/// An attack that ends with the value.
struct Attack(Child);

impl Attack {
    fn begin(kind: &[&str], url: &str) -> Result<Self> {
        let mut attack = Command::new("slowhttptest");
        attack.args(kind).args(CROWD).args(["-l", LENGTH, "-p", "20", "-u", url]);
        let attack = attack.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Self(attack.context("cannot start slowhttptest; `cargo xtask setup --tests` installs it")?))
    }

    fn goes_on(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        // Nothing to do about it if it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What `/health` says to a new client.
fn health(url: &str) -> Result<Value> {
    let mut curl = Command::new("curl");
    // Longer than the attack: an answer that comes after it is not the one that is wanted, and is told apart below.
    curl.args(["-sSk", "--max-time", "30"]).arg(format!("{url}/health"));
    let ended = run(&mut curl, b"", 2 * LIMIT)?.expect(0)?;
    Ok(serde_json::from_slice(&ended.stdout)?)
}

fn withstands(server: &Server, scheme: &str, kind: &[&str], path: &str) -> Result<()> {
    let url = format!("{scheme}://{}", server.address);
    wait_until(LIMIT, || health(&url).is_ok()).context("not ready")?;
    let cut_before = health(&url)?["queues"]["connections"]["refused"].as_u64();
    let mut attack = Attack::begin(kind, &format!("{url}{path}"))?;
    let mut answered = 0;
    wait_until(Duration::from_secs(40), || {
        let Ok(health) = health(&url) else { return false };
        let connections = &health["queues"]["connections"];
        // The one that asks has a place, too.
        let full = connections["length"].as_u64() >= connections["capacity"].as_u64().map(|capacity| capacity - 8);
        if full && connections["refused"].as_u64() > cut_before && attack.goes_on() {
            answered += 1;
        }
        answered >= ANSWERS || !attack.goes_on()
    })?;
    ensure!(answered >= ANSWERS, "{kind:?}: only {answered} answers while the attack went on: {}", server.log());
    drop(attack);
    Ok(())
}

#[test]
fn slow_heads_keep_nobody_out() -> Result<()> {
    let server = Server::ready(&[])?;
    withstands(&server, "http", &["-H", "-i", "2"], "/")?;
    server.stop()
}

#[test]
fn slow_bodies_keep_nobody_out() -> Result<()> {
    let server = Server::ready(&[])?;
    withstands(&server, "http", &["-B", "-i", "2", "-s", "8192", "-f", "application/json"], "/predict")?;
    server.stop()
}

#[test]
fn slow_readers_keep_nobody_out() -> Result<()> {
    let server = Server::ready(&[])?;
    withstands(&server, "http", &["-X", "-w", "1", "-y", "512", "-z", "5", "-n", "2", "-k", "3"], "/model")?;
    server.stop()
}

#[test]
fn slow_heads_over_tls_keep_nobody_out() -> Result<()> {
    let scratch = Scratch::new("slow-tls")?;
    let (certificate, key) = (scratch.path("server.pem"), scratch.path("server.key"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-newkey", "ec", "-pkeyopt"]);
    openssl.args(["ec_paramgen_curve:P-256", "-keyout", &key, "-out", &certificate]);
    run(&mut openssl, b"", LIMIT)?.expect(0)?;
    let server = Server::start(&["--tls-cert", &certificate, "--tls-key", &key])?;
    withstands(&server, "https", &["-H", "-i", "2"], "/")?;
    server.stop()
}
