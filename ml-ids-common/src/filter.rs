//! What is done with a packet before it is counted: nothing, ignoring it, or dropping it because its source is blocked.
//! The layouts of the maps that decide, and the switches that say which of them are in use.

use crate::{Address, FlowKey, FrameReader, IpVersion, Packet};

/// Switches that the agent sets before loading. What is off costs nothing: the verifier removes it.
pub struct FilterMask;

impl FilterMask {
    /// Packets of blocked sources are dropped.
    pub const BLOCK: u8 = 1;
    /// They are only counted. Never together with [`FilterMask::BLOCK`].
    pub const DRY_RUN: u8 = 2;
    /// Packets from or to some prefixes are ignored.
    pub const IGNORE_PREFIX: u8 = 4;
    /// Packets from or to some TCP or UDP ports are ignored.
    pub const IGNORE_PORT: u8 = 8;
    /// Packets of some interfaces are ignored.
    pub const IGNORE_INTERFACE: u8 = 16;
}

/// What a prefix matches on: the version first, so that no IPv6 prefix, not even `::/0`, covers an IPv4 address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct PrefixData {
    /// 4 or 6, in network byte order: prefixes are matched from the first byte on.
    pub version: u32,
    /// Always zero. Makes the size a multiple of 8, as the kernel aligns the value behind it.
    pub reserved: u32,
    /// The address as [`FlowKey`] has it.
    pub address: Address,
}

const _: () = assert!(size_of::<PrefixData>() == 24);

impl PrefixData {
    /// Bits before the address.
    const HEAD_BITS: u32 = 64;
    /// Bits of an IPv4 address that are always zero.
    const V4_PADDING: u32 = 96;

    /// An address of a packet.
    #[inline(always)]
    #[must_use]
    pub const fn new(version: u8, address: Address) -> Self {
        Self { version: (version as u32).to_be(), reserved: 0, address }
    }

    /// Bits of a key for `length` bits of an address of this version.
    #[must_use]
    pub const fn bits(version: IpVersion, length: u8) -> u32 {
        let before = match version {
            IpVersion::V4 => Self::HEAD_BITS + Self::V4_PADDING,
            IpVersion::V6 => Self::HEAD_BITS,
        };
        before + length as u32
    }

    /// The address bits of a key of `bits` bits.
    #[must_use]
    pub const fn length(&self, bits: u32) -> u8 {
        let before = if self.is_v4() { Self::HEAD_BITS + Self::V4_PADDING } else { Self::HEAD_BITS };
        bits.saturating_sub(before) as u8
    }

    /// Whether the address is an IPv4 one.
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        self.version == 4u32.to_be()
    }

    /// Bits of a whole address, to look one up.
    pub const WHOLE: u32 = Self::HEAD_BITS + 128;
}

/// Who asked for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum BlockOrigin {
    /// `ml-ids block add`.
    Hand = 0,
    /// A verdict.
    Verdict = 1,
}

/// Bytes of a label in a [`BlockEntry`].
pub const LABEL_BYTES: usize = 32;

/// A blocked prefix. What is known of it stands here and nowhere else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct BlockEntry {
    /// When the block ends, in microseconds since boot. From then on the entry means nothing.
    pub expires_us: u64,
    /// When it began.
    pub since_us: u64,
    /// Packets that it has met. Increments that two CPUs make at the same moment may count once.
    pub packets: u64,
    /// A [`BlockOrigin`].
    pub origin: u32,
    /// Class of the verdict.
    pub class: u32,
    /// Probability of the verdict in millionths.
    pub probability: u32,
    /// Always zero.
    pub reserved: u32,
    /// Label of the verdict, zeros behind it.
    pub label: [u8; LABEL_BYTES],
}

const _: () = assert!(size_of::<BlockEntry>() == 72);

/// What the filter counts besides the books of the hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FilterCounters {
    /// Packets of blocked sources that a dry run let through. They are in the books like any other.
    pub would_block: u64,
    /// Packets that a block matched and a protected prefix saved.
    pub spared: u64,
}

/// Words of the bitmap of ignored ports: 65,536 of TCP, then as many of UDP.
pub const PORT_WORDS: u32 = 2048;

/// Word and bit of a port in the bitmap.
#[inline(always)]
#[must_use]
pub const fn port_bit(udp: bool, port: u16) -> (u32, u64) {
    let word = (port >> 6) as u32 | if udp { 1024 } else { 0 };
    (word, 1 << (port & 63))
}

