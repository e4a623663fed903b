//! Servers that models come from, when they hang or talk nonsense: real connections to this host, whose other end answers
//! with whatever bytes a test wants, or accepts and says nothing.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{agent, default_model, lab::wait_until};
use serde_json::json;

use super::LIMIT;

/// What is answered to each request; `None`: nothing, and the connection stays open.
type Answer = Option<Arc<[u8]>>;

/// The other end.
struct Other {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
}

impl Other {
    fn start(answer: Answer) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, answer) = (listener.local_addr()?, Arc::new(Mutex::new(answer)));
        let shared = Arc::clone(&answer);
        // Ends with the test's process, as do its connections.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let answer = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // Whoever asks may go before it has everything.
                thread::spawn(move || drop(reply(stream, answer)));
            }
        });
        Ok(Self { address, answer })
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn reply(mut stream: TcpStream, answer: Answer) -> std::io::Result<()> {
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            read => request.extend_from_slice(piece.get(..read).unwrap_or_default()),
        }
    }
    match answer {
        Some(bytes) => stream.write_all(&bytes),
        // Until the client gives up.
        None => stream.read(&mut piece).map(drop),
    }
}

fn bytes(parts: &[&[u8]]) -> Answer {
    Some(parts.concat().into())
}

/// A well-formed answer with this body.
fn ok(body: &[u8]) -> Answer {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    bytes(&[head.as_bytes(), body])
}

/// Starts `ml-ids serve` with a model in a bucket of the other end, which has to have it at that time.
fn serve(other: &Other) -> Result<agent::Server> {
    let url = other.url();
    let server = agent::Server::start(&["--model", "s3://bucket/m.onnx", "--s3-endpoint", &url, "--no-model-cache"])?;
    let ready = || server.get("/health/ready").is_ok_and(|answer| answer.status == 200);
    wait_until(LIMIT, ready).with_context(|| server.log())?;
    Ok(server)
}

/// It judges as before.
fn judges(server: &agent::Server) -> Result<()> {
    let body = server.predict(&json!({ "Flow Duration": 4987, "Total Fwd Packets": 12 }))?.expect(200)?;
    ensure!(body["prediction"].is_array() || body["prediction"].is_number(), "{body}");
    Ok(())
}

#[test]
fn whatever_an_s3_service_answers_the_model_stays_and_the_reason_is_said() -> Result<()> {
    let model = fs::read(default_model())?;
    let other = Other::start(ok(&model))?;
    let server = serve(&other)?;
    judges(&server)?;
    let endless = b"x".repeat(1 << 20);
    let half = model.get(..model.len() / 2).context("an empty model")?;
    let head = |fields: &str| format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{fields}\r\n\r\n").into_bytes();
    let cases: &[(&str, Answer, &str)] = &[
        ("bytes that are no HTTP", bytes(&[b"\x00\xff\x13\x37garbage\r\n\r\n"]), "cannot be reached"),
        ("nothing", bytes(&[]), "cannot be reached"),
        ("a head without end", bytes(&[b"HTTP/1.1 200 OK\r\nx: ", &endless]), "cannot be reached"),
        ("a length that is none", bytes(&[&head("content-length: many"), b"x"]), "cannot be reached"),
        ("less than announced", bytes(&[&head("content-length: 1000"), b"half"]), "broke off"),
        ("more than anybody has", bytes(&[&head("content-length: 99999999999999")]), "larger than the limit"),
        ("chunks that are none", bytes(&[&head("transfer-encoding: chunked"), b"zz\r\nxx\r\n"]), "broke off"),
        ("a page", bytes(&[&head("content-type: text/html\r\ncontent-length: 6"), b"<html>"]), "a web page"),
        (
            "a fault in XML",
            bytes(&[b"HTTP/1.1 503 Slow\r\nconnection: close\r\n\r\n<Error><Code>SlowDown</Code></Error>"]),
            "503: SlowDown",
        ),
        (
            "a way in circles",
            bytes(&[b"HTTP/1.1 302 Go\r\nlocation: /bucket/m.onnx\r\ncontent-length: 0\r\n\r\n"]),
            "one redirect too many",
        ),
        ("an empty object", ok(b""), "refused"),
        ("an object that is no model", ok(&endless), "refused"),
        ("half a model", ok(half), "refused"),
    ];
    for (what, answer, words) in cases {
        other.answers(answer.clone());
        let reload = server.post("/model/reload", "", b"").with_context(|| format!("{what}: no answer"))?;
        ensure!(reload.status >= 400 && reload.status != 500, "{what}: {} {}", reload.status, reload.body);
        let kept = server.get("/model")?.expect(200)?;
        let said = kept["refresh"].to_string() + &reload.body;
        ensure!(said.contains(words), "{what}: `{words}` is not in {said}");
        judges(&server).with_context(|| what.to_string())?;
        let health = server.get("/health")?.expect(200)?;
        ensure!(health["status"] == "degraded", "{what}: {health}");
    }
    other.answers(ok(&model));
    server.post("/model/reload", "", b"")?.expect(200)?;
    let health = server.get("/health")?.expect(200)?;
    ensure!(health["status"] == "healthy", "{health}");
    server.stop()
}

#[test]
fn a_registry_that_hangs_at_the_start_is_given_up_in_words() -> Result<()> {
    let other = Other::start(None)?;
    let url = other.url();
    let arguments = ["--model", "mlflow:ids@prod", "--mlflow-tracking-uri", &url, "--no-model-cache"];
    let mut server = agent::Server::start(&arguments)?;
    // Meanwhile it says how it is.
    ensure!(server.get("/health/live")?.status == 200, "not alive: {}", server.log());
    ensure!(server.get("/health/ready")?.status == 503, "ready without a model: {}", server.log());
    wait_until(LIMIT, || server.log().contains("does not answer in time")).with_context(|| server.log())?;
    let code = server.wait()?;
    ensure!(code == Some(3) && !server.log().contains("panicked"), "{code:?}: {}", server.log());
    Ok(())
}

#[test]
fn a_start_that_waits_for_a_registry_ends_when_it_is_told_to() -> Result<()> {
    let other = Other::start(None)?;
    let url = other.url();
    let server = agent::Server::start(&["--model", "mlflow:ids@prod", "--mlflow-tracking-uri", &url])?;
    ensure!(server.get("/health/ready")?.status == 503, "ready without a model: {}", server.log());
    server.stop()
}

#[test]
fn a_source_that_hangs_later_keeps_nobody_waiting_but_who_asked_for_it() -> Result<()> {
    let other = Other::start(ok(&fs::read(default_model())?))?;
    let server = serve(&other)?;
    other.answers(None);
    thread::scope(|scope| {
        let reload = scope.spawn(|| {
            let mut stream = TcpStream::connect(server.address)?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.write_all(
                b"POST /model/reload HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            anyhow::Ok(answer)
        });
        let mut meanwhile = 0;
        while !reload.is_finished() {
            judges(&server)?;
            // The first of the two may come before the other's request is read.
            let second = server.get("/health")?;
            ensure!(second.status == 200, "{second:?}");
            meanwhile += 1;
            thread::sleep(Duration::from_millis(100));
        }
        let answer = reload.join().ok().context("the one who asked panicked")??;
        ensure!(answer.starts_with("HTTP/1.1 502") && answer.contains("does not answer in time"), "{answer}");
        ensure!(meanwhile > 10, "only {meanwhile} answers meanwhile: it did not hang");
        let health = server.get("/health")?.expect(200)?;
        ensure!(health["status"] == "degraded" && health["reasons"].to_string().contains("is away"), "{health}");
        anyhow::Ok(())
    })?;
    server.stop()
}
