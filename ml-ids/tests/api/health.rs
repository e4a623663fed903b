//! What probes and people see.

use std::{collections::BTreeMap, sync::Arc};

use ml_ids::api::{Attach, Egress, Ingress, InterfaceHealth, InterfaceState, Limits, SensorHealth, SensorSnapshot};
use serde_json::json;

use crate::support::Server;

#[tokio::test]
async fn old_clients_are_greeted_and_browsers_get_a_page() {
    let server = Server::start().await;
    let greeting = server.get("/").await.accepted();
    assert_eq!(greeting["message"], "Inference server is running.");
    assert_eq!((&greeting["name"], &greeting["version"]), (&json!("ml-ids"), &json!(env!("CARGO_PKG_VERSION"))));
    let page = server.send("GET / HTTP/1.1\r\nHost: test\r\nAccept: text/html,*/*;q=0.8\r\n\r\n").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert!(page.text().starts_with("<!DOCTYPE html>") && page.text().contains("/openapi.json"));
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let server = Server::start().await;
    let mut connection = server.connect().await;
    connection.write("HEAD /health/live HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut connection.stream, &mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\n"), "{text}");
}

#[tokio::test]
async fn health_follows_the_model_on_its_way() {
    let server = Server::without_model(Limits::default(), false).await;
    let health = server.get("/health").await.accepted();
    assert_eq!((&health["status"], &health["model_initialized"]), (&json!("degraded"), &json!(false)));
    assert!(health["reasons"][0].as_str().unwrap().contains("no model"));
    server.get("/health/ready").await.refused(503);
    server.get("/health/live").await.accepted();

    server.state.set_model_failure("no such file".to_owned());
    let health = server.get("/health").await.accepted();
    assert_eq!(health["status"], "unhealthy");
    assert!(health["reasons"][0].as_str().unwrap().contains("no such file"));

    server.state.set_predictor(server.model.clone());
    server.state.set_model_failure("a later reload failed".to_owned());
    let health = server.get("/health").await.accepted();
    assert_eq!((&health["status"], &health["model_initialized"]), (&json!("healthy"), &json!(true)));
    assert_eq!(
        health["model"],
        json!({"name": "threshold", "version": "3", "source": "embedded", "resolved": null, "cached": false,
               "sha256": "00".repeat(32), "profile": "fixed", "runtime": "comparison",
               "loaded_at": "1970-01-01T00:00:00Z"})
    );
    assert_eq!((&health["sensor"], &health["reasons"]), (&json!(null), &json!([])));
    assert_eq!(health["queues"]["connections"]["length"], 1);
    assert!(health["uptime_seconds"].as_f64().unwrap() > 0.0);
    server.get("/health/ready").await.accepted();
}

struct OneInterface(InterfaceState);

impl SensorHealth for OneInterface {
    fn snapshot(&self) -> SensorSnapshot {
        let mut snapshot = SensorSnapshot {
            interfaces: vec![InterfaceHealth {
                name: "eth0".to_owned(),
                index: Some(2),
                state: self.0,
                attach: Attach::Host,
                ingress: Some(Ingress::XdpGeneric),
                egress: Some(Egress::Tcx),
                problems: Vec::new(),
            }],
            degraded: vec!["eth0 runs XDP in generic mode".to_owned()],
            ..SensorSnapshot::default()
        };
        snapshot.packets.ingress.skipped = BTreeMap::from([("arp", 4)]);
        (snapshot.packets.ingress.seen, snapshot.packets.ingress.in_flow) = (10, 6);
        (snapshot.block.enabled, snapshot.block.entries, snapshot.block.dropped) = (true, 2, 3);
        snapshot.block.refused = BTreeMap::from([("allowed", 5)]);
        snapshot
    }
}

#[tokio::test]
async fn sensor_that_was_asked_for_is_waited_for_and_shown() {
    let server = Server::with(Limits::default(), true).await;
    assert!(server.get("/health/ready").await.refused(503).contains("capture"));
    assert_eq!(server.get("/health").await.accepted()["status"], "degraded");
    for missing in [InterfaceState::Waiting, InterfaceState::Gone, InterfaceState::Failed] {
        server.state.set_sensor(Arc::new(OneInterface(missing)));
        assert!(server.get("/health/ready").await.refused(503).contains("capture"), "{missing:?}");
    }
    server.state.set_sensor(Arc::new(OneInterface(InterfaceState::Down)));
    server.get("/health/ready").await.accepted();
    server.state.set_sensor(Arc::new(OneInterface(InterfaceState::Attached)));
    server.get("/health/ready").await.accepted();
    let health = server.get("/health").await.accepted();
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["reasons"], json!(["eth0 runs XDP in generic mode"]));
    let sensor = &health["sensor"];
    assert_eq!(
        sensor["interfaces"],
        json!([{
            "name": "eth0",
            "index": 2,
            "state": "attached",
            "attach": "host",
            "ingress": "xdp-generic",
            "egress": "tcx",
            "problems": [],
        }])
    );
    assert_eq!(sensor["packets"]["ingress"]["skipped"], json!({"arp": 4}));
    assert_eq!(sensor["flows"]["lost_ring_full"], 0);
}
