//! The pcapng block format (draft-ietf-opsawg-pcapng): sections, interfaces with their clocks, packets.

use pcap_parser::{
    Block, InterfaceDescriptionBlock, OptionCode, parse_block_be, parse_block_le, pcapng::parse_sectionheaderblock,
};

use super::{
    LinkType,
    buffer::BlockBuffer,
    capture::{CaptureError, Located, MAX_BLOCK},
};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
/// Obsolete since 2009, still met in old files.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// Block type, length, and the length again at the end.
const BLOCK_FRAME: usize = 12;
/// Offset of an enhanced packet's data.
const PACKET_DATA: usize = 28;
/// Offset of a simple packet's data.
const SIMPLE_DATA: usize = 12;
/// Most interfaces that a section may describe.
const MAX_INTERFACES: usize = 65_536;

/// The section being read.
#[derive(Default)]
pub(super) struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// Time of the last packet. Simple packets have none of their own and take it over.
    time_us: u64,
    bad_blocks: u64,
    first_bad: u64,
}

struct Interface {
    link: LinkType,
    snap_length: u32,
    clock: Clock,
}

/// How an interface's time stamps are to be read.
struct Clock {
    /// Units per second.
    resolution: u128,
    /// Seconds to be added.
    offset: i64,
}

impl Section {
    /// The length of the block with the next packet, and where its frame lies in it.
    pub(super) fn next_packet(&mut self, buffer: &mut BlockBuffer) -> Result<Option<(usize, Located)>, CaptureError> {
        loop {
            let Some((kind, length)) = self.next_block(buffer)? else { return self.at_end() };
            let block = buffer.bytes().get(..length).unwrap_or_default();
            match self.read(kind, block) {
                Some(Some(frame)) => return Ok(Some((length, frame))),
                Some(None) => {}
                None => {
                    if self.bad_blocks == 0 {
                        self.first_bad = buffer.position();
                    }
                    self.bad_blocks += 1;
                }
            }
            buffer.consume(length);
        }
    }

    /// Type and length of the next block, which is then buffered.
    fn next_block(&mut self, buffer: &mut BlockBuffer) -> Result<Option<(u32, usize)>, CaptureError> {
        let at = buffer.position();
        if !buffer.fill(BLOCK_FRAME)? {
            return if buffer.bytes().is_empty() { Ok(None) } else { Err(CaptureError::Truncated(at)) };
        }
        let bytes = buffer.bytes();
        // The type of a section header reads the same in both byte orders; its third word tells which one follows.
        let kind = word(bytes, 0, self.big_endian).unwrap_or(0);
        if kind == SECTION_HEADER {
            self.big_endian = match bytes.get(8..12) {
                Some([0x1a, 0x2b, 0x3c, 0x4d]) => true,
                Some([0x4d, 0x3c, 0x2b, 0x1a]) => false,
                _ => return Err(CaptureError::Malformed(at)),
            };
        }
        let length = word(bytes, 4, self.big_endian).unwrap_or(0) as usize;
        if length > MAX_BLOCK {
            return Err(CaptureError::Oversized { at, length: length as u64 });
        }
        if length < BLOCK_FRAME || !length.is_multiple_of(4) {
            return Err(CaptureError::Malformed(at));
        }
        if !buffer.fill(length)? {
            return Err(CaptureError::Truncated(at));
        }
        Ok(Some((kind, length)))
    }

    fn at_end<T>(&self) -> Result<Option<T>, CaptureError> {
        match self.bad_blocks {
            0 => Ok(None),
            count => Err(CaptureError::BadBlocks { count, first: self.first_bad }),
        }
    }

    /// `None`: the block contradicts itself. `Some(None)`: it has no packet.
    fn read(&mut self, kind: u32, block: &[u8]) -> Option<Option<Located>> {
        match kind {
            SECTION_HEADER => {
                parse_sectionheaderblock(block).ok()?;
                self.interfaces.clear();
                Some(None)
            }
            INTERFACE_DESCRIPTION => {
                let parse = if self.big_endian { parse_block_be } else { parse_block_le };
                let Ok((_, Block::InterfaceDescription(description))) = parse(block) else { return None };
                if self.interfaces.len() >= MAX_INTERFACES {
                    return None;
                }
                self.interfaces.push(Interface::new(&description, self.big_endian)?);
                Some(None)
            }
            ENHANCED_PACKET => self.packet(block, word(block, 8, self.big_endian)?).map(Some),
            PACKET => {
                let (first, second) = (word(block, 8, self.big_endian)?, u32::from(u16::MAX));
                self.packet(block, if self.big_endian { first >> 16 } else { first & second }).map(Some)
            }
            SIMPLE_PACKET => self.simple_packet(block).map(Some),
            _ => Some(None),
        }
    }

