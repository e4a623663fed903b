//! Every shape in which flows may arrive, and the shape of the answer to it.

use ml_ids::features::FEATURES;
use serde_json::{Value, json};

use crate::support::Server;

fn numbers(count: usize) -> Vec<Value> {
    (0..count).map(|number| json!(number)).collect()
}

#[tokio::test]
async fn flat_object_in_each_dialect_is_the_same_flow() {
    let server = Server::start().await;
    for body in [
        json!({"Flow Duration": 2_000_000, "Total Fwd Packets": 3, "Init_Win_bytes_forward": 7}),
        json!({"Flow Duration": 2_000_000, "Total Fwd Packet": 3, "FWD Init Win Bytes": 7}),
        json!({"Flow Duration": 2_000_000, "Tot Fwd Pkts": 3, "Init Fwd Win Byts": 7}),
        json!({"flow_duration": 2_000_000, "tot_fwd_pkts": 3, "init_fwd_win_byts": 7}),
        json!({" Flow Duration": 2_000_000, "tot_fwd_pkts": 3.0, "Init_Win_bytes_forward": 7, "comment": [{"x": null}]}),
    ] {
        let answer = server.post(body.to_string()).await.accepted();
        assert_eq!(answer["prediction"], json!([1]), "{body}");
        let row = server.row();
        assert_eq!((row[1], row[2], row[66]), (2e6, 3.0, 7.0), "{body}");
    }
}

