//! What blocking remembers of the past, within bounds: what was unblocked by hand, so that flows that ended before do not
//! block it again, and whose refusal has been told, so that it is not told again at once. Times are microseconds of Unix time.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;

use crate::sensor::clock::micros;

/// Removals that are remembered, at most.
const MOST_PARDONS: usize = 65_536;
/// How long a removal is remembered: flows that ended before it are judged by then.
const KEPT: Duration = Duration::from_secs(300);
/// Sources whose refusal has been told and is not told again for a while, at most.
const MOST_MUTED: usize = 1024;

/// Removals by hand, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Pardons(VecDeque<(IpNet, u64)>);

impl Pardons {
    /// It was unblocked at this time.
    pub(super) fn add(&mut self, net: IpNet, at_us: u64) {
        if self.0.len() >= MOST_PARDONS {
            self.0.pop_front();
        }
        self.0.push_back((net, at_us));
    }

    /// Whether a flow of this source that ended at this time has been pardoned.
    pub(super) fn hold(&self, source: IpNet, end_us: u64) -> bool {
        self.0.iter().any(|(pardoned, at_us)| pardoned.contains(&source) && end_us <= *at_us)
    }

    /// Forgets what is too old to matter.
    pub(super) fn forget(&mut self, now_us: u64) {
        let oldest_us = now_us.saturating_sub(micros(KEPT));
        self.0.retain(|(_, at_us)| *at_us >= oldest_us);
    }
}

/// Sources whose refusal has been told, and until when it is not told again.
#[derive(Debug, Default)]
pub(super) struct Muted(HashMap<IpAddr, u64>);

impl Muted {
    /// Whether a refusal of this source is to be told now; then not again before `until_us`.
    pub(super) fn tells(&mut self, source: IpAddr, now_us: u64, until_us: u64) -> bool {
        if self.0.get(&source).is_some_and(|until_us| now_us < *until_us) {
            return false;
        }
        if self.0.len() >= MOST_MUTED {
            self.0.clear();
        }
        self.0.insert(source, until_us);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_that_ended_before_the_removal_are_pardoned_for_a_while() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let (source, other) = (net("192.0.2.7/32"), net("198.51.100.7/32"));
        let mut pardons = Pardons::default();
        pardons.add(net("192.0.2.0/24"), 1_000);
        assert!(pardons.hold(source, 1_000) && !pardons.hold(source, 1_001) && !pardons.hold(other, 1_000));
        pardons.forget(1_000 + 300_000_000);
        assert!(pardons.hold(source, 1_000));
        pardons.forget(1_001 + 300_000_000);
        assert!(!pardons.hold(source, 1_000));
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let mut pardons = Pardons::default();
        let (first, then) = ("192.0.2.1/32".parse().unwrap(), "192.0.2.2/32".parse().unwrap());
        pardons.add(first, 1);
        (0..MOST_PARDONS).for_each(|_| pardons.add(then, 1));
        assert!(!pardons.hold(first, 1) && pardons.hold(then, 1));
    }

    #[test]
    fn a_refusal_is_told_once_in_a_while_for_each_source() {
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap());
        let mut muted = Muted::default();
        assert!(muted.tells(one, 10, 20) && !muted.tells(one, 19, 30) && muted.tells(other, 19, 30));
        assert!(muted.tells(one, 20, 30), "the while is over");
    }
}
