//! How long flows wait for their verdicts, and how they come together.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ml_ids_common::{EndReason, FLOW_LIMIT_US, FlowRecord};

use super::Verdict;
use crate::histogram::{Histogram, Scale, Shape};

/// From a flow to a full batch of the drain thread, several of which may be judged together.
const BATCH: Scale = Scale { per_unit: 1, ends: &[1, 4, 16, 64, 128, 256, 512, 1024] };
/// Scoring takes microseconds a flow.
const SCORING: Scale = Scale {
    per_unit: 1_000_000_000,
    ends: &[50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 25_000_000, 100_000_000],
};
/// From the milliseconds that records are collected for to what nobody would call live, in microseconds.
const DELAY: Scale = Scale {
    per_unit: 1_000_000,
    ends: &[
        1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
        10_000_000, 30_000_000,
    ],
};

/// Distributions that the scoring thread keeps.
#[derive(Debug)]
pub struct Timing {
    linger_us: u64,
    scoring: Histogram,
    batch_flows: Histogram,
    delay: Histogram,
}

/// Them at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimingShapes {
    /// Time that scoring a batch takes, in seconds.
    pub scoring: Shape,
    /// Flows of a batch.
    pub batch_flows: Shape,
    /// From when a flow was over to its verdict, in seconds.
    pub delay: Shape,
}

impl Default for Timing {
    fn default() -> Self {
        Self::new(Duration::ZERO)
    }
}

impl Timing {
    /// Those of a sensor that lets terminated flows wait this long for late packets.
    #[must_use]
    pub fn new(linger: Duration) -> Self {
        Self {
            linger_us: u64::try_from(linger.as_micros()).unwrap_or(u64::MAX),
            scoring: Histogram::new(&SCORING),
            batch_flows: Histogram::new(&BATCH),
            delay: Histogram::new(&DELAY),
        }
    }

    /// Counts a batch whose scoring took so long and was done at `now`.
    pub(super) fn observe(&self, verdicts: &[Verdict], took: Duration, now: SystemTime) {
        if verdicts.is_empty() {
            return;
        }
        self.scoring.observe_nanos(took);
        self.batch_flows.observe(verdicts.len() as u64);
        let now_us = u64::try_from(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()).unwrap_or(u64::MAX);
        let over = verdicts.iter().filter_map(|verdict| over_us(&verdict.record, self.linger_us));
        self.delay.observe_all(over.map(|over| now_us.saturating_sub(over)));
    }

    /// The distributions now.
    #[must_use]
    pub fn shapes(&self) -> TimingShapes {
        TimingShapes { scoring: self.scoring.shape(), batch_flows: self.batch_flows.shape(), delay: self.delay.shape() }
    }
}

/// When a flow was over, in the time of its record: after its teardown and the wait for late packets, or at its time limit.
/// `None` where something else ended it, of which the record does not say when that was.
fn over_us(record: &FlowRecord, linger_us: u64) -> Option<u64> {
    let start_us = record.state().start_us;
    match record.reason() {
        EndReason::Fin | EndReason::Rst => {
            Some(start_us.saturating_add_signed(record.duration_us()).saturating_add(linger_us))
        }
        EndReason::Timeout | EndReason::Idle => Some(start_us.saturating_add_signed(FLOW_LIMIT_US)),
        EndReason::None | EndReason::Shutdown | EndReason::EndOfCapture | EndReason::Evicted => None,
    }
}

#[cfg(test)]
mod tests {
    use ml_ids_common::FlowState;

    use super::*;

    const START: u64 = 1_700_000_000_000_000;

    fn over(reason: EndReason, last: i32) -> Option<u64> {
        let state = FlowState { start_us: START, last, ..FlowState::default() };
        over_us(&FlowRecord::finish(state, reason), 1_000_000).map(|over| over - START)
    }

    #[test]
    fn a_flow_is_over_when_nothing_more_is_waited_for() {
        assert_eq!(over(EndReason::Fin, 250_000), Some(1_250_000));
        assert_eq!(over(EndReason::Rst, 0), Some(1_000_000));
        assert_eq!(over(EndReason::Idle, 7), Some(120_000_000));
        assert_eq!(over(EndReason::Timeout, 119_000_000), Some(120_000_000));
        assert_eq!(over(EndReason::Shutdown, 5), None);
        assert_eq!(over(EndReason::Evicted, 5), None);
    }

    #[test]
    fn nothing_scored_is_no_batch() {
        let timing = Timing::new(Duration::from_secs(1));
        timing.observe(&[], Duration::from_millis(1), SystemTime::now());
        assert_eq!(timing.shapes(), Timing::default().shapes());
    }
}
