//! What `cargo xtask bench api` sets `/predict` beside: a server that parses the same JSON and does nothing with it, and the
//! clients of both.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime,
    task::JoinSet,
};

use super::{speed, wiring::shutdown_signal};
use crate::features::FEATURES;

/// Different flows that the clients send.
const FLOWS: usize = 64;
/// Part of the time that is not measured, at the start: connections are being made, caches are cold.
const WARM_UP: u32 = 5;

/// What the clients saw.
pub(super) struct Seen {
    /// Answers a second.
    pub(super) rate: f64,
    /// Time from a request to its answer that half of them stayed below.
    pub(super) median: Duration,
    /// The same for 99 of 100.
    pub(super) p99: Duration,
}

/// Serves until SIGTERM: every body is parsed, every answer is the same. The runtime is that of `ml-ids serve`.
pub(super) fn bare() -> Result<()> {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut shutdown = shutdown_signal()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        log::info!("listening on http://{}", listener.local_addr()?);
        loop {
            let (stream, _) = tokio::select! {
                accepted = listener.accept() => accepted?,
                _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
            };
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let mut server = http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
                // A client that is gone has all that it wanted.
                let _ = server.serve_connection(TokioIo::new(stream), service_fn(parse)).await;
            });
        }
    })
}

async fn parse(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    let parsed = body.is_ok_and(|body| serde_json::from_slice::<Value>(&body).is_ok());
    let status = if parsed { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let mut response = Response::new(Full::from(r#"{"prediction":[0]}"#));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Posts single flows to `/predict` from so many kept-alive connections at once, on one thread.
///
/// # Errors
/// When a connection breaks or an answer is other than 200.
pub(super) fn clients(address: SocketAddr, count: usize, time: Duration) -> Result<Seen> {
    let requests: Arc<[Vec<u8>]> = requests().into();
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let begun = Instant::now();
    let (measured_from, end) = (begun + time / WARM_UP, begun + time);
    let mut times = runtime.block_on(async {
        let mut clients = JoinSet::new();
        for number in 0..count {
            let requests = Arc::clone(&requests);
            clients.spawn(async move { client(address, &requests, number, measured_from, end).await });
        }
        let mut times = Vec::new();
        while let Some(client) = clients.join_next().await {
            times.extend(client??);
        }
        anyhow::Ok(times)
    })?;
    ensure!(times.len() >= 100, "only {} answers within {time:?}", times.len());
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    let rate = times.len() as f64 / (end - measured_from).as_secs_f64();
    Ok(Seen { rate, median: at(50), p99: at(99) })
}

/// One client. Returns how long each answer within the measured time took.
async fn client(
    address: SocketAddr,
    requests: &[Vec<u8>],
    mut number: usize,
    measured_from: Instant,
    end: Instant,
) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    let (mut times, mut answer) = (Vec::new(), Vec::with_capacity(16 << 10));
    loop {
        let begun = Instant::now();
        if begun >= end {
            return Ok(times);
        }
        number += 1;
        let request = requests.get(number % requests.len()).context("no requests")?;
        stream.write_all(request).await?;
        answer.clear();
        while !whole(&answer)? {
            ensure!(stream.read_buf(&mut answer).await? > 0, "the server closed a connection");
        }
        if begun >= measured_from {
            times.push(begun.elapsed());
        }
    }
}

/// Whether the answer is all there. Anything but 200 is an error.
fn whole(answer: &[u8]) -> Result<bool> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
    let head = std::str::from_utf8(answer.get(..end).unwrap_or_default())?;
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("the server answered: {}", String::from_utf8_lossy(answer));
    }
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("an answer without a length")?;
    Ok(answer.len() >= end + 4 + length.parse::<usize>()?)
}

/// Whole requests, a flow of all features each.
fn requests() -> Vec<Vec<u8>> {
    let request = |row: &crate::features::FeatureVector| {
        let flow: Map<String, Value> =
            FEATURES.iter().zip(row).map(|(feature, value)| (feature.name.to_owned(), Value::from(*value))).collect();
        let body = Value::Object(flow).to_string();
        let head = "POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length:";
        format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    speed::rows(FLOWS).iter().map(request).collect()
}
