//! Alerts for those who ask: the newest from memory, older ones from the store.
//!
//! What has just happened is in memory before the store has written it, and stays there while it cannot be written; so
//! whoever asks gets both, the newer state of each alert.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    counts::AlertCounts,
    record::{Alert, State},
    store::{Archive, Filter, MOST_ROWS, StoreError, StoreHealth, StoreWatch, Stored},
};
use crate::sink::Feed;

/// Alerts in memory.
const RECENT: usize = 1024;
/// Unreadable rows of the store that are told apart; there may be more.
const UNREADABLE: usize = 10_000;

/// Alerts, the newest first, and where the next page begins.
#[derive(Clone, Debug)]
pub struct Page {
    /// No more than were asked for; fewer where memory knows better than the file.
    pub alerts: Vec<Stored>,
    /// `before` of the next page; `None` on the last.
    pub next: Option<u64>,
}

/// What the scoring thread tells and others read.
#[derive(Debug, Default)]
pub struct Board {
    counts: Mutex<AlertCounts>,
    /// By number.
    recent: Mutex<BTreeMap<u64, Arc<Alert>>>,
    feed: Feed,
    store: Option<(PathBuf, StoreWatch)>,
    /// Numbers of rows of the store that are no alerts, as far as they were met.
    unreadable: Mutex<BTreeSet<i64>>,
}

impl Board {
    /// A board over the store of this file, if there is one, with the feed of what happens.
    #[must_use]
    pub fn new(store: Option<(PathBuf, StoreWatch)>, feed: Feed) -> Self {
        Self { store, feed, ..Self::default() }
    }

    /// What has become of alerts.
    #[must_use]
    pub fn counts(&self) -> AlertCounts {
        lock(&self.counts).clone()
    }

    /// How the store is; `None` without one.
    #[must_use]
    pub fn store(&self) -> Option<StoreHealth> {
        let unreadable = lock(&self.unreadable).len();
        self.store.as_ref().map(|(_, watch)| StoreHealth { unreadable, ..watch.health() })
    }

    /// What happens, as it happens.
    #[must_use]
    pub const fn feed(&self) -> &Feed {
        &self.feed
    }

    /// The alerts that the filter lets through, the newest first. Reads a file.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self, filter: &Filter) -> Result<Page, StoreError> {
        let limit = filter.limit.min(MOST_ROWS);
        let older = self.archive(|archive| archive.list(filter))?;
        // Beyond a full page the file knows more that comes before what is in memory.
        let end = older.last().filter(|_| older.len() >= limit).map(|last| last.alert.id);
        let mut found: BTreeMap<u64, Stored> = older.into_iter().map(|stored| (stored.alert.id, stored)).collect();
        for alert in lock(&self.recent).values().filter(|alert| end.is_none_or(|end| alert.id >= end)) {
            // What is known by now may no longer pass the filter.
            match found.get_mut(&alert.id) {
                Some(stored) if filter.passes(alert) => newer(stored, alert),
                Some(stored) if stored.alert.seq <= alert.seq => drop(found.remove(&alert.id)),
                None if filter.passes(alert) => drop(found.insert(alert.id, unread(alert))),
                _ => {}
            }
        }
        let rest = found.len() > limit;
        let alerts: Vec<Stored> = found.into_values().rev().take(limit).collect();
        let next = if rest { alerts.last().map(|last| last.alert.id) } else { end };
        Ok(Page { alerts, next })
    }

    /// The alert of this number. Reads a file.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn get(&self, id: u64) -> Result<Option<Stored>, StoreError> {
        let mut found = self.archive(|archive| archive.get(id).map(Vec::from_iter))?.pop();
        if let Some(alert) = lock(&self.recent).get(&id) {
            match &mut found {
                Some(stored) => newer(stored, alert),
                None => found = Some(unread(alert)),
            }
        }
        Ok(found)
    }

    /// Alerts that were told and have changed after the change of this number, in the order of their changes, as many as
    /// fit. Reads a file.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn changed_after(&self, seq: u64) -> Result<Vec<Stored>, StoreError> {
        let older = self.archive(|archive| archive.changed_after(seq, MOST_ROWS))?;
        // Beyond a full page the file knows more that comes before what is in memory.
        let end = if older.len() < MOST_ROWS { u64::MAX } else { older.last().map_or(u64::MAX, |last| last.alert.seq) };
        let mut found: BTreeMap<u64, Stored> = older.into_iter().map(|stored| (stored.alert.id, stored)).collect();
        for alert in lock(&self.recent).values().filter(|alert| !alert.held_back && alert.seq > seq) {
            match found.get_mut(&alert.id) {
                Some(stored) => newer(stored, alert),
                None => drop(found.insert(alert.id, unread(alert))),
            }
        }
        let mut found: Vec<_> = found.into_values().filter(|stored| stored.alert.seq <= end).collect();
        found.sort_unstable_by_key(|stored| stored.alert.seq);
        Ok(found)
    }

    pub(super) fn set_counts(&self, counts: &AlertCounts) {
        lock(&self.counts).clone_from(counts);
    }

    pub(super) fn remember(&self, alert: &Arc<Alert>) {
        let mut recent = lock(&self.recent);
        recent.insert(alert.id, Arc::clone(alert));
        if recent.len() > RECENT
            && let Some(oldest) = recent.values().min_by_key(|alert| alert.seq).map(|alert| alert.id)
        {
            recent.remove(&oldest);
        }
    }

    /// What the file says; nothing while there is none that can be read, as memory still knows.
    fn archive(
        &self,
        read: impl FnOnce(&Archive) -> Result<Vec<Stored>, StoreError>,
    ) -> Result<Vec<Stored>, StoreError> {
        let Some((path, watch)) = &self.store else { return Ok(Vec::new()) };
        let failing = || watch.health().failing.is_some();
        let opened = Archive::open(path).and_then(|archive| {
            let read = read(&archive);
            let mut unreadable = lock(&self.unreadable);
            for id in archive.unreadable() {
                if unreadable.len() < UNREADABLE && unreadable.insert(id) {
                    log::warn!("{}: row {id} is no alert and is left out", path.display());
                }
            }
            read
        });
        match opened {
            Err(error) if failing() => {
                log::debug!("{}: {error}", path.display());
                Ok(Vec::new())
            }
            read => read,
        }
    }
}

impl Filter {
    /// Whether an alert is wanted.
    #[must_use]
    pub fn passes(&self, alert: &Alert) -> bool {
        let Self { since_us, label, text, severity, before, merged, limit: _ } = self;
        let begins = |label: &String| {
            let start = alert.label.chars().take(label.chars().count());
            start.collect::<String>().eq_ignore_ascii_case(label)
        };
        since_us.is_none_or(|since| alert.last_seen_us >= since)
            && label.as_ref().is_none_or(begins)
            && text.as_ref().is_none_or(|text| text.is_in(alert))
            && severity.is_none_or(|severity| alert.severity <= severity)
            && before.is_none_or(|before| alert.id < before)
            && (*merged || alert.state != State::Merged)
    }
}

fn newer(stored: &mut Stored, alert: &Arc<Alert>) {
    // The same change may have grown in memory.
    if alert.seq >= stored.alert.seq {
        stored.alert = (**alert).clone();
    }
}

fn unread(alert: &Arc<Alert>) -> Stored {
    Stored { alert: (**alert).clone(), ack: None }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
