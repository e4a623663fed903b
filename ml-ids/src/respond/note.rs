//! What sensor and command tell each other through the pinned maps.

use ipnet::IpNet;
use ml_ids_common::PrefixData;

use crate::sensor::prefix;

/// What the command needs to know of the sensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// Time to live of a block.
    pub ttl_us: u64,
    /// Most blocks.
    pub max: u32,
    /// 1 when nothing is dropped.
    pub dry_run: u32,
}

// SAFETY: repr(C), integers without padding; every bit pattern is valid.
unsafe impl aya::Pod for Settings {}

/// What the command tells the sensor of what it has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Note {
    /// When, in microseconds since boot.
    pub at_us: u64,
    /// When the block ends, if one was added.
    pub expires_us: u64,
    /// Packets that the block had met, if it was removed.
    pub packets: u64,
    data: PrefixData,
    bits: u32,
    /// 1 if a block was added, 0 if it was removed.
    pub added: u32,
}

const _: () = assert!(size_of::<Note>() == 56);

// SAFETY: as above.
unsafe impl aya::Pod for Note {}

impl Note {
    /// What became of a prefix. `expires_us` if it was added.
    #[must_use]
    pub fn new(net: &IpNet, at_us: u64, expires_us: Option<u64>) -> Self {
        let key = prefix::key(net);
        Self {
            at_us,
            expires_us: expires_us.unwrap_or(0),
            packets: 0,
            data: key.data(),
            bits: key.prefix_len(),
            added: u32::from(expires_us.is_some()),
        }
    }

    /// The same with the packets that the block had met.
    #[must_use]
    pub const fn packets(mut self, packets: u64) -> Self {
        self.packets = packets;
        self
    }

    /// The prefix.
    #[must_use]
    pub fn net(&self) -> Option<IpNet> {
        prefix::prefix(&aya::maps::lpm_trie::Key::new(self.bits, self.data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::parse_prefix;

    #[test]
    fn a_note_leads_back_to_its_prefix() {
        let net = parse_prefix("10.1.0.0/16").unwrap();
        let note = Note::new(&net, 5, Some(9));
        assert_eq!((note.net(), note.added, note.expires_us), (Some(net), 1, 9));
        assert_eq!(Note::new(&net, 5, None).added, 0);
    }
}
