//! What became of the events of one sink: `queued = delivered + refused + dropped + lost at stop + waiting`.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use serde::Serialize;

/// Live counters of one sink.
#[derive(Debug, Default)]
pub(super) struct SinkCounters {
    queued: AtomicU64,
    delivered: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
    lost_at_stop: AtomicU64,
    retries: AtomicU64,
    /// The queue was full, and has not been empty since.
    overflowing: AtomicBool,
    /// Why nothing is delivered; `None` while it is.
    failure: Mutex<Option<String>>,
}

/// A sink at one moment. Counters count since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SinkState {
    /// Its name.
    pub name: &'static str,
    /// Events that wait, those that are being delivered included.
    pub waiting: u64,
    /// Events that may wait.
    pub capacity: usize,
    /// Events meant for it.
    pub queued: u64,
    /// Events that have arrived.
    pub delivered: u64,
    /// Events that the other side will never take.
    pub refused: u64,
    /// Events that found the queue full.
    pub dropped: u64,
    /// Events that were still waiting when the sensor ended.
    pub lost_at_stop: u64,
    /// Deliveries that failed and were tried again.
    pub retries: u64,
    /// Why nothing arrives now; `None` while all is well.
    pub failure: Option<String>,
}

impl SinkCounters {
    pub(super) fn count_queued(&self) {
        self.queued.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether it is the first one since the queue was empty.
    pub(super) fn count_dropped(&self) -> bool {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        !self.overflowing.swap(true, Ordering::Relaxed)
    }

    pub(super) fn count_delivered(&self, events: usize) {
        self.delivered.fetch_add(events as u64, Ordering::Relaxed);
    }

    /// Notes that nothing waits in the queue any more.
    pub(super) fn queue_is_empty(&self) {
        self.overflowing.store(false, Ordering::Relaxed);
    }

    pub(super) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_lost(&self, events: usize) {
        self.lost_at_stop.fetch_add(events as u64, Ordering::Relaxed);
    }

    /// Notes how it stands. Returns whether that has changed between well and failing.
    pub(super) fn set_failure(&self, failure: Option<String>) -> bool {
        let mut held = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = held.is_some() != failure.is_some();
        *held = failure;
        changed
    }

    pub(super) fn state(&self, name: &'static str, capacity: usize) -> SinkState {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // What is over is read before what has come, so that no event is counted as over and not as come.
        let (delivered, refused) = (get(&self.delivered), get(&self.refused));
        let (dropped, lost_at_stop) = (get(&self.dropped), get(&self.lost_at_stop));
        let queued = get(&self.queued);
        SinkState {
            name,
            waiting: queued.saturating_sub(delivered + refused + dropped + lost_at_stop),
            capacity,
            queued,
            delivered,
            refused,
            dropped,
            lost_at_stop,
            retries: get(&self.retries),
            failure: self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