#[tokio::test]
async fn single_answer_has_all_of_its_parts() {
    let server = Server::start().await;
    let answer = server.post(r#"{"flow_duration": 2000000}"#).await.accepted();
    assert_eq!(answer["prediction"], json!([1]));
    assert_eq!(answer["label"], "DoS Hulk");
    assert_eq!(answer["probability"], 0.75);
    assert_eq!(answer["probabilities"], json!({"BENIGN": 0.25, "DoS Hulk": 0.75}));
    assert_eq!(answer["model"], json!({"name": "threshold", "version": "3", "profile": "fixed"}));
    let explanation = json!([
        {"feature": "Flow Duration", "value": 2e6, "contribution": -0.5, "text": "Flow Duration 2 s -0.50"},
        {"feature": "Destination Port", "value": 0.0, "contribution": 0.1, "text": "Destination Port 0 +0.10"},
    ]);
    assert_eq!(answer["explained"], json!({"space": "probability", "base": 0.25, "score": 0.75}));
    assert_eq!(answer["out_of_distribution"], false);
    // 0.1 of a float32 is written as 0.1, not as its float64 neighbour.
    assert_eq!(answer["explanation"], explanation);
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(warning.contains("Idle Min") && !warning.contains("Flow Duration"), "{warning}");
}

#[tokio::test]
async fn features_may_be_named_numbered_or_many() {
    let server = Server::start().await;
    let named = server.post(r#"{"features": {"Flow Duration": 5}}"#).await.accepted();
    assert_eq!(named["prediction"], json!([0]));

    let numbered = server.post(json!({"features": numbers(78)}).to_string()).await.accepted();
    assert_eq!(numbered["warnings"], json!([]));
    assert_eq!(server.row().to_vec(), (0..78).map(f64::from).collect::<Vec<_>>());

    let many = server.post(json!({"features": [numbers(78), numbers(76), numbers(78)]}).to_string()).await.accepted();
    assert_eq!(many["predictions"], json!(["BENIGN", "BENIGN", "BENIGN"]));
    assert_eq!(many["results"].as_array().unwrap().len(), 3);
    assert!(many["results"][1]["warnings"][0].as_str().unwrap().ends_with("Destination Port"));
    assert_eq!(many["model"]["name"], "threshold");
}

#[tokio::test]
async fn row_of_76_numbers_is_the_csv_without_port_and_repetition() {
    let server = Server::start().await;
    server.post(json!({"features": numbers(76)}).to_string()).await.accepted();
    let row = server.row();
    assert_eq!((row[0], row[1], row[34], row[54], row[55], row[56], row[77]), (0.0, 0.0, 33.0, 53.0, 33.0, 54.0, 75.0));
}

#[tokio::test]
async fn flows_are_a_batch_whatever_their_number() {
    let server = Server::start().await;
    let one = server.post(r#"{"flows": [{"flow_duration": 2000000}]}"#).await.accepted();
    assert_eq!(one["predictions"], json!(["DoS Hulk"]));
    assert_eq!(one["results"][0]["prediction"], json!([1]));
    let two = server.post(r#"{"flows": [{"Flow Duration": 2000000}, {"dst_port": 80}]}"#).await.accepted();
    assert_eq!(two["predictions"], json!(["DoS Hulk", "BENIGN"]));
}

#[tokio::test]
async fn ndjson_is_answered_line_by_line_and_a_bad_line_harms_no_other() {
    let server = Server::start().await;
    let body = "{\"flow_duration\": 2000000}\r\n\n{\"flow_duration\": \"x\"}\n{\n{\"features\": [1, 2]}\n\
                {\"flows\": [{\"dst_port\": 1}]}\n{\"dst_port\": 80}";
    let answer = server.post_as("/predict", "Content-Type: application/x-ndjson\r\n", body).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/x-ndjson")));
    let text = answer.text();
    assert!(text.ends_with('\n'));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[0]["label"], "DoS Hulk");
    assert_eq!((&lines[1]["row"], &lines[1]["field"]), (&json!(1), &json!("flow_duration")));
    assert!(lines[2]["detail"].as_str().unwrap().contains("not JSON"), "{}", lines[2]);
    assert_eq!(lines[3]["row"], 3);
    assert!(lines[4]["detail"].as_str().unwrap().contains("one flow"), "{}", lines[4]);
    assert_eq!(lines[5]["label"], "BENIGN");
    assert!(lines[5]["explanation"].is_array());
}

#[tokio::test]
async fn table_with_named_columns_is_a_batch_in_which_null_is_absent() {
    let server = Server::start().await;
    let body = json!({"columns": ["flow_duration", "x", "dst_port"], "index": [0, 1], "data": [[2_000_000, "a", 80], [1, {"b": 1}, 2]]});
    let detail = server.post(body.to_string()).await.refused(422);
    assert!(detail.contains("row 1") && detail.contains("object"), "{detail}");
    let body = json!({"data": [[2_000_000, true, 80], [null, "a", 2]], "columns": ["flow_duration", "x", "dst_port"]});
    let answer = server.post(body.to_string()).await.accepted();
    assert_eq!(answer["predictions"], json!(["DoS Hulk", "BENIGN"]));
    assert!(answer["results"][1]["warnings"][0].as_str().unwrap().contains("Flow Duration"));
}

#[tokio::test]
async fn strict_makes_an_absent_feature_an_error() {
    let server = Server::start().await;
    let strict = |body: String| server.post_as("/predict?strict=1", "", body);
    let detail = strict(r#"{"flow_duration": 1}"#.to_owned()).await.refused(422);
    assert!(detail.contains("Idle Min"), "{detail}");
    // Each dialect is complete without the repeated column.
    let python: serde_json::Map<String, Value> =
        FEATURES.iter().filter_map(|feature| Some((feature.python?.to_owned(), json!(1)))).collect();
    assert_eq!(python.len(), 77);
    strict(Value::Object(python).to_string()).await.accepted();
    server.post_as("/predict?strict=maybe", "", r#"{"flow_duration": 1}"#).await.refused(422);
}

#[tokio::test]
async fn missing_content_type_and_parameters_are_json() {
    let server = Server::start().await;
    for headers in ["", "Content-Type: application/json; charset=utf-8\r\n", "content-type: Application/JSON\r\n"] {
        server.post_as("/predict", headers, r#"{"dst_port": 80}"#).await.accepted();
    }
    server.post(b"\xef\xbb\xbf {\"dst_port\": 80} \r\n").await.accepted();
}

#[tokio::test]
async fn doubled_header_of_2017_is_two_columns_and_other_doubles_are_told() {
    let server = Server::start().await;
    server.post(r#"{"Fwd Header Length": 40, "Fwd Header Length": 41}"#).await.accepted();
    assert_eq!((server.row()[34], server.row()[55]), (40.0, 41.0));
    let answer = server.post(r#"{"dst_port": 80, "dst_port": 81}"#).await.accepted();
    assert_eq!(server.row()[0], 81.0);
    assert!(answer["warnings"].to_string().contains("more than once"), "{answer}");
}
