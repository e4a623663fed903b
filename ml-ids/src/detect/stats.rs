//! Counters of the pipeline, so that every finished flow is accounted for:
//! `received = scored + other protocol + failed`.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ml_ids_common::{EndReason, FlowRecord};

use super::timing::Timing;

/// Most classes whose alerts are counted apart; models have far fewer, but there may be one model after the other.
const MOST_CLASSES: usize = 128;
/// Where those of further classes are counted.
const OTHER_CLASSES: &str = "other";

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
    /// Finished flows by the number of their [`EndReason`].
    ended: [AtomicU64; EndReason::ALL.len() + 1],
    alert_classes: Mutex<BTreeMap<String, u64>>,
    timing: Timing,
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
    /// Counters of a sensor that lets terminated flows wait this long for late packets.
    #[must_use]
    pub fn new(linger: Duration) -> Self {
        Self { timing: Timing::new(linger), ..Self::default() }
    }

    /// How long flows wait.
    #[must_use]
    pub const fn timing(&self) -> &Timing {
        &self.timing
    }

    pub(super) fn count_received(&self, records: &[FlowRecord]) {
        add(&self.received, records.len());
        for reason in EndReason::ALL {
            let flows = records.iter().filter(|record| record.reason() == reason).count();
            if let (Some(count), true) = (self.ended.get(reason as usize), flows > 0) {
                add(count, flows);
            }
        }
    }

    pub(super) fn count_other_protocol(&self, flows: usize) {
        add(&self.other_protocol, flows);
    }

    pub(super) fn count_verdict(&self, alert: bool, untrained: bool) {
        add(&self.scored, 1);
        add(&self.alerts, usize::from(alert));
        add(&self.untrained, usize::from(untrained));
    }

    pub(super) fn count_alert_class(&self, class: &str) {
        let mut classes = self.alert_classes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = classes.get_mut(class) {
            *count += 1;
            return;
        }
        let class = if classes.len() < MOST_CLASSES { class } else { OTHER_CLASSES };
        *classes.entry(class.to_owned()).or_default() += 1;
    }

    /// Finished flows that reached the pipeline, by why they ended.
    pub fn ended(&self) -> impl Iterator<Item = (EndReason, u64)> {
        let count =
            |reason: EndReason| self.ended.get(reason as usize).map_or(0, |count| count.load(Ordering::Relaxed));
        EndReason::ALL.into_iter().map(move |reason| (reason, count(reason)))
    }

    /// Verdicts that are alerts, by class; only classes that have had one.
    #[must_use]
    pub fn alert_classes(&self) -> BTreeMap<String, u64> {
        self.alert_classes.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

#[cfg(test)]
mod tests {
    use ml_ids_common::FlowState;

    use super::*;

    #[test]
    fn flows_are_counted_by_why_they_ended() {
        let stats = Stats::default();
        let record = |reason| FlowRecord::finish(FlowState::default(), reason);
        stats.count_received(&[EndReason::Fin, EndReason::Idle, EndReason::Fin].map(record));
        stats.count_received(&[EndReason::Evicted].map(record));
        let ended: Vec<_> = stats.ended().filter(|(_, count)| *count > 0).collect();
        assert_eq!(ended, [(EndReason::Fin, 2), (EndReason::Idle, 1), (EndReason::Evicted, 1)]);
        assert_eq!(stats.snapshot().received, 4);
    }

    #[test]
    fn alerts_of_more_classes_than_are_kept_are_counted_together() {
        let stats = Stats::default();
        for class in 0..MOST_CLASSES + 3 {
            stats.count_alert_class(&class.to_string());
            stats.count_alert_class("0");
        }
        let classes = stats.alert_classes();
        assert_eq!(classes.len(), MOST_CLASSES + 1);
        assert_eq!((classes["0"], classes[OTHER_CLASSES]), (MOST_CLASSES as u64 + 4, 3));
    }
}
