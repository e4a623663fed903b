//! What the response has done so far, in numbers.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use super::guard::Protection;

/// Reasons to refuse a block: what is protected, a full list, a kernel that does not take it.
const REASONS: usize = Protection::ALL.len() + 2;
/// Name of the reason of a full list.
pub(super) const FULL: &str = "full";
/// Name of the reason of a kernel that does not take an entry.
pub(super) const FAILED: &str = "failed";

/// Live counters.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) entries: AtomicU64,
    pub(super) blocked: AtomicU64,
    pub(super) unblocked: AtomicU64,
    pub(super) expired: AtomicU64,
    refused: [AtomicU64; REASONS],
}

/// Their values at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockCounts {
    /// Entries of the list at the last look.
    pub entries: u64,
    /// Blocks made, by verdicts and by hand.
    pub blocked: u64,
    /// Blocks removed before their time was over.
    pub unblocked: u64,
    /// Blocks whose time was over.
    pub expired: u64,
    /// Blocks that were refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(super) fn refuse(&self, reason: &'static str) {
        if let Some((_, count)) = names().zip(&self.refused).find(|(name, _)| *name == reason) {
            add(count);
        }
    }

    pub(super) fn snapshot(&self) -> BlockCounts {
        let Self { entries, blocked, unblocked, expired, refused } = self;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BlockCounts {
            entries: get(entries),
            blocked: get(blocked),
            unblocked: get(unblocked),
            expired: get(expired),
            refused: names().zip(refused.iter().map(get)).collect(),
        }
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    Protection::ALL.into_iter().map(Protection::name).chain([FULL, FAILED])
}

pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_to_refuse_has_a_counter() {
        let tally = Tally::default();
        assert_eq!(names().count(), REASONS);
        names().for_each(|name| tally.refuse(name));
        assert!(tally.snapshot().refused.values().all(|count| *count == 1));
    }
}
