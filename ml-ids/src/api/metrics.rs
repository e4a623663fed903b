//! `GET /metrics`: numbers for Prometheus, in its text format or, for who asks for it by name, in that of OpenMetrics.
//!
//! The registry is made for each scrape from what the program knows then, so nothing has to be kept up to date twice.
//! A part of the program is a function in [`PARTS`]. A metric that counts by itself (a histogram) is kept in the state
//! and registered as a clone, which shares its numbers.

use std::{sync::atomic::AtomicU64, time::UNIX_EPOCH};

use hyper::{HeaderMap, StatusCode, header::ACCEPT};
use prometheus_client::{
    encoding::{prometheus_text, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};

use super::{
    answer::{Answer, typed},
    health::SensorSnapshot,
    state::AppState,
};

/// A value that is a share or an index.
type Fraction = Gauge<f64, AtomicU64>;
/// One label with its value.
type Label = [(&'static str, String); 1];

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every part that has something to tell.
const PARTS: [fn(&AppState, &mut Registry); 5] = [model, verdicts, drift, packets, blocking];

/// The numbers now.
pub(crate) fn metrics(state: &AppState, headers: &HeaderMap) -> Answer {
    let mut registry = Registry::with_prefix("ml_ids");
    for part in PARTS {
        part(state, &mut registry);
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

fn model(state: &AppState, registry: &mut Registry) {
    let Some(predictor) = state.predictor() else { return };
    let (card, details) = (predictor.card(), predictor.details());
    let labels = vec![
        ("name", card.name),
        ("version", card.version),
        ("kind", details.kind.to_owned()),
        ("profile", card.profile.to_owned()),
        ("source", card.source),
        ("sha256", card.sha256),
    ];
    registry.register("model", "The model that runs", Info::new(labels));
    let loaded = card.loaded_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    fraction(registry, "model_loaded_timestamp_seconds", "When the model went live, seconds since 1970", loaded);
}

fn verdicts(state: &AppState, registry: &mut Registry) {
    let Some(drift) = state.drift() else { return };
    let classes = Family::<Label, Counter>::default();
    for (class, count) in drift.verdicts {
        classes.get_or_create(&[("class", class)]).inc_by(count);
    }
    registry.register("verdicts", "Flows judged, by the class that the model gave them", classes);
    let far = Counter::<u64>::default();
    far.inc_by(drift.out_of_distribution);
    registry.register("out_of_distribution_flows", "Flows far outside the training data of the model", far);
    if let Some(sensor) = state.sensor() {
        let alerts = Counter::<u64>::default();
        alerts.inc_by(sensor.snapshot().verdicts.alerts);
        registry.register("alerts", "Verdicts that became alerts", alerts);
    }
}

/// Of the last closed window. Labels are bounded: there are as many features as there are.
fn drift(state: &AppState, registry: &mut Registry) {
    let Some(drift) = state.drift().filter(|drift| drift.available) else { return };
    let windows = Counter::<u64>::default();
    windows.inc_by(drift.windows);
    registry.register("drift_windows", "Windows of flows that were compared with the training data", windows);
    fraction(
        registry,
        "features_left_training",
        "Features that were above a PSI of 0.25 for two windows in a row and are not back yet",
        drift.left.len() as f64,
    );
    let Some(window) = drift.window else { return };
    let (index, outside) = (Family::<Label, Fraction>::default(), Family::<Label, Fraction>::default());
    for feature in &window.features {
        let label = [("feature", feature.feature.to_owned())];
        index.get_or_create(&label).set(feature.psi);
        outside.get_or_create(&label).set(feature.outside);
    }
    registry.register("feature_drift_psi", "Population stability index against the benign training rows", index);
    registry.register("feature_outside_ratio", "Share of flows outside the range of the training rows", outside);
    for (name, help, value) in [
        ("score_drift_psi", "Population stability index of the greatest attack probability", window.score_psi),
        ("window_alert_ratio", "Share of flows that were alerts", window.alert_share),
        (
            "expected_alert_ratio",
            "Share to be expected of benign traffic that is like the training data",
            window.expected_alert_share,
        ),
        (
            "window_out_of_distribution_ratio",
            "Share of flows far outside the training data",
            window.out_of_distribution_share,
        ),
        ("window_flows", "Flows in the last closed window", window.flows as f64),
    ] {
        fraction(registry, name, help, value);
    }
}

/// The books of the hooks: what came by, what is in a flow, and what is not, by reason.
fn packets(state: &AppState, registry: &mut Registry) {
    let Some(SensorSnapshot { packets, .. }) = state.sensor().map(|sensor| sensor.snapshot()) else { return };
    let (seen, bytes, in_flow) = (Family::default(), Family::default(), Family::default());
    let skipped = Family::<[(&'static str, &'static str); 2], Counter>::default();
    for (hook, books) in [("ingress", packets.ingress), ("egress", packets.egress)] {
        for (family, count) in [(&seen, books.seen), (&bytes, books.seen_bytes), (&in_flow, books.in_flow)] {
            let family: &Family<Label, Counter> = family;
            family.get_or_create(&[("hook", hook.to_owned())]).inc_by(count);
        }
        for (reason, count) in books.skipped {
            skipped.get_or_create(&[("hook", hook), ("reason", reason)]).inc_by(count);
        }
    }
    registry.register("packets", "Packets that came by a hook: in a flow or skipped", seen);
    registry.register("packet_bytes", "Bytes of these packets, frames and all", bytes);
    registry.register("packets_in_flow", "Packets counted in a flow", in_flow);
    registry.register("packets_skipped", "Packets not counted in a flow, by reason", skipped);
}

/// What blocking does. Nothing of it where nothing is ever blocked.
fn blocking(state: &AppState, registry: &mut Registry) {
    let snapshot = state.sensor().map(|sensor| sensor.snapshot());
    let Some(block) = snapshot.map(|snapshot| snapshot.block).filter(|block| block.enabled) else { return };
    fraction(registry, "block_entries", "Blocks now", block.entries as f64);
    for (name, help, count) in [
        ("block_dropped_packets", "Packets of blocked sources that were dropped", block.dropped),
        ("block_dry_run_packets", "Packets that would have been dropped but for the dry run", block.would_block),
        ("block_spared_packets", "Packets that a block matched and a protected prefix saved", block.spared),
        ("blocks_made", "Blocks made, by verdicts and by hand", block.blocked),
        ("blocks_removed", "Blocks removed before their time was over", block.unblocked),
        ("blocks_expired", "Blocks whose time was over", block.expired),
    ] {
        let counter = Counter::<u64>::default();
        counter.inc_by(count);
        registry.register(name, help, counter);
    }
    let refused = Family::<Label, Counter>::default();
    for (reason, count) in block.refused {
        refused.get_or_create(&[("reason", reason.to_owned())]).inc_by(count);
    }
    registry.register("blocks_refused", "Blocks that were refused, by reason", refused);
}

fn fraction(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Fraction::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}
