//! `ml-ids health`: asks a running agent how it is, for people and for the health checks of containers.

use std::{
    env,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use ureq::{Body, http::Response};

use super::{
    agent_client::{bearer, client},
    exit::{Exit, is_broken_pipe},
};
use crate::model::WebUrl;

/// Where an agent listens unless told otherwise.
const USUAL: &str = "127.0.0.1:8000";
/// Largest answer that is read.
const MOST_BYTES: u64 = 4 << 20;

const EXAMPLES: &str = "\
Examples:
  ml-ids health                                is the agent of this machine well?
  ml-ids health --ready                        does it do its work? for health checks
  ml-ids health --live                         does the process answer?
  ml-ids health --url https://sensor.example:8443 --token-file token

Ends with 0 if all is well, else with 1.";

/// Ask a running agent how it is
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Where the agent answers [default: this machine, at the port of ML_IDS_LISTEN or 8000]
    #[arg(long, value_name = "URL", env = "ML_IDS_URL")]
    url: Option<WebUrl>,
    /// Only ask whether the process answers
    #[arg(long, conflicts_with = "ready")]
    live: bool,
    /// Only ask whether the model is loaded and the capture attached
    #[arg(long)]
    ready: bool,
    /// File whose first line is a token that the agent takes
    #[arg(long, value_name = "FILE", env = "ML_IDS_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Do not check the certificate; for an agent of this machine only
    #[arg(long)]
    insecure: bool,
    /// Longest wait for the answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout: u64,
}

/// What of `GET /health` is told.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Health {
    status: String,
    reasons: Vec<String>,
    notes: Vec<String>,
    model: Option<Model>,
    sensor: Option<Sensor>,
    uptime_seconds: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Model {
    name: String,
    version: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sensor {
    interfaces: Vec<Interface>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Interface {
    name: String,
    state: String,
}

/// Does it.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let url = match &args.url {
        Some(url) => url.clone(),
        None => usual()?,
    };
    if args.insecure && !url.is_loopback() {
        eprintln!(
            "error: --insecure is for an agent of this machine; {url} is another, whose certificate must be checked"
        );
        return Ok(Exit::Usage);
    }
    let told = match (args.live, args.ready) {
        (true, _) => ask(args, &url, "/health/live").map(|answer| probe(answer, "it answers")),
        (_, true) => ask(args, &url, "/health/ready").map(|answer| probe(answer, "ready")),
        _ => ask(args, &url, "/health").and_then(|(status, body)| whole(status, &body)),
    };
    let (well, text) = match told {
        Ok(told) => told,
        Err(error) => {
            eprintln!("error: {url}: {error:#}");
            return Ok(Exit::Failed);
        }
    };
    match io::stdout().write_all(text.as_bytes()).map_err(anyhow::Error::from) {
        Err(error) if !is_broken_pipe(&error) => Err(error),
        _ => Ok(if well { Exit::Done } else { Exit::Failed }),
    }
}

/// The agent of this machine: with the variables that it was started with, as in a container, it is found wherever it listens.
fn usual() -> Result<WebUrl> {
    let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let scheme = if set("ML_IDS_TLS_CERT").is_some() { "https" } else { "http" };
    let listen = set("ML_IDS_LISTEN").unwrap_or_else(|| USUAL.to_owned());
    local(scheme, &listen).parse().context("ML_IDS_LISTEN is no address; name the agent with --url")
}

/// The URL by which this machine reaches what listens at an address.
fn local(scheme: &str, listen: &str) -> String {
    match listen.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() && address.is_ipv4() => {
            format!("{scheme}://127.0.0.1:{}", address.port())
        }
        Ok(address) if address.ip().is_unspecified() => format!("{scheme}://[::1]:{}", address.port()),
        _ => format!("{scheme}://{listen}"),
    }
}

/// Status and body of an answer.
type Asked = (u16, String);

fn ask(args: &Args, url: &WebUrl, path: &str) -> Result<Asked> {
    let mut request =
        client(url, Duration::from_secs(args.timeout), args.insecure).get(format!("{}{path}", url.origin_text()));
    if let Some(file) = &args.token_file {
        request = request.header("authorization", bearer(file, url)?);
    }
    let response = request.call().map_err(|error| anyhow::anyhow!("no answer: {error}; {}", advice(&error)))?;
    read(response)
}

