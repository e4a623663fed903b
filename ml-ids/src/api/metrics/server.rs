//! The program and its API: what it is, whether it does what it was started for, and what clients ask of it.

use super::{Scrape, page::Page};
use crate::api::{
    access::AccessHealth,
    health::{QueueHealth, missing, reasons},
    privileges::PrivilegeState,
};

pub(super) fn build(_: &Scrape<'_>, page: &mut Page<'_>) {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("arch", std::env::consts::ARCH), ("profile", profile)];
    page.info("build", "The program", labels.map(|(name, value)| (name, value.to_owned())).to_vec());
}

/// What `/health` says, for who counts.
pub(super) fn standing(Scrape { state, sensor, .. }: &Scrape<'_>, page: &mut Page<'_>) {
    let ready = missing(state, sensor.as_ref()).is_empty();
    page.gauge("ready", "Whether a model is loaded and, if asked for, capture attached", f64::from(u8::from(ready)));
    let reasons = reasons(state, sensor.as_ref()).len();
    page.gauge("degraded_reasons", "Reasons not to be healthy, as /health names them", reasons as f64);
    let dropped = state.privileges.health().is_some_and(|health| health.state == PrivilegeState::Dropped);
    page.gauge(
        "privileges_dropped",
        "Whether the process has given up all rights that only its start needs",
        f64::from(u8::from(dropped)),
    );
}

pub(super) fn requests(Scrape { state, .. }: &Scrape<'_>, page: &mut Page<'_>) {
    let requests = &state.requests;
    let answered = requests.answered();
    page.counters(
        "api_requests",
        "Requests answered, by endpoint and status",
        answered.iter().map(|(endpoint, status, count)| ([("endpoint", *endpoint), ("status", *status)], *count)),
    );
    page.histograms(
        "api_request_seconds",
        "Time from the head of a request to its answer",
        requests.durations().into_iter().map(|(endpoint, shape)| ([("endpoint", endpoint)], shape)),
    );
    page.counters(
        "api_refused_requests",
        "Requests that were refused, by reason",
        requests.refused().map(|(reason, count)| ([("reason", reason)], count)),
    );
    page.gauge("api_requests_in_flight", "Requests without an answer yet", requests.in_flight() as f64);
    let QueueHealth { length, capacity, refused } = state.connections.health();
    page.gauge("api_connections", "Open connections", length as f64);
    page.gauge("api_connections_limit", "Most open connections", capacity as f64);
    page.counter("api_connections_cut", "Slow connections that had to make room for others", refused);
    let AccessHealth { handshakes_failed, handshakes_slow, .. } = state.access.health();
    page.counters(
        "api_handshakes_failed",
        "TLS handshakes that came to nothing, by reason",
        [("failed", handshakes_failed), ("slow", handshakes_slow)].map(|(reason, count)| ([("reason", reason)], count)),
    );
    let lanes = [("quick", state.quick.health()), ("bulk", state.bulk.health()), ("streams", state.streams.health())];
    page.gauges(
        "api_lane_requests",
        "Requests that are scored or wait for it, by lane",
        lanes.map(|(lane, health)| ([("lane", lane)], health.length as f64)),
    );
    page.gauges(
        "api_lane_requests_limit",
        "Most of them, by lane",
        lanes.map(|(lane, health)| ([("lane", lane)], health.capacity as f64)),
    );
}
