//! Metrics against a sensor of known numbers that has something to tell of everything, and against `docs/API.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use ml_ids::{
    alert::{Board, store::StoreWatch},
    api::{
        Attach, FlowBooks, InterfaceHealth, InterfaceState, Limits, Measures, ModelSource, ModelWatch, OpenedAlerts,
        Predictor, Refresh, ReloadError, Reloaded, SensorHealth, SensorSnapshot, ShadowHealth, SourceLooks, TableFill,
    },
    detect::{
        TimingShapes,
        drift::{DriftReport, FeatureDrift, Window},
    },
    histogram::Shape,
    kubernetes::PodsState,
    sink::{Feed, SinkState},
};

use crate::support::{Server, Threshold, request};

/// A sensor with numbers everywhere.
struct Busy;

impl SensorHealth for Busy {
    fn snapshot(&self) -> SensorSnapshot {
        let interface = |name: &str, state| InterfaceHealth {
            name: name.to_owned(),
            index: Some(2),
            state,
            attach: Attach::Host,
            ingress: None,
            egress: None,
            problems: Vec::new(),
        };
        let mut snapshot = SensorSnapshot {
            interfaces: vec![interface("a", InterfaceState::Attached), interface("b", InterfaceState::Gone)],
            flows: FlowBooks { live: 3, opened: 20, emitted: 11, discarded: 2, lost_ring_full: 3, evicted: 1 },
            table: TableFill { capacity: 64, used: 16, fill: 0.25, memory_bytes: 4096, pressed: true, presses: 2 },
            sinks: vec![SinkState {
                name: "syslog",
                waiting: 4,
                capacity: 100,
                queued: 20,
                delivered: 10,
                refused: 1,
                dropped: 5,
                lost_at_stop: 0,
                retries: 7,
                failure: Some("nobody listens".to_owned()),
            }],
            degraded: vec!["something".to_owned(), "another thing".to_owned()],
            measures: measures(),
            ..SensorSnapshot::default()
        };
        snapshot.packets.ingress.skipped = BTreeMap::from([("not_ip", 4)]);
        (snapshot.packets.ingress.seen, snapshot.packets.ingress.in_flow) = (10, 6);
        (snapshot.block.enabled, snapshot.block.entries, snapshot.block.dropped) = (true, 2, 3);
        snapshot.block.refused = BTreeMap::from([("allow_list", 5)]);
        (snapshot.verdicts.allowed, snapshot.verdicts.dropped) = (2, 1);
        snapshot
    }
}

fn measures() -> Measures {
    let shape = Shape { buckets: vec![(0.005, 2), (0.25, 1), (f64::INFINITY, 1)], sum: 9.5 };
    Measures {
        ended: vec![("fin", 8), ("idle", 3)],
        other_protocol: 1,
        untrained: 2,
        alert_classes: BTreeMap::from([("Botnet".to_owned(), 4)]),
        alerts: vec![OpenedAlerts { class: "Botnet".to_owned(), severity: "high", opened: 1 }],
        lost_packets: 30,
        evicted_packets: 1,
        malformed_records: 0,
        sweep_failures: 0,
        pods: Some(PodsState { node: "worker-1".to_owned(), addresses: 3, departed: 1, ..PodsState::default() }),
        drain: shape.clone(),
        timing: TimingShapes { scoring: shape.clone(), batch_flows: shape.clone(), delay: shape },
    }
}

impl ModelWatch for Busy {
    fn report(&self) -> DriftReport {
        let feature = FeatureDrift { feature: "Flow Duration", psi: 0.5, outside: 0.1, text: String::new(), index: 1 };
        DriftReport {
            available: true,
            windows: 1,
            window: Some(Window {
                flows: 1000,
                features: vec![feature],
                score_psi: 0.1,
                alert_share: 0.2,
                expected_alert_share: 0.01,
                out_of_distribution_share: 0.3,
            }),
            verdicts: vec![("BENIGN".to_owned(), 7), ("Botnet".to_owned(), 4)],
            ..DriftReport::default()
        }
    }
}

impl ModelSource for Busy {
    fn reload(&self) -> Result<Reloaded, ReloadError> {
        Err(ReloadError::Busy)
    }

    fn reasons(&self) -> Vec<String> {
        Vec::new()
    }

    fn shadow(&self) -> Option<ShadowHealth> {
        Some(ShadowHealth {
            model: Threshold::default().card(),
            compared: 9,
            labels_differ: 3,
            alerts_missed: 2,
            alerts_added: 1,
            skipped: 0,
            failed: 0,
            disagreements: BTreeMap::new(),
        })
    }

