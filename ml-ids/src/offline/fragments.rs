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
    /// Notes a first fragment; gives a later one the key of its flow. Other packets pass.
    ///
    /// # Errors
    /// [`Skip::FragmentOrphan`] when the first fragment is not known.
    #[inline]
    pub(super) fn resolve(&mut self, packet: &mut Packet) -> Result<(), Skip> {
        if packet.fragment == Fragment::NONE {
            return Ok(());
        }
        self.fragment(packet)
    }

    #[cold]
    fn fragment(&mut self, packet: &mut Packet) -> Result<(), Skip> {
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
