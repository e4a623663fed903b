//! Sinks against the real other side: what is promised arrives, although the other side is killed on the way and comes back,
//! and whoever emits events never waits for it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ml_ids::sink::{Event, EventKind, Hub, SinkAddress, SinkOptions, SinkState, Template, open_sinks};
use ml_ids_tests::{
    binary,
    lab::wait_until,
    servers::{Nats, Rsyslog, free_port, receiver},
};
use serde_json::{Value, json};

/// How long anything may take that waits for pauses between tries, of ten seconds at most.
const SOON: Duration = Duration::from_secs(60);

/// A hub with one sink.
struct Outlet {
    hub: Hub,
    emitted: u64,
}

impl Outlet {
    fn open(address: &str, options: &SinkOptions) -> Result<Self> {
        let address: SinkAddress = address.parse()?;
        Ok(Self { hub: Hub::start(open_sinks(vec![address], options)?, |_| {})?, emitted: 0 })
    }

    /// Emits so many numbered alerts, with a little time between them.
    fn emit(&mut self, count: u64) {
        for number in self.emitted..self.emitted + count {
            let event = json!({
                "timestamp": "2026-11-27T08:00:00.123456Z",
                "number": number,
                "src_ip": "10.0.0.1",
                "alert": { "signature": "ML-IDS \"DoS\"", "severity": 1 + number % 4 },
            });
            self.hub.emit(&Event::new(EventKind::Alert, &event));
            if number % 10 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        self.emitted += count;
    }

    fn state(&self) -> SinkState {
        self.hub.states().remove(0)
    }

    fn wait_for(&self, what: &str, condition: impl Fn(&SinkState) -> bool) -> Result<()> {
        wait_until(SOON, || condition(&self.state())).with_context(|| format!("not {what}: {:?}", self.state()))
    }

    fn wait_until_all_are_delivered(&self) -> Result<()> {
        self.wait_for("delivered", |state| state.delivered == self.emitted && state.failure.is_none())
    }
}

/// The numbers in a file whose lines hold an event's JSON from the first brace on, in the order of their first appearance; and how
/// many lines there are.
fn numbers(file: &Path) -> Result<(Vec<u64>, usize)> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let (mut found, mut lines) = (Vec::new(), 0);
    for line in text.lines() {
        let json = &line[line.find('{').with_context(|| format!("no event: {line}"))?..];
        let event: Value = serde_json::from_str(json).with_context(|| format!("half an event: {line}"))?;
        let number = event["number"].as_u64().with_context(|| format!("no number: {line}"))?;
        lines += 1;
        if !found.contains(&number) {
            found.push(number);
        }
    }
    Ok((found, lines))
}

/// Waits until all numbers up to `count` are in a file. Returns how many lines it has.
fn all_arrive(file: &Path, count: u64) -> Result<usize> {
    let whole = || numbers(file).is_ok_and(|(found, _)| found.len() as u64 >= count);
    wait_until(SOON, whole)
        .with_context(|| format!("{} of {count} events", numbers(file).map_or(0, |found| found.0.len())))?;
    let (found, lines) = numbers(file)?;
    ensure!(found == (0..count).collect::<Vec<_>>(), "out of order: {found:?}");
    Ok(lines)
}

#[test]
fn syslog_over_tcp_has_no_gap_although_the_server_is_killed_on_the_way() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(rsyslog) = Rsyslog::prepare(folder.path())? else { return Ok(()) };
    let server = rsyslog.start()?;
    let mut outlet = Outlet::open(&format!("syslog+tcp://127.0.0.1:{}", rsyslog.port), &SinkOptions::default())?;
    outlet.emit(500);
    outlet.wait_until_all_are_delivered()?;
    server.kill()?;
    outlet.emit(500);
    outlet.wait_for("failing", |state| state.failure.is_some())?;
    let server = rsyslog.start()?;
    outlet.emit(500);
    outlet.wait_until_all_are_delivered()?;
    let lines = all_arrive(&rsyslog.output(), 1500)?;
    eprintln!("1500 events, {lines} lines");
    let state = outlet.state();
    ensure!(state.retries > 0 && state.dropped == 0 && state.refused == 0, "{state:?}");
    let text = fs::read_to_string(rsyslog.output())?;
    let line = text.lines().next().context("empty")?;
    let parts: Vec<&str> = line.splitn(8, '|').collect();
    let process = std::process::id().to_string();
    ensure!(parts[..5] == ["ml-ids", &process, "alert", "local0", "2"], "{line}");
    ensure!(parts[6].starts_with("[origin software=\"ml-ids\"") && parts[6].contains("sequenceId=\"1\""), "{line}");
    server.kill()
}

