//! What came of the looks at a source, in numbers.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// What a look led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookOutcome {
    /// The source has what it had.
    Unchanged = 0,
    /// Another model is at work.
    Swapped = 1,
    /// The source does not answer.
    Away = 2,
    /// The source says no.
    Denied = 3,
    /// The source has a model that is refused.
    Refused = 4,
}

impl LookOutcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Unchanged, Self::Swapped, Self::Away, Self::Denied, Self::Refused];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Swapped => "swapped",
            Self::Away => "away",
            Self::Denied => "denied",
            Self::Refused => "refused",
        }
    }
}

/// The looks of a keeper.
#[derive(Debug, Default)]
pub(super) struct Looks {
    counts: [AtomicU64; LookOutcome::ALL.len()],
    /// When the source last had a model that was let in, seconds since 1970.
    well_at: AtomicU64,
}

/// Them at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookCounts {
    /// Looks by outcome, those at the start left out.
    pub outcomes: [(LookOutcome, u64); LookOutcome::ALL.len()],
    /// What is wrong with the source now; `None` if nothing is known to be.
    pub trouble: Option<LookOutcome>,
    /// When the source last had a model that was let in, seconds since 1970; 0 if it never had one.
    pub well_at: u64,
}

impl Looks {
    pub(super) fn count(&self, outcome: LookOutcome) {
        if let Some(count) = self.counts.get(outcome as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn went_well(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.well_at.store(now.as_secs(), Ordering::Relaxed);
    }

    pub(super) fn counts(&self, trouble: Option<LookOutcome>) -> LookCounts {
        let count = |outcome: LookOutcome| {
            (outcome, self.counts.get(outcome as usize).map_or(0, |count| count.load(Ordering::Relaxed)))
        };
        LookCounts { outcomes: LookOutcome::ALL.map(count), trouble, well_at: self.well_at.load(Ordering::Relaxed) }
    }
}
