//! Which flow a fragment belongs to: what the kernel keeps in an LRU table, for replay.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use ml_ids_common::{Datagram, DatagramKey, Fragment, MAX_DATAGRAMS, Packet, Skip};

/// Datagrams of a generation. Two of them are kept.
const GENERATION: usize = MAX_DATAGRAMS as usize / 2;

/// Notes of the last [`MAX_DATAGRAMS`] first fragments, at least half as many: when a generation is full, the one before
/// it is forgotten but for those notes that have been used since.
#[derive(Default)]
pub(super) struct Datagrams {
    young: HashMap<DatagramKey, Datagram, RandomState>,
    old: HashMap<DatagramKey, Datagram, RandomState>,
}

impl Datagrams {
    /// Notes a first fragment; gives a later one the key of its flow.
    ///
    /// # Errors
    /// [`Skip::FragmentOrphan`] when the first fragment is not known.
    pub(super) fn resolve(&mut self, packet: &mut Packet) -> Result<(), Skip> {
        let key = packet.datagram_key();
        if packet.fragment == Fragment::FIRST {
            self.note(key, packet.datagram());
            return Ok(());
        }
        let datagram = match self.young.get(&key) {
            Some(datagram) => *datagram,
            None => {
                let datagram = self.old.remove(&key).ok_or(Skip::FragmentOrphan)?;
                self.note(key, datagram);
                datagram
            }
        };
        packet.attribute(&datagram);
        Ok(())
    }

    fn note(&mut self, key: DatagramKey, datagram: Datagram) {
        if self.young.len() == GENERATION {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(key, datagram);
    }
}

#[cfg(test)]
mod tests {
    use ml_ids_common::{Decap, Profile, SliceReader, parse_network};

    use super::*;

    /// A fragment of UDP from 10.0.0.1, port 1000, to 10.0.0.2, port 53.
    fn fragment(id: u32, later: bool) -> Packet {
        let mut bytes = [0; 28];
        bytes[0] = 0x45;
        bytes[3] = 28;
        bytes[6] = 0x20;
        bytes[7] = u8::from(later);
        bytes[9] = 17;
        bytes[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        bytes[20..24].copy_from_slice(&[3, 0xe8, 0, 53]);
        let packet = parse_network(&SliceReader(&bytes), 0x0800, 0, 28, Profile::Fixed, Decap::NONE).unwrap();
        Packet { datagram: id, ..packet }
    }

    fn is_known(datagrams: &mut Datagrams, id: u32) -> bool {
        let mut later = fragment(id, true);
        let found = datagrams.resolve(&mut later).is_ok();
        assert_eq!(later.key == fragment(id, false).key, found);
        found
    }

    #[test]
    fn the_note_of_a_first_fragment_serves_all_later_ones() {
        let mut datagrams = Datagrams::default();
        assert!(!is_known(&mut datagrams, 7));
        assert_eq!(datagrams.resolve(&mut fragment(7, false)), Ok(()));
        assert!(is_known(&mut datagrams, 7) && is_known(&mut datagrams, 7));
        assert!(!is_known(&mut datagrams, 8));
    }

    #[test]
    fn notes_are_bounded_and_those_in_use_stay() {
        let mut datagrams = Datagrams::default();
        for id in 0..3 * MAX_DATAGRAMS {
            assert_eq!(datagrams.resolve(&mut fragment(id, false)), Ok(()));
            assert!(is_known(&mut datagrams, 0), "forgotten at {id}");
            assert!(datagrams.young.len() + datagrams.old.len() <= MAX_DATAGRAMS as usize);
        }
        assert!(!is_known(&mut datagrams, 1));
        assert!(is_known(&mut datagrams, 3 * MAX_DATAGRAMS - GENERATION as u32));
    }
}