    /// An enhanced packet, or an obsolete one, which differs in its interface field alone.
    fn packet(&mut self, block: &[u8], interface: u32) -> Option<Located> {
        let interface = self.interfaces.get(usize::try_from(interface).ok()?)?;
        let high = u64::from(word(block, 12, self.big_endian)?);
        let low = u64::from(word(block, 16, self.big_endian)?);
        let length = word(block, 20, self.big_endian)? as usize;
        if length > block.len().checked_sub(PACKET_DATA + 4)? {
            return None;
        }
        self.time_us = interface.clock.microseconds(high << 32 | low);
        Some(Located { time_us: self.time_us, link: interface.link, start: PACKET_DATA, length })
    }

    fn simple_packet(&self, block: &[u8]) -> Option<Located> {
        let interface = self.interfaces.first()?;
        let original = word(block, 8, self.big_endian)?;
        let captured = if interface.snap_length == 0 { original } else { original.min(interface.snap_length) };
        let length = (captured as usize).min(block.len().checked_sub(SIMPLE_DATA + 4)?);
        Some(Located { time_us: self.time_us, link: interface.link, start: SIMPLE_DATA, length })
    }
}

impl Interface {
    fn new(description: &InterfaceDescriptionBlock<'_>, big_endian: bool) -> Option<Self> {
        let mut offset = 0;
        for option in &description.options {
            // pcap-parser reads the offset as little endian whatever the section says.
            if option.code == OptionCode::IfTsoffset {
                let bytes = *option.value().first_chunk()?;
                offset = if big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) };
            }
        }
        Some(Self {
            link: LinkType((description.linktype.0 & 0xffff) as u16),
            snap_length: description.snaplen,
            clock: Clock { resolution: resolution(description.if_tsresol), offset },
        })
    }
}

/// Units per second of an `if_tsresol` option: a power of ten, or of two if the highest bit is set.
fn resolution(option: u8) -> u128 {
    let exponent = u32::from(option & 0x7f);
    // No clock is finer than 10^-38 s; an exponent beyond that makes all times 0 either way.
    if option & 0x80 == 0 { 10u128.checked_pow(exponent).unwrap_or(u128::MAX) } else { 1 << exponent }
}

impl Clock {
    /// Microseconds since 1970 of a time stamp, 0 if it is before.
    #[inline]
    fn microseconds(&self, stamp: u64) -> u64 {
        const SECOND: i128 = 1_000_000;
        let us = match self.resolution {
            1_000_000 => stamp,
            1_000_000_000 => stamp / 1000,
            resolution => {
                let us = u128::from(stamp) * SECOND.cast_unsigned() / resolution;
                u64::try_from(us).unwrap_or(u64::MAX)
            }
        };
        if self.offset == 0 {
            return us;
        }
        let us = i128::from(us) + i128::from(self.offset) * SECOND;
        u64::try_from(us.max(0)).unwrap_or(u64::MAX)
    }
}

