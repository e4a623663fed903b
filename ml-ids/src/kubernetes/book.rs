//! Addresses and their pods, bounded. A pod that is gone keeps its addresses for a while, because its flows end later than it
//! does; whoever gets one of them meanwhile has it at once.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{PodName, pod::Seen};

/// Most addresses. A node has some hundred pods, 250 being the most that anybody advises.
pub(super) const MOST_ADDRESSES: usize = 4096;
/// How long an address stays its pod's when that is gone: flows end up to two minutes after their last packet, and are told of
/// after that.
pub(super) const STAY: Duration = Duration::from_secs(300);

#[derive(Debug)]
struct Entry {
    uid: Arc<str>,
    name: Arc<PodName>,
    /// Since when the pod is gone.
    left: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    entries: HashMap<IpAddr, Entry>,
    /// Pods of a list that is not at its end yet.
    listing: Option<HashSet<Arc<str>>>,
}

impl Book {
    pub(super) fn name(&self, address: IpAddr) -> Option<&Arc<PodName>> {
        self.entries.get(&address).map(|entry| &entry.name)
    }

    /// Addresses that have a name, and those of them whose pods are gone.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.entries.len(), self.entries.values().filter(|entry| entry.left.is_some()).count())
    }

    /// A list of all pods begins.
    pub(super) fn begin_list(&mut self) {
        self.listing = Some(HashSet::new());
    }

    /// Nothing more is on it: pods that were not are gone.
    pub(super) fn end_list(&mut self, now: Instant) {
        let Some(listed) = self.listing.take() else { return };
        self.leave(now, |_, entry| !listed.contains(&entry.uid));
    }

    /// A pod is there, or is another than before. Returns how many of its addresses found no room.
    pub(super) fn put(&mut self, seen: Seen, now: Instant) -> u64 {
        let Seen { uid, name, addresses } = seen;
        let (uid, name): (Arc<str>, _) = (uid.into(), Arc::new(name));
        if let Some(listed) = self.listing.as_mut().filter(|listed| listed.len() < MOST_ADDRESSES) {
            listed.insert(Arc::clone(&uid));
        }
        self.leave(now, |address, entry| entry.uid == uid && !addresses.contains(address));
        let mut refused = 0;
        for address in addresses {
            if self.has_room_for(address) {
                let (uid, name) = (Arc::clone(&uid), Arc::clone(&name));
                self.entries.insert(address, Entry { uid, name, left: None });
            } else {
                refused += 1;
            }
        }
        refused
    }

    /// A pod is gone.
    pub(super) fn remove(&mut self, uid: &str, now: Instant) {
        self.leave(now, |_, entry| &*entry.uid == uid);
    }

    /// Forgets pods that have been gone for long enough.
    pub(super) fn forget(&mut self, now: Instant) {
        self.entries.retain(|_, entry| entry.left.is_none_or(|left| now.saturating_duration_since(left) < STAY));
    }

    fn leave(&mut self, now: Instant, gone: impl Fn(&IpAddr, &Entry) -> bool) {
        for (address, entry) in &mut self.entries {
            if entry.left.is_none() && gone(address, entry) {
                entry.left = Some(now);
            }
        }
    }

    /// Makes room, if need be, by forgetting the pod that has been gone for longest.
    fn has_room_for(&mut self, address: IpAddr) -> bool {
        if self.entries.len() < MOST_ADDRESSES || self.entries.contains_key(&address) {
            return true;
        }
        let departed = self.entries.iter().filter_map(|(address, entry)| Some((entry.left?, *address)));
        let Some((_, oldest)) = departed.min() else { return false };
        self.entries.remove(&oldest);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::kubernetes::Workload;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }

    fn pod(uid: &str, numbers: &[u32]) -> Seen {
        let workload = Workload { kind: "Pod".to_owned(), name: uid.to_owned() };
        let name = PodName { pod: uid.to_owned(), namespace: "shop".to_owned(), workload };
        Seen { uid: uid.to_owned(), name, addresses: numbers.iter().map(|number| address(*number)).collect() }
    }

    fn owner(book: &Book, number: u32) -> Option<&str> {
        book.name(address(number)).map(|name| name.pod.as_str())
    }

    #[test]
    fn a_pod_that_is_gone_keeps_its_name_for_a_while_unless_another_has_its_address() {
        let (mut book, start) = (Book::default(), Instant::now());
        book.put(pod("a", &[1]), start);
        book.put(pod("b", &[2]), start);
        book.remove("a", start);
        book.remove("b", start);
        book.put(pod("c", &[2]), start);
        book.forget(start + STAY / 2);
        assert_eq!((owner(&book, 1), owner(&book, 2)), (Some("a"), Some("c")));
        book.forget(start + STAY);
        assert_eq!((owner(&book, 1), owner(&book, 2)), (None, Some("c")));
    }

    #[test]
    fn pods_that_a_new_list_does_not_name_are_gone_when_it_is_complete() {
        let (mut book, start) = (Book::default(), Instant::now());
        book.put(pod("a", &[1]), start);
        book.begin_list();
        book.put(pod("b", &[2]), start);
        assert_eq!(book.sizes(), (2, 0));
        book.end_list(start);
        assert_eq!(book.sizes(), (2, 1));
        book.forget(start + STAY);
        assert_eq!((owner(&book, 1), owner(&book, 2)), (None, Some("b")));
    }

    #[test]
    fn a_pod_that_moves_or_ends_leaves_its_old_address() {
        let (mut book, start) = (Book::default(), Instant::now());
        book.put(pod("a", &[1]), start);
        book.put(pod("a", &[2]), start);
        assert_eq!(book.sizes(), (2, 1));
        book.put(pod("a", &[]), start);
        assert_eq!(book.sizes(), (2, 2));
    }

    #[test]
    fn when_it_is_full_those_that_are_gone_make_room_and_then_nobody_does() {
        let (mut book, start) = (Book::default(), Instant::now());
        let most = u32::try_from(MOST_ADDRESSES).unwrap();
        for number in 0..most {
            assert_eq!(book.put(pod(&number.to_string(), &[number]), start), 0);
        }
        assert_eq!(book.put(pod("late", &[most]), start), 1);
        book.remove("7", start);
        assert_eq!(book.put(pod("late", &[most]), start), 0);
        assert_eq!((owner(&book, 7), owner(&book, most), book.sizes().0), (None, Some("late"), MOST_ADDRESSES));
    }
}
