//! Which different addresses and ports an alert is about: their number, and the first few of them, in bounded memory.

use std::{collections::HashSet, hash::Hash};

use serde::{Deserialize, Serialize};

/// Different values that are named; the rest are only counted.
pub const SAMPLE: usize = 16;
/// Different addresses up to which an alert counts them exactly.
pub const MOST_ADDRESSES: usize = 1024;
/// Ports from which on a bit for every port takes less memory than a list.
const MANY_PORTS: usize = 64;
const PORT_WORDS: usize = 65_536 / 64;

/// How many different values there were, and the first of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted<T> {
    /// Different values.
    pub count: u32,
    /// False when there were more than could be told apart, so that `count` is the least number.
    pub exact: bool,
    /// The first [`SAMPLE`] values in the order in which they came.
    pub sample: Vec<T>,
}

/// Different values of a kind, up to a limit.
#[derive(Clone, Debug)]
pub(super) struct Seen<T> {
    all: HashSet<T>,
    sample: Vec<T>,
    more: bool,
}

impl<T: Copy + Eq + Hash> Seen<T> {
    pub(super) fn new(first: T) -> Self {
        let mut all = HashSet::new();
        all.insert(first);
        Self { all, sample: vec![first], more: false }
    }

    pub(super) fn insert(&mut self, value: T) {
        if self.all.contains(&value) {
            return;
        }
        if self.all.len() >= MOST_ADDRESSES {
            self.more = true;
            return;
        }
        self.all.insert(value);
        if self.sample.len() < SAMPLE {
            self.sample.push(value);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        // The named ones first, so that they are named here as well.
        for value in other.sample.iter().chain(&other.all) {
            self.insert(*value);
        }
        self.more |= other.more;
    }

    pub(super) fn counted(&self) -> Counted<T> {
        Counted { count: number(self.all.len()), exact: !self.more, sample: self.sample.clone() }
    }
}

/// Different ports, all of them.
#[derive(Clone, Debug)]
pub(super) struct SeenPorts {
    /// The only ones until there are [`MANY_PORTS`].
    few: Vec<u16>,
    /// A bit for each port, from then on.
    many: Option<Box<[u64; PORT_WORDS]>>,
    sample: Vec<u16>,
    count: u32,
}

impl SeenPorts {
    pub(super) fn new(first: u16) -> Self {
        Self { few: vec![first], many: None, sample: vec![first], count: 1 }
    }

    pub(super) fn insert(&mut self, port: u16) {
        let Self { few, many, sample, count } = self;
        if let Some(words) = many {
            if !set(words, port) {
                return;
            }
        } else {
            if few.contains(&port) {
                return;
            }
            few.push(port);
            if few.len() == MANY_PORTS {
                let mut words = Box::new([0; PORT_WORDS]);
                for port in few.drain(..) {
                    set(&mut words, port);
                }
                few.shrink_to_fit();
                *many = Some(words);
            }
        }
        *count += 1;
        if sample.len() < SAMPLE {
            sample.push(port);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for port in other.sample.iter().chain(&other.few) {
            self.insert(*port);
        }
        if let Some(words) = &other.many {
            for port in (0..=u16::MAX).filter(|port| words[usize::from(port / 64)] >> (port % 64) & 1 == 1) {
                self.insert(port);
            }
        }
    }

    pub(super) fn counted(&self) -> Counted<u16> {
        Counted { count: self.count, exact: true, sample: self.sample.clone() }
    }
}

/// Sets a port's bit; whether it was not set.
fn set(words: &mut [u64; PORT_WORDS], port: u16) -> bool {
    let (word, bit) = (&mut words[usize::from(port / 64)], 1 << (port % 64));
    let new = *word & bit == 0;
    *word |= bit;
    new
}

fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn addresses_are_counted_exactly_up_to_the_limit_and_the_first_are_named() {
        let mut seen = Seen::new(address(0));
        for number in [0, 1, 1, 2] {
            seen.insert(address(number));
        }
        let expected = Counted { count: 3, exact: true, sample: [0, 1, 2].map(address).to_vec() };
        assert_eq!(seen.counted(), expected);
        for number in 0..MOST_ADDRESSES as u32 {
            seen.insert(address(number));
        }
        let full = seen.counted();
        assert_eq!((full.count, full.exact, full.sample.len()), (MOST_ADDRESSES as u32, true, SAMPLE));
        seen.insert(address(u32::MAX));
        assert_eq!((seen.counted().count, seen.counted().exact), (MOST_ADDRESSES as u32, false));
    }

    #[test]
    fn all_ports_are_told_apart_in_a_few_kilobytes() {
        let mut seen = SeenPorts::new(80);
        for port in (0..=u16::MAX).chain(0..100) {
            seen.insert(port);
        }
        assert_eq!(seen.counted().count, 65_536);
        assert_eq!(seen.counted().sample[..3], [80, 0, 1]);
        assert!(seen.few.is_empty());
    }

    #[test]
    fn a_merge_counts_what_both_have_seen_once() {
        for further in [10, 1000] {
            let (mut one, mut other) = (SeenPorts::new(5), SeenPorts::new(1));
            for port in 1..=further {
                other.insert(port);
            }
            one.merge(&other);
            assert_eq!(one.counted().count, u32::from(further), "{further} ports");
        }
        let (mut one, mut other) = (Seen::new(address(1)), Seen::new(address(2)));
        other.insert(address(1));
        one.merge(&other);
        assert_eq!(one.counted().sample, [address(1), address(2)]);
    }
}
