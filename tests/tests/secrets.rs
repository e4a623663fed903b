//! Secrets that the agent was given are in nothing that it says, whatever it does with them.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::Command,
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    agent, binary,
    lab::{Lab, SERVER_IF, Side, wait_until},
};

/// Longest wait for what takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(30);
const TOKEN: &str = "planted-token-0123456789abcdef";
const PASSWORD: &str = "planted-password-0123456789";
/// `ann` and the password, as HTTP sends them.
const BASIC: &str = "YW5uOnBsYW50ZWQtcGFzc3dvcmQtMDEyMzQ1Njc4OQ==";
const KEY: &str = "planted-key-0123456789";

#[test]
fn no_secret_of_the_sensor_is_in_its_log_in_health_or_in_metrics() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let tokens = lab.directory().join("tokens");
    fs::write(&tokens, format!("{TOKEN}\n"))?;
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600))?;
    let (tokens, logs) = (tokens.to_string_lossy().into_owned(), lab.directory().join("logs"));
    let logs = logs.to_string_lossy().into_owned();
    let binary = binary()?.to_string_lossy().into_owned();
    let argv = [
        &binary,
        "run",
        "-i",
        SERVER_IF,
        "--attach",
        "host",
        "--log-dir",
        &logs,
        "--token-file",
        &tokens,
        "--sink",
        "https://127.0.0.1:9/hook?types=alert,stats",
        "--sink",
        "nats://127.0.0.1:9/x?types=stats",
        "--stats-interval",
        "1s",
    ];
    let login = format!("user:{PASSWORD}");
    let environment = [
        ("RUST_LOG", "debug"),
        ("MLFLOW_TRACKING_USERNAME", "ann"),
        ("MLFLOW_TRACKING_PASSWORD", PASSWORD),
        ("AWS_ACCESS_KEY_ID", "AKID"),
        ("AWS_SECRET_ACCESS_KEY", KEY),
        ("ML_IDS_WEBHOOK_AUTHORIZATION", KEY),
        ("ML_IDS_NATS_LOGIN", login.as_str()),
    ];
    lab.start(Side::Server, "sensor", &argv, &environment)?;
    let header = format!("authorization: Bearer {TOKEN}");
    let get = |lab: &Lab, path: &str| {
        let url = format!("http://127.0.0.1:8000{path}");
        lab.succeed(Side::Server, &["curl", "-sS", "--max-time", "5", "-H", &header, &url])
    };
    wait_until(SOON, || get(&lab, "/health").is_ok_and(|health| health.contains("\"dropped\"")))
        .with_context(|| lab.log("sensor"))?;
    // It said at the start that root's file cannot be read again.
    ensure!(lab.log("sensor").contains("will not be read again"), "{}", lab.log("sensor"));
    lab.signal("sensor", libc::SIGHUP)?;
    wait_until(SOON, || get(&lab, "/health").is_ok_and(|health| health.contains("the tokens before stay")))
        .with_context(|| lab.log("sensor"))?;
    let (health, metrics) = (get(&lab, "/health")?, get(&lab, "/metrics")?);
    lab.stop("sensor", libc::SIGTERM)?;
    for (name, text) in [("/health", health), ("/metrics", metrics), ("the log", lab.log("sensor"))] {
        ensure!(text.len() > 1000, "{name} is empty: {text}");
        for secret in [TOKEN, PASSWORD, KEY] {
            ensure!(!text.contains(secret), "{name} holds {secret}");
        }
    }
    Ok(())
}

/// Answers every request with 401 for as long as the process lives. Returns its address and the heads of the requests.
fn unauthorized() -> Result<(String, Receiver<String>)> {
    fn answer(mut client: TcpStream) -> std::io::Result<String> {
        client.set_read_timeout(Some(SOON))?;
        let (mut head, mut part) = (Vec::new(), [0; 4096]);
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match client.read(&mut part)? {
                0 => break,
                count => head.extend_from_slice(part.get(..count).unwrap_or_default()),
            }
        }
        client.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        Ok(String::from_utf8_lossy(&head).into_owned())
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", listener.local_addr()?);
    let (heads, seen) = mpsc::channel();
    thread::spawn(move || {
        for client in listener.incoming().filter_map(Result::ok) {
            if let Ok(head) = answer(client)
                && heads.send(head).is_err()
            {
                return;
            }
        }
    });
    Ok((address, seen))
}

#[test]
fn no_secret_of_a_model_s_source_is_in_what_is_said_when_it_is_refused_or_shown() -> Result<()> {
    let (address, seen) = unauthorized()?;
    let shadow = ["run", "-i", "lo", "--shadow", "mlflow:x@y"];
    let stored = ["run", "-i", "lo", "--model", "s3://bucket/model.onnx"];
    let commands: [(&[&str], &[&str], Option<&str>); 4] = [
        (&[], &[&shadow[..], &["--dry-run"]].concat(), Some(BASIC)),
        (&[], &[&stored[..], &["--dry-run"]].concat(), Some("AWS4-HMAC-SHA256 Credential=AKID/")),
        (&["config", "show", "--origin"], &shadow, None),
        (&["config", "show"], &stored, None),
    ];
    for (before, command, sent) in commands {
        let mut agent = Command::new(binary()?);
        agent.args(before).args(command).envs([
            ("RUST_LOG", "trace"),
            ("MLFLOW_TRACKING_URI", address.as_str()),
            ("MLFLOW_TRACKING_USERNAME", "ann"),
            ("MLFLOW_TRACKING_PASSWORD", PASSWORD),
            ("MLFLOW_S3_ENDPOINT_URL", address.as_str()),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "AKID"),
            ("AWS_SECRET_ACCESS_KEY", KEY),
        ]);
        let ended = agent::run(&mut agent, b"", SOON)?;
        ended.in_order()?;
        let said = format!("{}{}", ended.text()?, ended.stderr);
        if let Some(sent) = sent {
            let heads: Vec<String> = seen.try_iter().collect();
            ensure!(
                heads.iter().any(|head| head.contains(sent)),
                "{command:?}: {sent} was not sent: {heads:?}\n{said}"
            );
            ensure!(ended.code != Some(0) && said.contains("401"), "{command:?}: no refusal is told: {said}");
        } else {
            ensure!(ended.code == Some(0) && said.contains("lo"), "{command:?}: {said}");
        }
        for secret in [PASSWORD, BASIC, KEY] {
            ensure!(!said.contains(secret), "{before:?} {command:?} says {secret}: {said}");
        }
    }
    Ok(())
}
