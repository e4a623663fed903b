//! `GET /metrics`: numbers for Prometheus, in its text format or, for who asks for it by name, in that of OpenMetrics.
//!
//! The page is made for each scrape from what the program knows then, so nothing has to be kept up to date twice. A part of
//! the program is a function in [`PARTS`]. Labels are bounded: no value is a client's, a packet's or a network's own.
//! `docs/API.md` lists all metrics; a test compares.

mod alerts;
mod kubernetes;
mod model;
mod page;
mod process;
mod sensor;
mod server;
mod verdicts;

use hyper::{HeaderMap, StatusCode, header::ACCEPT};
use prometheus_client::{
    encoding::{prometheus_text, text},
    registry::Registry,
};

use super::{
    answer::{Answer, typed},
    health::SensorSnapshot,
    state::AppState,
};
use crate::detect::drift::DriftReport;
use page::Page;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every part that has something to tell.
const PARTS: [fn(&Scrape<'_>, &mut Page<'_>); 17] = [
    server::build,
    server::standing,
    server::requests,
    model::model,
    model::source,
    model::shadow,
    model::drift,
    sensor::interfaces,
    sensor::packets,
    sensor::flows,
    sensor::blocking,
    verdicts::verdicts,
    alerts::alerts,
    alerts::store,
    verdicts::timing,
    verdicts::sinks,
    kubernetes::pods,
];

/// What is known at one moment. Asked for once: the sensor sums its books over all processors for it.
struct Scrape<'a> {
    state: &'a AppState,
    sensor: Option<SensorSnapshot>,
    drift: Option<DriftReport>,
}

/// The numbers now.
pub(crate) fn metrics(state: &AppState, headers: &HeaderMap) -> Answer {
    let sensor = state.sensor().map(|sensor| sensor.snapshot());
    let scrape = Scrape { state, sensor, drift: state.drift() };
    let mut registry = Registry::default();
    // By convention these have no prefix: dashboards of all programs show them.
    process::process(&mut Page(&mut registry));
    let mut page = Page(registry.sub_registry_with_prefix("ml_ids"));
    for part in PARTS {
        part(&scrape, &mut page);
    }
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let open = accepted.into_iter().any(|accepted| accepted.contains("application/openmetrics-text"));
    let mut body = String::new();
    let written = if open { text::encode(&mut body, &registry) } else { prometheus_text::encode(&mut body, &registry) };
    if let Err(error) = written {
        log::error!("GET /metrics: {error}");
        return typed(StatusCode::INTERNAL_SERVER_ERROR, PROMETHEUS, b"# the metrics could not be written\n".to_vec());
    }
    typed(StatusCode::OK, if open { OPEN_METRICS } else { PROMETHEUS }, body.into_bytes())
}
