//! One block of a capture in one piece, however its bytes arrive: chunks go in, and what the last block of one chunk
//! lacks comes with the next.

use std::io::{self, ErrorKind, Read};

/// Bytes read at once: few enough to stay in the cache of the core that copies them until it has looked at the headers in
/// them, and enough to make what several threads have to tell one another rare.
pub(super) const CHUNK_SIZE: usize = 512 * 1024;
/// Room before a chunk's bytes for the unfinished block of the one before, which is a packet of at most 64 KiB
/// in all but strange captures.
const HEADROOM: usize = 72 * 1024;

/// Alignment of a chunk's bytes. The kernel's copy into memory that is not aligned like this takes up to three times as
/// long (`rep movsb` on Zen 4).
const ALIGNMENT: usize = 64;

/// What comes after a chunk.
#[derive(Debug)]
pub(super) enum Next {
    /// Another chunk.
    More,
    /// Nothing.
    End,
    /// Nothing, because it cannot be read.
    Failed(io::Error),
}

/// Bytes of a capture as they were read, in memory that is used again and again.
#[derive(Default)]
pub(super) struct Chunk {
    memory: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Chunk {
    /// Reads once.
    pub(super) fn read_once(&mut self, source: &mut impl Read) -> Next {
        self.clear();
        self.read_with(|space, _| source.read(space))
    }

    /// Reads until it is full or the source ends.
    pub(super) fn read_fully(&mut self, mut read: impl FnMut(&mut [u8], usize) -> io::Result<usize>) -> Next {
        self.clear();
        while !self.space().is_empty() {
            match self.read_with(&mut read) {
                Next::More => {}
                end => return end,
            }
        }
        Next::More
    }

    /// Reads until there are `wanted` bytes or the source ends.
    pub(super) fn read_at_least(&mut self, wanted: usize, source: &mut impl Read) -> Next {
        self.clear();
        while self.bytes().len() < wanted {
            match self.read_with(|space, _| source.read(space)) {
                Next::More => {}
                end => return end,
            }
        }
        Next::More
    }

    /// What was read.
    pub(super) fn bytes(&self) -> &[u8] {
        self.memory.get(self.begin..self.end).unwrap_or_default()
    }

    /// A part of the memory, which may begin before what was read.
    #[inline]
    pub(super) fn get(&self, start: usize, length: usize) -> &[u8] {
        self.memory.get(start..start.saturating_add(length)).unwrap_or_default()
    }

    fn clear(&mut self) {
        // It may have been exchanged for one of another size.
        self.memory.resize(HEADROOM + ALIGNMENT + CHUNK_SIZE, 0);
        let room = self.memory.get(HEADROOM..).unwrap_or_default();
        self.begin = HEADROOM + room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        self.end = self.begin;
    }

    fn space(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.end..self.begin + CHUNK_SIZE).unwrap_or_default()
    }

    /// One read of more bytes. `read` is given space and how many bytes are there already.
    fn read_with(&mut self, mut read: impl FnMut(&mut [u8], usize) -> io::Result<usize>) -> Next {
        let before = self.end - self.begin;
        let space = self.space();
        let room = space.len();
        loop {
            match read(space, before) {
                Ok(0) => return Next::End,
                Ok(count) => {
                    self.end += count.min(room);
                    return Next::More;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Next::Failed(error),
            }
        }
    }
}

/// The bytes of the current chunk, preceded by what was left of the ones before.
pub(super) struct BlockBuffer {
    memory: Vec<u8>,
    start: usize,
    end: usize,
    consumed: u64,
    next: Next,
}

impl BlockBuffer {
    pub(super) const fn new() -> Self {
        Self { memory: Vec::new(), start: 0, end: 0, consumed: 0, next: Next::More }
    }

