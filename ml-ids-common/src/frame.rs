//! How the parser reads a frame: from a slice on the host, from packet memory in the kernel.

use crate::MAX_HEADER_OFFSET;

/// Read access to a frame in 16-bit steps. Every header that the parser reads starts at an even offset, and packet
/// memory is at least 2-byte aligned, so half-word loads are what the kernel side can do without byte shuffling.
pub trait FrameReader {
    /// `N` half words at byte offset `offset`, in memory order (use `u16::from_be`). `None` past the captured end, and
    /// beyond [`MAX_HEADER_OFFSET`]: a bound that every reader keeps, or live capture and replay would disagree about
    /// long chains of extension headers.
    fn halfwords<const N: usize>(&self, offset: u32) -> Option<[u16; N]>;

    /// The same value, at most 16 bits wide, but out of sight of the kernel's verifier. It follows every path through a
    /// loop separately as long as it knows a different offset on each; this makes the paths look alike, so that they
    /// are checked once. The identity everywhere else.
    #[inline(always)]
    fn forget(&self, offset: u32) -> u32 {
        offset
    }
}

/// A captured frame in memory.
#[derive(Clone, Copy, Debug)]
pub struct SliceReader<'a>(pub &'a [u8]);

impl FrameReader for SliceReader<'_> {
    #[inline]
    fn halfwords<const N: usize>(&self, offset: u32) -> Option<[u16; N]> {
        if offset > MAX_HEADER_OFFSET {
            return None;
        }
        let start = usize::try_from(offset).ok()?;
        let bytes = self.0.get(start..start.checked_add(2 * N)?)?;
        let mut words = [0u16; N];
        for (word, pair) in words.iter_mut().zip(bytes.chunks_exact(2)) {
            if let [low, high] = *pair {
                *word = u16::from_ne_bytes([low, high]);
            }
        }
        Some(words)
    }
}

#[cfg(test)]
mod tests {
    use super::{FrameReader as _, SliceReader};
    use crate::MAX_HEADER_OFFSET;

    #[test]
    fn nothing_is_read_past_the_end_or_beyond_the_header_bound() {
        let frame = [1u8; 8192];
        let reader = SliceReader(&frame);
        assert!(reader.halfwords::<10>(MAX_HEADER_OFFSET).is_some());
        assert!(reader.halfwords::<1>(MAX_HEADER_OFFSET + 2).is_none());
        assert!(reader.halfwords::<1>(u32::MAX).is_none());
        assert!(SliceReader(&frame[..7]).halfwords::<2>(4).is_none());
        assert_eq!(SliceReader(&frame[..8]).halfwords::<2>(4), Some([0x0101, 0x0101]));
    }
}
