//! Clients that are slow, greedy, rude or many, and a shutdown in the middle of it.

use std::{sync::atomic::Ordering, time::Duration};

use crate::support::{Server, request};

const FLOW: &str = r#"{"dst_port": 80}"#;
const SOON: Duration = Duration::from_millis(200);

#[tokio::test]
async fn kept_alive_and_pipelined_requests_are_answered_in_order() {
    let server = Server::start().await;
    let mut connection = server.connect().await;
    for _ in 0..3 {
        connection.write(request("/predict", "", FLOW)).await;
        connection.read().await.accepted();
    }
    let wrong = request("/predict", "", "{}");
    connection.write([request("/predict", "", FLOW), wrong, request("/predict", "", FLOW)].concat()).await;
    let statuses = [connection.read().await.status, connection.read().await.status, connection.read().await.status];
    assert_eq!(statuses, [200, 422, 200]);
}

#[tokio::test]
async fn chunked_body_is_a_body() {
    let server = Server::start().await;
    let mut connection = server.connect().await;
    connection.write("POST /predict HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for piece in FLOW.as_bytes().chunks(5) {
        connection.write(format!("{:x}\r\n{}\r\n", piece.len(), std::str::from_utf8(piece).unwrap())).await;
        tokio::task::yield_now().await;
    }
    connection.write("0\r\n\r\n").await;
    connection.read().await.accepted();
    let broken = "POST /predict HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n";
    server.send(broken).await.refused(400);
}

#[tokio::test]
async fn body_over_the_limit_is_413_before_it_is_sent_and_while() {
    let server = Server::limited(|limits| limits.body_bytes = 1000).await;
    let announced =
        "POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: 9999999999\r\nExpect: 100-continue\r\n\r\n";
    server.send(announced).await.refused(413);
    // Far more than any socket buffer: the client reads the answer although it never got to send it all.
    server.post(vec![b' '; 4 << 20]).await.refused(413);
    let mut connection = server.connect().await;
    connection.write("POST /predict HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..3 {
        connection.write(format!("190\r\n{}\r\n", " ".repeat(0x190))).await;
    }
    connection.read().await.refused(413);
    let exact = format!("{FLOW}{}", " ".repeat(1000 - FLOW.len()));
    server.post(exact).await.accepted();
}

#[tokio::test]
async fn client_that_asks_first_is_told_to_continue() {
    let server = Server::start().await;
    let mut connection = server.connect().await;
    let head = format!(
        "POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        FLOW.len()
    );
    connection.write(head).await;
    assert_eq!(connection.read().await.status, 100);
    connection.write(FLOW).await;
    connection.read().await.accepted();
}