    /// Takes a chunk's bytes, and mostly its memory: until [`Self::release`] the chunk has none.
    pub(super) fn feed(&mut self, chunk: &mut Chunk, next: Next) {
        self.next = next;
        let left = self.memory.get(self.start..self.end).unwrap_or_default();
        let start = chunk.begin.wrapping_sub(left.len());
        if let Some(room) = chunk.memory.get_mut(start..chunk.begin) {
            room.copy_from_slice(left);
            core::mem::swap(&mut self.memory, &mut chunk.memory);
            (self.start, self.end) = (start, chunk.end);
            return;
        }
        // A block of many chunks is gathered.
        self.memory.truncate(self.end);
        self.memory.extend_from_slice(chunk.bytes());
        self.end = self.memory.len();
    }

    /// Gives the memory in which `blocks` blocks were found to the chunk and keeps what is left for the next one.
    pub(super) fn release(&mut self, chunk: &mut Chunk, blocks: usize) {
        if blocks == 0 && self.end - self.start > HEADROOM {
            return;
        }
        chunk.memory.clear();
        chunk.memory.extend_from_slice(self.memory.get(self.start..self.end).unwrap_or_default());
        core::mem::swap(&mut self.memory, &mut chunk.memory);
        (self.start, self.end) = (0, self.memory.len());
    }

    /// Whether another chunk will come.
    pub(super) const fn is_fed(&self) -> bool {
        matches!(self.next, Next::More)
    }

    /// What is there and not yet consumed.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..self.end).unwrap_or_default()
    }

    /// Where that begins in the memory.
    #[inline]
    pub(super) const fn start(&self) -> usize {
        self.start
    }

    /// Drops `count` bytes from the front.
    #[inline]
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        self.start += count;
        self.consumed += count as u64;
    }

    /// Offset in the capture of the first byte that is not consumed.
    pub(super) const fn position(&self) -> u64 {
        self.consumed
    }

    /// Whether `wanted` bytes are there. False when the capture ends before.
    ///
    /// # Errors
    /// Why nothing more can be read, or [`ErrorKind::WouldBlock`] if the next chunk is needed.
    #[inline]
    pub(super) fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        if self.end - self.start >= wanted {
            return Ok(true);
        }
        match core::mem::replace(&mut self.next, Next::End) {
            Next::More => {
                self.next = Next::More;
                Err(ErrorKind::WouldBlock.into())
            }
            Next::End => Ok(false),
            Next::Failed(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_in_one_piece_however_it_arrives() {
        let data: Vec<u8> = (0..=255).cycle().take(40 * CHUNK_SIZE).collect();
        let (mut buffer, mut chunk, mut source) = (BlockBuffer::new(), Chunk::default(), &data[..]);
        let mut offset = 0;
        for length in [1, 7, CHUNK_SIZE + 1, 100, 20 * CHUNK_SIZE, 3, HEADROOM, CHUNK_SIZE, 10] {
            while let Err(error) = buffer.fill(length) {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                buffer.release(&mut chunk, 1);
                let next = chunk.read_once(&mut source);
                buffer.feed(&mut chunk, next);
            }
            assert_eq!(buffer.bytes()[..length], data[offset..offset + length]);
            buffer.consume(length);
            offset += length;
            assert_eq!(buffer.position(), offset as u64);
        }
    }

    #[test]
    fn the_end_and_a_failure_come_after_the_last_bytes() {
        let (mut buffer, mut chunk) = (BlockBuffer::new(), Chunk::default());
        let next = chunk.read_at_least(10, &mut &b"four"[..]);
        buffer.feed(&mut chunk, next);
        assert!(buffer.fill(4).unwrap());
        assert!(!buffer.fill(5).unwrap());
        let mut calls = 0;
        let next = chunk.read_fully(|space, before| {
            calls += 1;
            assert_eq!(before, (calls - 1) * 2);
            if calls == 3 {
                return Err(io::Error::other("broken"));
            }
            space[..2].copy_from_slice(b"ab");
            Ok(2)
        });
        buffer.feed(&mut chunk, next);
        assert_eq!(buffer.bytes(), b"fourabab");
        assert!(buffer.fill(8).unwrap());
        assert_eq!(buffer.fill(9).unwrap_err().to_string(), "broken");
    }
}
