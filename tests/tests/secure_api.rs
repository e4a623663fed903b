//! Tokens and TLS as clients meet them: curl and Python's ssl module against `ml-ids serve`, certificates made by openssl.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    agent::{Answer, Ended, LIMIT, Scratch, Server, give, ml_ids, run},
    fixture,
    lab::wait_until,
};
use serde_json::Value;

const OLD: &str = "old-token-0123456789abcdef";
const NEW: &str = "new-token-0123456789abcdef";

/// A certificate for this host and its key, valid for two days; the names begin with `name`.
fn certificate(scratch: &Scratch, name: &str, kind: &[&str]) -> Result<(String, String)> {
    let (certificate, key) = (scratch.path(&format!("{name}.pem")), scratch.path(&format!("{name}.key")));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-nodes", "-days", "2", "-subj"]).arg(format!("/CN={name}"));
    openssl.args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-newkey"]).args(kind);
    openssl.args(["-keyout", &key, "-out", &certificate]);
    run(&mut openssl, b"", LIMIT)?.expect(0)?;
    give(&key)?;
    Ok((certificate, key))
}

const EC: [&str; 3] = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const RSA: [&str; 1] = ["rsa:2048"];

fn curl(arguments: &[&str]) -> Result<Ended> {
    run(Command::new("curl").args(["-sS", "--max-time", "10"]).args(arguments), b"", LIMIT)
}

fn get(server: &Server, path: &str, token: Option<&str>) -> Result<Answer> {
    let authorization = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
    server.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{authorization}\r\n").as_bytes())
}

fn tokens(scratch: &Scratch, lines: &[&str]) -> Result<String> {
    let file = scratch.file("tokens", lines.join("\n") + "\n")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    give(&file)?;
    Ok(file)
}

#[test]
fn with_tokens_only_the_probes_are_open_and_nothing_else_tells_what_there_is() -> Result<()> {
    let scratch = Scratch::new("tokens")?;
    let server = Server::ready(&["--token-file", &tokens(&scratch, &[OLD])?])?;
    for path in ["/health/live", "/health/ready"] {
        get(&server, path, None)?.expect(200)?;
    }
    for path in ["/", "/health", "/health/", "/health/live/", "/model", "/metrics", "/flows", "/nothing"] {
        for token in [None, Some(""), Some("x"), Some(NEW), Some(&OLD[1..]), Some(&OLD[..OLD.len() - 1])] {
            let answer = get(&server, path, token)?;
            let detail = answer.expect(401).with_context(|| format!("{path}, {token:?}"))?;
            ensure!(detail["detail"].is_string() && answer.head.contains("www-authenticate: bearer\r\n"), "{answer:?}");
        }
    }
    let flow = br#"{"Flow Duration": 1}"#;
    server.post("/predict", "content-type: application/json\r\n", flow)?.expect(401)?;
    server.post("/model/reload", "", b"")?.expect(401)?;
    let with_token = format!("content-type: application/json\r\nauthorization: bearer {OLD}\r\n");
    server.post("/predict", &with_token, flow)?.expect(200)?;
    let health = get(&server, "/health", Some(OLD))?.expect(200)?;
    ensure!(health["access"]["token"] == true && health["access"]["unauthorized"].as_u64() >= Some(50), "{health}");
    ensure!(get(&server, "/nothing", Some(OLD))?.status == 404, "a token does not open what is not there");
    let log = server.log();
    ensure!(!log.contains(OLD) && !log.contains("open to every user"), "{log}");
    server.stop()
}

#[test]
fn tokens_are_changed_by_a_hangup_and_a_broken_file_leaves_them_as_they_are() -> Result<()> {
    let scratch = Scratch::new("rotation")?;
    let file = tokens(&scratch, &[OLD])?;
    let server = Server::ready(&["--token-file", &file])?;
    let becomes = |token: &str, status: u16| {
        wait_until(LIMIT, || get(&server, "/model", Some(token)).is_ok_and(|answer| answer.status == status))
            .with_context(|| format!("not {status}: {}", server.log()))
    };
    becomes(NEW, 401)?;
    tokens(&scratch, &[OLD, NEW])?;
    server.signal(libc::SIGHUP)?;
    becomes(NEW, 200)?;
    becomes(OLD, 200)?;
    tokens(&scratch, &[NEW])?;
    server.signal(libc::SIGHUP)?;
    becomes(OLD, 401)?;
    fs::write(&file, "\n")?;
    server.signal(libc::SIGHUP)?;
    let degraded = || get(&server, "/health", Some(NEW)).is_ok_and(|answer| answer.body.contains("holds no token"));
    wait_until(LIMIT, degraded).with_context(|| format!("the broken file is not shown: {}", server.log()))?;
    tokens(&scratch, &[NEW])?;
    server.signal(libc::SIGHUP)?;
    wait_until(LIMIT, || !degraded()).context("a file that is whole again is still shown as broken")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    server.signal(libc::SIGHUP)?;
    wait_until(LIMIT, || server.log().contains("open to every user")).context("nobody is warned")?;
    ensure!(!server.log().contains(NEW), "a token is in the log");
    server.stop()
}

