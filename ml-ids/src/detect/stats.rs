//! Counters of the pipeline, so that every finished flow is accounted for:
//! `received = scored + other protocol + failed`.

use std::sync::atomic::{AtomicU64, Ordering};

/// Live counters.
#[derive(Debug, Default)]
pub struct Stats {
    received: AtomicU64,
    other_protocol: AtomicU64,
    scored: AtomicU64,
    failed: AtomicU64,
    alerts: AtomicU64,
    allowed: AtomicU64,
    untrained: AtomicU64,
}

/// Their values at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct StatsSnapshot {
    /// Finished flows that reached the pipeline.
    pub received: u64,
    /// Of these, flows that are neither TCP nor UDP and are not judged.
    pub other_protocol: u64,
    /// Of these, flows with a verdict.
    pub scored: u64,
    /// Of these, flows that the model failed on.
    pub failed: u64,
    /// Verdicts that are alerts.
    pub alerts: u64,
    /// Verdicts that would be alerts if their source were not on the allow-list.
    pub allowed: u64,
    /// Verdicts on flows of a kind that the training data does not hold (one packet, no duration).
    pub untrained: u64,
}

impl Stats {
    pub(super) fn count_received(&self, flows: usize, other_protocol: usize) {
        add(&self.received, flows);
        add(&self.other_protocol, other_protocol);
    }

    pub(super) fn count_verdict(&self, alert: bool, untrained: bool) {
        add(&self.scored, 1);
        add(&self.alerts, usize::from(alert));
        add(&self.untrained, usize::from(untrained));
    }

    pub(super) fn count_allowed(&self) {
        add(&self.allowed, 1);
    }

    pub(super) fn count_failed(&self, flows: usize) {
        add(&self.failed, flows);
    }

    /// The values now.
    #[must_use]
    pub fn snapshot(&self) -> StatsSnapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StatsSnapshot {
            received: get(&self.received),
            other_protocol: get(&self.other_protocol),
            scored: get(&self.scored),
            failed: get(&self.failed),
            alerts: get(&self.alerts),
            allowed: get(&self.allowed),
            untrained: get(&self.untrained),
        }
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
