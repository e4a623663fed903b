//! What came of the looks at a source: the last one, how many have failed in a row, and what is wrong since when.

use std::time::{Instant, SystemTime};

use super::ModelError;

/// The looks so far, of which the first loaded a model.
#[derive(Clone, Debug)]
pub(crate) struct Looks {
    /// When the last one ended.
    pub(crate) at: SystemTime,
    /// What it led to.
    pub(crate) outcome: Outcome,
    /// Looks in a row that failed, up to the last one; one that finds a refused model unchanged is none of them.
    pub(crate) failures: u32,
    /// When the next one is due; `None` if there will only be those that are asked for.
    pub(crate) next: Option<SystemTime>,
    /// How many led to what, in the order of [`Outcome::ALL`].
    pub(crate) counts: [u64; Outcome::ALL.len()],
    /// When the source last had a model that was let in; `None` if it never had one.
    pub(crate) well_at: Option<SystemTime>,
    pub(super) trouble: Option<Trouble>,
}

/// What a look at the source led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The first model is at work.
    Loaded,
    /// The model at work is the source's.
    Unchanged,
    /// The source had another, which is at work now.
    Swapped,
    /// The model at work may not be the source's.
    Failed(Kind),
}

/// Whose fault it is that a look failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The source does not answer.
    Away,
    /// The source says no.
    Denied,
    /// The source has a model that is refused.
    Refused,
}

/// What went wrong at the last look.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) error: String,
    pub(super) since: Instant,
    pub(super) kind: Kind,
}

impl Outcome {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::Loaded,
        Self::Unchanged,
        Self::Swapped,
        Self::Failed(Kind::Away),
        Self::Failed(Kind::Denied),
        Self::Failed(Kind::Refused),
    ];

    /// In a word, for the API.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Unchanged => "unchanged",
            Self::Swapped => "swapped",
            Self::Failed(Kind::Away) => "away",
            Self::Failed(Kind::Denied) => "denied",
            Self::Failed(Kind::Refused) => "refused",
        }
    }
}

impl Kind {
    /// Of what went wrong before there was a model to refuse.
    pub(super) fn of(error: &ModelError) -> Self {
        match error {
            ModelError::Fetch(error) if error.is_away() => Self::Away,
            _ => Self::Denied,
        }
    }
}

impl Trouble {
    pub(super) fn new(error: String, kind: Kind) -> Self {
        Self { error, since: Instant::now(), kind }
    }
}

impl Looks {
    /// The first one loaded a model; with `trouble`, that of the cache.
    pub(super) fn first(trouble: Option<Trouble>) -> Self {
        let outcome = trouble.as_ref().map_or(Outcome::Loaded, |trouble| Outcome::Failed(trouble.kind));
        let mut looks = Self {
            at: SystemTime::now(),
            outcome,
            failures: trouble.is_some().into(),
            next: None,
            counts: [0; Outcome::ALL.len()],
            well_at: None,
            trouble,
        };
        looks.ended(outcome);
        looks
    }

    fn ended(&mut self, outcome: Outcome) {
        self.at = SystemTime::now();
        self.outcome = outcome;
        if !matches!(outcome, Outcome::Failed(_)) {
            self.well_at = Some(self.at);
        }
        for (known, count) in Outcome::ALL.iter().zip(&mut self.counts) {
            *count += u64::from(*known == outcome);
        }
    }

    /// Notes that one went well. Returns what was wrong until now.
    pub(super) fn well(&mut self, outcome: Outcome) -> Option<Trouble> {
        self.ended(outcome);
        self.failures = 0;
        self.trouble.take()
    }

    /// Notes that one failed. Returns whether that is another fault than before.
    pub(super) fn failed(&mut self, error: String, kind: Kind) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.wrong(error, kind)
    }

    /// Notes that one found the model that was refused already.
    pub(super) fn still_refused(&mut self, error: String) -> bool {
        self.failures = 0;
        self.wrong(error, Kind::Refused)
    }

    fn wrong(&mut self, error: String, kind: Kind) -> bool {
        self.ended(Outcome::Failed(kind));
        let before = self.trouble.take();
        let news = before.as_ref().is_none_or(|before| before.error != error);
        let since = before.filter(|before| before.kind == kind).map_or_else(Instant::now, |before| before.since);
        self.trouble = Some(Trouble { error, since, kind });
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_counted_by_what_they_led_to_and_good_ones_are_dated() {
        let mut looks = Looks::first(Some(Trouble::new("no answer".to_owned(), Kind::Away)));
        assert_eq!((looks.counts, looks.well_at), ([0, 0, 0, 1, 0, 0], None));
        looks.well(Outcome::Swapped);
        let well_at = looks.well_at;
        assert_eq!(well_at, Some(looks.at));
        looks.failed("no model".to_owned(), Kind::Refused);
        looks.still_refused("no model".to_owned());
        assert_eq!((looks.counts, looks.well_at), ([0, 0, 1, 1, 0, 2], well_at));
        looks.well(Outcome::Unchanged);
        assert_eq!(looks.counts, [0, 1, 1, 1, 0, 2]);
        assert_eq!(Looks::first(None).counts, [1, 0, 0, 0, 0, 0]);
    }
}