#[test]
fn other_hosts_are_let_in_with_tokens_and_warned_of_without_tls() -> Result<()> {
    let scratch = Scratch::new("exposed")?;
    let file = tokens(&scratch, &[OLD])?;
    let (certificate, key) = certificate(&scratch, "exposed", &EC)?;
    let refused = ml_ids(&["serve", "--listen", "0.0.0.0:0", "--tls-cert", &certificate, "--tls-key", &key], b"")?;
    ensure!(refused.expect(2)?.stderr.contains("--token-file"), "TLS alone proves nothing of the client");
    for (tls, warned) in [(&[][..], true), (&["--tls-cert", &certificate, "--tls-key", &key][..], false)] {
        // The last --listen counts. Nobody else is asked to come: the port is not known.
        let server = Server::start(&[&["--token-file", &file], tls].concat())?;
        ensure!(!server.log().contains("IN THE CLEAR"), "loopback is no network: {}", server.log());
        server.stop()?;
        let mut exposed = Command::new(ml_ids_tests::binary()?);
        exposed.args(["serve", "--listen", "0.0.0.0:0", "--token-file", &file]).args(tls);
        let mut exposed = Ending(exposed.stderr(Stdio::piped()).stdin(Stdio::null()).spawn()?);
        let mut log = String::new();
        for line in BufReader::new(exposed.0.stderr.take().context("no standard error")?).lines() {
            log += &(line? + "\n");
            if log.contains("listening on") {
                break;
            }
        }
        ensure!(log.contains("IN THE CLEAR") == warned, "{tls:?}: {log}");
    }
    Ok(())
}

/// A process that ends with the value.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // Nothing to do about it if it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn curl_speaks_both_versions_of_tls_and_nothing_older_or_unencrypted() -> Result<()> {
    let scratch = Scratch::new("tls")?;
    let file = tokens(&scratch, &[OLD])?;
    for kind in [&EC[..], &RSA] {
        let (certificate, key) = certificate(&scratch, "server", kind)?;
        let server = Server::start(&["--token-file", &file, "--tls-cert", &certificate, "--tls-key", &key])?;
        ensure!(server.log().contains("listening on https://"), "{}", server.log());
        let url = |path: &str| format!("https://{}{path}", server.address);
        let trusting = ["--cacert", &certificate];
        wait_until(LIMIT, || {
            curl(&[&trusting[..], &["-f", &url("/health/ready")]].concat()).is_ok_and(|ended| ended.code == Some(0))
        })
        .with_context(|| format!("not ready: {}", server.log()))?;
        let bearer = format!("authorization: Bearer {OLD}");
        for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
            let call = [
                &trusting[..],
                version,
                &["-w", "\n%{http_version} %{http_code}", "-H", &bearer, "-d", r#"{"Flow Duration": 1}"#],
            ];
            let ended =
                curl(&[&call.concat()[..], &["-H", "content-type: application/json", &url("/predict")]].concat())?;
            ensure!(ended.clone().expect(0)?.text()?.ends_with("\n1.1 200"), "{version:?}: {ended:?}");
        }
        // Large in both directions: many records of TLS.
        let rows = serde_json::json!({ "features": vec![vec![1; 78]; 5_000] }).to_string();
        let rows = format!("@{}", scratch.file("rows.json", rows)?);
        let call = ["-H", &bearer, "-H", "content-type: application/json", "-d", &rows, &url("/predict")];
        let answer = curl(&[&trusting[..], &call].concat())?.expect(0)?;
        let answer: Value = serde_json::from_slice(&answer.stdout)?;
        ensure!(answer["results"].as_array().map(Vec::len) == Some(5_000), "a large answer is cut");
        // A client that trusts somebody else, one that speaks HTTP/2 only, one without encryption.
        ensure!(curl(&[&url("/health/live")])?.code == Some(60), "an unknown certificate is trusted");
        let address = server.address.to_string();
        let mut other = Command::new("openssl");
        other.args(["s_client", "-connect", &address, "-alpn", "h2", "-CAfile", &certificate]);
        ensure!(run(&mut other, b"", LIMIT)?.code != Some(0), "HTTP/2 is agreed on");
        let old = ["--tlsv1.0", "--tls-max", "1.1", &url("/health/live")];
        ensure!(curl(&[&trusting[..], &old].concat())?.code != Some(0), "TLS 1.1 is spoken");
        ensure!(curl(&[&url("/health/live").replace("https", "http")])?.code != Some(0), "answered in the clear");
        let health = curl(&[&trusting[..], &["-H", &bearer, &url("/health")]].concat())?.expect(0)?;
        let health: Value = serde_json::from_slice(&health.stdout)?;
        ensure!(
            health["access"]["tls"] == true && health["access"]["handshakes_failed"].as_u64() >= Some(2),
            "{health}"
        );
        server.stop()?;
    }
    Ok(())
}

