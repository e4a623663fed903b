//! The three groups of existing clients get exactly what they expect.

use serde_json::{Value, json};

use crate::support::Server;

/// What release 0.4 posts: seconds, frame lengths, addresses beside the features.
fn python_flow(duration: f64) -> Value {
    let packets = 10;
    json!({
        "src_ip": "10.0.0.1", "dst_ip": "10.0.0.2", "src_port": 40000, "dst_port": 80, "protocol": 6,
        "timestamp": "2024-01-01 10:00:00", "flow_duration": duration, "flow_byts_s": 1000.0 / duration,
        "flow_pkts_s": f64::from(packets) / duration, "tot_fwd_pkts": 6, "tot_bwd_pkts": 4, "totlen_fwd_pkts": 600,
        "totlen_bwd_pkts": 400, "flow_iat_max": duration / 2.0, "idle_max": 0,
    })
}

#[tokio::test]
async fn python_client_in_seconds_is_scored_in_microseconds() {
    let server = Server::start().await;
    let headers = "Content-Type: application/json\r\nUser-Agent: python-requests/2.31.0\r\nAccept: */*\r\n";
    let answer = server.post_as("/predict", headers, python_flow(2.0).to_string()).await.accepted();
    assert_eq!(answer["prediction"], json!([1]), "two seconds are a long flow");
    let row = server.row();
    assert_eq!((row[0], row[1], row[15], row[18]), (80.0, 2e6, 5.0, 1e6));
    let warnings: Vec<&str> = answer["warnings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(warnings.iter().filter(|warning| warning.contains("microseconds")).count(), 1);
    assert_eq!(warnings.iter().filter(|warning| warning.contains("frames")).count(), 1);
}

#[tokio::test]
async fn python_client_in_microseconds_is_left_alone() {
    let server = Server::start().await;
    let mut flow = python_flow(2.0);
    flow["flow_duration"] = json!(2e6);
    flow["flow_iat_max"] = json!(1e6);
    let answer = server.post(flow.to_string()).await.accepted();
    assert_eq!((server.row()[1], server.row()[18]), (2e6, 1e6));
    assert!(!answer["warnings"].to_string().contains("seconds"), "{answer}");
    assert!(answer["warnings"].to_string().contains("frames"), "{answer}");
}

#[tokio::test]
async fn batch_says_once_what_holds_for_all() {
    let server = Server::start().await;
    let flows: Vec<Value> = (0..5).map(|_| python_flow(2.0)).collect();
    let answer = server.post(json!({ "flows": flows }).to_string()).await.accepted();
    assert_eq!(answer["warnings"].as_array().unwrap().len(), 2, "{}", answer["warnings"]);
    assert!(!answer["results"].to_string().contains("frames"));
    let lines: String = flows.iter().map(|flow| format!("{flow}\n")).collect();
    let answer = server.post_as("/predict", "Content-Type: application/x-ndjson\r\n", lines).await.text();
    assert_eq!(answer.matches("frames").count(), 1);
}

#[tokio::test]
async fn flow_of_a_single_moment_is_accepted() {
    let server = Server::start().await;
    let mut flow = python_flow(1.0);
    for key in ["flow_duration", "flow_byts_s", "flow_pkts_s", "flow_iat_max"] {
        flow[key] = json!(0);
    }
    assert_eq!(server.post(flow.to_string()).await.accepted()["prediction"], json!([0]));
}

#[tokio::test]
async fn first_python_client_can_pop_index_and_format_what_it_gets() {
    let server = Server::start().await;
    let Value::Object(flow) = python_flow(2.0) else { unreachable!("an object") };
    let body = json!({"columns": flow.keys().collect::<Vec<_>>(), "data": [flow.values().collect::<Vec<_>>()]});
    let headers = "Content-Type: application/json; format=pandas-split\r\n";
    let answer = server.post_as("/predict", headers, body.to_string()).await.accepted();
    assert_eq!(server.row()[1], 2e6);
    // resp["result"].pop(), then resp["probability"].pop()[result] * 100
    let result = answer["result"].as_array().unwrap().last().unwrap().as_u64().unwrap();
    assert_eq!(result, 1);
    assert_eq!(answer["probability"][0][usize::try_from(result).unwrap()], 0.75);
    let ends = ["src_ip", "src_port", "dst_ip", "dst_port"].map(|key| answer[key].as_str().unwrap());
    assert_eq!(ends, ["10.0.0.1", "40000", "10.0.0.2", "80"]);
    assert_eq!(answer["predictions"], json!(["DoS Hulk"]));
}

#[tokio::test]
async fn script_of_the_old_document_gets_a_list_of_one_integer() {
    let server = Server::start().await;
    for body in [r#"{"flow_duration": 100, "tot_fwd_pkts": 2}"#, r#"{"Flow Duration": 100, "Total Fwd Packet": 2}"#] {
        assert_eq!(server.post(body).await.accepted()["prediction"], json!([0]));
    }
}

#[tokio::test]
async fn generated_client_gets_a_list_of_labels() {
    let server = Server::start().await;
    let mut long = vec![json!(0.0); 78];
    long[1] = json!(2e6);
    let answer = server.post(json!({"features": [vec![0.0; 78], long]}).to_string()).await.accepted();
    assert_eq!(answer["predictions"], json!(["BENIGN", "DoS Hulk"]));
}