#[test]
fn syslog_over_udp_and_to_the_local_socket_is_understood_and_what_is_too_long_is_counted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(rsyslog) = Rsyslog::prepare(folder.path())? else { return Ok(()) };
    for (address, header) in [
        (format!("syslog+udp://127.0.0.1:{}?facility=local3&max=480", rsyslog.port), "|alert|local3|2|"),
        (format!("syslog+unix://{}?max=480", rsyslog.socket().display()), "|-|local0|2|"),
    ] {
        let _ = fs::remove_file(rsyslog.output());
        let server = rsyslog.start()?;
        let mut outlet = Outlet::open(&address, &SinkOptions::default())?;
        outlet.emit(100);
        outlet.wait_until_all_are_delivered()?;
        outlet.hub.emit(&Event::new(EventKind::Alert, &json!("x".repeat(500))));
        outlet.wait_for("refused", |state| state.refused == 1 && state.failure.is_some())?;
        all_arrive(&rsyslog.output(), 100)?;
        let text = fs::read_to_string(rsyslog.output())?;
        ensure!(text.starts_with("ml-ids|") && text.lines().next().is_some_and(|line| line.contains(header)), "{text}");
        server.kill()?;
        if address.starts_with("syslog+unix") {
            outlet.emit(100);
            outlet.wait_for("failing", |state| state.failure.is_some() && state.waiting > 0)?;
            let server = rsyslog.start()?;
            outlet.wait_for("delivered", |state| state.delivered == 200)?;
            all_arrive(&rsyslog.output(), 200)?;
            server.kill()?;
        }
    }
    Ok(())
}

/// The payloads of a stream's messages, asked for as any client may.
fn stored(port: u16, stream: &str, token: &str) -> Result<Vec<Value>> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(socket.try_clone()?);
    write!(socket, "CONNECT {{\"verbose\":false,\"auth_token\":\"{token}\"}}\r\nSUB box 1\r\n")?;
    let mut ask = |subject: &str, body: &str| -> Result<Value> {
        write!(socket, "PUB {subject} box {}\r\n{body}\r\n", body.len())?;
        loop {
            let mut line = String::new();
            ensure!(lines.read_line(&mut line)? > 0, "the server has hung up");
            ensure!(!line.starts_with("-ERR"), "{line}");
            if line.starts_with("PING") {
                socket.write_all(b"PONG\r\n")?;
            }
            if line.starts_with("MSG") {
                line.clear();
                lines.read_line(&mut line)?;
                return Ok(serde_json::from_str(&line)?);
            }
        }
    };
    let info = ask(&format!("$JS.API.STREAM.INFO.{stream}"), "")?;
    let last = info["state"]["last_seq"].as_u64().with_context(|| format!("no stream: {info}"))?;
    let mut events = Vec::new();
    for number in 1..=last {
        let message = ask(&format!("$JS.API.STREAM.MSG.GET.{stream}"), &format!("{{\"seq\":{number}}}"))?;
        let subject = message["message"]["subject"].as_str().context("no subject")?;
        ensure!(subject.starts_with("site.") && subject.ends_with(".alert"), "{subject}");
        let data = message["message"]["data"].as_str().context("no data")?;
        events.push(serde_json::from_slice(&base64(data)?)?);
    }
    Ok(events)
}