/// Python's ssl module: it holds a connection over the change, and opens another after it.
#[test]
fn a_new_certificate_is_served_after_a_hangup_and_no_connection_is_dropped() -> Result<()> {
    let scratch = Scratch::new("renewal")?;
    let (certificate, key) = certificate(&scratch, "live", &EC)?;
    let (next_certificate, next_key) = self::certificate(&scratch, "next", &RSA)?;
    let both = scratch.file("both.pem", [fs::read(&certificate)?, fs::read(&next_certificate)?].concat())?;
    let server = Server::start(&["--tls-cert", &certificate, "--tls-key", &key])?;
    let mut client = Command::new("python3");
    client.arg(fixture("tls_client.py")).args([&server.address.port().to_string(), &both]);
    let mut client = Ending(client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
    let mut input = client.0.stdin.take().context("no standard input")?;
    let mut lines = BufReader::new(client.0.stdout.take().context("no standard output")?).lines();
    let mut said = || lines.next().context("the client ended").and_then(|line| Ok(line?));
    let held = said()?;
    ensure!(held.starts_with("held 200 TLSv1.3 http/1.1 "), "{held}");

    // A key that is not the certificate's changes nothing.
    fs::copy(&next_certificate, &certificate)?;
    server.signal(libc::SIGHUP)?;
    wait_until(LIMIT, || server.log().contains("is not that of the first certificate")).context("no complaint")?;
    writeln!(input, "again")?;
    let (again, other) = (said()?, said()?);
    ensure!(
        again.replace("again", "held") == held && other.replace("other", "held") == held,
        "{held}\n{again}\n{other}"
    );

    fs::copy(&next_key, &key)?;
    server.signal(libc::SIGHUP)?;
    wait_until(LIMIT, || server.log().contains("certificate and key are read again")).context("not read again")?;
    writeln!(input, "again")?;
    let (again, other) = (said()?, said()?);
    ensure!(again.replace("again", "held") == held, "the connection that was there: {held}\n{again}");
    ensure!(other.starts_with("other 200 ") && other.replace("other", "held") != held, "a new one: {held}\n{other}");
    ensure!(!server.log().contains("PRIVATE"), "{}", server.log());
    server.stop()
}

#[test]
fn files_that_do_not_fit_are_refused_at_the_start_in_words_without_secrets() -> Result<()> {
    let scratch = Scratch::new("misfits")?;
    let (certificate, key) = certificate(&scratch, "one", &EC)?;
    let (_, other_key) = self::certificate(&scratch, "two", &EC)?;
    let secret = fs::read_to_string(&key)?;
    let secret = secret.lines().nth(1).context("a key of more than a line")?;
    let locked = scratch.path("locked.key");
    let lock = ["pkcs8", "-topk8", "-v2", "aes128", "-passout", "pass:x", "-in", &key, "-out", &locked];
    run(Command::new("openssl").args(lock), b"", LIMIT)?.expect(0)?;
    let cut = fs::read_to_string(&key)?;
    let cut = scratch.file("cut.key", &cut[..cut.len() / 2])?;
    let missing = scratch.path("missing");
    for (cert, private, words) in [
        (&certificate, &other_key, "is not that of the first certificate"),
        (&certificate, &missing, "cannot be read"),
        (&missing, &key, "cannot be read"),
        (&certificate, &certificate, "holds no private key"),
        (&key, &key, "holds no certificate"),
        (&certificate, &locked, "passphrase"),
        (&certificate, &cut, "breaks off"),
    ] {
        let ended = ml_ids(&["serve", "--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", private], b"")?;
        let ended = ended.expect(3).with_context(|| words.to_owned())?;
        ensure!(ended.stderr.contains(words) && !ended.stderr.contains(secret), "{words}: {}", ended.stderr);
    }
    ml_ids(&["serve", "--listen", "127.0.0.1:0", "--tls-cert", &certificate], b"")?.expect(2)?;
    for (name, text, words) in [("empty", " \n", "holds no token"), ("blanks", "geheim wort\n", "line 1")] {
        let file = scratch.file(name, text)?;
        let ended = ml_ids(&["serve", "--listen", "127.0.0.1:0", "--token-file", &file], b"")?.expect(3)?;
        ensure!(ended.stderr.contains(words) && !ended.stderr.contains("geheim"), "{}", ended.stderr);
    }
    ml_ids(&["serve", "--listen", "127.0.0.1:0", "--token-file", &missing], b"")?.expect(3)?;
    Ok(())
}
