//! A read buffer that holds one block of a capture in one piece, however the bytes arrive.

use std::io::{ErrorKind, Read, Result};

/// Bytes asked of the source at once.
const READ_SIZE: usize = 256 * 1024;

/// Buffered bytes of a source.
pub(super) struct BlockBuffer<R> {
    source: R,
    memory: Vec<u8>,
    start: usize,
    end: usize,
    consumed: u64,
}

impl<R: Read> BlockBuffer<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, memory: vec![0; READ_SIZE], start: 0, end: 0, consumed: 0 }
    }

    /// What is buffered and not yet consumed.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..self.end).unwrap_or_default()
    }

    /// Drops `count` bytes from the front.
    #[inline]
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        self.start += count;
        self.consumed += count as u64;
    }

    /// Offset in the source of the first byte that is not consumed.
    pub(super) fn position(&self) -> u64 {
        self.consumed
    }

    /// Makes `wanted` bytes available. False when the source ends before; then all that is left is available.
    #[inline]
    pub(super) fn fill(&mut self, wanted: usize) -> Result<bool> {
        if self.end - self.start >= wanted {
            return Ok(true);
        }
        self.read(wanted)
    }

    #[cold]
    fn read(&mut self, wanted: usize) -> Result<bool> {
        self.memory.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if wanted > self.memory.len() {
            self.memory.resize(wanted.next_power_of_two(), 0);
        }
        while self.end < wanted {
            let space = self.memory.get_mut(self.end..).unwrap_or_default();
            match self.source.read(space) {
                Ok(0) => return Ok(false),
                Ok(count) => self.end += count.min(space.len()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte at a time.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, space: &mut [u8]) -> Result<usize> {
            let count = space.len().min(1);
            self.0.read(&mut space[..count])
        }
    }

    #[test]
    fn a_block_is_in_one_piece_however_it_arrives() {
        let data: Vec<u8> = (0..=255).cycle().take(3 * READ_SIZE).collect();
        let mut buffer = BlockBuffer::new(Drip(&data));
        let mut offset = 0;
        for length in [1, 7, READ_SIZE + 1, 100, READ_SIZE] {
            assert!(buffer.fill(length).unwrap());
            assert_eq!(buffer.bytes()[..length], data[offset..offset + length]);
            buffer.consume(length);
            offset += length;
            assert_eq!(buffer.position(), offset as u64);
        }
        assert!(!buffer.fill(READ_SIZE).unwrap(), "the source ends before");
        assert_eq!(buffer.bytes(), &data[offset..]);
    }
}
