//! What has become of alerts, in numbers.

use std::collections::BTreeMap;

use super::class::Severity;

/// Most pairs of class and severity that are counted apart; models have far fewer classes.
const MOST_KINDS: usize = 128;
/// Where further classes are counted.
pub(super) const OTHER_CLASSES: &str = "other";

/// Numbers since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertCounts {
    /// Flows that raised or joined an alert.
    pub flows: u64,
    /// Alerts opened, by class and severity, those included that were held back or have become part of another.
    pub opened: BTreeMap<(String, Severity), u64>,
    /// Growths told.
    pub grown: u64,
    /// Alerts that are over.
    pub closed: u64,
    /// Alerts that have become part of another.
    pub merged: u64,
    /// Alerts of those closed that had to make room.
    pub evicted: u64,
    /// Alerts over the rate: only in the store.
    pub held_back: u64,
    /// Alerts of those that were told later, when there was room.
    pub told_late: u64,
    /// Alerts that are open now.
    pub open: usize,
}

impl AlertCounts {
    pub(super) fn opened(&mut self, label: &str, severity: Severity) {
        let known = |label: &str, counts: &Self| counts.opened.contains_key(&(label.to_owned(), severity));
        let label = if self.opened.len() < MOST_KINDS || known(label, self) { label } else { OTHER_CLASSES };
        *self.opened.entry((label.to_owned(), severity)).or_default() += 1;
    }

    /// Alerts opened in all.
    #[must_use]
    pub fn opened_total(&self) -> u64 {
        self.opened.values().sum()
    }
}