impl Packet {
    /// Who sent the packet, as the maps of prefixes look it up.
    #[inline(always)]
    #[must_use]
    pub const fn sender(&self) -> PrefixData {
        let FlowKey { addr_a, addr_b, version, .. } = self.key;
        PrefixData::new(version, if self.from_b { addr_b } else { addr_a })
    }

    /// Who is to receive it.
    #[inline(always)]
    #[must_use]
    pub const fn receiver(&self) -> PrefixData {
        let FlowKey { addr_a, addr_b, version, .. } = self.key;
        PrefixData::new(version, if self.from_b { addr_a } else { addr_b })
    }
}

/// The sender of an Ethernet frame that is no packet of a flow, if it has a whole IP header: a blocked source does not
/// get through by what the parser refuses.
#[inline(always)]
#[must_use]
pub fn sender_of_frame<R: FrameReader>(reader: &R) -> Option<PrefixData> {
    const ETHERTYPE: u32 = 12;
    let mut offset = ETHERTYPE;
    for _ in 0..=crate::MAX_VLAN_TAGS {
        let [ethertype] = reader.halfwords::<1>(offset)?;
        match u16::from_be(ethertype) {
            0x8100 | 0x88a8 | 0x9100 => offset = reader.forget(offset + 4),
            0x0800 => {
                let [s0, s1] = reader.halfwords::<2>(reader.forget(offset + 14))?;
                return Some(PrefixData::new(4, Address::v4(word(s0, s1))));
            }
            0x86dd => {
                let [a, b, c, d, e, f, g, h] = reader.halfwords::<8>(reader.forget(offset + 10))?;
                return Some(PrefixData::new(6, Address([word(a, b), word(c, d), word(e, f), word(g, h)])));
            }
            _ => return None,
        }
    }
    None
}

/// Two half words in memory order as one word in memory order.
#[inline(always)]
fn word(first: u16, second: u16) -> u32 {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Profile, SliceReader, parse_ethernet};

    /// Ethernet with `tags` VLAN tags around a UDP packet from 10.0.0.9 to 10.0.0.1.
    fn frame(tags: usize) -> ([u8; 128], usize) {
        let mut frame = [0; 128];
        for tag in 0..tags {
            frame[12 + 4 * tag] = 0x81;
        }
        let ip = 14 + 4 * tags;
        frame[ip - 2] = 8;
        let header = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1, 0, 53, 4, 0, 0, 8, 0, 0];
        frame[ip..ip + header.len()].copy_from_slice(&header);
        (frame, ip + header.len())
    }

    #[test]
    fn the_sender_of_a_frame_is_that_of_its_packet() {
        for tags in 0..=8 {
            let (frame, length) = frame(tags);
            let reader = SliceReader(&frame[..length]);
            let packet = parse_ethernet(&reader, length as u32, Profile::Fixed, crate::Decap::NONE).unwrap();
            let expected = PrefixData::new(4, Address::v4(u32::from_ne_bytes([10, 0, 0, 9])));
            assert_eq!((packet.sender(), sender_of_frame(&reader)), (expected, Some(expected)), "{tags} tags");
            assert_eq!(packet.receiver().address, Address::v4(u32::from_ne_bytes([10, 0, 0, 1])));
            // Without its UDP header it is no packet, but still somebody's.
            let cut = SliceReader(&frame[..length - 8]);
            assert!(parse_ethernet(&cut, length as u32 - 8, Profile::Fixed, crate::Decap::NONE).is_err());
            assert_eq!(sender_of_frame(&cut), Some(expected));
        }
        assert_eq!(sender_of_frame(&SliceReader(&frame(9).0)), None);
        assert_eq!(sender_of_frame(&SliceReader(&[0; 13])), None);
    }

    #[test]
    fn keys_of_the_two_versions_differ_in_their_first_word() {
        let v4 = PrefixData::new(4, Address([0; 4]));
        let v6 = PrefixData::new(6, Address([0; 4]));
        assert_ne!(v4.version, v6.version);
        assert_eq!((PrefixData::bits(IpVersion::V4, 32), PrefixData::bits(IpVersion::V6, 128)), (192, 192));
        assert_eq!(
            (v4.length(PrefixData::bits(IpVersion::V4, 8)), v6.length(PrefixData::bits(IpVersion::V6, 0))),
            (8, 0)
        );
    }

    #[test]
    fn every_port_has_a_bit_of_its_own() {
        assert_eq!(port_bit(false, 0), (0, 1));
        assert_eq!(port_bit(false, 65_535), (1023, 1 << 63));
        assert_eq!(port_bit(true, 53), (1024, 1 << 53));
        assert_eq!(port_bit(true, 65_535), (PORT_WORDS - 1, 1 << 63));
    }
}