fn advice(error: &ureq::Error) -> &'static str {
    match error {
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "nothing listens there: start `ml-ids run` or `ml-ids serve`, or name another address with --url"
        }
        ureq::Error::Timeout(_) => "the agent hangs or a firewall is between; --timeout waits longer",
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            "its certificate is not one that this machine trusts; --insecure for an agent of this machine"
        }
        ureq::Error::Protocol(_) => {
            "what answers speaks another protocol: https:// in place of http://, or another port?"
        }
        _ => "check the address with --url",
    }
}

fn read(mut response: Response<Body>) -> Result<Asked> {
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(MOST_BYTES).read_to_string().context("the answer broke off")?;
    match status {
        401 => bail!("it asks for a token, or knows this one not; name a file with one with --token-file"),
        404 => bail!("what answers there is no ml-ids; check the address with --url"),
        _ => Ok((status, body)),
    }
}

/// What a probe's answer means.
fn probe((status, body): Asked, well: &str) -> (bool, String) {
    if status == 200 {
        return (true, format!("{well}\n"));
    }
    let detail = serde_json::from_str::<serde_json::Value>(&body).ok();
    let detail = detail.and_then(|body| body.get("detail")?.as_str().map(printable));
    (false, format!("not ready: {}\n", detail.unwrap_or_else(|| format!("status {status}"))))
}

/// What the whole answer means.
fn whole(status: u16, body: &str) -> Result<(bool, String)> {
    let health: Health = serde_json::from_str(body)
        .ok()
        .filter(|_| status == 200)
        .with_context(|| format!("what answers there is no ml-ids (status {status}); check the address with --url"))?;
    let Health { status, reasons, notes, model, sensor, uptime_seconds } = health;
    let up = humantime::format_duration(Duration::from_secs(uptime_seconds.clamp(0.0, 1e10) as u64)).to_string();
    let mut text = format!("{}: up for {up}\n", printable(&status));
    if let Some(Model { name, version }) = model {
        text += &format!("  model {} {}\n", printable(&name), printable(&version));
    }
    for Interface { name, state } in sensor.iter().flat_map(|sensor| &sensor.interfaces) {
        text += &format!("  interface {}: {}\n", printable(name), printable(state));
    }
    for reason in reasons {
        text += &format!("  problem: {}\n", printable(&reason));
    }
    for note in notes {
        text += &format!("  note: {}\n", printable(&note));
    }
    let well = status == "healthy";
    if !well {
        text += "The agent's log says more; GET /health has all of it.\n";
    }
    Ok((well, text))
}

/// The text without what could command a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_of_this_machine_is_reached_wherever_it_listens() {
        for (listen, expected) in [
            ("0.0.0.0:9000", "http://127.0.0.1:9000"),
            ("[::]:9000", "http://[::1]:9000"),
            ("127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("localhost:1", "http://localhost:1"),
        ] {
            assert_eq!(local("http", listen), expected);
            assert!(local("http", listen).parse::<WebUrl>().is_ok());
        }
    }

    #[test]
    fn problems_are_told_in_words_and_nothing_commands_the_terminal() {
        let body = r#"{"status":"degraded","reasons":["eth0 is gone\u001b[2J"],"notes":[],"uptime_seconds":61.5,
            "model":{"name":"ids","version":"3"},"sensor":{"interfaces":[{"name":"eth0","state":"gone"}]},"more":1}"#;
        let (well, text) = whole(200, body).unwrap();
        assert!(!well);
        assert!(text.contains("degraded: up for 1m 1s\n  model ids 3\n  interface eth0: gone\n"), "{text}");
        assert!(text.contains("problem: eth0 is gone [2J\n"), "{text}");
        let (well, text) = whole(200, r#"{"status":"healthy","sensor":null,"model":null}"#).unwrap();
        assert!(well && text == "healthy: up for 0s\n", "{text}");
        assert!(whole(200, "<html>").is_err() && whole(500, "{}").is_err());
    }

    #[test]
    fn a_probe_that_is_not_ready_says_what_is_missing() {
        let (well, text) = probe((503, r#"{"detail":"no model is loaded"}"#.to_owned()), "ready");
        assert!(!well && text == "not ready: no model is loaded\n");
        assert_eq!(probe((200, String::new()), "ready"), (true, "ready\n".to_owned()));
    }
}
