//! Reading capture files, pcap and pcapng, frame by frame, with bounded memory.

use std::io::{self, Read};

use pcap_parser::{
    LegacyPcapBlock, PcapError, PcapHeader,
    nom::IResult,
    pcap::{parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified, parse_pcap_header},
};

use super::{
    LinkType,
    buffer::{BlockBuffer, Chunk, Next},
    pcapng::Section,
};

/// Largest block of a capture that is read. libpcap's own limit for a packet is 256 KiB.
pub const MAX_BLOCK: usize = 16 * 1024 * 1024;
/// Latest time that a frame is given: the last microsecond of the year 9999, which RFC 3339 can still write.
const LATEST_US: u64 = 253_402_300_799_999_999;
const PCAP_HEADER: usize = 24;
const SECTION_HEADER_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// What is wrong with a capture.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Reading failed, unpacking included.
    #[error("cannot read the capture: {0}")]
    Read(#[from] io::Error),
    /// Neither format's magic number.
    #[error(
        "not a capture: it starts like neither pcap nor pcapng (plain, gzip or zstd); `capinfos FILE` says what it is, and `editcap -F pcap` converts it"
    )]
    NotACapture,
    /// The file ends inside a block.
    #[error(
        "the capture ends inside a packet or block that begins at byte {0}; what stands before it was read, and copying or capturing it again may give the rest"
    )]
    Truncated(u64),
    /// A length field is larger than [`MAX_BLOCK`].
    #[error(
        "the packet or block at byte {at} claims {length} bytes, more than the limit of {MAX_BLOCK}; reading stopped there"
    )]
    Oversized {
        /// Offset in the unpacked file.
        at: u64,
        /// What the length field says.
        length: u64,
    },
    /// A block contradicts itself, and the next one cannot be found.
    #[error("malformed block at byte {0}; reading stopped there, and `pcapfix FILE` may save what follows")]
    Malformed(u64),
    /// Some pcapng blocks contradict themselves; all others were read.
    #[error("{count} malformed pcapng blocks were left out, the first at byte {first}")]
    BadBlocks {
        /// How many.
        count: u64,
        /// Offset of the first in the unpacked file.
        first: u64,
    },
}

/// A captured frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Microseconds since 1970, cut (not rounded) from a finer clock.
    pub time_us: u64,
    /// What the frame starts with.
    pub link: LinkType,
    /// The captured bytes.
    pub data: &'a [u8],
}

/// An open capture.
pub struct Capture<R> {
    source: R,
    splitter: Splitter,
    chunk: Chunk,
    /// What follows the chunk, as long as it is not split.
    unsplit: Option<Next>,
    frames: Vec<Located>,
    /// The first of `frames` that has not been handed out.
    next: usize,
    /// Set when the last frame is in `frames`.
    end: Option<Result<(), CaptureError>>,
}

/// The parts of a capture that has just been opened.
pub(super) struct Opened<R> {
    pub(super) source: R,
    pub(super) splitter: Splitter,
    /// The first chunk and what follows it.
    pub(super) first: (Chunk, Next),
}

/// Finds the frames in the chunks of a capture, which it is given in their order.
pub(super) struct Splitter {
    buffer: BlockBuffer,
    format: Format,
    /// Bytes before the first block.
    header: usize,
}

enum Format {
    Pcap { link: LinkType, nanoseconds: bool, header: usize, parse: ParseFrame },
    PcapNg(Section),
}

type ParseFrame = for<'a> fn(&'a [u8]) -> IResult<&'a [u8], LegacyPcapBlock<'a>, PcapError<&'a [u8]>>;

/// Where a frame lies in the memory of its chunk (as long as it is in [`Section`]'s hands: in its block).
pub(super) struct Located {
    pub(super) time_us: u64,
    pub(super) link: LinkType,
    pub(super) start: usize,
    pub(super) length: usize,
}

impl<R: Read> Capture<R> {
    /// Recognises the format.
    ///
    /// # Errors
    /// [`CaptureError::NotACapture`], [`CaptureError::Truncated`] inside the file header, [`CaptureError::Read`].
    pub fn new(mut source: R) -> Result<Self, CaptureError> {
        let mut chunk = Chunk::default();
        let next = match chunk.read_at_least(PCAP_HEADER, &mut source) {
            Next::Failed(error) => return Err(error.into()),
            next => next,
        };
        let splitter = Splitter::new(chunk.bytes())?;
        Ok(Self { source, splitter, chunk, unsplit: Some(next), frames: Vec::new(), next: 0, end: None })
    }

    /// The next frame, `None` at the end.
    ///
    /// # Errors
    /// Whatever is wrong with the capture. There is nothing to be read after an error.
    #[inline]
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, CaptureError> {
        while self.next >= self.frames.len() {
            if let Some(end) = &mut self.end {
                return core::mem::replace(end, Ok(())).map(|()| None);
            }
            self.split();
        }
        let Self { chunk, frames, next, .. } = self;
        let Some(frame) = frames.get(*next) else { return Ok(None) };
        *next += 1;
        Ok(Some(frame.in_chunk(chunk)))
    }

