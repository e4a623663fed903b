//! The model that runs, where it comes from, the one that only watches, and how live traffic compares with what it was
//! trained on.

use std::time::UNIX_EPOCH;

use super::{Scrape, page::Page};
use crate::api::predictor::{ShadowHealth, SourceLooks};

pub(super) fn model(Scrape { state, .. }: &Scrape<'_>, page: &mut Page<'_>) {
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
    page.info("model", "The model that runs", labels);
    let loaded = card.loaded_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    page.gauge("model_loaded_timestamp_seconds", "When the model went live, seconds since 1970", loaded);
}

pub(super) fn source(Scrape { state, .. }: &Scrape<'_>, page: &mut Page<'_>) {
    let Some(source) = state.model_source() else { return };
    let Some(SourceLooks { outcomes, troubles, well_at }) = source.looks() else { return };
    page.counters(
        "model_looks",
        "Looks at the source of the model, by what they led to",
        outcomes.into_iter().map(|(outcome, count)| ([("outcome", outcome)], count)),
    );
    page.gauges(
        "model_source_failing",
        "Whether the model at work stays because of this",
        troubles.into_iter().map(|(reason, now)| ([("reason", reason)], f64::from(u8::from(now)))),
    );
    page.gauge(
        "model_source_good_timestamp_seconds",
        "When the source last had a model that was let in, seconds since 1970",
        well_at as f64,
    );
    let every = source.refresh().interval_seconds.unwrap_or(0.0);
    page.gauge("model_refresh_interval_seconds", "How often the source is looked at; 0 if only on demand", every);
}

pub(super) fn shadow(Scrape { state, .. }: &Scrape<'_>, page: &mut Page<'_>) {
    let Some(shadow) = state.model_source().and_then(|source| source.shadow()) else { return };
    let ShadowHealth { compared, labels_differ, alerts_missed, alerts_added, skipped, failed, .. } = shadow;
    page.counter("shadow_compared_flows", "Flows that both models have scored", compared);
    let kinds = [("label", labels_differ), ("alert_missed", alerts_missed), ("alert_added", alerts_added)];
    page.counters(
        "shadow_disagreements",
        "Flows of these on which the models disagree, by what about",
        kinds.map(|(kind, count)| ([("about", kind)], count)),
    );
    let kinds = [("skipped", skipped), ("failed", failed)];
    page.counters(
        "shadow_unscored_flows",
        "Flows that the second model has not scored, by reason",
        kinds.map(|(reason, count)| ([("reason", reason)], count)),
    );
}

/// Of the last closed window. There are as many features as there are.
pub(super) fn drift(Scrape { drift, .. }: &Scrape<'_>, page: &mut Page<'_>) {
    let Some(drift) = drift.as_ref().filter(|drift| drift.available) else { return };
    page.counter("drift_windows", "Windows of flows that were compared with the training data", drift.windows);
    page.gauge(
        "features_left_training",
        "Features that were above a PSI of 0.25 for two windows in a row and are not back yet",
        drift.left.len() as f64,
    );
    let Some(window) = &drift.window else { return };
    page.gauges(
        "feature_drift_psi",
        "Population stability index against the benign training rows",
        window.features.iter().map(|feature| ([("feature", feature.feature)], feature.psi)),
    );
    page.gauges(
        "feature_outside_ratio",
        "Share of flows outside the range of the training rows",
        window.features.iter().map(|feature| ([("feature", feature.feature)], feature.outside)),
    );
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
        page.gauge(name, help, value);
    }
}
