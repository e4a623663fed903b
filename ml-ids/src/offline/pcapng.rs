//! The pcapng block format (draft-ietf-opsawg-pcapng): sections, interfaces with their clocks, packets.

use std::io::Read;

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
    pub(super) fn next_packet<R: Read>(
        &mut self,
        buffer: &mut BlockBuffer<R>,
    ) -> Result<Option<(usize, Located)>, CaptureError> {
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
    fn next_block<R: Read>(&mut self, buffer: &mut BlockBuffer<R>) -> Result<Option<(u32, usize)>, CaptureError> {
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