#[inline]
fn word(bytes: &[u8], offset: usize, big_endian: bool) -> Option<u32> {
    let bytes = *bytes.get(offset..)?.first_chunk()?;
    Some(if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offline::Capture;

    /// Builds a pcapng file in either byte order.
    struct File {
        bytes: Vec<u8>,
        big_endian: bool,
    }

    impl File {
        fn new(big_endian: bool) -> Self {
            Self { bytes: Vec::new(), big_endian }
        }

        fn word(&self, value: u32) -> [u8; 4] {
            if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
        }

        fn half(&self, value: u16) -> [u8; 2] {
            if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
        }

        fn block(mut self, kind: u32, body: &[u8]) -> Self {
            let padded = body.len().next_multiple_of(4);
            let length = self.word((BLOCK_FRAME + padded) as u32);
            self.bytes.extend(self.word(kind));
            self.bytes.extend(length);
            self.bytes.extend(body);
            self.bytes.resize(self.bytes.len() + padded - body.len(), 0);
            self.bytes.extend(length);
            self
        }

        fn section(self) -> Self {
            let body = [&self.word(0x1a2b_3c4d)[..], &self.half(1), &self.half(0), &[0xff; 8]].concat();
            self.block(SECTION_HEADER, &body)
        }

        fn interface(self, link: u16, snap: u32, resolution: Option<u8>, offset: Option<i64>) -> Self {
            let mut body = [&self.half(link)[..], &self.half(0), &self.word(snap)].concat();
            if let Some(resolution) = resolution {
                body.extend([&self.half(9)[..], &self.half(1), &[resolution, 0, 0, 0]].concat());
            }
            if let Some(offset) = offset {
                let bytes = if self.big_endian { offset.to_be_bytes() } else { offset.to_le_bytes() };
                body.extend([&self.half(14)[..], &self.half(8), &bytes].concat());
            }
            body.extend([0; 4]);
            self.block(INTERFACE_DESCRIPTION, &body)
        }

        fn packet(self, interface: u32, stamp: u64, data: &[u8]) -> Self {
            let length = self.word(data.len() as u32);
            let (high, low) = (self.word((stamp >> 32) as u32), self.word(stamp as u32));
            let body = [&self.word(interface)[..], &high, &low, &length, &length, data].concat();
            self.block(ENHANCED_PACKET, &body)
        }
    }

    type Owned = (u64, u16, Vec<u8>);

    fn read(file: &File) -> (Vec<Owned>, Option<CaptureError>) {
        let mut capture = Capture::new(&file.bytes[..]).unwrap();
        let mut frames = Vec::new();
        loop {
            match capture.next_frame() {
                Ok(Some(frame)) => frames.push((frame.time_us, frame.link.0, frame.data.to_vec())),
                Ok(None) => return (frames, None),
                Err(error) => return (frames, Some(error)),
            }
        }
    }

    #[test]
    fn packets_of_several_interfaces_have_their_own_clock_and_link_type() {
        for big_endian in [false, true] {
            let file = File::new(big_endian)
                .section()
                .interface(1, 0, None, None)
                .interface(101, 0, Some(9), None)
                .interface(113, 0, Some(0x80 | 20), Some(1000))
                .interface(1, 0, Some(3), Some(-10))
                .packet(0, 1_700_000_000_000_001, b"us")
                .packet(1, 1_700_000_000_000_001_999, b"ns")
                .packet(2, 3 << 19, b"binary")
                .packet(3, 11_500, b"")
                .packet(3, 1, b"before 1970");
            let (frames, error) = read(&file);
            assert!(error.is_none(), "{error:?}");
            let expected: [(u64, u16, &[u8]); 5] = [
                (1_700_000_000_000_001, 1, b"us"),
                (1_700_000_000_000_001, 101, b"ns"),
                (1_001_500_000, 113, b"binary"),
                (1_500_000, 1, b""),
                (0, 1, b"before 1970"),
            ];
            assert_eq!(frames, expected.map(|(time, link, data)| (time, link, data.to_vec())));
        }
    }

    #[test]
    fn simple_packets_take_the_time_of_the_one_before_and_the_snap_length() {
        let file = File::new(false).section().interface(1, 4, None, None).packet(0, 77, b"x");
        let body = [&9u32.to_le_bytes()[..], b"nine byte"].concat();
        let (frames, error) = read(&file.block(SIMPLE_PACKET, &body));
        assert!(error.is_none(), "{error:?}");
        assert_eq!(frames[1..], [(77, 1, b"nine".to_vec())]);
    }

    #[test]
    fn obsolete_packet_blocks_are_read() {
        for big_endian in [false, true] {
            let file = File::new(big_endian).section().interface(1, 0, None, None).interface(101, 0, None, None);
            let words = [file.word(0), file.word(9), file.word(3), file.word(3)].concat();
            let body = [&file.half(1)[..], &file.half(0), &words, b"old"].concat();
            assert_eq!(read(&file.block(PACKET, &body)).0, [(9, 101, b"old".to_vec())]);
        }
    }

    #[test]
    fn a_new_section_forgets_the_interfaces_and_may_change_the_byte_order() {
        let mut file = File::new(false).section().interface(101, 0, None, None).packet(0, 1, b"a");
        file.big_endian = true;
        let file = file.section().packet(0, 2, b"lost").interface(1, 0, None, None).packet(0, 3, b"b");
        let (frames, error) = read(&file);
        assert_eq!(frames, [(1, 101, b"a".to_vec()), (3, 1, b"b".to_vec())]);
        assert!(matches!(error, Some(CaptureError::BadBlocks { count: 1, .. })), "{error:?}");
    }

    #[test]
    fn a_packet_longer_than_its_block_is_left_out_and_the_next_one_read() {
        let file = File::new(false).section().interface(1, 0, None, None);
        let first_bad = file.bytes.len() as u64;
        let body = [[0u32; 3].map(u32::to_le_bytes).concat(), 500u32.to_le_bytes().repeat(2)].concat();
        let (frames, error) = read(&file.block(ENHANCED_PACKET, &body).block(0xbad, b"unknown").packet(0, 5, b"good"));
        assert_eq!(frames, [(5, 1, b"good".to_vec())]);
        assert!(matches!(error, Some(CaptureError::BadBlocks { count: 1, first }) if first == first_bad));
    }

    #[test]
    fn hostile_bytes_anywhere_do_no_harm() {
        let file = File::new(false)
            .section()
            .interface(1, 0, Some(9), Some(1))
            .packet(0, 1, b"frame")
            .block(SIMPLE_PACKET, &[4, 0, 0, 0, 1, 2, 3, 4]);
        for at in 12..file.bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = file.bytes.clone();
                bytes[at] = value;
                let (frames, _) = read(&File { bytes, big_endian: false });
                assert!(frames.len() <= 2, "byte {at} set to {value}");
            }
        }
    }
}
