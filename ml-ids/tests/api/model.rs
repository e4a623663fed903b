//! What is loaded, how it is kept, and drift: `GET /model`, `GET /metrics` and the note in `GET /health`.

use std::sync::{Arc, Mutex};

use ml_ids::{
    api::{Limits, ModelWatch, ReloadError},
    detect::drift::{DriftReport, FeatureDrift, Window},
};
use serde_json::json;

use crate::{source::Told, support::Server};

/// A watch that reports what it was given.
struct Watch(Mutex<DriftReport>);

impl ModelWatch for Watch {
    fn report(&self) -> DriftReport {
        self.0.lock().unwrap().clone()
    }
}

fn drift(index: usize, feature: &'static str, psi: f64) -> FeatureDrift {
    FeatureDrift { feature, psi, outside: 0.5, text: "50.0 % of flows above 9 µs".to_owned(), index }
}

/// A report in which one of twelve features has left.
fn report() -> DriftReport {
    const NAMES: [&str; 12] = ["Flow Duration", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let features = NAMES.iter().enumerate().map(|(index, name)| drift(index, name, 1.5 / (index + 1) as f64));
    DriftReport {
        available: true,
        windows: 4,
        open_flows: 17,
        closed_at: Some("2026-11-25T03:00:00Z".to_owned()),
        left: vec!["Flow Duration"],
        out_of_distribution: 9,
        window: Some(Window {
            flows: 10_000,
            features: features.collect(),
            score_psi: 0.125,
            alert_share: 0.25,
            expected_alert_share: 0.0625,
            out_of_distribution_share: 0.5,
        }),
        verdicts: vec![("BENIGN".to_owned(), 30_000), ("DoS \"Hulk\"".to_owned(), 10_000)],
    }
}

async fn watched(report: DriftReport) -> Server {
    let server = Server::start().await;
    server.state.set_model_watch(Arc::new(Watch(Mutex::new(report))));
    server
}

#[tokio::test]
async fn model_tells_card_details_and_the_ten_features_that_have_shifted_most() {
    let answer = watched(report()).await.get("/model").await.accepted();
    assert_eq!(
        (&answer["name"], &answer["version"], &answer["profile"]),
        (&json!("threshold"), &json!("3"), &json!("fixed"))
    );
    assert_eq!((&answer["kind"], &answer["explains"]), (&json!("threshold"), &json!(false)));
    let drift = &answer["drift"];
    assert_eq!((&drift["available"], &drift["windows"], &drift["open_flows"]), (&json!(true), &json!(4), &json!(17)));
    assert_eq!((&drift["left"], &drift["closed_at"]), (&json!(["Flow Duration"]), &json!("2026-11-25T03:00:00Z")));
    let window = &drift["window"];
    assert_eq!((&window["flows"], &window["out_of_distribution_share"]), (&json!(10_000), &json!(0.5)));
    assert_eq!(window["features"].as_array().unwrap().len(), 10);
    let first = json!({"feature": "Flow Duration", "psi": 1.5, "outside": 0.5, "text": "50.0 % of flows above 9 µs"});
    assert_eq!(window["features"][0], first);
}

#[tokio::test]
async fn model_tells_how_its_source_is_looked_at_and_what_is_wrong_with_it() {
    let server = Server::start().await;
    let alone = server.get("/model").await.accepted();
    assert_eq!((&alone["refresh"], &alone["shadow"], &alone["reasons"]), (&json!(null), &json!(null), &json!([])));
    server.state.set_model_source(Told::new(Err(ReloadError::Busy)));
    let kept = server.get("/model").await.accepted();
    let refresh = json!({
        "interval_seconds": 60.0,
        "last_look": "1970-01-01T00:00:00Z",
        "outcome": "away",
        "failures": 3,
        "next_look": "1970-01-01T00:08:00Z",
    });
    assert_eq!(kept["refresh"], refresh);
    assert_eq!(kept["reasons"], json!(["mlflow:ids@prod is away"]));
    assert_eq!(kept["shadow"], server.get("/health").await.accepted()["shadow"]);
    assert_eq!(kept["shadow"]["model"]["version"], "9");
}

#[tokio::test]
async fn without_a_sensor_there_is_no_drift_and_without_a_model_no_model() {
    let answer = Server::start().await.get("/model").await.accepted();
    assert_eq!(answer["drift"], json!(null));
    let server = Server::without_model(Limits::default(), false).await;
    server.get("/model").await.refused(503);
    let metrics = server.get("/metrics").await;
    assert!(metrics.status == 200 && !metrics.text().contains("ml_ids_model_info"), "{}", metrics.text());
}

#[tokio::test]
async fn metrics_are_in_the_format_of_prometheus() {
    let server = watched(report()).await;
    let answer = server.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    for line in [
        "# TYPE ml_ids_verdicts_total counter",
        "ml_ids_verdicts_total{class=\"BENIGN\"} 30000",
        "ml_ids_verdicts_total{class=\"DoS \\\"Hulk\\\"\"} 10000",
        "ml_ids_out_of_distribution_flows_total 9",
        "ml_ids_drift_windows_total 4",
        "ml_ids_features_left_training 1.0",
        "# TYPE ml_ids_feature_drift_psi gauge",
        "ml_ids_feature_drift_psi{feature=\"Flow Duration\"} 1.5",
        "ml_ids_feature_drift_psi{feature=\"l\"} 0.125",
        "ml_ids_feature_outside_ratio{feature=\"Flow Duration\"} 0.5",
        "ml_ids_score_drift_psi 0.125",
        "ml_ids_window_alert_ratio 0.25",
        "ml_ids_expected_alert_ratio 0.0625",
        "ml_ids_window_out_of_distribution_ratio 0.5",
    ] {
        assert!(text.lines().any(|found| found == line), "`{line}` is not in:\n{text}");
    }
    let model = text.lines().find(|line| line.starts_with("ml_ids_model_info{")).unwrap();
    for label in ["name=\"threshold\"", "kind=\"threshold\"", "profile=\"fixed\"", "source=\"embedded\""] {
        assert!(model.contains(label), "{label} is not in {model}");
    }
    let ours = |line: &str| ["#", "ml_ids_", "process_"].iter().any(|start| line.starts_with(start));
    assert!(text.lines().all(ours), "{text}");
}

#[tokio::test]
async fn metrics_are_in_the_format_of_openmetrics_for_who_asks() {
    let server = watched(report()).await;
    let accept =
        "GET /metrics HTTP/1.1\r\nHost: test\r\nAccept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n\r\n";
    let answer = server.send(accept).await;
    assert_eq!(answer.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(answer.text().ends_with("# EOF\n"), "{}", answer.text());
}

#[tokio::test]
async fn drift_is_a_note_in_health_and_no_reason_to_be_degraded() {
    let healthy = watched(DriftReport::default()).await.get("/health").await.accepted();
    assert_eq!((&healthy["status"], &healthy["notes"]), (&json!("healthy"), &json!([])));
    let drifting = watched(report()).await.get("/health").await.accepted();
    assert_eq!((&drifting["status"], &drifting["reasons"]), (&json!("healthy"), &json!([])));
    assert!(drifting["notes"][0].as_str().unwrap().contains("1 of the features"), "{}", drifting["notes"]);
}