    /// Finds the frames of the next chunk.
    fn split(&mut self) {
        let Self { source, splitter, chunk, unsplit, frames, next, end } = self;
        let following = unsplit.take().unwrap_or_else(|| chunk.read_once(source));
        frames.clear();
        *next = 0;
        *end = splitter.split(chunk, following, frames);
    }

    /// Takes apart a capture none of whose frames has been read.
    pub(super) fn into_opened(self) -> Opened<R> {
        let Self { source, splitter, chunk, unsplit, .. } = self;
        debug_assert!(unsplit.is_some(), "frames have been read");
        Opened { source, splitter, first: (chunk, unsplit.unwrap_or(Next::More)) }
    }
}

impl Located {
    #[inline]
    pub(super) fn in_chunk<'a>(&self, chunk: &'a Chunk) -> Frame<'a> {
        let &Self { time_us, link, start, length } = self;
        Frame { time_us: time_us.min(LATEST_US), link, data: chunk.get(start, length) }
    }
}

impl Splitter {
    /// Recognises the format by the first bytes of a capture: [`PCAP_HEADER`] or, if it is shorter, all.
    fn new(bytes: &[u8]) -> Result<Self, CaptureError> {
        let (format, header) = if bytes.starts_with(&SECTION_HEADER_MAGIC) {
            (Format::PcapNg(Section::default()), 0)
        } else {
            match parse_pcap_header(bytes) {
                Ok((_, header)) => (Format::pcap(&header), PCAP_HEADER),
                Err(_) if bytes.len() >= PCAP_HEADER || bytes.len() < 4 => return Err(CaptureError::NotACapture),
                Err(error) if error.is_incomplete() => return Err(CaptureError::Truncated(0)),
                Err(_) => return Err(CaptureError::NotACapture),
            }
        };
        Ok(Self { buffer: BlockBuffer::new(), format, header })
    }

    /// Appends the frames that end in this chunk to `frames`. They lie in the memory that `chunk` then has. Returns how
    /// the capture ends if it does so here.
    pub(super) fn split(
        &mut self,
        chunk: &mut Chunk,
        next: Next,
        frames: &mut Vec<Located>,
    ) -> Option<Result<(), CaptureError>> {
        let Self { buffer, format, header } = self;
        buffer.feed(chunk, next);
        buffer.consume(core::mem::take(header));
        let before = frames.len();
        let end = loop {
            let found = match format {
                Format::Pcap { link, nanoseconds, header, parse } => {
                    pcap_frame(buffer, *link, *nanoseconds, *header, *parse)
                }
                Format::PcapNg(section) => section.next_packet(buffer),
            };
            match found {
                Ok(Some((length, frame))) => {
                    frames.push(Located { start: buffer.start() + frame.start, ..frame });
                    buffer.consume(length);
                }
                Ok(None) => break Some(Ok(())),
                Err(CaptureError::Read(_)) if buffer.is_fed() => break None,
                Err(error) => break Some(Err(error)),
            }
        };
        buffer.release(chunk, frames.len() - before);
        end
    }
}

impl Format {
    fn pcap(header: &PcapHeader) -> Self {
        let (header_len, parse): (usize, ParseFrame) = if header.is_modified_format() {
            (24, parse_pcap_frame_modified)
        } else if header.is_bigendian() {
            (16, parse_pcap_frame_be)
        } else {
            (16, parse_pcap_frame)
        };
        // The upper bits tell of frame check sequences.
        let link = LinkType((header.network.0 & 0xffff) as u16);
        Self::Pcap { link, nanoseconds: header.is_nanosecond_precision(), header: header_len, parse }
    }
}

