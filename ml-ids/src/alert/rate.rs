//! How many alerts may be told in a minute, and the alert that says how many were not.
//!
//! Alerts of high severity have a budget of their own, so that noise cannot crowd them out.

use std::sync::Arc;

use serde_json::Value;

use super::{
    class::Severity,
    counts::OTHER_CLASSES,
    record::{Alert, AlertChange, ChangeKind, Ending, HeldBack, RATE_LABEL, State},
    seen::Counted,
};

/// A minute, in microseconds.
pub(super) const MINUTE_US: u64 = 60_000_000;
/// Most classes that the summarising alert names; models have far fewer.
const MOST_CLASSES: usize = 64;

/// What may still be told in this minute.
#[derive(Debug)]
pub(super) struct Budget {
    /// `None`: all of them.
    per_minute: Option<u32>,
    begun_us: u64,
    opened: u32,
    opened_high: u32,
    grown: u32,
}

impl Budget {
    /// `per_minute` alerts of high severity and as many of the others; 0 is no limit.
    pub(super) const fn new(per_minute: u32) -> Self {
        let per_minute = if per_minute == 0 { None } else { Some(per_minute) };
        Self { per_minute, begun_us: 0, opened: 0, opened_high: 0, grown: 0 }
    }

    /// Begins another minute if it is time; whether it did.
    pub(super) const fn roll(&mut self, now_us: u64) -> bool {
        // A clock that was set back begins one as well.
        if now_us >= self.begun_us && now_us - self.begun_us < MINUTE_US {
            return false;
        }
        *self = Self { per_minute: self.per_minute, begun_us: now_us, opened: 0, opened_high: 0, grown: 0 };
        true
    }

    /// Whether another alert may be told; if so it is spent.
    pub(super) fn open(&mut self, severity: Severity) -> bool {
        let spent = if severity == Severity::HIGH { &mut self.opened_high } else { &mut self.opened };
        spend(spent, self.per_minute)
    }

    /// Whether another growth may be told; if so it is spent.
    pub(super) fn grow(&mut self) -> bool {
        spend(&mut self.grown, self.per_minute)
    }
}

fn spend(spent: &mut u32, limit: Option<u32>) -> bool {
    let left = limit.is_none_or(|limit| *spent < limit);
    *spent = spent.saturating_add(u32::from(left));
    left
}

/// The summarising alert, while alerts are held back.
#[derive(Debug)]
pub(super) struct Overload {
    id: u64,
    severity: Severity,
    opened_us: u64,
    last_us: u64,
    held: HeldBack,
    this_minute: u64,
    evidence: Arc<Value>,
}

impl Overload {
    /// Begins with the first alert that is held back, whose flow stands for all of them.
    pub(super) fn new(id: u64, severity: Severity, now_us: u64, evidence: Arc<Value>) -> Self {
        let held = HeldBack::default();
        Self { id, severity, opened_us: now_us, last_us: now_us, held, this_minute: 0, evidence }
    }

    /// Counts an alert that is held back.
    pub(super) fn count(&mut self, label: &str, now_us: u64) {
        let HeldBack { count, classes } = &mut self.held;
        let label = if classes.len() < MOST_CLASSES || classes.contains_key(label) { label } else { OTHER_CLASSES };
        *classes.entry(label.to_owned()).or_default() += 1;
        *count += 1;
        self.this_minute += 1;
        self.last_us = now_us;
    }

    /// What there is to tell when a minute is over: that it has grown, or that it is over itself.
    pub(super) const fn minute(&mut self, now_us: u64, max_age_us: u64) -> (ChangeKind, Option<Ending>) {
        let quiet = self.this_minute == 0;
        self.this_minute = 0;
        if quiet {
            (ChangeKind::Closed, Some(Ending::Quiet))
        } else if now_us.saturating_sub(self.opened_us) >= max_age_us {
            (ChangeKind::Closed, Some(Ending::Age))
        } else {
            (ChangeKind::Grown, None)
        }
    }

    /// As it is now.
    pub(super) fn change(&self, seq: u64, at_us: u64, kind: ChangeKind, ending: Option<Ending>) -> AlertChange {
        let alert = Alert {
            id: self.id,
            seq,
            state: if ending.is_some() { State::Closed } else { State::Open },
            ending,
            merged_into: None,
            label: RATE_LABEL.to_owned(),
            severity: self.severity,
            count: self.held.count,
            first_seen_us: self.opened_us,
            last_seen_us: self.last_us,
            score: 0.0,
            sources: none(),
            targets: none(),
            ports: none(),
            packets: 0,
            bytes: 0,
            held_back: false,
            held: Some(self.held.clone()),
            evidence: Arc::clone(&self.evidence),
        };
        AlertChange { kind, at_us, alert: Arc::new(alert) }
    }
}

const fn none<T>() -> Counted<T> {
    Counted { count: 0, exact: true, sample: Vec::new() }
}
