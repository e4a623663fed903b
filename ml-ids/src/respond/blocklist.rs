//! The blocked prefixes in the kernel's map, which is the only place that knows them. The agent and `ml-ids block` both
//! work on it, and both go by what they find there.

use std::{io, time::Duration};

use aya::maps::{LpmTrie, MapData, MapError, lpm_trie::Key};
use ipnet::IpNet;
use ml_ids_common::{BlockEntry, BlockOrigin, LABEL_BYTES, PrefixData};

use super::guard::{Guard, Protection};
use crate::sensor::prefix;

/// Longest block: what is meant to last belongs into a firewall.
pub const LONGEST_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why the list could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum BlocklistError {
    /// It holds as many entries as it can.
    #[error("the list of blocked sources is full; remove some, or start the sensor with a larger --block-max")]
    Full,
    /// The kernel refused.
    #[error("cannot use the list of blocked sources")]
    Map(#[from] MapError),
}

/// The list.
pub struct Blocklist(LpmTrie<MapData, PrefixData, BlockEntry>);

impl Blocklist {
    /// The list in this map.
    #[must_use]
    pub const fn new(map: LpmTrie<MapData, PrefixData, BlockEntry>) -> Self {
        Self(map)
    }

    /// The entry that decides about a prefix: the longest that covers it. It may have expired.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn covering(&self, net: &IpNet) -> Result<Option<BlockEntry>, BlocklistError> {
        match self.0.get(&prefix::key(net), 0) {
            Ok(entry) => Ok(Some(entry)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Enters a prefix, or replaces its entry.
    ///
    /// # Errors
    /// When the list is full or the kernel refuses.
    pub fn add(&mut self, net: &IpNet, entry: &BlockEntry) -> Result<(), BlocklistError> {
        self.0.insert(&prefix::key(net), entry, 0).map_err(|error| match os_error(&error) {
            Some(libc::ENOSPC) => BlocklistError::Full,
            _ => error.into(),
        })
    }

    /// Removes a prefix. False when it was not there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&mut self, net: &IpNet) -> Result<bool, BlocklistError> {
        match self.0.remove(&prefix::key(net)) {
            Ok(()) => Ok(true),
            Err(error) if os_error(&error) == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// All entries in the order of their addresses, those that have expired included.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn entries(&self) -> Result<Vec<(IpNet, BlockEntry)>, BlocklistError> {
        let mut entries = Vec::new();
        for item in self.0.iter() {
            match item {
                Ok((key, entry)) => entries.extend(prefix::prefix(&key).map(|net| (net, entry))),
                // Removed between its key and its value.
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        entries.sort_by_key(|(net, _)| *net);
        // A walk that meets a removal by somebody else begins again.
        entries.dedup_by_key(|(net, _)| *net);
        Ok(entries)
    }
}

/// An entry from now on.
#[must_use]
pub fn entry(now_us: u64, ttl: Duration, cause: Option<&Cause>) -> BlockEntry {
    let mut label = [0; LABEL_BYTES];
    let text = cause.map_or("", |cause| cause.label.as_str());
    for (byte, text) in label.iter_mut().zip(text.bytes()) {
        *byte = text;
    }
    BlockEntry {
        expires_us: now_us.saturating_add(u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX)),
        since_us: now_us,
        packets: 0,
        origin: if cause.is_some() { BlockOrigin::Verdict } else { BlockOrigin::Hand } as u32,
        class: cause.map_or(0, |cause| cause.class),
        probability: cause.map_or(0, |cause| (cause.probability * MILLION) as u32),
        reserved: 0,
        label,
    }
}

const MILLION: f32 = 1e6;

/// The verdict behind a block.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// Class in the model's order.
    pub class: u32,
    /// Its label.
    pub label: String,
    /// Its probability.
    pub probability: f32,
}

impl Cause {
    /// The verdict that an entry tells of; `None` if it was made by hand.
    #[must_use]
    pub fn of(entry: &BlockEntry) -> Option<Self> {
        if entry.origin != BlockOrigin::Verdict as u32 {
            return None;
        }
        let length = entry.label.iter().position(|byte| *byte == 0).unwrap_or(LABEL_BYTES);
        let label = String::from_utf8_lossy(entry.label.get(..length).unwrap_or_default()).into_owned();
        Some(Self { class: entry.class, label, probability: entry.probability as f32 / MILLION })
    }
}

/// The protected prefixes in the kernel's map.
pub struct Protected(LpmTrie<MapData, PrefixData, u64>);

impl Protected {
    /// The prefixes in this map.
    #[must_use]
    pub const fn new(map: LpmTrie<MapData, PrefixData, u64>) -> Self {
        Self(map)
    }

    /// Writes down what a guard protects.
    ///
    /// # Errors
    /// When the kernel refuses, for example because there are too many.
    pub fn write(&mut self, guard: &Guard) -> Result<(), MapError> {
        let old = self.0.keys().collect::<Result<Vec<Key<PrefixData>>, MapError>>()?;
        // What is new comes first: nothing is without protection in between.
        for (net, why) in guard.protected() {
            self.0.insert(&prefix::key(net), *why as u64, 0)?;
        }
        for key in old {
            let kept = prefix::prefix(&key).is_some_and(|net| guard.protected().iter().any(|(known, _)| *known == net));
            if !kept {
                self.0.remove(&key)?;
            }
        }
        Ok(())
    }

    /// The guard that was written down.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn read(&self) -> Result<Guard, MapError> {
        let mut protected = Vec::new();
        for item in self.0.iter() {
            match item {
                Ok((key, number)) => {
                    let why = Protection::from_number(number).unwrap_or(Protection::AllowList);
                    protected.extend(prefix::prefix(&key).map(|net| (net, why)));
                }
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(error),
            }
        }
        // In the order in which reasons are told.
        protected.sort_by_key(|(net, why)| (*why as u64, *net));
        Ok(Guard::restored(protected))
    }
}

/// The operating system's error number of a map operation.
pub(super) fn os_error(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        MapError::IoError(error) => io::Error::raw_os_error(error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_tells_of_its_verdict() {
        let cause = Cause { class: 3, label: "Infiltration - Portscan".to_owned(), probability: 0.5 };
        let made = entry(5_000_000, Duration::from_secs(10), Some(&cause));
        assert_eq!((made.since_us, made.expires_us), (5_000_000, 15_000_000));
        assert_eq!(Cause::of(&made), Some(cause));
        assert_eq!(Cause::of(&entry(0, LONGEST_TTL, None)), None);
    }

    #[test]
    fn a_long_label_is_cut_and_an_endless_time_to_live_does_not_overflow() {
        let cause = Cause { class: 0, label: "x".repeat(100), probability: 1.0 };
        let made = entry(u64::MAX - 1, Duration::MAX, Some(&cause));
        assert_eq!(made.expires_us, u64::MAX);
        assert_eq!(Cause::of(&made).unwrap().label.len(), LABEL_BYTES);
    }
}
