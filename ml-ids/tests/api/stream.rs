//! NDJSON as a stream: answered while it still comes, for as long as it comes, at a bounded price.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Connection, Server, request};

const FLOW: &str = r#"{"dst_port": 80}"#;
const LONG: &str = r#"{"flow_duration": 2000000}"#;
const SOON: Duration = Duration::from_millis(200);
const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";

/// A request whose body comes in chunks.
async fn begin(server: &Server) -> Connection {
    let mut connection = server.connect().await;
    let head = format!("POST /predict HTTP/1.1\r\nHost: test\r\n{NDJSON}Transfer-Encoding: chunked\r\n\r\n");
    connection.write(head).await;
    connection
}

async fn chunk(connection: &mut Connection, text: &str) {
    connection.write(format!("{:x}\r\n{text}\r\n", text.len())).await;
}

async fn streams(server: &Server) -> Value {
    server.get("/health").await.accepted()["queues"]["predict_streams"]["length"].clone()
}

async fn no_stream_is_left(server: &Server) {
    while streams(server).await != 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn each_line_is_answered_before_the_next_is_sent() {
    let server = Server::start().await;
    let mut connection = begin(&server).await;
    chunk(&mut connection, &format!("{FLOW}\n")).await;
    let head = connection.read_head().await;
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/x-ndjson")));
    assert_eq!(connection.read_line().await["label"], "BENIGN");
    for _ in 0..20 {
        chunk(&mut connection, &format!("{LONG}\n")).await;
        assert_eq!(connection.read_line().await["label"], "DoS Hulk");
    }
    chunk(&mut connection, "{\"dst_po").await;
    chunk(&mut connection, "rt\": 80}\nx\n").await;
    assert_eq!(connection.read_line().await["label"], "BENIGN");
    assert_eq!(connection.read_line().await["row"], 22);
    // The last line needs no end, and the connection serves on.
    chunk(&mut connection, LONG).await;
    connection.write("0\r\n\r\n").await;
    assert_eq!(connection.read_line().await["label"], "DoS Hulk");
    assert_eq!(connection.read_piece().await, None);
    connection.write(request("/predict", "", FLOW)).await;
    connection.read().await.accepted();
}

#[tokio::test]
async fn stream_may_be_longer_than_any_body_when_its_client_reads() {
    let server = Server::limited(|limits| {
        (limits.rows, limits.body_bytes, limits.body_bytes_total) = (2, 64 << 10, 128 << 10);
    })
    .await;
    let mut connection = begun(&server).await;
    for _ in 0..200 {
        chunk(&mut connection, &format!("{FLOW}\n").repeat(100)).await;
        for _ in 0..100 {
            assert_eq!(connection.read_line().await["label"], "BENIGN");
        }
    }
}

#[tokio::test]
async fn client_that_sends_all_before_it_reads_is_answered() {
    let server = Server::start().await;
    let mut connection = server.connect().await;
    let lines = 20_000;
    connection.write(request("/predict", NDJSON, format!("{FLOW}\n").repeat(lines))).await;
    let text = connection.read().await.text();
    assert_eq!(text.lines().count(), lines);
    assert!(text.lines().all(|line| line.contains("\"label\":\"BENIGN\"")));
}

#[tokio::test]
async fn client_that_reads_nothing_stops_the_scoring_and_is_cut_off() {
    let server = Server::limited(|limits| (limits.write_timeout, limits.body_bytes) = (SOON, 64 << 10)).await;
    let mut deaf = begin(&server).await;
    let flows = format!("{FLOW}\n").repeat(1024);
    let piece = format!("{:x}\r\n{flows}\r\n", flows.len());
    let mut sent = 0;
    while tokio::io::AsyncWriteExt::write_all(&mut deaf.stream, piece.as_bytes()).await.is_ok() {
        sent += 1024;
    }
    // What the buffers of two sockets hold of answers, and one window.
    let seen = server.model.seen.lock().unwrap().len();
    assert!(seen < 64 << 10, "{seen} of {sent} lines were scored for nobody");
    no_stream_is_left(&server).await;
    while server.refusals("unread").await != 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn fault_before_the_first_verdict_is_a_status() {
    let server = Server::limited(|limits| (limits.line_bytes, limits.body_timeout) = (100, SOON)).await;
    server.post_as("/predict", NDJSON, "\n\n").await.refused(422);
    server.post_as("/predict", NDJSON, "").await.refused(422);
    server.post_as("/predict", NDJSON, " ".repeat(200)).await.refused(413);
    let mut slow = begin(&server).await;
    chunk(&mut slow, "\n\n{").await;
    slow.read().await.refused(408);
    let mut broken = begin(&server).await;
    broken.write("xyz\r\n").await;
    broken.read().await.refused(400);
    server.state.set_predictor(std::sync::Arc::new(crate::support::Threshold::broken()));
    let mut connection = begin(&server).await;
    chunk(&mut connection, &format!("{FLOW}\n")).await;
    connection.read().await.refused(500);
    let server = Server::without_model(ml_ids::api::Limits::default(), false).await;
    server.post_as("/predict", NDJSON, FLOW).await.refused(503);
}

/// A stream of one line that was answered.
async fn begun(server: &Server) -> Connection {
    let mut connection = begin(server).await;
    chunk(&mut connection, &format!("{FLOW}\n")).await;
    assert_eq!(connection.read_head().await.status, 200);
    assert_eq!(connection.read_line().await["label"], "BENIGN");
    connection
}

#[tokio::test]
async fn fault_after_the_first_verdict_is_the_last_line() {
    let server = Server::limited(|limits| {
        (limits.line_bytes, limits.body_timeout, limits.stream_timeout) = (100, SOON, 2 * SOON);
    })
    .await;
    // Whole lines before the fault are judged; what broke off is not.
    for (sent, status) in [("{\"dst_port\"", 408), ("\n", 408), (&*"x".repeat(101), 413)] {
        let mut connection = begun(&server).await;
        chunk(&mut connection, &format!("{LONG}\n{sent}")).await;
        assert_eq!(connection.read_line().await["label"], "DoS Hulk");
        let last = connection.read_line().await;
        assert_eq!((&last["status"], &last["row"]), (&json!(status), &json!(2)), "{last}");
        assert!(last["detail"].is_string(), "{last}");
        assert_eq!(connection.read_piece().await, None);
        assert!(connection.is_closed().await);
    }
    let mut connection = begun(&server).await;
    connection.write("xyz\r\n").await;
    assert_eq!(connection.read_line().await["status"], 400);
    let mut connection = begun(&server).await;
    server.state.set_predictor(std::sync::Arc::new(crate::support::Threshold::broken()));
    chunk(&mut connection, &format!("{FLOW}\n")).await;
    let last = connection.read_line().await;
    assert_eq!((&last["status"], &last["row"]), (&json!(500), &json!(1)), "{last}");
    for reason in ["slow_body", "silent_body", "too_large", "broken", "model_failed"] {
        assert_eq!(server.refusals(reason).await, 1, "{reason}");
    }
    no_stream_is_left(&server).await;
}

#[tokio::test]
async fn streams_beyond_the_places_are_429_and_short_lists_of_lines_are_none() {
    let server = Server::limited(|limits| limits.streams = 1).await;
    let first = begun(&server).await;
    assert_eq!(streams(&server).await, 1);
    let mut second = begin(&server).await;
    chunk(&mut second, &format!("{FLOW}\n")).await;
    let refused = second.read().await;
    refused.refused(429);
    assert!(refused.header("retry-after").is_some());
    let answer = server.post_as("/predict", NDJSON, format!("{FLOW}\n{FLOW}")).await;
    assert_eq!((answer.status, answer.text().lines().count()), (200, 2));
    assert!(answer.header("content-length").is_some());
    // A client that leaves gives its place back.
    drop(first);
    no_stream_is_left(&server).await;
    begun(&server).await;
}

#[tokio::test]
async fn stream_takes_up_a_new_model() {
    let server = Server::start().await;
    let mut connection = begun(&server).await;
    let next = std::sync::Arc::<crate::support::Threshold>::default();
    server.state.set_predictor(next.clone());
    chunk(&mut connection, &format!("{FLOW}\n")).await;
    assert_eq!(connection.read_line().await["label"], "BENIGN");
    assert_eq!(next.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn shutdown_ends_a_stream_in_order() {
    let server = Server::start().await;
    let mut connection = begun(&server).await;
    server.stop.send_replace(true);
    let last = connection.read_line().await;
    assert_eq!((&last["status"], &last["row"]), (&json!(503), &json!(1)), "{last}");
    assert_eq!(connection.read_piece().await, None);
    assert!(connection.is_closed().await);
    server.task.await.unwrap();
}