fn base64(text: &str) -> Result<Vec<u8>> {
    let mut child = Command::new("base64")
        .arg("-d")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no input")?.write_all(text.as_bytes())?;
    Ok(child.wait_with_output()?.stdout)
}

#[test]
fn nats_holds_every_event_once_although_the_server_is_killed_on_the_way() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(nats) = Nats::prepare(folder.path())? else { return Ok(()) };
    let server = nats.start(&["--auth", "t0ken"])?;
    let address = format!("nats://t0ken@127.0.0.1:{}/site?create=IDS", nats.port);
    let mut outlet = Outlet::open(&address, &SinkOptions::default())?;
    outlet.emit(300);
    outlet.wait_until_all_are_delivered()?;
    server.kill()?;
    outlet.emit(300);
    outlet.wait_for("failing", |state| state.failure.is_some())?;
    let server = nats.start(&["--auth", "t0ken"])?;
    outlet.emit(300);
    outlet.wait_until_all_are_delivered()?;
    let stored: Vec<u64> =
        stored(nats.port, "IDS", "t0ken")?.iter().filter_map(|event| event["number"].as_u64()).collect();
    ensure!(stored == (0..900).collect::<Vec<_>>(), "{} stored: {stored:?}", stored.len());
    let state = outlet.state();
    ensure!(state.retries > 0 && state.dropped == 0, "{state:?}");
    server.kill()
}

#[test]
fn nats_says_what_is_wrong_without_the_token_and_goes_on_when_it_is_right() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(nats) = Nats::prepare(folder.path())? else { return Ok(()) };
    let server = nats.start(&["--auth", "t0ken"])?;
    for (address, words) in [
        (format!("nats://wr0ng@127.0.0.1:{}/site?create=IDS", nats.port), "not accepted"),
        (format!("nats://t0ken@127.0.0.1:{}/site", nats.port), "no stream takes site."),
    ] {
        let mut outlet = Outlet::open(&address, &SinkOptions::default())?;
        outlet.emit(1);
        outlet.wait_for(words, |state| state.failure.as_ref().is_some_and(|failure| failure.contains(words)))?;
        let failure = outlet.state().failure.unwrap_or_default();
        ensure!(!failure.contains("t0ken") && !failure.contains("wr0ng"), "{failure}");
    }
    server.kill()
}

#[test]
fn nats_over_tls_trusts_the_certificate_that_it_is_given_and_no_other() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(nats) = Nats::prepare(folder.path())? else { return Ok(()) };
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (certificate, key) = (certificate.to_string_lossy(), key.to_string_lossy());
    let server = nats.start(&["--tls", "--tlscert", &certificate, "--tlskey", &key])?;
    let address = format!("tls://127.0.0.1:{}/site?create=IDS", nats.port);
    let mut untrusting = Outlet::open(&address, &SinkOptions::default())?;
    untrusting.emit(1);
    untrusting.wait_for("failing", |state| state.failure.is_some())?;
    let mut outlet = Outlet::open(&format!("{address}&ca={certificate}"), &SinkOptions::default())?;
    outlet.emit(100);
    outlet.wait_until_all_are_delivered()?;
    ensure!(untrusting.state().delivered == 0);
    server.kill()
}

