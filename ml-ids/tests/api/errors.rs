//! Every refusal: its status, and that it names what is wrong.

use ml_ids::api::Limits;
use serde_json::json;

use crate::support::{Server, Threshold};

#[tokio::test]
async fn what_is_not_json_is_400() {
    let server = Server::start().await;
    let bodies: [&[u8]; 9] = [
        b"",
        b"  \n",
        b"{",
        b"flow_duration=1",
        b"{\"a\": 1,}",
        b"{\"dst_port\": 80} x",
        b"{\"dst_port\": 1}\n{\"dst_port\": 2}",
        b"{\"dst_port\xff\": 80}",
        b"{\"a\": \"\\ud800\", \"dst_port\": 1",
    ];
    for body in bodies {
        server.post(body).await.refused(400);
    }
    let detail = server.post("{\"dst_port\": 1}\n{\"dst_port\": 2}").await.refused(400);
    assert!(detail.contains("ndjson"), "{detail}");
}

#[tokio::test]
async fn json_without_flows_is_422() {
    let server = Server::start().await;
    for body in [
        "{}",
        "[]",
        "1",
        "null",
        "\"x\"",
        r#"{"foo": 1}"#,
        r#"{"src_ip": "1.2.3.4"}"#,
        r#"{"features": {}}"#,
        r#"{"features": []}"#,
        r#"{"features": [[]]}"#,
        r#"{"features": 3}"#,
        r#"{"features": null}"#,
        r#"{"features": [{"dst_port": 1}]}"#,
        r#"{"flows": []}"#,
        r#"{"flows": {}}"#,
        r#"{"flows": [1]}"#,
        r#"{"flows": [{"foo": 1}]}"#,
        r#"{"columns": ["dst_port"]}"#,
        r#"{"data": [[1]]}"#,
        r#"{"columns": ["dst_port"], "data": []}"#,
        r#"{"columns": ["dst_port"], "data": [[1, 2]]}"#,
        r#"{"columns": [1], "data": [[1]]}"#,
        r#"{"features": [1], "features": [1]}"#,
        r#"{"flows": [{"dst_port": 1}], "columns": ["dst_port"], "data": [[1]]}"#,
    ] {
        let answer = server.post(body).await;
        assert_eq!(answer.status, 422, "{body}: {}", answer.text());
        answer.refused(422);
    }
}

#[tokio::test]
async fn wrong_length_is_422_and_says_which() {
    let server = Server::start().await;
    for count in [1, 75, 77, 79, 5000] {
        server.post(json!({"features": vec![1; count]}).to_string()).await.refused(422);
    }
    let answer = server.post(json!({"features": [vec![1; 78], vec![1; 77]]}).to_string()).await;
    let detail = answer.refused(422);
    assert!(detail.contains("row 1") && detail.contains("77"), "{detail}");
    assert_eq!(answer.json()["row"], 1);
}

#[tokio::test]
async fn what_is_no_number_is_422_and_names_field_and_row() {
    let server = Server::start().await;
    for value in [
        "true",
        "\"1\"",
        "null",
        "[1]",
        "{}",
        "1e999",
        "-1e999",
        "1e300",
        "NaN",
        "Infinity",
        "-Infinity",
        "[[[[[[[[[[[[",
    ] {
        let flat = server.post(format!(r#"{{"dst_port": 1, "flow_duration": {value}}}"#)).await;
        let detail = flat.refused(422);
        assert_eq!(
            (&flat.json()["field"], &flat.json()["row"]),
            (&json!("flow_duration"), &json!(0)),
            "{value}: {detail}"
        );
        let flows =
            server.post(format!("{{\"flows\": [{{\"dst_port\": 1}},\n {{\"flow_duration\": {value}}}]}}")).await;
        assert!(flows.refused(422).contains("row 1, field 'flow_duration'"), "{value}: {}", flows.text());
        let rows = server.post(format!(r#"{{"features": [[{}1], [1, 2, {value}]]}}"#, "1, ".repeat(77))).await;
        assert!(rows.refused(422).contains("row 1, field 'features[2]'"), "{value}: {}", rows.text());
        if value != "null" {
            let table = server.post(format!(r#"{{"columns": ["dst_port"], "data": [[1], [{value}]]}}"#)).await;
            assert!(table.refused(422).contains("row 1, field '"), "{value}: {}", table.text());
        }
    }
    assert!(server.model.seen.lock().unwrap().is_empty(), "nothing of this may reach the model");
}

#[tokio::test]
async fn seconds_beyond_the_models_numbers_are_422() {
    let server = Server::start().await;
    let body = r#"{"flow_duration": 1e36, "tot_fwd_pkts": 1, "fwd_pkts_s": 1e-36}"#;
    assert!(server.post(body).await.refused(422).contains("flow_duration"));
}

#[tokio::test]
async fn wrong_type_of_body_is_415() {
    let server = Server::start().await;
    for headers in [
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: application/jsonx\r\n",
        "Content-Type: \u{e9}\r\n",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
    ] {
        server.post_as("/predict", headers, r#"{"dst_port": 80}"#).await.refused(415);
    }
}

#[tokio::test]
async fn unknown_paths_are_404_and_wrong_methods_405() {
    let server = Server::start().await;
    for path in ["/nothing", "/predict/", "/health/", "//", "/%70redict"] {
        server.get(path).await.refused(404);
    }
    let answer = server.get("/predict").await;
    answer.refused(405);
    assert_eq!(answer.header("allow"), Some("POST"));
    let answer = server.send("DELETE /health HTTP/1.1\r\nHost: test\r\n\r\n").await;
    answer.refused(405);
    assert_eq!(answer.header("allow"), Some("GET, HEAD"));
}

#[tokio::test]
async fn without_a_model_is_503() {
    let server = Server::without_model(Limits::default(), false).await;
    let answer = server.post(r#"{"dst_port": 80}"#).await;
    answer.refused(503);
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn too_many_rows_are_413_in_every_shape() {
    let server = Server::limited(|limits| limits.rows = 2).await;
    let flow = r#"{"dst_port": 1}"#;
    let row = json!(vec![1; 78]).to_string();
    for (two, three) in [
        (format!(r#"{{"flows": [{flow}, {flow}]}}"#), format!(r#"{{"flows": [{flow}, {flow}, {flow}]}}"#)),
        (format!(r#"{{"features": [{row}, {row}]}}"#), format!(r#"{{"features": [{row}, {row}, {row}]}}"#)),
        (
            r#"{"columns": ["dst_port"], "data": [[1], [1]]}"#.to_owned(),
            r#"{"columns": ["dst_port"], "data": [[1], [1], [1]]}"#.to_owned(),
        ),
    ] {
        server.post(two).await.accepted();
        server.post(three).await.refused(413);
    }
    let lines = |count: usize| format!("{flow}\n").repeat(count);
    let ndjson = "Content-Type: application/x-ndjson\r\n";
    assert_eq!(server.post_as("/predict", ndjson, lines(3)).await.status, 200, "a stream has no number of flows");
}

#[tokio::test]
async fn model_that_fails_is_a_500_that_says_so() {
    let server = Server::start().await;
    server.state.set_predictor(std::sync::Arc::new(Threshold::broken()));
    assert!(server.post(r#"{"dst_port": 80}"#).await.refused(500).contains("out of order"));
}