#[tokio::test]
async fn slow_body_is_408() {
    let server = Server::limited(|limits| limits.body_timeout = SOON).await;
    let mut connection = server.connect().await;
    connection.write("POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n{").await;
    let answer = connection.read().await;
    answer.refused(408);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn slow_headers_are_408_and_idle_connections_are_closed_quietly() {
    let server = Server::limited(|limits| limits.header_timeout = SOON).await;
    let mut slow = server.connect().await;
    slow.write("POST /predict HTTP/1.1\r\nHost: te").await;
    slow.read().await.refused(408);
    assert!(slow.is_closed().await);
    assert_eq!(server.refusals("slow_head").await, 1);
    assert!(server.connect().await.is_closed().await);
}

#[tokio::test]
async fn greedy_headers_are_refused() {
    let server = Server::start().await;
    let long = format!("GET / HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    server.send(long).await.refused(431);
    let many = format!("GET / HTTP/1.1\r\nHost: test\r\n{}\r\n", "X: y\r\n".repeat(200));
    server.send(many).await.refused(431);
    server.send("\x16\x03\x01\x02\x00 not http\r\n\r\n").await.refused(400);
    while server.refusals("bad_head").await != 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn deep_nesting_neither_crashes_nor_is_loaded() {
    let server = Server::start().await;
    for key in ["foo", "features", "flows", "data", "columns", "flow_duration", "src_ip"] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let depth = 500_000;
            let bomb = format!("{{\"{key}\": {}1{}}}", open.repeat(depth), close.repeat(depth));
            let answer = server.post(bomb).await;
            assert!([400, 422].contains(&answer.status), "{key} {open}: {}", answer.text());
        }
    }
    server.post(FLOW).await.accepted();
}

#[tokio::test]
async fn long_words_of_a_client_are_cut_in_what_it_gets_back() {
    let server = Server::start().await;
    let path = format!("/{}", "é".repeat(3000).replace('é', "%C3%A9"));
    // Within the head limit, far beyond what an error repeats.
    assert!(server.get(&path[..9000]).await.refused(404).len() < 300);
    let body = format!(r#"{{"columns": ["dst_port", "{}"], "data": [[1]]}}"#, "ü".repeat(100_000));
    assert!(server.post(body).await.refused(422).len() < 300);
}

#[tokio::test]
async fn requests_beyond_the_places_are_429_and_the_rest_is_answered() {
    let server = Server::limited(|limits| (limits.quick_in_flight, limits.quick_workers) = (2, 1)).await;
    server.model.shut();
    let mut waiting = Vec::new();
    for number in 1..=2 {
        let mut connection = server.connect().await;
        connection.write(request("/predict", "", FLOW)).await;
        waiting.push(connection);
        while server.get("/health").await.accepted()["queues"]["predict_quick"]["length"] != number {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let refused = server.post(FLOW).await;
    refused.refused(429);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(server.get("/health").await.accepted()["queues"]["predict_quick"]["refused"], 1);
    server.model.open();
    for mut connection in waiting {
        connection.read().await.accepted();
    }
    server.post(FLOW).await.accepted();
}

#[tokio::test]
async fn bulk_requests_do_not_stand_in_the_way_of_single_flows() {
    let server = Server::limited(|limits| (limits.quick_bytes, limits.bulk_in_flight) = (100, 1)).await;
    server.model.shut();
    let bulk = || request("/predict", "", format!("{FLOW}{}", " ".repeat(200)));
    let mut batch = server.connect().await;
    batch.write(bulk()).await;
    while server.get("/health").await.accepted()["queues"]["predict_bulk"]["length"] != 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.send(bulk()).await.refused(429);
    let mut single = server.connect().await;
    single.write(request("/predict", "", FLOW)).await;
    while server.get("/health").await.accepted()["queues"]["predict_quick"]["length"] != 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.model.open();
    single.read().await.accepted();
    batch.read().await.accepted();
}

#[tokio::test]
async fn bodies_beyond_the_memory_for_all_of_them_are_429() {
    let server = Server::limited(|limits| limits.body_bytes_total = 4096).await;
    server.post(" ".repeat(5000)).await.refused(429);
    server.post(FLOW).await.accepted();
    // What the first one had taken was given back.
    server.post(format!("{FLOW}{}", " ".repeat(4000))).await.accepted();
}

#[tokio::test]
async fn newcomers_get_the_places_of_clients_that_keep_the_server_waiting() {
    let server = Server::limited(|limits| (limits.connections, limits.patience) = (3, SOON)).await;
    let mut slow = Vec::new();
    for beginning in ["", "GET /health HTTP/1.1\r\nHost: te", "POST /predict HTTP/1.1\r\nContent-Length: 99\r\n\r\n{"] {
        let mut connection = server.connect().await;
        connection.write(beginning).await;
        slow.push(connection);
    }
    let mut served = Vec::new();
    for cut in 1..=slow.len() {
        let mut newcomer = server.connect().await;
        newcomer.write("GET /health HTTP/1.1\r\nHost: test\r\n\r\n").await;
        let health = newcomer.read().await.accepted();
        assert_eq!(health["queues"]["connections"]["refused"], cut);
        served.push(newcomer);
    }
    for mut connection in slow {
        assert!(connection.is_closed().await);
    }
    // Those that have been served are waited for, too, but not for so long.
    for mut connection in served {
        connection.write("GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n").await;
        connection.read().await.accepted();
    }
}

#[tokio::test]
async fn a_request_that_is_worked_on_keeps_its_place() {
    let server = Server::limited(|limits| (limits.connections, limits.patience) = (1, Duration::ZERO)).await;
    server.model.shut();
    let mut worked_on = server.connect().await;
    worked_on.write(request("/predict", "", FLOW)).await;
    while server.model.asked.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut newcomer = server.connect().await;
    newcomer.write("GET /health HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(tokio::time::timeout(SOON, newcomer.read()).await.is_err(), "answered beside the limit");
    server.model.open();
    worked_on.read().await.accepted();
    newcomer.read().await.accepted();
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let server = Server::limited(|limits| (limits.connections, limits.patience) = (1, Duration::from_secs(3600))).await;
    let mut first = server.connect().await;
    first.write(request("/predict", "", FLOW)).await;
    first.read().await.accepted();
    let mut second = server.connect().await;
    second.write(request("/predict", "", FLOW)).await;
    let waited = tokio::time::timeout(SOON, second.read()).await;
    assert!(waited.is_err(), "answered beside the limit");
    drop(first);
    second.read().await.accepted();
}

#[tokio::test]
async fn client_that_closes_its_side_still_gets_its_answer() {
    let server = Server::start().await;
    let mut connection = server.connect().await;
    connection.write(request("/predict", "", FLOW)).await;
    tokio::io::AsyncWriteExt::shutdown(&mut connection.stream).await.unwrap();
    connection.read().await.accepted();
}

#[tokio::test]
async fn client_that_reads_nothing_is_cut_off() {
    let server = Server::limited(|limits| limits.write_timeout = SOON).await;
    let mut deaf = server.connect().await;
    let batch = format!(r#"{{"flows": [{}{FLOW}]}}"#, format!("{FLOW},").repeat(9_999));
    deaf.write(request("/predict", "", batch)).await;
    while server.get("/health").await.accepted()["queues"]["connections"]["length"] != 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn shutdown_finishes_what_has_begun_and_refuses_what_comes() {
    let server = Server::start().await;
    let mut idle = server.connect().await;
    idle.write(request("/predict", "", FLOW)).await;
    idle.read().await.accepted();
    server.model.shut();
    let mut busy = server.connect().await;
    busy.write(request("/predict", "", FLOW)).await;
    while server.get("/health").await.accepted()["queues"]["predict_quick"]["length"] != 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.stop.send_replace(true);
    assert!(idle.is_closed().await, "idle connections end at once");
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
    assert!(!server.task.is_finished());
    server.model.open();
    busy.read().await.accepted();
    server.task.await.unwrap();
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let server = Server::limited(|limits| limits.drain_timeout = SOON).await;
    let mut slow = server.connect().await;
    slow.write("POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n{").await;
    while server.get("/health").await.accepted()["queues"]["connections"]["length"] != 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.stop.send_replace(true);
    server.task.await.unwrap();
    assert!(slow.is_closed().await);
}