#[test]
fn a_webhook_gets_each_event_tries_again_and_drops_what_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (output, port) = (folder.path().join("hooks"), free_port()?);
    let server = receiver("http", &port.to_string(), &output)?;
    let options = SinkOptions {
        template: Some(Template::parse(r#"{"number": {{number}}, "text": "{{alert.signature}}"}"#)?),
        authorization: Some("Bearer t0ken".parse()?),
        ..SinkOptions::default()
    };
    let mut outlet = Outlet::open(&format!("http://127.0.0.1:{port}/s3cr3t"), &options)?;
    outlet.emit(20);
    outlet.wait_until_all_are_delivered()?;
    outlet.hub.emit(&Event::new(EventKind::Alert, &json!({ "alert": { "signature": "poison" } })));
    outlet.wait_for("refused", |state| state.refused == 1)?;
    let failure = outlet.state().failure.unwrap_or_default();
    ensure!(failure.contains("answered 400") && !failure.contains("s3cr3t"), "{failure}");
    server.kill()?;
    outlet.emit(20);
    outlet
        .wait_for("failing", |state| state.failure.as_ref().is_some_and(|failure| !failure.contains("answered 400")))?;
    let server = receiver("http", &port.to_string(), &output)?;
    outlet.wait_for("delivered", |state| state.delivered == 40)?;
    all_arrive(&output, 40)?;
    let text = fs::read_to_string(&output)?;
    ensure!(text.starts_with("Bearer t0ken|{\"number\": 0, \"text\": \"ML-IDS \\\"DoS\\\"\"}\n"), "{text}");
    ensure!(outlet.state().retries >= 2, "{:?}", outlet.state());
    server.kill()
}

#[test]
fn a_unix_socket_has_no_gap_although_its_reader_is_killed_on_the_way() -> Result<()> {
    for kind in ["unix", "unixgram"] {
        let folder = tempfile::tempdir()?;
        let (output, socket) = (folder.path().join("lines"), folder.path().join("socket"));
        let socket = socket.to_string_lossy();
        let server = receiver(kind, &socket, &output)?;
        let mut outlet = Outlet::open(&format!("{kind}://{socket}"), &SinkOptions::default())?;
        outlet.emit(200);
        all_arrive(&output, 200)?;
        server.kill()?;
        outlet.emit(200);
        outlet.wait_for("failing", |state| state.failure.is_some())?;
        let server = receiver(kind, &socket, &output)?;
        outlet.emit(200);
        outlet.wait_until_all_are_delivered()?;
        let lines = all_arrive(&output, 600)?;
        eprintln!("{kind}: 600 events, {lines} lines");
        server.kill()?;
    }
    Ok(())
}

#[test]
fn a_dead_sink_costs_whoever_emits_nothing_and_what_it_misses_is_counted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let address = format!("unix://{}", folder.path().join("nobody").display());
    let outlet = Outlet::open(&address, &SinkOptions { queue: 1000, ..SinkOptions::default() })?;
    let event = Event::new(EventKind::Alert, &json!({ "number": 0, "padding": "x".repeat(2000) }));
    let begun = Instant::now();
    for _ in 0..100_000 {
        outlet.hub.emit(&event);
    }
    eprintln!("{:.0} ns an event", begun.elapsed().as_nanos() as f64 / 1e5);
    outlet.wait_for("failing", |state| state.failure.is_some())?;
    let state = outlet.state();
    ensure!(state.queued == 100_000 && state.dropped >= 98_000 && state.delivered == 0, "{state:?}");
    ensure!(state.waiting + state.dropped == state.queued, "{state:?}");
    outlet.hub.stop();
    let state = outlet.state();
    ensure!(state.lost_at_stop + state.dropped == 100_000 && state.waiting == 0, "{state:?}");
    Ok(())
}

#[test]
fn a_wrong_address_ends_the_sensor_at_once_in_words_without_the_password() -> Result<()> {
    for (address, words) in [
        ("stdout nats://ann:hunter2@bus/a.*", "--sink, address 2: the prefix of NATS subjects must be"),
        ("ftp://ann:hunter2@host/", "--sink, address 1: there is no sink for ftp://"),
    ] {
        for by_variable in [false, true] {
            let mut command = Command::new(binary()?);
            command.args(["run", "-i", "lo", "--listen", "127.0.0.1:0"]);
            if by_variable {
                command.env("ML_IDS_SINKS", address);
            } else {
                command.args(["--sink", address]);
            }
            let output = command.output()?;
            let stderr = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.code() == Some(2) && stderr.contains(words), "{address}: {stderr}");
            ensure!(!stderr.contains("hunter2"), "{stderr}");
            let help = command.arg("--help").output()?;
            ensure!(!String::from_utf8_lossy(&help.stdout).contains("hunter2"), "the help shows the variable");
        }
    }
    Ok(())
}