/// The length of the next block, and its frame.
#[inline]
fn pcap_frame(
    buffer: &mut BlockBuffer,
    link: LinkType,
    nanoseconds: bool,
    header: usize,
    parse: ParseFrame,
) -> Result<Option<(usize, Located)>, CaptureError> {
    use pcap_parser::nom::{Err, Needed};
    if !buffer.fill(header)? {
        return if buffer.bytes().is_empty() { Ok(None) } else { Err(CaptureError::Truncated(buffer.position())) };
    }
    loop {
        match parse(buffer.bytes()) {
            Ok((_, block)) => {
                let length = block.data.len();
                let fraction = if nanoseconds { block.ts_usec / 1000 } else { block.ts_usec };
                let time_us = u64::from(block.ts_sec) * 1_000_000 + u64::from(fraction);
                return Ok(Some((header + length, Located { time_us, link, start: header, length })));
            }
            Err(Err::Incomplete(Needed::Size(missing))) => {
                let wanted = buffer.bytes().len().saturating_add(missing.get());
                if wanted > MAX_BLOCK {
                    return Err(CaptureError::Oversized { at: buffer.position(), length: wanted as u64 });
                }
                if !buffer.fill(wanted)? {
                    return Err(CaptureError::Truncated(buffer.position()));
                }
            }
            Err(_) => return Err(CaptureError::Malformed(buffer.position())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pcap file: magic as it is stored, link type, frames of (seconds, fraction, bytes).
    fn pcap(magic: [u8; 4], link: u32, frames: &[(u32, u32, &[u8])]) -> Vec<u8> {
        let little = magic[0] != 0xa1;
        let word = |value: u32| if little { value.to_le_bytes() } else { value.to_be_bytes() };
        let version = if little { [2, 0, 4, 0] } else { [0, 2, 0, 4] };
        let mut file = [magic, version, word(0), word(0), word(65_535), word(link)].concat();
        for (seconds, fraction, data) in frames {
            let length = word(data.len() as u32);
            file.extend([word(*seconds), word(*fraction), length, length].concat());
            file.extend_from_slice(data);
        }
        file
    }

    type Owned = (u64, LinkType, Vec<u8>);

    fn read(file: &[u8]) -> (Vec<Owned>, Option<CaptureError>) {
        let mut frames = Vec::new();
        let mut capture = match Capture::new(file) {
            Ok(capture) => capture,
            Err(error) => return (frames, Some(error)),
        };
        loop {
            match capture.next_frame() {
                Ok(Some(frame)) => frames.push((frame.time_us, frame.link, frame.data.to_vec())),
                Ok(None) => return (frames, None),
                Err(error) => return (frames, Some(error)),
            }
        }
    }

    const MICROSECONDS: [u8; 4] = [0xd4, 0xc3, 0xb2, 0xa1];

    #[test]
    fn every_kind_of_pcap_gives_the_same_frames() {
        let expected = vec![(5_000_007, LinkType(1), b"one".to_vec()), (6_000_008, LinkType(1), vec![])];
        for (magic, scale) in [
            (MICROSECONDS, 1),
            ([0xa1, 0xb2, 0xc3, 0xd4], 1),
            ([0x4d, 0x3c, 0xb2, 0xa1], 1000),
            ([0xa1, 0xb2, 0x3c, 0x4d], 1000),
        ] {
            let last = if scale == 1 { 8 } else { 8999 };
            let file = pcap(magic, 1, &[(5, 7 * scale, b"one"), (6, last, b"")]);
            let (frames, error) = read(&file);
            assert!(error.is_none(), "{magic:x?}: {error:?}");
            assert_eq!(frames, expected, "{magic:x?}");
        }
    }

    #[test]
    fn a_cut_capture_gives_its_whole_frames_and_says_that_it_was_cut() {
        let file = pcap(MICROSECONDS, 101, &[(1, 0, b"first"), (2, 0, b"second")]);
        let second = PCAP_HEADER + 16 + b"first".len();
        for end in 0..file.len() {
            let (frames, error) = read(&file[..end]);
            assert_eq!(frames.len(), usize::from(end >= second), "cut at {end}");
            match error {
                Some(CaptureError::NotACapture) => assert!(end < 4, "cut at {end}"),
                Some(CaptureError::Truncated(at)) => {
                    let expected =
                        if end < PCAP_HEADER { 0 } else { PCAP_HEADER.max(if end > second { second } else { 0 }) };
                    assert_eq!(at, expected as u64, "cut at {end}");
                }
                None => assert!(end == PCAP_HEADER || end == second, "cut at {end}"),
                Some(other) => panic!("cut at {end}: {other}"),
            }
        }
    }

    #[test]
    fn an_absurd_length_ends_the_reading_without_taking_its_memory() {
        let mut file = pcap(MICROSECONDS, 1, &[(1, 0, b"whole")]);
        file.extend([[1, 0, 0, 0], [0; 4], [0xff; 4], [0xff; 4]].concat());
        let (frames, error) = read(&file);
        assert_eq!(frames.len(), 1);
        assert!(matches!(error, Some(CaptureError::Oversized { at: 45, length }) if length > u64::from(u32::MAX)));
    }

    #[test]
    fn a_frame_larger_than_the_buffer_is_read() {
        let large = vec![7; 3 << 20];
        let (frames, error) = read(&pcap(MICROSECONDS, 1, &[(1, 0, &large), (2, 0, b"next")]));
        assert!(error.is_none(), "{error:?}");
        assert_eq!(frames.iter().map(|frame| frame.2.len()).collect::<Vec<_>>(), [large.len(), 4]);
    }

    #[test]
    fn text_is_not_a_capture() {
        assert!(matches!(read(b"Flow ID,Src IP,Src Port,Dst IP").1, Some(CaptureError::NotACapture)));
        assert!(matches!(read(b"").1, Some(CaptureError::NotACapture)));
    }
}