    fn refresh(&self) -> Refresh {
        Refresh {
            interval_seconds: Some(60.0),
            last_look: SystemTime::UNIX_EPOCH,
            outcome: "refused",
            failures: 1,
            next_look: None,
        }
    }

    fn looks(&self) -> Option<SourceLooks> {
        Some(SourceLooks {
            outcomes: vec![("swapped", 2), ("refused", 1)],
            troubles: vec![("away", false), ("refused", true)],
            well_at: 1_700_000_000,
        })
    }
}

async fn busy() -> Server {
    let server = Server::with(Limits::default(), true).await;
    server.state.set_sensor(Arc::new(Busy));
    server.state.set_model_watch(Arc::new(Busy));
    server.state.set_model_source(Arc::new(Busy));
    let store = (PathBuf::from("alerts.db"), StoreWatch::default());
    server.state.set_alerts(Arc::new(Board::new(Some(store), Feed::default())));
    server.send(request("/predict", "Content-Type: application/json\r\n", r#"{"Flow Duration": 5}"#)).await;
    server.send(request("/predict", "Content-Type: application/json\r\n", "{")).await;
    server.get("/nothing").await;
    server
}

#[tokio::test]
async fn metrics_tell_the_numbers_of_every_part() {
    let server = busy().await;
    let text = server.get("/metrics").await.text();
    for line in [
        "ml_ids_ready 1.0",
        "ml_ids_degraded_reasons 2.0",
        "ml_ids_api_requests_total{endpoint=\"/predict\",status=\"200\"} 1",
        "ml_ids_api_requests_total{endpoint=\"/predict\",status=\"400\"} 1",
        "ml_ids_api_requests_total{endpoint=\"other\",status=\"404\"} 1",
        "ml_ids_api_refused_requests_total{reason=\"not_json\"} 1",
        "ml_ids_api_request_seconds_count{endpoint=\"/predict\"} 2",
        "ml_ids_api_requests_in_flight 1.0",
        "ml_ids_model_looks_total{outcome=\"refused\"} 1",
        "ml_ids_model_source_failing{reason=\"refused\"} 1.0",
        "ml_ids_model_source_failing{reason=\"away\"} 0.0",
        "ml_ids_model_refresh_interval_seconds 60.0",
        "ml_ids_shadow_disagreements_total{about=\"alert_missed\"} 2",
        "ml_ids_feature_drift_psi{feature=\"Flow Duration\"} 0.5",
        "ml_ids_interfaces{state=\"gone\"} 1.0",
        "ml_ids_interfaces{state=\"failed\"} 0.0",
        "ml_ids_packets_total{hook=\"ingress\"} 10",
        "ml_ids_packets_in_flow_total{hook=\"ingress\"} 6",
        "ml_ids_packets_skipped_total{hook=\"ingress\",reason=\"not_ip\"} 4",
        "ml_ids_packets_total{hook=\"egress\"} 0",
        "ml_ids_flows_lost_total{reason=\"ring_full\"} 3",
        "ml_ids_flow_packets_lost_total{reason=\"table_full\"} 1",
        "ml_ids_flows_ended_total{reason=\"idle\"} 3",
        "ml_ids_flow_table_fill_ratio 0.25",
        "ml_ids_flow_table_pressed 1.0",
        "ml_ids_block_entries 2.0",
        "ml_ids_block_dropped_packets_total 3",
        "ml_ids_blocks_refused_total{reason=\"allow_list\"} 5",
        "ml_ids_verdicts_total{class=\"BENIGN\"} 7",
        "ml_ids_alert_verdicts_total{class=\"Botnet\"} 4",
        // A class of the model at work that has had none.
        "ml_ids_alert_verdicts_total{class=\"DoS Hulk\"} 0",
        "ml_ids_alerts_total{class=\"Botnet\",severity=\"high\"} 1",
        "ml_ids_open_alerts 0.0",
        "ml_ids_alert_store_failing 0.0",
        "ml_ids_flows_not_judged_total{reason=\"failed\"} 1",
        "ml_ids_verdict_delay_seconds_bucket{le=\"0.005\"} 2",
        "ml_ids_verdict_delay_seconds_bucket{le=\"0.25\"} 3",
        "ml_ids_verdict_delay_seconds_bucket{le=\"+Inf\"} 4",
        "ml_ids_verdict_delay_seconds_sum 9.5",
        "ml_ids_sink_dropped_events_total{sink=\"syslog\"} 5",
        "ml_ids_sink_queue_events{sink=\"syslog\"} 4.0",
        "ml_ids_sink_failing{sink=\"syslog\"} 1.0",
    ] {
        assert!(text.lines().any(|found| found == line), "`{line}` is not in:\n{text}");
    }
}

#[tokio::test]
async fn the_benign_class_is_never_counted_as_alerts() {
    let text = busy().await.get("/metrics").await.text();
    assert!(!text.contains("ml_ids_alert_verdicts_total{class=\"BENIGN\"}"), "{text}");
}

#[tokio::test]
async fn what_a_server_without_a_sensor_knows_nothing_of_is_left_out() {
    let text = Server::start().await.get("/metrics").await.text();
    for part in ["ml_ids_packets", "ml_ids_flow", "ml_ids_sink", "ml_ids_verdict", "ml_ids_alert", "ml_ids_block"] {
        assert!(!text.contains(part), "{part} is in:\n{text}");
    }
    for part in ["ml_ids_build_info{", "ml_ids_model_info{", "process_resident_memory_bytes ", "ml_ids_ready 1.0"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}

#[tokio::test]
async fn what_the_process_takes_is_plausible() {
    let text = Server::start().await.get("/metrics").await.text();
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name} is not in:\n{text}")).parse().unwrap()
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let started = value("process_start_time_seconds");
    assert!(started <= now + 1.0 && now - started < 3600.0, "started at {started}, now is {now}");
    assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") <= value("process_max_fds"));
    assert!(value("process_resident_memory_bytes") <= value("process_virtual_memory_bytes"));
    assert!(value("process_threads") >= 1.0 && value("process_cpu_seconds_total") >= 0.0);
}

/// Names, types and names of labels, which do not depend on numbers.
type Names = BTreeMap<String, (String, BTreeSet<String>)>;

fn exposed(text: &str) -> Names {
    let mut names = Names::new();
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            let info = kind == "gauge" && name.ends_with("_info");
            names.insert(name.to_owned(), (if info { "info" } else { kind }.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let (sample, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let parts = ["_bucket", "_sum", "_count"];
            let name = parts
                .iter()
                .find_map(|part| name.strip_suffix(part).filter(|name| names.contains_key(*name)))
                .unwrap_or(name);
            let (kind, known) = names.get_mut(name).unwrap_or_else(|| panic!("{line} has no type"));
            // A name of a label is what stands before `="`; those of an information are in words on the page.
            if kind != "info" {
                let labels = labels.split("=\"").filter_map(|before| before.rsplit([',', '}', '{']).next());
                known.extend(labels.filter(|label| !label.is_empty() && *label != "le").map(str::to_owned));
            }
        }
    }
    names
}

fn documented() -> Names {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/API.md")).unwrap();
    let mut names = Names::new();
    for row in page.lines().filter(|line| line.starts_with("| `ml_ids_") || line.starts_with("| `process_")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for metric in cells[1].split('`').filter(|text| text.contains('_')) {
            let (name, labels) = metric.split_once('{').unwrap_or((metric, "}"));
            let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
            names.insert(name.to_owned(), (cells[2].to_owned(), labels.map(str::to_owned).collect()));
        }
    }
    names
}

#[tokio::test]
async fn documentation_lists_all_metrics_with_their_types_and_labels_and_no_others() {
    let (found, listed) = (exposed(&busy().await.get("/metrics").await.text()), documented());
    assert!(listed.len() > 50, "{listed:?}");
    for (name, shape) in &found {
        assert_eq!(listed.get(name), Some(shape), "{name} in docs/API.md and in /metrics");
    }
    for name in listed.keys() {
        assert!(found.contains_key(name), "docs/API.md lists {name}, which /metrics does not have");
    }
}

#[tokio::test]
async fn both_formats_tell_the_same_metrics() {
    let server = busy().await;
    let plain = server.get("/metrics").await;
    let open = server
        .send("GET /metrics HTTP/1.1\r\nHost: test\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n")
        .await;
    assert!(plain.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(open.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(open.text().ends_with("# EOF\n"));
    let samples = |text: &str| -> BTreeSet<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        // The text formats differ in how they write the ends of buckets.
        samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
    };
    assert_eq!(samples(&plain.text()), samples(&open.text()));
}
